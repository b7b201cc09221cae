"""``LuminoraSessionService`` and ``LuminoraMemoryService``: sessions, states and memories of the Google ADK."""

# pyright: reportMissingImports=false

import asyncio
import json
import re
import sqlite3
import unicodedata
from asyncio import AbstractEventLoop, Lock
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs
from pydantic import PrivateAttr
from pydantic_core import to_jsonable_python

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.export_import import ImportReceipt, OnExisting
from luminoracore_sdk.application.exchange.foreign import tool_call
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MemoryPut,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    SessionQuery,
    TurnRecords,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.recall import Recall, RecallScope, recall_filter
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.domain import errors
from luminoracore_sdk.domain.errors import ConflictError, InvalidJSONError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, check_json
from luminoracore_sdk.domain.memory import MemoryEntry, MemorySource
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.scopes import Owner
from luminoracore_sdk.domain.session import Session as StoredSession
from luminoracore_sdk.domain.settings import MemoryConfig
from luminoracore_sdk.integrations.importing import OwnStore, exchange_of, opened, parsed
from luminoracore_sdk.integrations.item_store import (
    ITEM,
    ItemStore,
    Storage,
    completed,
    composed_id,
    digest_id,
    stable_id,
    text_place,
)

import_extra("google.adk", needed_by="LuminoraSessionService", extra="google-adk")

from google.adk.errors import StaleSessionError  # noqa: E402
from google.adk.errors.already_exists_error import AlreadyExistsError  # noqa: E402
from google.adk.errors.session_not_found_error import SessionNotFoundError  # noqa: E402
from google.adk.events.event import Event  # noqa: E402
from google.adk.memory.base_memory_service import BaseMemoryService, SearchMemoryResponse  # noqa: E402
from google.adk.memory.memory_entry import MemoryEntry as FoundMemory  # noqa: E402
from google.adk.platform import time as platform_time  # noqa: E402
from google.adk.platform import uuid as platform_uuid  # noqa: E402
from google.adk.sessions.base_session_service import (  # noqa: E402
    BaseSessionService,
    GetSessionConfig,
    ListSessionsResponse,
)
from google.adk.sessions.session import Session  # noqa: E402
from google.adk.sessions.state import State  # noqa: E402

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LuminoraMemoryService", "LuminoraSessionService", "import_history"]

_FRAMEWORK = "google-adk"
_MARK = ITEM
"""The key of the memory of a session that says up to which event the states are written."""

_GAP = 16
"""Most events without a change of state that follow the mark; so many are read with every session."""

_ALL = 2**31 - 1
_AT_ONCE = 16
_MOST_FOUND = 10
_DECAY = MemoryConfig().decay_factor
_MEMORY_TAG = "google-adk-memory"
_STALE = "The session has been modified in storage since it was loaded; get it again before appending more events."
_WORD = re.compile(r"\w+")


@attrs.frozen
class _Mark:
    """Up to which event the states are written, and the version of the memory that says so."""

    position: int = 0
    version: int = 0


class _Session(Session):
    """A session that knows which state of the storage it is."""

    _position: int = PrivateAttr(default=0)
    _mark: _Mark = PrivateAttr(default=_Mark())

    def revision(self) -> tuple[int, _Mark]:
        """Return the position of the newest event, and the mark."""
        return self._position, self._mark

    def at(self, position: int, mark: _Mark) -> Self:
        """Set the revision."""
        self._position, self._mark = position, mark
        return self


@attrs.frozen
class _Key:
    """The key of a session: app, user, id."""

    app: str
    user: str
    session: str

    @property
    def stored_id(self) -> str:
        """The id of the session in the storage."""
        return composed_id(self.app, self.user, self.session)

    @classmethod
    def of(cls, session: Session) -> Self:
        """Return the key of a session."""
        return cls(session.app_name, session.user_id, session.id)


@attrs.frozen
class _Delta:
    """A change of states.

    Attributes:
        values: The new values, by key with prefix.
        position: The event that makes it; 0: the creation of the session.
        at_us: When that was stored.
    """

    values: JSONObject
    position: int
    at_us: int


@attrs.frozen(kw_only=True)
class _Loaded:
    """A session as it is stored.

    Attributes:
        document: Its app, user, id, time of creation and initial state.
        state: The state of the session alone.
        events: The newest events, oldest first.
        position: The position of the newest event.
        mark: Up to which event the states are written; no later event changes any.
    """

    document: JSONObject
    state: JSONObject
    events: list[Event]
    position: int
    mark: _Mark

    @property
    def last_update_time(self) -> float:
        """The timestamp of the newest event, or the time of creation."""
        return self.events[-1].timestamp if self.events else self.document["time"]

    def session(self, events: list[Event], app: JSONObject, user: JSONObject) -> _Session:
        """Return the session of the framework with merged state."""
        state = {**self.state}
        state.update((State.APP_PREFIX + key, value) for key, value in app.items())
        state.update((State.USER_PREFIX + key, value) for key, value in user.items())
        return _Session(
            app_name=self.document["app"],
            user_id=self.document["user"],
            id=self.document["session"],
            state=state,
            events=events,
            last_update_time=self.last_update_time,
        ).at(self.position, self.mark)


class _States:
    """The states of sessions, users and apps: a memory for each key.

    A memory has the key and the value of the state. One whose key ids do not allow, or whose value is not JSON in the
    strict sense, has a digest as its key, and both in its value.
    """

    def __init__(self, items: ItemStore) -> None:
        self._items = items
        self._storage = items.storage

    async def read(self, scope: MemoryScope) -> JSONObject:
        """Return a state."""
        return self.of(await self._storage.list_memories(scope))

    def of(self, memories: Iterable[MemoryRecord]) -> JSONObject:
        """Return the state that memories make."""
        return dict(self._entry(memory) for memory in memories if memory.key != _MARK)

    def mark_of(self, memories: Iterable[MemoryRecord]) -> _Mark:
        """Return the mark among the memories of a session."""
        for memory in memories:
            if memory.key == _MARK:
                return _Mark(self._items.unwrapped(self._value(memory)), memory.version)
        return _Mark()

    def _value(self, memory: MemoryRecord) -> JSONValue:
        return self._items.services.codec.memory(memory, backend=self._storage.backend).value

    def _entry(self, memory: MemoryRecord) -> tuple[str, Any]:
        value = self._value(memory)
        wrapped = self._items.unwrapped(value)
        return (memory.key, value) if wrapped is None else (wrapped["key"], wrapped["value"])

    async def put(
        self, scope: MemoryScope, values: Mapping[str, Any], source: MemorySource, *, mark: _Mark | None = None
    ) -> _Mark:
        """Put values, and the mark with the last of them.

        Args:
            scope: The state.
            values: The values.
            source: The event that changes them, which becomes the position of the mark.
            mark: The mark that is replaced; None: none is.

        Raises:
            ConflictError: Another mark is stored.
            SessionNotFoundError: There is no such session.
        """
        puts = [MemoryPut(self._record(scope, key, value, source)) for key, value in values.items()]
        if mark is not None:
            entry = self._items.wrapped(source.position)
            puts.append(MemoryPut(self._stored(scope, _MARK, entry, source), mark.version))
        stored: list[MemoryRecord] = []
        for first in range(0, len(puts), MAX_BATCH):
            stored = await self._storage.change_memories(scope, puts[first : first + MAX_BATCH])
        return _Mark(source.position, stored[-1].version) if stored else _Mark()

    async def put_late(self, scope: MemoryScope, key: str, value: Any, source: MemorySource, at_us: int) -> None:
        """Put a value that was to be put at a time, unless another one was put since."""
        record = self._record(scope, key, value, source)
        found = await self._storage.find_memory(scope, record.key)
        if found is not None and found.updated_at_us >= at_us:
            return
        with suppress(ConflictError):
            await self._storage.put_memory(record, expected_version=0 if found is None else found.version)

    def _record(self, scope: MemoryScope, key: str, value: Any, source: MemorySource) -> MemoryRecord:
        is_plain = stable_id(key) == key and not key.startswith(("luminora:", "sha256:"))
        if is_plain and _is_json(value) and self._items.unwrapped(value) is None:
            return self._stored(scope, key, value, source)
        name = key if is_plain else digest_id(key)
        return self._stored(scope, name, self._items.wrapped({"key": key, "value": value}), source)

    def imported(
        self, scope: MemoryScope, values: Mapping[str, Any], source: MemorySource, *, marks: bool = False
    ) -> list[MemoryRecord]:
        """Return the records of a whole state, and that of the mark."""
        records = [self._record(scope, key, value, source) for key, value in values.items()]
        mark = [self._stored(scope, _MARK, self._items.wrapped(source.position), source)] if marks else []
        return [*records, *mark]

    def _stored(self, scope: MemoryScope, key: str, value: JSONValue, source: MemorySource) -> MemoryRecord:
        now = self._items.services.clock.now()
        entry = MemoryEntry(key=key, value=value, created_at=now, updated_at=now, source=source)
        return self._items.services.codec.memory_record(scope, entry, decay_factor=_DECAY)


class LuminoraSessionService(BaseSessionService):
    """Keeps sessions and states, for ``Runner``.

    A session is the session ``app/user/id`` in the storage, in which slashes of a part are escaped; its user is
    ``Owner(app=…, user=…)``. Its events are messages, which are stored once: an event that is appended again, with
    the same id and the same content, is not. States are memories: of the session, of that user, of ``Owner(app=…)``.

    An event is stored before the states that it changes. If the process is killed in between, whichever process next
    reads the session completes the states from the event; a value that was put since, by another session of the user
    or app, stays.

    Sessions that this service returns know which event is the newest one. Appending to one that is not up to date
    raises ``StaleSessionError`` and stores nothing, whichever process has appended.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
    """

    def __init__(self, storage: Storage) -> None:
        self._items = ItemStore(storage, _FRAMEWORK, reads=_event_of)
        self._storage = self._items.storage
        self._states = _States(self._items)
        self._locks: WeakKeyDictionary[AbstractEventLoop, WeakValueDictionary[str, Lock]] = WeakKeyDictionary()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session.

        Args:
            app_name: The app.
            user_id: The user.
            state: The initial state; keys may have the prefixes ``app:`` and ``user:``.
            session_id: Its id, without the spaces around it; None, or empty: one is generated.

        Raises:
            AlreadyExistsError: The app has a session of this id for the user.
        """
        key = _Key(app_name, user_id, (session_id or "").strip() or platform_uuid.new_uuid())
        return await completed(self._create(key, _persistent(state or {})))

    async def _create(self, key: _Key, state: JSONObject) -> Session:
        new = await self._items.new(key.stored_id)
        owned = _of_user(new, key.app, key.user)
        tagged = attrs.evolve(owned, config=attrs.evolve(owned.config, tags=(_app_tag(key.app),)))
        document = {**attrs.asdict(key), "time": platform_time.get_time(), "state": state}
        session = self._items.with_document(tagged, document)
        try:
            await self._storage.put_session(self._items.services.codec.session_record(session), expected_version=0)
        except ConflictError as exc:
            raise AlreadyExistsError(f"Session with id {key.session} already exists.") from exc
        created = await self._get(key, 0)
        if created is None:
            raise _not_found(key)
        return created

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """Return a session with merged state and its events in the order in which they were stored, or None.

        Args:
            app_name: The app.
            user_id: The user.
            session_id: Its id.
            config: Which events: the newest ones, those from a timestamp on, or both; None: all.
        """
        newest = config.num_recent_events if config is not None else None
        after = config.after_timestamp if config is not None else None
        return await self._get(_Key(app_name, user_id, session_id.strip()), newest, after)

    async def _get(self, key: _Key, newest: int | None, after: float | None = None) -> _Session | None:
        loaded = await self._load(key.stored_id, _ALL if newest is None else newest)
        if loaded is None:
            return None
        app, user = await asyncio.gather(
            self._states.read(_app_scope(key.app)), self._states.read(_user_scope(key.app, key.user))
        )
        events = (
            loaded.events if newest is None else loaded.events[len(loaded.events) - min(newest, len(loaded.events)) :]
        )
        return loaded.session([event for event in events if after is None or event.timestamp >= after], app, user)

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """Return the sessions of a user, or of all users of an app, with merged state and without events.

        They are ordered by ``last_update_time``, then user and id.
        """
        owner = None if user_id is None else _owner(app_name, user_id)
        query = SessionQuery(tag=_app_tag(app_name), user_id=owner, texts=False)
        ids = [header.session_id async for header in headers(self._storage, query)]
        loaded: list[_Loaded] = []
        for first in range(0, len(ids), _AT_ONCE):
            found = await asyncio.gather(*(self._load(one, 1) for one in ids[first : first + _AT_ONCE]))
            loaded += [one for one in found if one is not None]
        app = await self._states.read(_app_scope(app_name))
        users = {
            user: await self._states.read(_user_scope(app_name, user))
            for user in {one.document["user"] for one in loaded}
        }
        sessions = [one.session([], app, users[one.document["user"]]) for one in loaded]
        sessions.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its events and its own state, if there is one."""
        await completed(self._storage.delete_session(_Key(app_name, user_id, session_id.strip()).stored_id))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return what all sessions of a user share, by keys without prefix."""
        return await self._states.read(_user_scope(app_name, user_id))

    # -- events ------------------------------------------------------------------------------------

    async def append_event(self, session: Session, event: Event) -> Event:
        """Store an event and the states that it changes, then add it to the session.

        A partial event is not stored. Keys with the prefix ``temp:`` are removed from the event; the session has them.

        Raises:
            SessionNotFoundError: The session is not stored; it may have been deleted.
            StaleSessionError: Another object has appended to it; nothing was stored.
        """
        if event.partial or any(one == event for one in session.events if one.id == event.id):
            return event
        return await completed(self._append(session, event))

    async def _append(self, session: Session, event: Event) -> Event:
        key = _Key.of(session)
        delta = _persistent(event.actions.state_delta)
        record = _record(self._items, event, delta)
        async with self._lock(key.stored_id):
            last, mark = await self._revision(session)
            try:
                receipt = await self._storage.append_messages(key.stored_id, [record], expected_last=last)
                position = receipt.last_position
                mark = await self._change_states(key, delta, position, mark)
            except errors.SessionNotFoundError as exc:
                raise _not_found(key) from exc
            except ConflictError as exc:
                raise StaleSessionError(_STALE) from exc
            await super().append_event(session=session, event=event)
            session.last_update_time = event.timestamp
            if isinstance(session, _Session):
                session.at(position, mark)
        return event

    def _lock(self, stored_id: str) -> Lock:
        """Return what orders the appends to one session within an event loop."""
        locks = self._locks.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        return locks.setdefault(stored_id, Lock())

    async def _revision(self, session: Session) -> tuple[int, _Mark]:
        """Return the position of the newest event that a session has, and the mark."""
        if isinstance(session, _Session):
            return session.revision()
        key = _Key.of(session)
        loaded = await self._load(key.stored_id, 1)
        if loaded is None:
            raise _not_found(key)
        if loaded.last_update_time > session.last_update_time:
            newest = [one[-1].id if one else None for one in (loaded.events, session.events)]
            if newest[0] != newest[1]:
                raise StaleSessionError(_STALE)
        return loaded.position, loaded.mark

    async def _change_states(self, key: _Key, delta: JSONObject, position: int, mark: _Mark) -> _Mark:
        """Write the states that an event changes; return the new mark."""
        if not delta and 0 <= position - mark.position < _GAP:
            return mark
        app, user, own = _by_scope(delta)
        source = MemorySource(session_id=key.stored_id, position=position)
        await asyncio.gather(
            self._states.put(_app_scope(key.app), app, source),
            self._states.put(_user_scope(key.app, key.user), user, source),
        )
        try:
            return await self._states.put(MemoryScope("session", key.stored_id), own, source, mark=mark)
        except ConflictError:  # another process has seen the event, and was faster
            loaded = await self._load(key.stored_id, 1)
        if loaded is None:
            raise _not_found(key)
        return loaded.mark

    # -- reading -----------------------------------------------------------------------------------

    async def _load(self, stored_id: str, newest: int) -> _Loaded | None:
        """Return a session with so many events or more, once all states are written."""
        while (turn := await self._storage.read_turn(stored_id, newest=max(newest, _GAP))) is not None:
            session = self._items.services.codec.session(turn.session, backend=self._storage.backend)
            document = self._items.document(session)
            if document is None:
                return None
            mark = self._states.mark_of(turn.memories)
            deltas = await self._unwritten(turn, document, mark)
            if not deltas:
                found = await self._items.items(stored_id, turn.messages)
                return _Loaded(
                    document=document,
                    state=self._states.of(turn.memories),
                    events=[Event.model_validate(item) for item in found],
                    position=turn.messages[-1].position if turn.messages else turn.session.last_position,
                    mark=mark,
                )
            with suppress(ConflictError, errors.SessionNotFoundError):
                await self._write(_Key(document["app"], document["user"], document["session"]), deltas, mark)
        return None

    async def _unwritten(self, turn: TurnRecords, document: JSONObject, mark: _Mark) -> list[_Delta]:
        """Return the changes of states behind the mark, oldest first."""
        stored_id = turn.session.session_id
        deltas: list[_Delta] = []
        if not mark.version and document["state"]:
            deltas.append(_Delta(document["state"], 0, turn.session.created_at_us))
        records = [record for record in turn.messages if record.position > mark.position]
        if records and records[0].position > mark.position + 1:
            records = await self._items.read(stored_id, MessageRange(after=mark.position))
        for record in records:
            item = self._items.item(stored_id, record)
            values = {} if item is None else item.get("actions", {}).get("state_delta")
            if values:
                deltas.append(_Delta(values, record.position, record.created_at_us))
        return deltas

    async def _write(self, key: _Key, deltas: Sequence[_Delta], mark: _Mark) -> None:
        """Write changes of states that the process that made them did not write."""
        scopes = _app_scope(key.app), _user_scope(key.app, key.user)
        late: dict[tuple[MemoryScope, str], tuple[Any, MemorySource, int]] = {}
        own: JSONObject = {}
        source = MemorySource(session_id=key.stored_id)
        for delta in deltas:
            source = MemorySource(session_id=key.stored_id, position=delta.position)
            *shared, session = _by_scope(delta.values)
            own |= session
            for scope, values in zip(scopes, shared, strict=True):
                late |= {(scope, name): (value, source, delta.at_us) for name, value in values.items()}
        for (scope, name), put in late.items():
            await self._states.put_late(scope, name, *put)
        await self._states.put(MemoryScope("session", key.stored_id), own, source, mark=mark)

    # -- lifecycle ---------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the storage, if it was made here and no other adapter uses it."""
        await self._items.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        await self.close()


async def import_history(
    source: Path | str, storage: SessionStorage, existing: OnExisting = OnExisting.REFUSE
) -> AsyncIterator[tuple[str, ImportReceipt]]:
    """Store the sessions of ``DatabaseSessionService``, on SQLite or PostgreSQL, or of ``SqliteSessionService``.

    See ``importing``. The framework's own service reads a copy of the tables in a temporary SQLite file, as it may
    change them. Of the states of users and apps, values that the storage has stay.

    Raises:
        SessionExistsError: The storage has another session of the same app, user and id.
        ValidationError: It is no such store.
    """
    items = ItemStore(storage, _FRAMEWORK)
    with TemporaryDirectory() as folder:
        copy = Path(folder, "sessions.db")
        async with opened(source) as own:
            await own.check("DatabaseSessionService", _COLUMNS)
            is_database = "actions" in await own.columns("events") or await own.columns("adk_internal_metadata")
            await _copy(own, copy)
        name = "DatabaseSessionService" if is_database else "SqliteSessionService"
        given = f"sqlite+aiosqlite:///{copy}" if is_database else str(copy)
        module = f"google.adk.sessions.{'database' if is_database else 'sqlite'}_session_service"
        service = getattr(import_extra(module, needed_by="import_history", extra="google-adk"), name)(given)
        try:
            with closing(sqlite3.connect(copy)) as listed:
                sessions = listed.execute("SELECT app_name, user_id, id FROM sessions ORDER BY update_time").fetchall()
            for app, user, session_id in sessions:
                session = await service.get_session(app_name=app, user_id=user, session_id=session_id)
                yield await _import_session(items, session, existing)
        finally:
            if is_database:
                await service.close()


_COLUMNS = {
    "sessions": ("app_name", "user_id", "id", "state", "update_time"),
    "events": ("id", "app_name", "user_id", "session_id", "timestamp"),
}
_KEYS = {
    "adk_internal_metadata": ("key",),
    "app_states": ("app_name",),
    "user_states": ("app_name", "user_id"),
    "sessions": ("app_name", "user_id", "id"),
    "events": ("app_name", "user_id", "session_id", "id"),
}
"""The primary keys of the tables of a store."""


async def _copy(own: OwnStore, file: Path) -> None:
    """Copy the tables of a store into a new SQLite file."""
    with closing(sqlite3.connect(file)) as target, target:
        for table, key in _KEYS.items():
            names = sorted(await own.columns(table))
            if not names:
                continue
            columns, places = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
            target.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({', '.join(key)}))")
            async for row in own.rows(f"SELECT {columns} FROM {table}"):  # noqa: S608  # names of columns
                values = [value.isoformat(" ") if isinstance(value, datetime) else value for value in row]
                target.execute(f"INSERT INTO {table} VALUES ({places})", values)  # noqa: S608


async def _import_session(items: ItemStore, session: Session, existing: OnExisting) -> tuple[str, ImportReceipt]:
    key, states = _Key.of(session), _States(items)
    app, user, own = _by_scope(_persistent(session.state))
    source = MemorySource(session_id=key.stored_id, position=len(session.events))
    for scope, values in ((_app_scope(key.app), app), (_user_scope(key.app, key.user), user)):
        for record in states.imported(scope, values, source):
            with suppress(ConflictError):
                await items.storage.put_memory(record, expected_version=0)
    began = session.events[0].timestamp if session.events else session.last_update_time
    times = [datetime.fromtimestamp(one, UTC) for one in (began, session.last_update_time)]
    new = StoredSession(
        session_id=key.stored_id, personality={}, provider=None, created_at=times[0], last_activity=times[1]
    )
    owned = _of_user(new, key.app, key.user)
    tagged = attrs.evolve(owned, config=attrs.evolve(owned.config, tags=(_app_tag(key.app),)))
    stored = items.with_document(tagged, {**attrs.asdict(key), "time": began, "state": {}})
    messages = [
        _record(
            items, event, _persistent(event.actions.state_delta), timestamp=datetime.fromtimestamp(event.timestamp, UTC)
        )
        for event in session.events
    ]
    memories = states.imported(MemoryScope("session", key.stored_id), own, source, marks=True)
    receipt = await exchange_of(items).import_session(parsed(items, stored, messages, memories), existing=existing)
    return key.stored_id, receipt


class LuminoraMemoryService(BaseMemoryService):
    """Finds what was said in sessions that were added, for one user of an app.

    A storage with search on answers by recall: by words, the messages around them and, with an embedder, by meaning.
    Otherwise events are found by words in common.

    A session that ``LuminoraSessionService`` keeps in the same storage is not copied: what is appended to it later is
    found too. The events of others are copied, each once.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
    """

    def __init__(self, storage: Storage) -> None:
        self._items = ItemStore(storage, _FRAMEWORK, reads=_event_of)
        self._storage = self._items.storage
        services = self._items.services
        self._recall = Recall(self._storage, services.codec, services.tokens, services.clock)

    async def add_session_to_memory(self, session: Session) -> None:
        """Add a session, or the events that it has since it was added."""
        stored_id = _Key.of(session).stored_id
        found = await self._items.find(stored_id)
        if found is None or self._items.document(found) is None:
            await self.add_events_to_memory(
                app_name=session.app_name, user_id=session.user_id, events=session.events, session_id=session.id
            )
        elif _MEMORY_TAG not in found.config.tags:
            await completed(self._items.change(stored_id, _remembered))

    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,  # noqa: ARG002  # nothing of it is known
    ) -> None:
        """Add events, without those that were added before.

        Args:
            app_name: The app.
            user_id: The user.
            events: The events; those without content are left out.
            session_id: The session from which they are; None: unknown.
            custom_metadata: Ignored.
        """

        def begun(session: StoredSession) -> StoredSession:
            return _remembered(_of_user(session, app_name, user_id))

        records = [
            _record(self._items, event, _persistent(event.actions.state_delta))
            for event in events
            if event.content and event.content.parts
        ]
        distinct = {record.message_id: record for record in records}
        stored_id = composed_id(app_name, user_id, session_id or "", "memory")
        if distinct:
            await completed(self._items.append(stored_id, list(distinct.values()), begun=begun))

    async def search_memory(self, *, app_name: str, user_id: str, query: str) -> SearchMemoryResponse:
        """Return the events that answer a query, at most ten, the best first."""
        owner = _owner(app_name, user_id)
        listed = SessionQuery(user_id=owner, tag=_MEMORY_TAG, texts=False)
        ids = [header.session_id async for header in headers(self._storage, listed)]
        if not ids:
            items: list[Any] = []
        elif self._storage.search is None:
            items = await self._by_words(query, ids)
        else:
            items = await self._recalled(query, owner, ids)
        distinct = {json.dumps(item, sort_keys=True): item for item in items}  # a session and a copy may both have it
        events = [Event.model_validate(item) for item in distinct.values()]
        return SearchMemoryResponse(memories=[_found_memory(event) for event in events if event.content])

    async def _recalled(self, query: str, owner: str, ids: Sequence[str]) -> list[Any]:
        """Return the events that recall finds."""
        only = recall_filter(user_id=owner, session_ids=ids, kinds=("message",), between=None, roles=None)
        hits = await self._recall.find(query, RecallScope(owner), only=only, limit=_MOST_FOUND)
        places = [(hit.session_id or "", hit.message_id or "") for hit in hits]
        records = await asyncio.gather(*(self._storage.find_message(*place) for place in places))
        found = [
            None if record is None else self._items.item(session_id, record)
            for (session_id, _), record in zip(places, records, strict=True)
        ]
        return [item for item in found if item is not None]

    async def _by_words(self, query: str, ids: Sequence[str]) -> list[Any]:
        """Return the events that have words in common with a query, those with most of them first."""
        asked = set(_WORD.findall(_folded(query)))
        scored: list[tuple[int, Any]] = []
        for session_id in ids:
            for item in await self._items.items(session_id, await self._items.read(session_id)):
                parts = item.get("content", {}).get("parts", [])
                text = _folded(" ".join(part["text"] for part in parts if "text" in part))
                common = asked & _words(text)
                common |= {word for word in asked - common if not word.isascii() and word in text}
                if common:
                    scored.append((len(common), item))
        scored.sort(key=lambda one: -one[0])
        return [item for _, item in scored[:_MOST_FOUND]]

    async def close(self) -> None:
        """Close the storage, if it was made here and no other adapter uses it."""
        await self._items.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        await self.close()


def _found_memory(event: Event) -> FoundMemory:
    said_at = datetime.fromtimestamp(event.timestamp, UTC).isoformat()
    return FoundMemory(id=event.id, content=event.content, author=event.author, timestamp=said_at)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _words(text: str) -> set[str]:
    """Return the words of a text, and the parts of those that mix Latin letters with others, as Japanese does."""
    words = set(_WORD.findall(text))
    mixed = [word for word in words if not word.isascii()]
    return words.union(*(map("".join, (part for _, part in groupby(word, _is_latin))) for word in mixed))


def _is_latin(character: str) -> bool:
    return character.isascii() or unicodedata.name(character, "").startswith("LATIN")


def _remembered(session: StoredSession) -> StoredSession:
    """Return a session that search finds."""
    return attrs.evolve(session, config=attrs.evolve(session.config, tags=(*session.config.tags, _MEMORY_TAG)))


def _of_user(session: StoredSession, app: str, user: str) -> StoredSession:
    return attrs.evolve(session, config=attrs.evolve(session.config, user_id=_owner(app, user)))


def _app_tag(app: str) -> str:
    return stable_id(f"google-adk-app:{app}")


def _owner(app: str, user: str | None = None) -> str:
    """Return the owner of what a user of an app has, or of what all of its users share."""
    names = {"app": stable_id(app)} if user is None else {"app": stable_id(app), "user": stable_id(user)}
    try:
        return Owner(**names).id
    except ValidationError:  # too long together
        return Owner(**{kind: digest_id(name) for kind, name in names.items()}).id


def _app_scope(app: str) -> MemoryScope:
    return MemoryScope("user", _owner(app))


def _user_scope(app: str, user: str) -> MemoryScope:
    return MemoryScope("user", _owner(app, user))


def _not_found(key: _Key) -> SessionNotFoundError:
    return SessionNotFoundError(f"Session {key.session} not found.")


def _is_json(value: Any) -> bool:
    try:
        check_json(value)
    except InvalidJSONError:
        return False
    return True


def _persistent(state: Mapping[str, Any]) -> JSONObject:
    """Return what is stored of a state: as JSON, without the keys of one invocation."""
    kept = {key: value for key, value in state.items() if not key.startswith(State.TEMP_PREFIX)}
    return kept if _is_json(kept) else to_jsonable_python(kept, bytes_mode="base64", serialize_unknown=True)


def _by_scope(state: Mapping[str, Any]) -> tuple[JSONObject, JSONObject, JSONObject]:
    """Return what the app, the user and the session have of a state."""
    app: JSONObject = {}
    user: JSONObject = {}
    own: JSONObject = {}
    for key, value in state.items():
        if key.startswith(State.APP_PREFIX):
            app[key.removeprefix(State.APP_PREFIX)] = value
        elif key.startswith(State.USER_PREFIX):
            user[key.removeprefix(State.USER_PREFIX)] = value
        else:
            own[key] = value
    return app, user, own


def _record(items: ItemStore, event: Event, delta: JSONObject, *, timestamp: datetime | None = None) -> MessageRecord:
    """Return the message of an event; equal events have the same id, and others have other ones."""
    dump = partial(event.model_dump, exclude_none=True, exclude_defaults=True, exclude={"actions": {"state_delta"}})
    item = _exact(dump(mode="json"), dump())
    if delta:
        item.setdefault("actions", {})["state_delta"] = delta
    parts = item.get("content", {}).get("parts", [])
    calls = [part["function_call"] for part in parts if "function_call" in part]
    results = [part["function_response"] for part in parts if "function_response" in part]
    metadata: JSONObject = {}
    if calls:
        metadata["tool_calls"] = [
            tool_call(call.get("id", ""), call.get("name", ""), call.get("args", {})) for call in calls
        ]
    if len(results) == 1 and "id" in results[0]:
        metadata["tool_call_id"] = results[0]["id"]
    role = "tool" if results and len(results) == len(parts) else "user" if event.author == "user" else "assistant"
    return items.record(
        item,
        role=role if parts else "system",
        place=text_place(item, "content", "parts"),
        message_id=f"{event.id}:{sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:32]}",
        metadata=metadata,
        timestamp=timestamp,
    )


def _exact(dumped: Any, given: Any) -> Any:
    """Return a value as JSON, with the numbers that pydantic turns into null and the strings that it changes.

    Args:
        dumped: The value in pydantic's mode ``json``, which has no NaN, no infinities and no lone surrogates.
        given: The value in its mode ``python``.
    """
    if type(given) in (float, str):
        return given
    if isinstance(dumped, dict) and isinstance(given, dict) and len(dumped) == len(given):
        names = [name if type(name) is str else key for key, name in zip(dumped, given, strict=True)]
        return dict(zip(names, map(_exact, dumped.values(), given.values()), strict=True))
    if isinstance(dumped, list) and isinstance(given, list | tuple) and len(dumped) == len(given):
        return list(map(_exact, dumped, given))
    return dumped


def _event_of(message: Message) -> JSONObject | None:
    """Return the event of a message that another program stored; only what user and assistant said is one."""
    roles = {"user": "user", "assistant": "model"}
    if message.role not in roles or not isinstance(message.content, str) or message.timestamp is None:
        return None
    return {
        "id": message.id,
        "invocation_id": message.id,
        "author": message.role.value,
        "content": {"role": roles[message.role], "parts": [{"text": message.content}]},
        "timestamp": message.timestamp.timestamp(),
    }
