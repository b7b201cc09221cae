"""``LuminoraHistoryProvider`` and ``LuminoraSessionStore``: Microsoft's Agent Framework, on every backend."""

# pyright takes the framework for this module where it is not installed.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# pyright: reportInvalidTypeForm=false

import json
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.foreign import tool_call
from luminoracore_sdk.application.ports.records import MAX_BATCH, MessageRange, MessageRecord
from luminoracore_sdk.domain.errors import ConflictError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message as StoredMessage
from luminoracore_sdk.domain.message import message_text
from luminoracore_sdk.integrations.item_store import ItemStore, Storage, composed_id, stable_id, text_place

import_extra("agent_framework", needed_by="LuminoraHistoryProvider", extra="agent-framework")

from agent_framework import EXCLUDED_KEY, AgentSession, HistoryProvider, Message, SessionStore  # noqa: E402

__all__ = ["LuminoraHistoryProvider", "LuminoraSessionStore"]

_DEFAULT_SOURCE_ID = "luminora"
_NO_SESSION = "default"
_ROLES = frozenset({"user", "assistant", "system", "tool"})


class LuminoraHistoryProvider(HistoryProvider):
    """Keeps the history of agents.

    The messages of a session are those of the session of its id in the storage, if ``source_id`` is the default; of
    another provider, those of ``agent-framework/source_id/session``, so that several may use one storage. An agent that
    sends the history again with its new messages stores these alone.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
        source_id: The name of the provider within its agent.
        load_messages: Whether the history is loaded before a run.
        store_inputs: Whether the messages of the caller are stored.
        store_context_messages: Whether those that other providers add are stored.
        store_context_from: Only of providers with these names; None: of all others.
        store_outputs: Whether the answers are stored.
        skip_excluded: Whether messages that a compaction has excluded are left out when the history is loaded.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        source_id: str = _DEFAULT_SOURCE_ID,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
        skip_excluded: bool = False,
    ) -> None:
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self.skip_excluded = skip_excluded
        self._items = ItemStore(storage, "agent-framework", reads=_item_of)

    async def get_messages(
        self,
        session_id: str | None,
        *,
        state: dict[str, Any] | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> list[Message]:
        """Return the messages of a session, oldest first; runs without a session share one, ``default``."""
        messages = [Message.from_dict(item) for item in await self._items.newest(self._key(session_id), None)]
        return [one for one in messages if not (self.skip_excluded and one.additional_properties.get(EXCLUDED_KEY))]

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Append those messages with which the history does not end yet, up to 1,000 of them all or none.

        Raises:
            SessionNotFoundError: The session was erased less than a day ago.
        """
        key, items = self._key(session_id), [message.to_dict() for message in messages]
        while items:
            known = await self._items.read(key, MessageRange(limit=len(items) + 1, newest=True))
            new = _new_items(await self._items.items(key, known), items)
            records = [self._record(item) for item in new]
            last = known[-1].position if known else 0
            append = partial(self._items.storage.append_messages, key, records[:MAX_BATCH], expected_last=last)
            try:
                if records:
                    await self._items.in_session(key, append)
            except ConflictError:  # another process has appended
                continue
            await self._items.append(key, records[MAX_BATCH:])
            return

    async def close(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    def _key(self, session_id: str | None) -> str:
        if self.source_id == _DEFAULT_SOURCE_ID:
            return stable_id(session_id or _NO_SESSION)
        return composed_id("agent-framework", self.source_id, session_id or _NO_SESSION)

    def _record(self, item: JSONObject) -> MessageRecord:
        contents = item.get("contents") or []
        metadata: JSONObject = {}
        if calls := [part for part in contents if part.get("type") == "function_call"]:
            metadata["tool_calls"] = [
                tool_call(str(call.get("call_id")), str(call.get("name")), call.get("arguments")) for call in calls
            ]
        results = [part for part in contents if part.get("type") == "function_result"]
        if len(results) == 1 and isinstance(results[0].get("call_id"), str):
            metadata["tool_call_id"] = results[0]["call_id"]
        role = str(item.get("role"))
        return self._items.record(
            item, role=role if role in _ROLES else "user", place=text_place(item, "contents"), metadata=metadata
        )


def _item_of(message: StoredMessage) -> JSONObject | None:
    """Return the item of a message that another program stored; results of tools without their calls are left out."""
    if message.role == "tool":
        return None
    return {"role": message.role.value, "contents": [{"type": "text", "text": message_text(message)}]}


def _new_items(known: Sequence[JSONObject], items: Sequence[JSONObject]) -> Sequence[JSONObject]:
    """Return the items behind those that are known already, as Agent Framework's own providers find them.

    A single message of the user without an id is stored again, since it may have been said twice.

    Args:
        known: The newest stored items, more than ``items`` if there are.
        items: The items to store, which may begin with a part of the history or hold all of it.
    """
    stored, given = [_identity(item) for item in known], [_identity(item) for item in items]
    for start in range(len(given) - len(stored) + 1 if stored else 0):
        if given[start : start + len(stored)] == stored and not (start == 0 and _may_be_repeated(known)):
            return items[start + len(stored) :]
    for count in range(min(len(stored), len(given)), 0, -1):
        if stored[-count:] == given[:count] and not _may_be_repeated(known[-count:]):
            return items[count:]
    return items


def _identity(item: JSONObject) -> Any:
    message_id = item.get("message_id")
    if message_id is not None:
        return message_id
    return item.get("role"), json.dumps(item.get("contents"), sort_keys=True)  # NaN does not equal itself


def _may_be_repeated(known: Sequence[JSONObject]) -> bool:
    return len(known) == 1 and known[0].get("role") == "user" and known[0].get("message_id") is None


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Agent Framework calls its SessionStore experimental when it is subclassed

    class LuminoraSessionStore(SessionStore):
        """Keeps snapshots of ``AgentSession``, each under an id of the caller's choice; the last writer wins.

        Args:
            storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
        """

        def __init__(self, storage: Storage) -> None:
            super().__init__()
            self._items = ItemStore(storage, "agent-framework")

        async def get(self, session_id: str) -> AgentSession | None:
            """Return the snapshot, or None.

            Raises:
                ValueError: The id is empty.
            """
            stored = await self._items.find(self._key(session_id))
            document = None if stored is None else self._items.document(stored)
            return None if document is None else AgentSession.from_dict(document)

        async def set(self, session_id: str, session: AgentSession) -> None:
            """Store a snapshot, and replace the one that there is.

            Raises:
                ValueError: The id is empty.
                TypeError: The state has something that is neither JSON nor bytes, nor of a registered type.
            """
            document = session.to_dict()
            await self._items.change(self._key(session_id), lambda stored: self._items.with_document(stored, document))

        async def delete(self, session_id: str) -> None:
            """Delete the snapshot, if there is one; the history of the session stays.

            Raises:
                ValueError: The id is empty.
            """
            await self._items.storage.delete_session(self._key(session_id))

        async def close(self) -> None:
            """Close the storage, if it was made here."""
            await self._items.close()

        def _key(self, session_id: str) -> str:
            self.validate_session_id(session_id)
            return composed_id("agent-framework-session", session_id)
