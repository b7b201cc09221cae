"""The sessions and memories of one user, apart from those of all others."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import date, datetime
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from luminoracore_sdk.application.leases import DEFAULT_LEASE_SECONDS, TurnLease
from luminoracore_sdk.application.listings import Order
from luminoracore_sdk.application.session_access import SessionAccess
from luminoracore_sdk.application.turns import DEFAULT_TEMPERATURE
from luminoracore_sdk.domain.chat import ChatResponse, ProviderConfig
from luminoracore_sdk.domain.conversation import Conversation
from luminoracore_sdk.domain.errors import SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry, MemorySource, MemoryVersion
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.recall.hits import Hit, HitKind
from luminoracore_sdk.domain.scopes import Owner
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionConfig
from luminoracore_sdk.domain.summaries import ConversationPage, SessionChange
from luminoracore_sdk.domain.usage import Usage

if TYPE_CHECKING:
    from luminoracore_sdk.application.sessions import Sessions

__all__ = ["UserSessions"]

T = TypeVar("T")


class UserSessions:
    """The sessions and memories of one user; made by ``SessionManager.for_user``.

    Each call does what the call of the same name of the manager does, for the sessions of this user alone. A session
    of another user, or of none, is answered like one that does not exist: a call that returns something for an
    unknown id returns that, every other call raises ``SessionNotFoundError``. The ids of sessions are common to all
    users, so ``create_session`` with an id that is taken raises ``SessionExistsError``, whoever took it.

    The user is compared when a call reads the session; reads of messages compare it again at their end. One gap is
    left, which no call of the storage closes: between that comparison and the write of the same call, another process
    (or a concurrent call of this one, outside a turn) may delete the session and create one of the same id for another
    user, which then receives the write. Generated ids are never used again, so this concerns only ids that the
    application chooses and reuses.

    Args:
        sessions: Use cases that see the sessions of the user only.
        access: Their access to sessions.
        owner: The user.

    Attributes:
        user_id: The user.
        tenant: The tenant of the user, or None.
        app: The app of the user, or None.
    """

    def __init__(self, sessions: "Sessions", access: SessionAccess, owner: Owner) -> None:
        self.user_id = owner.user or ""
        self.tenant = owner.tenant
        self.app = owner.app
        self._id = owner.id
        self._sessions = sessions
        self._access = access
        self._memories = sessions.memory_manager.of_user(self.user_id, self.tenant, self.app)

    @property
    def can_recall(self) -> bool:
        """Whether search is on, without which ``recall`` raises ``ConfigurationError``."""
        return self._sessions.storage.search is not None

    async def _read(self, session_id: str, read: Callable[[str], Awaitable[T]]) -> T | None:
        """Return what a read finds; None: it may be of another session than one of the user."""
        before = await self._access.header(session_id)
        if before is None:
            return None
        found = await read(session_id)
        after = await self._access.header(session_id)
        return found if after is not None and after.created_at_us == before.created_at_us else None

    # -- create, load, save, change, delete ------------------------------------------------------

    async def create_session(
        self,
        personality: Mapping[str, Any] | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        session_config: SessionConfig | Mapping[str, Any] | None = None,
    ) -> str:
        """Create a session of the user and return its id; see ``SessionManager.create_session``.

        Raises:
            ValidationError: ``session_config`` names another user; nothing was stored.
        """
        config = self._access.codec.settings(SessionConfig, session_config or {})
        if config.user_id not in (None, self._id):
            raise ValidationError("session_config names another user; leave user_id out, for_user sets it")
        own = attrs.evolve(config, user_id=self._id)
        return await self._sessions.create_session(personality, provider_config, own)

    async def get_session(self, session_id: str) -> Session | None:
        """Return a session, unsaved changes included, or None."""
        return await self._sessions.get_session(session_id)

    async def load_session(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> Session | None:
        """Return a session as it is stored, or None; see ``SessionManager.load_session``."""
        return await self._sessions.load_session(session_id, provider_config=provider_config)

    async def save_session(self, session_id: str) -> bool:
        """Write all unsaved changes of a session; return False if there is no such session."""
        return await self._access.is_visible(session_id) and await self._sessions.save_session(session_id)

    async def delete_session(self, session_id: str) -> bool:
        """Delete a session with its conversation and memory; return False if there is none."""
        return await self._access.is_visible(session_id) and await self._sessions.delete_session(session_id)

    async def update_personality(self, session_id: str, personality: Mapping[str, Any]) -> bool:
        """Replace some top-level fields of the personality; return False if there is no such session."""
        return await self._sessions.update_personality(session_id, personality)

    async def update_provider(self, session_id: str, provider_config: Mapping[str, Any] | ProviderConfig) -> bool:
        """Change the provider or model of a session; return False if there is no such session."""
        return await self._sessions.update_provider(session_id, provider_config)

    async def update_session(
        self,
        session_id: str,
        *,
        title: str | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        archived: bool | None = None,
        pinned: bool | None = None,
        attributes: Mapping[str, Any] | None = None,
        ttl: float | EllipsisType | None = ...,
        config: Mapping[str, Any] | None = None,
    ) -> bool:
        """Change the header of a session; return False if there is none; see ``SessionManager.update_session``."""
        return await self._sessions.update_session(
            session_id,
            title=title,
            metadata=metadata,
            tags=tags,
            add_tags=add_tags,
            remove_tags=remove_tags,
            archived=archived,
            pinned=pinned,
            attributes=attributes,
            ttl=ttl,
            config=config,
        )

    async def suggest_title(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> str:
        """Ask the provider for a title of the conversation; see ``SessionManager.suggest_title``."""
        await self._access.check(session_id)
        return await self._sessions.suggest_title(session_id, provider_config=provider_config)

    # -- send messages ---------------------------------------------------------------------------

    async def send_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
        temperature: float = DEFAULT_TEMPERATURE,
        max_tokens: int | None = None,
        **options: Any,
    ) -> ChatResponse:
        """Send a message to the provider, and store question and answer; see ``SessionManager.send_message``."""
        await self._access.check(session_id)
        return await self._sessions.send_message(session_id, message, temperature, max_tokens, **options)

    async def stream_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
        temperature: float = DEFAULT_TEMPERATURE,
        max_tokens: int | None = None,
        **options: Any,
    ) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer in deltas; see ``SessionManager.stream_message``."""
        await self._access.check(session_id)
        stream = self._sessions.stream_message(session_id, message, temperature, max_tokens, **options)
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                yield delta

    # -- change the past -------------------------------------------------------------------------

    async def edit_message(
        self, session_id: str, message_id: str, message: str | Message | Mapping[str, Any], **options: Any
    ) -> ChatResponse:
        """Replace a message of the user, and all behind it; see ``SessionManager.edit_message``."""
        await self._access.check(session_id)
        return await self._sessions.edit_message(session_id, message_id, message, **options)

    async def stream_edit_message(
        self, session_id: str, message_id: str, message: str | Message | Mapping[str, Any], **options: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer to an edited message in deltas; see ``SessionManager.stream_edit_message``."""
        await self._access.check(session_id)
        async with aclosing(self._sessions.stream_edit_message(session_id, message_id, message, **options)) as deltas:
            async for delta in deltas:
                yield delta

    async def regenerate(self, session_id: str, message_id: str | None = None, **options: Any) -> ChatResponse:
        """Ask a question again; see ``SessionManager.regenerate``."""
        await self._access.check(session_id)
        return await self._sessions.regenerate(session_id, message_id, **options)

    async def stream_regenerate(
        self, session_id: str, message_id: str | None = None, **options: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        """Yield a new answer in deltas; see ``SessionManager.stream_regenerate``."""
        await self._access.check(session_id)
        async with aclosing(self._sessions.stream_regenerate(session_id, message_id, **options)) as deltas:
            async for delta in deltas:
                yield delta

    async def alternatives(self, session_id: str, message_id: str) -> list[list[Message]]:
        """Return what a message has replaced; see ``SessionManager.alternatives``."""
        found = await self._read(session_id, lambda own: self._sessions.alternatives(own, message_id))
        if found is None:
            raise SessionNotFoundError(session_id, backend=self._access.storage.stored.backend)
        return found

    async def choose(self, session_id: str, message_id: str, number: int) -> list[Message]:
        """Put an alternative in the place of a message; see ``SessionManager.choose``."""
        await self._access.check(session_id)
        return await self._sessions.choose(session_id, message_id, number)

    async def rewind(self, session_id: str, to: str | int) -> list[Message]:
        """Remove every message behind one; see ``SessionManager.rewind``."""
        await self._access.check(session_id)
        return await self._sessions.rewind(session_id, to)

    async def fork(
        self,
        session_id: str,
        at: str | int | None = None,
        *,
        new_session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Copy a session up to a message into a new one of the user; see ``SessionManager.fork``."""
        await self._access.check(session_id)
        return await self._sessions.fork(session_id, at, new_session_id=new_session_id, metadata=metadata)

    async def annotate(self, session_id: str, message_id: str, annotations: JSONObject) -> Message:
        """Add annotations to a message; see ``SessionManager.annotate``."""
        await self._access.check(session_id)
        return await self._sessions.annotate(session_id, message_id, annotations)

    async def redact(self, session_id: str, message_id: str) -> Message:
        """Remove the content of a message for good; see ``SessionManager.redact``."""
        await self._access.check(session_id)
        return await self._sessions.redact(session_id, message_id)

    async def delete_messages(self, session_id: str, message_ids: Iterable[str]) -> int:
        """Delete messages; see ``SessionManager.delete_messages``."""
        await self._access.check(session_id)
        return await self._sessions.delete_messages(session_id, message_ids)

    async def clear_conversation(self, session_id: str) -> bool:
        """Remove every message of a session, not its memory; return False if there is no such session."""
        return await self._access.is_visible(session_id) and await self._sessions.clear_conversation(session_id)

    # -- read, list ------------------------------------------------------------------------------

    async def get_conversation(self, session_id: str) -> Conversation | None:
        """Return the newest ``max_history`` messages of a session, or None."""
        return await self._read(session_id, self._sessions.get_conversation)

    async def get_messages(
        self,
        session_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Message]:
        """Return messages, oldest first; see ``ConversationManager.get_messages``."""
        get_messages = self._sessions.conversation_manager.get_messages
        return (
            await self._read(session_id, lambda own: get_messages(own, limit, offset, before=before, after=after)) or []
        )

    async def list_sessions(self, *, tag: str | None = None) -> list[str]:
        """Return the ids of the user's sessions, with one tag if given, by time of creation, then id."""
        return await self._sessions.list_sessions(user_id=self._id, tag=tag)

    async def get_session_info(self, session_id: str) -> JSONObject | None:
        """Return a summary of a session, or None; see ``SessionManager.get_session_info``."""
        return await self._sessions.get_session_info(session_id)

    async def list_conversations(
        self,
        *,
        tag: str | None = None,
        archived: bool | None = False,
        pinned: bool | None = None,
        order: Order = "activity",
        limit: int = 50,
        cursor: str | None = None,
    ) -> ConversationPage:
        """Return one page of the user's conversations; see ``SessionManager.list_conversations``."""
        return await self._sessions.list_conversations(
            self._id, tag=tag, archived=archived, pinned=pinned, order=order, limit=limit, cursor=cursor
        )

    async def usage(
        self, session_id: str | None = None, *, since: date | None = None, until: date | None = None
    ) -> Usage:
        """Return the tokens of a session, or of all sessions of the user; see ``SessionManager.usage``."""
        return await self._sessions.usage(session_id, user_id=self._id, since=since, until=until)

    # -- several processes -----------------------------------------------------------------------

    def turn_lease(
        self, session_id: str, *, ttl: float = DEFAULT_LEASE_SECONDS
    ) -> AbstractAsyncContextManager[TurnLease]:
        """Be the only holder of a session's lease within the block; see ``SessionManager.turn_lease``."""
        return self._sessions.turn_lease(session_id, ttl=ttl)

    async def stop(self, session_id: str) -> bool:
        """Stop the answer that is under way; see ``SessionManager.stop``."""
        await self._access.check(session_id)
        return await self._sessions.stop(session_id)

    async def watch(self, session_id: str, *, after: int | str = 0) -> AsyncGenerator[SessionChange, None]:
        """Yield the changes of a session; see ``SessionManager.watch``."""
        async with aclosing(self._sessions.watch(session_id, after=after)) as changes:
            async for change in changes:
                if change.message is not None and not await self._access.is_visible(session_id):
                    yield SessionChange("deleted", 0)  # and perhaps created again, for another user
                    return
                yield change

    # -- memory of the user ----------------------------------------------------------------------

    async def recall(
        self,
        query: str,
        *,
        session_ids: Collection[str] | None = None,
        kinds: Collection[HitKind] = ("message", "memory"),
        limit: int = 10,
        max_tokens: int | None = None,
        between: tuple[datetime | None, datetime | None] | None = None,
        roles: Collection[str] | None = None,
        around: int = 0,
        explain: bool = False,
    ) -> list[Hit]:
        """Return what answers a query of all that the user has said and stored; see ``SessionManager.recall``."""
        return await self._sessions.recall(
            query,
            user_id=self._id,
            session_ids=session_ids,
            kinds=kinds,
            limit=limit,
            max_tokens=max_tokens,
            between=between,
            roles=roles,
            around=around,
            explain=explain,
        )

    async def store_memory(
        self,
        key: str,
        value: JSONValue,
        ttl: float | None = None,
        *,
        importance: float = 1.0,
        category: MemoryCategory | str = MemoryCategory.FACT,
        source: MemorySource | None = None,
    ) -> bool:
        """Remember a value for the user, in all sessions; see ``MemoryManager.store_memory``.

        Args:
            key: Its name.
            value: Any JSON value.
            ttl: Lifetime in seconds; None: that of the configuration.
            importance: 0..1.
            category: fact, topic, preference, context or emotion.
            source: Where it comes from, such as a session and its newest message; None: unknown.
        """
        return await self._memories.store_memory(
            key, value, ttl, importance=importance, category=category, source=source
        )

    async def history(self, key: str) -> list[MemoryVersion]:
        """Return the values that a memory of the user had, oldest first, then the present one."""
        return await self._memories.history(key)

    async def get_memory(self, key: str, *, as_of: datetime | None = None) -> JSONValue:
        """Return a value, equal to what was stored, or None."""
        return await self._memories.get_memory(key, as_of=as_of)

    async def list_memories(self) -> list[str]:
        """Return the keys, by time of creation, then key."""
        return await self._memories.list_memories()

    async def list_entries(self) -> list[MemoryEntry]:
        """Return the memories of the user with their values, in the order of ``list_memories``."""
        return await self._memories.list_entries()

    async def search_memories(self, query: str, limit: int | None = None) -> list[JSONObject]:
        """Return the memories whose key or value contains ``query``; see ``MemoryManager.search_memories``."""
        return await self._memories.search_memories(query, limit)

    async def delete_memory(self, key: str) -> bool:
        """Delete one memory; return False if there is none."""
        return await self._memories.delete_memory(key)

    async def clear_memories(self) -> int:
        """Delete all memories of the user, not those of the sessions; return their number."""
        return await self._memories.clear_memories()
