# pyright: reportMissingImports=false

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage, shared_storage
from luminoracore_sdk.storage import AppendReceipt, StorageWrapper
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.import_runs import ImportRuns, ServerImportRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES, same

pytest.importorskip("agents", reason="the extra openai-agents is not installed")

from agents import Agent, OpenAIResponsesCompactionSession, RunConfig, Runner, SessionSettings, SQLiteSession
from agents.extensions.memory import EncryptedSession
from agents.memory import Session

from luminoracore_sdk.integrations.openai_agents import LuminoraSession, import_history
from tests.integrations.workers.openai_agents_agent import FakeModel

ITEMS: list[Any] = [
    {"role": "user", "content": "Hi"},
    {"content": "Hi", "role": "user"},
    {"role": "user", "content": "Hi"},
    {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "They greet."}], "extra": None},
    {"id": "same", "type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
    {"id": "same", "type": "function_call_output", "call_id": "call_1", "output": "2"},
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"annotations": [{"type": "url_citation", "url": "u"}], "text": "Hello", "type": "output_text"}],
    },
    {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:"}]},
    {"role": "developer", "content": "Be brief."},
    {"type": "compaction", "encrypted_content": "…"},
    {"no": "type", "nested": {"content": "x"}},
    *({"role": "user", "content": text} for text in HOSTILE_TEXTS),
    *({"role": "user", "content": "x", "value": value} for value in HOSTILE_VALUES),
    {"role": "user", "content": [{"type": "input_text", "text": "x", "value": float("nan")}, {"type": "other"}]},
]


@pytest.fixture
async def session(store: StorageConfig) -> AsyncIterator[LuminoraSession]:
    session = LuminoraSession("conversation", storage=store)
    yield session
    await session.close()


@pytest.fixture
async def quick() -> AsyncIterator[LuminoraSession]:
    session = LuminoraSession("conversation", storage="memory://")
    yield session
    await session.close()


class TestRuns(AgentRuns):
    framework = "openai_agents"


class TestImports(ImportRuns):
    framework = "openai-agents"
    ids = ("ann", "bob/1")

    @asynccontextmanager
    async def own(self, file: Path, session_id: str) -> AsyncIterator[Any]:
        """Yield the framework's own session."""
        own = SQLiteSession(session_id, file)
        yield own
        own.close()

    async def write(self, file: Path) -> Any:
        for session_id in self.ids:
            async with self.own(file, session_id) as own:
                await own.add_items(ITEMS)
                await own.pop_item()
                await own.add_items([{"role": "user", "content": session_id}])
        return await self._own(file)

    async def _own(self, file: Path) -> Any:
        found = []
        for session_id in self.ids:
            async with self.own(file, session_id) as own:
                found.append(repr(await own.get_items()))  # NaN is not equal to itself
        return found

    async def more(self, file: Path) -> Any:
        async with self.own(file, "ann") as own:
            await own.add_items([{"role": "assistant", "content": "later"}])
        return await self._own(file)

    async def change(self, file: Path) -> None:
        async with self.own(file, "ann") as own:
            await own.pop_item()
            await own.add_items([{"role": "user", "content": "another"}])

    async def read(self, store: StorageConfig) -> Any:
        found = []
        for session_id in self.ids:
            session = LuminoraSession(session_id, storage=store)
            found.append(repr(await session.get_items()))
            await session.close()
        return found


class TestImportsFromServers(ServerImportRuns, TestImports):
    @asynccontextmanager
    async def own(self, file: Path, session_id: str) -> AsyncIterator[Any]:
        pytest.importorskip("greenlet", reason="SQLAlchemySession needs it")
        from agents.extensions.memory import SQLAlchemySession

        url, options = self.sqlalchemy(file)
        own = SQLAlchemySession.from_url(session_id, url=url, engine_kwargs=options, create_tables=True)
        yield own
        await own.engine.dispose()

    async def test_a_run_goes_on(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        agent = Agent(name="fake", model=FakeModel())
        async with self.own(file, "ann") as own:
            await Runner.run(agent, "one", session=own)
        done = await asyncio.to_thread(self._import, file, target)
        assert done.exit_code == 0, done.output
        session = LuminoraSession("ann", storage=target)
        result = await Runner.run(agent, "two", session=session)
        await session.close()
        assert result.final_output == "after 1: two"


async def test_a_file_of_sqlalchemy_is_imported(tmp_path: Path, sqlite: StorageConfig) -> None:
    for module in ("aiosqlite", "greenlet"):
        pytest.importorskip(module, reason="SQLAlchemySession needs it for SQLite")
    url = f"sqlite+aiosqlite:///{tmp_path / 'own.db'}"
    from agents.extensions.memory import SQLAlchemySession

    own = SQLAlchemySession.from_url("ann", url=url, create_tables=True)
    await own.add_items(ITEMS[:9])
    await own.engine.dispose()
    async with create_storage(sqlite) as storage:
        assert [one async for one, _ in import_history(tmp_path / "own.db", storage)] == ["ann"]
    session = LuminoraSession("ann", storage=sqlite)
    assert await session.get_items() == ITEMS[:9]
    await session.close()


async def test_items_come_back_equal(session: LuminoraSession) -> None:
    await session.add_items(ITEMS)
    assert same(await session.get_items(), ITEMS)


async def test_items_can_be_popped_and_cleared(session: LuminoraSession) -> None:
    await session.add_items(ITEMS[:7])
    assert await session.pop_item() == ITEMS[6]
    assert await session.pop_item() == ITEMS[5]
    await session.add_items(ITEMS[:1])
    assert await session.get_items() == [*ITEMS[:5], ITEMS[0]]
    await session.clear_session()
    assert await session.get_items() == []
    assert await session.pop_item() is None


async def test_pops_at_once_return_different_items(session: LuminoraSession) -> None:
    items: list[Any] = [{"role": "user", "content": str(number)} for number in range(12)]
    await session.add_items(items)
    popped = await asyncio.gather(*(session.pop_item() for _ in range(14)))
    assert sorted(item["content"] for item in popped if item) == sorted(item["content"] for item in items)
    assert popped.count(None) == 2


async def test_appends_at_once_are_all_kept(session: LuminoraSession) -> None:
    await asyncio.gather(*(session.add_items([{"role": "user", "content": str(number)}] * 2) for number in range(20)))
    texts = [item["content"] for item in await session.get_items()]
    assert sorted(texts, key=int) == sorted([str(number) for number in range(20)] * 2, key=int)
    assert texts[::2] == texts[1::2]


async def test_a_batch_may_have_more_than_a_thousand_items(quick: LuminoraSession) -> None:
    items: list[Any] = [{"role": "user", "content": str(number)} for number in range(2500)]
    await quick.add_items(items)
    assert await quick.get_items() == items


async def test_the_limit_counts_the_newest_items(quick: LuminoraSession) -> None:
    await quick.add_items(ITEMS[:4])
    assert await quick.get_items(2) == ITEMS[2:4]
    assert await quick.get_items(0) == []
    assert await quick.get_items(-1) == []
    assert await quick.get_items(10) == ITEMS[:4]
    assert await quick.get_items(2**40) == ITEMS[:4]
    quick.session_settings = SessionSettings(limit=1)
    assert await quick.get_items() == ITEMS[3:4]
    assert await quick.get_items(3) == ITEMS[1:4]


async def test_settings_may_be_a_mapping() -> None:
    session = LuminoraSession("s", storage="memory://", session_settings={"limit": 1})
    await session.add_items(ITEMS[:3])
    assert await session.get_items() == ITEMS[2:3]
    with pytest.raises(TypeError, match="limits"):
        LuminoraSession("s", storage="memory://", session_settings={"limits": 1})


async def test_a_closed_session_refuses_every_call(quick: LuminoraSession) -> None:
    await quick.close()
    for call in (quick.get_items(), quick.add_items([]), quick.pop_item(), quick.clear_session()):
        with pytest.raises(RuntimeError, match="closed"):
            await call
    await quick.close()


async def test_a_given_storage_stays_open(sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage:
        session = LuminoraSession("s", storage=storage)
        await session.add_items(ITEMS[:1])
        await session.close()
        assert await LuminoraSession("s", storage=storage).get_items() == ITEMS[:1]


def test_any_loop_and_thread_may_use_a_session(store: StorageConfig) -> None:
    session = LuminoraSession("s", storage=store)

    def turn(number: int) -> str:
        agent = Agent(name="fake", model=FakeModel())
        return str(Runner.run_sync(agent, str(number), session=session).final_output)

    def in_thread(number: int) -> str:
        asyncio.set_event_loop(asyncio.new_event_loop())
        try:
            return turn(number)
        finally:
            asyncio.get_event_loop().close()
            asyncio.set_event_loop(None)

    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(in_thread, range(6)))
    assert sorted(int(answer.partition(": ")[2]) for answer in answers) == list(range(6))
    items: list[Any] = asyncio.run(session.get_items())
    assert sorted(item["content"] for item in items if item["role"] == "user") == [str(n) for n in range(6)]
    assert len(items) == 12
    asyncio.run(session.close())


class SlowAppends(StorageWrapper):
    """Appends when it may."""

    def __init__(self) -> None:
        super().__init__(create_storage("memory://"))
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def append_messages(self, *args: Any, **kwargs: Any) -> AppendReceipt:
        self.begun.set()
        await self.may_end.wait()
        return await super().append_messages(*args, **kwargs)


async def test_a_mutation_that_was_begun_ends_before_it_is_cancelled() -> None:
    storage = SlowAppends()
    session = LuminoraSession("s", storage=storage)
    adding = asyncio.create_task(session.add_items(ITEMS[:2]))
    await storage.begun.wait()
    for _ in range(3):
        adding.cancel()
        await asyncio.sleep(0)
    assert not adding.done()
    storage.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert await session.get_items() == ITEMS[:2]


@pytest.mark.parametrize("session_id", HOSTILE_IDS, ids=ascii)
async def test_any_string_is_an_id(session_id: str, store: StorageConfig) -> None:
    session, other = LuminoraSession(session_id, storage=store), LuminoraSession(f"{session_id}2", storage=store)
    await session.add_items(ITEMS[:1])
    assert await session.get_items() == ITEMS[:1]
    assert await other.get_items() == []
    await session.close()
    await other.close()


async def test_it_implements_the_protocol(quick: LuminoraSession) -> None:
    assert isinstance(quick, Session)


async def test_the_session_that_encrypts_wraps_it(session: LuminoraSession) -> None:
    encrypted = EncryptedSession("conversation", session, "a key of at least some length")
    await encrypted.add_items(ITEMS[:7])
    assert await encrypted.get_items() == ITEMS[:7]
    assert "Hello" not in str(await session.get_items())
    assert await encrypted.pop_item() == ITEMS[6]


class FakeResponses:
    """Compacts a history to one item, while something else may happen."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        self.responses = self
        self.meanwhile = meanwhile

    async def compact(self, **_: Any) -> Any:
        if self.meanwhile is not None:
            await self.meanwhile()
        return type("Compacted", (), {"output": [{"role": "user", "content": "compacted"}], "usage": None})


async def test_compaction_replaces_the_history(session: LuminoraSession) -> None:
    await session.add_items(ITEMS[:7])
    client: Any = FakeResponses()
    compacting = OpenAIResponsesCompactionSession("conversation", session, client=client, compaction_mode="input")
    await compacting.run_compaction({"force": True})
    (item,) = await session.get_items()
    assert item["content"] == "compacted"  # type: ignore[typeddict-item,unused-ignore]


async def run_and_compact(session: LuminoraSession, client: Any, **config: Any) -> list[Any]:
    """Return the texts of a session after a run that compacts it."""
    compacting = OpenAIResponsesCompactionSession(
        "conversation", session, client=client, compaction_mode="input", should_trigger_compaction=lambda _: True
    )
    agent = Agent(name="fake", model=FakeModel())
    await Runner.run(agent, "two", session=compacting, run_config=RunConfig(**config))
    return [str(item["content"])[:40] for item in await session.get_items()]  # type: ignore[typeddict-item,unused-ignore]


async def test_a_limited_session_compacts_what_the_model_has_seen(session: LuminoraSession) -> None:
    await session.add_items([{"role": "user", "content": text} for text in ("zero", "one")])
    assert await run_and_compact(session, FakeResponses(), session_settings={"limit": 1}) == ["zero", "compacted"]


async def test_what_is_said_while_a_session_is_compacted_stays(session: LuminoraSession) -> None:
    await session.add_items([{"role": "user", "content": "one"}])

    async def append() -> None:
        await session.add_items([{"role": "user", "content": "of another worker"}])

    texts = await run_and_compact(session, FakeResponses(append))
    assert [texts[0], texts[1], texts[3]] == ["one", "two", "of another worker"]


async def test_what_takes_the_place_of_the_newest_item_stays(session: LuminoraSession) -> None:
    async def correct() -> None:
        await session.pop_item()
        await session.add_items([{"role": "user", "content": "a correction"}])

    assert await run_and_compact(session, FakeResponses(correct)) == ["two", "a correction"]


async def test_a_subclass_is_asked_for_its_own_replacement(quick: LuminoraSession) -> None:
    class Transformed(LuminoraSession):
        pass

    replace = LuminoraSession._atomic_replace_items  # noqa: SLF001  # found by this name
    assert await replace(Transformed("s", storage="memory://"), []) is False
    snapshot = LuminoraSession._get_compaction_snapshot  # noqa: SLF001  # found by this name
    assert await snapshot(Transformed("s", storage="memory://"), 1) is None
    await quick.add_items(ITEMS[:3])
    assert await replace(quick, [{"role": "user", "content": str(n)} for n in range(1001)]) is True
    assert len(await quick.get_items()) == 1001


async def test_messages_of_a_session_manager_are_items() -> None:
    storage = shared_storage("memory://")
    manager = SessionManager(storage)
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
    await manager.send_message(session_id, "Good morning!")
    session = LuminoraSession(session_id, storage=storage)
    assert await session.get_items() == [
        {"role": "user", "content": "Good morning!"},
        {"role": "assistant", "content": "You said: Good morning!"},
    ]
    await session.add_items([{"role": "user", "content": "Again"}])
    answer = await manager.send_message(session_id, "And again")
    assert answer.content == "You said: And again"
    first = (await manager.conversation_manager.get_messages(session_id))[2]
    await manager.delete_messages(session_id, [str(first.id)])
    assert [item["content"] for item in await session.get_items(3)] == [  # type: ignore[typeddict-item,unused-ignore]
        "You said: Good morning!",
        "And again",
        "You said: And again",
    ]
    await manager.close()
    await storage.close()
