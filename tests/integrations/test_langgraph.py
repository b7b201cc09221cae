# pyright: reportMissingImports=false

import asyncio
import copy
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import attrs
import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import MemoryManager, SessionManager, create_storage, shared_storage
from luminoracore_sdk.storage import MemoryScope, StorageWrapper
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.types.session import MemoryConfig
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.conftest import ALL
from tests.integrations.import_runs import ImportRuns, ServerImportRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_VALUES, same
from tests.support.command import luminora_over
from tests.support.servers import postgres_url
from tests.support.servers.places import execute_postgres

pytest.importorskip("langgraph.checkpoint.conformance", reason="the extra langgraph is not installed")

from langchain_core.messages import HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore
from langgraph.store.postgres import PostgresStore
from langgraph.store.sqlite import SqliteStore
from langgraph.types import Command, interrupt

from luminoracore_sdk.integrations.langgraph import LuminoraSaver, LuminoraStore
from tests.integrations.workers.langgraph_agent import graph_of

QUICK = ("memory", "SQLite", "files")


@pytest.fixture(
    params=[
        pytest.param(place, id=name, marks=() if name in QUICK else pytest.mark.nightly) for name, place in ALL.items()
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageConfig]:
    """Return the configuration of an empty store; those that take long are left to the nightly run."""
    with request.param.at(tmp_path) as config:
        yield config


@pytest.fixture
def saver() -> Iterator[LuminoraSaver]:
    with LuminoraSaver("memory://") as saver:
        yield saver


@pytest.fixture
def memory(place: StorageConfig) -> Iterator[LuminoraStore]:
    with LuminoraStore(place) as store:
        yield store


def config_of(thread: str, **given: Any) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", **given}}


def checkpoint_of(number: int, **values: Any) -> Any:
    versions = dict.fromkeys(values, f"{number:032}.0")
    return {**empty_checkpoint(), "id": f"{number:08}", "channel_values": values, "channel_versions": versions}


def put(saver: Any, number: int, thread: str = "t", parent: int | None = None, **values: Any) -> Any:
    checkpoint = checkpoint_of(number, **values)
    given = {} if parent is None else {"checkpoint_id": f"{parent:08}"}
    return saver.put(config_of(thread, **given), checkpoint, {"step": number}, checkpoint["channel_versions"])


def values_at(saver: LuminoraSaver, config: Any) -> Any:
    found = saver.get_tuple(config)
    return None if found is None else found.checkpoint["channel_values"]


# -- whole runs ------------------------------------------------------------------------------------


def test_it_passes_the_conformance_suite_of_the_framework(place: StorageConfig) -> None:
    @checkpointer_test(name="LuminoraSaver")
    async def saver() -> AsyncIterator[LuminoraSaver]:
        async with LuminoraSaver(place) as made:
            yield made

    report: Any = asyncio.run(validate(saver))
    assert {name: result.failures for name, result in report.results.items() if result.passed is not True} == {}
    assert sum(result.tests_passed for result in report.results.values()) >= 77


class TestRuns(AgentRuns):
    framework = "langgraph"

    async def test_a_session_manager_reads_the_conversation(self, shared_store: StorageConfig) -> None:
        """It has no messages, and its memories are not part of a prompt."""
        self._run(shared_store, "turns", "one two")
        async with create_storage(shared_store) as storage, SessionManager(storage) as manager:
            assert await manager.conversation_manager.get_messages("run") == []
            (listed,) = (await manager.list_conversations()).conversations
            assert await manager.memory_manager.recall("run") == []
            assert (listed.session_id, listed.message_count) == ("run", 0)

    def test_two_processes_at_once_lose_nothing(self, shared_store: StorageConfig) -> None:
        """Runs at once are branches of the thread; every checkpoint of each can be read."""
        self._run(shared_store, "turns", "first")
        words = [[f"{name}-{number}" for number in range(4)] for name in "ab"]
        processes = [self._start(shared_store, "turns", " ".join(own)) for own in words]
        answers = [str(answer) for process in processes for _, answer in self._finished(process)]
        with LuminoraSaver(shared_store) as saver:
            found = list(saver.list(config_of("run")))
        assert len(found) == 9 * 3
        texts = [
            [str(one.content) for one in found_one.checkpoint["channel_values"].get("messages", [])]
            for found_one in found
        ]
        assert {own[-1] for own in texts if own} >= set(answers)
        for own in texts:
            assert own[:2] in ([], ["first"], ["first", "after 0: first"])
            answered = [(at, one) for at, one in enumerate(own) if one.startswith("after ")]
            assert all(one.partition(": ")[2] == own[at - 1] for at, one in answered)

    def test_a_task_that_has_ended_is_not_run_again(self, shared_store: StorageConfig) -> None:
        process = self._start(shared_store, "turns", "kill")
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
        assert self._run(shared_store, "turns", "resume") == [[0, "begun first second, first ran 1 times"]]


class TestImports(ImportRuns):
    framework = "langgraph"
    ids = ("ann", "bob/1")

    @contextmanager
    def own(self, file: Path) -> Iterator[Any]:
        """Yield the framework's own saver."""
        with SqliteSaver.from_conn_string(str(file)) as own:
            yield own

    async def write(self, file: Path) -> Any:
        with self.own(file) as own:
            for thread in self.ids:
                for number in range(3):
                    graph_of(own).invoke({"messages": [HumanMessage(f"{number}" * 400)]}, config_of(thread))
                latest = own.get_tuple(config_of(thread))
                assert latest is not None
                own.put_writes(latest.config, [("messages", "pending"), ("messages", "second")], "task-1")
                own.put_writes(latest.config, [("__error__", "failed")], "task-2")
            return self._read(own)

    async def more(self, file: Path) -> Any:
        with self.own(file) as own:
            graph_of(own).invoke({"messages": [HumanMessage("later")]}, config_of("ann"))
            return self._read(own)

    async def change(self, file: Path) -> None:
        """Do nothing: other runs have other checkpoints."""

    async def read(self, store: StorageConfig) -> Any:
        def work() -> Any:
            with LuminoraSaver(store) as saver:
                return self._read(saver)

        return await asyncio.to_thread(work)

    def _read(self, saver: Any) -> Any:
        return [[_plain(one) for one in saver.list(config_of(thread))] for thread in self.ids]

    async def test_a_run_goes_on(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        await self.write(file)
        await asyncio.to_thread(self._import, file, target)
        async with LuminoraSaver(target) as saver:
            state = await graph_of(saver).ainvoke({"messages": [HumanMessage("and then?")]}, config_of("ann"))
        assert state["messages"][-1].content == "after 3: and then?"


class TestImportsFromServers(ServerImportRuns, TestImports):
    @contextmanager
    def own(self, file: Path) -> Iterator[Any]:
        with PostgresSaver.from_conn_string(self.libpq(file)) as own:
            own.setup()
            yield own

    async def _imported(self, file: Path, target: StorageConfig, threads: Sequence[str]) -> Any:
        """Import; check that our saver lists what the framework's does, in all namespaces; return that."""
        with self.own(file) as own:
            written = [_whole(one) for thread in threads for one in own.list({"configurable": {"thread_id": thread}})]
        done = await asyncio.to_thread(self._import, file, target)
        assert done.exit_code == 0, done.output
        async with LuminoraSaver(target) as saver:
            read = [
                _whole(one) for thread in threads async for one in saver.alist({"configurable": {"thread_id": thread}})
            ]
            latest = await saver.aget_tuple(config_of(threads[0]))
        with self.own(file) as own:
            assert _whole(latest) == _whole(own.get_tuple(config_of(threads[0])))
        assert read == written
        return read

    async def test_branches_subgraphs_deltas_and_small_values(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        with self.own(file) as own:
            graph = graph_of(own)
            for text in ("one" * 200, "two" * 200, "three" * 200):
                graph.invoke({"messages": [HumanMessage(text)]}, config_of("branches"))
            at = list(graph.get_state_history(config_of("branches")))[4]
            graph.update_state(at.config, {"messages": [HumanMessage("other")]}, as_node="model")
            outer_of(own).invoke({"names": ["ann"]}, config_of("inner"))
            for name in ("ann", "bob", "cid"):
                added_of(own).invoke({"names": [name]}, config_of("added"))
            values: Any = {
                "text": "x",
                "none": None,
                "true": True,
                "half": 0.5,
                "whole": 7,
                "list": [1, "2"],
                "bytes": b"x",
            }
            put(own, 1, thread="values", **values)
        await self._imported(file, target, ("branches", "inner", "added", "values"))
        async with LuminoraSaver(target) as saver:
            resumed = await outer_of(saver).ainvoke(Command(resume="bob"), config_of("inner"))
            added = await added_of(saver).ainvoke({"names": ["dan"]}, config_of("added"))
        assert resumed["names"] == ["ann", "ann", "bob"]
        assert added["names"] == ["ann", "1", "bob", "3", "cid", "5", "dan", "7"]

    async def test_tasks_of_older_checkpoints_are_values(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        with self.own(file) as own:
            for number in (1, 2, 3):
                given = {"checkpoint_id": f"{number - 1:08}"} if number > 1 else {}
                checkpoint = {**checkpoint_of(number, names=["ann"] * number), "v": 3}
                own.put(config_of("older", **given), checkpoint, {"step": number}, checkpoint["channel_versions"])
            for task, path in (("task-b", "a"), ("task-a", "b")):
                writes = [("__pregel_tasks", f"{task} {number}") for number in range(2)]
                own.put_writes(config_of("older", checkpoint_id=f"{2:08}"), [("names", ["x"]), *writes], task, path)
        latest, *_ = await self._imported(file, target, ("older",))
        assert latest[1]["channel_values"]["__pregel_tasks"] == ["task-b 0", "task-b 1", "task-a 0", "task-a 1"]

    async def test_tables_from_before_paths_of_tasks(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        written = await self.write(file)
        execute_postgres(postgres_url(), f"ALTER TABLE {self.schema(file)}.checkpoint_writes DROP COLUMN task_path")
        done = await asyncio.to_thread(self._import, file, target)
        assert done.exit_code == 0, done.output
        assert await self.read(target) == written

    async def test_encrypted_values_are_refused(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        with self.own(file) as own:
            put(own, 1, names=["ann"])
        change = "UPDATE {}.checkpoint_blobs SET type = 'msgpack+aes'"
        execute_postgres(postgres_url(), change.format(self.schema(file)))
        refused = await asyncio.to_thread(self._import, file, target)
        assert refused.exit_code == 1
        assert "has values of the type 'msgpack+aes': the saver encrypts" in refused.output

    async def test_a_value_is_stored_once(self, tmp_path: Path, sqlite: StorageConfig) -> None:
        file = tmp_path / "store.own"
        with self.own(file) as own:
            for number in range(50):
                graph_of(own).invoke({"messages": [HumanMessage(f"{number:1000}")]}, config_of("t"))
        await self._imported(file, sqlite, ("t",))
        assert size(tmp_path) < 2_000_000  # 100 messages of 1 KB; whole lists have 6 MB


def _whole(found: Any) -> Any:
    return found.config, *_plain(found)


def _plain(found: Any) -> Any:
    parent = found.parent_config and found.parent_config["configurable"]["checkpoint_id"]
    return dict(found.checkpoint), dict(found.metadata), parent, found.pending_writes


class Named(TypedDict):
    names: Annotated[list[str], add]


def ask(state: Named) -> Any:
    return {"names": [interrupt("Who?")]}


def test_an_interrupted_run_goes_on_with_the_answer(place: StorageConfig) -> None:
    with LuminoraSaver(place) as saver:
        graph: Any = StateGraph(Named).add_node(ask).add_edge(START, "ask").compile(checkpointer=saver)
        first = graph.invoke({"names": ["ann"]}, config_of("t"))
        assert [one.value for one in first["__interrupt__"]] == ["Who?"]
        assert graph.invoke(Command(resume="bob"), config_of("t")) == {"names": ["ann", "bob"]}


def outer_of(saver: Any) -> Any:
    inner: Any = StateGraph(Named).add_node(ask).add_edge(START, "ask").compile()
    return StateGraph(Named).add_node("inner", inner).add_edge(START, "inner").compile(checkpointer=saver)


def test_a_subgraph_is_interrupted_in_its_own_namespace(place: StorageConfig) -> None:
    with LuminoraSaver(place) as saver:
        outer = outer_of(saver)
        outer.invoke({"names": ["ann"]}, config_of("t"))
        state = outer.get_state(config_of("t"), subgraphs=True)
        assert state.tasks[0].state.config["configurable"]["checkpoint_ns"].startswith("inner:")
        assert outer.invoke(Command(resume="bob"), config_of("t"))["names"] == ["ann", "ann", "bob"]


def test_prune_deletes_the_calls_of_a_subgraph_that_have_ended(place: StorageConfig) -> None:
    with LuminoraSaver(place) as saver:
        inner: Any = StateGraph(Named).add_node(ask).add_edge(START, "ask").compile()
        outer: Any = StateGraph(Named).add_node("inner", inner).add_edge(START, "inner").compile(checkpointer=saver)
        outer.invoke({"names": ["ann"]}, config_of("t"))
        outer.invoke(Command(resume="bob"), config_of("t"))
        outer.invoke({"names": ["cid"]}, config_of("t"))
        saver.prune(["t"])
        found = list(saver.list({"configurable": {"thread_id": "t"}}))
        assert len(found) == 2
        assert [one.parent_config for one in found] == [None, None]
        assert outer.invoke(Command(resume="dan"), config_of("t"))["names"][-1] == "dan"


def test_an_earlier_checkpoint_begins_another_branch(place: StorageConfig) -> None:
    with LuminoraSaver(place) as saver:
        graph = graph_of(saver)
        for text in ("one" * 200, "two" * 200, "three" * 200):
            graph.invoke({"messages": [HumanMessage(text)]}, config_of("t"))
        history = list(graph.get_state_history(config_of("t")))
        assert len(history) == 9
        at = next(one for one in history if len(one.values["messages"]) == 4 and not one.next)
        branch = graph.update_state(at.config, {"messages": [HumanMessage("other" * 200)]}, as_node="model")
        graph.invoke({"messages": [HumanMessage("more")]}, branch)
        texts = [str(one.content) for one in graph.get_state(config_of("t")).values["messages"]]
        assert texts[0] == "one" * 200
        assert texts[2] == "two" * 200
        assert texts[4:] == ["other" * 200, "more", "after 3: more"]
        assert list(graph.get_state_history(config_of("t")))[-9:] == history


async def test_loops_and_threads_share_one_saver(place: StorageConfig) -> None:
    async with LuminoraSaver(place) as saver:
        graph = graph_of(saver)

        def in_thread(number: int) -> str:
            state = graph.invoke({"messages": [HumanMessage("x")]}, config_of(f"sync {number}"))
            return str(state["messages"][-1].content)

        def in_loop(number: int) -> str:
            state = asyncio.run(graph.ainvoke({"messages": [HumanMessage("x")]}, config_of(f"async {number}")))
            return str(state["messages"][-1].content)

        with ThreadPoolExecutor(4) as pool:
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(pool, call, n) for n in range(4) for call in (in_thread, in_loop)]
            answers = await asyncio.gather(*calls)
        state = await graph.ainvoke({"messages": [HumanMessage("y")]}, config_of("sync 0"))
        assert answers == ["after 0: x"] * 8
        assert state["messages"][-1].content == "after 1: y"
        assert len([one async for one in saver.alist(None)]) == 9 * 3
        assert len({one.config["configurable"]["thread_id"] for one in saver.list(None)}) == 8


# -- size ------------------------------------------------------------------------------------------


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("name", ["SQLite", "files"])
def test_a_history_takes_as_many_bytes_as_its_messages(name: str, tmp_path: Path) -> None:
    with ALL[name].at(tmp_path) as store:
        sizes = []
        for _ in range(2):
            with LuminoraSaver(store) as saver:
                graph = graph_of(saver)
                for number in range(50):
                    graph.invoke({"messages": [HumanMessage(f"{number:1000}")]}, config_of("t"))
            sizes.append(size(tmp_path))
    assert sizes[1] < 2.3 * sizes[0]
    assert sizes[1] < 4_000_000  # 200 messages of 1 KB; whole lists would be above 20 MB


# -- the saver -------------------------------------------------------------------------------------


def test_the_same_id_again_replaces(saver: LuminoraSaver) -> None:
    put(saver, 1, x="old")
    put(saver, 1, x="new", y=1)
    assert values_at(saver, config_of("t")) == {"x": "new", "y": 1}
    assert len(list(saver.list(config_of("t")))) == 1


def test_the_latest_is_the_greatest_id_not_the_newest_put(saver: LuminoraSaver) -> None:
    put(saver, 2, x="later")
    put(saver, 1, x="earlier")
    assert values_at(saver, config_of("t")) == {"x": "later"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a" * 500], ["a" * 500, "b"]),
        (["a" * 500, "b" * 500], ["a" * 500]),
        (["a" * 500, "b" * 500], ["c", "b" * 500]),
        (["a" * 500, "b" * 500], ["a" * 500, "c", "d" * 500]),
        (["a" * 500], []),
        ([], ["a" * 500]),
        ("a" * 500, ["a" * 500]),
        (["a" * 500], "a" * 500),
        ([b"\x80" * 500, None, {"z": 1}, 2.5], [b"\x80" * 500, None, {"z": 2}]),
    ],
)
def test_any_change_of_a_value_comes_back(before: Any, after: Any, saver: LuminoraSaver) -> None:
    put(saver, 1, x=before)
    put(saver, 2, parent=1, x=after)
    put(LuminoraSaver(saver._storage), 3, parent=2, x=before)  # noqa: SLF001  # of another process
    expected = [before, after, before]
    found = [values_at(saver, config_of("t", checkpoint_id=f"{number:08}"))["x"] for number in (1, 2, 3)]
    assert [(type(one), one) for one in found] == [(type(one), one) for one in expected]


def test_a_list_that_changes_often_is_stored_anew(saver: LuminoraSaver) -> None:
    first = "a" * 1000
    put(saver, 1, x=[first])
    for number in range(2, 20):
        put(saver, number, parent=number - 1, x=[first, f"{number:1000}"])
    storage: Any = saver._storage  # noqa: SLF001
    reads = []
    original = storage.list_memories

    async def list_memories(scope: Any, query: Any = None) -> Any:
        found = await original(scope, query)
        reads.append(len(found))
        return found

    storage.list_memories = list_memories
    assert values_at(saver, config_of("t")) == {"x": [first, f"{19:1000}"]}
    assert max(reads) <= 3


def test_writes_stay_but_errors_are_replaced(saver: LuminoraSaver) -> None:
    config = put(saver, 1)
    saver.put_writes(config, [("x", 1), ("y", 2)], "task", "b")
    saver.put_writes(config, [("x", 3), ("y", 4), ("z", 5)], "task", "b")
    saver.put_writes(config, [("__error__", "one")], "task", "b")
    saver.put_writes(config, [("__error__", "two")], "task", "b")
    saver.put_writes(config, [("x", 6)], "later", "a")
    assert saver.get_tuple(config).pending_writes == [
        ("later", "x", 6),
        *(("task", "__error__", "two"), ("task", "x", 1), ("task", "y", 2), ("task", "z", 5)),
    ]


async def test_writes_of_many_tasks_at_once_are_all_stored(place: StorageConfig) -> None:
    async with LuminoraSaver(place) as saver:
        config = await saver.aput(config_of("t"), checkpoint_of(1), {}, {})
        calls = [saver.aput_writes(config, [(f"c{number}", number)], f"task {number % 4}") for number in range(4)]
        calls += [saver.aput_writes(config, [("__interrupt__", 1)], f"task {number}") for number in range(4)]
        await asyncio.gather(*calls)
        found = (await saver.aget_tuple(config)).pending_writes
        assert sorted(found) == sorted(
            [(f"task {n}", f"c{n}", n) for n in range(4)] + [(f"task {n}", "__interrupt__", 1) for n in range(4)]
        )


@pytest.mark.parametrize("later", ["00000001-2", "00000002", "2/3"])
def test_writes_come_with_their_checkpoint_and_hide_no_other(later: str, place: StorageConfig) -> None:
    with LuminoraSaver(place) as saver:
        first, second = put(saver, 1), config_of("t", checkpoint_id=later)
        for task in "abcde":
            saver.put_writes(first, [("x", 1)], task)
            saver.put_writes(second, [("y", 2)], task)
        found = saver.get_tuple(config_of("t"))
        assert found.checkpoint["id"] == "00000001"
        assert found.pending_writes == [(task, "x", 1) for task in "abcde"]
        saver.prune(["t"])
        saver.put(first, {**checkpoint_of(2), "id": later}, {}, {})
        assert saver.get_tuple(config_of("t")).checkpoint["id"] == later
        saver.prune(["t"])
        assert [one.checkpoint["id"] for one in saver.list(config_of("t"))] == [later]
        assert saver.get_tuple(config_of("t")).pending_writes == [(task, "y", 2) for task in "abcde"]


def test_a_deleted_thread_begins_anew(saver: LuminoraSaver) -> None:
    put(saver, 1, x=["a" * 500])
    saver.delete_thread("t")
    assert saver.get_tuple(config_of("t")) is None
    put(saver, 2, parent=1, x=["a" * 500, "b"])
    assert values_at(saver, config_of("t")) == {"x": ["a" * 500, "b"]}


def test_a_thread_deleted_by_another_process_is_stored_whole(saver: LuminoraSaver) -> None:
    put(saver, 1, x=["a" * 500])
    LuminoraSaver(saver._storage).delete_thread("t")  # noqa: SLF001
    put(saver, 2, parent=1, x=["a" * 500, "b"])
    assert values_at(saver, config_of("t")) == {"x": ["a" * 500, "b"]}


@pytest.mark.parametrize("number", range(5))
def test_prune_keeps_what_the_latest_is_made_of(number: int, saver: LuminoraSaver) -> None:
    items: list[str] = []
    for step in range(1, 8):
        items = [*items[: max(0, len(items) - (step % (number + 2) == 0))], f"{step:500}"]
        put(saver, step, parent=step - 1 or None, x=items, y="y" * 500 * step)
        saver.put_writes(config_of("t", checkpoint_id=f"{step:08}"), [("x", step)], "task")
    saver.prune(["t"])
    assert [one.config["configurable"]["checkpoint_id"] for one in saver.list(config_of("t"))] == ["00000007"]
    found = LuminoraSaver(saver._storage).get_tuple(config_of("t"))  # noqa: SLF001
    assert found.checkpoint["channel_values"] == {"x": items, "y": "y" * 3500}
    assert found.pending_writes == [("task", "x", 7)]
    records = asyncio.run(saver._storage.list_memories(MemoryScope("session", "t")))  # noqa: SLF001
    assert len([one for one in records if one.key.startswith("b//y/")]) == 1
    assert len([one for one in records if one.key.count("/") == 3 and one.key.startswith("c/")]) == 1
    put(saver, 9, parent=7, x=[*items, "end"])
    assert values_at(saver, config_of("t"))["x"] == [*items, "end"]


class Counting(StorageWrapper):
    """Counts the reads of the values of channels."""

    count = 0

    async def find_memory(self, scope: Any, key: str) -> Any:
        self.count += key.startswith("b/")
        return await super().find_memory(scope, key)

    async def list_memories(self, scope: Any, query: Any = None) -> Any:
        self.count += query is not None and (query.prefix or "").startswith("b/")
        return await super().list_memories(scope, query)


async def test_a_list_is_read_again_when_it_has_changed() -> None:
    storage = Counting(create_storage("memory://"))
    writer, saver, config = LuminoraSaver(storage), LuminoraSaver(storage), config_of("t")
    items: list[Any] = ["a" * 500]
    for number in range(1, 4):
        checkpoint = checkpoint_of(number, x=items)
        parent = config_of("t", checkpoint_id=f"{number - 1:08}") if number > 1 else config
        await writer.aput(parent, checkpoint, {}, checkpoint["channel_versions"])
        for _ in range(3):
            found = (await saver.aget_tuple(config)).checkpoint["channel_values"]["x"]
            assert found == items
            found.append("changed by the caller")
        assert storage.count == number
        items = [*items, {"number": number, "text": "b" * 300}]


@pytest.mark.parametrize("number", [0, 1000])
def test_the_lists_of_many_threads_are_read_back(number: int, saver: LuminoraSaver, monkeypatch: Any) -> None:
    monkeypatch.setattr("luminoracore_sdk.integrations.langgraph._HEADS_BYTES", number)
    for step in range(1, 4):
        for thread in "abc":
            put(saver, step, thread, step - 1 or None, x=[thread * 400] * step)
    for thread in "abc":
        assert values_at(saver, config_of(thread)) == {"x": [thread * 400] * 3}


class PrunedMeanwhile(StorageWrapper):
    """Lets another process put a checkpoint and prune, before the first value of a channel is read."""

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        self.is_pending = False

    async def find_memory(self, scope: Any, key: str) -> Any:
        if self.is_pending and key.startswith("b/"):
            self.is_pending = False
            other = LuminoraSaver(self.base)
            checkpoint = checkpoint_of(2, x=["c" * 500])
            await other.aput(config_of("t", checkpoint_id="00000001"), checkpoint, {}, checkpoint["channel_versions"])
            await other.aprune(["t"])
        return await super().find_memory(scope, key)


async def test_a_checkpoint_that_is_pruned_while_it_is_read_is_not_read_in_part() -> None:
    storage = PrunedMeanwhile(create_storage("memory://"))
    checkpoint = checkpoint_of(1, x=["a" * 500])
    first = await LuminoraSaver(storage).aput(config_of("t"), checkpoint, {}, checkpoint["channel_versions"])
    saver = LuminoraSaver(storage)
    storage.is_pending = True
    found = await saver.aget_tuple(config_of("t"))
    assert found.checkpoint["channel_values"] == {"x": ["c" * 500]}
    assert await saver.aget_tuple(first) is None


class Added(TypedDict):
    names: Annotated[
        list[str], DeltaChannel(lambda state, writes: [*state, *(one for write in writes for one in write)])
    ]


def added_of(saver: Any) -> Any:
    return (
        StateGraph(Added)
        .add_node("model", lambda state: {"names": [f"{len(state['names'])}"]})
        .add_edge(START, "model")
        .add_edge("model", END)
        .compile(checkpointer=saver)
    )


def test_delta_channels_are_kept_by_prune_and_copy(place: StorageConfig) -> None:
    with LuminoraSaver(place) as saver:
        graph = added_of(saver)
        for name in ("ann", "bob", "cid"):
            graph.invoke({"names": [name]}, config_of("t"))
        expected = ["ann", "1", "bob", "3", "cid", "5"]
        assert graph.get_state(config_of("t")).values == {"names": expected}
        saver.prune(["t"])
        saver.copy_thread("t", "copy")
        saver.delete_thread("t")
        assert graph.get_state(config_of("copy")).values == {"names": expected}
        assert graph.invoke({"names": ["dan"]}, config_of("copy")) == {"names": [*expected, "dan", "7"]}


@pytest.mark.parametrize("ids", [range(1, 9), range(8, 0, -1), [5, 1, 8, 2, 7, 3, 6, 4]], ids=str)
def test_a_delta_channel_is_built_from_its_ancestors(ids: Any, saver: LuminoraSaver) -> None:
    first, *others = ids
    config = put(saver, first, x="seed")
    for number in others:
        saver.put_writes(config, [("x", f"{number} a"), ("y", 1), ("x", f"{number} b")], "task")
        saver.put_writes(config, [("x", f"{number} {n}") for n in range(100)], "other", "z")
        for task in range(80 if number == 3 else 0):
            saver.put_writes(config, [("y", task)], f"many {task}")
        config = put(saver, number, parent=int(config["configurable"]["checkpoint_id"]))
    saver.put_writes(config, [("x", "pending")], "task")
    found = saver.get_delta_channel_history(config=config, channels=["x", "none"])
    assert found == BaseCheckpointSaver.get_delta_channel_history(saver, config=config, channels=["x", "none"])
    assert found["x"]["seed"] == "seed"
    assert len(found["x"]["writes"]) == 7 * 102
    assert found["none"] == {"writes": []}
    assert saver.get_delta_channel_history(config=config, channels=[]) == {}


def test_ancestors_may_be_a_circle(saver: LuminoraSaver) -> None:
    put(saver, 1)
    config = put(saver, 2, parent=1)
    put(saver, 1, parent=2)
    saver.put_writes(config, [("x", "own")], "task")
    assert saver.get_delta_channel_history(config=config, channels=["x"])["x"]["writes"] == [("task", "x", "own")]


@pytest.mark.parametrize("name", HOSTILE_IDS, ids=ascii)
def test_any_string_is_an_id(name: str, place: StorageConfig) -> None:
    text = name.replace("\ud800", "s")  # what the framework's own serializer takes
    given = {"checkpoint_ns": name, "thread_id": name, "user_id": text, "tags": [name, "plain"]}
    checkpoint = {**checkpoint_of(1), "channel_values": {text: [1]}, "channel_versions": {text: text}}
    with LuminoraSaver(place) as saver:
        saver.put({"configurable": given}, checkpoint, {"of": 1}, {text: text})
        saver.put_writes({"configurable": {**given, "checkpoint_id": "00000001"}}, [("x", 1)], name)
        saver.put(config_of(f"{name}/{name}"), checkpoint_of(2), {}, {})
        (found,) = saver.list(None, filter={"of": 1})
        expected = {"thread_id": name, "checkpoint_ns": name, "checkpoint_id": "00000001"}
        assert found.config["configurable"] == expected
        assert found.checkpoint["channel_values"] == {text: [1]}
        assert found.pending_writes == [(name, "x", 1)]
        saver.delete_thread(name)
        assert [one.checkpoint["id"] for one in saver.list(None)] == ["00000002"]


def test_a_value_without_a_version_is_kept(saver: LuminoraSaver) -> None:
    checkpoint = {**checkpoint_of(1, x=[1]), "channel_values": {"x": [1], "y": ["long" * 100]}}
    saver.put(config_of("t"), checkpoint, {}, checkpoint["channel_versions"])
    assert values_at(saver, config_of("t")) == {"x": [1], "y": ["long" * 100]}
    put(saver, 2, parent=1, x=[1, 2])
    assert values_at(saver, config_of("t")) == {"x": [1, 2]}
    saver.prune(["t"])
    assert values_at(saver, config_of("t")) == {"x": [1, 2]}


def test_list_walks_all_threads_by_id(saver: LuminoraSaver) -> None:
    for number in range(1, 7):
        put(saver, number, thread=f"t{number % 2}")
    assert [one.metadata["step"] for one in saver.list(None)] == [6, 5, 4, 3, 2, 1]
    assert [
        one.metadata["step"] for one in saver.list(None, before=config_of("", checkpoint_id="00000005"), limit=2)
    ] == [
        4,
        3,
    ]
    assert [one.metadata["step"] for one in saver.list(config_of("t1"), filter={"step": 3})] == [3]
    assert list(saver.list(None, limit=0)) == []


@pytest.mark.parametrize("strategy", ["keep_latest", "delete"])
def test_prune_refuses_a_string_of_threads(strategy: str, saver: LuminoraSaver) -> None:
    for thread in ("ab", "a", "b"):
        put(saver, 1, thread=thread)
    with pytest.raises(TypeError, match="not a str: 'ab'"):
        saver.prune("ab", strategy=strategy)
    assert len(list(saver.list(None))) == 3


class Loud(JsonPlusSerializer):
    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        tag, data = super().dumps_typed(obj)
        return f"loud-{tag}", bytes(reversed(data))

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return super().loads_typed((data[0].removeprefix("loud-"), bytes(reversed(data[1]))))


def test_it_survives_a_copy_and_another_serde(saver: LuminoraSaver) -> None:
    copied = copy.copy(saver)
    copied.serde = Loud()
    put(copied, 1, x=["a" * 500])
    put(copied, 2, parent=1, x=["a" * 500, "b"])
    assert values_at(copied, config_of("t")) == {"x": ["a" * 500, "b"]}
    copied.delete_thread("t")
    assert saver.get_tuple(config_of("t")) is None


def test_versions_of_branches_differ_and_grow(saver: LuminoraSaver) -> None:
    first = saver.get_next_version(None, None)
    seconds = {saver.get_next_version(first, None) for _ in range(10)}
    assert len(seconds) == 10
    assert min(seconds) > first
    assert saver.get_next_version(41, None).startswith(f"{42:032}.")


def test_the_command_line_shows_threads(sqlite: StorageConfig) -> None:
    with LuminoraSaver(sqlite) as saver:
        given = {"thread_id": "thread-1", "user_id": "ann", "tags": ["shop"]}
        graph_of(saver).invoke({"messages": [HumanMessage("x" * 1000)]}, {"configurable": given})
    luminora = luminora_over(f"sqlite:///{sqlite.file_path}")
    listed = luminora("sessions", "list")
    assert listed.exit_code == 0
    assert "thread-1" in listed.output
    assert "shop" in listed.output
    shown = luminora("sessions", "show", "thread-1")
    assert shown.exit_code == 0
    assert "thread-1" in shown.output


async def test_a_turn_over_a_thread_has_no_checkpoint_in_its_prompt(sqlite: StorageConfig) -> None:
    async with LuminoraSaver(sqlite) as saver:
        await graph_of(saver).ainvoke({"messages": [HumanMessage("x" * 1000)]}, config_of("t"))
    async with create_storage(sqlite) as storage, SessionManager(storage) as manager:
        assert "xxx" not in str(await manager.conversation_manager.get_messages("t"))
        assert await manager.memory_manager.recall("t") == []


async def test_memories_of_a_manager_evict_no_checkpoint(place: StorageConfig) -> None:
    async with create_storage(place) as storage:
        saver = LuminoraSaver(storage)
        for word in "abc":
            await graph_of(saver).ainvoke({"messages": [HumanMessage(word * 1000)]}, config_of("t"))
        before = [one async for one in saver.alist(config_of("t"))]
        manager = MemoryManager(MemoryConfig(max_entries=2), storage=storage)
        for key in "xyz":
            await manager.store_memory("t", key, key)
        assert [await manager.get_memory("t", key) for key in "xyz"] == [None, "y", "z"]
        assert [one async for one in saver.alist(config_of("t"))] == before
        assert len(before) == 9


async def test_a_thread_is_that_of_its_user(sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage, SessionManager(storage) as manager:
        saver = LuminoraSaver(storage)
        given = {"thread_id": "thread-1", "user_id": "ann"}
        await graph_of(saver).ainvoke({"messages": [HumanMessage("x")]}, {"configurable": given})
        assert (await storage.find_session("thread-1")).user_id == "ann"  # type: ignore[union-attr]
        await manager.erase_user("ann")
        assert await saver.aget_tuple(config_of("thread-1")) is None


def test_a_given_storage_stays_open() -> None:
    storage = shared_storage("memory://")
    with LuminoraSaver(storage) as saver:
        put(saver, 1, x=1)
    with LuminoraSaver(storage) as saver:
        assert values_at(saver, config_of("t")) == {"x": 1}


# -- the store -------------------------------------------------------------------------------------

ITEMS: Any = [
    (("a",), "1", {"n": 1, "s": "red", "deep": {"x": [1, 2]}}),
    (("a", "b"), "1", {"n": 2.5, "s": "green", "deep": {"x": [1]}}),
    (("a", "b", "c"), "2", {"n": 3, "s": "red", "deep": {"x": []}}),
    (("ab",), "3", {"n": 4, "s": "blue", "deep": {"x": [1, 2]}}),
    (("z", "b"), "é/#%", {"n": 5, "s": "red", "deep": None}),
]


FILTERS: list[Any] = [
    *({"s": "red"}, {"s": "red", "n": 3}, {"deep": {"x": [1, 2]}}, {"deep": {"x": []}}, {"none": None}),
    *({"n": {"$gt": 2.5}}, {"n": {"$gte": 2.5}}, {"n": {"$lt": 3}}, {"n": {"$lte": 3, "$ne": 1}}),
    *({"s": {"$eq": "blue"}}, {"s": {"$ne": "red"}}),
]


READS: list[Any] = [
    *(GetOp(namespace, key) for namespace, key, _ in ITEMS),
    *(SearchOp(prefix, limit=1000) for prefix in ((), ("a",), ("a", "b"), ("b",))),
    *(SearchOp((), filter=wanted, limit=1000) for wanted in FILTERS if not {"none", "deep"} & wanted.keys()),
    *(ListNamespacesOp(max_depth=depth) for depth in (None, 1, 2)),
    *(
        ListNamespacesOp(match_conditions=(MatchCondition(kind, path),))
        for kind, path in (("prefix", ("a",)), ("prefix", ("*", "b")), ("suffix", ("b",)))
    ),
]


class TestItemImports(ImportRuns):
    framework = "langgraph"
    repeated = "\n"
    continued = "imported 0 sessions, 0 messages, 1 memory"

    @contextmanager
    def own(self, file: Path) -> Iterator[Any]:
        """Yield the framework's own store."""
        with SqliteStore.from_conn_string(str(file)) as own:
            own.setup()
            yield own

    def execute(self, file: Path, *statements: str) -> None:
        """Change the tables of a store."""
        with closing(sqlite3.connect(file)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    async def write(self, file: Path) -> Any:
        with self.own(file) as own:
            for item in ITEMS:
                own.put(*item)
            own.batch([PutOp(("many",), f"{number:03}", {"n": 0, "s": "many", "m": number}) for number in range(350)])
            return self._read(own)

    async def more(self, file: Path) -> Any:
        with self.own(file) as own:
            own.put(("a", "d"), "later", {"n": 6, "s": "red"})
            return self._read(own)

    async def change(self, file: Path) -> None:
        with self.own(file) as own:
            own.put(("a",), "1", {"n": 7, "s": "blue"})

    async def read(self, store: StorageConfig) -> Any:
        def work() -> Any:
            with LuminoraStore(store) as ours:
                return self._read(ours)

        return await asyncio.to_thread(work)

    def _read(self, store: Any) -> Any:
        return [sorted(map(_timed, found if isinstance(found, list) else [found])) for found in store.batch(READS)]

    async def test_lifetimes_are_kept(self, tmp_path: Path, target: StorageConfig) -> None:
        """An item lives as long as the other store said, and a read lets it live for its whole time again."""
        file = tmp_path / "store.own"
        with self.own(file) as own:
            own.put(("a",), "lives", {}, ttl=60)
            own.put(("a",), "expires", {}, ttl=60)
            own.put(("a",), "stays", {})
        self.execute(file, "UPDATE store SET expires_at = '2026-01-01 12:00:00+00:00' WHERE key = 'expires'")
        done = await asyncio.to_thread(self._import, file, target)
        assert "imported 0 sessions, 0 messages, 2 memories\n" in done.output
        clock = ManualClock(datetime.now(UTC))
        async with create_storage(target, clock=clock) as storage:
            store = LuminoraStore(storage)
            store._items.services = attrs.evolve(store._items.services, clock=clock)  # noqa: SLF001
            for minutes, keys in ((59, {"lives", "stays"}), (59, {"lives", "stays"}), (61, {"stays"})):
                clock.advance(minutes * 60)
                assert {one.key for one in await store.asearch(("a",))} == keys

    async def test_tables_from_before_lifetimes(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        written = await self.write(file)
        drops = (f"ALTER TABLE store DROP COLUMN {name}" for name in ("expires_at", "ttl_minutes"))
        self.execute(file, "DROP INDEX idx_store_expires_at", *drops)
        done = await asyncio.to_thread(self._import, file, target)
        assert done.exit_code == 0, done.output
        assert await self.read(target) == written

    async def test_what_was_changed_here_stays(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        await self.write(file)
        await asyncio.to_thread(self._import, file, target)
        async with LuminoraStore(target) as store:
            before: Any = await store.aget(("a",), "1")
            await store.aput(("a",), "1", {"n": "here"})
            again = await asyncio.to_thread(self._import, file, target)
            assert "imported 0 sessions, 0 messages, 0 memories\n" in again.output
            found: Any = await store.aget(("a",), "1")
            assert found.value == {"n": "here"}
            assert found.created_at == before.created_at
            assert found.updated_at > before.updated_at
            replaced = await asyncio.to_thread(self._import, file, target, "--replace")
            assert "imported 0 sessions, 0 messages, 1 memory\n" in replaced.output
            assert await store.aget(("a",), "1") == before

    async def test_a_query_makes_vectors(self, tmp_path: Path, target: StorageConfig) -> None:
        """The first query embeds what was imported; the second embeds only itself, and times are kept."""
        file = tmp_path / "store.own"
        with self.own(file) as own:
            for key, text in (("1", "hhhh"), ("2", "aabb")):
                own.put(("a",), key, {"text": text}, ttl=60)
        await asyncio.to_thread(self._import, file, target)
        calls: list[Any] = []

        def embedding(texts: Any) -> list[list[float]]:
            calls.append(list(texts))
            return embed(texts)

        async with LuminoraStore(target) as store:
            before = await store.asearch(("a",))
        async with LuminoraStore(target, index={"dims": 8, "embed": embedding, "fields": ["text"]}) as store:
            for _ in range(2):
                found = await store.asearch(("a",), query="bbbba", refresh_ttl=False)
                assert found[0].key == "2"
                assert sorted(map(_timed, found)) == sorted(map(_timed, before))
            records = await store._storage.list_memories(MemoryScope("user", "langgraph-store:a/"))  # noqa: SLF001
        assert sorted(calls.pop(0)) == ["aabb", "hhhh"]
        assert calls == [["bbbba"], ["bbbba"]]
        assert all(one.expires_at_us for one in records)
        again = await asyncio.to_thread(self._import, file, target)
        assert "imported 0 sessions, 0 messages, 0 memories\n" in again.output

    async def test_a_value_that_is_no_object_is_refused(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        await self.write(file)
        self.execute(file, "UPDATE store SET value = '[1]' WHERE prefix = 'ab'")
        refused = await asyncio.to_thread(self._import, file, target)
        assert refused.exit_code == 1
        assert "item '3' of 'ab': the value is no JSON object" in refused.output

    async def test_an_empty_store_is_none_of_sessions(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        with self.own(file):
            pass
        done = await asyncio.to_thread(self._import, file, target)
        assert done.exit_code == 0
        assert "contains no sessions" in done.output


class TestItemImportsFromServers(ServerImportRuns, TestItemImports):
    continued = "imported 0 sessions, 0 messages, 2 memories"

    @contextmanager
    def own(self, file: Path) -> Iterator[Any]:
        with PostgresStore.from_conn_string(self.libpq(file)) as own:
            own.setup()
            yield own

    def execute(self, file: Path, *statements: str) -> None:
        execute_postgres(postgres_url(), *(f"SET search_path = {self.schema(file)}; {one}" for one in statements))

    async def more(self, file: Path) -> Any:
        """Change an item too, which keeps the time of creation here."""
        await self.change(file)
        return await super().more(file)


async def test_import_of_threads_and_items_of_one_file(tmp_path: Path, sqlite: StorageConfig) -> None:
    file = tmp_path / "own.db"
    threads, items = TestImports(), TestItemImports()
    written = [await one.write(file) for one in (threads, items)]
    done = await asyncio.to_thread(threads._import, file, sqlite)  # noqa: SLF001
    checkpoints = sum(map(len, written[0]))
    assert f"imported 2 sessions, 0 messages, {checkpoints + 355} memories\n" in done.output
    assert [await one.read(sqlite) for one in (threads, items)] == written


async def test_import_of_threads_beside_another_table_of_that_name(tmp_path: Path, sqlite: StorageConfig) -> None:
    file = tmp_path / "own.db"
    threads = TestImports()
    written = await threads.write(file)
    TestItemImports().execute(file, "CREATE TABLE store (id INTEGER, prefix TEXT)", "INSERT INTO store VALUES (1, 'x')")
    done = await asyncio.to_thread(threads._import, file, sqlite)  # noqa: SLF001
    assert done.exit_code == 0, done.output
    assert await threads.read(sqlite) == written


def _timed(found: Any) -> Any:
    """Return a result with its times in UTC."""
    if not hasattr(found, "namespace"):
        return found
    times = (one if one.tzinfo else one.replace(tzinfo=UTC) for one in (found.created_at, found.updated_at))
    return found.namespace, found.key, str(found.value), *times


@pytest.mark.parametrize(
    "op",
    [
        *(GetOp(namespace, key) for namespace, key in ((("a",), "1"), (("a",), "2"), (("z", "b"), "é/#%"))),
        *(SearchOp(prefix) for prefix in ((), ("a",), ("a", "b"), ("b",), ("ab",))),
        *(SearchOp((), filter=wanted) for wanted in FILTERS),
        *(SearchOp((), limit=2, offset=offset) for offset in range(6)),
        ListNamespacesOp(),
        *(ListNamespacesOp(max_depth=depth) for depth in (1, 2, 3)),
        *(ListNamespacesOp(limit=2, offset=offset) for offset in range(6)),
        *(
            ListNamespacesOp(match_conditions=tuple(conditions), max_depth=depth)
            for depth in (None, 1)
            for conditions in (
                [MatchCondition("prefix", ("a",))],
                [MatchCondition("prefix", ("*", "b"))],
                [MatchCondition("suffix", ("b",))],
                [MatchCondition("suffix", ("b", "*"))],
                [MatchCondition("prefix", ("a",)), MatchCondition("suffix", ("c",))],
            )
        ),
    ],
    ids=str,
)
def test_an_operation_answers_as_the_memory_of_the_framework_does(op: Any) -> None:
    puts = [PutOp(*item) for item in ITEMS]
    expected = InMemoryStore()
    with LuminoraStore("memory://") as store:
        for one in puts:
            store.batch([one])
            expected.batch([one])
        assert plain(store.batch([op])) == plain(expected.batch([op]))


def plain(results: Any) -> Any:
    """Return results without their times."""
    if isinstance(results, list):
        return [plain(one) for one in results]
    return (results.namespace, results.key, results.value) if hasattr(results, "namespace") else results


def test_values_come_back_equal(memory: LuminoraStore) -> None:
    value = {"n": 2**70, "nul \0": ["\ud800", -0.0, None, True], "large": "x" * 100_000}
    memory.put(("a",), "k", value)
    found = memory.get(("a",), "k")
    assert found is not None
    assert same(found.value, value)
    assert (found.namespace, found.key) == (("a",), "k")


def test_values_that_are_no_strict_json_come_back_equal(memory: LuminoraStore) -> None:
    value = {"n": float("nan"), "all": [*HOSTILE_VALUES, b"\x00\xff"], "red": True}
    kept = [{"framework": "langgraph", "value": one} for one in (value, {"looks": "wrapped"})]
    values = [value, *({"luminora:item": one} for one in (*kept, {}))]
    for number, one in enumerate(values):
        memory.put(("a",), str(number), one)
        found: Any = memory.get(("a",), str(number))
        assert same(found.value, one)
    assert [one.key for one in memory.search(("a",), filter={"red": True})] == ["0"]
    memory.put(("a",), "tuple", {"t": (1, 2), 3: "four"})
    assert memory.search(("a",), query="four")[0].value == {"t": [1, 2], "3": "four"}


def test_a_value_that_is_not_json_is_refused(memory: LuminoraStore) -> None:
    with pytest.raises(TypeError, match="object is not"):
        memory.batch([PutOp(("a",), "j", {}), PutOp(("a",), "k", {"x": object()})])
    assert memory.search(("a",)) == []


def test_a_batch_reads_before_it_writes(memory: LuminoraStore) -> None:
    memory.put(("a",), "k", {"n": 1})
    ops = [PutOp(("a",), "k", {"n": 2}), GetOp(("a",), "k"), PutOp(("a",), "k", {"n": 3}), SearchOp(("a",))]
    first = memory.batch(ops)
    assert plain(first) == [None, (("a",), "k", {"n": 1}), None, [(("a",), "k", {"n": 1})]]
    assert plain(memory.batch([GetOp(("a",), "k")])) == [(("a",), "k", {"n": 3})]
    assert memory.batch([PutOp(("a",), "k", None), GetOp(("b",), "k")]) == [None, None]
    assert memory.get(("a",), "k") is None
    assert memory.list_namespaces() == []


def test_the_time_of_creation_is_kept(memory: LuminoraStore) -> None:
    memory.put(("a",), "k", {"n": 1})
    first: Any = memory.get(("a",), "k")
    memory.put(("a",), "k", {"n": 2})
    second: Any = memory.get(("a",), "k")
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at


@pytest.mark.parametrize("namespace", [(), ("",), ("a.b",), ("nul\0",), ("langgraph", "a"), (1,)])
def test_namespaces_are_refused_as_the_framework_does(namespace: Any, memory: LuminoraStore) -> None:
    with pytest.raises(InvalidNamespaceError):
        memory.put(namespace, "k", {})


@pytest.mark.parametrize("label", ["a.b", "", 1])
def test_namespaces_of_operations_are_checked(label: Any, memory: LuminoraStore) -> None:
    with pytest.raises(InvalidNamespaceError):
        memory.batch([PutOp(("fine",), "k", {}), PutOp((label,), "k", {})])
    assert memory.get(("fine",), "k") is None


@pytest.mark.parametrize("length", [1, 90, 150, 2000])
def test_long_labels_are_found_by_their_beginning(length: int, memory: LuminoraStore) -> None:
    labels = tuple(f"{name}é/%#" * length for name in "xyz")
    for depth in (1, 2, 3):
        memory.put(labels[:depth], "k" * length, {"depth": depth})
    memory.put(("other",), "k", {"depth": 0})
    for depth in (1, 2, 3):
        found = memory.search(labels[:depth])
        assert sorted(one.value["depth"] for one in found) == list(range(depth, 4))
    assert memory.list_namespaces(prefix=labels[:2]) == [labels[:2], labels]
    assert plain(memory.get(labels, "k" * length)) == (labels, "k" * length, {"depth": 3})


def test_a_query_ranks_by_words_and_leaves_nothing_out(memory: LuminoraStore) -> None:
    for number, text in enumerate(["Cats like milk", "Dogs bark", "Milk is white, cats drink milk"]):
        memory.put(("a", str(number)), "k", {"text": text})
    found = memory.search(("a",), query="milk for cats")
    assert [one.namespace[1] for one in found][2] == "1"
    assert [one.score is None for one in found] == [False, False, True]
    assert [one.namespace[1] for one in memory.search(("a",), query="bark", limit=1)] == ["1"]


def embed(texts: Any) -> list[list[float]]:
    return [[float(text.count(letter)) for letter in "abcdefgh"] for text in texts]


def test_an_embedder_finds_what_has_no_word_in_common(memory: LuminoraStore) -> None:
    with LuminoraStore(memory._storage, index={"dims": 8, "embed": embed, "fields": ["text"]}) as store:  # noqa: SLF001
        store.put(("a",), "1", {"text": "hhhh", "other": "bbbb"})
        store.put(("a",), "2", {"text": "aabb"})
        store.put(("a",), "3", {"text": "bbbb"}, index=False)
        found = store.search(("a",), query="bbbba")
        assert found[0].key == "2"
        assert next(one for one in found if one.key == "3").score is None


def test_the_score_of_an_embedder_is_the_cosine(memory: LuminoraStore) -> None:
    with LuminoraStore(memory._storage, index={"dims": 8, "embed": embed, "fields": ["text", "more"]}) as store:  # noqa: SLF001
        store.put(("a",), "1", {"text": "ab", "more": "cc"})
        store.put(("a",), "2", {"text": "c", "more": "bbbb"})
        store.put(("a",), "3", {"none": "b"})
        found = store.search(("a",), query="b")
    assert [(one.key, one.score) for one in found] == [
        *(("2", pytest.approx(1)), ("1", pytest.approx(0.5**0.5, abs=1e-5)), ("3", None)),
    ]


async def test_items_expire_and_reads_let_them_live(place: StorageConfig) -> None:
    clock = ManualClock()
    async with create_storage(place, clock=clock) as storage:
        store = LuminoraStore(storage, ttl={"default_ttl": 10, "refresh_on_read": True})
        store._items.services = attrs.evolve(store._items.services, clock=clock)  # noqa: SLF001
        await store.aput(("a",), "read", {})
        await store.aput(("a",), "unread", {})
        await store.aput(("a",), "kept", {}, ttl=None)
        clock.advance(9 * 60)
        assert await store.aget(("a",), "read") is not None
        assert await store.aget(("a",), "unread", refresh_ttl=False) is not None
        clock.advance(9 * 60)
        assert {one.key for one in await store.asearch(("a",))} == {"read", "kept"}
        clock.advance(9 * 60)
        assert {one.key for one in await store.asearch(("a",), refresh_ttl=False)} == {"read", "kept"}
        clock.advance(9 * 60)
        assert {one.key for one in await store.asearch(("a",))} == {"kept"}


async def test_a_graph_reads_what_another_thread_has_remembered(place: StorageConfig) -> None:
    async with LuminoraSaver(place) as saver, LuminoraStore(place) as store:

        async def remember(state: Named, *, store: BaseStore) -> Any:
            known = [one.key for one in await store.asearch(("names",))]
            await store.aput(("names",), state["names"][0], {})
            return {"names": known}

        graph: Any = StateGraph(Named).add_node("remember", remember).add_edge(START, "remember")
        compiled = graph.compile(checkpointer=saver, store=store)
        await compiled.ainvoke({"names": ["ann"]}, config_of("1"))
        assert (await compiled.ainvoke({"names": ["bob"]}, config_of("2"))) == {"names": ["bob", "ann"]}


def test_threads_share_one_store(memory: LuminoraStore) -> None:
    def many(number: int) -> None:
        for key in range(5):
            memory.put(("a", str(number)), str(key), {"n": number})

    threads = [threading.Thread(target=many, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(memory.search(("a",), limit=100)) == 20
