"""``LuminoraChatMessageHistory``: the chat message history of LangChain, on every backend."""

# pyright: reportMissingImports=false

import json
from collections.abc import Sequence
from typing import Any

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.foreign import tool_call
from luminoracore_sdk.application.ports.records import MessageRecord
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.integrations.item_store import ItemStore, Storage, run, stable_id, text_place

import_extra("langchain_core", needed_by="LuminoraChatMessageHistory", extra="langchain")

from langchain_core.chat_history import BaseChatMessageHistory  # noqa: E402
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict  # noqa: E402

__all__ = ["LuminoraChatMessageHistory"]

_ROLES = {"ai": "assistant", "assistant": "assistant", "tool": "tool", "function": "tool", "system": "system"}
_KINDS = {"user": "human", "assistant": "ai", "system": "system"}


class LuminoraChatMessageHistory(BaseChatMessageHistory):
    """Keeps the messages of one conversation, for ``RunnableWithMessageHistory`` and by itself.

    Calls without ``await`` run on an event loop of the package's own, so they work in any thread, also in one that runs
    a loop; those with ``await`` do not use a thread. A history that was made from a URL or configuration can be used
    from any number of threads and loops.

    Args:
        session_id: Any string, which is the id of the session in the storage; of one that ids do not allow, a digest
            is.
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
    """

    def __init__(self, session_id: str, *, storage: Storage) -> None:
        super().__init__()
        self.session_id = session_id
        self._items = ItemStore(storage, "langchain", reads=_item_of)
        self._key = stable_id(session_id)

    @property
    def messages(self) -> list[BaseMessage]:
        """All messages, oldest first."""
        return run(self.aget_messages())

    async def aget_messages(self) -> list[BaseMessage]:
        """Return all messages, oldest first."""
        return messages_from_dict(await self._items.newest(self._key, None))

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, up to 1,000 of them all or none."""
        run(self.aadd_messages(messages))

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, up to 1,000 of them all or none.

        Raises:
            TypeError: A message has something that is neither JSON nor bytes.
            SessionNotFoundError: The session was erased less than a day ago.
        """
        await self._items.append(self._key, [self._record(message_to_dict(message)) for message in messages])

    def clear(self) -> None:
        """Remove all messages."""
        run(self.aclear())

    async def aclear(self) -> None:
        """Remove all messages."""
        await self._items.clear(self._key)

    def close(self) -> None:
        """Close the storage, if it was made here."""
        run(self.aclose())

    async def aclose(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    def _record(self, item: JSONObject) -> MessageRecord:
        data = item["data"]
        kind = str(data.get("role") if item["type"] == "chat" else item["type"]).removesuffix("MessageChunk").lower()
        metadata: JSONObject = {}
        if calls := data.get("tool_calls"):
            metadata["tool_calls"] = [_tool_call(call) for call in calls]
        if isinstance(data.get("tool_call_id"), str):
            metadata["tool_call_id"] = data["tool_call_id"]
        return self._items.record(
            item, role=_ROLES.get(kind, "user"), place=text_place(item, "data", "content"), metadata=metadata
        )


def _tool_call(call: JSONObject) -> JSONObject:
    arguments = json.dumps(call["args"], ensure_ascii=False, default=str)  # bytes are in the item as they are
    return tool_call(str(call["id"]), call["name"], arguments)


def _item_of(message: Message) -> Any:
    """Return the item of a message that another program stored; results of tools without their calls are left out."""
    kind = _KINDS.get(message.role.value)
    return None if kind is None else {"type": kind, "data": {"type": kind, "content": message.content}}
