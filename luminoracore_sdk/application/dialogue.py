"""The use case of talking: one whole turn of one session at a time."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import attrs

from luminoracore_sdk.application.conversations import ConversationManager
from luminoracore_sdk.application.held import HeldSessions
from luminoracore_sdk.application.incoming import ABSENT, to_message
from luminoracore_sdk.application.memories import MemoryManager
from luminoracore_sdk.application.parameters import generation_parameters
from luminoracore_sdk.application.prompts import build_prompt
from luminoracore_sdk.application.session_providers import SessionProviders
from luminoracore_sdk.application.toolkit import Toolkit
from luminoracore_sdk.application.turns import Answer, Turn, answer_message
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message, MessageRole, stamped
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionType

__all__ = ["Dialogue"]


@attrs.frozen(kw_only=True)
class Dialogue:
    """Asks a session's provider, and keeps question and answer together or not at all."""

    sessions: HeldSessions
    conversations: ConversationManager
    memories: MemoryManager
    providers: SessionProviders
    tools: Toolkit

    async def send(
        self,
        session_id: str,
        message: Any,
        temperature: float,
        max_tokens: int | None,
        extra: Mapping[str, Any],
    ) -> ChatResponse:
        """Take one turn; see ``SessionManager.send_message``."""
        async with self.sessions.lock(session_id):
            turn = await self._turn(session_id, message, temperature, max_tokens, extra)
            response = await turn.ask()
            await self._keep(session_id, turn, response)
            return response

    async def stream(
        self,
        session_id: str,
        message: Any,
        temperature: float,
        max_tokens: int | None,
        extra: Mapping[str, Any],
    ) -> AsyncGenerator[ChatResponse, None]:
        """Take one turn, in deltas; see ``SessionManager.stream_message``."""
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
        for delta in last:  # the session is free again: what comes now is kept already
            yield delta

    async def _turn(
        self,
        session_id: str,
        message: Any,
        temperature: float,
        max_tokens: int | None,
        extra: Mapping[str, Any],
    ) -> Turn:
        question = self._stamped(_to_question(message))
        self.tools.codec.message_record(question)  # refused before the provider is paid for it
        session = await self.sessions.take(session_id)
        if session is None:
            raise SessionNotFoundError(session_id, backend=self.sessions.storage.backend)
        await self._prolong(session)
        defaults = session.config.generation_params
        history, remembered = await self._history(session), await self._remembered(session)
        return Turn(
            question=question,
            prompt=build_prompt(
                session, history, remembered, question, self.tools.tokens, self.tools.notations
            ),
            provider=lambda: self.providers.lease(session),
            timeout_seconds=min(session.config.timeout, session.config.ttl or session.config.timeout),
            parameters=generation_parameters(defaults, temperature, max_tokens, extra),
        )

    async def _prolong(self, session: Session) -> None:
        """Count the question as activity, so that the session does not expire before its answer."""
        if session.config.ttl is not None:
            record = self.tools.codec.session_record(session)
            with suppress(ConflictError):  # then somebody else has just prolonged it
                await self.sessions.storage.put_session(record, expected_version=session.version)

    def _stamped(self, message: Message) -> Message:
        return stamped(
            message,
            id=message.id or self.tools.ids.new_id(),
            timestamp=message.timestamp or self.tools.clock.now(),
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


def _to_question(message: Any) -> Message:
    if isinstance(message, str):
        return Message(role=MessageRole.USER, content=message)
    question = to_message(message, ABSENT, None)
    if question.role not in (MessageRole.USER, MessageRole.TOOL):
        raise ValidationError(f"a message of role {question.role.value!r} is not one to send")
    return question
