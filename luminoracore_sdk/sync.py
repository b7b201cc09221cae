"""The documented import for code without ``await``: managers, storages and tools.

Each name is the one of ``luminoracore_sdk.session`` or ``luminoracore_sdk.tools``, which describes it; a call returns
when its result is there, a stream is an iterator, ``async with`` is ``with``. Errors are the same. The calls run on
an event loop of the package's own, on one thread for each process; any number of threads may make them, and so may a
forked process.

Written by scripts/generate_sync.py; do not edit.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast, overload

from luminoracore_sdk import session as aio
from luminoracore_sdk import tools as aio_tools
from luminoracore_sdk.adapters.per_process import SyncFacade, unwrapped
from luminoracore_sdk.adapters.portal import portal
from luminoracore_sdk.application.conversations import ABSENT
from luminoracore_sdk.application.tools import DEFAULT_MAX_STEPS
from luminoracore_sdk.application.turns import DEFAULT_READER_TIMEOUT, DEFAULT_TEMPERATURE
from luminoracore_sdk.domain.memory import MemoryCategory

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
    from datetime import date, datetime
    from types import EllipsisType, TracebackType
    from typing import Any, Literal, Self

    import asyncpg
    from motor.motor_asyncio import AsyncIOMotorClient
    from pymongo import AsyncMongoClient
    from redis.asyncio import Redis, RedisCluster

    from luminoracore_sdk.adapters.encryption.keyring import KeySource
    from luminoracore_sdk.adapters.storage.sqlite.storage import Synchronous
    from luminoracore_sdk.application.erasure import ErasureReceipt
    from luminoracore_sdk.application.leases import TurnLease
    from luminoracore_sdk.application.listings import Order
    from luminoracore_sdk.application.memories import Scope
    from luminoracore_sdk.application.ports.clock import Clock
    from luminoracore_sdk.application.ports.embedding import Embedder
    from luminoracore_sdk.application.ports.optimizer import Optimizer
    from luminoracore_sdk.application.ports.prompting import TokenCounter
    from luminoracore_sdk.application.ports.records import (
        AppendReceipt,
        IndexRecord,
        IndexRewrite,
        Lease,
        MemoryPut,
        MemoryQuery,
        MemoryRecord,
        MemoryScope,
        MessageRange,
        MessageRecord,
        Page,
        Payload,
        Purged,
        RewriteMessage,
        SessionQuery,
        SessionRecord,
        TailReceipt,
        TurnRecords,
    )
    from luminoracore_sdk.application.ports.watching import Change
    from luminoracore_sdk.application.retention import RetentionReport
    from luminoracore_sdk.application.services import Services
    from luminoracore_sdk.application.structured import StructuredResponse
    from luminoracore_sdk.application.tools import Tool
    from luminoracore_sdk.application.turns import Busy, OnFailure, OnStop
    from luminoracore_sdk.bootstrap.config import StorageConfig
    from luminoracore_sdk.bootstrap.tools import T
    from luminoracore_sdk.domain.chat import ChatResponse, ProviderConfig
    from luminoracore_sdk.domain.conversation import Conversation
    from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
    from luminoracore_sdk.domain.memory import MemoryEntry, MemorySource, MemoryVersion
    from luminoracore_sdk.domain.message import Message, MessageRole
    from luminoracore_sdk.domain.recall.hits import Hit, HitKind
    from luminoracore_sdk.domain.retention import RetentionPolicy
    from luminoracore_sdk.domain.session import Session
    from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig
    from luminoracore_sdk.domain.summaries import ConversationPage, SessionChange
    from luminoracore_sdk.domain.usage import Usage
    from luminoracore_sdk.domain.vendors import VendorRules

__all__ = [
    "ConversationManager",
    "EncryptedStorageWrapper",
    "InMemoryStorage",
    "JSONFileStorage",
    "MemoryManager",
    "MongoDBStorage",
    "OptimizedStorageWrapper",
    "PostgreSQLStorage",
    "RedisStorage",
    "RetryingStorage",
    "SQLiteStorage",
    "ScopedMemories",
    "SessionManager",
    "SessionStorage",
    "UserSessions",
    "create_storage",
    "run_tools",
    "send_structured",
]


class SessionStorage(SyncFacade[aio.SessionStorage]):
    """``luminoracore_sdk.session.SessionStorage`` without ``await``."""

    @property
    def backend(self) -> str:
        """The short name of the backend."""
        return self.asynchronous.backend

    def __enter__(self) -> Self:
        self._run(self.asynchronous.__aenter__())
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run(self.asynchronous.__aexit__(exc_type, exc, traceback))

    def open(self) -> None:
        """Open the storage; does nothing if it is open."""
        self._run(self.asynchronous.open())

    def close(self) -> None:
        """Wait for writes in progress, then release what this storage opened; may be called twice."""
        self._run(self.asynchronous.close())

    def ping(self) -> None:
        """Make the cheapest round trip that shows that the backend responds."""
        self._run(self.asynchronous.ping())

    def schema_version(self) -> int:
        """Return the version of the store's layout."""
        return self._run(self.asynchronous.schema_version())

    def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Create or replace the header of a session; its messages and memories stay."""
        return self._run(self.asynchronous.put_session(record, expected_version=expected_version))

    def find_session(self, session_id: str) -> SessionRecord | None:
        """Return the header of a session with its payload, or None."""
        return self._run(self.asynchronous.find_session(session_id))

    def delete_session(self, session_id: str) -> bool:
        """Delete a session with its messages and memories, all or nothing; return False if there is none."""
        return self._run(self.asynchronous.delete_session(session_id))

    def query_sessions(self, query: SessionQuery) -> Page:
        """Return one page of headers without payloads; no message is read."""
        return self._run(self.asynchronous.query_sessions(query))

    def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        """Create a session with a copy of the messages of another one up to a position, all or nothing."""
        return self._run(self.asynchronous.fork_session(source_id, record, at=at, rewrite=rewrite))

    def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
        """Take or renew the lease of a session; neither is a change of the session."""
        return self._run(self.asynchronous.acquire_lease(session_id, holder=holder, ttl_us=ttl_us))

    def release_lease(self, session_id: str, *, fence: int) -> bool:
        """End a lease; return False if it has passed to another holder, or there is no such session."""
        return self._run(self.asynchronous.release_lease(session_id, fence=fence))

    def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Append 1..1,000 messages, all or none, at the next positions, and fold them into the summary."""
        return self._run(
            self.asynchronous.append_messages(session_id, messages, expected_last=expected_last, fence=fence)
        )

    def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Return the messages of a range, oldest first."""
        return self._run(self.asynchronous.read_messages(session_id, span))

    def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None, chunk: int = 500
    ) -> Generator[MessageRecord, None, None]:
        """Yield the messages of a range, oldest first, in constant memory."""
        return self._iterate(self.asynchronous.stream_messages(session_id, after=after, before=before, chunk=chunk))

    def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Remove every message above a position, all or nothing; the next append continues from there."""
        return self._run(self.asynchronous.truncate_messages(session_id, after=after))

    def find_message(self, session_id: str, message_id: str) -> MessageRecord | None:
        """Return the message of an id, or None; does not search through the history."""
        return self._run(self.asynchronous.find_message(session_id, message_id))

    def replace_tail(
        self,
        session_id: str,
        *,
        after: int,
        messages: Sequence[MessageRecord] = (),
        expected_last: int | None = None,
        expected_change: int | None = None,
        fence: int | None = None,
    ) -> TailReceipt:
        """Remove every message above a position and append others there, all or nothing."""
        return self._run(
            self.asynchronous.replace_tail(
                session_id,
                after=after,
                messages=messages,
                expected_last=expected_last,
                expected_change=expected_change,
                fence=fence,
            )
        )

    def update_message(
        self,
        session_id: str,
        position: int,
        *,
        payload: Payload,
        expected: Payload,
        brief: Payload | None = None,
        index: Payload | None = None,
    ) -> MessageRecord:
        """Replace the payload of a message, if it is the expected one."""
        return self._run(
            self.asynchronous.update_message(
                session_id, position, payload=payload, expected=expected, brief=brief, index=index
            )
        )

    def read_index(self, session_id: str, span: MessageRange) -> list[IndexRecord]:
        """Return what an index of the messages of a range is made of, oldest first; payloads are not read."""
        return self._run(self.asynchronous.read_index(session_id, span))

    def rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite]) -> int:
        """Replace the indexes of 1..1,000 messages, in any order, each only if it is still the one that was read."""
        return self._run(self.asynchronous.rewrite_index(session_id, changes))

    def watch(
        self, session_id: str, *, after: int = 0, seen: int | None = None, poll_seconds: float = 0.5
    ) -> Generator[Change, None, None]:
        """Yield what is stored above a position, then every change that follows, until the session is deleted."""
        return self._iterate(self.asynchronous.watch(session_id, after=after, seen=seen, poll_seconds=poll_seconds))

    def read_turn(self, session_id: str, *, newest: int) -> TurnRecords | None:
        """Return the header of a session, its memories and its newest messages, or None."""
        return self._run(self.asynchronous.read_turn(session_id, newest=newest))

    def put_memory(
        self, record: MemoryRecord, *, max_entries: int | None = None, expected_version: int | None = None
    ) -> MemoryRecord:
        """Create or replace a memory: ``change_memories`` with one put."""
        return self._run(
            self.asynchronous.put_memory(record, max_entries=max_entries, expected_version=expected_version)
        )

    def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Put and delete memories of one scope, all or nothing."""
        return self._run(self.asynchronous.change_memories(scope, puts, deletes=deletes, max_entries=max_entries))

    def touch_memories(self, scope: MemoryScope, keys: Sequence[str], *, expires_at_us: int | None) -> int:
        """Change when memories expire, all or nothing; everything else stays, also their version."""
        return self._run(self.asynchronous.touch_memories(scope, keys, expires_at_us=expires_at_us))

    def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return one memory, or None."""
        return self._run(self.asynchronous.find_memory(scope, key))

    def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        """Return memories of a scope; none for an unknown scope."""
        return self._run(self.asynchronous.list_memories(scope, query))

    def list_memory_owners(self, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> list[str]:
        """Return one page of the ids of users that have memories, in a fixed order of the backend's own."""
        return self._run(self.asynchronous.list_memory_owners(prefix=prefix, after=after, limit=limit))

    def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete one memory; return False if there is none."""
        return self._run(self.asynchronous.delete_memory(scope, key))

    def clear_memories(self, scope: MemoryScope) -> int:
        """Delete every memory of a scope; return their number."""
        return self._run(self.asynchronous.clear_memories(scope))

    def purge_expired(self) -> Purged:
        """Remove expired sessions, with their messages and memories, and expired memories."""
        return self._run(self.asynchronous.purge_expired())

    def save_session(self, session_id: str, data: JSONObject) -> bool:
        """Store any JSON object as the session's own document; its messages and memories stay."""
        return self._run(self.asynchronous.save_session(session_id, data))

    def load_session(self, session_id: str) -> JSONObject | None:
        """Return the session's own document, equal to the saved one, or None."""
        return self._run(self.asynchronous.load_session(session_id))

    def list_sessions(self) -> list[str]:
        """Return the ids of all sessions, by time of creation, then id."""
        return self._run(self.asynchronous.list_sessions())

    def session_exists(self, session_id: str) -> bool:
        """Return whether there is such a session."""
        return self._run(self.asynchronous.session_exists(session_id))


class InMemoryStorage(SessionStorage):
    """``luminoracore_sdk.session.InMemoryStorage`` without ``await``."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        storage = aio.InMemoryStorage(clock=clock)
        super().__init__(lambda: storage)


class JSONFileStorage(SessionStorage):
    """``luminoracore_sdk.session.JSONFileStorage`` without ``await``."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        lock_timeout: float = 30.0,
        fsync: bool = True,
    ) -> None:
        super().__init__(lambda: aio.JSONFileStorage(directory, clock=clock, lock_timeout=lock_timeout, fsync=fsync))


class SQLiteStorage(SessionStorage):
    """``luminoracore_sdk.session.SQLiteStorage`` without ``await``."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        busy_timeout: float = 30.0,
        synchronous: Synchronous = "FULL",
        table_prefix: str = "luminora_",
        auto_create: bool = True,
    ) -> None:
        super().__init__(
            lambda: aio.SQLiteStorage(
                path,
                clock=clock,
                busy_timeout=busy_timeout,
                synchronous=synchronous,
                table_prefix=table_prefix,
                auto_create=auto_create,
            )
        )


class PostgreSQLStorage(SessionStorage):
    """``luminoracore_sdk.session.PostgreSQLStorage`` without ``await``."""

    def __init__(
        self,
        url: str | None = None,
        *,
        pool: asyncpg.Pool[Any] | None = None,
        schema: str | None = None,
        table_prefix: str = "luminora_",
        auto_create: bool = True,
        pool_size: int = 10,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            lambda: aio.PostgreSQLStorage(
                url,
                pool=pool,
                schema=schema,
                table_prefix=table_prefix,
                auto_create=auto_create,
                pool_size=pool_size,
                connect_timeout=connect_timeout,
                timeout=timeout,
                clock=clock,
            )
        )

    def migrate(self) -> int:
        """Create the tables or bring them up to date, whatever ``auto_create`` says."""
        return self._run(cast("aio.PostgreSQLStorage", self.asynchronous).migrate())


class RedisStorage(SessionStorage):
    """``luminoracore_sdk.session.RedisStorage`` without ``await``."""

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Redis | RedisCluster | None = None,
        db: int | None = None,
        prefix: str = "luminoracore:",
        buckets: int | None = None,
        max_connections: int = 50,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            lambda: aio.RedisStorage(
                url,
                client=client,
                db=db,
                prefix=prefix,
                buckets=buckets,
                max_connections=max_connections,
                connect_timeout=connect_timeout,
                timeout=timeout,
                clock=clock,
            )
        )


class MongoDBStorage(SessionStorage):
    """``luminoracore_sdk.session.MongoDBStorage`` without ``await``."""

    def __init__(
        self,
        url: str | None = None,
        *,
        client: AsyncMongoClient[dict[str, Any]] | AsyncIOMotorClient[dict[str, Any]] | None = None,
        database: str | None = None,
        collection_prefix: str = "luminora_",
        driver: Literal["pymongo", "motor"] = "pymongo",
        max_pool_size: int = 50,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            lambda: aio.MongoDBStorage(
                url,
                client=client,
                database=database,
                collection_prefix=collection_prefix,
                driver=driver,
                max_pool_size=max_pool_size,
                connect_timeout=connect_timeout,
                timeout=timeout,
                clock=clock,
            )
        )


class OptimizedStorageWrapper(SessionStorage):
    """``luminoracore_sdk.session.OptimizedStorageWrapper`` without ``await``."""

    def __init__(self, base: SessionStorage | aio.SessionStorage, optimizer: Optimizer) -> None:
        super().__init__(lambda: aio.OptimizedStorageWrapper(unwrapped(base), optimizer))


class EncryptedStorageWrapper(SessionStorage):
    """``luminoracore_sdk.session.EncryptedStorageWrapper`` without ``await``."""

    def __init__(
        self,
        base: SessionStorage | aio.SessionStorage,
        keys: KeySource,
        *,
        required: bool = False,
        time_limit: float = 30.0,
    ) -> None:
        super().__init__(
            lambda: aio.EncryptedStorageWrapper(unwrapped(base), keys, required=required, time_limit=time_limit)
        )


class RetryingStorage(SessionStorage):
    """``luminoracore_sdk.session.RetryingStorage`` without ``await``."""

    def __init__(
        self,
        base: SessionStorage | aio.SessionStorage,
        *,
        attempts: int = 4,
        first_wait: float = 0.05,
        longest_wait: float = 2.0,
        time_limit: float = 30.0,
    ) -> None:
        super().__init__(
            lambda: aio.RetryingStorage(
                unwrapped(base),
                attempts=attempts,
                first_wait=first_wait,
                longest_wait=longest_wait,
                time_limit=time_limit,
            )
        )


def create_storage(
    config: StorageConfig | str | None = None,
    optimizer: Optimizer | None = None,
    *,
    keys: KeySource | None = None,
    clock: Clock | None = None,
    search: str | None = None,
    embedder: Embedder | None = None,
) -> SessionStorage:
    """Create a storage; nothing is opened or created on disk or servers before its first use."""
    storage = aio.shared_storage(config, optimizer, keys=keys, clock=clock, search=search, embedder=embedder)
    return SessionStorage(lambda: storage)


class UserSessions(SyncFacade[aio.UserSessions]):
    """``luminoracore_sdk.session.UserSessions`` without ``await``."""

    @property
    def user_id(self) -> str:
        """The user."""
        return self.asynchronous.user_id

    @property
    def tenant(self) -> str | None:
        """The tenant."""
        return self.asynchronous.tenant

    @property
    def app(self) -> str | None:
        """The app."""
        return self.asynchronous.app

    @property
    def can_recall(self) -> bool:
        """Whether search is on."""
        return self.asynchronous.can_recall

    def create_session(
        self,
        personality: Mapping[str, Any] | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        session_config: SessionConfig | Mapping[str, Any] | None = None,
    ) -> str:
        """Create a session of the user and return its id; see ``SessionManager.create_session``."""
        return self._run(self.asynchronous.create_session(personality, provider_config, session_config))

    def get_session(self, session_id: str) -> Session | None:
        """Return a session, unsaved changes included, or None."""
        return self._run(self.asynchronous.get_session(session_id))

    def load_session(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> Session | None:
        """Return a session as it is stored, or None; see ``SessionManager.load_session``."""
        return self._run(self.asynchronous.load_session(session_id, provider_config=provider_config))

    def save_session(self, session_id: str) -> bool:
        """Write all unsaved changes of a session; return False if there is no such session."""
        return self._run(self.asynchronous.save_session(session_id))

    def delete_session(self, session_id: str) -> bool:
        """Delete a session with its conversation and memory; return False if there is none."""
        return self._run(self.asynchronous.delete_session(session_id))

    def update_personality(self, session_id: str, personality: Mapping[str, Any]) -> bool:
        """Replace some top-level fields of the personality; return False if there is no such session."""
        return self._run(self.asynchronous.update_personality(session_id, personality))

    def update_provider(self, session_id: str, provider_config: Mapping[str, Any] | ProviderConfig) -> bool:
        """Change the provider or model of a session; return False if there is no such session."""
        return self._run(self.asynchronous.update_provider(session_id, provider_config))

    def update_session(
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
        return self._run(
            self.asynchronous.update_session(
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
        )

    def suggest_title(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> str:
        """Ask the provider for a title of the conversation; see ``SessionManager.suggest_title``."""
        return self._run(self.asynchronous.suggest_title(session_id, provider_config=provider_config))

    def send_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
        temperature: float = DEFAULT_TEMPERATURE,
        max_tokens: int | None = None,
        **options: Any,
    ) -> ChatResponse:
        """Send a message to the provider, and store question and answer; see ``SessionManager.send_message``."""
        return self._run(self.asynchronous.send_message(session_id, message, temperature, max_tokens, **options))

    def stream_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
        temperature: float = DEFAULT_TEMPERATURE,
        max_tokens: int | None = None,
        **options: Any,
    ) -> Generator[ChatResponse, None, None]:
        """Yield the answer in deltas; see ``SessionManager.stream_message``."""
        return self._iterate(self.asynchronous.stream_message(session_id, message, temperature, max_tokens, **options))

    def edit_message(
        self, session_id: str, message_id: str, message: str | Message | Mapping[str, Any], **options: Any
    ) -> ChatResponse:
        """Replace a message of the user, and all behind it; see ``SessionManager.edit_message``."""
        return self._run(self.asynchronous.edit_message(session_id, message_id, message, **options))

    def stream_edit_message(
        self, session_id: str, message_id: str, message: str | Message | Mapping[str, Any], **options: Any
    ) -> Generator[ChatResponse, None, None]:
        """Yield the answer to an edited message in deltas; see ``SessionManager.stream_edit_message``."""
        return self._iterate(self.asynchronous.stream_edit_message(session_id, message_id, message, **options))

    def regenerate(self, session_id: str, message_id: str | None = None, **options: Any) -> ChatResponse:
        """Ask a question again; see ``SessionManager.regenerate``."""
        return self._run(self.asynchronous.regenerate(session_id, message_id, **options))

    def stream_regenerate(
        self, session_id: str, message_id: str | None = None, **options: Any
    ) -> Generator[ChatResponse, None, None]:
        """Yield a new answer in deltas; see ``SessionManager.stream_regenerate``."""
        return self._iterate(self.asynchronous.stream_regenerate(session_id, message_id, **options))

    def alternatives(self, session_id: str, message_id: str) -> list[list[Message]]:
        """Return what a message has replaced; see ``SessionManager.alternatives``."""
        return self._run(self.asynchronous.alternatives(session_id, message_id))

    def choose(self, session_id: str, message_id: str, number: int) -> list[Message]:
        """Put an alternative in the place of a message; see ``SessionManager.choose``."""
        return self._run(self.asynchronous.choose(session_id, message_id, number))

    def rewind(self, session_id: str, to: str | int) -> list[Message]:
        """Remove every message behind one; see ``SessionManager.rewind``."""
        return self._run(self.asynchronous.rewind(session_id, to))

    def fork(
        self,
        session_id: str,
        at: str | int | None = None,
        *,
        new_session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Copy a session up to a message into a new one of the user; see ``SessionManager.fork``."""
        return self._run(self.asynchronous.fork(session_id, at, new_session_id=new_session_id, metadata=metadata))

    def annotate(self, session_id: str, message_id: str, annotations: JSONObject) -> Message:
        """Add annotations to a message; see ``SessionManager.annotate``."""
        return self._run(self.asynchronous.annotate(session_id, message_id, annotations))

    def redact(self, session_id: str, message_id: str) -> Message:
        """Remove the content of a message for good; see ``SessionManager.redact``."""
        return self._run(self.asynchronous.redact(session_id, message_id))

    def delete_messages(self, session_id: str, message_ids: Iterable[str]) -> int:
        """Delete messages; see ``SessionManager.delete_messages``."""
        return self._run(self.asynchronous.delete_messages(session_id, message_ids))

    def clear_conversation(self, session_id: str) -> bool:
        """Remove every message of a session, not its memory; return False if there is no such session."""
        return self._run(self.asynchronous.clear_conversation(session_id))

    def get_conversation(self, session_id: str) -> Conversation | None:
        """Return the newest ``max_history`` messages of a session, or None."""
        return self._run(self.asynchronous.get_conversation(session_id))

    def get_messages(
        self,
        session_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Message]:
        """Return messages, oldest first; see ``ConversationManager.get_messages``."""
        return self._run(self.asynchronous.get_messages(session_id, limit, offset, before=before, after=after))

    def list_sessions(self, *, tag: str | None = None) -> list[str]:
        """Return the ids of the user's sessions, with one tag if given, by time of creation, then id."""
        return self._run(self.asynchronous.list_sessions(tag=tag))

    def get_session_info(self, session_id: str) -> JSONObject | None:
        """Return a summary of a session, or None; see ``SessionManager.get_session_info``."""
        return self._run(self.asynchronous.get_session_info(session_id))

    def list_conversations(
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
        return self._run(
            self.asynchronous.list_conversations(
                tag=tag, archived=archived, pinned=pinned, order=order, limit=limit, cursor=cursor
            )
        )

    def usage(self, session_id: str | None = None, *, since: date | None = None, until: date | None = None) -> Usage:
        """Return the tokens of a session, or of all sessions of the user; see ``SessionManager.usage``."""
        return self._run(self.asynchronous.usage(session_id, since=since, until=until))

    def stop(self, session_id: str) -> bool:
        """Stop the answer that is under way; see ``SessionManager.stop``."""
        return self._run(self.asynchronous.stop(session_id))

    def watch(self, session_id: str, *, after: int | str = 0) -> Generator[SessionChange, None, None]:
        """Yield the changes of a session; see ``SessionManager.watch``."""
        return self._iterate(self.asynchronous.watch(session_id, after=after))

    def recall(
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
        return self._run(
            self.asynchronous.recall(
                query,
                session_ids=session_ids,
                kinds=kinds,
                limit=limit,
                max_tokens=max_tokens,
                between=between,
                roles=roles,
                around=around,
                explain=explain,
            )
        )

    def store_memory(
        self,
        key: str,
        value: JSONValue,
        ttl: float | None = None,
        *,
        importance: float = 1.0,
        category: MemoryCategory | str = MemoryCategory.FACT,
        source: MemorySource | None = None,
    ) -> bool:
        """Remember a value for the user, in all sessions; see ``MemoryManager.store_memory``."""
        return self._run(
            self.asynchronous.store_memory(key, value, ttl, importance=importance, category=category, source=source)
        )

    def history(self, key: str) -> list[MemoryVersion]:
        """Return the values that a memory of the user had, oldest first, then the present one."""
        return self._run(self.asynchronous.history(key))

    def get_memory(self, key: str, *, as_of: datetime | None = None) -> JSONValue:
        """Return a value, equal to what was stored, or None."""
        return self._run(self.asynchronous.get_memory(key, as_of=as_of))

    def list_memories(self) -> list[str]:
        """Return the keys, by time of creation, then key."""
        return self._run(self.asynchronous.list_memories())

    def list_entries(self) -> list[MemoryEntry]:
        """Return the memories of the user with their values, in the order of ``list_memories``."""
        return self._run(self.asynchronous.list_entries())

    def search_memories(self, query: str, limit: int | None = None) -> list[JSONObject]:
        """Return the memories whose key or value contains ``query``; see ``MemoryManager.search_memories``."""
        return self._run(self.asynchronous.search_memories(query, limit))

    def delete_memory(self, key: str) -> bool:
        """Delete one memory; return False if there is none."""
        return self._run(self.asynchronous.delete_memory(key))

    def clear_memories(self) -> int:
        """Delete all memories of the user, not those of the sessions; return their number."""
        return self._run(self.asynchronous.clear_memories())

    @contextmanager
    def turn_lease(self, session_id: str, *, ttl: float = 30.0) -> Generator[TurnLease, None, None]:
        """Be the only holder of a session's lease within the block, over all processes."""
        with self._within(self.asynchronous.turn_lease(session_id, ttl=ttl)) as lease:
            yield lease


class ScopedMemories(SyncFacade[aio.ScopedMemories]):
    """``luminoracore_sdk.session.ScopedMemories`` without ``await``."""

    def store_memory(
        self,
        key: str,
        value: JSONValue,
        ttl: float | None = None,
        *,
        importance: float = 1.0,
        category: MemoryCategory | str = MemoryCategory.FACT,
        source: MemorySource | None = None,
    ) -> bool:
        """Store a value under a key, superseding the previous one; see ``Memories.store_memory``."""
        return self._run(
            self.asynchronous.store_memory(key, value, ttl, importance=importance, category=category, source=source)
        )

    def put(self, entry: MemoryEntry) -> None:
        """Store an entry, which keeps the values that it supersedes; a session that does not exist is created."""
        self._run(self.asynchronous.put(entry))

    def delete_memory(self, key: str) -> bool:
        """Delete one memory; return False if there is none."""
        return self._run(self.asynchronous.delete_memory(key))

    def clear_memories(self) -> int:
        """Delete all memories; return their number."""
        return self._run(self.asynchronous.clear_memories())

    def find(self, key: str) -> MemoryEntry | None:
        """Return one entry, or None."""
        return self._run(self.asynchronous.find(key))

    def history(self, key: str) -> list[MemoryVersion]:
        """Return the values that a memory had, oldest first, then the present one; none if there is no such memory."""
        return self._run(self.asynchronous.history(key))

    def get_memory(self, key: str, *, as_of: datetime | None = None) -> JSONValue:
        """Return a value, equal to what was stored, or None; see ``Memories.get_memory``."""
        return self._run(self.asynchronous.get_memory(key, as_of=as_of))

    def list_entries(self) -> list[MemoryEntry]:
        """Return the entries, by time of creation, then key."""
        return self._run(self.asynchronous.list_entries())

    def list_memories(self) -> list[str]:
        """Return the keys, by time of creation, then key."""
        return self._run(self.asynchronous.list_memories())

    def search_memories(self, query: str, limit: int | None = None) -> list[JSONObject]:
        """Return the memories whose key or value contains ``query``; see ``Memories.search_memories``."""
        return self._run(self.asynchronous.search_memories(query, limit))


class ConversationManager(SyncFacade[aio.ConversationManager]):
    """``luminoracore_sdk.session.ConversationManager`` without ``await``."""

    def __init__(
        self,
        max_history: int = 100,
        *,
        storage: SessionStorage | aio.SessionStorage | None = None,
        services: Services | None = None,
    ) -> None:
        super().__init__(lambda: aio.ConversationManager(max_history, storage=unwrapped(storage), services=services))

    @property
    def storage(self) -> SessionStorage:
        """The storage that was passed in, or the manager's own."""
        return SessionStorage.over(lambda: self.asynchronous.storage)

    @property
    def max_history(self) -> int:
        """Number of messages that reads without a range return."""
        return self.asynchronous.max_history

    def create_conversation(self, session_id: str) -> Conversation:
        """Create a conversation, or return the existing one."""
        return self._run(self.asynchronous.create_conversation(session_id))

    @overload
    def add_message(self, session_id: str, role: Message | Mapping[str, Any] | str, /) -> Message: ...

    @overload
    def add_message(
        self, session_id: str, role: MessageRole | str, content: JSONValue, metadata: JSONObject | None = None
    ) -> Message: ...

    def add_message(
        self, session_id: str, role: Any, content: Any = ABSENT, metadata: JSONObject | None = None
    ) -> Message:
        """Add one message at the next position."""
        return self._run(self.asynchronous.add_message(session_id, role, content, metadata))

    def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
        encoded: Sequence[MessageRecord] = (),
    ) -> list[Message]:
        """Add several messages to an existing conversation, all or none."""
        return self._run(
            self.asynchronous.append(session_id, messages, expected_last=expected_last, fence=fence, encoded=encoded)
        )

    def encode(self, messages: Sequence[Message]) -> list[MessageRecord]:
        """Return the records of messages that have an id and a time."""
        return self._run(self.asynchronous.encode(messages))

    def clear_conversation(self, session_id: str) -> bool:
        """Remove every message; return False if there is no such session."""
        return self._run(self.asynchronous.clear_conversation(session_id))

    def delete_conversation(self, session_id: str) -> bool:
        """Remove a conversation; return False if there is none."""
        return self._run(self.asynchronous.delete_conversation(session_id))

    def get_conversation(self, session_id: str, *, limit: int | None = None) -> Conversation | None:
        """Return a snapshot with the newest ``limit`` (``max_history`` when None) messages, or None."""
        return self._run(self.asynchronous.get_conversation(session_id, limit=limit))

    def get_messages(
        self,
        session_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Message]:
        """Return messages, oldest first."""
        return self._run(self.asynchronous.get_messages(session_id, limit, offset, before=before, after=after))

    def get_recent_messages(self, session_id: str, count: int) -> list[Message]:
        """Return the newest ``count`` messages, oldest first."""
        return self._run(self.asynchronous.get_recent_messages(session_id, count))

    def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None
    ) -> Generator[Message, None, None]:
        """Yield the messages with positions between ``after`` and ``before``, oldest first, in constant memory."""
        return self._iterate(self.asynchronous.stream_messages(session_id, after=after, before=before))

    def get_last_message(self, session_id: str) -> Message | None:
        """Return the newest message, or None."""
        return self._run(self.asynchronous.get_last_message(session_id))

    def get_message_count(self, session_id: str) -> int:
        """Return the number of messages; 0 for an unknown session."""
        return self._run(self.asynchronous.get_message_count(session_id))

    def search_messages(self, session_id: str, query: str, limit: int | None = None) -> list[Message]:
        """Return the messages whose text contains ``query``, without regard to case."""
        return self._run(self.asynchronous.search_messages(session_id, query, limit))

    def get_messages_by_role(self, session_id: str, role: MessageRole | str, limit: int | None = None) -> list[Message]:
        """Return the messages of one role, oldest first; only the newest ``limit`` of them if given."""
        return self._run(self.asynchronous.get_messages_by_role(session_id, role, limit))

    def list_conversations(self) -> list[str]:
        """Return the ids of all conversations, by time of creation, then id."""
        return self._run(self.asynchronous.list_conversations())

    def get_conversation_summary(self, session_id: str) -> JSONObject | None:
        """Return counts by role, times, first and last message, or None."""
        return self._run(self.asynchronous.get_conversation_summary(session_id))

    def get_conversation_stats(self, session_id: str) -> JSONObject | None:
        """Return counts and lengths, or None."""
        return self._run(self.asynchronous.get_conversation_stats(session_id))

    def find_position(self, session_id: str, records: Sequence[MessageRecord]) -> int | None:
        """Return the last position of records that are stored under their ids; None: they are not."""
        return self._run(self.asynchronous.find_position(session_id, records))

    def read_after(self, session_id: str, position: int, limit: int) -> list[Message]:
        """Return the first ``limit`` messages behind a position, oldest first."""
        return self._run(self.asynchronous.read_after(session_id, position, limit))

    def read_before(self, session_id: str, position: int, limit: int) -> list[Message]:
        """Return the newest ``limit`` messages before a position, oldest first."""
        return self._run(self.asynchronous.read_before(session_id, position, limit))

    def before_newest(self, record: SessionRecord, count: int) -> int:
        """Return the position behind which the newest ``count`` messages of a session stand."""
        return self._run(self.asynchronous.before_newest(record, count))

    def read_stored(self, session_id: str, position: int, limit: int) -> list[Message]:
        """Return what stands at the first ``limit`` positions behind one, deleted messages included."""
        return self._run(self.asynchronous.read_stored(session_id, position, limit))

    def decoded(self, session_id: str, records: Sequence[MessageRecord]) -> list[Message]:
        """Return the messages of records that were read from the storage."""
        return self._run(self.asynchronous.decoded(session_id, records))


class MemoryManager(SyncFacade[aio.MemoryManager]):
    """``luminoracore_sdk.session.MemoryManager`` without ``await``."""

    def __init__(
        self,
        config: MemoryConfig | None = None,
        optimizer: Optimizer | None = None,
        *,
        storage: SessionStorage | aio.SessionStorage | None = None,
        services: Services | None = None,
    ) -> None:
        super().__init__(lambda: aio.MemoryManager(config, optimizer, storage=unwrapped(storage), services=services))

    @property
    def storage(self) -> SessionStorage:
        """The storage that was passed in, or the manager's own."""
        return SessionStorage.over(lambda: self.asynchronous.storage)

    @property
    def config(self) -> MemoryConfig:
        """Limits and switches."""
        return self.asynchronous.config

    @property
    def optimizer(self) -> Optimizer | None:
        """What compresses the memories."""
        return self.asynchronous.optimizer

    def store_memory(
        self,
        session_id: str,
        key: str,
        value: JSONValue,
        ttl: float | None = None,
        *,
        importance: float = 1.0,
        category: MemoryCategory | str = MemoryCategory.FACT,
        scope: Scope = "session",
    ) -> bool:
        """Store a value under a key; it supersedes the previous one, which stays readable."""
        return self._run(
            self.asynchronous.store_memory(
                session_id, key, value, ttl, importance=importance, category=category, scope=scope
            )
        )

    def delete_memory(self, session_id: str, key: str, *, scope: Scope = "session") -> bool:
        """Delete one memory; return False if there is none."""
        return self._run(self.asynchronous.delete_memory(session_id, key, scope=scope))

    def clear_memory(self, session_id: str, *, scope: Scope = "session") -> bool:
        """Delete all memories of a session, of its agent, or of its user; return False if there are none."""
        return self._run(self.asynchronous.clear_memory(session_id, scope=scope))

    def cleanup_expired_memories(self) -> int:
        """Remove what has expired from the whole store; return the number of expired memories."""
        return self._run(self.asynchronous.cleanup_expired_memories())

    def get_memory(
        self, session_id: str, key: str, *, scope: Scope = "session", as_of: datetime | None = None
    ) -> JSONValue:
        """Return a value, equal to what was stored, or None."""
        return self._run(self.asynchronous.get_memory(session_id, key, scope=scope, as_of=as_of))

    def history(self, session_id: str, key: str, *, scope: Scope = "session") -> list[MemoryVersion]:
        """Return the values that a memory had, oldest first, then the present one; none if there is no such memory."""
        return self._run(self.asynchronous.history(session_id, key, scope=scope))

    def get_memory_info(self, session_id: str, key: str) -> JSONObject | None:
        """Return the attributes of a memory other than its value, or None."""
        return self._run(self.asynchronous.get_memory_info(session_id, key))

    def list_memories(self, session_id: str, *, scope: Scope = "session") -> list[str]:
        """Return the keys of a session, of its agent, or of its user, by time of creation, then key."""
        return self._run(self.asynchronous.list_memories(session_id, scope=scope))

    def list_entries(self, session_id: str) -> list[MemoryEntry]:
        """Return the entries of a session, by time of creation, then key."""
        return self._run(self.asynchronous.list_entries(session_id))

    def recall(self, session_id: str, *, decay_factor: float | None = None) -> list[MemoryEntry]:
        """Return the entries whose importance suffices for the prompt, in the order of ``list_memories``."""
        return self._run(self.asynchronous.recall(session_id, decay_factor=decay_factor))

    def recalled_with_wider(self, records: Iterable[MemoryRecord], config: SessionConfig) -> list[MemoryEntry]:
        """Return ``recalled``, then the memories of agent and user of other keys: narrow before wide, a key once."""
        return self._run(self.asynchronous.recalled_with_wider(records, config))

    def search_memories(
        self, session_id: str, query: str, limit: int | None = None, *, scope: Scope = "session"
    ) -> list[JSONObject]:
        """Return the memories whose key or value contains ``query``, without regard to case."""
        return self._run(self.asynchronous.search_memories(session_id, query, limit, scope=scope))

    def get_memory_stats(self, session_id: str) -> JSONObject | None:
        """Return statistics of one session, or None for an unknown one."""
        return self._run(self.asynchronous.get_memory_stats(session_id))

    def get_stats(self) -> JSONObject:
        """Return statistics of the whole store: total_sessions, total_memories, using_core."""
        return self._run(self.asynchronous.get_stats())

    def export_memories(self, session_id: str) -> JSONObject | None:
        """Return all memories of a session as one JSON object, or None for an unknown session."""
        return self._run(self.asynchronous.export_memories(session_id))

    def import_memories(self, session_id: str, blob: JSONObject | str | bytes) -> bool:
        """Store the memories of an export, or of its JSON text; existing keys are replaced."""
        return self._run(self.asynchronous.import_memories(session_id, blob))

    def of_session(self, session_id: str) -> ScopedMemories:
        """Return the memories of a session."""
        return ScopedMemories.over(lambda: self.asynchronous.of_session(session_id))

    def of_user(self, user_id: str, tenant: str | None = None, app: str | None = None) -> ScopedMemories:
        """Return the memories of a user."""
        return ScopedMemories.over(lambda: self.asynchronous.of_user(user_id, tenant, app))

    def of_agent(self, agent: str, tenant: str | None = None) -> ScopedMemories:
        """Return the memories of an agent, which the sessions of all users of a tenant share."""
        return ScopedMemories.over(lambda: self.asynchronous.of_agent(agent, tenant))


class SessionManager(SyncFacade[aio.SessionManager]):
    """``luminoracore_sdk.session.SessionManager`` without ``await``."""

    def __init__(
        self,
        storage: SessionStorage | aio.SessionStorage | None = None,
        *,
        memory_config: MemoryConfig | None = None,
        max_history: int = 100,
        services: Services | None = None,
        token_counter: TokenCounter | None = None,
    ) -> None:
        super().__init__(
            lambda: aio.SessionManager(
                unwrapped(storage),
                memory_config=memory_config,
                max_history=max_history,
                services=services,
                token_counter=token_counter,
            )
        )

    @property
    def storage(self) -> SessionStorage:
        """The storage that was passed in, or the manager's own."""
        return SessionStorage.over(lambda: self.asynchronous.storage)

    @property
    def conversation_manager(self) -> ConversationManager:
        """The messages of the same sessions."""
        return ConversationManager.over(lambda: self.asynchronous.conversation_manager)

    @property
    def memory_manager(self) -> MemoryManager:
        """The memories of the same sessions."""
        return MemoryManager.over(lambda: self.asynchronous.memory_manager)

    def __enter__(self) -> Self:
        self._run(self.asynchronous.__aenter__())
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run(self.asynchronous.__aexit__(exc_type, exc, traceback))

    def close(self) -> None:
        """Close the providers, and the storage if this manager created it."""
        self._run(self.asynchronous.close())

    def create_session(
        self,
        personality: Mapping[str, Any] | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        session_config: SessionConfig | Mapping[str, Any] | None = None,
    ) -> str:
        """Create a session and return its id."""
        return self._run(self.asynchronous.create_session(personality, provider_config, session_config))

    def get_session(self, session_id: str) -> Session | None:
        """Return a session as this manager sees it, unsaved changes included, or None."""
        return self._run(self.asynchronous.get_session(session_id))

    def load_session(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> Session | None:
        """Return a session as it is stored, or None."""
        return self._run(self.asynchronous.load_session(session_id, provider_config=provider_config))

    def save_session(self, session_id: str) -> bool:
        """Write all unsaved changes of a session; return False if there is no such session."""
        return self._run(self.asynchronous.save_session(session_id))

    def delete_session(self, session_id: str) -> bool:
        """Delete a session with its conversation and memory; return False if there is none."""
        return self._run(self.asynchronous.delete_session(session_id))

    def update_personality(self, session_id: str, personality: Mapping[str, Any]) -> bool:
        """Replace some top-level fields of the personality; return False if there is no such session."""
        return self._run(self.asynchronous.update_personality(session_id, personality))

    def update_provider(self, session_id: str, provider_config: Mapping[str, Any] | ProviderConfig) -> bool:
        """Change the provider or model of a session; return False if there is no such session."""
        return self._run(self.asynchronous.update_provider(session_id, provider_config))

    def provider_rules(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> VendorRules:
        """Return what the provider of a session accepts in a prompt."""
        return self._run(self.asynchronous.provider_rules(session_id, provider_config=provider_config))

    def update_session(
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
        """Change the header of a session; return False if there is no such session."""
        return self._run(
            self.asynchronous.update_session(
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
        )

    def suggest_title(
        self, session_id: str, *, provider_config: Mapping[str, Any] | ProviderConfig | None = None
    ) -> str:
        """Ask the session's provider for a title of the conversation; nothing is stored."""
        return self._run(self.asynchronous.suggest_title(session_id, provider_config=provider_config))

    def send_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
        temperature: float = DEFAULT_TEMPERATURE,
        max_tokens: int | None = None,
        *,
        context: str = "",
        on_failure: OnFailure = "discard",
        busy: Busy = "wait",
        fence: int | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """Send a message to the provider, and store question and answer together."""
        return self._run(
            self.asynchronous.send_message(
                session_id,
                message,
                temperature,
                max_tokens,
                context=context,
                on_failure=on_failure,
                busy=busy,
                fence=fence,
                provider_config=provider_config,
                **kwargs,
            )
        )

    def stream_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
        temperature: float = DEFAULT_TEMPERATURE,
        max_tokens: int | None = None,
        *,
        context: str = "",
        on_failure: OnFailure = "discard",
        on_stop: OnStop = "discard",
        busy: Busy = "wait",
        fence: int | None = None,
        provider_config: Mapping[str, Any] | ProviderConfig | None = None,
        reader_timeout: float = DEFAULT_READER_TIMEOUT,
        **kwargs: Any,
    ) -> Generator[ChatResponse, None, None]:
        """Yield the answer in deltas; other arguments and errors are those of ``send_message``."""
        return self._iterate(
            self.asynchronous.stream_message(
                session_id,
                message,
                temperature,
                max_tokens,
                context=context,
                on_failure=on_failure,
                on_stop=on_stop,
                busy=busy,
                fence=fence,
                provider_config=provider_config,
                reader_timeout=reader_timeout,
                **kwargs,
            )
        )

    def edit_message(
        self, session_id: str, message_id: str, message: str | Message | Mapping[str, Any], **options: Any
    ) -> ChatResponse:
        """Replace a message of the user, and all behind it, by another message and its answer."""
        return self._run(self.asynchronous.edit_message(session_id, message_id, message, **options))

    def stream_edit_message(
        self, session_id: str, message_id: str, message: str | Message | Mapping[str, Any], **options: Any
    ) -> Generator[ChatResponse, None, None]:
        """Yield the answer to an edited message in deltas; see ``edit_message`` and ``stream_message``."""
        return self._iterate(self.asynchronous.stream_edit_message(session_id, message_id, message, **options))

    def regenerate(self, session_id: str, message_id: str | None = None, **options: Any) -> ChatResponse:
        """Ask a question again, and put the answer in the place of all behind the question."""
        return self._run(self.asynchronous.regenerate(session_id, message_id, **options))

    def stream_regenerate(
        self, session_id: str, message_id: str | None = None, **options: Any
    ) -> Generator[ChatResponse, None, None]:
        """Yield a new answer in deltas; see ``regenerate`` and ``stream_message``."""
        return self._iterate(self.asynchronous.stream_regenerate(session_id, message_id, **options))

    def alternatives(self, session_id: str, message_id: str) -> list[list[Message]]:
        """Return what a message has replaced, the newest last; each alternative is a list of messages."""
        return self._run(self.asynchronous.alternatives(session_id, message_id))

    def choose(self, session_id: str, message_id: str, number: int) -> list[Message]:
        """Put an alternative in the place of a message and of all behind it, which become an alternative."""
        return self._run(self.asynchronous.choose(session_id, message_id, number))

    def rewind(self, session_id: str, to: str | int) -> list[Message]:
        """Remove every message behind one; return what was removed, oldest first."""
        return self._run(self.asynchronous.rewind(session_id, to))

    def fork(
        self,
        session_id: str,
        at: str | int | None = None,
        *,
        new_session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Copy a session up to a message into a new one, and return its id."""
        return self._run(self.asynchronous.fork(session_id, at, new_session_id=new_session_id, metadata=metadata))

    def annotate(self, session_id: str, message_id: str, annotations: JSONObject) -> Message:
        """Add annotations (feedback, labels) to a message, which are never sent to a provider; None removes one."""
        return self._run(self.asynchronous.annotate(session_id, message_id, annotations))

    def redact(self, session_id: str, message_id: str) -> Message:
        """Remove the content of a message for good, with its metadata and alternatives; id and position stay."""
        return self._run(self.asynchronous.redact(session_id, message_id))

    def delete_messages(self, session_id: str, message_ids: Iterable[str]) -> int:
        """Delete messages: content, metadata and alternatives are gone for good."""
        return self._run(self.asynchronous.delete_messages(session_id, message_ids))

    def recall(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_ids: Collection[str] | None = None,
        kinds: Collection[HitKind] = ("message", "memory"),
        limit: int = 10,
        max_tokens: int | None = None,
        between: tuple[datetime | None, datetime | None] | None = None,
        roles: Collection[str] | None = None,
        around: int = 0,
        explain: bool = False,
    ) -> list[Hit]:
        """Return the messages and memories that answer a query, the best first."""
        return self._run(
            self.asynchronous.recall(
                query,
                user_id=user_id,
                session_ids=session_ids,
                kinds=kinds,
                limit=limit,
                max_tokens=max_tokens,
                between=between,
                roles=roles,
                around=around,
                explain=explain,
            )
        )

    def stop(self, session_id: str) -> bool:
        """Stop the answer of a session that is under way, and wait until the turn has ended."""
        return self._run(self.asynchronous.stop(session_id))

    def watch(self, session_id: str, *, after: int | str = 0) -> Generator[SessionChange, None, None]:
        """Yield the messages behind a position, then every change that follows, until the session is deleted."""
        return self._iterate(self.asynchronous.watch(session_id, after=after))

    def erase_user(self, user_id: str, tenant: str | None = None, app: str | None = None) -> ErasureReceipt:
        """Delete every session of a user, with messages and memories, and the memories of the user."""
        return self._run(self.asynchronous.erase_user(user_id, tenant, app))

    def apply_retention(
        self, policy: RetentionPolicy, *, user_id: str | None = None, dry_run: bool = False
    ) -> RetentionReport:
        """Delete the sessions and messages that a policy does not keep."""
        return self._run(self.asynchronous.apply_retention(policy, user_id=user_id, dry_run=dry_run))

    def export_user(
        self, user_id: str, tenant: str | None = None, app: str | None = None
    ) -> Generator[str, None, None]:
        """Yield everything that is stored of a user as lines of JSON, which ``luminora sessions import`` reads."""
        return self._iterate(self.asynchronous.export_user(user_id, tenant, app))

    def get_conversation(self, session_id: str) -> Conversation | None:
        """Return the newest ``max_history`` messages of a session, or None."""
        return self._run(self.asynchronous.get_conversation(session_id))

    def clear_conversation(self, session_id: str) -> bool:
        """Remove every message of a session, not its memory; return False if there is no such session."""
        return self._run(self.asynchronous.clear_conversation(session_id))

    def list_sessions(self, *, user_id: str | None = None, tag: str | None = None) -> list[str]:
        """Return the ids of sessions, of one user or with one tag if given, by time of creation, then id."""
        return self._run(self.asynchronous.list_sessions(user_id=user_id, tag=tag))

    def list_conversations(
        self,
        user_id: str | None = None,
        *,
        tag: str | None = None,
        archived: bool | None = False,
        pinned: bool | None = None,
        order: Order = "activity",
        limit: int = 50,
        cursor: str | None = None,
    ) -> ConversationPage:
        """Return one page of a list of conversations, the newest first, without reading a message."""
        return self._run(
            self.asynchronous.list_conversations(
                user_id, tag=tag, archived=archived, pinned=pinned, order=order, limit=limit, cursor=cursor
            )
        )

    def usage(
        self,
        session_id: str | None = None,
        *,
        user_id: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> Usage:
        """Return the tokens of a session, of a user's sessions, or of all, without reading a message."""
        return self._run(self.asynchronous.usage(session_id, user_id=user_id, since=since, until=until))

    def get_session_info(self, session_id: str) -> JSONObject | None:
        """Return a summary of a session, or None."""
        return self._run(self.asynchronous.get_session_info(session_id))

    def for_user(self, user_id: str, tenant: str | None = None, app: str | None = None) -> UserSessions:
        """Return a handle on the sessions and memories of one user, which reaches no others."""
        return UserSessions.over(lambda: self.asynchronous.for_user(user_id, tenant, app))

    @contextmanager
    def turn_lease(self, session_id: str, *, ttl: float = 30.0) -> Generator[TurnLease, None, None]:
        """Be the only holder of a session's lease within the block, over all processes."""
        with self._within(self.asynchronous.turn_lease(session_id, ttl=ttl)) as lease:
            yield lease


def run_tools(
    manager: SessionManager,
    session_id: str,
    message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]] | None,
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    max_steps: int = DEFAULT_MAX_STEPS,
    on_delta: Callable[[ChatResponse], Awaitable[None] | None] | None = None,
    **options: Any,
) -> ChatResponse:
    """Send a message with tools, run the tools that the model calls, and return the answer after them."""
    return portal().run(
        aio_tools.run_tools(
            manager.asynchronous, session_id, message, tools, max_steps=max_steps, on_delta=on_delta, **options
        )
    )


def send_structured(
    manager: SessionManager,
    session_id: str,
    message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
    kind: type[T],
    *,
    repair: int = 1,
    **options: Any,
) -> StructuredResponse[T]:
    """Send a message and return the answer as an instance of a class."""
    return portal().run(
        aio_tools.send_structured(manager.asynchronous, session_id, message, kind, repair=repair, **options)
    )
