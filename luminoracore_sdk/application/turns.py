"""Turns: a question and its answer are stored together or not at all, one turn at a time per session."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.application.conversations import ABSENT, Conversations, to_message
from luminoracore_sdk.application.memories import Memories
from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.application.prompts import build_prompt
from luminoracore_sdk.application.provider_pool import SessionProviders
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import SessionAccess
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse
from luminoracore_sdk.domain.errors import (
    ConflictError,
    InvalidJSONError,
    LuminoraCoreSDKError,
    ProviderError,
    ProviderResponseError,
    ProviderStreamError,
    ProviderTimeoutError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject, check_json, copy_json
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message, MessageRole, stamped
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionType

__all__ = ["DEFAULT_TEMPERATURE", "Answer", "Dialogue", "Turn", "generation_parameters"]


DEFAULT_TEMPERATURE = 0.7

MAX_TEMPERATURE = 100
"""No provider accepts more than 2; the bound excludes NaN, infinities and typing errors."""


def generation_parameters(
    defaults: Mapping[str, Any], temperature: float, max_tokens: int | None, extra: Mapping[str, Any]
) -> JSONObject:
    """Return the parameters for the provider: the arguments of the call override the session's defaults.

    A temperature of 0.7 counts as not given, because it is the default of the signature.

    Raises:
        ValidationError: ``temperature`` is not a number from 0 to 100, or ``max_tokens`` is not an integer
            of at least 1.
    """
    if temperature == DEFAULT_TEMPERATURE:
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


def _to_question(message: Any) -> Message:
    if isinstance(message, str):
        return Message(role=MessageRole.USER, content=message)
    question = to_message(message, ABSENT, None)
    if question.role not in (MessageRole.USER, MessageRole.TOOL):
        raise ValidationError(f"a message of role {question.role.value!r} cannot be sent")
    return question


T = TypeVar("T")

_END: Any = object()
"""Marks the end of a stream; no delta of a provider is this object."""


@attrs.frozen(kw_only=True)
class Turn:
    """A question with everything that the provider needs to answer it.

    Attributes:
        question: The message of the user.
        prompt: The messages for the provider.
        provider: Leases the provider.
        timeout_seconds: How long the provider may take for the whole answer.
        parameters: temperature, max_tokens and other parameters for the provider.
    """

    question: Message
    prompt: list[ChatMessage]
    provider: Callable[[], AbstractAsyncContextManager[BaseProvider]]
    timeout_seconds: float
    parameters: JSONObject

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
        """Return a copy of the prompt, which the provider may modify."""
        return [
            ChatMessage(message.role, copy_json(message.content), copy_json(message.metadata))
            for message in self.prompt
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
            async with aclosing(deltas) as stream:
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
        self._parts: list[str] = []
        self._last = ChatResponse("")

    def add(self, delta: ChatResponse) -> None:
        """Add the next delta."""
        self._parts.append(delta.content)
        self._last = attrs.evolve(
            self._last,
            finish_reason=delta.finish_reason or self._last.finish_reason,
            usage=delta.usage or self._last.usage,
            model=delta.model or self._last.model,
            provider_metadata={**self._last.provider_metadata, **delta.provider_metadata},
        )

    def whole(self) -> ChatResponse:
        """Return the answer that the deltas form."""
        return attrs.evolve(self._last, content="".join(self._parts))


def answer_message(response: ChatResponse) -> Message:
    """Return the message to store for an answer; its metadata has model, finish reason, usage and tool calls."""
    facts: JSONObject = {
        "model": response.model,
        "finish_reason": response.finish_reason,
        "usage": response.usage,
        "tool_calls": response.provider_metadata.get("tool_calls"),
    }
    metadata = {name: fact for name, fact in facts.items() if fact}
    try:
        check_json(metadata, where="the provider's answer")
    except InvalidJSONError as exc:
        raise ProviderResponseError(str(exc)) from exc
    return Message(role=MessageRole.ASSISTANT, content=response.content, metadata=metadata)


def _checked(response: Any) -> ChatResponse:
    if not isinstance(response, ChatResponse) or type(response.content) is not str:
        raise ProviderResponseError(
            f"the provider answered with {type(response).__name__}, not with a ChatResponse of text"
        )
    if not isinstance(response.provider_metadata, dict):
        raise ProviderResponseError("the provider's answer has a provider_metadata that is not a dict")
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


@attrs.frozen(kw_only=True)
class Dialogue:
    """Asks the provider of a session, and stores question and answer together or not at all."""

    sessions: SessionAccess
    conversations: Conversations
    memories: Memories
    providers: SessionProviders
    services: Services

    async def send(
        self, session_id: str, message: Any, temperature: float, max_tokens: int | None, extra: Mapping[str, Any]
    ) -> ChatResponse:
        """Take one turn; see ``Sessions.send_message``."""
        async with self.sessions.lock(session_id):
            turn = await self._turn(session_id, message, temperature, max_tokens, extra)
            response = await turn.ask()
            await self._keep(session_id, turn, response)
            return response

    async def stream(
        self, session_id: str, message: Any, temperature: float, max_tokens: int | None, extra: Mapping[str, Any]
    ) -> AsyncGenerator[ChatResponse, None]:
        """Take one turn, in deltas; see ``Sessions.stream_message``."""
        async with self.sessions.lock(session_id):
            turn = await self._turn(session_id, message, temperature, max_tokens, extra)
            answer = Answer()
            last: list[ChatResponse] = []
            async with aclosing(turn.stream()) as deltas:
                async for delta in deltas:
                    answer.add(delta)
                    if last or delta.finish_reason is not None:
                        last.append(delta)
                    else:
                        yield delta
            await self._keep(session_id, turn, answer.whole())
        for delta in last:  # the turn is stored and the session unlocked
            yield delta

    async def _turn(
        self, session_id: str, message: Any, temperature: float, max_tokens: int | None, extra: Mapping[str, Any]
    ) -> Turn:
        question = self._stamped(_to_question(message))
        self.services.codec.message_record(question)  # an invalid message is refused before the provider is called
        session = await self.sessions.find_for_change(session_id)
        if session is None:
            raise SessionNotFoundError(session_id, backend=self.sessions.storage.backend)
        await self._prolong(session)
        defaults = session.config.generation_params
        history, remembered = await self._history(session), await self._remembered(session)
        return Turn(
            question=question,
            prompt=build_prompt(session, history, remembered, question, self.services.tokens, self.services.notations),
            provider=lambda: self.providers.lease(session),
            timeout_seconds=min(session.config.timeout, session.config.ttl or session.config.timeout),
            parameters=generation_parameters(defaults, temperature, max_tokens, extra),
        )

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

    async def _history(self, session: Session) -> list[Message]:
        config = session.config
        if config.session_type is SessionType.STATELESS:
            return []
        count = min(config.max_history_length, config.max_history)
        return await self.conversations.get_recent_messages(session.session_id, count)

    async def _remembered(self, session: Session) -> list[MemoryEntry]:
        if not (session.config.include_context_in_prompt and session.config.memory_enabled):
            return []
        decay = session.config.memory_decay_factor
        return await self.memories.recall(session.session_id, decay_factor=decay)

    async def _keep(self, session_id: str, turn: Turn, response: ChatResponse) -> None:
        await self.conversations.append(session_id, [turn.question, answer_message(response)])
