"""``LuminoraSession``: the conversations of the OpenAI Agents SDK, on every backend."""

# pyright: reportMissingImports=false

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.export_import import ImportReceipt, OnExisting
from luminoracore_sdk.application.exchange.foreign import tool_call
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.integrations.importing import exchange_of, opened, parsed, time_of
from luminoracore_sdk.integrations.item_store import ItemStore, Storage, completed, stable_id, text_place

if TYPE_CHECKING:
    from agents import TResponseInputItem
    from agents.memory import SessionSettings

__all__ = ["LuminoraSession", "import_history"]

_FRAMEWORK = "openai-agents"

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class LuminoraSession:
    """Keeps the items of one conversation; implements the protocol ``agents.memory.Session``.

    Items come back equal, in the order of keys too. Any number of event loops and threads may use one session that was
    made from a URL or configuration. A mutation that was begun ends before ``CancelledError`` is raised.

    Args:
        session_id: Any string, which is the id of the session in the storage; of one that ids do not allow, a digest
            is.
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
        session_settings: ``SessionSettings`` or a mapping of them; None: all items are returned.

    Raises:
        MissingDependencyError: The extra ``openai-agents`` is not installed.
    """

    def __init__(
        self,
        session_id: str,
        *,
        storage: Storage,
        session_settings: "SessionSettings | dict[str, Any] | None" = None,
    ) -> None:
        self._settings = import_extra(
            "agents.memory.session_settings", needed_by="LuminoraSession", extra="openai-agents"
        )
        self.session_id = session_id
        self.session_settings: SessionSettings | None = self._settings.coerce_session_settings(session_settings or {})
        self._items = ItemStore(storage, _FRAMEWORK, reads=_item_of)
        self._key = stable_id(session_id)
        self._is_closed = False

    async def get_items(self, limit: int | None = None) -> "list[TResponseInputItem]":
        """Return the newest items, oldest first.

        Args:
            limit: Their largest number; None: that of the settings, else all.

        Raises:
            RuntimeError: The session is closed.
        """
        self._check_open()
        limit = self._settings.resolve_session_limit(limit, self.session_settings)
        return await self._items.newest(self._key, limit)

    async def add_items(self, items: "Sequence[TResponseInputItem]") -> None:
        """Append items, up to 1,000 of them all or none.

        Raises:
            RuntimeError: The session is closed.
            SessionNotFoundError: The session was erased less than a day ago.
        """
        self._check_open()
        records = [_record(self._items, item) for item in items]
        await completed(self._items.append(self._key, records))

    async def pop_item(self) -> "TResponseInputItem | None":
        """Remove and return the newest item, or None; two calls at once return different ones.

        Raises:
            RuntimeError: The session is closed.
        """
        self._check_open()
        return await completed(self._items.pop(self._key))

    async def clear_session(self) -> None:
        """Remove every item.

        Raises:
            RuntimeError: The session is closed.
        """
        self._check_open()
        await completed(self._items.clear(self._key))

    async def close(self) -> None:
        """Refuse further calls, and close the storage if it was made here."""
        self._is_closed = True
        await self._items.close()

    async def _atomic_replace_items(self, items: "Sequence[TResponseInputItem]") -> bool:
        """Replace the history in one step, for ``OpenAIResponsesCompactionSession``, which finds this by its name.

        A subclass may store items in another form: False asks the caller to do without.
        """
        if type(self) is not LuminoraSession:
            return False
        self._check_open()
        records = [_record(self._items, item) for item in items]
        await completed(self._items.replace(self._key, records))
        return True

    async def _get_compaction_snapshot(
        self,
        limit: int,
        *,
        prune_prefix: Callable[[Any], bool] | None = None,  # noqa: ARG002  # what it names is read no more, and stays
    ) -> "_Snapshot | None":
        """Return the newest items, for ``OpenAIResponsesCompactionSession``, which finds this by its name.

        A subclass may store items in another form: None asks the caller to do without.
        """
        if type(self) is not LuminoraSession:
            return None
        self._check_open()
        read = await self._items.read(self._key, MessageRange(limit=limit + 1, newest=True))
        found = [(record, self._items.item(self._key, record)) for record in read[-limit:]]
        found = [(record, item) for record, item in found if item is not None]

        async def replace(first: int, records: Sequence[MessageRecord]) -> bool:
            now = await self._items.read(self._key, MessageRange(after=first - 1))
            if [one.message_id for one in now] != [one.message_id for one in read if one.position >= first]:
                return False
            try:
                await self._items.storage.replace_tail(
                    self._key, after=first - 1, messages=records, expected_last=now[-1].position
                )
            except (ConflictError, SessionNotFoundError):
                return False
            return True

        async def replace_suffix(start: int, output: "Sequence[TResponseInputItem]") -> bool:
            if start >= len(found):
                return False
            return await completed(replace(found[start][0].position, [_record(self._items, item) for item in output]))

        return _Snapshot([item for _, item in found], len(read) <= limit, replace_suffix)

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("this LuminoraSession is closed; make another one for the same session_id")


@attrs.frozen
class _Snapshot:
    """The newest items of a session, while it may go on.

    Attributes:
        items: The items, oldest first.
        complete: Whether they are all.
        replace_suffix: Replaces those from an index on by others; False: the session has gone on, nothing was changed.
    """

    items: "list[TResponseInputItem]"
    complete: bool
    replace_suffix: "Callable[[int, Sequence[TResponseInputItem]], Awaitable[bool]]"


async def import_history(
    source: Path | str, storage: SessionStorage, existing: OnExisting = OnExisting.REFUSE
) -> AsyncIterator[tuple[str, ImportReceipt]]:
    """Store the sessions of ``SQLiteSession`` or ``SQLAlchemySession``, on SQLite or PostgreSQL; see ``importing``.

    Raises:
        SessionExistsError: The storage has another session of the same id.
        ValidationError: It is no such store, or an item of it is not JSON.
    """
    items = ItemStore(storage, _FRAMEWORK)
    tables = {
        "agent_sessions": ("session_id", "created_at", "updated_at"),
        "agent_messages": ("id", "session_id", "message_data", "created_at"),
    }
    async with opened(source) as own:
        await own.check("SQLiteSession" if not own.is_server else "SQLAlchemySession", tables)
        created_at, updated_at = own.moment("created_at"), own.moment("updated_at")
        sessions = f"SELECT session_id, {created_at}, {updated_at} FROM agent_sessions ORDER BY session_id"  # noqa: S608
        messages = f"SELECT id, message_data, {created_at} FROM agent_messages WHERE session_id = $1 ORDER BY id"  # noqa: S608
        async for session_id, created, updated in own.rows(sessions):
            session = Session(
                session_id=stable_id(session_id),
                personality={},
                provider=None,
                created_at=time_of(created, f"{own.name}: session {session_id!a}"),
                last_activity=time_of(updated, f"{own.name}: session {session_id!a}"),
            )
            records = [
                _imported(items, f"{own.name}: agent_messages {number}", f"item-{number}", text, stored)
                async for number, text, stored in own.rows(messages, session_id)
            ]
            receipt = await exchange_of(items).import_session(parsed(items, session, records), existing=existing)
            yield session.session_id, receipt


def _imported(items: ItemStore, place: str, message_id: str, text: str, stored: object) -> MessageRecord:
    try:
        item = json.loads(text)
    except ValueError as exc:
        raise ValidationError(f"{place}: is not JSON: {exc}") from exc
    if not isinstance(item, dict):
        raise ValidationError(f"{place}: is not an object")
    return _record(items, item, message_id=message_id, timestamp=time_of(stored, place))


def _record(
    items: ItemStore, item: Any, *, message_id: str | None = None, timestamp: datetime | None = None
) -> MessageRecord:
    call_id, kind = item.get("call_id"), str(item.get("type", "message"))
    metadata: JSONObject = {}
    if kind.endswith("_output"):
        role, place = "tool", text_place(item, "output")
        if isinstance(call_id, str):
            metadata["tool_call_id"] = call_id
    else:
        role = _ROLES.get(str(item.get("role")), "assistant")
        place = text_place(item, "content") if kind == "message" else None
    if kind == "function_call" and isinstance(call_id, str):
        metadata["tool_calls"] = [tool_call(call_id, str(item.get("name")), item.get("arguments"))]
    return items.record(item, role=role, place=place, metadata=metadata, message_id=message_id, timestamp=timestamp)


def _item_of(message: Message) -> JSONObject | None:
    """Return the item of a message that another program stored; results of tools without their calls are left out."""
    return None if message.role == "tool" else {"role": message.role.value, "content": message.content}
