# pyright: reportMissingImports=false

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES, same

pytest.importorskip("strands", reason="the extra strands is not installed")

from strands import Agent, tool
from strands.session import SnapshotSessionManager
from strands.session.repository_session_manager import RepositorySessionManager
from strands.storage import Storage
from strands.types.exceptions import SessionException, StorageError
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from luminoracore_sdk.integrations.item_store import ItemStore, run
from luminoracore_sdk.integrations.strands import LuminoraSessionRepository, LuminoraStorage
from tests.integrations.workers.strands_agent import FakeModel

SESSION = Session(session_id="s", session_type=SessionType.AGENT)
CONTENTS: list[Any] = [
    [{"text": "Hi"}],
    [{"text": "Hi"}, {"image": {"format": "png", "source": {"bytes": b"\x00\xff"}}}],
    [{"toolUse": {"toolUseId": "1", "name": "add", "input": {"b": 1, "a": 2}}}],
    [{"toolResult": {"toolUseId": "1", "status": "success", "content": [{"json": {"x": float("nan")}}]}}],
    *([{"text": text}] for text in HOSTILE_TEXTS),
    *([{"toolResult": {"toolUseId": "1", "status": "success", "content": [{"json": v}]}}] for v in HOSTILE_VALUES),
]


def message(number: int, content: Any = None, role: Any = "user") -> SessionMessage:
    return SessionMessage(message={"role": role, "content": content or [{"text": str(number)}]}, message_id=number)


@pytest.fixture
def repository(store: StorageConfig) -> Iterator[LuminoraSessionRepository]:
    repository = LuminoraSessionRepository(store)
    yield repository
    repository.close()


@pytest.fixture
def quick() -> Iterator[LuminoraSessionRepository]:
    repository = LuminoraSessionRepository("memory://")
    yield repository
    repository.close()


def agent_of(repository: LuminoraSessionRepository, **settings: Any) -> Agent:
    manager = RepositorySessionManager("s", session_repository=repository)
    return Agent(agent_id="a", model=FakeModel(), session_manager=manager, callback_handler=None, **settings)


class TestRuns(AgentRuns):
    framework = "strands"
    stored_id = "run/agent"


def test_sessions_and_agents_come_back_equal(repository: LuminoraSessionRepository) -> None:
    assert repository.read_session("s") is None
    repository.create_session(SESSION)
    assert repository.read_session("s") == SESSION
    with pytest.raises(SessionException, match="exists"):
        repository.create_session(SESSION)
    agent = SessionAgent(agent_id="a", state={"x": [float("inf"), b"\x00"]}, conversation_manager_state={"n": 1})
    with pytest.raises(SessionException):
        repository.update_agent("s", agent)
    assert repository.read_agent("s", "a") is None
    repository.create_agent("s", agent)
    assert repository.read_agent("s", "a") == agent
    changed = SessionAgent(agent_id="a", state={}, conversation_manager_state={}, created_at="later")
    repository.update_agent("s", changed)
    found = repository.read_agent("s", "a")
    assert found is not None
    assert (found.state, found.created_at) == ({}, agent.created_at)


def test_messages_come_back_equal(repository: LuminoraSessionRepository) -> None:
    messages = [message(number, content) for number, content in enumerate(CONTENTS)]
    with pytest.raises(SessionException):
        repository.list_messages("s", "a")
    for one in messages:
        repository.create_message("s", "a", one)
    assert same(repository.list_messages("s", "a"), messages)
    assert same(repository.list_messages("s", "a", limit=2, offset=1), messages[1:3])
    assert same(repository.read_message("s", "a", 3), messages[3])
    assert repository.read_message("s", "a", 99) is None
    assert repository.read_message("s", "b", 0) is None


def test_a_message_is_replaced_in_its_place(repository: LuminoraSessionRepository) -> None:
    for number in range(3):
        repository.create_message("s", "a", message(number))
    before = repository.read_message("s", "a", 1)
    assert before is not None
    redacted = message(1)
    redacted.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
    redacted.created_at = "later"
    repository.update_message("s", "a", redacted)
    shown = [one.to_message()["content"][0]["text"] for one in repository.list_messages("s", "a")]
    assert shown == ["0", "[redacted]", "2"]
    found = repository.read_message("s", "a", 1)
    assert found is not None
    assert found.created_at == before.created_at
    with pytest.raises(SessionException, match="99"):
        repository.update_message("s", "a", message(99))


def test_a_taken_index_is_not_overwritten(repository: LuminoraSessionRepository) -> None:
    first, second = message(0, [{"text": "first"}]), message(0, [{"text": "second"}])
    repository.create_message("s", "a", first)
    repository.create_message("s", "a", first)  # repeated, as after a lost answer
    repository.create_message("s", "a", second)
    assert second.message_id == 1
    assert repository.list_messages("s", "a") == [first, second]


def test_threads_may_share_a_repository(repository: LuminoraSessionRepository) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(
                lambda number: repository.create_message("s", "a", message(0, [{"text": str(number)}])), range(16)
            )
        )
    found = repository.list_messages("s", "a")
    assert [one.message_id for one in found] == list(range(16))
    assert {one.message["content"][0]["text"] for one in found} == {str(number) for number in range(16)}


def test_a_session_is_deleted_with_its_agents(repository: LuminoraSessionRepository) -> None:
    with pytest.raises(SessionException):
        repository.delete_session("s")
    agent_of(repository)("Hi")
    repository.create_message("other", "a", message(0))
    repository.delete_session("s")
    assert repository.read_session("s") is None
    assert repository.read_agent("s", "a") is None
    with pytest.raises(SessionException):
        repository.list_messages("s", "a")
    assert len(repository.list_messages("other", "a")) == 1


def test_a_conversation_of_another_program_may_have_the_id(store: StorageConfig) -> None:
    repository = LuminoraSessionRepository(store)
    other = ItemStore(repository._items.storage, "other", reads=lambda message: message.content)  # noqa: SLF001
    run(other.append("s", [other.record({}, role="user", content="kept")]))
    with pytest.raises(SessionException):
        repository.delete_session("s")
    agent_of(repository)("Hi")
    with pytest.raises(SessionException, match="exists"):
        repository.create_session(SESSION)
    assert repository.read_session("s") is not None
    repository.delete_session("s")
    assert (repository.read_session("s"), repository.read_agent("s", "a")) == (None, None)
    assert run(other.newest("s", None)) == [{}]
    repository.close()


def test_an_agent_resumes_its_state_and_messages(repository: LuminoraSessionRepository) -> None:
    first = agent_of(repository, state={"count": 1})
    assert str(first("one")).strip() == "after 0: one"
    first.state.set("count", 2)
    first("two")
    second = agent_of(repository)
    assert second.state.get("count") == 2
    assert second.messages == first.messages
    assert str(second("three")).strip() == "after 2: three"


def test_a_redacted_message_stays_redacted(quick: LuminoraSessionRepository) -> None:
    agent = agent_of(quick)
    agent("secret")
    manager = RepositorySessionManager("s2", session_repository=quick)
    other = Agent(agent_id="a", model=FakeModel(), session_manager=manager, callback_handler=None)
    manager.append_message({"role": "user", "content": [{"text": "secret"}]}, other)
    manager.redact_latest_message({"role": "user", "content": [{"text": "[redacted]"}]}, other)
    assert [one.to_message()["content"] for one in quick.list_messages("s2", "a")] == [[{"text": "[redacted]"}]]


class FakeGraph:
    """Has a state."""

    id = "graph"

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def serialize_state(self) -> dict[str, Any]:
        return self.state


def test_the_state_of_a_graph_is_kept(repository: LuminoraSessionRepository) -> None:
    graph: Any = FakeGraph({"nodes": [1, None]})
    with pytest.raises(SessionException):
        repository.update_multi_agent("s", graph)
    assert repository.read_multi_agent("s", "graph") is None
    repository.create_multi_agent("s", graph)
    assert repository.read_multi_agent("s", "graph") == {"nodes": [1, None]}
    repository.update_multi_agent("s", FakeGraph({"nodes": []}))  # type: ignore[arg-type,unused-ignore]
    assert repository.read_multi_agent("s", "graph") == {"nodes": []}


@pytest.mark.parametrize("name", HOSTILE_IDS, ids=ascii)
def test_any_string_is_an_id(name: str, sqlite: StorageConfig) -> None:
    repository = LuminoraSessionRepository(sqlite)
    repository.create_session(Session(session_id=name, session_type=SessionType.AGENT))
    repository.create_message(name, name, message(0))
    assert repository.list_messages(name, name)[0].message_id == 0
    assert repository.read_session(f"{name}/{name}") is None
    repository.delete_session(name)
    repository.close()


async def test_messages_can_be_read_by_a_session_manager(sqlite: StorageConfig) -> None:
    repository = LuminoraSessionRepository(sqlite)

    @tool
    def unused() -> str:
        """Do nothing."""
        return ""

    agent = agent_of(repository, tools=[unused])
    await agent.invoke_async("Hi")
    repository.create_message("s", "a", message(2, CONTENTS[2], "assistant"))
    repository.create_message("s", "a", message(3, CONTENTS[3]))
    async with create_storage(sqlite) as storage, SessionManager(storage) as manager:
        found = await manager.conversation_manager.get_messages("s/a")
    assert [one.role.value for one in found] == ["user", "assistant", "assistant", "tool"]
    assert (found[0].content, found[1].content) == ("Hi", "after 0: Hi")
    assert found[2].metadata["tool_calls"][0]["function"]["name"] == "add"
    assert found[3].metadata["tool_call_id"] == "1"
    repository.close()


# -- LuminoraStorage -------------------------------------------------------------------------------

DATA = [
    b"",
    b"{}",
    b"\x00\xff",
    bytes(range(256)),
    "caf\u00e9 \0 \N{FAMILY}".encode(),
    b"\xef\xbb\xbf{}\r\n",
    b"x" * 5_000_000,
]


@pytest.fixture
async def blobs(store: StorageConfig) -> AsyncIterator[LuminoraStorage]:
    blobs = LuminoraStorage(store)
    yield blobs
    await blobs.close()


def snapshots_of(blobs: LuminoraStorage, **settings: Any) -> tuple[Agent, SnapshotSessionManager]:
    manager = SnapshotSessionManager("s", storage=blobs, **settings)
    return Agent(agent_id="a", model=FakeModel(), session_manager=manager, callback_handler=None), manager


class TestSnapshotRuns(AgentRuns):
    framework = "strands_snapshots"

    async def test_a_session_manager_reads_the_conversation(self, shared_store: StorageConfig) -> None:
        """A snapshot is no conversation, and no session."""
        self._run(shared_store, "turns", "one two")
        async with create_storage(shared_store) as storage, SessionManager(storage) as manager:
            assert (await manager.list_conversations()).conversations == []

    def test_two_processes_at_once_lose_nothing(self, shared_store: StorageConfig) -> None:
        """The manager stores whole agents: of one session the last writer wins, so each process has a session."""
        words = {name: [f"{name}-{number}" for number in range(8)] for name in "ab"}
        processes = [self._start(shared_store, "turns", " ".join(own), session_id=name) for name, own in words.items()]
        for process in processes:
            self._finished(process)
        for name, own in words.items():
            asked = self._finished(self._start(shared_store, "texts", session_id=name))[0]
            assert asked[::2] == own


async def test_stored_bytes_come_back_equal(blobs: LuminoraStorage) -> None:
    assert isinstance(blobs, Storage)
    assert await blobs.read("k") is None
    for data in DATA:
        await blobs.write("k", data)
        assert await blobs.read("k") == data
    changeable: Any = bytearray(b"\x00copied")
    await blobs.write("k", changeable)
    assert await blobs.read("k") == b"\x00copied"
    await blobs.delete("k")
    await blobs.delete("k")
    assert await blobs.read("k") is None
    assert await blobs.list("") == []


async def test_keys_are_listed_by_prefix(blobs: LuminoraStorage) -> None:
    long = "s/" + "\u00e9" * 300
    keys = ["s/b", "s/a/1", "s/a", "s", "t/%2F", "t/a\\b", "s/Z", "s/#1", long + "1", long + "2", long]
    for key in keys:
        await blobs.write(key, key.encode())
    assert await blobs.list("") == sorted(keys)
    assert await blobs.list("s/") == sorted(key for key in keys if key.startswith("s/"))
    assert await blobs.list("s/a") == ["s/a", "s/a/1"]
    assert await blobs.list(long) == [long, long + "1", long + "2"]
    assert await blobs.list(long + "1") == [long + "1"]
    assert await blobs.list("t/%") == ["t/%2F"]
    assert await blobs.list("x") == []
    await blobs.delete(long)
    assert await blobs.list(long) == [long + "1", long + "2"]
    assert await blobs.read(long + "2") == (long + "2").encode()


async def test_more_keys_than_a_page_are_listed(sqlite: StorageConfig) -> None:
    blobs = LuminoraStorage(sqlite)
    keys = [f"k/{number:04}" for number in range(1001)]
    await asyncio.gather(*(blobs.write(key, b"") for key in keys))
    assert await blobs.list("k/") == keys
    await blobs.close()


@pytest.mark.parametrize("key", [*HOSTILE_IDS, "", "/", "..", "a//b"], ids=ascii)
async def test_any_string_is_a_key(key: str, sqlite: StorageConfig) -> None:
    blobs = LuminoraStorage(sqlite)
    await blobs.write(key, b"1")
    await blobs.write(f"{key}2", b"2")
    assert (await blobs.read(key), await blobs.read(f"{key}2")) == (b"1", b"2")
    assert await blobs.list(key) == [key, f"{key}2"]
    await blobs.delete(f"{key}2")
    assert await blobs.list("") == [key]
    await blobs.close()


async def test_writers_at_once_lose_no_key(blobs: LuminoraStorage) -> None:
    await asyncio.gather(*(blobs.write(f"k/{number:02}", str(number).encode()) for number in range(32)))
    found = await asyncio.gather(*map(blobs.read, await blobs.list("k/")))
    assert found == [str(number).encode() for number in range(32)]


async def test_a_cancelled_write_is_whole_or_absent(blobs: LuminoraStorage) -> None:
    old, new = b"old" * 10_000, b"new" * 10_000
    await blobs.write("k", old)
    for turns in range(12):
        task = asyncio.create_task(blobs.write("k", new))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert await blobs.read("k") in (old, new)
        else:
            assert await blobs.read("k") == new
        await blobs.write("k", old)
    assert await blobs.read("k") == old


async def test_stored_content_is_searched(blobs: LuminoraStorage) -> None:
    await blobs.write("notes/one.md", b"The dark mode toggle")
    await blobs.write("notes/two.md", b"Nothing of the kind")
    (found,) = await blobs.search("dark toggle")
    assert (found.key, found.score, found.data) == ("notes/one.md", 2, b"The dark mode toggle")


async def test_failures_are_storage_errors(sqlite: StorageConfig) -> None:
    storage = create_storage(sqlite)
    blobs = LuminoraStorage(storage)
    await blobs.write("k", b"")
    await storage.close()
    for call in (blobs.write("k", b""), blobs.read("k"), blobs.delete("k"), blobs.list("k")):
        with pytest.raises(StorageError, match=r"'k'.*sqlite"):
            await call


def test_a_snapshot_resumes_an_agent(store: StorageConfig) -> None:
    blobs = LuminoraStorage(store)
    first, _ = snapshots_of(blobs)
    first.state.set("count", 2)
    assert str(first("one")).strip() == "after 0: one"
    first.messages.append({"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": b"\0\xff"}}}]})
    first.messages.append({"role": "assistant", "content": [{"text": "ok"}]})
    run(snapshots_of(blobs)[1].save_snapshot(first, is_latest=True))
    second, _ = snapshots_of(blobs)
    assert second.messages == first.messages
    assert second.state.get("count") == 2
    run(blobs.close())


async def test_earlier_snapshots_are_restored(blobs: LuminoraStorage) -> None:
    agent, manager = snapshots_of(blobs, snapshot_trigger=lambda **_: True)
    await agent.invoke_async("one")
    await agent.invoke_async("two")
    first, second = await manager.list_snapshot_ids(agent)
    assert await manager.restore_snapshot(agent, snapshot_id=first)
    assert len(agent.messages) == 2
    assert await manager.restore_snapshot(agent, snapshot_id=second)
    assert len(agent.messages) == 4
    await manager.delete_session()
    assert await blobs.list("") == []
    assert not await manager.restore_snapshot(agent)


async def test_storage_of_an_agent_is_used(sqlite: StorageConfig) -> None:
    blobs = LuminoraStorage(sqlite)
    manager = SnapshotSessionManager("s")
    agent = Agent(agent_id="a", model=FakeModel(), session_manager=manager, storage=blobs, callback_handler=None)
    await agent.invoke_async("one")
    (key,) = await blobs.list("session/s/")
    stored = await blobs.read(key)
    assert stored is not None
    assert json.loads(stored)["data"]["messages"][0]["content"] == [{"text": "one"}]
    await blobs.close()


async def test_the_last_writer_of_a_snapshot_wins(sqlite: StorageConfig) -> None:
    blobs = LuminoraStorage(sqlite)
    (first, _), (second, _) = snapshots_of(blobs), snapshots_of(blobs)
    await first.invoke_async("first")
    await second.invoke_async("second")
    assert snapshots_of(blobs)[0].messages == second.messages
    await blobs.close()
