# pyright: reportMissingImports=false

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES, same

pytest.importorskip("strands", reason="the extra strands is not installed")

from strands import Agent, tool
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from luminoracore_sdk.integrations.item_store import ItemStore, run
from luminoracore_sdk.integrations.strands import LuminoraSessionRepository
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
