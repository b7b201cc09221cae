"""``LuminoraMessageHistory`` and ``LuminoraConversationStore``: conversations of Pydantic AI, on every backend."""

# pyright: reportMissingImports=false

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, Self

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.foreign import tool_call
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MAX_PAGE,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
)
from luminoracore_sdk.application.tombstones import TOMBSTONE_LIFETIME
from luminoracore_sdk.domain.errors import ConflictError, PayloadTooLargeError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message, message_text
from luminoracore_sdk.domain.values import to_microseconds
from luminoracore_sdk.integrations.item_store import ItemStore, Storage, stable_id

import_extra("pydantic_ai", needed_by="LuminoraMessageHistory", extra="pydantic-ai")

from pydantic import ConfigDict, TypeAdapter  # noqa: E402
from pydantic_ai.conversation import Conversation  # noqa: E402
from pydantic_ai.conversation_store import (  # noqa: E402
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.messages import ModelMessage  # noqa: E402

__all__ = ["LuminoraConversationStore", "LuminoraMessageHistory", "window"]

# as ModelMessagesTypeAdapter, which writes NaN and infinities as null
_CONFIG = ConfigDict(defer_build=True, ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_MESSAGES = TypeAdapter(list[ModelMessage], config=_CONFIG)
_RECORDS = TypeAdapter(list[ConversationRecord], config=_CONFIG)

_CONVERSATIONS = MemoryScope("user", "pydantic-ai-conversations")
_LOGS = "pydantic-ai-log:"
_AT_ONCE = 32
"""The logs that are searched at once for an entry."""


class _Result(Protocol):
    def new_messages(self) -> list[ModelMessage]: ...


class LuminoraMessageHistory:
    """Keeps the messages of one conversation: ``load`` before a run, ``save`` its result after it.

    Args:
        session_id: Any string, which is the id of the session in the storage; of one that ids do not allow, a digest
            is.
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
    """

    def __init__(self, session_id: str, *, storage: Storage) -> None:
        self.session_id = session_id
        self._items = ItemStore(storage, "pydantic-ai", reads=_item_of)
        self._key = stable_id(session_id)

    async def load(self, *, limit: int | None = None) -> list[ModelMessage]:
        """Return the newest messages, oldest first, for ``message_history``.

        Args:
            limit: Their largest number; None: all. The first of them may answer a message that is not among them; pass
                them through ``window``.
        """
        return _MESSAGES.validate_python(await self._items.newest(self._key, limit))

    async def save(self, result: _Result | Conversation | Sequence[ModelMessage]) -> None:
        """Append the messages of a run, up to 1,000 of them all or none. What is saved again is stored once.

        A run of ``iter`` may be saved after each step.

        Args:
            result: What an agent's ``run``, ``run_sync``, ``run_stream`` or ``iter`` returned, a conversation, of which
                the new messages are stored, or messages.

        Raises:
            SessionNotFoundError: The session was erased less than a day ago.
        """
        if isinstance(result, Conversation):
            messages: Sequence[ModelMessage] = result.messages[result.new_message_index or 0 :]
        else:
            messages = result if isinstance(result, Sequence) else result.new_messages()
        equal: Counter[str] = Counter()
        records: list[MessageRecord] = []
        for item in _MESSAGES.dump_python(list(messages), mode="json"):
            # not by its number in the run, as processors drop messages of a run that is under way
            name = f"{item['run_id']}/{item['kind']}/{item['timestamp']}"
            records.append(self._record(item, f"{name}/{equal[name]}" if item["run_id"] else None))
            equal[name] += 1
        await self._items.append(self._key, records)

    async def clear(self) -> None:
        """Remove all messages."""
        await self._items.clear(self._key)

    async def close(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    def _record(self, item: JSONObject, message_id: str | None) -> MessageRecord:
        kinds = [part.get("part_kind") for part in item["parts"]]
        texts = [n for n, part in enumerate(item["parts"]) if part.get("part_kind") in _TEXTS and part.get("content")]
        metadata: JSONObject = {}
        if calls := [part for part in item["parts"] if part.get("part_kind") == "tool-call"]:
            metadata["tool_calls"] = [
                tool_call(call["tool_call_id"], call["tool_name"], call["args"]) for call in calls
            ]
        role = "assistant" if item["kind"] == "response" else "user"
        if role == "user" and "user-prompt" not in kinds:
            role = "tool" if "tool-return" in kinds else "system" if "system-prompt" in kinds else "user"
        if role == "tool" and len(kinds) == 1:
            metadata["tool_call_id"] = item["parts"][0]["tool_call_id"]
        said = [n for n in texts if kinds[n] != "system-prompt"] or texts
        return self._items.record(
            item,
            role=role,
            place=("parts", said[0], "content") if len(said) == 1 else None,
            content="\n\n".join(str(item["parts"][n]["content"]) for n in said),
            message_id=message_id,
            metadata=metadata,
        )


_TEXTS = frozenset({"text", "user-prompt", "system-prompt", "tool-return", "retry-prompt"})


def _item_of(message: Message) -> Any:
    """Return the item of a message that another program stored; results of tools without their calls are left out."""
    text = message_text(message)
    if message.role == "assistant":
        return {"kind": "response", "parts": [{"part_kind": "text", "content": text}]}
    if message.role in ("user", "system"):
        kind = "user-prompt" if message.role == "user" else "system-prompt"
        return {"kind": "request", "parts": [{"part_kind": kind, "content": text}]}
    return None


def window(max_messages: int) -> Callable[[list[ModelMessage]], list[ModelMessage]]:
    """Return a processor, for ``ProcessHistory``, that sends the newest messages only; what is stored stays whole.

    The window begins with a request that has a prompt of the user, so that no result of a tool lacks its call. It is
    therefore shorter than ``max_messages``, or longer if a turn is.

    Args:
        max_messages: Largest number of messages, at least 1.
    """

    def newest(messages: list[ModelMessage]) -> list[ModelMessage]:
        starts = [n for n, message in enumerate(messages) if _begins_turn(message)]
        fitting = [n for n in starts if len(messages) - n <= max_messages]
        first = fitting[0] if fitting else starts[-1] if starts else 0
        return messages[first:]

    return newest


def _begins_turn(message: Any) -> bool:
    return message.kind == "request" and any(part.part_kind == "user-prompt" for part in message.parts)


class LuminoraConversationStore(ConversationStore):
    """Keeps conversations with their branches and forks; implements ``ConversationStore`` of Pydantic AI.

    The records of conversations are memories of one reserved owner; the entries of each are memories of an owner of its
    own, its log. A save writes the entries first and then the record, under compare-and-set: the entries count from
    then on, all or none, however many they are. A save that is cancelled or killed leaves the conversation as it was,
    or has its whole effect.

    A fork has copies of the entries that it shares, under the same ids. So ``delete`` deletes all messages of a
    conversation, and every fork stays whole.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
    """

    def __init__(self, storage: Storage) -> None:
        self._items = ItemStore(storage, "pydantic-ai")
        self._storage = self._items.storage

    async def close(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    # -- records -----------------------------------------------------------------------------------

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, or None."""
        return (await self._find(conversation_id)).record

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        """Return the records, or those of a scope, the last saved first; all records of the store are read.

        Args:
            scope: Only those of this scope.
            limit: Their largest number; None: all.
        """
        stored = [one.record async for one in self._all()]
        records = [one for one in stored if one is not None and (scope is None or one.scope == scope)]
        records.sort(key=lambda record: record.updated_at, reverse=True)
        return records[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and the entries that its history adds, all or nothing.

        Args:
            record: The record.
            new_entries: Entries, each behind the one that it points at.
            expected_revision: The revision of the stored record; None: there must be none.

        Raises:
            ConversationConflict: Another revision is stored, or an entry that the history needs is not; nothing was
                changed.
        """
        stored = await self._find(record.conversation_id)
        if stored.revision != expected_revision:
            raise ConversationConflict(record.conversation_id)
        log = self._items.services.ids.new_id() if stored.record is None else stored.log
        copied = await self._missing(record, new_entries, log)
        value = {"log": log, "record": _RECORDS.dump_python([_plain(record)], mode="json")[0]}
        try:
            await self._put_entries(log, [*copied, *new_entries])
            await self._put(record.conversation_id, value, stored.version)
        except ConflictError as exc:
            if (await self._find(record.conversation_id)).revision == record.revision:  # repeated after a lost answer
                return
            if stored.record is None:
                await self._storage.clear_memories(_log(log))
            else:
                keys = [stable_id(entry.id) for entry in new_entries]
                for start in range(0, len(keys), MAX_BATCH):
                    await self._storage.change_memories(_log(log), deletes=keys[start : start + MAX_BATCH])
            raise ConversationConflict(record.conversation_id) from exc

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation with all its entries. If the process is killed meanwhile, call ``delete`` again.

        Raises:
            ConversationConflict: No record of this revision is stored; nothing was changed.
        """
        stored = await self._find(conversation_id)
        if stored.record is None or stored.revision != expected_revision:
            raise ConversationConflict(conversation_id)
        # an expiring record keeps counting versions, so that a save under way does not replace a later conversation
        expires_at_us = to_microseconds(self._items.services.clock.now() + TOMBSTONE_LIFETIME)
        try:
            await self._put(conversation_id, {"log": stored.log}, stored.version, expires_at_us)
        except ConflictError as exc:
            raise ConversationConflict(conversation_id) from exc
        await self._storage.clear_memories(_log(stored.log))

    async def _put(
        self, conversation_id: str, value: JSONObject, expected_version: int, expires_at_us: int | None = None
    ) -> None:
        memory = self._items.memory(_CONVERSATIONS, stable_id(conversation_id), self._items.wrapped(value))
        await self._storage.put_memory(
            attrs.evolve(memory, expires_at_us=expires_at_us), expected_version=expected_version
        )

    async def _find(self, conversation_id: str) -> "_Stored":
        found = await self._storage.find_memory(_CONVERSATIONS, stable_id(conversation_id))
        if found is None:
            return _Stored()
        stored = self._stored(found)
        if stored.record is None:
            await self._storage.clear_memories(_log(stored.log))  # a deletion may have been killed before that
        return stored

    async def _all(self) -> AsyncIterator["_Stored"]:
        query = MemoryQuery(limit=MAX_PAGE)
        while page := await self._storage.list_memories(_CONVERSATIONS, query):
            for found in page:
                yield self._stored(found)
            query = attrs.evolve(query, after=page[-1].key)

    def _stored(self, found: MemoryRecord) -> "_Stored":
        value = self._items.memory_value(found)
        log = value["log"]
        if "record" not in value:
            return _Stored(version=found.version, log=log)
        (record,) = _RECORDS.validate_python([value["record"]])
        record.head_id = _EntryId.of(record.head_id, log)
        record.branches = [_EntryId(entry_id, log) for entry_id in record.branches]
        return _Stored(version=found.version, log=log, record=record)

    # -- entries -----------------------------------------------------------------------------------

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """Return the entries up to one, oldest first; they are read in one query, or those of ``limit`` in pages.

        Args:
            head_id: The id of the last entry. One that was not read from this store is looked up in each conversation.
            limit: Only so many entries, the last ones; None: all.

        Raises:
            LookupError: An entry is not stored.
        """
        if head_id is None or limit == 0:
            return []
        log = await self._log_of(head_id)
        pages = MemoryQuery(limit=limit and min(limit, MAX_PAGE), descending=True)
        known: dict[str, ConversationEntry] = {}
        history: list[ConversationEntry] = []
        wanted: str | None = head_id
        while wanted is not None and (limit is None or len(history) < limit):
            if wanted in known:
                history.append(known[wanted])
                wanted = known[wanted].parent_id
            elif page := await self._storage.list_memories(_log(log), pages):
                known |= {entry.id: entry for entry in self._entries(page, log)}
                pages = attrs.evolve(pages, after=page[-1].key)
            else:
                raise LookupError(f"entry {wanted!a} is not stored on {self._storage.backend}")
        return history[::-1]

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry.

        Args:
            entry_id: Its id. One that was not read from this store is looked up in each conversation.

        Raises:
            LookupError: It is not stored.
        """
        log = await self._log_of(entry_id)
        found = await self._storage.find_memory(_log(log), stable_id(str(entry_id)))
        if found is None:
            raise LookupError(f"entry {entry_id!a} is not stored on {self._storage.backend}")
        return self._entries([found], log)[0]

    async def _missing(
        self, record: ConversationRecord, new_entries: Sequence[ConversationEntry], log: str
    ) -> list[ConversationEntry]:
        """Return the entries of other conversations that the history of a record needs.

        Raises:
            ConversationConflict: One is stored nowhere.
        """
        given = {entry.id for entry in new_entries}
        ends = dict.fromkeys([*(entry.parent_id for entry in new_entries), record.head_id])
        copied: list[ConversationEntry] = []
        for end in ends:
            if end is None or end in given or await self._has(log, end):
                continue
            try:
                copied += await self.read_history(end)
            except LookupError as exc:
                raise ConversationConflict(record.conversation_id) from exc
        return copied

    async def _put_entries(self, log: str, entries: Sequence[ConversationEntry]) -> None:
        messages = _MESSAGES.dump_python([entry.message for entry in entries], mode="json")
        puts = [self._entry_put(log, entry, message) for entry, message in zip(entries, messages, strict=True)]
        for start in range(0, len(puts), MAX_BATCH):
            batch = puts[start : start + MAX_BATCH]
            try:
                await self._storage.change_memories(_log(log), batch)
            except PayloadTooLargeError:  # perhaps only all together
                for put in batch:
                    await self._storage.change_memories(_log(log), [put])

    def _entry_put(self, log: str, entry: ConversationEntry, message: JSONObject) -> MemoryPut:
        value = {"id": str(entry.id), "parent": _text(entry.parent_id), "kind": entry.kind, "message": message}
        return MemoryPut(self._items.memory(_log(log), stable_id(str(entry.id)), self._items.wrapped(value)))

    def _entries(self, page: Sequence[MemoryRecord], log: str) -> list[ConversationEntry]:
        values = [self._items.memory_value(found) for found in page]
        messages = _MESSAGES.validate_python([value["message"] for value in values])
        return [
            ConversationEntry(
                id=_EntryId(value["id"], log),
                parent_id=_EntryId.of(value["parent"], log),
                message=message,
                kind=value["kind"],
            )
            for value, message in zip(values, messages, strict=True)
        ]

    async def _has(self, log: str, entry_id: str) -> bool:
        if isinstance(entry_id, _EntryId) and entry_id.log == log:
            return True
        return await self._storage.find_memory(_log(log), stable_id(str(entry_id))) is not None

    async def _log_of(self, entry_id: str) -> str:
        """Return the log that has an entry.

        Raises:
            LookupError: None has it.
        """
        if isinstance(entry_id, _EntryId):
            return entry_id.log
        logs = [stored.log async for stored in self._all() if stored.record is not None]
        for start in range(0, len(logs), _AT_ONCE):
            batch = logs[start : start + _AT_ONCE]
            for log, found in zip(
                batch, await asyncio.gather(*(self._has(log, entry_id) for log in batch)), strict=True
            ):
                if found:
                    return log
        raise LookupError(f"entry {entry_id!a} is not stored on {self._storage.backend}")


class _EntryId(str):
    """The id of an entry that was read, with the log that has it: the framework asks for entries by their ids alone."""

    __slots__ = ("log",)

    log: str

    def __new__(cls, entry_id: str, log: str) -> Self:
        self = super().__new__(cls, entry_id)
        self.log = log
        return self

    @classmethod
    def of(cls, entry_id: str | None, log: str) -> "_EntryId | None":
        return None if entry_id is None else cls(entry_id, log)

    def __reduce__(self) -> tuple[Any, ...]:
        return _EntryId, (str(self), self.log)


@attrs.frozen(kw_only=True)
class _Stored:
    """What is stored of a conversation.

    Attributes:
        version: The version of the memory; 0: there is none.
        log: The owner of its entries.
        record: Its record; None: it was deleted, or never saved.
    """

    version: int = 0
    log: str = ""
    record: ConversationRecord | None = None

    @property
    def revision(self) -> str | None:
        return None if self.record is None else self.record.revision


def _text(entry_id: str | None) -> str | None:
    return None if entry_id is None else str(entry_id)


def _plain(record: ConversationRecord) -> ConversationRecord:
    """Return a record whose ids are plain strings: pydantic refuses lone surrogates in others."""
    return dataclasses.replace(
        record,
        head_id=_text(record.head_id),
        forked_at=_text(record.forked_at),
        branches=[str(entry_id) for entry_id in record.branches],
    )


def _log(log: str) -> MemoryScope:
    return MemoryScope("user", f"{_LOGS}{log}")
