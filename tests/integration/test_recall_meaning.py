"""Recall with an embedder: vectors come behind the writes, and what goes wrong with them costs no message."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luminoracore_sdk import sync
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.embedders import CallableEmbedder, HashingEmbedder
from luminoracore_sdk.adapters.wrappers.searching import SearchWrapper
from luminoracore_sdk.application.indexing import Indexer, stored_entry
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.session import (
    InMemoryStorage,
    Message,
    SessionManager,
    SessionStorage,
    SQLiteStorage,
    create_storage,
    shared_storage,
)
from luminoracore_sdk.testing import ManualClock
from tests.support.command import luminora_over, process_environment
from tests.support.recall import CHANGES, QUESTIONS, found_by, manager_of, reindexed, say, searched

SIZE = 16
TEXTS = ("a red boat", "the blue sea", "cats sleep all day")


class Knobs:
    """Test embedder that can wait, fail or return vectors of a wrong form.

    Attributes:
        may_answer: Passages are embedded while it is set.
        may_ask: Queries are embedded while it is set.
        patience: How many cancellations it ignores.
        error: What is raised.
        wrong: What is returned instead of the vectors.
        calls: Number of calls for passages.
        queries: Number of calls for queries.
        longest: Characters of the longest text.
        loops: Where the calls were made.
    """

    def __init__(self, dimension: int = SIZE) -> None:
        self._words = HashingEmbedder(dimension)
        self.model_id = self._words.model_id
        self.dimension = dimension
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.may_ask = asyncio.Event()
        self.may_ask.set()
        self.patience = 0
        self.error: Exception | None = None
        self.wrong: list[list[float]] | None = None
        self.calls = self.queries = self.longest = 0
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts."""
        self.calls += 1
        self.loops.add(asyncio.get_running_loop())
        self.longest = max(self.longest, *map(len, texts))
        while not self.may_answer.is_set():
            try:
                await self.may_answer.wait()
            except asyncio.CancelledError:
                self.patience -= 1
                if self.patience < 0:
                    raise
        if self.error is not None:
            raise self.error
        return await self._words.embed_passages(texts) if self.wrong is None else self.wrong

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        self.loops.add(asyncio.get_running_loop())
        self.queries += 1
        self.longest = max(self.longest, len(text))
        await self.may_ask.wait()
        if self.error is not None:
            raise self.error
        return await self._words.embed_query(text) if self.wrong is None else self.wrong[0]


@pytest.fixture
def knobs() -> Knobs:
    return Knobs()


@pytest.fixture(params=["memory", "sqlite"])
async def searching(request: pytest.FixtureRequest, tmp_path: Path, knobs: Knobs) -> AsyncIterator[SearchWrapper]:
    base = InMemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "searching.db")
    storage = searched(base, knobs, query_seconds=0.05)
    assert isinstance(storage, SearchWrapper)
    async with storage:
        yield storage


async def vectors(storage: SessionStorage, session_id: str = "s") -> list[int]:
    """Return the dimension of the stored vector of each message, 0 where there is none."""
    assert storage.search is not None
    entries = [
        stored_entry(record, storage.search.analyzer) for record in await storage.read_index(session_id, MessageRange())
    ]
    return [len(entry.vector.values) if entry and entry.vector else 0 for entry in entries]


async def similarities(manager: SessionManager, query: str = "boat") -> dict[str, object]:
    return {hit.text: hit.parts["similarity"] for hit in await manager.recall(query, explain=True)}


async def test_an_append_waits_for_no_vector(searching: SearchWrapper, knobs: Knobs) -> None:
    knobs.may_answer.clear()
    manager = SessionManager(searching)
    async with asyncio.timeout(5):
        await say(manager, *TEXTS)
    assert await similarities(manager) == {"a red boat": 0.0, "the blue sea": 0.0, "cats sleep all day": 0.0}
    assert await vectors(searching) == [0, 0, 0]
    knobs.may_answer.set()
    assert await searching.drain() is True
    assert (await vectors(searching), knobs.calls) == ([SIZE] * 3, 1)
    assert 0.0 not in (await similarities(manager)).values()


async def test_every_write_is_embedded(searching: SearchWrapper) -> None:
    manager = SessionManager(searching)
    session_id = await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s"})
    answer = await manager.send_message(session_id, Message("user", "hello", id="m"))
    await manager.edit_message(session_id, "m", "good morning")
    await manager.regenerate(session_id)
    await manager.fork(session_id, new_session_id="f")
    await manager.redact(
        session_id, "m" if answer.id is None else (await manager.recall("morning"))[0].message_id or ""
    )
    assert await searching.drain() is True
    assert await vectors(searching) == [0, SIZE]
    await manager.recall("morning")  # what was forked before it was embedded
    assert await searching.drain() is True
    assert await vectors(searching, "f") == [SIZE, SIZE]


async def test_vectors_may_be_arrays_of_numpy(searching: SearchWrapper, knobs: Knobs) -> None:
    async def passages(texts: Sequence[str]) -> Any:
        return np.array(await knobs.embed_passages(texts), dtype=np.float32)

    storage = searched(searching.base, CallableEmbedder(passages, model_id=knobs.model_id, dimension=SIZE))
    assert isinstance(storage, SearchWrapper)
    await say(SessionManager(storage), *TEXTS)
    assert await storage.drain() is True
    assert await vectors(storage) == [SIZE] * 3
    assert await similarities(SessionManager(storage)) == await similarities(SessionManager(searching))


FAULTS = {
    "an error": {"error": RuntimeError("the model is gone")},
    "another dimension": {"wrong": [[1.0] * (SIZE + 1)] * 3},
    "too few": {"wrong": [[1.0] * SIZE]},
    "not finite": {"wrong": [[float("nan")] * SIZE] * 3},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_an_embedder_that_fails_costs_no_message(
    searching: SearchWrapper, knobs: Knobs, fault: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    vars(knobs).update(fault)
    manager = SessionManager(searching)
    with caplog.at_level(logging.WARNING, "luminoracore_sdk"):
        await say(manager, *TEXTS)
        found = await similarities(manager)
        assert await searching.drain() is False
    assert found == dict.fromkeys(TEXTS, 0.0)
    assert await vectors(searching) == [0, 0, 0]
    assert "messages wait for their vectors" in caplog.text
    knobs.error, knobs.wrong = None, None
    assert await searching.drain() is True
    assert 0.0 not in (await similarities(manager)).values()


def refusing(knobs: Knobs, word: str) -> CallableEmbedder:
    """Return an embedder whose model fails for texts with a word."""

    async def passages(texts: Sequence[str]) -> list[list[float]]:
        if any(word in text for text in texts):
            raise RuntimeError(f"{word} is too much for me")
        return await knobs.embed_passages(texts)

    return CallableEmbedder(passages, model_id=knobs.model_id, dimension=SIZE)


async def test_a_text_that_the_model_refuses_keeps_no_other_from_its_vector(
    searching: SearchWrapper, knobs: Knobs, caplog: pytest.LogCaptureFixture
) -> None:
    storage = searched(searching.base, refusing(knobs, "sea"))
    assert isinstance(storage, SearchWrapper)
    manager = SessionManager(storage)
    await say(manager, *TEXTS, *(f"boat {number}" for number in range(300)))
    await say(manager, "another", session_id="t")
    assert await storage.drain() is True
    assert await vectors(storage) == [SIZE, 0, *[SIZE] * 301]
    assert await vectors(storage, "t") == [SIZE]
    assert caplog.text.count("1 messages get no vectors, which the model refuses: sea is too much for me") == 1
    calls = knobs.calls
    await manager.recall("boat")
    assert await storage.drain() is True
    assert knobs.calls == calls + 2  # the query, and a text that tells a refusal from a model that is gone


async def test_an_embedder_that_refuses_many_texts_is_an_error(searching: SearchWrapper, knobs: Knobs) -> None:
    storage = searched(searching.base, refusing(knobs, "sea"))
    assert storage.search is not None
    await say(SessionManager(searching.base), *(f"sea {number}" for number in range(21)))
    indexer, refused = Indexer(storage=storage, codec=JsonEntityCodec(), search=storage.search), list[Exception]()
    with pytest.raises(RuntimeError, match="sea is too much for me"):
        await indexer.complete("s", damage=[], refused=refused)
    assert len(refused) == 20


@pytest.mark.parametrize("fault", [FAULTS["an error"], FAULTS["another dimension"], FAULTS["not finite"]], ids=str)
async def test_words_alone_decide_if_a_query_cannot_be_embedded(
    searching: SearchWrapper, knobs: Knobs, fault: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    manager = SessionManager(searching)
    await say(manager, *TEXTS)
    await searching.drain()
    vars(knobs).update(fault)
    assert (await manager.recall("boats"))[0].text == "a red boat"
    assert set((await similarities(manager)).values()) == {0.0}
    assert "the query could not be embedded; words alone decide" in caplog.text


async def test_words_alone_decide_if_a_query_is_not_embedded_in_time(
    searching: SearchWrapper, knobs: Knobs, caplog: pytest.LogCaptureFixture
) -> None:
    manager = SessionManager(searching)
    await say(manager, *TEXTS)
    await searching.drain()
    knobs.may_ask.clear()
    async with asyncio.timeout(5):
        found = [hit.text for _ in range(3) for hit in await manager.recall("boats", limit=1)]
    assert found == ["a red boat"] * 3
    assert (knobs.queries, caplog.text.count("within 0.05 s; words alone decide")) == (1, 1)
    knobs.may_ask.set()
    async with asyncio.timeout(5):
        parts: dict[str, object] = {"": 0.0}
        while 0.0 in parts.values():
            await asyncio.sleep(0.01)
            parts = await similarities(manager)
    assert knobs.queries == 2


async def remember(manager: SessionManager, *texts: str) -> None:
    """Store memories of the user ada under numbers."""
    for number, text in enumerate(texts):
        await manager.for_user("ada").store_memory(str(number), text)


async def memory_similarities(manager: SessionManager) -> dict[str, object]:
    return {hit.text: hit.parts["similarity"] for hit in await manager.for_user("ada").recall("boat", explain=True)}


async def test_memories_are_found_by_meaning(searching: SearchWrapper, knobs: Knobs) -> None:
    manager, other = SessionManager(searching), SessionManager(searching)
    await remember(manager, *TEXTS)
    found = await memory_similarities(manager)
    assert set(found) == set(TEXTS)
    assert found["a red boat"] == max(found.values(), key=str) != 0.0
    assert knobs.calls == 1
    await manager.for_user("ada").store_memory("0", "a boat")
    assert await memory_similarities(manager) == await memory_similarities(other)
    assert knobs.calls == 3  # of the new value, and of all
    assert await memory_similarities(manager) == await memory_similarities(other)
    assert knobs.calls == 3


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_words_find_memories_that_cannot_be_embedded(
    searching: SearchWrapper, knobs: Knobs, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    passages = CallableEmbedder(
        knobs.embed_passages, model_id="m", dimension=SIZE, embed_query=HashingEmbedder(SIZE).embed_query
    )
    manager = SessionManager(searched(searching.base, passages))
    await remember(manager, *TEXTS)
    vars(knobs).update(fault)
    assert await memory_similarities(manager) == {"a red boat": 0.0}
    assert "memories could not be embedded; words alone find them" in caplog.text
    knobs.error, knobs.wrong = None, None
    assert 0.0 not in (await memory_similarities(manager)).values()


async def test_a_query_waits_for_the_vectors_of_memories_for_a_time(
    searching: SearchWrapper, knobs: Knobs, caplog: pytest.LogCaptureFixture
) -> None:
    manager = SessionManager(searching)
    await remember(manager, *TEXTS)
    knobs.may_answer.clear()
    async with asyncio.timeout(5):
        assert [await memory_similarities(manager) for _ in range(2)] == [{"a red boat": 0.0}] * 2
    assert (knobs.calls, caplog.text.count("memories were not embedded within 0.05 s")) == (1, 1)


async def test_an_embedder_that_does_not_stop_is_left_behind(searching: SearchWrapper, knobs: Knobs) -> None:
    knobs.may_answer.clear()
    knobs.patience = 1
    await say(SessionManager(searching), *TEXTS)
    async with asyncio.timeout(5):
        assert await searching.drain(0.01) is False
    knobs.may_answer.set()
    assert await searching.drain() is True


@pytest.mark.parametrize("written", [0, 1], ids=["nothing was written", "and what was written is done"])
async def test_close_does_not_wait_for_what_only_a_query_lacks(tmp_path: Path, knobs: Knobs, written: int) -> None:
    async with SQLiteStorage(tmp_path / "s.db") as plain:
        await say(SessionManager(plain), *TEXTS)
    knobs.may_answer.clear()
    async with asyncio.timeout(5):
        async with searched(SQLiteStorage(tmp_path / "s.db"), knobs) as storage:
            manager = SessionManager(storage)
            assert (await manager.recall("boats", limit=1))[0].text == "a red boat"
            await asyncio.sleep(0)  # the embedder is asked
            if written:
                await say(manager, "a green boat", session_id="t")
                asyncio.get_running_loop().call_later(0.05, knobs.may_answer.set)
        async with SQLiteStorage(tmp_path / "s.db") as plain:
            storage = searched(plain)
            assert await vectors(storage) == [0] * 3
            assert not written or await vectors(storage, "t") == [SIZE]


async def test_the_beginning_of_a_long_text_is_embedded(searching: SearchWrapper, knobs: Knobs) -> None:
    manager = SessionManager(searching)
    await say(manager, "boat " * 10_000)
    assert await searching.drain() is True
    (hit,) = await manager.recall("boat " * 10_000)
    assert len(hit.text) == 50_000
    assert knobs.longest == 20_000
    assert await vectors(searching) == [SIZE]


async def test_close_waits_for_the_vectors(tmp_path: Path, knobs: Knobs) -> None:
    async with searched(SQLiteStorage(tmp_path / "s.db"), knobs) as storage:
        knobs.may_answer.clear()
        await say(SessionManager(storage), *TEXTS)
        asyncio.get_running_loop().call_later(0.05, knobs.may_answer.set)
    async with searched(SQLiteStorage(tmp_path / "s.db"), knobs) as storage:
        assert await vectors(storage) == [SIZE] * 3


async def test_a_write_that_is_not_embedded_in_time_is_embedded_later(searching: SearchWrapper, knobs: Knobs) -> None:
    knobs.may_answer.clear()
    await say(SessionManager(searching), *TEXTS)
    assert await searching.drain(0.01) is False
    assert await vectors(searching) == [0] * 3
    knobs.may_answer.set()
    assert await searching.drain() is True
    assert await vectors(searching) == [SIZE] * 3


def test_a_storage_in_memory_may_go_on_in_another_loop() -> None:
    storage = searched(InMemoryStorage(), CallableEmbedder(_never, model_id="never", dimension=1))
    asyncio.run(say(SessionManager(storage), *TEXTS))
    assert asyncio.run(found_there(storage)) == 3


async def _never(texts: Sequence[str]) -> list[list[float]]:
    await asyncio.Event().wait()
    return [[0.0] for _ in texts]


async def found_there(storage: SessionStorage) -> int:
    assert isinstance(storage, SearchWrapper)
    async with asyncio.timeout(5):
        found = len(await storage.read_index("s", MessageRange()))
        assert await storage.drain(0.01) is False
        return found


WRITER = """
import asyncio, sys
from luminoracore_sdk.adapters.embedders import CallableEmbedder
from luminoracore_sdk.session import Message, SessionManager, create_storage

async def never(texts):
    print("embedding", flush=True)
    await asyncio.Event().wait()

async def main():
    embedder = CallableEmbedder(never, model_id="hashing/16", dimension=16)
    storage = create_storage(sys.argv[1], search="semantic", embedder=embedder)
    chat = SessionManager(storage).conversation_manager
    await chat.create_conversation("s")
    for text in ("a red boat", "the blue sea", "cats sleep all day"):
        await chat.add_message("s", "user", text)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def write_and_be_killed(url: str, home: Path) -> None:
    arguments = [sys.executable, "-c", WRITER, url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=process_environment(home)) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"embedding\n"
        os.kill(writer.pid, signal.SIGKILL)


@pytest.mark.parametrize("by", ["query", "reindex"])
async def test_vectors_that_a_killed_process_owed_are_completed(tmp_path: Path, knobs: Knobs, by: str) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    await asyncio.to_thread(write_and_be_killed, url, tmp_path)
    if by == "reindex":
        done = await asyncio.to_thread(luminora_over(url), "reindex", "--semantic", "--json")
        assert json.loads(done.stdout) == {"sessions": 1, "messages": 3, "damaged": 0, "refused": 0}
        async with create_storage(url, search="semantic") as storage:
            assert await vectors(storage) == [256] * 3
        return
    async with searched(SQLiteStorage(tmp_path / "s.db"), knobs) as storage:
        assert isinstance(storage, SearchWrapper)
        manager = SessionManager(storage)
        assert set((await similarities(manager)).values()) == {0.0}
        assert await storage.drain() is True
        assert await vectors(storage) == [SIZE] * 3
        assert 0.0 not in (await similarities(manager)).values()


@pytest.mark.parametrize("name", [None, "hashing/16"], ids=["another model", "the same name"])
async def test_vectors_of_another_model_are_not_mixed(name: str | None, caplog: pytest.LogCaptureFixture) -> None:
    base = InMemoryStorage()
    async with searched(base, Knobs()) as first:
        assert isinstance(first, SearchWrapper)
        await say(SessionManager(first), *TEXTS)
        await first.drain()
        other = Knobs(2 * SIZE)
        other.model_id = name or other.model_id
        other.may_answer.clear()
        storage = searched(base, other)
        assert isinstance(storage, SearchWrapper)
        manager = SessionManager(storage)
        assert set((await similarities(manager)).values()) == {0.0}
        other.may_answer.set()
        await storage.drain()
        assert await vectors(storage) == [2 * SIZE] * 3
        assert 0.0 not in (await similarities(manager)).values()
        assert set((await similarities(SessionManager(first))).values()) == {0.0}
        assert caplog.text == ""


async def test_what_is_appended_behind_messages_without_vectors(searching: SearchWrapper, knobs: Knobs) -> None:
    knobs.may_answer.clear()
    manager = SessionManager(searching)
    await say(manager, *TEXTS)
    await similarities(manager)
    await say(manager, "boats again")
    assert set((await similarities(manager)).values()) == {0.0}
    knobs.may_answer.set()
    assert await searching.drain() is True
    assert len(found := await similarities(manager)) == 4
    assert 0.0 not in found.values()


async def test_a_store_of_another_model_is_told_once(knobs: Knobs, caplog: pytest.LogCaptureFixture) -> None:
    async with searched(InMemoryStorage()) as plain:
        plain_manager = SessionManager(plain)
        await say(plain_manager, *(f"message {number}" for number in range(1100)))
        knobs.may_answer.clear()
        storage = searched(plain, knobs)
        manager = SessionManager(storage)
        for _ in range(2):
            assert len(await manager.recall("message", limit=3)) == 3
            await say(plain_manager, "a message of another session", session_id="t")
    expected = f"1100 of 1100 messages have no vector of {knobs.model_id}"
    assert [expected in record.message for record in caplog.records] == [True]


async def test_vectors_give_the_same_lists_whenever_they_came() -> None:
    clock = ManualClock()
    async with searched(InMemoryStorage(clock=clock), Knobs(64)) as at_once:
        manager = manager_of(at_once, clock)
        for change in CHANGES[:-3]:
            await change(manager, clock)
            await found_by(manager, QUESTIONS[:10])
            await at_once.drain()  # type: ignore[attr-defined]
        await found_by(manager, [("the", {})])
        await at_once.drain()  # type: ignore[attr-defined]
        followed = await found_by(manager, QUESTIONS[:80])
        assert await found_by(manager_of(at_once, clock), QUESTIONS[:80]) == followed
    clock = ManualClock()
    async with searched(InMemoryStorage(clock=clock)) as without:
        manager = manager_of(without, clock)
        for change in CHANGES[:-3]:
            await change(manager, clock)
        later = searched(without, Knobs(64))
        assert await reindexed(later) > 60
        assert await found_by(manager_of(later, clock), QUESTIONS[:80]) == followed


async def test_a_cancelled_query_leaves_the_index_whole() -> None:
    async with searched(InMemoryStorage()) as storage:
        manager = SessionManager(storage)
        for part in range(3):
            await say(
                manager, *(f"boat number {part * 1000 + number}" for number in range(1000)), session_id=f"s{part}"
            )
        for pause in (0, 2, 8, 20):
            manager = SessionManager(storage)
            asked = asyncio.create_task(manager.recall("boat 7"))
            await asyncio.sleep(pause / 400)
            asked.cancel()
            found = await asyncio.gather(manager.recall("boat 1234", limit=3), manager.recall("number 2999", limit=3))
            assert [hits[0].text for hits in found] == ["boat number 1234", "boat number 2999"]
            await asyncio.gather(asked, return_exceptions=True)
            fresh = SessionManager(storage)
            asks: list[tuple[str, dict[str, Any]]] = [
                ("boat 55", {"explain": True}),
                ("number 1999", {"explain": True, "limit": 50}),
            ]
            assert await found_by(manager, asks) == await found_by(fresh, asks)


def test_a_shared_storage_is_asked_by_two_loops(tmp_path: Path) -> None:
    knobs = Knobs()
    storage = shared_storage(f"sqlite:///{tmp_path / 's.db'}", search="semantic", embedder=knobs)

    async def write_and_ask(name: str) -> list[str]:
        manager = SessionManager(storage)
        found = []
        for number in range(5):
            await say(manager, f"boat {number} of {name}", session_id=name)
            hits = await manager.recall(f"boat {number} of {name}", session_ids=[name])
            found.append(hits[0].text)
        return found

    with ThreadPoolExecutor(2) as pool:
        lists = list(pool.map(lambda name: asyncio.run(write_and_ask(name)), ("one", "two")))
    assert lists == [[f"boat {number} of {name}" for number in range(5)] for name in ("one", "two")]
    assert len(knobs.loops) == 1

    async def complete() -> list[int]:
        manager = SessionManager(storage)
        async with asyncio.timeout(10):
            while 0 in (found := await vectors(storage, "one") + await vectors(storage, "two")):
                await manager.recall("boat")
                await asyncio.sleep(0.01)
        await storage.close()
        return found

    assert asyncio.run(complete()) == [SIZE] * 10
    assert len(knobs.loops) == 1


def test_code_without_await_recalls(tmp_path: Path) -> None:
    knobs = Knobs()
    with (
        sync.create_storage(f"sqlite:///{tmp_path / 's.db'}", search="semantic", embedder=knobs) as storage,
        sync.SessionManager(storage) as manager,
    ):
        session_id = manager.create_session({"name": "A"}, {"name": "echo"}, {"user_id": "ada"})
        manager.send_message(session_id, "The boat leaves at noon")
        manager.memory_manager.store_memory(session_id, "boat", "Aurora", scope="user")
        hits = manager.recall("which boat?", user_id="ada")
        assert {hit.text for hit in hits} == {"Aurora", "The boat leaves at noon", "You said: The boat leaves at noon"}
        assert manager.for_user("ada").recall("which boat?") == hits
        assert manager.for_user("bob").recall("which boat?") == []
