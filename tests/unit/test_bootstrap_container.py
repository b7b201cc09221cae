"""The container: made of anything that configures, every part replaceable, opened and closed in order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.bootstrap.config import Settings, StorageConfig, StorageType
from luminoracore_sdk.bootstrap.managers import ConversationManager, MemoryManager, SessionManager
from luminoracore_sdk.container import Container, make_container, running
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    StorageClosedError,
    UnsupportedStorageTypeError,
    ValidationError,
)
from luminoracore_sdk.domain.settings import MemoryConfig
from luminoracore_sdk.session import InMemoryStorage, SQLiteStorage
from luminoracore_sdk.testing import ManualClock
from tests.support.scripted_provider import Script, scripted

ADA = {"name": "Ada"}


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as running_script:
        yield running_script


class Watched(StorageWrapper):
    """Notes when it is opened and closed; can fail at either."""

    def __init__(self, events: list[str], *, fails_at: str = "") -> None:
        super().__init__(InMemoryStorage())
        self.events = events
        self.fails_at = fails_at

    async def open(self) -> None:
        self._note("open")
        await super().open()

    async def close(self) -> None:
        await super().close()
        self._note("close")

    def _note(self, what: str) -> None:
        self.events.append(f"{what} storage")
        if what == self.fails_at:
            raise OSError(f"cannot {what}")


def watched(events: list[str], script: Script, *, fails_at: str = "") -> tuple[Container, Watched]:
    container = make_container("memory://")
    storage = Watched(events, fails_at=fails_at)
    container.storage.override(providers.Object(storage))
    return container, storage


@pytest.mark.parametrize(
    "given",
    [
        Settings(storage="sqlite:///x.db"),
        StorageConfig(StorageType.SQLITE, "sqlite:///x.db"),
        {"storage": {"storage_type": "sqlite", "connection_string": "sqlite:///x.db"}},
        "sqlite:///x.db",
    ],
    ids=lambda given: type(given).__name__,
)
def test_container_from_every_kind_of_settings(given: Any) -> None:
    container = make_container(given)
    assert container.settings().storage == StorageConfig(StorageType.SQLITE, "sqlite:///x.db")
    assert type(container.storage()) is SQLiteStorage


def test_without_anything_it_is_made_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINORA_STORE", "memory://")
    monkeypatch.setenv("LUMINORA_MAX_HISTORY", "7")
    assert make_container().settings().max_history == 7


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("oracle://x", UnsupportedStorageTypeError),
        ({"no_such": 1}, ValidationError),
        ({"storage": {"encryption_required": True}}, ConfigurationError),
        (5, ValidationError),
    ],
)
def test_settings_that_cannot_work_are_refused_when_it_is_made(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make_container(given)


def test_two_containers_share_nothing() -> None:
    one, other = make_container("memory://"), make_container("memory://")
    assert one.storage() is not other.storage()
    assert one.sessions() is one.sessions()


def test_the_settings_reach_every_manager() -> None:
    container = make_container({"memory": {"max_entries": 5}, "max_history": 6})
    config = MemoryConfig(max_entries=5)
    sessions, conversations, memories = (
        container.sessions(),
        container.conversations(),
        container.memories(),
    )
    assert (type(sessions), type(conversations), type(memories)) == (
        SessionManager,
        ConversationManager,
        MemoryManager,
    )
    assert (conversations.max_history, sessions.conversation_manager.max_history) == (6, 6)
    assert (memories.config, sessions.memory_manager.config) == (config, config)
    assert sessions.storage is conversations.storage is memories.storage is container.storage()


@pytest.mark.parametrize("name", ["codec", "clock", "ids", "tokens", "notations", "provider_registry"])
def test_every_port_can_be_replaced_and_comes_back(name: str) -> None:
    container = make_container("memory://")
    fake = object()
    field = {"provider_registry": "providers"}.get(name, name)
    with getattr(container, name).override(providers.Object(fake)):
        assert getattr(container.services(), field) is fake
    container.reset_singletons()
    assert getattr(container.services(), field) is not fake


@pytest.mark.parametrize("name", ["settings", "services", "storage", "conversations", "memories", "sessions"])
def test_every_part_can_be_replaced(name: str) -> None:
    container = make_container("memory://")
    fake = object()
    with getattr(container, name).override(providers.Object(fake)):
        assert getattr(container, name)() is fake


async def test_sessions_use_the_container_clock_and_ids() -> None:
    class OneId:
        def new_id(self) -> str:
            return "the-id"

    clock = ManualClock()
    container = make_container("memory://")
    container.clock.override(providers.Object(clock))
    container.ids.override(providers.Object(OneId()))
    async with running(container) as manager:
        assert await manager.create_session(ADA, {"name": "echo"}) == "the-id"
        session = await manager.get_session("the-id")
        assert session is not None
        assert session.created_at == session.last_activity == clock.now()


async def test_providers_are_closed_before_the_storage(script: Script) -> None:
    events: list[str] = []
    container, storage = watched(events, script)
    async with running(container) as manager:
        assert events == ["open storage"]
        session_id = await manager.create_session(ADA, {"name": "scripted", "model": "m"})
        await manager.send_message(session_id, "Hello")
        close = manager.close

        async def note() -> None:
            await close()
            events.append("close providers")

        manager.close = note  # type: ignore[method-assign]
    assert events == ["open storage", "close providers", "close storage"]
    assert script.closed == 1
    with pytest.raises(StorageClosedError):
        await storage.list_sessions()


async def test_a_storage_that_cannot_be_opened_lends_no_manager(script: Script) -> None:
    events: list[str] = []
    container, _ = watched(events, script, fails_at="open")
    with pytest.raises(OSError, match="cannot open"):
        async with running(container):
            events.append("never")
    assert "never" not in events


async def test_storage_is_closed_after_any_failure(script: Script) -> None:
    events: list[str] = []
    container, _ = watched(events, script)
    with pytest.raises(ZeroDivisionError):
        async with running(container):
            raise ZeroDivisionError
    assert events == ["open storage", "close storage"]

    container, _ = watched(events, script)

    async def fail() -> None:
        raise OSError("the provider cannot close")

    with pytest.raises(OSError, match="provider"):
        async with running(container) as manager:
            manager.close = fail  # type: ignore[method-assign]
    assert events == ["open storage", "close storage"] * 2


async def test_a_failure_to_close_is_told(script: Script) -> None:
    container, _ = watched([], script, fails_at="close")
    with pytest.raises(OSError, match="cannot close"):
        async with running(container):
            pass


async def test_a_container_can_be_run_again(tmp_path: Path) -> None:
    container = make_container(f"sqlite:///{tmp_path}/store.db")
    for number in range(2):
        async with running(container) as manager:
            await manager.create_session(ADA, {"name": "echo"})
            assert len(await manager.list_sessions()) == number + 1


async def test_running_takes_a_manager_that_was_replaced() -> None:
    container = make_container("memory://")
    async with SessionManager() as fake:
        container.sessions.override(providers.Object(fake))
        async with running(container) as manager:
            assert manager is fake


@pytest.mark.parametrize("kind", [SessionManager, ConversationManager, MemoryManager])
def test_every_manager_refuses_what_is_no_storage(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"storage must be a SessionStorage .*, not str"):
        kind(storage="memory://")
