"""``LuminoraSessionRepository`` and ``LuminoraStorage``: sessions and storage of Strands Agents, on every backend."""

# pyright: reportMissingImports=false

import asyncio
import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.foreign import tool_call
from luminoracore_sdk.application.ports.records import (
    MAX_PAGE,
    MemoryQuery,
    MemoryScope,
    MessageRange,
    MessageRecord,
    SessionQuery,
)
from luminoracore_sdk.domain.errors import ConflictError, LuminoraCoreSDKError, SessionNotFoundError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.session import Session as StoredSession
from luminoracore_sdk.domain.values import MAX_ID_LENGTH
from luminoracore_sdk.integrations.item_store import ITEM, ItemStore, Storage, composed_id, run, stable_id, text_place

import_extra("strands", needed_by="LuminoraSessionRepository", extra="strands")

from strands.session.session_repository import SessionRepository  # noqa: E402
from strands.storage import Storage as StrandsStorage  # noqa: E402
from strands.types.exceptions import SessionException, StorageError  # noqa: E402
from strands.types.session import Session, SessionAgent, SessionMessage  # noqa: E402

if TYPE_CHECKING:
    from strands.multiagent import MultiAgentBase

__all__ = ["LuminoraSessionRepository", "LuminoraStorage"]

_BLOBS = MemoryScope("user", "strands-storage")
_CUT = MAX_ID_LENGTH - 65
"""What is kept of a key that is too long, before # and a digest."""


class LuminoraSessionRepository(SessionRepository):
    """Keeps sessions, agents and messages, for ``RepositorySessionManager``.

    The messages of an agent are those of the session ``session/agent`` in the storage; slashes of a part are escaped.
    Two processes may run one agent of one session at once: a message whose index the other has taken gets the next one,
    and none is overwritten. Any number of threads may use one repository.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
    """

    def __init__(self, storage: Storage) -> None:
        self._items = ItemStore(storage, "strands")
        self._storage = self._items.storage

    # -- sessions ----------------------------------------------------------------------------------

    def create_session(self, session: Session, **_: Any) -> Session:
        """Store a new session; the conversation of another program may have the same id.

        Raises:
            SessionException: There is one of this id.
        """

        def created(stored: StoredSession) -> StoredSession:
            if self._items.document(stored) is not None:
                raise SessionException(f"Session {session.session_id} already exists")
            return self._items.with_document(stored, session.to_dict())

        run(self._items.change(composed_id(session.session_id), created))
        return session

    def read_session(self, session_id: str, **_: Any) -> Session | None:
        """Return a session, or None."""
        document = self._document(composed_id(session_id))
        return None if document is None else Session.from_dict(document)

    def delete_session(self, session_id: str, **_: Any) -> None:
        """Delete a session with its agents and messages; what another program keeps under the id stays.

        Raises:
            SessionException: There is none.
        """
        if not run(self._delete(session_id)):
            raise SessionException(f"Session {session_id} does not exist")

    async def _delete(self, session_id: str) -> bool:
        query: SessionQuery | None = SessionQuery(tag=_tag(session_id), limit=MAX_PAGE)
        while query is not None:
            page = await self._storage.query_sessions(query)
            query = None if page.next_cursor is None else attrs.evolve(query, cursor=page.next_cursor)
            for record in page.sessions:
                await self._storage.delete_session(record.session_id)
        stored_id = composed_id(session_id)
        session = await self._items.find(stored_id)
        if session is None or self._items.document(session) is None:
            return False
        if await self._items.read(stored_id, MessageRange(limit=1)):  # of another program
            await self._items.change(stored_id, _without_document)
        else:
            await self._storage.delete_session(stored_id)
        return True

    # -- agents ------------------------------------------------------------------------------------

    def create_agent(self, session_id: str, session_agent: SessionAgent, **_: Any) -> None:
        """Store an agent of a session."""
        self._put(session_id, composed_id(session_id, session_agent.agent_id), session_agent.to_dict())

    def read_agent(self, session_id: str, agent_id: str, **_: Any) -> SessionAgent | None:
        """Return an agent, or None."""
        document = self._document(composed_id(session_id, agent_id))
        return None if document is None else SessionAgent.from_dict(document)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **_: Any) -> None:
        """Replace the state of an agent; its time of creation stays.

        Raises:
            SessionException: There is no such agent.
        """
        previous = self.read_agent(session_id, session_agent.agent_id)
        if previous is None:
            raise SessionException(f"Agent {session_agent.agent_id} in session {session_id} does not exist")
        session_agent.created_at = previous.created_at
        self.create_agent(session_id, session_agent)

    def create_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **_: Any) -> None:
        """Store the state of a graph or swarm of a session."""
        self._put(session_id, _multi_agent_id(session_id, multi_agent.id), multi_agent.serialize_state())

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **_: Any) -> dict[str, Any] | None:
        """Return the state of a graph or swarm, or None."""
        document: JSONObject | None = self._document(_multi_agent_id(session_id, multi_agent_id))
        return document

    def update_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **_: Any) -> None:
        """Replace the state of a graph or swarm.

        Raises:
            SessionException: It was not stored.
        """
        if self.read_multi_agent(session_id, multi_agent.id) is None:
            raise SessionException(f"MultiAgent state {multi_agent.id} in session {session_id} does not exist")
        self.create_multi_agent(session_id, multi_agent)

    def _document(self, stored_id: str) -> Any:
        session = run(self._items.find(stored_id))
        return None if session is None else self._items.document(session)

    def _put(self, session_id: str, stored_id: str, document: JSONObject) -> None:
        def changed(session: StoredSession) -> StoredSession:
            return self._items.with_document(_tagged(session, session_id), document)

        run(self._items.change(stored_id, changed))

    # -- messages ----------------------------------------------------------------------------------

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **_: Any) -> None:
        """Append a message.

        If another process has taken its index, it gets the next one, which is set in ``session_message`` too.
        """
        run(self._append(session_id, composed_id(session_id, agent_id), session_message))

    async def _append(self, session_id: str, stored_id: str, message: SessionMessage) -> None:
        while True:
            append = partial(self._storage.append_messages, stored_id, [self._record(message)])
            receipt = await self._items.in_session(stored_id, append, lambda new: _tagged(new, session_id))
            if not receipt.replayed or await self._is_stored(stored_id, message):
                return
            newest = await self._items.read(stored_id, MessageRange(limit=1, newest=True))
            message.message_id = max(message.message_id + 1, newest[-1].position if newest else 0)

    async def _is_stored(self, stored_id: str, message: SessionMessage) -> bool:
        found = await self._storage.find_message(stored_id, str(message.message_id))
        return found is not None and self._items.item(stored_id, found) == message.to_dict()

    def read_message(self, session_id: str, agent_id: str, message_id: int, **_: Any) -> SessionMessage | None:
        """Return a message, or None."""
        stored_id = composed_id(session_id, agent_id)
        record = run(self._storage.find_message(stored_id, str(message_id)))
        item = None if record is None else self._items.item(stored_id, record)
        return None if item is None else SessionMessage.from_dict(item)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **_: Any) -> None:
        """Replace a message in its place, for example by its redacted form; its time of creation stays.

        Raises:
            SessionException: There is no such message.
        """
        if not run(self._update(composed_id(session_id, agent_id), session_message)):
            raise SessionException(f"Message {session_message.message_id} does not exist")

    async def _update(self, stored_id: str, message: SessionMessage) -> bool:
        while (found := await self._storage.find_message(stored_id, str(message.message_id))) is not None:
            item = self._items.item(stored_id, found)
            if item is None:
                break
            message.created_at = item["created_at"]
            new = self._record(message)
            try:
                await self._storage.update_message(
                    stored_id, found.position, payload=new.payload, expected=found.payload, brief=new.brief
                )
            except ConflictError:
                continue
            return True
        return False

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **_: Any
    ) -> list[SessionMessage]:
        """Return the messages of an agent, in the order in which they were stored.

        Raises:
            SessionException: There is no such agent.
        """
        stored_id = composed_id(session_id, agent_id)
        try:
            records = run(self._storage.read_messages(stored_id, MessageRange(after=offset, limit=limit)))
        except SessionNotFoundError as exc:
            raise SessionException(f"Messages missing from agent: {agent_id} in session {session_id}") from exc
        return [SessionMessage.from_dict(item) for item in run(self._items.items(stored_id, records))]

    def _record(self, message: SessionMessage) -> MessageRecord:
        item = message.to_dict()
        shown = "message" if item["redact_message"] is None else "redact_message"
        content = item[shown]["content"]
        metadata: JSONObject = {}
        calls = [part["toolUse"] for part in content if "toolUse" in part]
        if calls:
            metadata["tool_calls"] = [tool_call(call["toolUseId"], call["name"], call["input"]) for call in calls]
        results = [part["toolResult"] for part in content if "toolResult" in part]
        if len(results) == 1:
            metadata["tool_call_id"] = results[0]["toolUseId"]
        return self._items.record(
            item,
            role="tool" if results and len(results) == len(content) else item[shown]["role"],
            place=text_place(item, shown, "content"),
            message_id=str(message.message_id),
            metadata=metadata,
        )

    def close(self) -> None:
        """Close the storage, if it was made here."""
        run(self._items.close())


def _tag(session_id: str) -> str:
    return stable_id(f"strands-session:{composed_id(session_id)}")


def _tagged(session: StoredSession, session_id: str) -> StoredSession:
    tags = (*session.config.tags, _tag(session_id))
    return attrs.evolve(session, config=attrs.evolve(session.config, tags=tags))


def _without_document(session: StoredSession) -> StoredSession:
    return attrs.evolve(session, metadata={key: value for key, value in session.metadata.items() if key != ITEM})


def _multi_agent_id(session_id: str, multi_agent_id: str) -> str:
    return composed_id(session_id, "multi-agent", multi_agent_id)


class LuminoraStorage(StrandsStorage[str, str]):
    """Keeps bytes by key, for agents and ``SnapshotSessionManager``; implements ``strands.storage.Storage``.

    Each value is a memory of one reserved owner. A value is replaced as a whole: of two writers of one key the last
    wins, as with every storage of the framework, and a write that is cancelled or killed leaves the old value or the
    new one. A key is any string and is taken as it is: unlike the framework's own storages, ``a//b`` is not ``a/b``,
    and ``..``, backslashes and the empty string are valid. ``search`` reads every value and counts words.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.
    """

    def __init__(self, storage: Storage) -> None:
        self._items = ItemStore(storage, "strands")
        self._storage = self._items.storage

    async def write(self, key: str, data: bytes) -> None:
        """Store bytes under a key, and replace those that there are.

        Raises:
            StorageError: They cannot be stored, or exceed what the backend takes: 16 MB on MongoDB.
        """
        try:
            value: str | bytes = bytes(data).decode()  # as text it is smaller, and better compressed
        except UnicodeDecodeError:
            value = bytes(data)
        with self._translated("write", key):
            document = self._items.wrapped({"key": key, "data": value})
            await self._storage.put_memory(self._items.memory(_BLOBS, _stored_key(key), document))

    async def read(self, key: str) -> bytes | None:
        """Return the bytes of a key, or None.

        Raises:
            StorageError: The backend does not answer, or what it has is damaged.
        """
        with self._translated("read", key):
            document = await self._document(_stored_key(key))
        if document is None:
            return None
        data: str | bytes = document["data"]
        return data.encode() if isinstance(data, str) else data

    async def delete(self, key: str) -> None:
        """Delete the bytes of a key, if there are any.

        Raises:
            StorageError: The backend does not answer.
        """
        with self._translated("delete", key):
            await self._storage.delete_memory(_BLOBS, _stored_key(key))

    async def list(self, query: str = "") -> builtins.list[str]:
        """Return the keys that begin with a prefix, sorted by code points; values of short keys are not read.

        Raises:
            StorageError: The backend does not answer.
        """
        found: builtins.list[str] = []
        pages = MemoryQuery(prefix=_quoted(query)[:_CUT], limit=MAX_PAGE, with_payload=False)
        with self._translated("list", query):
            while page := await self._storage.list_memories(_BLOBS, pages):
                stored = [record.key for record in page]
                found += (unquote(key, errors="surrogatepass") for key in stored if "#" not in key)
                cut = await asyncio.gather(*(self._document(key) for key in stored if "#" in key))
                found += (document["key"] for document in cut if document is not None)
                pages = attrs.evolve(pages, after=stored[-1])
        return sorted(key for key in found if key.startswith(query))

    async def close(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    async def _document(self, stored_key: str) -> Any:
        record = await self._storage.find_memory(_BLOBS, stored_key)
        return None if record is None else self._items.memory_value(record)

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except LuminoraCoreSDKError as exc:
            raise StorageError(f"cannot {action} {key!a} on {self._storage.backend}: {exc}") from exc


def _quoted(key: str) -> str:
    """Return a key without # and what ids do not allow; that of a prefix is a prefix of it."""
    return quote(key, safe="/ !$&'()*+,:;=@~", errors="surrogatepass")


def _stored_key(key: str) -> str:
    name = _quoted(key)
    if 0 < len(name) <= MAX_ID_LENGTH:
        return name
    return f"{name[:_CUT]}#{sha256(name.encode()).hexdigest()}"
