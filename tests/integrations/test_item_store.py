"""The part that the adapters for frameworks share, without a framework."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.domain.values import check_id
from luminoracore_sdk.integrations.item_store import ITEM, ItemStore, completed, composed_id, run, stable_id, text_place
from luminoracore_sdk.session import InMemoryStorage, SessionManager, create_storage, shared_storage
from luminoracore_sdk.storage import AppendReceipt, SessionStorage, StorageWrapper, TailReceipt
from luminoracore_sdk.testing import json_objects
from luminoracore_sdk.utils.exceptions import (
    ConfigurationError,
    MissingDependencyError,
    SessionNotFoundError,
    StorageClosedError,
)
from tests.integrations.values import HOSTILE_IDS, HOSTILE_VALUES, same

_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


def test_ids_that_are_allowed_stay_as_they_are() -> None:
    assert [stable_id(value) for value in ("a", "é/:\n", "x" * 512)] == ["a", "é/:\n", "x" * 512]


@pytest.mark.parametrize("value", ["", *HOSTILE_IDS], ids=ascii)
def test_every_string_has_an_id_of_its_own(value: str) -> None:
    assert check_id(stable_id(value)) == stable_id(value)
    assert stable_id(value) != stable_id(f"{value}x")


@given(st.lists(_ANY_TEXT, min_size=1, max_size=3), st.lists(_ANY_TEXT, min_size=1, max_size=3))
def test_composed_ids_are_different_for_different_parts(left: list[str], right: list[str]) -> None:
    assert (composed_id(*left) == composed_id(*right)) == (left == right)


def test_a_composed_id_can_be_read() -> None:
    assert composed_id("project", "session", "sub/agent") == "project/session/sub%2Fagent"


@pytest.mark.parametrize(
    ("item", "place"),
    [
        ({"content": "x"}, ("content",)),
        ({"content": [{"text": "x", "y": 1}]}, ("content", 0, "text")),
        ({"content": [{"text": "x"}, {"text": "y"}]}, ("content",)),
        ({"content": [{"image": "x"}]}, ("content",)),
        ({"content": []}, None),
        ({"content": None}, None),
        ({"content": {"text": "x"}}, None),
        ({}, None),
        ("content", None),
    ],
)
def test_the_text_of_an_item_is_found(item: Any, place: object) -> None:
    assert text_place(item, "content") == place


@given(json_objects(), st.sampled_from([None, "x", [{"text": "y"}], [1, 2], [{"text": 1}]]))
def test_every_json_object_comes_back_equal(item: Any, content: Any) -> None:
    item = {"first": 1, "content": content, **item}
    items = ItemStore(InMemoryStorage(), "test")
    record = items.record(item, role="user", place=text_place(item, "content"))
    assert same(items.item("s", attrs.evolve(record, position=1)), item)


MARKED: list[Any] = [[{"luminora:bytes": "no base 64"}, float("nan")], [{"luminora:bytes": 1}, b""]]
"""Values that look as bytes do when they are stored."""


def test_what_is_not_json_comes_back_equal() -> None:
    items = ItemStore(InMemoryStorage(), "test")
    marked = [{"luminora:bytes": 1, "x": 2}, *([b"x", {"luminora:bytes": value}] for value in (1, "x", "eA==", b"x"))]
    for value in [*HOSTILE_VALUES, b"\x00\xff", [b""], *marked, *MARKED]:
        item = {"content": "text", "value": value}
        assert same(items.item("s", items.record(item, role="user", place=("content",))), item)
    with pytest.raises(TypeError, match="object is not"):
        items.record({"content": "text", "value": object()}, role="user")


def test_a_text_is_stored_once() -> None:
    item: Any = {"role": "user", "content": [{"type": "text", "text": "words " * 1000}]}
    record = ItemStore(InMemoryStorage(), "test").record(item, role="user", place=text_place(item, "content"))
    assert len(record.payload.data) < len(item["content"][0]["text"]) + 300
    document = json.loads(record.payload.data)
    assert document["content"] == item["content"][0]["text"]
    assert document["metadata"][ITEM] == {
        "framework": "test",
        "value": {"role": "user", "content": [{"type": "text", "text": None}]},
        "content_at": ["content", 0, "text"],
    }
    assert item["content"] == [{"type": "text", "text": "words " * 1000}]


def records(items: ItemStore, *texts: str) -> list[Any]:
    return [items.record({"content": text}, role="user", place=("content",)) for text in texts]


async def texts_of(items: ItemStore, limit: int | None = None) -> list[str]:
    return [item["content"] for item in await items.newest("s", limit)]


async def test_changes_of_a_session_manager_are_seen() -> None:
    storage = InMemoryStorage()
    items = ItemStore(storage, "test")
    stored = records(items, *(str(number) for number in range(6)))
    await items.append("s", stored)
    async with SessionManager(storage) as manager:
        await manager.delete_messages("s", [stored[2].message_id, stored[4].message_id])
        await manager.annotate("s", stored[1].message_id, {"good": True})
        await manager.redact("s", stored[0].message_id)
    assert await texts_of(items) == ["1", "3", "5"]
    assert await texts_of(items, 3) == ["1", "3", "5"]
    assert await texts_of(items, 2) == ["3", "5"]
    assert await items.pop("s") == {"content": "5"}
    assert await items.pop("s") == {"content": "3"}


async def test_records_of_another_framework_are_converted() -> None:
    storage = InMemoryStorage()
    await ItemStore(storage, "other").append("s", records(ItemStore(storage, "other"), "x"))
    assert await texts_of(ItemStore(storage, "test")) == []
    assert await texts_of(ItemStore(storage, "test", reads=lambda message: {"content": message.content})) == ["x"]


async def test_records_whose_ids_are_stored_are_left_out() -> None:
    items = ItemStore(InMemoryStorage(), "test")
    first, second, third = records(items, "1", "2", "3")
    await items.append("s", [first, third])
    await items.append("s", [first, second, third])
    await items.append("s", [first, third])
    await items.append("s", [])
    assert await texts_of(items) == ["1", "3", "2"]


async def test_a_history_is_replaced() -> None:
    items = ItemStore(InMemoryStorage(), "test")
    await items.replace("s", records(items, "1", "2"))
    await items.replace("s", records(items, *(str(number) for number in range(1500))))
    assert await texts_of(items) == [str(number) for number in range(1500)]
    await items.replace("s", [])
    assert await texts_of(items) == []


class Overtaken(StorageWrapper):
    """Appends or deletes before the first replacement of a tail, as another process may."""

    def __init__(self, overtake: Callable[[SessionStorage], Awaitable[object]]) -> None:
        super().__init__(InMemoryStorage())
        self.overtake: Callable[[SessionStorage], Awaitable[object]] | None = overtake

    async def replace_tail(self, *args: Any, **kwargs: Any) -> TailReceipt:
        overtake, self.overtake = self.overtake, None
        if overtake is not None:
            await overtake(self.base)
        return await super().replace_tail(*args, **kwargs)


async def test_a_pop_that_was_overtaken_returns_the_newest_item() -> None:
    newer: list[Any] = []
    items = ItemStore(Overtaken(lambda base: base.append_messages("s", newer)), "test")
    newer += records(items, "newer")
    await items.append("s", records(items, "older"))
    assert [await items.pop("s") for _ in range(3)] == [{"content": "newer"}, {"content": "older"}, None]


async def test_a_pop_finds_nothing_in_a_session_deleted_meanwhile() -> None:
    items = ItemStore(Overtaken(lambda base: base.delete_session("s")), "test")
    await items.append("s", records(items, "x"))
    assert await items.pop("s") is None


async def test_an_erased_session_is_not_brought_back() -> None:
    storage = InMemoryStorage()
    items = ItemStore(storage, "test")
    async with SessionManager(storage) as manager:
        await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s", "user_id": "ann"})
        await items.append("s", records(items, "x"))
        await manager.erase_user("ann")
    for call in (items.append("s", records(items, "y")), items.change("s", lambda session: session)):
        with pytest.raises(SessionNotFoundError):
            await call


async def test_without_a_session_there_is_nothing() -> None:
    items = ItemStore(InMemoryStorage(), "test")
    assert (await items.read("s"), await items.newest("s", 3), await items.pop("s")) == ([], [], None)
    await items.clear("s")
    assert await items.find("s") is None


async def test_changes_of_a_header_at_once_are_all_kept() -> None:
    items = ItemStore(InMemoryStorage(), "test")

    def counted(session: Any) -> Any:
        return items.with_document(session, {"count": (items.document(session) or {"count": 0})["count"] + 1})

    await asyncio.gather(*(items.change("s", counted) for _ in range(10)))
    session = await items.find("s")
    assert session is not None
    assert items.document(session) == {"count": 10}
    assert ItemStore(items.storage, "other").document(session) is None


# -- the storage ---------------------------------------------------------------------------------------


def test_anything_else_is_no_storage() -> None:
    with pytest.raises(ConfigurationError, match="not int"):
        ItemStore(5, "test")  # type: ignore[arg-type]


async def test_equal_configurations_share_a_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = ItemStore("sqlite:///a.db", "test"), ItemStore(StorageConfig("sqlite", "sqlite:///a.db"), "other")
    assert one.storage is two.storage
    assert ItemStore("sqlite:///b.db", "test").storage is not one.storage
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert ItemStore("sqlite:///a.db", "test").storage is not one.storage
    await one.append("s", records(one, "x"))
    await one.close()
    await one.close()
    assert len(await two.read("s")) == 1
    await two.close()
    with pytest.raises(StorageClosedError):
        await two.read("s")
    monkeypatch.chdir(tmp_path)
    again = ItemStore("sqlite:///a.db", "test")
    assert await texts_of(again) == ["x"]
    await again.close()


def test_stores_in_memory_are_apart() -> None:
    assert ItemStore("memory://", "test").storage is not ItemStore("memory://", "test").storage


async def test_a_given_storage_is_left_open() -> None:
    async with create_storage("memory://") as storage:
        items = ItemStore(storage, "test")
        await items.append("s", records(items, "x"))
        await items.close()
        assert await texts_of(items) == ["x"]


def test_calls_without_await_share_a_storage_with_those_that_do() -> None:
    items = ItemStore(shared_storage("memory://"), "test")
    run(items.append("s", records(items, "x")))
    assert asyncio.run(texts_of(items)) == ["x"]


class SlowAppends(StorageWrapper):
    """Waits before it appends."""

    def __init__(self) -> None:
        super().__init__(InMemoryStorage())
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def append_messages(self, *args: Any, **kwargs: Any) -> AppendReceipt:
        self.begun.set()
        await self.may_end.wait()
        return await super().append_messages(*args, **kwargs)


async def test_a_call_that_was_begun_is_completed() -> None:
    storage = SlowAppends()
    items = ItemStore(storage, "test")
    adding = asyncio.create_task(completed(items.append("s", records(items, "x"))))
    await storage.begun.wait()
    for _ in range(3):
        adding.cancel()
        await asyncio.sleep(0)
    storage.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert len(await items.read("s", MessageRange())) == 1


ADAPTERS = {
    "openai_agents": ("agents", "LuminoraSession", "openai-agents"),
    "claude_agent_sdk": ("claude_agent_sdk", "LuminoraSessionStore", "claude-agent-sdk"),
    "langchain": ("langchain_core", "LuminoraChatMessageHistory", "langchain"),
    "strands": ("strands", "LuminoraSessionRepository", "strands"),
    "llama_index": ("llama_index", "LuminoraChatStore", "llama-index"),
    "agent_framework": ("agent_framework", "LuminoraHistoryProvider", "agent-framework"),
}


@pytest.mark.parametrize("module", ADAPTERS)
def test_a_missing_framework_is_named(module: str) -> None:
    package, name, extra = ADAPTERS[module]
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    arguments = ["s"] if module == "openai_agents" else []
    with pytest.raises(MissingDependencyError, match=rf"{name} needs the '{extra}' extra"):
        getattr(import_module(f"luminoracore_sdk.integrations.{module}"), name)(*arguments, storage="memory://")
