"""Tools: functions that a model calls while it answers, and the loop that runs them.

A question and its answer are stored in one append, results of tools before they are sent. A run that was killed
continues with what is stored: for that part it neither asks the provider nor runs a tool again.
"""

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from hashlib import sha256
from typing import Any

import attrs

from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.application.sessions import Sessions
from luminoracore_sdk.application.turns import STOPPED, Answer, stored_response
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.content_parts import check_result_parts, has_part_form
from luminoracore_sdk.domain.errors import (
    SessionNotFoundError,
    ToolStepsError,
    TurnInterruptedError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, check_json
from luminoracore_sdk.domain.memory import MemorySource
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.domain.tool_calls import call_ids, calls_of, parsed_arguments, result_id

__all__ = ["ANSWER", "DEFAULT_MAX_STEPS", "OnDelta", "Tool", "ToolRun"]

OnDelta = Callable[[ChatResponse], Awaitable[None] | None]

DEFAULT_MAX_STEPS = 10

ANSWER: ContextVar[MemorySource | None] = ContextVar("luminoracore_answer", default=None)
"""The answer whose calls run, for tools that store where something comes from; None: no ``ToolRun`` calls."""

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_RESULTS_BEHIND = 200
"""Messages behind an answer among which the results of its calls are looked for."""

_RECENT = 50


def _check_name(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValidationError(f"the name of a tool has 1 to 64 letters, digits, '_' and '-', not {ascii(value)[:80]}")


def _check_schema(_: object, __: object, value: Any) -> None:
    if not isinstance(value, dict) or value.get("type") != "object":
        raise ValidationError("the schema of a tool is a JSON schema of type 'object'")
    check_json(value, where="the schema of a tool")


def _check_handler(_: object, __: object, value: Any) -> None:
    if not callable(value):
        raise ValidationError(f"the handler of a tool must be callable, not {type(value).__name__}")


@attrs.frozen
class Tool:
    """A function that a model may call.

    Attributes:
        name: 1 to 64 letters, digits, ``_`` and ``-``, which every vendor accepts.
        schema: The JSON schema of its arguments, of type ``object``.
        handler: Is called with the arguments as keywords and returns a JSON value, or a list of content parts (text,
            pictures) in OpenAI's or Anthropic's form. A coroutine function is awaited, any other one runs in a thread.
        description: What it does, for the model.
    """

    name: str = attrs.field(validator=_check_name)
    schema: JSONObject = attrs.field(validator=_check_schema)
    handler: Callable[..., Any] = attrs.field(validator=_check_handler)
    description: str = attrs.field(default="", validator=attrs.validators.instance_of(str))

    def declaration(self) -> JSONObject:
        """Return what the provider is sent, in OpenAI's form."""
        function: JSONObject = {"name": self.name, "parameters": self.schema}
        if self.description:
            function["description"] = self.description
        return {"type": "function", "function": function}

    async def call(self, arguments: Mapping[str, Any]) -> JSONValue:
        """Return the result for these arguments. An error of the handler is raised unchanged.

        Raises:
            InvalidJSONError: The result is not JSON.
        """
        if inspect.iscoroutinefunction(self.handler):
            result = await self.handler(**arguments)
        else:
            result = await asyncio.to_thread(_called, self.handler, arguments)
            if inspect.isawaitable(result):
                result = await result
        check_json(result, where=f"the result of the tool {self.name}")
        checked: JSONValue = result
        return checked


def _called(handler: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return handler(**arguments)
    except StopIteration as exc:  # Python 3.11 cannot hand it to another thread: the caller would wait for ever
        raise RuntimeError("the tool raised StopIteration") from exc


def _calls(response: ChatResponse) -> dict[str, JSONObject]:
    """Return the calls of an answer by their ids; an id twice names one call."""
    calls = response.tool_calls or response.provider_metadata.get("tool_calls") or []
    answer = Message(MessageRole.ASSISTANT, response.content, metadata={"tool_calls": calls})
    found: dict[str, JSONObject] = {}
    for call in calls_of(answer):
        found.setdefault(call["id"], call)
    return found


@attrs.frozen(kw_only=True)
class ToolRun:
    """Sends messages of one session with tools, runs what the model calls, and sends the results.

    Attributes:
        sessions: The manager.
        session_id: An existing session.
        tools: The tools, with distinct names.
        max_steps: How often results may be sent.
        options: Further arguments of each send.
        on_delta: Is called with each delta of each answer, and awaited if it returns an awaitable; None: answers are
            not streamed.
    """

    sessions: Sessions
    session_id: str
    tools: Sequence[Tool]
    max_steps: int
    options: Mapping[str, Any]
    on_delta: OnDelta | None = None

    def __attrs_post_init__(self) -> None:
        if type(self.max_steps) is not int or self.max_steps < 1:
            raise ValidationError(f"max_steps must be a whole number of at least 1, not {self.max_steps!r}")
        if len({tool.name for tool in self.tools}) < len(self.tools):
            raise ValidationError("two tools have the same name")
        if self.on_delta is not None and not callable(self.on_delta):
            raise ValidationError(f"on_delta must be callable, not {type(self.on_delta).__name__}")

    async def run(self, message: Any) -> ChatResponse:
        """Return the first answer without calls.

        Args:
            message: What is sent, as by ``send_message``; None: continue with what is stored.

        Raises:
            ToolStepsError: ``max_steps`` is reached.
        """
        response = await (self._stored_state() if message is None else self._send(message, **self.options))
        # A choice that forces a call would force one in each step.
        later = {name: value for name, value in self.options.items() if name != "tool_choice"}
        for _ in range(self.max_steps):
            calls = _calls(response)
            if not calls or response.finish_reason == STOPPED:
                return response
            response = await self._send(await self._results(response, calls), **later)
        if _calls(response):
            raise ToolStepsError(self.session_id, max_steps=self.max_steps, response=response)
        return response

    async def _send(self, message: Any, **options: Any) -> ChatResponse:
        if self.tools:
            options["tools"] = [tool.declaration() for tool in self.tools]
        if self.on_delta is None:
            return await self.sessions.send_message(self.session_id, message, **options)
        answer, last = Answer(), ChatResponse("")
        async with aclosing(self.sessions.stream_message(self.session_id, message, **options)) as deltas:
            async for delta in deltas:
                answer.add(delta)
                last = delta
                called = self.on_delta(delta)
                if inspect.isawaitable(called):
                    await called
        return attrs.evolve(answer.whole(), id=last.id, position=last.position)

    async def _stored_state(self) -> ChatResponse:
        """Return the newest answer; a question behind it is sent first."""
        count = _RECENT
        while True:
            messages = await self.sessions.conversation_manager.get_recent_messages(self.session_id, count)
            answers = [message for message in messages if message.role is MessageRole.ASSISTANT]
            if answers or len(messages) < count:
                break
            count *= 4
        said = [message for message in messages if message.role is not MessageRole.SYSTEM]
        if said and said[-1].role is MessageRole.USER:
            return await self._send(said[-1], **self.options)
        if answers:
            return stored_response(answers[-1])
        if await self.sessions.get_session(self.session_id) is None:
            raise SessionNotFoundError(self.session_id, backend=self.sessions.storage.backend)
        raise ValidationError("the session has no message to continue with")

    # -- results -----------------------------------------------------------------------------------

    async def _results(self, response: ChatResponse, calls: Mapping[str, JSONObject]) -> list[Message]:
        """Return the results of an answer's calls, all of which are stored; run those that have none."""
        stored = await self._stored_results(response, calls)
        missing = [call for call_id, call in calls.items() if call_id not in stored]
        if not missing:
            return sorted(stored.values(), key=lambda message: message.position or 0)
        calling = ANSWER.set(MemorySource(session_id=self.session_id, position=response.position or 0))
        try:
            outcomes = await asyncio.gather(*map(self._outcome, missing), return_exceptions=True)
        finally:
            ANSWER.reset(calling)
        results = [self._result(response, call, outcome) for call, outcome in zip(missing, outcomes, strict=True)]
        await self._stored_results(response, calls)  # tools may take long: the answer must still be there
        return await self.sessions.conversation_manager.append(self.session_id, results)

    async def _stored_results(self, response: ChatResponse, calls: Iterable[str]) -> dict[str, Message]:
        """Return the stored results of an answer's calls.

        Raises:
            TurnInterruptedError: The answer is not stored any more.
        """
        wanted = set(calls)
        position = response.position or 1
        read = self.sessions.conversation_manager.read_after
        messages = await read(self.session_id, position - 1, _RESULTS_BEHIND)
        if not messages or messages[0].id != response.id:
            raise TurnInterruptedError(self.session_id)
        found = {}
        for message in messages[1:]:
            if wanted.intersection(call_ids(message)):  # some servers number the calls of each answer anew
                break
            call_id = result_id(message)
            if message.role is MessageRole.TOOL and call_id in wanted:
                found[str(call_id)] = message
        return found

    async def _outcome(self, call: JSONObject) -> JSONValue:
        function = call["function"]
        tool = next((tool for tool in self.tools if tool.name == function["name"]), None)
        if tool is None:
            names = ", ".join(tool.name for tool in self.tools)
            raise ValidationError(f"no such tool; available: {names or 'none'}")
        arguments = parsed_arguments(function.get("arguments"))
        if arguments is None:
            raise ValidationError("the arguments are not a JSON object")
        result = await tool.call(arguments)
        if has_part_form(result):  # refused now: stored, it would be refused in every prompt
            passed = self.options.get("provider_config")
            rules = await self.sessions.provider_rules(self.session_id, provider_config=passed)
            check_result_parts(result, rules)
        return result

    def _result(self, response: ChatResponse, call: JSONObject, outcome: Any) -> Message:
        """Return the message for the result of a call, which may be an error."""
        name = call["function"]["name"]
        metadata: JSONObject = {"tool_call_id": call["id"], "name": name}
        if isinstance(outcome, BaseException):  # CancelledError: of a task of the tool's own, not of this one
            logger.warning("tool %.80a failed with %s", name, type(outcome).__name__)
            metadata["is_error"] = True
            outcome = f"{type(outcome).__name__}: {outcome}"
        content = outcome if isinstance(outcome, str) or has_part_form(outcome) else compact_json(outcome)
        facts = compact_json([self.session_id, response.position, call["id"]])
        result_key = sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return Message(MessageRole.TOOL, content, metadata=metadata, id=f"result-{result_key}")
