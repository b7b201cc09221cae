"""Core's MemorySystem as a mirror: written to, read back, and never able to lose anything."""

import asyncio
import importlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.core_memory import CoreMemorySystem, FactNotKeptError, find_core_memory_system
from luminoracore_sdk.application.core_mirror import Mirror
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.session import InMemoryStorage, MemoryManager
from luminoracore_sdk.types.session import MemoryConfig
from tests.support.core import core_installed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENTRY = MemoryEntry(key="k", value=1, created_at=NOW, updated_at=NOW)
REFUSED = "Core MemorySystem refused a call: {}"


@attrs.define
class Core:
    """Core as it is installed: the class of its storage, and every storage that was made.

    Attributes:
        storages: In order.
    """

    kind: Any
    storages: list[Any] = attrs.field(factory=list)

    async def facts(self, session_id: str = "s", *, of: int = -1) -> dict[tuple[str, str], Any]:
        facts = await self.storages[of].get_facts(session_id)
        return {(fact["category"], fact["key"]): fact["value"] for fact in facts}


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[Core]:
    with core_installed():
        module = importlib.import_module("luminoracore.storage.in_memory_storage")
        installed = Core(module.InMemoryStorage)

        def make() -> Any:
            installed.storages.append(installed.kind())
            return installed.storages[-1]

        monkeypatch.setattr(module, "InMemoryStorage", make)
        yield installed


def failing(error: BaseException) -> Any:
    async def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def hanging() -> Any:
    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    return hang


def answering(value: Any) -> Any:
    async def answer(*_: Any, **__: Any) -> Any:
        return value

    return answer


async def test_a_stored_memory_reaches_core_and_reads_back(core: Core) -> None:
    memory = MemoryManager()
    value = {"k": [1, None, "ü"], "user_id": "x"}
    assert await memory.store_memory("s", "name", value) is True
    assert await core.facts() == {("fact", "name"): value}
    assert await memory.get_memory("s", "name") == value
    stats = await memory.get_memory_stats("s")
    assert stats is not None
    assert (stats["using_core"], stats["core_stats"]["fact_count"]) == (True, 1)
    assert stats["core_stats"]["memory_types"]["facts"] == 1


async def test_cores_own_search_finds_what_was_stored(core: Core) -> None:
    memory = MemoryManager()
    await memory.store_memory("s", "city", "Turin")
    system = importlib.import_module("luminoracore.core.memory_system").MemorySystem(core.storages[0])
    assert [fact["value"] for fact in await system.search_memories("s", "turin", ["facts"])] == ["Turin"]


async def test_a_forgotten_memory_is_forgotten_by_core(core: Core) -> None:
    memory = MemoryManager()
    await memory.store_memory("s", "a", 1)
    await memory.store_memory("s", "b", 2, category="topic")
    assert await memory.delete_memory("s", "a") is True
    assert await core.facts() == {("topic", "b"): 2}
    assert await memory.clear_memory("s") is True
    assert await core.facts() == {}
    assert await memory.delete_memory("s", "a") is False


async def test_a_key_that_changes_its_category_is_there_once(core: Core) -> None:
    memory = MemoryManager()
    await memory.store_memory("s", "tea", "green")
    await memory.store_memory("s", "tea", "black", category="preference")
    await memory.store_memory("s", "milk", "no")
    assert await core.facts() == {("preference", "tea"): "black", ("fact", "milk"): "no"}


async def test_what_a_caller_holds_is_not_cores_own_object(core: Core) -> None:
    memory = MemoryManager()
    pets = ["cat"]
    await memory.store_memory("s", "pets", pets)
    pets.append("dog")
    (await memory.get_memory("s", "pets")).append("bird")  # type: ignore[union-attr]
    recalled = await CoreMemorySystem(None, core.storages[0]).recall("s", "fact", "pets")
    assert isinstance(recalled, list)
    recalled.append("fish")
    assert await core.facts() == {("fact", "pets"): ["cat"]}


async def test_after_a_restart_core_is_refreshed_from_the_store(core: Core) -> None:
    storage = InMemoryStorage()
    await MemoryManager(storage=storage).store_memory("s", "city", "Turin")
    again = MemoryManager(storage=storage)
    assert await core.facts() == {}
    assert await again.get_memory("s", "city") == "Turin"
    assert await core.facts() == {("fact", "city"): "Turin"}


async def test_what_another_manager_wrote_since_is_the_answer(core: Core) -> None:
    storage = InMemoryStorage()
    one, other = MemoryManager(storage=storage), MemoryManager(storage=storage)
    await one.store_memory("s", "city", "Turin")
    await other.store_memory("s", "city", "Rome")
    assert await core.facts(of=0) == {("fact", "city"): "Turin"}
    assert await one.get_memory("s", "city") == "Rome"
    assert await core.facts(of=0) == {("fact", "city"): "Rome"}


async def test_what_only_core_holds_is_not_remembered(core: Core) -> None:
    memory = MemoryManager(MemoryConfig(max_entries=1))
    await memory.store_memory("s", "old", 1, importance=0.1)
    await memory.store_memory("s", "new", 2)
    assert ("fact", "old") in await core.facts()
    assert await memory.get_memory("s", "old") is None


@pytest.mark.parametrize("method", ["save_fact", "get_facts"])
async def test_core_failure_is_logged_without_the_value(
    core: Core, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    memory = MemoryManager()
    monkeypatch.setattr(core.storages[0], method, failing(OSError("secret is out of order")))
    assert await memory.store_memory("s", "k", "secret") is True
    assert caplog.messages == [REFUSED.format("OSError")]
    assert await memory.get_memory("s", "k") == "secret"
    assert await memory.list_memories("s") == ["k"]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("method", ["save_fact", "get_facts"])
async def test_a_core_that_says_it_was_cancelled_loses_nothing(
    core: Core, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    memory = MemoryManager()
    monkeypatch.setattr(core.storages[0], method, failing(asyncio.CancelledError()))
    assert await memory.store_memory("s", "k", 1) is True
    assert caplog.messages == [REFUSED.format("CancelledError")]
    assert await memory.get_memory("s", "k") == 1


@pytest.mark.parametrize("method", ["save_fact", "get_facts"])
async def test_hanging_core_times_out(
    core: Core, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(core.kind, method, hanging())
    mirror = Mirror(find_core_memory_system(), seconds=0.001)
    await mirror.remember("s", ENTRY)
    await mirror.refresh("s", ENTRY)
    assert set(caplog.messages) == {REFUSED.format("TimeoutError")}


async def test_a_core_that_hangs_holds_up_no_memory(
    core: Core, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("luminoracore_sdk.application.core_mirror.SECONDS", 0.001)
    memory = MemoryManager()
    monkeypatch.setattr(core.storages[0], "save_fact", hanging())
    async with asyncio.timeout(60):
        assert await memory.store_memory("s", "k", 1) is True
        assert await memory.get_memory("s", "k") == 1
    assert caplog.messages == [REFUSED.format("TimeoutError")] * 2


async def test_call_that_waits_for_core_can_be_cancelled(
    core: Core, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryManager()
    reached = asyncio.Event()

    async def hang(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(core.storages[0], "save_fact", hang)
    task = asyncio.create_task(memory.store_memory("s", "k", 1))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caplog.messages == []
    assert await memory.list_memories("s") == ["k"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("save_fact", False),
        ("save_fact", True),
        ("get_facts", [{"category": "fact", "key": "k", "value": 1}]),
        ("get_facts", [{"category": "topic", "key": "k", "value": 1.0}]),
    ],
    ids=["says no", "keeps nothing", "another value", "another category"],
)
async def test_that_core_does_not_keep_a_fact_is_noticed(
    core: Core, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, method: str, answer: Any
) -> None:
    memory = MemoryManager()
    monkeypatch.setattr(core.storages[0], method, answering(answer))
    assert await memory.store_memory("s", "k", 1.0) is True
    assert caplog.messages == [REFUSED.format(FactNotKeptError.__name__)]


async def test_core_refusal_is_noticed_despite_an_equal_fact(
    core: Core, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryManager()
    await memory.store_memory("s", "k", 1)
    monkeypatch.setattr(core.storages[0], "save_fact", answering(False))
    await memory.store_memory("s", "k", 1)
    assert caplog.messages == [REFUSED.format(FactNotKeptError.__name__)]


async def test_a_core_that_cannot_forget_or_count_is_only_logged(
    core: Core, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryManager()
    await memory.store_memory("s", "k", 1)
    for method in ("delete_fact", "get_user_stats"):
        monkeypatch.setattr(core.storages[0], method, failing(KeyError(method)))
    stats = await memory.get_memory_stats("s")
    assert stats is not None
    assert (stats["using_core"], stats["core_stats"]) == (True, None)
    assert await memory.delete_memory("s", "k") is True
    assert await memory.get_memory("s", "k") is None
    assert caplog.messages == [REFUSED.format("KeyError")] * 2


def test_unusable_core_is_a_warning(
    core: Core, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "kind", lambda: 1 / 0)
    assert find_core_memory_system() is None
    assert caplog.messages == ["Core MemorySystem cannot be used (ZeroDivisionError); using the SDK's own memory"]


def test_missing_core_is_logged_as_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        MemoryManager()
    assert caplog.messages == ["Core MemorySystem not available; using the SDK's own memory"]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_dependency", "No module named 'no_such_dependency'"),
        ("import luminoracore.core.parts", "No module named 'luminoracore.core.parts'"),
        ("from luminoracore.core import missing_name", "cannot import name 'missing_name'"),
    ],
)
def test_core_that_fails_to_import_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str, cause: str
) -> None:
    for folder in ("", "core", "storage"):
        (tmp_path / "luminoracore" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "luminoracore" / folder / "__init__.py").touch()
    (tmp_path / "luminoracore" / "core" / "memory_system.py").write_text(source)
    with core_installed(tmp_path), caplog.at_level(logging.INFO):
        assert find_core_memory_system() is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"Core MemorySystem cannot be used ({cause}")
