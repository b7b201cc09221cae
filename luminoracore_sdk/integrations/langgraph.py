"""``LuminoraSaver`` and ``LuminoraStore``: checkpoints and long-term memory of LangGraph, on every backend."""

# pyright: reportMissingImports=false

import asyncio
import json
import operator
import random
from array import array
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from hashlib import sha256
from itertools import groupby
from math import hypot, inf
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

import attrs

from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.portal import portal
from luminoracore_sdk.application.exchange.export_import import ImportReceipt, OnExisting, Outcome
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MAX_PAGE,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    SessionQuery,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConflictError,
    InvalidIdError,
    SessionExistsError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.recall.index import MEMORY, Document, ScopeIndex
from luminoracore_sdk.domain.recall.ranking import COSINE_UNIT, Query, cosines, rank
from luminoracore_sdk.domain.recall.terms import Vector, entry_of, model_code
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.values import check_id, from_microseconds, to_microseconds
from luminoracore_sdk.integrations.importing import OwnStore, opened, time_of
from luminoracore_sdk.integrations.item_store import ITEM, ItemStore, Storage, run, stable_id

import_extra("langgraph.checkpoint.base", needed_by="LuminoraSaver", extra="langgraph")

from langgraph.checkpoint.base import (  # noqa: E402
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.types import TASKS  # noqa: E402
from langgraph.store.base import (  # noqa: E402
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    PutOp,
    SearchItem,
    SearchOp,
    ensure_embeddings,
    get_text_at_path,
    validate_op_namespace,
)

__all__ = ["LuminoraSaver", "LuminoraStore", "import_history"]

_TAG = "langgraph"
_INPUT = "__start__"
"""The channel of the input, which one checkpoint has: its value stays there."""
_INLINE_BYTES = 256
"""Values up to this size stay in the checkpoint; others have a record of their own."""
_LINK_BYTES = 64
"""What a link of a chain costs besides its items."""
_HEADS = 256
"""The namespaces of threads whose latest checkpoint is remembered."""
_HEADS_BYTES = 32 * 1024 * 1024
"""The bytes of the lists of these checkpoints."""
_READ_AHEAD = 16
_ANCESTORS = 64
"""The checkpoints and writes that are read at once to build a delta channel."""
_FEW = 2
"""As many records as the greatest checkpoint and its writes mostly have."""
_READABLE = bytes(range(0x20, 0x7F))
_OWNERS = "langgraph-store:"
_MOST_OWNER = 400
_CUT_OWNER = 300
_MINUTE_US = 60_000_000
_MODEL = "langgraph"


class LuminoraSaver(BaseCheckpointSaver):
    """Keeps the checkpoints of threads, each thread a session of the storage.

    Checkpoints, values of channels and pending writes are memories of that session. A value is stored once for each
    version, and checkpoints refer to it. Of a list only the items are stored that the version of the parent does not
    begin with, so a history of messages takes as many bytes as its messages have. ``delete_thread`` deletes the
    session.

    The calls without ``await`` and those with it may be mixed, from any thread and event loop.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
        serde: Converts values to bytes; None: the framework's own. It must return the same bytes for an equal value,
            or lists are stored whole; to encrypt, switch on the encryption of the storage instead.
    """

    def __init__(self, storage: Storage, *, serde: Any = None) -> None:
        super().__init__(serde=serde)
        self._items = ItemStore(storage, "langgraph")
        self._storage = self._items.storage
        self._heads = _Heads()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Close the storage, if it was made here."""
        run(self.aclose())

    async def aclose(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    # -- without await -----------------------------------------------------------------------------

    def get_tuple(self, config: Any) -> Any:
        """Return a checkpoint; see ``aget_tuple``."""
        return run(self.aget_tuple(config))

    def list(
        self,
        config: Any,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        before: Any = None,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Yield checkpoints; see ``alist``."""
        return portal().iterate(self.alist(config, filter=filter, before=before, limit=limit))

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Mapping[str, Any]) -> Any:
        """Store a checkpoint; see ``aput``."""
        return run(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Store the writes of a task; see ``aput_writes``."""
        run(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread; see ``adelete_thread``."""
        run(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs; see ``adelete_for_runs``."""
        run(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread; see ``acopy_thread``."""
        run(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete older checkpoints; see ``aprune``."""
        run(self.aprune(thread_ids, strategy=strategy))

    def get_delta_channel_history(self, *, config: Any, channels: Sequence[str]) -> Any:
        """Return what delta channels are built from; see ``aget_delta_channel_history``."""
        return run(self.aget_delta_channel_history(config=config, channels=channels))

    def get_next_version(self, current: Any, channel: None) -> str:  # noqa: ARG002  # the framework passes it
        """Return a version that is greater as text, and that no other branch of the thread has."""
        number = int(str(current).partition(".")[0]) if current is not None else 0
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311  # no secret

    # -- reads -------------------------------------------------------------------------------------

    async def aget_tuple(self, config: Any) -> Any:
        """Return the checkpoint that a configuration names, or that of the greatest id; None: there is none."""
        place = _Place.of(config)
        checkpoint_id = get_checkpoint_id(config)
        while True:
            writes: Sequence[MemoryRecord] | None = None
            if checkpoint_id:
                record = await self._storage.find_memory(place.scope, place.checkpoint_key(checkpoint_id))
            else:
                record, writes = await self._greatest(place)
            if record is None:
                return None
            read = await self._tuple(place, self._value(record), self._blobs(place), writes)
            if read is not None:
                found, head = read
                self._heads.put(place, head)
                return found._replace(config=config) if checkpoint_id else found

    async def _greatest(self, place: "_Place") -> tuple[MemoryRecord | None, Sequence[MemoryRecord]]:
        """Return the checkpoint of the greatest id, and its writes, which are behind it."""
        query = MemoryQuery(prefix=place.checkpoint_key(""), limit=_FEW, descending=True)
        behind: list[MemoryRecord] = []
        while page := await self._storage.list_memories(place.scope, query):
            for record in page:
                if _is_checkpoint(record.key):
                    return record, [one for one in behind if one.key.startswith(f"{record.key}/")]
                behind.append(record)
            query = attrs.evolve(query, after=page[-1].key, limit=MAX_PAGE)
        return None, []

    async def alist(
        self,
        config: Any,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        before: Any = None,
        limit: int | None = None,
    ) -> AsyncIterator[Any]:
        """Yield checkpoints, the greatest id first.

        Args:
            config: The thread, and optionally namespace and id; None: all threads.
            filter: Only those whose metadata have these values.
            before: Only those whose id is less than that of this configuration.
            limit: Their largest number; None: all.
        """
        if limit is not None and limit <= 0:
            return
        found = await self._listed(config, get_checkpoint_id(before) if before else None)
        blobs: dict[_Place, _Blobs] = {}
        left = len(found) if limit is None else limit
        ahead = _READ_AHEAD if filter else min(left, _READ_AHEAD)
        for start in range(0, len(found), ahead or 1):
            batch = found[start : start + ahead]
            records = await asyncio.gather(*(self._storage.find_memory(place.scope, key) for _, place, key in batch))
            for (_, thread, _), record in zip(batch, records, strict=True):
                if record is None:  # deleted meanwhile
                    continue
                document = self._value(record)
                metadata = self._loaded(document["metadata"])
                if any(metadata.get(name) != value for name, value in (filter or {}).items()):
                    continue
                place = attrs.evolve(thread, namespace=document["namespace"])
                read = await self._tuple(place, document, blobs.setdefault(place, self._blobs(place)))
                if read is None:
                    continue
                yield read[0]
                left -= 1
                if not left:
                    return

    async def aget_delta_channel_history(self, *, config: Any, channels: Sequence[str]) -> Any:
        """Return the writes of each channel in the ancestors of a checkpoint, oldest first.

        They are those since the nearest ancestor that has a value of the channel, which is the ``seed``.
        """
        found: dict[str, Any] = {name: {"writes": []} for name in channels}
        if not channels:
            return found
        left, place = set(channels), _Place.of(config)
        blobs = self._blobs(place)
        async for document, records in self._ancestors(place, get_checkpoint_id(config)):
            for write in reversed(self._pending(records, left)):
                found[write[1]]["writes"].insert(0, write)
            if left & document["values"].keys():
                read = await self._tuple(place, document, blobs, records)
                values = {} if read is None else read[0].checkpoint["channel_values"]
                for name in left & values.keys():
                    found[name]["seed"] = values[name]
                left -= values.keys()
            if not left:
                break
        return found

    async def _ancestors(
        self, place: "_Place", checkpoint_id: str | None
    ) -> AsyncIterator[tuple[Any, Sequence[MemoryRecord]]]:
        """Yield the ancestors of a checkpoint, the nearest first, with their writes."""
        if checkpoint_id:
            record = await self._storage.find_memory(place.scope, place.checkpoint_key(checkpoint_id))
        else:
            record, _ = await self._greatest(place)
        read: dict[str, MemoryRecord] = {}
        seen: set[str] = set()
        while record is not None:
            parent = self._value(record)["parent"]
            if not parent or parent in seen:  # put again, a checkpoint may be an ancestor of its own
                return
            seen.add(parent)
            key = place.checkpoint_key(parent)
            if key not in read:  # mostly the next one in the order of keys, behind its writes
                query = MemoryQuery(prefix=place.checkpoint_key(""), after=f"{key}0", limit=_ANCESTORS, descending=True)
                read |= {one.key: one for one in await self._storage.list_memories(place.scope, query)}
            record = read.get(key)
            if record is not None:
                yield self._value(record), [one for name, one in read.items() if name.startswith(f"{key}/")]
            elif (record := await self._storage.find_memory(place.scope, key)) is not None:  # behind very many writes
                yield (
                    self._value(record),
                    await self._storage.list_memories(place.scope, MemoryQuery(prefix=place.writes_prefix(parent))),
                )

    async def _listed(self, config: Any, before: str | None) -> Sequence[tuple[str, "_Place", str]]:
        """Return id, thread and key of the checkpoints that a configuration names, the greatest id first."""
        wanted = get_checkpoint_id(config) if config else None
        namespace = config["configurable"].get("checkpoint_ns") if config else None
        places = [_Place.of(config)] if config else [_Place.of_thread(one) async for one in self._threads()]
        found = []
        for place in places:
            prefix = "c/" if namespace is None else place.checkpoint_key("")
            for record in await self._storage.list_memories(
                place.scope, MemoryQuery(prefix=prefix, with_payload=False)
            ):
                checkpoint_id = record.key.split("/", 2)[2]
                if not _is_checkpoint(record.key):
                    continue
                if (not wanted or _ordered(wanted) == checkpoint_id) and (before is None or checkpoint_id < before):
                    found.append((checkpoint_id, place, record.key))
        return sorted(found, key=lambda one: one[0], reverse=True)

    async def _threads(self) -> AsyncIterator[str]:
        """Yield the ids of all threads."""
        query: SessionQuery | None = SessionQuery(tag=_TAG, texts=False, limit=MAX_PAGE)
        while query is not None:
            page = await self._storage.query_sessions(query)
            query = None if page.next_cursor is None else attrs.evolve(query, cursor=page.next_cursor)
            for record in page.sessions:
                session = await self._items.find(record.session_id) if record.session_id.startswith("sha256:") else None
                document = None if session is None else self._items.document(session)
                yield record.session_id if document is None else document["thread_id"]

    async def _tuple(
        self, place: "_Place", document: Any, blobs: "_Blobs", writes: Sequence[MemoryRecord] | None = None
    ) -> tuple[Any, "_Head"] | None:
        """Return a checkpoint as the framework has it, and what the next one is based on; None: it was deleted."""
        checkpoint = self._loaded(document["checkpoint"])
        versions, stored = checkpoint["channel_versions"], document["values"]
        lists = self._heads.lists(place, {name: versions.get(name) for name in stored})
        left = [name for name, entry in stored.items() if isinstance(entry, int) and name not in lists]
        reads: list[Any] = [blobs.chain(name, versions.get(name), stored[name]) for name in left]
        if writes is None:
            query = MemoryQuery(prefix=place.writes_prefix(document["id"]))
            reads.append(self._storage.list_memories(place.scope, query))
        chains = await asyncio.gather(*reads) if reads else []
        pending = self._pending(chains.pop() if writes is None else writes)
        values = {name: self._loaded(entry) for name, entry in stored.items() if not isinstance(entry, int)}
        for name, chain in zip(left, chains, strict=True):
            if chain and "value" in chain[-1]:
                values[name] = self._loaded(chain[-1]["value"])
            elif chain:
                lists[name] = _List.of(chain)
        values |= {name: [self.serde.loads_typed(item) for item in known.items] for name, known in lists.items()}
        if values.keys() != stored.keys():  # perhaps another process pruned the thread meanwhile
            record = await self._storage.find_memory(place.scope, place.checkpoint_key(document["id"]))
            if record is None:
                return None
        head = _Head(document["id"], versions, stored, lists)
        checkpoint_tuple = CheckpointTuple(
            config=place.config(document["id"]),
            checkpoint={**checkpoint, "channel_values": values},
            metadata=self._loaded(document["metadata"]),
            parent_config=place.config(document["parent"]) if document["parent"] else None,
            pending_writes=pending,
        )
        return checkpoint_tuple, head

    def _pending(
        self, records: Sequence[MemoryRecord], channels: Collection[str] | None = None
    ) -> Sequence[tuple[str, str, Any]]:
        """Return the pending writes of a checkpoint, or those of channels, in the order in which they are applied."""
        found = [
            (writes_sort_key(path, document["task"], int(index)), (document["task"], channel, value))
            for document in map(self._value, records)
            for index, (channel, path, value) in document["writes"].items()
            if channels is None or channel in channels
        ]
        found.sort(key=lambda one: one[0])
        return [(task, channel, self._loaded(value)) for _, (task, channel, value) in found]

    # -- writes ------------------------------------------------------------------------------------

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Mapping[str, Any]) -> Any:
        """Store a checkpoint with the values of new versions, all or nothing; return its configuration.

        A configuration that has ``user_id`` and ``tags`` gives them to the session of a new thread.

        Raises:
            SessionNotFoundError: The session was erased less than a day ago.
        """
        place = _Place.of(config)
        parent = config["configurable"].get("checkpoint_id")
        new = _New(checkpoint, get_checkpoint_metadata(config, metadata), parent, new_versions)
        try:
            await self._put(place, new, await self._head(place, parent))
        except SessionNotFoundError:  # a new thread, or what the parent refers to was deleted
            self._heads.drop(place.session_id)
            await self._begin(place, config)
            await self._put(place, new, None)
        return place.config(checkpoint["id"])

    async def _put(self, place: "_Place", new: "_New", head: "_Head | None") -> None:
        """Write a checkpoint that is based on its parent, if that is known."""
        puts, written = await self._puts(place, new, head)
        await self._storage.change_memories(place.scope, puts)
        self._heads.put(place, written)

    async def _puts(self, place: "_Place", new: "_New", head: "_Head | None") -> tuple[tuple[MemoryPut, ...], "_Head"]:
        """Return the records of a checkpoint, and what the next one is based on."""
        checkpoint = new.checkpoint
        given, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        stored: dict[str, JSONValue] = {}
        lists: dict[str, _List] = {}
        puts = []
        for name, version in versions.items():
            is_same = head is not None and head.versions.get(name) == version
            if name not in new.versions and head is not None and is_same:
                if name in head.values:
                    stored[name] = head.values[name]
                    if name in head.lists:
                        lists[name] = head.lists[name]
            elif name in given:
                based = None if head is None or is_same else head
                stored[name], known, blob = await self._split(place, name, given[name], based)
                if known is not None:
                    lists[name] = known
                if blob is not None:
                    puts.append(self._record(place, place.blob_key(name, version), blob))
            elif name not in new.versions:
                stored[name] = 0  # of another branch, if it is anywhere
        stored |= {name: self._dumped(value) for name, value in given.items() if name not in versions}
        document: JSONObject = {
            "id": checkpoint["id"],
            "namespace": place.namespace,
            "parent": new.parent,
            "checkpoint": self._dumped({**checkpoint, "channel_values": {}}),
            "metadata": self._dumped(new.metadata),
            "values": stored,
        }
        puts.append(self._record(place, place.checkpoint_key(checkpoint["id"]), document))
        return tuple(puts), _Head(checkpoint["id"], dict(versions), stored, lists)

    async def _split(
        self, place: "_Place", name: str, value: Any, head: "_Head | None"
    ) -> tuple[JSONValue, "_List | None", JSONObject | None]:
        """Return what the checkpoint has of a value, what is known of it if it is a list, and its record if it has one.

        A chain of versions is begun anew when it has twice as many bytes as the list.
        """
        if type(value) is not list or name == _INPUT:
            packed = _packed(self.serde.dumps_typed(value))
            is_inline = len(packed[1]) <= _INLINE_BYTES or name == _INPUT
            return (packed, None, None) if is_inline else (0, None, {"value": packed})
        items = [self.serde.dumps_typed(item) for item in value]
        size = _size(items)
        if size <= _INLINE_BYTES:
            return self._dumped(value), None, None
        before = None if head is None else await self._known(place, name, head)
        kept = 0 if before is None else _common(before.items, items)
        added = _size(items[kept:]) + _LINK_BYTES
        if head is None or before is None or not kept or before.stored + added > 2 * size + len(items) * _LINK_BYTES:
            whole: JSONObject = {"items": [_packed(item) for item in items]}
            return 0, _List(items, size, 0), whole
        known = _List(items, before.stored + added, before.links + 1)
        base = _version(head.versions[name])
        return known.links, known, {"base": base, "keep": kept, "items": [_packed(item) for item in items[kept:]]}

    async def _known(self, place: "_Place", name: str, head: "_Head") -> "_List | None":
        """Return what is known of the list that a channel had; None: it had none, or not in a record of its own."""
        entry = head.values.get(name)
        if name in head.lists or not isinstance(entry, int):
            return head.lists.get(name)
        chain = await self._blobs(place).chain(name, head.versions[name], entry)
        return _List.of(chain) if chain and "value" not in chain[-1] else None

    async def _head(self, place: "_Place", parent: str | None) -> "_Head | None":
        """Return what is known of the parent of a new checkpoint; None: there is none."""
        if not parent:
            return None
        head = self._heads.find(place)
        if head is not None and head.checkpoint_id == parent:
            return head
        record = await self._storage.find_memory(place.scope, place.checkpoint_key(parent))
        if record is None:
            return None
        document = self._value(record)
        versions = self._loaded(document["checkpoint"])["channel_versions"]
        return _Head(document["id"], versions, document["values"], {})

    async def _begin(self, place: "_Place", config: Any) -> None:
        """Create the session of a thread, if there is none."""
        given = config["configurable"]
        user_id, tags = given.get("user_id"), given.get("tags")
        named = [stable_id(str(tag)) for tag in tags] if isinstance(tags, list | tuple) else []

        def begun(session: Session) -> Session:
            user = session.config.user_id or (None if user_id is None else stable_id(str(user_id)))
            kept = attrs.evolve(session.config, user_id=user, tags=(*session.config.tags, *named, _TAG))
            return self._items.with_document(attrs.evolve(session, config=kept), {"thread_id": place.thread_id})

        await self._items.change(place.session_id, begun)

    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of a task, all or nothing.

        What the task has written at an index stays, but for errors, interrupts and the like, which are replaced.

        Raises:
            SessionNotFoundError: The session was erased less than a day ago.
        """
        place = _Place.of(config)
        key = place.writes_prefix(config["configurable"]["checkpoint_id"]) + _part(task_id)
        before: Mapping[str, JSONValue] = {}
        version = 0
        while True:
            merged = {**before, **self._written(writes, task_path, before)}
            if merged == before:
                return
            put = self._record(place, key, {"task": task_id, "writes": merged}, version)
            del merged
            try:
                await self._storage.change_memories(place.scope, (put,))
            except SessionNotFoundError:
                await self._begin(place, config)
            except ConflictError:
                record = await self._storage.find_memory(place.scope, key)
                before, version = (self._value(record)["writes"], record.version) if record is not None else ({}, 0)
            else:
                return

    def _written(
        self, writes: Sequence[tuple[str, Any]], path: str, before: Mapping[str, JSONValue]
    ) -> dict[str, JSONValue]:
        """Return what is written at each index that had nothing, or may be replaced."""
        indices = [WRITES_IDX_MAP.get(channel, index) for index, (channel, _) in enumerate(writes)]
        return {
            str(index): [channel, path, self._dumped(value)]
            for index, (channel, value) in zip(indices, writes, strict=True)
            if index < 0 or str(index) not in before
        }

    # -- threads -----------------------------------------------------------------------------------

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread, all or nothing: its session."""
        session_id = stable_id(str(thread_id))
        self._heads.drop(session_id)
        await self._storage.delete_session(session_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy everything of a thread to another one; what that has under the same ids is replaced.

        A checkpoint appears when all that it refers to is copied.
        """
        source, target = _Place.of_thread(source_thread_id), _Place.of_thread(target_thread_id)
        self._heads.drop(target.session_id)
        for kind in ("b/", "c/"):
            async for page in self._pages(source, kind):
                puts = [MemoryPut(attrs.evolve(record, scope=target.scope)) for record in page]
                try:
                    await self._storage.change_memories(target.scope, puts)
                except SessionNotFoundError:
                    await self._begin(target, {"configurable": {}})
                    await self._storage.change_memories(target.scope, puts)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete the checkpoints of threads, or all but the greatest id of each namespace.

        Kept are also those that a kept delta channel is built from. The namespace of a call of a subgraph is deleted
        with the checkpoint from which the call began. A run that goes on from the latest checkpoint meanwhile is safe.

        Args:
            thread_ids: The threads.
            strategy: ``keep_latest`` or ``delete``.

        Raises:
            TypeError: The threads are a single string.
            ValueError: The strategy is another one.
        """
        if isinstance(thread_ids, str):
            raise TypeError(f"thread_ids must be a sequence of ids, not a str: {thread_ids!r}")
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy must be 'keep_latest' or 'delete', not {strategy!r}")
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread_id)
            else:
                thread = _Place.of_thread(thread_id)
                await self._keep(thread, partial(self._latest, thread))

    def _latest(self, thread: "_Place", documents: Mapping[str, JSONObject]) -> set[str]:
        """Return the keys of the latest checkpoints, and of those that their delta channels are built from."""
        greatest: dict[str, str] = {}
        for key in sorted(documents):  # a key ends with the id
            greatest[key.split("/")[1]] = key
        kept = set(greatest.values())
        for key in greatest.values():
            at = documents[key]
            counters = self._loaded(at["metadata"]).get("counters_since_delta_snapshot") or {}
            missing = set(counters) - set(at["values"])
            while missing and at["parent"]:
                parent = attrs.evolve(thread, namespace=at["namespace"]).checkpoint_key(at["parent"])
                if parent not in documents:
                    break
                kept.add(parent)
                at = documents[parent]
                missing -= set(at["values"])
        roots = {one["id"]: key for key, one in documents.items() if not one["namespace"]}
        for key in greatest.values():
            if ":" in documents[key]["namespace"]:
                root = (self._loaded(documents[key]["metadata"]).get("parents") or {}).get("")
                if root in roots and roots[root] not in kept:
                    kept = {one for one in kept if one.split("/")[1] != key.split("/")[1]}
        return kept

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, in all threads, with their writes."""
        runs = set(map(str, run_ids))

        def others(documents: Mapping[str, JSONObject]) -> set[str]:
            return {key for key, one in documents.items() if self._loaded(one["metadata"]).get("run_id") not in runs}

        async for thread_id in self._threads():
            await self._keep(_Place.of_thread(thread_id), others)

    async def _keep(self, thread: "_Place", chosen: Any) -> None:
        """Delete all checkpoints of a thread but the chosen ones, their writes, and the values that no other has."""
        blobs = [record.key async for page in self._pages(thread, "b/", with_payload=False) for record in page]
        records = {record.key: record async for page in self._pages(thread, "c/") for record in page}
        documents = {key: self._value(record) for key, record in records.items() if _is_checkpoint(key)}
        kept = chosen(documents)
        if len(kept) == len(documents):
            return
        own = {key: "/".join(key.split("/", 3)[:3]) for key in records}
        dropped = sorted(key for key in records if own[key] in documents and own[key] not in kept)
        used: set[str] = set()
        readers: dict[str, _Blobs] = {}
        for key in kept:
            place = attrs.evolve(thread, namespace=documents[key]["namespace"])
            read = readers.setdefault(place.namespace, self._blobs(place))
            versions = self._loaded(documents[key]["checkpoint"])["channel_versions"]
            for name, entry in documents[key]["values"].items():
                if isinstance(entry, int):
                    chain = await read.chain(name, versions[name], entry)
                    bases = [_version(versions[name]), *(blob["base"] for blob in chain if "base" in blob)]
                    used.update(place.blob_key(name, base) for base in bases)
        dropped += [key for key in blobs if key not in used]
        self._heads.drop(thread.session_id)
        for key in kept:
            document = documents[key]
            place = attrs.evolve(thread, namespace=document["namespace"])
            if document["parent"] and place.checkpoint_key(document["parent"]) not in kept:
                put = self._record(place, key, {**document, "parent": None}, records[key].version)
                with suppress(ConflictError):  # put again meanwhile
                    await self._storage.change_memories(thread.scope, (put,))
        for start in range(0, len(dropped), MAX_BATCH):  # checkpoints first: what is left without one is not seen
            await self._storage.change_memories(thread.scope, deletes=dropped[start : start + MAX_BATCH])

    async def _pages(
        self, thread: "_Place", prefix: str, *, with_payload: bool = True
    ) -> AsyncIterator[Collection[MemoryRecord]]:
        """Yield the records of a thread whose keys begin with a prefix, the last one first."""
        after: str | None = None
        while True:
            query = MemoryQuery(prefix=prefix, after=after, limit=MAX_PAGE, with_payload=with_payload, descending=True)
            page = await self._storage.list_memories(thread.scope, query)
            if page:
                yield page
                after = page[-1].key
            if len(page) < MAX_PAGE:
                return

    # -- records -----------------------------------------------------------------------------------

    def _blobs(self, place: "_Place") -> "_Blobs":
        return _Blobs(self._items, place)

    def _record(self, place: "_Place", key: str, value: JSONObject, version: int | None = None) -> MemoryPut:
        return MemoryPut(self._items.memory(place.scope, key, value), version)

    def _value(self, record: MemoryRecord) -> Any:
        return self._items.services.codec.memory(record, backend=self._storage.backend).value

    def _dumped(self, value: Any) -> JSONValue:
        return _packed(self.serde.dumps_typed(value))

    def _loaded(self, packed: Any) -> Any:
        return self.serde.loads_typed(_unpacked(packed))


@attrs.frozen(kw_only=True)
class _Place:
    """A namespace of a thread, and the keys of what it has."""

    thread_id: str
    namespace: str = ""
    scope: MemoryScope = attrs.field(
        default=attrs.Factory(lambda self: MemoryScope("session", stable_id(self.thread_id)), takes_self=True),
        init=False,
        eq=False,
    )

    @classmethod
    def of(cls, config: Any) -> "_Place":
        given = config["configurable"]
        return _place(str(given["thread_id"]), given.get("checkpoint_ns") or "")

    @classmethod
    def of_thread(cls, thread_id: str) -> "_Place":
        return cls(thread_id=str(thread_id))

    @property
    def session_id(self) -> str:
        return self.scope.owner_id

    def config(self, checkpoint_id: str | None) -> JSONObject:
        given = {"thread_id": self.thread_id, "checkpoint_ns": self.namespace, "checkpoint_id": checkpoint_id}
        return {"configurable": given}

    def checkpoint_key(self, checkpoint_id: str) -> str:
        return f"c/{_part(self.namespace)}/{_ordered(checkpoint_id)}"

    def writes_prefix(self, checkpoint_id: str) -> str:
        return f"{self.checkpoint_key(checkpoint_id)}/"

    def blobs_prefix(self, channel: str) -> str:
        return f"b/{_part(self.namespace)}/{_part(channel)}/"

    def blob_key(self, channel: str, version: Any) -> str:
        return self.blobs_prefix(channel) + _part(_version(version))


@lru_cache(maxsize=_HEADS)
def _place(thread_id: str, namespace: str) -> _Place:
    return _Place(thread_id=thread_id, namespace=namespace)


@lru_cache(maxsize=4096)
def _part(name: str) -> str:
    """Return a part of a key, or its digest if it is long."""
    part = quote(name, safe=":|~", errors="surrogatepass")
    return part if len(part) <= 100 else f"#{sha256(part.encode()).hexdigest()}"


def _ordered(checkpoint_id: object) -> str:
    """Return the end of a key, which has the order of ids.

    An id that is long, has a slash or is no text of the store has no place in it.
    """
    text = str(checkpoint_id)
    if not text:
        return ""
    try:
        return check_id(text) if len(text) <= 200 and "/" not in text else _part(text)
    except InvalidIdError:
        return _part(text)


def _is_checkpoint(key: str) -> bool:
    """Whether a key of checkpoints and writes is that of a checkpoint."""
    return key.count("/") == 2


def _version(version: object) -> str:
    """Return a version as text, in the order of versions."""
    return f"{version:032}" if isinstance(version, int) else str(version)


@attrs.frozen
class _New:
    """A checkpoint to store."""

    checkpoint: Any
    metadata: Any
    parent: str | None
    versions: Mapping[str, Any]


@attrs.frozen
class _List:
    """A stored list: its items, the bytes of its chain, and the links before its end."""

    items: Sequence[tuple[str, bytes]]
    stored: int
    links: int

    @classmethod
    def of(cls, chain: Sequence[Any]) -> "_List":
        """Return the list that a chain of records ends with."""
        items: list[tuple[str, bytes]] = []
        stored = (len(chain) - 1) * _LINK_BYTES
        for blob in chain:
            added = [_unpacked(item) for item in blob["items"]]
            items[blob.get("keep", 0) :] = added
            stored += _size(added)
        return cls(items, stored, len(chain) - 1)


@attrs.frozen
class _Head:
    """What the next checkpoint is based on.

    Attributes:
        checkpoint_id: The id of its parent.
        versions: The versions of the channels.
        values: What is stored of their values: a value, or the number of links before the record that ends its chain.
        lists: What is known of those that are lists.
        size: The bytes of the lists.
    """

    checkpoint_id: str
    versions: Mapping[str, Any]
    values: Mapping[str, JSONValue]
    lists: Mapping[str, _List]
    size: int = attrs.field(
        default=attrs.Factory(lambda self: sum(one.stored for one in self.lists.values()), takes_self=True), init=False
    )


class _Heads:
    """The latest checkpoints that this process has read or stored, so that the next is stored without a read.

    The lists of a checkpoint that is read again are not read: a version of a channel never changes.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._heads: dict[tuple[str, str], _Head] = {}
        self._bytes = 0

    def find(self, place: _Place) -> _Head | None:
        return self._heads.get((place.session_id, place.namespace))

    def lists(self, place: _Place, versions: Mapping[str, Any]) -> dict[str, _List]:
        """Return what is known of those lists that have one of these versions."""
        head = self.find(place)
        if head is None:
            return {}
        return {name: one for name, one in head.lists.items() if versions.get(name) == head.versions[name]}

    def put(self, place: _Place, head: _Head) -> None:
        key = place.session_id, place.namespace
        with self._lock:
            self._remove(key)
            self._heads[key] = head
            self._bytes += head.size
            while len(self._heads) > _HEADS or (self._bytes > _HEADS_BYTES and len(self._heads) > 1):
                self._remove(next(iter(self._heads)))

    def drop(self, session_id: str) -> None:
        with self._lock:
            for key in [key for key in self._heads if key[0] == session_id]:
                self._remove(key)

    def _remove(self, key: tuple[str, str]) -> None:
        if head := self._heads.pop(key, None):
            self._bytes -= head.size


class _Blobs:
    """Reads the values of the channels of a namespace, each record once."""

    def __init__(self, items: ItemStore, place: _Place) -> None:
        self._items = items
        self._place = place
        self._found: dict[str, Any] = {}

    async def chain(self, channel: str, version: Any, links: int) -> Sequence[JSONObject]:
        """Return the records that a value is made of, oldest first; none if one was deleted.

        Args:
            channel: The channel.
            version: The version of the value.
            links: The number of links before the record that ends the chain.
        """
        chain: list[Any] = []
        wanted: object = version
        seen: set[object] = set()
        while wanted not in seen:
            seen.add(wanted)
            blob = await self._find(channel, wanted, max(links - len(chain), 0))
            if blob is None:
                return []
            chain.append(blob)
            if "base" not in blob:
                return chain[::-1]
            wanted = blob["base"]
        return []

    async def _find(self, channel: str, version: object, left: int) -> Any:
        """Return a record; read as many of those before it as are left of the chain."""
        key = self._place.blob_key(channel, version)
        if key not in self._found:
            storage, scope = self._items.storage, self._place.scope
            if left:
                query = MemoryQuery(
                    prefix=self._place.blobs_prefix(channel),
                    after=f"{key}!",  # behind the key, and before every other that is behind it
                    limit=min(left + 1, MAX_PAGE),
                    descending=True,
                )
                records = await storage.list_memories(scope, query)
            else:
                record = await storage.find_memory(scope, key)
                records = [] if record is None else [record]
            codec = self._items.services.codec
            for record in records:
                self._found[record.key] = codec.memory(record, backend=storage.backend).value
        return self._found.get(key)


def _size(items: Iterable[tuple[str, bytes]]) -> int:
    return sum(len(data) for _, data in items)


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return how many items two lists begin with alike."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _stored_value(items: ItemStore, value: JSONObject) -> JSONObject:
    """Return a value of a ``LuminoraStore`` as stored: wrapped if it is not JSON, or looks as if it were wrapped."""
    wrapped = items.wrapped(value)
    return wrapped if "json" in wrapped[ITEM] or items.unwrapped(value) is not None else value


def _packed(tagged: tuple[str, bytes]) -> Any:
    """Return bytes and their tag as JSON: as text where most of them are, or in base 64."""
    tag, data = tagged
    if len(data.translate(None, _READABLE)) * 6 <= len(data):
        return [tag, data.decode("latin-1")]
    return [tag, b64encode(data).decode(), 64]


def _unpacked(packed: Any) -> tuple[str, bytes]:
    tag, text, *base = packed
    return tag, b64decode(text) if base else text.encode("latin-1")


async def import_history(
    source: Path | str, storage: SessionStorage, existing: OnExisting = OnExisting.REFUSE
) -> AsyncIterator[tuple[str | None, ImportReceipt]]:
    """Store what the framework's savers and stores in SQLite or PostgreSQL have; see ``importing``.

    Of threads, checkpoints that are there already are left as they are. An item that was imported is replaced if the
    source has a later value of it, unless it was changed here. Vectors are not copied; see ``LuminoraStore``.

    Raises:
        SessionExistsError: The storage has another thread of the same id.
        ValidationError: It is no such store, or the storage has another item of the same namespace and key.
    """
    async with opened(source) as store:
        has_items = await store.columns("store") >= _OF_ITEM
        if not has_items or await store.columns("checkpoints"):
            async for imported in _import_threads(store, storage, existing):
                yield imported
        if has_items:
            async for receipt in _import_items(store, storage, existing):
                yield None, receipt


async def _import_threads(
    store: OwnStore, storage: SessionStorage, existing: OnExisting
) -> AsyncIterator[tuple[str, ImportReceipt]]:
    saver = LuminoraSaver(storage)
    table, value = ("checkpoint_writes", "blob") if store.is_server else ("writes", "value")
    written = (*_OF_CHECKPOINT, "task_id", "idx", "channel", "type", value)
    tables = {
        "checkpoints": (*_OF_CHECKPOINT, "parent_checkpoint_id", "type", "checkpoint", "metadata"),
        table: written,
    }
    if store.is_server:
        tables["checkpoint_blobs"] = ("thread_id", "checkpoint_ns", "channel", "version", "type", "blob")
    await store.check("PostgresSaver or PostgresStore" if store.is_server else "SqliteSaver or SqliteStore", tables)
    task_path = "task_path" if "task_path" in await store.columns(table) else "''"
    writes = _WRITES.format(task_path=task_path, value=value, table=table)
    own = _OwnCheckpoints(store=store, serde=saver.serde, written=writes)
    async for (thread_id,) in store.rows("SELECT DISTINCT thread_id FROM checkpoints ORDER BY thread_id"):
        yield stable_id(thread_id), await _import_thread(saver, storage, own, thread_id, existing)


async def _import_thread(
    saver: LuminoraSaver, storage: SessionStorage, own: "_OwnCheckpoints", thread_id: str, existing: OnExisting
) -> ImportReceipt:
    thread = _Place.of_thread(thread_id)
    if existing is OnExisting.REPLACE:
        await saver.adelete_thread(thread_id)
    query = MemoryQuery(prefix="c/", with_payload=False)
    stored = {record.key for record in await storage.list_memories(thread.scope, query) if _is_checkpoint(record.key)}
    wanted: list[tuple[_Place, str, str | None]] = [
        (attrs.evolve(thread, namespace=namespace), checkpoint_id, parent)
        async for namespace, checkpoint_id, parent in own.store.rows(_CHECKPOINTS, thread_id)
    ]
    missing = [one for one in wanted if one[0].checkpoint_key(one[1]) not in stored]
    if stored and len(missing) == len(wanted):
        if existing is OnExisting.SKIP:
            return ImportReceipt(outcome=Outcome.SKIPPED)
        raise SessionExistsError(thread.session_id)
    versions: dict[tuple[str, str | None], Mapping[str, Any]] = {}
    for place, checkpoint_id, parent in missing:
        writes = await own.writes(place, checkpoint_id)
        for (task, path, _), made in groupby(writes, key=lambda one: (one[0], one[1], one[2] < 0)):
            await saver.aput_writes(place.config(checkpoint_id), [one[3:] for one in made], task, path)
        checkpoint, metadata = await own.read(place, checkpoint_id, parent)
        before = versions.get((place.namespace, parent), {})
        current = versions[place.namespace, checkpoint_id] = checkpoint["channel_versions"]
        new = {name: version for name, version in current.items() if before.get(name) != version}
        await saver.aput(place.config(parent), checkpoint, metadata, new)
    outcome = Outcome.UNCHANGED if not missing else Outcome.COMPLETED if stored else Outcome.ADDED
    return ImportReceipt(outcome=outcome, memories=len(missing))


@attrs.frozen(kw_only=True)
class _OwnCheckpoints:
    """Reads the checkpoints of the framework's own store.

    Attributes:
        store: The store.
        serde: Converts bytes to values.
        written: The statement for the writes of a checkpoint.
    """

    store: OwnStore
    serde: Any
    written: str

    async def read(self, place: _Place, checkpoint_id: str, parent: str | None) -> tuple[Any, Any]:
        """Return a checkpoint with the values of its channels, and its metadata."""
        given = place.thread_id, place.namespace, checkpoint_id
        ((kind, data, metadata),) = [row async for row in self.store.rows(_CHECKPOINT, *given)]
        metadata = json.loads(metadata) if metadata else {}
        if not self.store.is_server:
            return self._loaded(kind, data), metadata
        checkpoint = json.loads(data)
        values = checkpoint.get("channel_values") or {}
        async for channel, kind, blob in self.store.rows(_VALUES, *given):
            if kind != "empty":
                values[channel] = self._loaded(kind, blob)
        versions = checkpoint["channel_versions"]
        if checkpoint["v"] < _TASKS_ARE_VALUES and parent and versions:
            tasks = [value for *_, channel, value in await self.writes(place, parent) if channel == TASKS]
            if tasks:
                values[TASKS], versions[TASKS] = tasks, max(versions.values())
        return {**checkpoint, "channel_values": values}, metadata

    async def writes(self, place: _Place, checkpoint_id: str) -> Sequence[Any]:
        """Return the writes of a checkpoint: task, its path, index, channel, value."""
        given = place.thread_id, place.namespace, checkpoint_id
        return [
            (*written, self._loaded(kind, value))
            async for *written, kind, value in self.store.rows(self.written, *given)
        ]

    def _loaded(self, kind: str, data: bytes) -> Any:
        try:
            return self.serde.loads_typed((kind, data))
        except NotImplementedError as exc:
            reason = "the saver encrypts, or has a serializer of its own"
            raise ValidationError(f"{self.store.name}: has values of the type {kind!a}: {reason}") from exc


_TASKS_ARE_VALUES = 4
"""Since this version of checkpoints, tasks are values. Before, they were writes of the parent."""
_OF_CHECKPOINT = ("thread_id", "checkpoint_ns", "checkpoint_id")
_CHECKPOINTS = """
SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id
  FROM checkpoints WHERE thread_id = $1 ORDER BY checkpoint_ns, checkpoint_id
"""
_CHECKPOINT = """
SELECT type, checkpoint, metadata
  FROM checkpoints WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id = $3
"""
_VALUES = """
SELECT name, value.type, value.blob
  FROM checkpoints
 CROSS JOIN jsonb_each_text(checkpoint -> 'channel_versions') AS versions (name, number)
 CROSS JOIN LATERAL (  -- the limit keeps the server from reading all values of a thread for a join
    SELECT type, blob FROM checkpoint_blobs
     WHERE thread_id = $1 AND checkpoint_ns = $2 AND channel = name AND version = number LIMIT 1
 ) AS value
 WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id = $3
"""
_WRITES = """
SELECT task_id, {task_path}, idx, channel, type, {value}
  FROM {table} WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id = $3 ORDER BY 2, 1, 3
"""


async def _import_items(store: OwnStore, storage: SessionStorage, existing: OnExisting) -> AsyncIterator[ImportReceipt]:
    """Store the items that have not expired, some of a namespace at a time."""
    items = ItemStore(storage, "langgraph")
    batch: list[MemoryRecord] = []
    size = 0
    lifetime = _LIFETIME if await store.columns("store") >= set(_LIFETIME) else ("NULL", "NULL")
    async for row in store.rows(_ITEMS.format(", ".join(lifetime))):
        record = _record_of(items, row, f"{store.name}: item {row[1]!a:.80} of {row[0]!a:.80}")
        if record.expires_at_us is not None and record.expires_at_us <= to_microseconds(items.services.clock.now()):
            continue
        if batch and (record.scope != batch[0].scope or len(batch) == _FEW_ITEMS or size > _FEW_BYTES):
            yield await _import_batch(items, batch, existing)
            batch, size = [], 0
        batch.append(record)
        size += len(record.payload.data)
    if batch:
        yield await _import_batch(items, batch, existing)


def _record_of(items: ItemStore, row: Any, place: str) -> MemoryRecord:
    """Return the record of a row of the framework's own store, as ``LuminoraStore`` reads it."""
    prefix, key, text, created, updated, expires, minutes = row
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValidationError(f"{place}: the value is no JSON object")
    namespace = prefix.split(".")
    document: JSONObject = {"namespace": namespace, "key": key, "value": _stored_value(items, value)}
    if minutes is not None:
        document["ttl"] = minutes
    document["updated_at_us"] = to_microseconds(time_of(updated, place))
    return attrs.evolve(
        items.memory(MemoryScope("user", _owner(namespace)), stable_id(key), document),
        created_at_us=to_microseconds(time_of(created, place)),
        expires_at_us=None if expires is None else to_microseconds(time_of(expires, place)),
    )


async def _import_batch(items: ItemStore, batch: Sequence[MemoryRecord], existing: OnExisting) -> ImportReceipt:
    """Store items of one namespace."""
    storage, scope = items.storage, batch[0].scope
    stored = await asyncio.gather(*(storage.find_memory(scope, record.key) for record in batch))
    puts: list[MemoryPut] = []
    others: list[str] = []
    for record, found in zip(batch, stored, strict=True):
        if found is None:
            puts.append(MemoryPut(record, 0))
        elif not _stays(items, found, record, existing):
            is_same = found.created_at_us == record.created_at_us
            puts.append(MemoryPut(record, found.version if is_same else 0))
            if not is_same:
                others.append(record.key)
    if others:  # a put would keep the time of creation
        await storage.change_memories(scope, deletes=others)
    if puts:
        await storage.change_memories(scope, puts)
    return ImportReceipt(outcome=Outcome.ADDED if puts else Outcome.UNCHANGED, memories=len(puts))


def _stays(items: ItemStore, found: MemoryRecord, record: MemoryRecord, existing: OnExisting) -> bool:
    """Return whether a stored item is left as it is.

    Raises:
        ValidationError: It is another one.
    """
    value, backend = items.services.codec.memory, items.storage.backend
    kept: Any = value(found, backend=backend).value
    item: Any = value(record, backend=backend).value
    kept_end, end = found.expires_at_us or inf, record.expires_at_us or inf
    if item.items() <= kept.items() and end <= kept_end:
        return True
    if existing is OnExisting.REPLACE:
        return False
    if found.created_at_us == record.created_at_us:
        if "updated_at_us" not in kept:  # changed here
            return True
        if (item["updated_at_us"], end) > (kept["updated_at_us"], kept_end):
            return False
    if existing is OnExisting.SKIP:
        return True
    place = f"item {item['key']!a:.80} of {'.'.join(item['namespace'])!a:.80}"
    raise ValidationError(f"the store has another {place}; use --replace or --skip-existing")


_FEW_ITEMS = 100
_FEW_BYTES = 1024 * 1024
_OF_ITEM = {"prefix", "key", "value", "created_at", "updated_at"}
_LIFETIME = ("expires_at", "ttl_minutes")
"""Columns that older stores have not."""
_ITEMS = "SELECT prefix, key, value, created_at, updated_at, {} FROM store ORDER BY prefix, key"


class LuminoraStore(BaseStore):
    """Keeps the long-term memory of agents: values by namespace and key.

    Each namespace has the memories of an owner of its own. Within a batch, reads see what was stored before it, and of
    several values for one key the last is stored; those of one namespace are stored all or nothing.

    ``query`` ranks by the cosine of the vectors where ``index`` names an embedder, as the stores of the framework do;
    otherwise by words, as ``recall`` does, with the language of the storage's search if that is on. What has no vector,
    or does not answer, comes behind, without a score. The first query with an embedder makes the vectors of imported
    items.

    An expired item counts as absent at once. ``luminora purge`` and ``purge_expired`` remove it.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
        index: The framework's ``IndexConfig``: ``embed`` computes vectors; ``fields`` are those that a query looks at.
        ttl: The framework's ``TTLConfig``.
    """

    supports_ttl = True

    def __init__(self, storage: Storage, *, index: Any = None, ttl: Any = None) -> None:
        self.ttl_config = ttl
        self.index_config = index
        self.embeddings = ensure_embeddings(index["embed"]) if index and index.get("embed") else None
        self._items = ItemStore(storage, "langgraph")
        self._storage = self._items.storage

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Close the storage, if it was made here."""
        run(self.aclose())

    async def aclose(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    def batch(self, ops: Iterable[Any]) -> list[Any]:
        """Return the results of operations; see ``abatch``."""
        return run(self.abatch(ops))

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        """Return the results of operations, in their order: first all reads are made, then all writes.

        Raises:
            InvalidNamespaceError: A label of a namespace is empty, has a dot or NUL, or is no string; nothing was done.
            TypeError: A value is not JSON; nothing was written. It may have NaN, infinities and bytes.
            ValueError: An operation or an operator of a filter is unknown.
        """
        given = list(ops)
        puts: dict[tuple[tuple[str, ...], str], Any] = {}
        for op in given:
            validate_op_namespace(op)
            if isinstance(op, PutOp):
                puts[tuple(op.namespace), str(op.key)] = op
        results = list(await asyncio.gather(*map(self._read, given)))
        await self._write(list(puts.values()))
        return results

    async def _read(self, op: Any) -> Any:
        match op:
            case GetOp():
                return await self._get(op)
            case SearchOp():
                return await self._search(op)
            case ListNamespacesOp():
                return await self._list(op)
            case PutOp():
                return None
            case _:
                raise ValueError(f"unknown operation: {type(op).__name__}")

    # -- writes ------------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Any]) -> None:
        vectors = await self._vectors([op for op in ops if op.value is not None])
        puts: dict[str, list[MemoryPut]] = {}
        deletes: dict[str, list[str]] = {}
        for op in ops:
            owner, key = _owner(op.namespace), stable_id(str(op.key))
            if op.value is None:
                deletes.setdefault(owner, []).append(key)
            else:
                document = self._document(op, vectors.get(id(op)))
                record = self._items.memory(MemoryScope("user", owner), key, document)
                puts.setdefault(owner, []).append(MemoryPut(attrs.evolve(record, expires_at_us=self._expiry(op.ttl))))
        for owner in puts.keys() | deletes.keys():
            new, old = puts.get(owner, []), deletes.get(owner, [])
            for start in range(0, max(len(new), len(old)), MAX_BATCH // 2):
                end = start + MAX_BATCH // 2
                scope = MemoryScope("user", owner)
                await self._storage.change_memories(scope, new[start:end], deletes=old[start:end])

    def _document(self, op: Any, vectors: Sequence[str] | None) -> JSONObject:
        value = _stored_value(self._items, dict(op.value))
        document: JSONObject = {"namespace": list(op.namespace), "key": str(op.key), "value": value}
        if op.ttl is not None:
            document["ttl"] = op.ttl
        if op.index is not None:
            document["index"] = op.index
        if vectors:
            document["vectors"] = vectors
        return document

    def _expiry(self, minutes: float | None) -> int | None:
        if minutes is None:
            return None
        return to_microseconds(self._items.services.clock.now()) + round(minutes * _MINUTE_US)

    async def _vectors(self, ops: Sequence[Any]) -> dict[int, Sequence[str]]:
        """Return the vectors of the texts of each operation that has any."""
        texts = {id(op): self._texts(op.value, op.index) for op in ops} if self.embeddings is not None else {}
        flat = [text for own in texts.values() for text in own]
        if self.embeddings is None or not flat:
            return {}
        found = iter(await self.embeddings.aembed_documents(flat))
        return {
            name: [b64encode(Vector.of(_MODEL, next(found)).values).decode() for _ in own]
            for name, own in texts.items()
        }

    def _texts(self, value: Any, index: Any) -> Sequence[str]:
        """Return the texts by which a value is found."""
        if index is False:
            return []
        fields = index or (self.index_config or {}).get("fields") or ["$"]
        plain = json.loads(json.dumps(value, default=lambda _: None))  # bytes have no text
        return [text for field in fields for text in get_text_at_path(plain, field)]

    # -- reads -------------------------------------------------------------------------------------

    async def _get(self, op: Any) -> Any:
        scope = MemoryScope("user", _owner(op.namespace))
        record = await self._storage.find_memory(scope, stable_id(str(op.key)))
        if record is None:
            return None
        document = self._value(record)
        if op.refresh_ttl:
            await self._refresh([(record, document)])
        return Item(**_fields(record, document))

    async def _search(self, op: Any) -> Any:
        found = [
            (record, document)
            for record, document in await self._below(tuple(op.namespace_prefix))
            if all(_matches(document["value"].get(name), wanted) for name, wanted in (op.filter or {}).items())
        ]
        found.sort(key=lambda one: (one[0].created_at_us, one[1]["namespace"], one[1]["key"]))
        if op.query:
            await self._embed(found)
        scores = await self._scores(op.query, found) if op.query else {}
        ranked = [*scores, *(number for number in range(len(found)) if number not in scores)]
        chosen = ranked[op.offset : op.offset + op.limit]
        if op.refresh_ttl:
            await self._refresh([found[number] for number in chosen])
        return [SearchItem(**_fields(*found[number]), score=scores.get(number)) for number in chosen]

    async def _embed(self, found: Iterable[tuple[MemoryRecord, Any]]) -> None:
        """Make the vectors that imported items have not, and store them, unless an item has changed since."""
        lacking = [one for one in found if "updated_at_us" in one[1] and "vectors" not in one[1]]
        ops = [PutOp(document["namespace"], document["key"], document["value"]) for _, document in lacking]
        vectors = await self._vectors(ops)
        for (record, document), op in zip(lacking, ops, strict=True):
            if own := vectors.get(id(op)):
                document["vectors"] = own
                stored = {**document, "value": _stored_value(self._items, document["value"])}
                changed = self._items.memory(record.scope, record.key, stored)
                changed = attrs.evolve(changed, expires_at_us=record.expires_at_us)
                with suppress(ConflictError):
                    await self._storage.put_memory(changed, expected_version=record.version)

    async def _scores(self, query: str, found: Sequence[tuple[MemoryRecord, Any]]) -> dict[int, float]:
        """Return the scores of those that answer a query, by their numbers, the best first."""
        if self.embeddings is not None:
            wanted = Vector.of(_MODEL, await self.embeddings.aembed_query(query)).values
            return _cosines(wanted, [document.get("vectors", ()) for _, document in found])
        search = self._storage.search
        analyzer = make_analyzer("none") if search is None else search.analyzer
        index = ScopeIndex(model=model_code(_MODEL))
        numbers: dict[str, int] = {}
        for number, (_, document) in enumerate(found):
            for place, text in enumerate(self._texts(document["value"], document.get("index"))):
                key = f"{number:09}/{place}"
                numbers[key] = number
                index.add(Document(kind=MEMORY, key=key), entry_of(analyzer.terms(text)))
        scores: dict[int, float] = {}
        for hit in rank(index, Query.of(query, analyzer), limit=len(index)):
            scores.setdefault(numbers[hit.document.key], hit.score)
        return scores

    async def _list(self, op: Any) -> Any:
        namespaces = {
            one[: op.max_depth] if op.max_depth is not None else one
            for one in (await self._namespaces(())).values()
            if all(_fits(condition, one) for condition in op.match_conditions or ())
        }
        return sorted(namespaces)[op.offset : op.offset + op.limit]

    async def _namespaces(self, prefix: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Return the namespaces that begin with a prefix, by their owners."""
        found: dict[str, tuple[str, ...]] = {}
        after: str | None = None
        begin = _owner(prefix, whole=False)
        while page := await self._storage.list_memory_owners(prefix=begin, after=after, limit=MAX_PAGE):
            after = page[-1]
            for owner in page:
                namespace = await self._namespace(owner)
                if namespace is not None and namespace[: len(prefix)] == prefix:
                    found[owner] = namespace
        return found

    async def _namespace(self, owner: str) -> tuple[str, ...] | None:
        """Return the namespace of an owner; None: it has no items any more."""
        if "#" not in owner:
            labels = owner.removeprefix(_OWNERS).split("/")[:-1]
            return tuple(unquote(label, errors="surrogatepass") for label in labels)
        records = await self._storage.list_memories(MemoryScope("user", owner), MemoryQuery(limit=1))
        return tuple(self._value(records[0])["namespace"]) if records else None

    async def _below(self, prefix: tuple[str, ...]) -> Sequence[tuple[MemoryRecord, Any]]:
        """Return the items of all namespaces that begin with a prefix."""
        owners = list(await self._namespaces(prefix))
        found: list[tuple[MemoryRecord, Any]] = []
        for start in range(0, len(owners), _READ_AHEAD):
            scopes = [MemoryScope("user", owner) for owner in owners[start : start + _READ_AHEAD]]
            for records in await asyncio.gather(*map(self._storage.list_memories, scopes)):
                found += [(record, self._value(record)) for record in records]
        return found

    async def _refresh(self, found: Iterable[tuple[MemoryRecord, Any]]) -> None:
        """Let items live for their whole time again."""
        keys: dict[tuple[MemoryScope, float], list[str]] = {}
        for record, document in found:
            if "ttl" in document:
                keys.setdefault((record.scope, document["ttl"]), []).append(record.key)
        for (scope, minutes), own in keys.items():
            for start in range(0, len(own), MAX_BATCH):
                batch = own[start : start + MAX_BATCH]
                await self._storage.touch_memories(scope, batch, expires_at_us=self._expiry(minutes))

    def _value(self, record: MemoryRecord) -> Any:
        document: Any = self._items.services.codec.memory(record, backend=self._storage.backend).value
        wrapped = self._items.unwrapped(document["value"])
        return document if wrapped is None else {**document, "value": wrapped}


def _owner(namespace: Sequence[str], *, whole: bool = True) -> str:
    """Return the owner of the items of a namespace, or what the owners of those below it begin with."""
    owner = _OWNERS + "".join(f"{_part(label)}/" for label in namespace)
    if len(owner) <= (_MOST_OWNER if whole else _CUT_OWNER):
        return owner
    return f"{owner[:_CUT_OWNER]}#{sha256(owner.encode()).hexdigest()}" if whole else owner[:_CUT_OWNER]


def _cosines(wanted: bytes, vectors: Sequence[Sequence[str]]) -> dict[int, float]:
    """Return the greatest cosine of each item that has vectors of this model, by its number, the best first."""
    rows = [(number, b64decode(text)) for number, own in enumerate(vectors) for text in own]
    rows = [(number, row) for number, row in rows if len(row) == len(wanted)]
    norms = array("d", [hypot(*memoryview(row).cast("b")) for _, row in rows])
    found = cosines(bytearray().join(row for _, row in rows), norms, wanted)
    best: dict[int, float] = {}
    for cosine, (number, _) in sorted(zip(found, rows, strict=True), key=lambda one: (-one[0], one[1][0])):
        best.setdefault(number, cosine / COSINE_UNIT)
    return best


def _fields(record: MemoryRecord, document: Any) -> dict[str, Any]:
    return {
        "namespace": tuple(document["namespace"]),
        "key": document["key"],
        "value": document["value"],
        "created_at": from_microseconds(record.created_at_us),
        "updated_at": from_microseconds(document.get("updated_at_us", record.updated_at_us)),  # of an imported item
    }


def _fits(condition: Any, namespace: tuple[str, ...]) -> bool:
    """Return whether a namespace begins, or ends, with the labels of a condition, where ``*`` is any label."""
    path = tuple(condition.path)
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"match_type must be 'prefix' or 'suffix', not {condition.match_type!r}")
    if len(path) > len(namespace):
        return False
    labels = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for wanted, label in zip(path, labels, strict=True))


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def _matches(value: Any, wanted: Any) -> bool:
    """Return whether a value is the wanted one, or compares to it as its operators say."""
    if isinstance(wanted, dict) and any(name.startswith("$") for name in wanted):
        return all(_compares(value, name, other) for name, other in wanted.items())
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(_matches(value.get(name), one) for name, one in wanted.items())
    if isinstance(wanted, list | tuple):
        alike = isinstance(value, list | tuple) and len(value) == len(wanted)
        return alike and all(map(_matches, value, wanted))
    return bool(value == wanted)


def _compares(value: Any, name: str, other: Any) -> bool:
    if name not in _OPERATORS:
        raise ValueError(f"unknown operator {name!r}; there are: {', '.join(_OPERATORS)}")
    if name not in ("$eq", "$ne") and not isinstance(value, str if isinstance(other, str) else int | float):
        return False  # absent, or of a type without this order
    return _OPERATORS[name](value, other)
