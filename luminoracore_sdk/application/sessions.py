"""The use cases of a session: create, resume, talk, change, list, delete."""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import attrs

from luminoracore_sdk.application.conversations import Conversations
from luminoracore_sdk.application.memories import Memories
from luminoracore_sdk.application.ports.deferred_writes import DeferredWriteStorage
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.provider_pool import SessionProviders
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import HeldSessions, headers
from luminoracore_sdk.application.turns import Dialogue
from luminoracore_sdk.domain.chat import ChatResponse, ProviderConfig
from luminoracore_sdk.domain.conversation import Conversation
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.personality import check_personality, merge_personality
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionConfig

__all__ = ["Sessions"]

logger = logging.getLogger(__name__)


class Sessions:
    """Creates sessions of AI personalities, resumes them, and talks to their providers.

    Composed of a Conversations, a Memories and a storage, which may also be used alone. A
    session lives in the storage: another manager over the same storage, in this process or another,
    goes on with it. API keys are never stored: for a resumed session the key comes from the environment
    or from ``load_session(id, provider_config=...)``.

    Args:
        storage: Where sessions live; holds back those with ``auto_save=False``.
        services: The other ports.
        conversations: Keeps the messages, over the same storage.
        memories: Keeps what is remembered, over the same storage.
        owns_storage: Whether ``close`` closes the storage.

    Attributes:
        storage: The storage as it was given.
        conversation_manager: Its Conversations.
        memory_manager: Its Memories.
    """

    def __init__(
        self,
        *,
        storage: DeferredWriteStorage,
        services: Services,
        conversations: Conversations,
        memories: Memories,
        owns_storage: bool,
    ) -> None:
        self.conversation_manager = conversations
        self.memory_manager = memories
        self._drafts = storage
        self._tools = services
        self._owns_storage = owns_storage
        self._providers = SessionProviders(services.providers)
        self._sessions = HeldSessions(storage, services.codec)
        self._dialogue = Dialogue(
            sessions=self._sessions,
            conversations=conversations,
            memories=memories,
            providers=self._providers,
            tools=services,
        )

    @property
    def storage(self) -> SessionStorage:
        """The storage as it was given."""
        return self._drafts.stored

    async def close(self) -> None:
        """Close the providers, and the storage if this manager made it.

        Sessions with ``auto_save=False`` that were not saved are counted in the log.
        """
        if unsaved := await self._drafts.unsaved():
            logger.warning("%d sessions were closed without save_session", len(unsaved))
        try:
            await self._providers.close()
        finally:
            if self._owns_storage:
                await self._drafts.close()

    async def __aenter__(self) -> Self:
        await self._drafts.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # -- life of a session -----------------------------------------------------------------------

    async def create_session(
        self,
        personality: Mapping[str, Any] | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        session_config: SessionConfig | Mapping[str, Any] | None = None,
    ) -> str:
        """Create a session and return its id.

        Args:
            personality: A JSON object; ``system_prompt`` or the fields that make one up.
            provider_config: name, and optionally api_key, model, base_url, extra.
            session_config: Settings; its ``session_id``, when given, becomes the id.

        Raises:
            ProviderError: A provider_config that cannot work; nothing is left behind.
            SessionExistsError: The id is taken.
            ValidationError: Any other argument is wrong.
        """
        config = self._tools.codec.settings(SessionConfig, session_config or {})
        provider = self._providers.checked(provider_config or config.provider_config)
        now = self._tools.clock.now()
        session = Session(
            session_id=config.session_id or self._tools.ids.new_id(),
            personality=check_personality(personality if personality is not None else config.personality),
            provider=provider.public(),
            config=config,
            created_at=now,
            last_activity=now,
        )
        record = self._tools.codec.session_record(session)
        await self._sessions.insert(record, hold=not config.auto_save)
        self._providers.remember(session.session_id, provider)
        return session.session_id

    async def get_session(self, session_id: str) -> Session | None:
        """Return a session as this manager sees it, unsaved changes included, or None."""
        return await self._sessions.find(session_id)

    async def load_session(
        self,
        session_id: str,
        *,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
    ) -> Session | None:
        """Return a session as it is stored, or None.

        Args:
            session_id: Any id.
            provider_config: Pass the api_key again for a resumed session; it must name the session's
                provider. It is used by this manager from now on and not stored.

        Raises:
            ProviderError: ``provider_config`` is wrong or of another provider.
        """
        session = await self._sessions.read(session_id, self._drafts.stored)
        if session is not None and provider_config is not None:
            self._providers.reattach(session, provider_config)
        return session

    async def save_session(self, session_id: str) -> bool:
        """Write at once whatever is not written yet; False: no such session.

        With ``auto_save=True`` nothing is ever left to write. With ``auto_save=False`` this is the only
        write.

        Raises:
            ConflictError: The stored session was changed by somebody else since; nothing that is not
                written yet is lost: it is still here.
        """
        await self._drafts.flush(session_id)
        return await self._drafts.session_exists(session_id)

    async def delete_session(self, session_id: str) -> bool:
        """Delete a session with its conversation and memory; False: no such session."""
        async with self._sessions.lock(session_id):
            self._providers.forget(session_id)
            async with self.memory_manager.removing(session_id):
                return await self._drafts.delete_session(session_id)

    async def update_personality(self, session_id: str, personality: Mapping[str, Any]) -> bool:
        """Replace some top-level fields of the personality; False: no such session.

        Safe against other writers: their changes to other fields stay.
        """
        changes = check_personality(personality)

        def changed(session: Session) -> Session:
            return attrs.evolve(session, personality=merge_personality(session.personality, changes))

        return await self._sessions.change(session_id, changed)

    async def update_provider(self, session_id: str, provider_config: Mapping[str, Any] | ProviderConfig) -> bool:
        """Let another provider, or another model, answer from now on; False: no such session.

        Stored like that of ``create_session``: without the key.

        Raises:
            ProviderError: A provider_config that cannot work; nothing was changed.
        """
        provider = self._providers.checked(provider_config)
        updated = await self._sessions.change(
            session_id, lambda session: attrs.evolve(session, provider=provider.public())
        )
        self._providers.forget(session_id)
        if updated:
            self._providers.remember(session_id, provider)
        return updated

    # -- talking ---------------------------------------------------------------------------------

    async def send_message(
        self,
        session_id: str,
        message: str | Message,
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """Ask the provider, and keep question and answer together.

        Sends on one session run one after the other; those of different sessions at the same time.

        Args:
            session_id: An existing session.
            message: A text, or a Message of the role user or tool, or its dictionary.
            temperature: For the provider; the default gives way to ``generation_params``.
            max_tokens: Upper bound of the answer; None: ``generation_params``, else the provider's own.
            **kwargs: Handed to the provider.

        Raises:
            SessionNotFoundError: No such session.
            ProviderError: No answer; nothing of the turn is kept.
            StorageError: The turn could not be kept; nothing of it is.
        """
        return await self._dialogue.send(session_id, message, temperature, max_tokens, kwargs)

    async def stream_message(
        self,
        session_id: str,
        message: str | Message,
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer in deltas; same arguments and errors as ``send_message``.

        The turn is kept when the provider has finished, before the delta with ``finish_reason`` is
        handed out. A stream that fails, is cancelled or is abandoned before that keeps nothing. The
        session is locked while the stream is open: do not send on it from within the loop.
        """
        turn = self._dialogue.stream(session_id, message, temperature, max_tokens, kwargs)
        async with aclosing(turn) as deltas:
            async for delta in deltas:
                yield delta

    # -- looking ---------------------------------------------------------------------------------

    async def get_conversation(self, session_id: str) -> Conversation | None:
        """Return the newest ``max_history`` messages of a session, or None."""
        session = await self.get_session(session_id)
        if session is None:
            return None
        return await self.conversation_manager.get_conversation(session_id, limit=session.config.max_history)

    async def clear_conversation(self, session_id: str) -> bool:
        """Remove every message of a session; its memory stays. False: no such session."""
        async with self._sessions.lock(session_id):
            if await self._sessions.take(session_id) is None:
                return False
            return await self.conversation_manager.clear_conversation(session_id)

    async def list_sessions(self, *, user_id: str | None = None, tag: str | None = None) -> list[str]:
        """Return the ids of all sessions, or of one user or label, by time of creation, then id."""
        query = SessionQuery(user_id=user_id, tag=tag)
        return [record.session_id async for record in headers(self._drafts, query)]

    async def get_session_info(self, session_id: str) -> JSONObject | None:
        """Return a summary of a session, or None.

        Keys: session_id, personality (its name), provider, model, created_at, last_activity,
        message_count.
        """
        session = await self.get_session(session_id)
        return None if session is None else session.info()
