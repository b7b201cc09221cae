"""What the adapters for agent frameworks share: the items of a framework, stored as messages of sessions.

A stored item is a message that every other part of the package can read: its role, its text as content, its tool
calls where they are always kept. What the framework needs besides is in the metadata, under the reserved key ``ITEM``:

``framework``
    The name of the framework, which is that of its extra.
``value``
    The item, equal to the stored one in every field and in the order of keys, but for the text: the place that
    ``content_at`` names holds null, as the text is the content of the message.
``content_at``
    The keys and indices that lead to the text; absent if the text is in ``value`` too.
``json``
    Instead of ``value``, the item as JSON text, if it is not JSON in the strict sense: it has NaN, an infinity, bytes
    (as ``{"luminora:bytes": base64}``), or more than 200 levels.
``bytes``
    The key of these instead of ``luminora:bytes``, if that is in the item.

So an edited message is edited for the framework, too, and a deleted one is gone for it. The documents of a framework
that are no messages are kept in the metadata of a session, in the same form.
"""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote

import attrs

from luminoracore_sdk.adapters.portal import portal
from luminoracore_sdk.application.off_loop import off_loop
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.tombstones import is_erased
from luminoracore_sdk.bootstrap.config import StorageConfig, StorageType, storage_config_from_url
from luminoracore_sdk.bootstrap.factory import shared_storage
from luminoracore_sdk.bootstrap.managers import default_services, searching
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    ConflictError,
    InvalidIdError,
    InvalidJSONError,
    SessionNotFoundError,
)
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, check_json
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message, is_deleted
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.values import check_id

__all__ = [
    "ITEM",
    "ItemStore",
    "Place",
    "Storage",
    "completed",
    "composed_id",
    "digest_id",
    "run",
    "stable_id",
    "text_place",
]

ITEM = "luminora:item"
"""The key of a message's metadata under which its item is kept."""

_BYTES = "luminora:bytes"
_ALL = 2**31 - 1
"""A limit that means all: the largest that every backend takes."""

Storage = SessionStorage | StorageConfig | str
"""A storage, or its configuration or URL, of which the adapter makes a shared storage of its own."""

Place = tuple[str | int, ...]
"""The keys and indices that lead to a value within an item."""

T = TypeVar("T")


def stable_id(value: str) -> str:
    """Return an id of the framework, or a digest of it if it is longer or has other characters than ids may have."""
    try:
        return check_id(value)
    except InvalidIdError:
        return digest_id(value)


def digest_id(value: str) -> str:
    """Return a digest of an id of the framework."""
    return f"sha256:{sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()}"


def composed_id(*parts: str) -> str:
    """Return one id for several, ``a/b/c``; a slash within a part is escaped, so that no two are confused."""
    return stable_id("/".join(quote(part, safe=" !$&'()*+,:;=@~", errors="surrogatepass") for part in parts))


def text_place(item: Any, *place: str | int) -> Place | None:
    """Return the place of the text of an item.

    Args:
        item: The item.
        place: The place of its content.

    Returns:
        That of the content if it is a string, that of its text if it is a list with a single text part, and that of
        the content if it is another list; None: there is neither.
    """
    try:
        content = _at(item, place)
    except (LookupError, TypeError):
        return None
    if isinstance(content, str):
        return place
    if not isinstance(content, list) or not content:
        return None
    only = content[0]
    if len(content) == 1 and isinstance(only, dict) and isinstance(only.get("text"), str):
        return (*place, 0, "text")
    return place


def _at(item: Any, place: Place) -> Any:
    for step in place:
        item = item[step]
    return item


def _with(item: Any, place: Place, value: JSONValue) -> Any:
    """Return a copy of an item with another value at a place."""
    if not place:
        return value
    copied: Any = item.copy()
    copied[place[0]] = _with(item[place[0]], place[1:], value)
    return copied


def run(call: Coroutine[Any, Any, T]) -> T:
    """Return the result of a call, for a framework without ``await``; see ``luminoracore_sdk.sync``."""
    return portal().run(call)


async def completed(call: Coroutine[Any, Any, T]) -> T:
    """Return the result of a call that is not cancelled: its end is awaited before CancelledError is raised.

    Frameworks that wait for the outcome of a mutation, to know what they have to do again, assume that.
    """
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # is not raised, as the cancellation is
        raise


def _as_it_is(session: Session) -> Session:
    return session


@attrs.define
class _Opened:
    storage: SessionStorage
    users: int = 0


_opened: dict[tuple[StorageConfig, Path], _Opened] = {}
_opening = Lock()


class _Owned:
    """The shared storage of a configuration: one for all adapters of the process that were given an equal one.

    An application may make an adapter for each request; it does not open a pool for each. A store in memory is the
    adapter's own.
    """

    def __init__(self, config: StorageConfig) -> None:
        self._key = config, Path.cwd()  # a path may be relative
        with _opening:
            found = _opened.get(self._key)
            if found is None or config.storage_type is StorageType.MEMORY:
                found = _Opened(shared_storage(config))
                if config.storage_type is not StorageType.MEMORY:
                    _opened[self._key] = found
            found.users += 1
        self._found: _Opened | None = found
        self.storage = found.storage

    async def close(self) -> None:
        """Close the storage, unless another adapter uses it."""
        with _opening:
            found, self._found = self._found, None
            if found is None:
                return
            found.users -= 1
            if found.users:
                return
            if _opened.get(self._key) is found:
                del _opened[self._key]
        await found.storage.close()


class ItemStore:
    """Keeps the items of a framework in a storage.

    Args:
        storage: A storage stays open, and is used on the event loop of the caller, or on the package's own by calls
            without ``await``. Of a configuration or URL a shared storage is made; all adapters of a process that are
            given an equal one share it, and the last ``close`` closes it.
        framework: The name of the framework's extra.
        reads: Returns the item of a message that this framework did not store; None: such messages are left out.

    Attributes:
        storage: The storage.
        services: The other ports.

    Raises:
        ConfigurationError: See ``create_storage``; so do the other errors.
    """

    def __init__(
        self, storage: Storage, framework: str, *, reads: Callable[[Message], JSONValue] | None = None
    ) -> None:
        config = storage_config_from_url(storage) if isinstance(storage, str) else storage
        self._owned = _Owned(config) if isinstance(config, StorageConfig) else None
        self.storage = _checked(config) if self._owned is None else self._owned.storage
        self.services = searching(default_services(), self.storage)
        self._framework = framework
        self._reads = reads

    async def close(self) -> None:
        """Close the storage, if it was made here and no other adapter uses it."""
        if self._owned is not None:
            await self._owned.close()

    # -- items -------------------------------------------------------------------------------------

    def record(
        self,
        item: Any,
        *,
        role: str,
        place: Place | None = None,
        content: JSONValue = "",
        message_id: str | None = None,
        metadata: Mapping[str, JSONValue] | None = None,
        timestamp: datetime | None = None,
    ) -> MessageRecord:
        """Return the record of an item.

        Args:
            item: A JSON value, which may hold NaN, infinities and bytes.
            role: user, assistant, system or tool.
            place: The place of its text; None: it is not moved.
            content: The content of the message if ``place`` is None.
            message_id: An id that is unique within the session; None: a new one.
            metadata: What other readers of the message need, such as ``tool_calls``.
            timestamp: When it was said; None: now.

        Raises:
            TypeError: The item is not JSON.
        """
        kept = self._kept(item)
        if place is not None:
            content = _at(item, place)
            if "value" in kept:
                kept |= {"value": _with(item, place, None), "content_at": list(place)}
            elif not isinstance(content, str):
                content = ""
        message = Message(
            role,
            content,
            timestamp=timestamp or self.services.clock.now(),
            metadata={**(metadata or {}), ITEM: kept},
            id=self.services.ids.new_id() if message_id is None else stable_id(message_id),
        )
        return self.services.codec.message_record(message)

    def _kept(self, item: Any) -> JSONObject:
        try:
            check_json(item)
        except InvalidJSONError:
            key = _BYTES
            while key in json.dumps(item, default=str):
                key += "'"
            text = json.dumps(item, default=partial(_encoded, key=key))
            return {"framework": self._framework, "json": text, **({} if key == _BYTES else {"bytes": key})}
        return {"framework": self._framework, "value": item}

    def _is_own(self, kept: Any) -> bool:
        return isinstance(kept, dict) and kept.get("framework") == self._framework

    def wrapped(self, value: Any) -> JSONObject:
        """Return a JSON object that holds a value, which may hold NaN, infinities and bytes."""
        return {ITEM: self._kept(value)}

    def unwrapped(self, value: JSONValue) -> Any:
        """Return the value that an object of ``wrapped`` holds; None: it is no such object."""
        kept = value.get(ITEM) if isinstance(value, dict) else None
        return _value(kept) if kept is not None and self._is_own(kept) else None

    async def items(self, session_id: str, records: Sequence[MessageRecord]) -> list[Any]:
        """Return the items of records, in their order, without those of deleted messages."""
        large = sum(len(record.payload.data) for record in records) > LARGE
        found = await off_loop(lambda: [self.item(session_id, record) for record in records], large=large)
        return [item for item in found if item is not None]

    def item(self, session_id: str, record: MessageRecord) -> Any:
        """Return the item of a record; None: its message was deleted, or is of no use to the framework.

        Raises:
            CorruptRecordError: The payload is damaged.
        """
        message = self.services.codec.message(record, backend=self.storage.backend, session_id=session_id)
        kept = message.metadata.get(ITEM)
        if kept is None or not self._is_own(kept):
            return None if self._reads is None or is_deleted(message) else self._reads(message)
        value = _value(kept)
        place = kept.get("content_at")
        return value if place is None else _with(value, tuple(place), message.content)

    async def read(self, session_id: str, span: MessageRange | None = None) -> list[MessageRecord]:
        """Return the records of a range, oldest first; none if there is no session."""
        try:
            return await self.storage.read_messages(session_id, span or MessageRange())
        except SessionNotFoundError:
            return []

    async def newest(self, session_id: str, limit: int | None) -> list[Any]:
        """Return the newest items, oldest first; None: all."""
        if limit is None or limit >= _ALL:
            return await self.items(session_id, await self.read(session_id))
        found: list[Any] = []
        span = MessageRange(newest=True)
        while (missing := limit - len(found)) > 0:  # deleted messages do not count
            records = await self.read(session_id, attrs.evolve(span, limit=missing))
            found = [*await self.items(session_id, records), *found]
            if len(records) < missing:
                break
            span = attrs.evolve(span, before=records[0].position)
        return found

    async def append(
        self, session_id: str, records: Sequence[MessageRecord], *, begun: Callable[[Session], Session] = _as_it_is
    ) -> None:
        """Append records, up to 1,000 of them all or none, without those whose ids are stored already.

        Args:
            session_id: Any id.
            records: Records with distinct ids.
            begun: Returns the header of the session, which is created if there is none.

        Raises:
            SessionNotFoundError: The session was erased less than a day ago.
        """
        left = records
        while batch := left[:MAX_BATCH]:
            try:
                await self.storage.append_messages(session_id, batch)
            except SessionNotFoundError:
                await self.change(session_id, begun)
            except ConflictError:
                found = [await self.storage.find_message(session_id, record.message_id) for record in batch]
                new = [record for record, stored in zip(batch, found, strict=True) if stored is None]
                left = [*new, *left[MAX_BATCH:]]
            else:
                left = left[MAX_BATCH:]

    async def replace(
        self, session_id: str, records: Sequence[MessageRecord], *, begun: Callable[[Session], Session] = _as_it_is
    ) -> None:
        """Replace the whole history, with up to 1,000 records all or nothing; see ``append``."""
        first = records[:MAX_BATCH]
        await self.in_session(session_id, lambda: self.storage.replace_tail(session_id, after=0, messages=first), begun)
        await self.append(session_id, records[MAX_BATCH:])

    async def clear(self, session_id: str) -> None:
        """Remove every message, if there is such a session."""
        with suppress(SessionNotFoundError):
            await self.storage.truncate_messages(session_id, after=0)

    async def pop(self, session_id: str) -> Any:
        """Remove the newest item and return it, or None; no other caller gets the same one."""
        while newest := await self.read(session_id, MessageRange(limit=1, newest=True)):
            last = newest[0].position
            try:
                receipt = await self.storage.replace_tail(session_id, after=last - 1, expected_last=last)
            except ConflictError:
                continue
            except SessionNotFoundError:
                return None
            if found := await self.items(session_id, receipt.removed):
                return found[0]
        return None

    async def in_session(
        self, session_id: str, write: Callable[[], Awaitable[T]], begun: Callable[[Session], Session] = _as_it_is
    ) -> T:
        """Return the result of a write, repeated once the session is created if there is none.

        Raises:
            SessionNotFoundError: The session was erased less than a day ago.
        """
        try:
            return await write()
        except SessionNotFoundError:
            await self.change(session_id, begun)
            return await write()

    # -- documents ---------------------------------------------------------------------------------

    def document(self, session: Session) -> Any:
        """Return the framework's document of a session, or None."""
        kept = session.metadata.get(ITEM)
        return _value(kept) if kept is not None and self._is_own(kept) else None

    def with_document(self, session: Session, document: Any) -> Session:
        """Return a session with another document."""
        return attrs.evolve(session, metadata={**session.metadata, ITEM: self._kept(document)})

    async def find(self, session_id: str) -> Session | None:
        """Return a session, or None."""
        record = await self.storage.find_session(session_id)
        return None if record is None else self.services.codec.session(record, backend=self.storage.backend)

    async def new(self, session_id: str) -> Session:
        """Return a session that is not stored yet, without personality and provider.

        Raises:
            SessionNotFoundError: It was erased less than a day ago; a writer that was under way must not bring it back.
        """
        if await is_erased(self.storage, session_id):
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        now = self.services.clock.now()
        return Session(session_id=session_id, personality={}, provider=None, created_at=now, last_activity=now)

    async def change(self, session_id: str, changed: Callable[[Session], Session]) -> None:
        """Change the header of a session, again after each conflict; create the session if there is none.

        Raises:
            SessionNotFoundError: The session was erased less than a day ago.
        """
        while True:
            session = await self.find(session_id) or await self.new(session_id)
            record = self.services.codec.session_record(changed(session))
            with suppress(ConflictError):
                await self.storage.put_session(record, expected_version=session.version)
                return

    # -- memories ----------------------------------------------------------------------------------

    def memory(self, scope: MemoryScope, key: str, value: JSONObject) -> MemoryRecord:
        """Return the record of a memory, which is never part of a prompt."""
        now = self.services.clock.now()
        entry = MemoryEntry(key=key, value=value, created_at=now, updated_at=now, importance=0.0)
        return self.services.codec.memory_record(scope, entry, decay_factor=None)

    def memory_value(self, record: MemoryRecord) -> Any:
        """Return the value of a memory; what ``wrapped`` holds is unwrapped.

        Raises:
            CorruptRecordError: The payload is damaged.
        """
        value = self.services.codec.memory(record, backend=self.storage.backend).value
        unwrapped = self.unwrapped(value)
        return value if unwrapped is None else unwrapped


def _checked(storage: object) -> SessionStorage:
    if not isinstance(storage, SessionStorage):
        raise ConfigurationError(
            f"storage must be a SessionStorage, a StorageConfig or a URL, not {type(storage).__name__}"
        )
    return storage


def _encoded(value: object, key: str) -> JSONObject:
    if isinstance(value, bytes | bytearray):
        return {key: b64encode(value).decode()}
    raise TypeError(f"type {type(value).__name__} is not a JSON type")


def _decoded(value: JSONObject, key: str) -> Any:
    return b64decode(value[key]) if value.keys() == {key} else value


def _value(kept: JSONObject) -> Any:
    if "value" in kept:
        return kept["value"]
    return json.loads(kept["json"], object_hook=partial(_decoded, key=kept.get("bytes", _BYTES)))
