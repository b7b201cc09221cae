"""Turns: a question and its answer are stored together or not at all, one turn at a time in a session.

A turn goes through these steps: question → history → window → outgoing prompt → provider → answer → one append.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import attrs

from luminoracore_sdk.application.conversations import ABSENT, Conversations, to_message
from luminoracore_sdk.application.leases import DEFAULT_LEASE_SECONDS, turn_lease
from luminoracore_sdk.application.memories import Memories
from luminoracore_sdk.application.message_costs import MessageCosts
from luminoracore_sdk.application.off_loop import off_loop
from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord, TurnRecords
from luminoracore_sdk.application.prompts import (
    MemoryRenderer,
    Prompt,
    build_prompt,
    compact_json,
    is_large_prompt,
    measured_scale,
    render_transcript,
)
from luminoracore_sdk.application.provider_pool import SessionProviders
from luminoracore_sdk.application.revisions import Revisions, branches_of, branches_with, with_branches
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import SessionAccess
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import (
    ConflictError,
    InvalidJSONError,
    LuminoraCoreSDKError,
    ProviderError,
    ProviderResponseError,
    ProviderStreamError,
    ProviderTimeoutError,
    ReaderTimeoutError,
    SessionNotFoundError,
    ToolCallNotFoundError,
    TurnInterruptedError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject, check_json, copy_json
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import (
    Message,
    MessageRole,
    ends_history,
    is_deleted,
    message_text,
    not_deleted,
    stamped,
)
from luminoracore_sdk.domain.outgoing import shortened
from luminoracore_sdk.domain.personality import system_prompt
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionConfig, SessionType
from luminoracore_sdk.domain.tool_calls import call_ids, result_id
from luminoracore_sdk.domain.vendors import VendorRules
from luminoracore_sdk.domain.window import turn_start

if TYPE_CHECKING:
    from luminoracore_sdk.application.memory_choice import MemoryChoice

__all__ = [
    "DEFAULT_READER_TIMEOUT",
    "DEFAULT_TEMPERATURE",
    "Answer",
    "Busy",
    "Dialogue",
    "OnFailure",
    "OnStop",
    "Revises",
    "SendOptions",
    "Turn",
    "answer_message",
    "generation_parameters",
    "stored_response",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

Busy = Literal["wait", "refuse"]
OnFailure = Literal["discard", "keep_question"]
OnStop = Literal["discard", "keep_partial"]

STOPPED = "stopped"
"""The finish reason of a partial answer that was kept."""

DEFAULT_READER_TIMEOUT = 60.0
"""Seconds that the reader of a stream may take for one delta once the buffer is full."""

_BUFFERED_DELTAS = 1024
_MORE_HISTORY = 1000
"""So many further messages are read at once for the beginning of the turn in progress."""

_MOST_READ_AHEAD = 200
_ANSWERS_BEHIND = 200
"""Messages behind a stored question among which its answer is looked for."""

_TITLE_MESSAGES = 6
_TITLE_CHARACTERS = 500
_LONGEST_TITLE = 80
_TITLE_PROMPT = (
    "The user sends the beginning of a conversation. Answer with a title for it: at most six words, in the language "
    "of the conversation, without quotation marks. Do not answer the conversation itself."
)

DEFAULT_TEMPERATURE = 0.7

MAX_TEMPERATURE = 100
"""No provider accepts more than 2; the bound excludes NaN, infinities and typing errors."""


def generation_parameters(
    defaults: Mapping[str, Any], temperature: float, max_tokens: int | None, extra: Mapping[str, Any]
) -> JSONObject:
    """Return the parameters for the provider: the arguments of the call override the session's defaults.

    The default of the signature counts as not given; a 0.7 of the caller's is another object.

    Raises:
        ValidationError: ``temperature`` is not a number from 0 to 100, or ``max_tokens`` is not an integer
            of at least 1.
    """
    if temperature is DEFAULT_TEMPERATURE:
        temperature = defaults.get("temperature", DEFAULT_TEMPERATURE)
    if max_tokens is None:
        max_tokens = defaults.get("max_tokens")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise ValidationError(f"temperature must be a number, not {type(temperature).__name__}")
    if not 0 <= temperature <= MAX_TEMPERATURE:
        raise ValidationError(f"temperature must be from 0 to {MAX_TEMPERATURE}")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise ValidationError(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}")
    return {**defaults, **extra, "temperature": temperature, "max_tokens": max_tokens}


@attrs.frozen(kw_only=True)
class SendOptions:
    """How one message is sent; see ``Sessions.send_message`` and ``stream_message``."""

    temperature: float
    max_tokens: int | None
    context: str = ""
    on_failure: OnFailure = "discard"
    on_stop: OnStop = "discard"
    busy: Busy = "wait"
    provider_config: Mapping[str, Any] | ProviderConfig | None = None
    reader_timeout: float = DEFAULT_READER_TIMEOUT
    fence: int | None = None
    revises: "Revises | None" = None
    extra: Mapping[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.context, str):
            raise ValidationError(f"context must be a string, not {type(self.context).__name__}")
        for name, kind in (("on_failure", OnFailure), ("on_stop", OnStop), ("busy", Busy)):
            if getattr(self, name) not in get_args(kind):
                raise ValidationError(f"{name} is {' or '.join(map(repr, get_args(kind)))}")
        if type(self.reader_timeout) not in {int, float} or not 0 < self.reader_timeout < float("inf"):
            raise ValidationError("reader_timeout must be a number of seconds above 0")


@attrs.frozen(kw_only=True)
class Revises:
    """A turn that replaces a part of the past.

    Attributes:
        message_id: A question of the user, or a message of its answer; None: the newest question.
        edits: Whether the question is replaced too, and not only what follows it.
    """

    message_id: str | None
    edits: bool


@attrs.frozen(kw_only=True)
class Revision:
    """What a turn replaces, as it was when the turn began.

    Attributes:
        after: The position of the last message that stays.
        last: The newest position.
        newest: The id of the newest message, be it deleted.
        question: The question that is answered again; None: there is a new one.
    """

    after: int
    last: int
    newest: str | None
    question: Message | None


def _to_new_messages(message: Any) -> list[Message]:
    """Return what is sent as messages: one of a user, or the results of one or several tool calls."""
    if isinstance(message, str):
        return [Message(role=MessageRole.USER, content=message)]
    if isinstance(message, Sequence):
        messages = [to_message(one, ABSENT, None) for one in message]
        if not messages or any(one.role is not MessageRole.TOOL for one in messages):
            raise ValidationError("a list of messages to send holds results of tool calls, at least one")
        return messages
    question = to_message(message, ABSENT, None)
    if question.role not in (MessageRole.USER, MessageRole.TOOL):
        raise ValidationError(f"a message of role {question.role.value!r} cannot be sent")
    return [question]


def _check_result(message: Message) -> Message:
    if message.role is MessageRole.TOOL and result_id(message) is None and "name" not in message.metadata:
        raise ValidationError("the result of a tool call needs the id of the call as metadata['tool_call_id']")
    return message


def _identity(message: Message) -> tuple[Any, ...]:
    """Return what two messages under one id must share: what the provider is sent of them."""
    names = ("tool_call_id", "name") if message.role is MessageRole.TOOL else ()
    return message.role, message.content, *map(message.metadata.get, names)


def _missing_calls(history: Sequence[Message], results: Sequence[Message]) -> list[str]:
    """Return the ids of the calls of these results that a history does not hold."""
    known = {call_id for message in history for call_id in call_ids(message)}
    return [call_id for one in results if (call_id := result_id(one)) is not None and call_id not in known]


def _reaches_back(history: Sequence[Message], results: Sequence[Message]) -> bool:
    """Return whether a history holds the calls of these results, and a user message before them."""
    missing = {call_id for one in results if (call_id := result_id(one)) is not None}
    for message in reversed(history):
        if message.role is MessageRole.USER and not missing:
            return True
        missing.difference_update(call_ids(message))
    return False


_END: Any = object()
"""Marks the end of a stream; no delta of a provider is this object."""


@attrs.frozen(kw_only=True)
class Turn:
    """New messages with everything that the provider needs to answer them.

    Attributes:
        new: The message of the user, or results of tool calls.
        unstored: Those of them that are not stored yet.
        encoded: The records of ``unstored``.
        prompt: The messages for the provider, and facts about them.
        provider: Leases the provider.
        provider_name: Its registered name.
        timeout_seconds: How long the provider may take for the whole answer.
        parameters: temperature, max_tokens and other parameters for the provider.
        revision: What it replaces; None: it is appended.
    """

    new: list[Message]
    unstored: list[Message]
    encoded: Sequence[MessageRecord] = ()
    prompt: Prompt
    provider: Callable[[], AbstractAsyncContextManager[BaseProvider]]
    provider_name: str
    timeout_seconds: float
    parameters: JSONObject
    revision: Revision | None = None

    async def ask(self) -> ChatResponse:
        """Return the provider's answer.

        Raises:
            ProviderError: The provider failed or timed out.
        """
        async with self.provider() as provider:
            response = await _in_time(
                lambda: provider.chat(self._prompt_copy(), **self.parameters),
                self.timeout_seconds,
                self.timeout_seconds,
            )
        return _checked(response)

    def _prompt_copy(self) -> list[ChatMessage]:
        """Return a copy of the prompt, which the provider may modify; a message of text alone is the prompt's own."""
        return [
            message
            if type(message.content) is str and not message.metadata
            else ChatMessage(message.role, copy_json(message.content), copy_json(message.metadata))
            for message in self.prompt.messages
        ]

    async def stream(self) -> AsyncGenerator[ChatResponse, None]:
        """Yield the provider's deltas; the time limit does not include the time that the caller takes.

        Raises:
            ProviderError: The provider failed or timed out.
        """
        async with self.provider() as provider:
            deltas = await _in_time(
                lambda: _start_stream(provider, self._prompt_copy(), self.parameters),
                self.timeout_seconds,
                self.timeout_seconds,
            )
            left, is_empty = self.timeout_seconds, True
            loop = asyncio.get_running_loop()
            async with _closing(deltas) as stream:
                while True:
                    asked_at = loop.time()
                    delta = await _in_time(lambda: anext(stream, _END), left, self.timeout_seconds)
                    left -= loop.time() - asked_at
                    if delta is _END and is_empty:
                        raise ProviderStreamError("the provider's stream ended without a delta")
                    if delta is _END:
                        return
                    is_empty = False
                    yield _checked(delta)


class Answer:
    """Collects the deltas of a streamed answer."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {"content": [], "reasoning": []}
        self._last = ChatResponse("")

    def __bool__(self) -> bool:
        return any(self._texts.values())

    def add(self, delta: ChatResponse) -> None:
        """Add the next delta."""
        self._texts["content"].append(delta.content)
        if delta.reasoning:
            self._texts["reasoning"].append(delta.reasoning)
        self._last = attrs.evolve(
            self._last,
            finish_reason=delta.finish_reason or self._last.finish_reason,
            usage=delta.usage or self._last.usage,
            model=delta.model or self._last.model,
            provider_metadata={**self._last.provider_metadata, **delta.provider_metadata},
            refusal=delta.refusal or self._last.refusal,
            tool_calls=delta.tool_calls or self._last.tool_calls,
            parts=[*self._last.parts, *delta.parts],
        )

    def whole(self) -> ChatResponse:
        """Return the answer that the deltas form."""
        content, reasoning = ("".join(self._texts[name]) for name in ("content", "reasoning"))
        return attrs.evolve(self._last, content=content, reasoning=reasoning or None)


def answer_message(response: ChatResponse, *, provider: str | None = None, prompt: JSONObject | None = None) -> Message:
    """Return the message to store for an answer; nothing of it is lost.

    Args:
        response: The answer.
        provider: Registered name of the provider, which alone is given its reasoning back.
        prompt: Facts about the prompt.
    """
    given_back = response.provider_metadata.get("reasoning")
    calls = response.tool_calls or response.provider_metadata.get("tool_calls")
    facts: JSONObject = {
        "model": response.model,
        "finish_reason": response.finish_reason,
        "usage": response.usage,
        "tool_calls": calls,
        "reasoning": given_back if isinstance(given_back, dict) else None,
        "reasoning_text": response.reasoning,
        "refusal": response.refusal,
        "parts": response.parts,
    }
    metadata = {name: fact for name, fact in facts.items() if fact}
    if provider is not None and ("reasoning" in metadata or calls):
        metadata["provider"] = provider
    if prompt is not None:
        metadata["prompt"] = prompt
    try:
        check_json(metadata, where="the provider's answer")
    except InvalidJSONError as exc:
        raise ProviderResponseError(str(exc)) from exc
    return Message(role=MessageRole.ASSISTANT, content=response.content, metadata=metadata)


def stored_response(message: Message) -> ChatResponse:
    """Return the response that a stored answer was."""
    facts = message.metadata
    known: JSONObject = {
        name: facts[name] for name in ("id", "tool_calls", "reasoning", "refusal", "prompt") if name in facts
    }
    return ChatResponse(
        content=message.content if isinstance(message.content, str) else compact_json(message.content),
        finish_reason=facts.get("finish_reason"),
        usage=facts.get("usage"),
        model=facts.get("model"),
        provider_metadata=known,
        reasoning=facts.get("reasoning_text"),
        refusal=facts.get("refusal"),
        tool_calls=facts.get("tool_calls") or [],
        parts=facts.get("parts") or [],
        id=message.id,
        position=message.position,
    )


_FIELD_TYPES: dict[str, type | tuple[type, ...]] = {
    "reasoning": (str, NoneType),
    "refusal": (str, NoneType),
    "tool_calls": list,
    "parts": list,
}


def _checked(response: Any) -> ChatResponse:
    if not isinstance(response, ChatResponse) or type(response.content) is not str:
        raise ProviderResponseError(
            f"the provider answered with {type(response).__name__}, not with a ChatResponse of text"
        )
    if not isinstance(response.provider_metadata, dict):
        raise ProviderResponseError("the provider's answer has a provider_metadata that is not a dict")
    for name, kinds in _FIELD_TYPES.items():
        if not isinstance(getattr(response, name), kinds):
            raise ProviderResponseError(f"the provider's answer has a {name} of another type")
    return response


async def _start_stream(
    provider: BaseProvider, prompt: list[ChatMessage], parameters: JSONObject
) -> AsyncGenerator[Any, None]:
    deltas: Any = provider.stream_chat(prompt, **parameters)
    if isinstance(deltas, AsyncGenerator):
        return deltas
    if not isinstance(deltas, AsyncIterator):
        raise ProviderResponseError(
            f"the provider's stream_chat returned {type(deltas).__name__}, not an async generator"
        )
    return _as_generator(deltas)


async def _as_generator(deltas: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    async for delta in deltas:
        yield delta


async def _in_time(call: Callable[[], Awaitable[T]], seconds: float, whole: float) -> T:
    limit = asyncio.timeout(max(seconds, 0))
    try:
        async with limit:
            return await call()
    except LuminoraCoreSDKError:
        raise
    except TimeoutError as exc:
        reason = f"within {whole:g} s" if limit.expired() else "in time"
        raise ProviderTimeoutError(f"the provider did not answer {reason}") from exc
    except Exception as exc:
        raise ProviderError(f"the provider failed with {type(exc).__name__}") from exc


class _Buffer:
    """Hands the deltas of a stream from the task that reads the provider to the one that reads the stream.

    Args:
        session_id: For errors.
        seconds: How long the reader may take once the buffer is full.
    """

    def __init__(self, session_id: str, seconds: float) -> None:
        self._session_id = session_id
        self._seconds = seconds
        self._deltas: asyncio.Queue[ChatResponse] = asyncio.Queue(_BUFFERED_DELTAS)

    async def put(self, delta: ChatResponse) -> None:
        """Add a delta.

        Raises:
            ReaderTimeoutError: The buffer is full, and the reader took nothing in time.
        """
        if not self._deltas.full():
            self._deltas.put_nowait(delta)
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._deltas.put(delta)
        except TimeoutError as exc:
            raise ReaderTimeoutError(self._session_id, self._seconds) from exc

    async def read(self, producer: "asyncio.Task[None]") -> AsyncIterator[ChatResponse]:
        """Yield the deltas; raise the producer's error behind them."""
        while (delta := await self._next(producer)) is not None:
            yield delta
        await producer

    async def _next(self, producer: "asyncio.Task[None]") -> ChatResponse | None:
        """Return the next delta; None: the producer has ended."""
        if self._deltas.empty() and not producer.done():
            get = asyncio.ensure_future(self._deltas.get())
            try:
                await asyncio.wait({get, producer}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                taken = get.done()
                get.cancel()
            if taken:
                return get.result()
        return None if self._deltas.empty() else self._deltas.get_nowait()


@attrs.define(kw_only=True, eq=False)
class Dialogue:
    """Asks the provider of a session, and stores question and answer together or not at all.

    Attributes:
        read_ahead: So many messages are read with the header of a session, before its settings are known: as many
            as the latest turn needed, but not more than 200: the next session may want few.
    """

    sessions: SessionAccess
    conversations: Conversations
    memories: Memories
    providers: SessionProviders
    services: Services
    costs: MessageCosts
    memory_choice: "MemoryChoice | None"
    memory_text: MemoryRenderer
    revisions: Revisions
    read_ahead: int = SessionConfig().max_history_length

    @asynccontextmanager
    async def _alone(
        self, session_id: str, options: SendOptions, reader: "asyncio.Task[Any] | None" = None
    ) -> AsyncIterator[SendOptions]:
        """Keep other turns out within the block: those of this process, or, if one is refused, of every process.

        Returns:
            The options, with the fence of the lease.
        """
        refuses, lock = options.busy == "refuse", self.sessions.lock(session_id)
        async with lock.hold(reader=reader, refuse_busy=refuses):
            if not refuses or options.fence is not None:
                yield options
                return
            storage, holder = self.sessions.storage, self.services.ids.new_id()
            async with turn_lease(
                storage, session_id, holder=holder, seconds=DEFAULT_LEASE_SECONDS, stop=lock.request_stop
            ) as lease:
                yield attrs.evolve(options, fence=lease.fence)

    async def send(self, session_id: str, message: Any, options: SendOptions) -> ChatResponse:
        """Take one turn; see ``Sessions.send_message``."""
        async with self._alone(session_id, options) as alone:
            turn = await self._turn(session_id, message, alone)
            if isinstance(turn, ChatResponse):
                return turn
            try:
                response = await turn.ask()
            except ProviderError:
                await self._keep_question(session_id, turn, alone)
                raise
            self.sessions.lock(session_id).answered()
            return await self._store(session_id, turn, response, alone)

    async def stream(self, session_id: str, message: Any, options: SendOptions) -> AsyncGenerator[ChatResponse, None]:
        """Take one turn, in deltas; see ``Sessions.stream_message``."""
        buffer = _Buffer(session_id, options.reader_timeout)
        reader = asyncio.current_task()
        producer = asyncio.create_task(self._produce(session_id, message, options, buffer, reader))
        try:
            async for delta in buffer.read(producer):
                yield delta
        finally:
            if not producer.done():
                producer.cancel()
            await asyncio.wait({producer})
            if not producer.cancelled():
                producer.exception()  # raised already, or of no interest to a reader that has left

    async def _produce(
        self,
        session_id: str,
        message: Any,
        options: SendOptions,
        buffer: _Buffer,
        reader: "asyncio.Task[Any] | None",
    ) -> None:
        """Read the provider's stream at its own pace, store the turn, hand on the deltas."""
        last: list[ChatResponse] = []
        async with self._alone(session_id, options, reader) as alone:
            turn = await self._turn(session_id, message, alone)
            if isinstance(turn, ChatResponse):
                last.append(turn)
            else:
                response = await self._read_stream(session_id, turn, alone, buffer, last)
                store = self._store(session_id, turn, response, alone)
                stored = await (_finished(store) if options.on_stop == "keep_partial" else store)
                end = last.pop() if last else ChatResponse("", finish_reason=stored.finish_reason)
                metadata = {**end.provider_metadata, "prompt": turn.prompt.facts()}
                last.append(attrs.evolve(end, id=stored.id, position=stored.position, provider_metadata=metadata))
        for delta in last:  # the turn is stored and the session unlocked
            await buffer.put(delta)

    async def _read_stream(
        self, session_id: str, turn: Turn, options: SendOptions, buffer: _Buffer, last: list[ChatResponse]
    ) -> ChatResponse:
        """Return the whole answer of a streamed turn; its last deltas are held back until it is stored."""
        answer = Answer()
        try:
            async with aclosing(turn.stream()) as deltas:
                async for delta in deltas:
                    answer.add(delta)
                    if last or delta.finish_reason is not None:
                        last.append(delta)
                    else:
                        await buffer.put(delta)
        except (ProviderError, ReaderTimeoutError, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and answer and self._is_stopped(session_id):
                return attrs.evolve(answer.whole(), finish_reason=STOPPED)  # the turn's own time limit has cancelled
            if options.on_stop == "keep_partial" and answer:
                partial = attrs.evolve(answer.whole(), finish_reason=STOPPED)
                await _finished(self._store(session_id, turn, partial, options))
            elif isinstance(exc, ProviderError):
                await self._keep_question(session_id, turn, options)
            raise
        self.sessions.lock(session_id).answered()
        return answer.whole()

    def _is_stopped(self, session_id: str) -> bool:
        """Return whether only ``stop`` has cancelled the current task."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() == 1 and self.sessions.lock(session_id).is_stopped

    async def suggest_title(self, session: Session, provider_config: Mapping[str, Any] | ProviderConfig | None) -> str:
        """Return a title that the provider suggests; see ``Sessions.suggest_title``."""
        first = await self.conversations.read_after(session.session_id, 0, _TITLE_MESSAGES)
        said = [one for one in first if one.role in (MessageRole.USER, MessageRole.ASSISTANT) and message_text(one)]
        if not said:
            return ""
        texts = [attrs.evolve(one, content=shortened(message_text(one), _TITLE_CHARACTERS)) for one in said]
        prompt = [ChatMessage("system", _TITLE_PROMPT), ChatMessage("user", render_transcript(texts))]
        seconds = session.config.timeout
        async with self.providers.lease(session, provider_config) as provider:
            response = await _in_time(lambda: provider.chat(prompt), seconds, seconds)
        return " ".join(_checked(response).content.split()).strip("\"'*#. ")[:_LONGEST_TITLE].rstrip()

    # -- prepare -----------------------------------------------------------------------------------

    async def _turn(self, session_id: str, message: Any, options: SendOptions) -> Turn | ChatResponse:
        """Return what is to be asked, or the stored answer of a message that was sent before."""
        revision = None if options.revises is None else await self._revision(session_id, options.revises)
        question = None if revision is None else revision.question
        given = [question] if question else [_check_result(one) for one in _to_new_messages(message)]
        if revision is not None and any(one.role is not MessageRole.USER for one in given):
            raise ValidationError("a message of the user's is replaced by another of the user's")
        new = [question] if question else [self._stamped(one) for one in given]
        encoded = await self.conversations.encode(new)  # an invalid message is refused before the provider is called
        found = await self.sessions.read_turn(session_id, self.read_ahead)
        if found is None:
            raise SessionNotFoundError(session_id, backend=self.sessions.storage.backend)
        session, read = found
        await self._prolong(session)
        config = session.config
        parameters = generation_parameters(
            config.generation_params, options.temperature, options.max_tokens, options.extra
        )
        position = revision.after if revision else None
        if revision is None and any(one.id is not None for one in given):
            position = await self.conversations.find_position(session_id, encoded)
            if position is not None and (answer := await self._answer_to(session_id, new, position)) is not None:
                return answer
        if revision is not None and question is None and given[0].id is not None:
            await self._check_unused(session_id, encoded)
        is_stored = position is not None if revision is None else question is not None
        history = await self._history(session, new, position, read, stored=is_stored)
        if is_stored and (not history or history[-1].id != new[-1].id):  # cleared or replaced since it was found
            raise TurnInterruptedError(session_id) if revision is None else self._overtaken(session_id, revision)
        unstored = [] if is_stored else new
        remembered = await self._remembered(session, read.memories)
        rules = self.providers.rules(session, options.provider_config)
        return Turn(
            new=new,
            unstored=unstored,
            encoded=encoded[: len(unstored)],
            prompt=await self._prompt(session, history, unstored, remembered, rules, options, parameters),
            provider=lambda: self.providers.lease(session, options.provider_config),
            provider_name=str((session.provider or {}).get("name")),
            timeout_seconds=min(config.timeout, config.ttl or config.timeout),
            parameters=parameters,
            revision=revision,
        )

    async def _revision(self, session_id: str, revises: Revises) -> Revision:
        """Return what is to be replaced.

        Raises:
            SessionNotFoundError: No such session.
            MessageNotFoundError: No such message.
            ValidationError: There is no question, or the message that is edited is none.
        """
        named = (
            await self.revisions.existing(session_id, revises.message_id) if revises.message_id is not None else None
        )
        last, newest_id = await self.revisions.end(session_id)
        at = named.position or 0 if named else last
        question = await self._question_at(session_id, at)
        if question is None or (revises.edits and question.position != at and revises.message_id is not None):
            if await self.sessions.header(session_id) is None:  # deleted meanwhile
                raise SessionNotFoundError(session_id, backend=self.sessions.storage.backend)
            what = "message of the user's" if revises.edits else "question to answer again"
            raise ValidationError(f"session {session_id!a:.80} has no such {what}")
        place = question.position or 0
        after = place - 1 if revises.edits else place
        return Revision(after=after, last=last, newest=newest_id, question=None if revises.edits else question)

    def _overtaken(self, session_id: str, revision: Revision) -> ConflictError:
        return ConflictError(
            backend=self.conversations.storage.backend,
            key=f"session {session_id!a}",
            expected=f"the messages up to position {revision.last} that were read",
            actual="others, which another writer has stored",
        )

    async def _check_unused(self, session_id: str, records: Sequence[MessageRecord]) -> None:
        """Refuse an id that is stored before the provider is asked."""
        if await self.conversations.find_position(session_id, records) is not None:
            raise ConflictError(
                backend=self.conversations.storage.backend,
                key=f"message id {records[0].message_id!a}",
                expected="an id that is not stored",
                actual="a stored message, perhaps the one that is edited",
            )

    async def _question_at(self, session_id: str, position: int) -> Message | None:
        """Return the last message of a user up to a position, or None."""
        while found := await self.conversations.read_before(session_id, position + 1, _ANSWERS_BEHIND):
            question = next((one for one in reversed(found) if one.role is MessageRole.USER), None)
            if question is not None:
                return question
            position = (found[0].position or 1) - 1
        return None

    async def _prompt(
        self,
        session: Session,
        history: Sequence[Message],
        new: Sequence[Message],
        remembered: Sequence[MemoryEntry],
        rules: VendorRules,
        options: SendOptions,
        parameters: JSONObject,
    ) -> Prompt:
        messages = [*history, *new]
        always, recalled = remembered, remembered[:0]
        if self.memory_choice is not None:
            chosen = await self.memory_choice.choose(session, remembered, messages)
            always, recalled = chosen.always, chosen.recalled
        system = _paragraphs(system_prompt(session.personality), self.memory_text.render(always))
        # behind the history, whose beginning stays in the cache
        context = _paragraphs(self.memory_text.render(recalled), options.context)
        fixed = sum(self.costs.text(text) for text in (system, context) if text)
        if parameters.get("tools"):
            fixed += self.costs.text(compact_json(copy_json(parameters["tools"])))
        scale = measured_scale(history)
        costs = [round(cost * scale) for cost in self.costs.of(messages, rules.name)]
        build = partial(
            build_prompt,
            session,
            history,
            new,
            system,
            costs=costs,
            fixed_tokens=round(fixed * scale),
            rules=rules,
            scale=scale,
            context=context,
        )
        return await off_loop(build, large=is_large_prompt(messages, costs))

    async def _answer_to(self, session_id: str, new: Sequence[Message], position: int) -> ChatResponse | None:
        """Return the stored answer to messages that are stored already, or None.

        An answer that is not stored together with its question names it.

        Args:
            session_id: The session.
            new: The messages, as they are sent now.
            position: The position of the last of them.

        Raises:
            ConflictError: Another message is stored under one of their ids, or one of them was deleted.
            TurnInterruptedError: They are not stored any more.
        """
        read = await self.conversations.read_stored(session_id, position - len(new), len(new) + _ANSWERS_BEHIND)
        if [one.id for one in read[: len(new)]] != [one.id for one in new]:  # cleared since they were found
            raise TurnInterruptedError(session_id)
        for sent, stored in zip(new, read, strict=False):
            if is_deleted(stored) or _identity(sent) != _identity(stored):
                raise ConflictError(
                    backend=self.conversations.storage.backend,
                    key=f"message id {sent.id!a}",
                    expected="the message that is stored under it",
                    actual="a deleted one" if is_deleted(stored) else "one with another role, content or tool call",
                )
        question = new[-1].id
        for one in not_deleted(read[len(new) :]):
            behind = question if one.position == position + 1 else None
            if one.role is MessageRole.ASSISTANT and one.metadata.get("answers", behind) == question:
                return stored_response(one)
        return None

    async def _prolong(self, session: Session) -> None:
        """Count the question as activity, so that the session does not expire before the answer."""
        if session.config.ttl is not None:
            record = self.services.codec.session_record(session)
            with suppress(ConflictError):  # another writer has just prolonged it
                await self.sessions.storage.put_session(record, expected_version=session.version)

    def _stamped(self, message: Message) -> Message:
        return stamped(
            message,
            id=message.id or self.services.ids.new_id(),
            timestamp=message.timestamp or self.services.clock.now(),
        )

    async def _history(
        self, session: Session, new: Sequence[Message], last: int | None, read: TurnRecords, *, stored: bool
    ) -> list[Message]:
        """Return the newest messages of a session, at least back to the beginning of the turn in progress.

        Args:
            session: The session.
            new: What is sent.
            last: The position with which the history ends; None: the newest.
            read: What was read with the session.
            stored: Whether the history ends with what is sent.
        """
        config = session.config
        is_results = all(one.role is MessageRole.TOOL for one in new)
        count = min(config.max_history_length, config.max_history)
        if config.session_type is SessionType.STATELESS:
            count = 0
        behind = [] if stored else list(new)
        wanted = count + len(new) - len(behind)
        self.read_ahead = min(max(wanted, 1), _MOST_READ_AHEAD)
        if wanted == 0 and not is_results:
            return []
        is_first = True
        while True:
            size = max(wanted, 1)
            history = await self._of_read(read, size) if last is None else None
            if history is None:
                history = await self._newest(session.session_id, size, last)
            if not is_results or len(history) < wanted or _reaches_back(history, new):
                break
            if not is_first and any(one.role is MessageRole.USER for one in history):
                if missing := _missing_calls(history, new):
                    raise ToolCallNotFoundError(session.session_id, missing, searched=len(history))
                break
            is_first = False
            wanted += _MORE_HISTORY
        if count == 0:
            return history[turn_start([*history, *behind]) :]
        return history

    async def _of_read(self, read: TurnRecords, count: int) -> list[Message] | None:
        """Return the newest messages of what was read with the session; None: these are not enough."""
        session = read.session
        if len(read.messages) < min(count, session.last_position):
            return None
        found = await self.conversations.decoded(session.session_id, read.messages[-count:])
        history = not_deleted(found)
        is_whole = len(found) == session.last_position or any(map(ends_history, found))
        return history if is_whole or len(history) == len(found) else None

    async def _newest(self, session_id: str, count: int, last: int | None) -> list[Message]:
        """Return the newest messages, oldest first; only those up to the position ``last`` if given."""
        if last is None:
            return await self.conversations.get_recent_messages(session_id, count)
        return await self.conversations.read_before(session_id, last + 1, count)

    async def _remembered(self, session: Session, records: Sequence[MemoryRecord]) -> list[MemoryEntry]:
        if not (session.config.include_context_in_prompt and session.config.memory_enabled):
            return []
        return await self.memories.recalled_with_wider(records, session.config)

    # -- store -------------------------------------------------------------------------------------

    async def _store(self, session_id: str, turn: Turn, response: ChatResponse, options: SendOptions) -> ChatResponse:
        """Store the turn in one append; return the response with the id and position of its message."""
        try:
            answer = answer_message(response, provider=turn.provider_name, prompt=turn.prompt.kept_facts())
        except ProviderResponseError:
            await self._keep_question(session_id, turn, options)
            raise
        if not turn.unstored:  # other messages may lie between
            answer.metadata["answers"] = turn.new[-1].id
        if turn.revision is None:
            *_, stored = await self._append(session_id, [*turn.unstored, answer], turn.encoded, options.fence)
        else:
            new = [*turn.unstored, self._stamped(answer)]
            *_, stored = await self._replace(session_id, turn.revision, new, options.fence)
        return attrs.evolve(
            response,
            id=stored.id,
            position=stored.position,
            provider_metadata={**response.provider_metadata, "prompt": turn.prompt.facts()},
        )

    async def _keep_question(self, session_id: str, turn: Turn, options: SendOptions) -> None:
        if options.on_failure == "keep_question" and turn.unstored and turn.revision is None:
            await self._append(session_id, turn.unstored, turn.encoded, options.fence)

    async def _replace(
        self, session_id: str, revision: Revision, messages: Sequence[Message], fence: int | None
    ) -> list[Message]:
        """Store messages in the place of others, as these are now: they may have been annotated or redacted."""
        after, question = revision.after, revision.question
        begin = after - 1 if question else after

        async def replaced(change: int) -> list[Message]:
            found = await self.revisions.read(session_id, begin)
            tail = found[1:] if question else found
            ends = (found[-1].position, found[-1].id) if found else (0, None)
            if ends != (revision.last, revision.newest) or (
                question and (found[0].id != question.id or is_deleted(found[0]))
            ):
                raise self._overtaken(session_id, revision)
            branches = branches_with(branches_of(tail[0]) if tail else [], tail)
            new = with_branches(messages, branches)
            return await self.revisions.replace(
                session_id, after=after, tail=tail, messages=new, expected_change=change, fence=fence
            )

        with self.sessions.lock(session_id).storing():
            return await self.revisions.unchanged(session_id, replaced)

    async def _append(
        self, session_id: str, messages: Sequence[Message], encoded: Sequence[MessageRecord], fence: int | None
    ) -> list[Message]:
        with self.sessions.lock(session_id).storing():
            return await self.conversations.append(session_id, messages, encoded=encoded, fence=fence)


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))


@asynccontextmanager
async def _closing(deltas: AsyncGenerator[T, None]) -> AsyncIterator[AsyncGenerator[T, None]]:
    """Close a provider's stream behind the block; an error of the closing is only logged."""
    try:
        yield deltas
    finally:
        try:
            await deltas.aclose()
        except Exception as exc:  # noqa: BLE001  # the answer does not depend on it
            logger.warning("closing the provider's stream failed with %s", type(exc).__name__)


async def _finished(call: Awaitable[T]) -> T:
    """Await a call to its end, also when the current task is cancelled meanwhile, which is raised afterwards."""
    task = asyncio.ensure_future(call)
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
