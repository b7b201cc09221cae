"""Every documented call of the MemoryManager and its limits."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from luminoracore_sdk.application.services import Services
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import MemoryManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.session import MemoryCategory, MemoryConfig
from luminoracore_sdk.utils.exceptions import ValidationError

Make = Callable[..., MemoryManager]


@pytest.fixture
def make(storage: SessionStorage, services: Services) -> Make:
    """Return a factory of managers; keywords are fields of MemoryConfig."""
    return lambda **config: MemoryManager(MemoryConfig(**config), storage=storage, services=services)


@pytest.fixture
def memory(make: Make) -> MemoryManager:
    return make()


async def test_without_a_storage_memories_are_in_memory() -> None:
    memory = MemoryManager()
    assert await memory.store_memory("s", "key", "value") is True
    assert await memory.get_memory("s", "key") == "value"
    assert (memory.config, memory.optimizer) == (MemoryConfig(), None)


async def test_config_optimizer_and_ttl_may_be_positional(storage: SessionStorage, clock: ManualClock) -> None:
    optimizer = Optimizer()
    memory = MemoryManager(MemoryConfig(), optimizer, storage=storage)
    assert await memory.store_memory("s", "k", {"content": "c"}, 3600) is True
    assert memory.optimizer is optimizer
    assert await memory.get_memory("s", "k") == {"content": "c"}


async def test_unknown_ids_and_keys_give_nothing(memory: MemoryManager) -> None:
    for session_id in ("nobody", "s"):
        assert await memory.get_memory(session_id, "k") is None
        assert await memory.get_memory_info(session_id, "k") is None
        assert await memory.delete_memory(session_id, "k") is False
        assert await memory.clear_memory(session_id) is False
        assert await memory.list_memories(session_id) == []
        assert await memory.search_memories(session_id, "x") == []
        await memory.store_memory("s", "other", 1)
        await memory.delete_memory("s", "other")
    assert await memory.get_memory_stats("nobody") is None
    assert await memory.export_memories("nobody") is None
    assert await memory.cleanup_expired_memories() == 0
    assert await memory.get_stats() == {"total_sessions": 1, "total_memories": 0, "using_core": False}


async def test_a_value_is_replaced_listed_and_deleted(memory: MemoryManager, clock: ManualClock) -> None:
    for key, value in (("b", 1), ("a", 2), ("b", 3)):
        assert await memory.store_memory("s", key, value) is True
        clock.advance(1)
    assert await memory.list_memories("s") == ["b", "a"]  # by time of first storing
    assert await memory.get_memory("s", "b") == 3
    assert await memory.delete_memory("s", "b") is True
    assert await memory.delete_memory("s", "b") is False
    assert await memory.clear_memory("s") is True
    assert await memory.list_memories("s") == []


async def test_a_memory_has_the_documented_metadata(memory: MemoryManager, clock: ManualClock) -> None:
    first = clock.now()
    await memory.store_memory("s", "k", 1)
    clock.advance(10)
    await memory.store_memory("s", "k", 2, ttl=0.5, importance=0.8, category="topic")
    info = await memory.get_memory_info("s", "k") or {}
    assert (info["expires_at"] - clock.now()).total_seconds() == 0.5
    assert info == {
        "key": "k",
        "created_at": first,
        "updated_at": clock.now(),
        "expires_at": info["expires_at"],
        "importance": 0.8,
        "category": "topic",
        "is_expired": False,
    }


async def test_a_memory_expires_after_its_ttl(memory: MemoryManager, clock: ManualClock) -> None:
    await memory.store_memory("s", "short", 1, ttl=10)
    await memory.store_memory("s", "long", 2)
    clock.advance(9.999999)
    assert await memory.get_memory("s", "short") == 1
    clock.advance(0.000001)
    assert await memory.get_memory("s", "short") is None
    assert await memory.list_memories("s") == ["long"]


async def test_cleanup_removes_and_counts_expired_memories(memory: MemoryManager, clock: ManualClock) -> None:
    for key, ttl in (("a", 1), ("b", 2), ("c", None)):
        await memory.store_memory("s", key, 1, ttl)
    clock.advance(2)
    assert await memory.cleanup_expired_memories() == 2
    assert await memory.cleanup_expired_memories() == 0


async def test_the_configured_ttl_is_the_default(make: Make, clock: ManualClock) -> None:
    memory = make(ttl=10)
    await memory.store_memory("s", "default", 1)
    await memory.store_memory("s", "own", 2, ttl=20)
    clock.advance(10)
    assert await memory.list_memories("s") == ["own"]


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), True, "10"])
async def test_a_ttl_of_0_or_below_is_refused(memory: MemoryManager, ttl: Any) -> None:
    with pytest.raises(ValidationError, match="ttl must be a number of seconds above 0"):
        await memory.store_memory("s", "k", 1, ttl)
    assert await memory.list_memories("s") == []


async def test_above_max_entries_the_least_important_goes(make: Make, clock: ManualClock) -> None:
    memory = make(max_entries=3)
    for key, importance in (("a", 1.0), ("b", 0.2), ("c", 1.0), ("d", 1.0)):
        await memory.store_memory("s", key, key, importance=importance)
        clock.advance(60)
    assert await memory.list_memories("s") == ["a", "c", "d"]
    await memory.store_memory("s", "e", "e")
    assert await memory.list_memories("s") == ["c", "d", "e"]  # all equal now, so the oldest


async def test_disabled_memory_stores_and_reads_nothing(
    make: Make, memory: MemoryManager, storage: SessionStorage
) -> None:
    await memory.store_memory("s", "k", 1)
    switched_off = make(enabled=False)
    assert await switched_off.store_memory("s", "k", 2) is False
    assert await switched_off.store_memory("other", "k", 2) is False
    assert await switched_off.get_memory("s", "k") is None
    assert await switched_off.list_memories("s") == []
    assert await switched_off.import_memories("s", await memory.export_memories("s") or {}) is False
    assert await memory.get_memory("s", "k") == 1
    assert await storage.list_sessions() == ["s"]


@pytest.mark.parametrize(
    ("switches", "kept"),
    [
        ({}, ["fact", "topic", "preference", "context"]),
        ({"track_emotions": True, "track_topics": False}, ["fact", "preference", "context", "emotion"]),
        ({"track_preferences": False, "track_context": False}, ["fact", "topic"]),
    ],
)
async def test_categories_can_be_disabled(make: Make, switches: dict[str, bool], kept: list[str]) -> None:
    memory = make(**switches)
    stored = [name for name in MemoryCategory if await memory.store_memory("s", name.value, 1, category=name)]
    assert stored == kept
    assert sorted(await memory.list_memories("s")) == sorted(kept)
    with pytest.raises(ValidationError, match="is not one of: fact, topic"):
        await memory.store_memory("s", "k", 1, category="mood")


async def test_importance_fades_by_the_decay_factor(make: Make, clock: ManualClock) -> None:
    memory = make(decay_factor=0.5, importance_threshold=0.3)
    await memory.store_memory("s", "k", 1)
    clock.advance(30 * 24 * 3600)
    info = await memory.get_memory_info("s", "k") or {}
    assert info["importance"] == pytest.approx(0.5)
    assert [entry.key for entry in await memory.recall("s")] == ["k"]
    clock.advance(30 * 24 * 3600)
    assert await memory.recall("s") == []
    assert (await memory.get_memory_stats("s") or {})["active_memories"] == 0


async def test_searches_ignore_case_in_keys_and_values(memory: MemoryManager) -> None:
    await memory.store_memory("s", "Pet", {"kind": "CAT", "name": "Møøse"})
    await memory.store_memory("s", "city", "Catania")
    await memory.store_memory("s", "number", 12)
    found = await memory.search_memories("s", "cat")
    assert [(entry["key"], entry["value"]) for entry in found] == [
        ("Pet", {"kind": "CAT", "name": "Møøse"}),
        ("city", "Catania"),
    ]
    assert [entry["key"] for entry in await memory.search_memories("s", "cat", 1)] == ["Pet"]
    assert [entry["key"] for entry in await memory.search_memories("s", "MØØSE")] == ["Pet"]
    assert [entry["key"] for entry in await memory.search_memories("s", "12")] == ["number"]
    for query, limit in (("", None), ("x", -1), ("x", 1.0)):
        with pytest.raises(ValidationError):
            await memory.search_memories("s", query, limit)  # type: ignore[arg-type]


async def test_stats_count_by_category(memory: MemoryManager, clock: ManualClock) -> None:
    oldest = clock.now()
    await memory.store_memory("s", "a", 1)
    clock.advance(5)
    await memory.store_memory("s", "b", 2, category="topic", importance=0.1)
    await memory.store_memory("t", "c", 3)
    assert await memory.get_memory_stats("s") == {
        "total_memories": 2,
        "active_memories": 1,
        "categories": {"fact": 1, "topic": 1},
        "oldest_memory": oldest,
        "newest_memory": clock.now(),
        "using_core": False,
    }
    assert await memory.get_stats() == {"total_sessions": 2, "total_memories": 3, "using_core": False}


async def test_an_export_is_imported_equal(memory: MemoryManager, clock: ManualClock) -> None:
    value = {"k": [2**70, "\x00\ud800", -0.0, {}], "$set": {"a.b": None}}
    await memory.store_memory("s", "odd", value, ttl=60, importance=0.25, category="context")
    await memory.store_memory("s", "short", 1, ttl=1)
    blob = await memory.export_memories("s")
    assert blob is not None
    clock.advance(2)
    for target, exported in (
        ("object", blob),
        ("text", json.dumps(blob)),
        ("bytes", json.dumps(blob).encode()),
    ):
        assert await memory.import_memories(target, exported) is True
        assert await memory.list_memories(target) == ["odd"]  # the other one has expired
        assert repr(await memory.get_memory(target, "odd")) == repr(value)
        info = await memory.get_memory_info(target, "odd") or {}
        assert (info["category"], info["importance"]) == ("context", 0.25)
        assert (info["expires_at"] - clock.now()).total_seconds() == 58


@pytest.mark.parametrize(
    "blob",
    [
        {},
        [],
        "not json",
        {"memories": []},
        {"memories": {"k": 1}},
        {"memories": {"k": {"value": 1}}},
        {"memories": {"k": {"value": 1, "created_at": "2024-01-01T00:00:00"}}},
        {"memories": {"k": {"value": 1, "created_at": "2024-01-01T00:00:00Z", "category": "mood"}}},
        {"memories": {"ok": {"value": 1, "created_at": "2024-01-01T00:00:00Z"}, "": {"value": 1}}},
        {"memories": {"k": {"value": float("nan"), "created_at": "2024-01-01T00:00:00Z"}}},
    ],
)
async def test_an_invalid_import_stores_nothing(memory: MemoryManager, blob: Any) -> None:
    with pytest.raises(ValidationError):
        await memory.import_memories("s", blob)
    assert await memory.list_memories("s") == []
