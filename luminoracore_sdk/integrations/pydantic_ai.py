"""``LuminoraMessageHistory``: the message history of Pydantic AI, on every backend."""

# pyright: reportMissingImports=false

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.foreign import tool_call
from luminoracore_sdk.application.ports.records import MessageRecord
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message, message_text
from luminoracore_sdk.integrations.item_store import ItemStore, Storage, stable_id

import_extra("pydantic_ai", needed_by="LuminoraMessageHistory", extra="pydantic-ai")

from pydantic import ConfigDict, TypeAdapter  # noqa: E402
from pydantic_ai.conversation import Conversation  # noqa: E402
from pydantic_ai.messages import ModelMessage  # noqa: E402

__all__ = ["LuminoraMessageHistory", "window"]

# as ModelMessagesTypeAdapter, which writes NaN and infinities as null
_CONFIG = ConfigDict(defer_build=True, ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_MESSAGES = TypeAdapter(list[ModelMessage], config=_CONFIG)


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
