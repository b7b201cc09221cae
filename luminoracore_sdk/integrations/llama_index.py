"""``LuminoraChatStore``: the chat store of LlamaIndex, on every backend."""

# pyright: reportMissingImports=false

import asyncio
import math
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.ports.records import MAX_PAGE, MessageRange, MessageRecord, SessionQuery
from luminoracore_sdk.application.revisions import Revisions
from luminoracore_sdk.domain.errors import ConflictError, MessageNotFoundError, SessionNotFoundError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.integrations.item_store import ItemStore, Storage, run, stable_id, text_place

import_extra("llama_index.core", needed_by="LuminoraChatStore", extra="llama-index")

from llama_index.core.base.llms.types import ChatMessage  # noqa: E402
from llama_index.core.bridge.pydantic import PrivateAttr  # noqa: E402
from llama_index.core.storage.chat_store.base import BaseChatStore  # noqa: E402
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus  # noqa: E402

__all__ = ["LuminoraChatStore"]

T = TypeVar("T")

_TAG = "llama-index"
_STATUSES = frozenset(status.value for status in MessageStatus)
_DELETED = "deleted"
"""The status of a message that one of several callers deletes, until it is deleted."""
_ROLES = {
    "assistant": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}


class LuminoraChatStore(BaseChatStore, AsyncDBChatStore):
    """Keeps the messages of conversations, each under a key, for ``Memory`` and for ``ChatMemoryBuffer``.

    ``AsyncDBChatStore`` and ``BaseChatStore`` have methods of the same names, which the one awaits and the other does
    not. In a thread that runs an event loop these methods return what can be awaited, and need not be to be done; later
    calls of the same key wait for it. In other threads they return the result. The methods whose names begin with ``a``
    are awaited always.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
    """

    _items: ItemStore = PrivateAttr()
    _begun: dict[str, "asyncio.Task[Any]"] = PrivateAttr(default_factory=dict)

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._items = ItemStore(storage, "llama-index", reads=_item_of)

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class."""
        return "LuminoraChatStore"

    # -- what both classes name --------------------------------------------------------------------

    def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Any:
        """Return the messages of a key, oldest first.

        Args:
            key: Any string.
            status: Only those that are active or archived; None: all.
            limit: Their largest number; None: all.
            offset: So many of the oldest are left out.
        """
        return self._answer(key, lambda: self.aget_messages(key, status, limit, offset))

    def set_messages(self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE) -> Any:
        """Replace the messages of a key, up to 1,000 of them all or none. What is returned can always be awaited."""
        answer = self._answer(key, lambda: self.aset_messages(key, messages, status))
        return _Answer(_ended) if answer is None else answer

    def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> Any:
        """Append a message."""
        return self._answer(key, lambda: self._add(key, [message], status))

    def delete_message(self, key: str, idx: int) -> Any:
        """Delete the active message of an index, and return it; None: there is none."""
        return self._answer(key, lambda: self.adelete_message(key, idx))

    def delete_messages(self, key: str, status: MessageStatus | None = None) -> Any:
        """Delete the messages of a key, and return them; None: there is no such key."""
        return self._answer(key, lambda: self.adelete_messages(key, status))

    def get_keys(self) -> Any:
        """Return the keys that have messages."""
        return self._answer("", self.aget_keys)

    def _answer(self, key: str, call: Callable[[], Coroutine[Any, Any, T]]) -> Any:
        """Return the result of a call, or what is awaited for it where an event loop runs in this thread."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return run(call())
        before, calls = self._begun.get(key), [call]
        task = loop.create_task(_after(before if before and before.get_loop() is loop else None, calls))
        self._begun[key] = task
        task.add_done_callback(lambda ended: self._begun.pop(key) if self._begun.get(key) is ended else None)
        return _Answer(partial(_awaited, task, calls))

    # -- BaseChatStore -----------------------------------------------------------------------------

    def delete_last_message(self, key: str) -> ChatMessage | None:
        """Delete the newest message, and return it; None: there is none."""
        found: ChatMessage | None = self._answer(key, lambda: self.adelete_last_message(key))
        return found

    async def aget_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Return the messages of a key; see ``get_messages``."""
        start = offset or 0
        found = [message for _, message in await self._read(key, status)]
        return found[start : None if limit is None else start + limit]

    async def aset_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Replace the messages of a key; see ``set_messages``."""
        records = [self._record(message, status.value) for message in messages]
        await self._items.replace(stable_id(key), records, begun=lambda new: self._with_key(new, key))

    async def async_add_message(self, key: str, message: ChatMessage) -> None:
        """Append a message."""
        await self._add(key, [message], MessageStatus.ACTIVE)

    async def adelete_messages(self, key: str, status: MessageStatus | None = None) -> list[ChatMessage] | None:
        """Delete the messages of a key; see ``delete_messages``."""
        if status is not None:
            found = await self._read(key, status)
            return [message for record, message in found if await self._delete(key, record, message)]
        try:
            receipt = await self._items.storage.replace_tail(stable_id(key), after=0)
        except SessionNotFoundError:
            return None
        return [_message(item) for item in await self._items.items(stable_id(key), receipt.removed)]

    async def adelete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Delete the active message of an index; see ``delete_message``."""
        while True:
            found = await self._read(key, MessageStatus.ACTIVE)
            if not -len(found) <= idx < len(found):
                return None
            record, message = found[idx]
            if await self._delete(key, record, message):
                return message

    async def adelete_last_message(self, key: str) -> ChatMessage | None:
        """Delete the newest message, and return it; two calls at once return different ones."""
        item = await self._items.pop(stable_id(key))
        return None if item is None else _message(item)

    async def aget_keys(self) -> list[str]:
        """Return the keys that have messages."""
        sessions: list[str] = []
        query: SessionQuery | None = SessionQuery(tag=_TAG, limit=MAX_PAGE)
        while query is not None:
            page = await self._items.storage.query_sessions(query)
            query = None if page.next_cursor is None else attrs.evolve(query, cursor=page.next_cursor)
            sessions += [record.session_id for record in page.sessions if record.last_position]
        return [await self._key_of(session_id) for session_id in sessions]

    # -- AsyncDBChatStore --------------------------------------------------------------------------

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """Return the number of messages."""
        return len(await self._read(key, status))

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Append messages, up to 1,000 of them all or none."""
        await self._add(key, messages, status)

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Delete the oldest active messages, and return them."""
        found = (await self._read(key, MessageStatus.ACTIVE))[: max(n, 0)]
        return [message for record, message in found if await self._delete(key, record, message)]

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Mark the oldest active messages as archived, each of them once, and return them."""
        found = (await self._read(key, MessageStatus.ACTIVE))[: max(n, 0)]
        archived = MessageStatus.ARCHIVED.value
        return [message for record, message in found if await self._claim(key, record, message, archived)]

    async def _claim(self, key: str, record: MessageRecord, message: ChatMessage, status: str) -> bool:
        """Change the status of a message; return False if another caller has changed the message."""
        new = self._record(message, status, claimed_by=self._items.services.ids.new_id())
        try:
            await self._items.storage.update_message(
                stable_id(key), record.position, payload=new.payload, expected=record.payload, brief=new.brief
            )
        except (ConflictError, SessionNotFoundError):
            return False
        return True

    # -- both --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the storage, if it was made here."""
        run(self.aclose())

    async def aclose(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    async def _add(self, key: str, messages: Sequence[ChatMessage], status: MessageStatus) -> None:
        records = [self._record(message, status.value) for message in messages]
        await self._items.append(stable_id(key), records, begun=lambda new: self._with_key(new, key))

    def _with_key(self, session: Session, key: str) -> Session:
        config = attrs.evolve(session.config, tags=(*session.config.tags, _TAG))
        return self._items.with_document(attrs.evolve(session, config=config), {"key": key})

    async def _key_of(self, session_id: str) -> str:
        if not session_id.startswith("sha256:"):
            return session_id
        session = await self._items.find(session_id)
        document = None if session is None else self._items.document(session)
        return session_id if document is None else str(document["key"])

    async def _read(self, key: str, status: MessageStatus | None) -> list[tuple[MessageRecord, ChatMessage]]:
        session_id = stable_id(key)
        found: list[tuple[MessageRecord, ChatMessage]] = []
        for record in await self._items.read(session_id, MessageRange()):
            item = self._items.item(session_id, record)
            if item is not None and item["status"] in (_STATUSES if status is None else {status.value}):
                found.append((record, _message(item)))
        return found

    async def _delete(self, key: str, record: MessageRecord, message: ChatMessage) -> bool:
        """Delete a message from the middle; return False if another caller has changed it."""
        if not await self._claim(key, record, message, _DELETED):
            return False
        session_id, items = stable_id(key), self._items
        revisions = Revisions(storage=items.storage, services=items.services)
        with suppress(MessageNotFoundError, SessionNotFoundError):
            await revisions.delete(
                session_id,
                [record.message_id],
                note=lambda: items.change(session_id, lambda session: attrs.evolve(session, has_deletions=True)),
            )
        return True

    def _record(self, message: ChatMessage, status: str, claimed_by: str | None = None) -> MessageRecord:
        data = _exact(message.model_dump(mode="json"), message.model_dump())
        item = {"status": status, "message": data, **({"claimed_by": claimed_by} if claimed_by else {})}
        call_id = message.additional_kwargs.get("tool_call_id")
        return self._items.record(
            item,
            role=_ROLES.get(message.role.value, "user"),
            place=text_place(item, "message", "blocks"),
            metadata={"tool_call_id": call_id} if isinstance(call_id, str) else None,
        )


class _Answer(Coroutine[Any, Any, T]):
    """What a method returns that may be awaited and need not be; unlike a coroutine it does not complain then."""

    def __init__(self, steps: Callable[[], Generator[Any, Any, T]]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, T]:
        return self._steps()

    @cached_property
    def _running(self) -> Generator[Any, Any, T]:
        return self._steps()

    def send(self, value: Any) -> Any:
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        return self._running.throw(*error)

    def close(self) -> None:
        self._running.close()


async def _after(before: "asyncio.Task[Any] | None", calls: list[Callable[[], Coroutine[Any, Any, Any]]]) -> Any:
    if before is not None:
        await asyncio.wait([before])
    return await calls.pop()() if calls else None


def _awaited(task: "asyncio.Task[T]", calls: list[Callable[[], Coroutine[Any, Any, T]]]) -> Generator[Any, Any, T]:
    if calls and task.get_loop() is not asyncio.get_running_loop():  # which waits for this one, in asyncio_run
        return (yield from calls.pop()().__await__())
    return (yield from task.__await__())


def _ended() -> Generator[Any, Any, None]:
    yield from ()


def _message(item: JSONObject) -> ChatMessage:
    return ChatMessage.model_validate(item["message"])


def _item_of(message: Message) -> JSONObject | None:
    """Return the item of a message that another program stored; results of tools without their calls are left out."""
    if message.role == "tool":
        return None
    content = message.content if isinstance(message.content, list) else None
    blocks = [
        {"block_type": "text", "text": part["text"]}
        for part in content or [{"text": message.content}]
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    return {"status": MessageStatus.ACTIVE.value, "message": {"role": message.role.value, "blocks": blocks}}


def _exact(dumped: Any, value: Any) -> Any:
    """Return a JSON value with the NaN and infinities that pydantic has written as null."""
    if isinstance(dumped, dict) and isinstance(value, dict):
        return {key: _exact(item, value.get(key)) for key, item in dumped.items()}
    if isinstance(dumped, list) and isinstance(value, list):
        return [_exact(item, other) for item, other in zip(dumped, value, strict=False)]
    return value if dumped is None and isinstance(value, float) and not math.isfinite(value) else dumped
