"""``luminoracore_sdk.sync``: equal to the asynchronous code, and usable from threads."""

import asyncio
import inspect
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, assert_type

import attrs
import pytest

from luminoracore_sdk import session as aio
from luminoracore_sdk import sync
from luminoracore_sdk.adapters.per_process import SyncFacade
from luminoracore_sdk.application.ports.records import MessageRange, SessionRecord
from luminoracore_sdk.domain.errors import SessionExistsError, SessionNotFoundError, StorageClosedError, SyncCallError
from luminoracore_sdk.providers import ProviderFactory
from luminoracore_sdk.testing.records import message_record, session_record
from luminoracore_sdk.tools import StructuredResponse
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse
from luminoracore_sdk.types.session import MemoryConfig, Message
from scripts.generate_sync import TARGET, generated
from tests.support.stub_provider import StubProvider
from tests.support.tool_answers import calling

ECHO = {"name": "echo"}


def test_the_module_is_what_the_script_writes() -> None:
    assert TARGET.read_text(encoding="utf-8") == generated(), "run python -m scripts.generate_sync"


_USER = aio.SessionManager().for_user("ada", "acme", "shop")
_STEPS_OF_OTHER_CALLS = {"decoded", "recalled", "removing"}


@pytest.mark.parametrize(
    "made",
    [
        aio.SessionManager(),
        aio.ConversationManager(),
        aio.MemoryManager(),
        _USER,
        aio.MemoryManager().of_agent("guide"),
    ],
    ids=lambda made: type(made).__name__,
)
def test_every_public_attribute_has_its_counterpart(made: Any) -> None:
    there = getattr(sync, type(made).__name__)
    fields = {field.name for field in attrs.fields(type(made))} if attrs.has(type(made)) else set()
    public = {attribute for attribute in dir(made) if not attribute.startswith("_")} - fields - _STEPS_OF_OTHER_CALLS
    assert public - set(dir(there)) == set()
    for name in public:
        if callable(getattr(made, name)):
            theirs, ours = (inspect.signature(getattr(each, name)).parameters for each in (type(made), there))
            assert [*map(_without_type, ours.values())] == [*map(_without_type, theirs.values())], name


def _without_type(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(annotation=inspect.Parameter.empty)


def test_users_and_agents_are_reached_as_with_await(tmp_path: Path) -> None:
    with sync.create_storage(f"sqlite:///{tmp_path}/store.db") as storage, sync.SessionManager(storage) as manager:
        user = manager.for_user("ada", "acme", app="shop")
        assert (user.user_id, user.tenant, user.app, user.can_recall) == ("ada", "acme", "shop", False)
        user.create_session({"name": "Ada"}, ECHO, {"session_id": "s", "agent": "guide"})
        assert [each.list_sessions() for each in (user, manager.for_user("ada", "acme"))] == [["s"], []]
        memory = manager.memory_manager
        user.store_memory("city", "Turin")
        assert_type(memory.of_user("ada", "acme", "shop"), sync.ScopedMemories)
        assert memory.of_user("ada", "acme", "shop").get_memory("city") == "Turin"
        memory.store_memory("s", "hours", "9 to 17", scope="agent")
        assert memory.of_agent("guide", "acme").list_memories() == []  # that of an app is another agent
        memory.of_agent("guide").store_memory("hours", "10 to 18")
        assert [entry.value for entry in memory.of_agent("guide").list_entries()] == ["10 to 18"]
        memory.of_session("s").store_memory("mood", "calm")
        assert memory.list_memories("s") == ["mood"]


def test_every_call_of_a_storage_has_its_counterpart() -> None:
    public = {name for name in dir(aio.SessionStorage) if not name.startswith("_")}
    assert public - set(dir(sync.SessionStorage)) == {"search", "wakeups"}  # steps of recall and watch


def test_every_exported_storage_has_its_counterpart() -> None:
    storages = {name for name in aio.__all__ if name.endswith(("Storage", "Wrapper", "Manager"))}
    assert storages - set(sync.__all__) == set()


def test_a_conversation_has_the_documented_types(tmp_path: Path) -> None:
    with sync.create_storage(f"sqlite:///{tmp_path}/store.db") as storage, sync.SessionManager(storage) as manager:
        session_id = manager.create_session({"name": "Ada"}, ECHO)
        assert_type(session_id, str)
        answer = manager.send_message(session_id, "Hello", temperature=0.2)
        assert_type(answer, ChatResponse)
        assert answer.content == "You said: Hello"
        with closing(manager.stream_message(session_id, "Good day")) as deltas:
            words = [assert_type(delta, ChatResponse).content for delta in deltas]
        assert "".join(words) == "You said: Good day"
        conversation = manager.conversation_manager
        assert_type(conversation.add_message(session_id, "user", "Hi", {"a": 1}), Message)
        assert_type(conversation.add_message(session_id, {"role": "user", "content": "Hi"}), Message)
        assert [message.position for message in conversation.stream_messages(session_id, after=4)] == [5, 6]
        assert manager.memory_manager.store_memory(session_id, "name", "Ann")
        assert_type(storage.find_session(session_id), SessionRecord | None)
        assert manager.storage.list_sessions() == [session_id]
        assert storage.backend == "sqlite"
    with pytest.raises(StorageClosedError):
        storage.list_sessions()


def test_a_user_has_a_handle() -> None:
    manager = sync.SessionManager()
    ada, bob = manager.for_user("ada"), manager.for_user("bob")
    session_id = ada.create_session({"name": "Ada"}, ECHO)
    assert_type(ada.send_message(session_id, "Hello"), ChatResponse)
    assert ada.store_memory("town", "Turin")
    assert (ada.user_id, ada.list_sessions(), bob.list_sessions()) == ("ada", [session_id], [])
    with pytest.raises(SessionNotFoundError):
        bob.send_message(session_id, "Hello")
    elsewhere = manager.for_user("ada", "t", app="a")
    assert (elsewhere.tenant, elsewhere.app, elsewhere.list_sessions()) == ("t", "a", [])
    assert elsewhere.can_recall is False
    assert manager.erase_user("ada").verified


def test_errors_are_those_of_the_asynchronous_code() -> None:
    manager = sync.SessionManager()
    manager.create_session({}, ECHO, {"session_id": "s"})
    with pytest.raises(SessionExistsError):
        manager.create_session({}, ECHO, {"session_id": "s"})
    with pytest.raises(SessionNotFoundError):
        list(manager.stream_message("unknown", "Hello"))


def test_managers_work_alone() -> None:
    conversations = sync.ConversationManager(max_history=2)
    for text in ("one", "two", "three"):
        conversations.add_message("s", text)
    assert [message.content for message in conversations.get_messages("s")] == ["two", "three"]
    assert conversations.max_history == 2
    assert conversations.storage.list_sessions() == ["s"]
    memories = sync.MemoryManager(MemoryConfig(max_entries=1))
    memories.store_memory("s", "a", 1)
    memories.store_memory("s", "b", 2)
    assert memories.list_memories("s") == ["b"]
    assert (memories.config.max_entries, memories.optimizer) == (1, None)
    assert memories.storage.session_exists("s")


def test_storages_have_the_constructors_of_the_asynchronous_ones(tmp_path: Path) -> None:
    keyring = aio.Keyring({"2026": bytes(range(32))})
    with sync.RetryingStorage(sync.EncryptedStorageWrapper(sync.JSONFileStorage(tmp_path / "files"), keyring)) as one:
        one.put_session(session_record())
        one.append_messages("s", [message_record("m")])
        assert [record.message_id for record in one.read_messages("s", MessageRange())] == ["m"]
    memory = sync.InMemoryStorage()
    memory.put_session(session_record())
    assert memory.list_sessions() == ["s"]


def test_an_asynchronous_storage_can_be_passed_in() -> None:
    storage = aio.InMemoryStorage()
    manager = sync.SessionManager(storage)
    session_id = manager.create_session({}, ECHO)
    assert asyncio.run(storage.list_sessions()) == [session_id]


def test_any_number_of_threads_use_one_manager(tmp_path: Path) -> None:
    with sync.create_storage(f"file://{tmp_path}/files") as storage, sync.SessionManager(storage) as manager:
        session_id = manager.create_session({}, ECHO)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: manager.send_message(session_id, str(number)), range(24)))
        assert manager.conversation_manager.get_message_count(session_id) == 48


@attrs.frozen
class Colour:
    """A structured answer."""

    name: str


class Worker(StubProvider):
    """Calls a tool, answers in JSON, or waits."""

    interrupt: threading.Thread | None = None
    cancelled = threading.Event()

    async def answer(self, messages: list[ChatMessage], parameters: dict[str, Any]) -> ChatResponse:
        said = messages[-1]
        if said.content == "wait":
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if said.role == "tool":
            return ChatResponse(str(said.content), finish_reason="stop")
        if "tools" in parameters:
            return calling(("c1", parameters["tools"][0]["function"]["name"], {}))
        return ChatResponse('{"name": "blue"}', finish_reason="stop")


@pytest.fixture
def manager() -> Any:
    ProviderFactory.register_provider("worker", Worker)
    yield sync.SessionManager()
    ProviderFactory.unregister_provider("worker")


def test_tools_and_structured_answers_need_no_await(manager: sync.SessionManager) -> None:
    session_id = manager.create_session({}, {"name": "worker"})

    def look() -> str:
        """Look at the sky."""
        return f"{manager.conversation_manager.get_message_count(session_id)} messages"

    answer = sync.run_tools(manager, session_id, "What colour is the sky?", [look])
    assert_type(answer, ChatResponse)
    assert answer.content == "2 messages"
    colour = sync.send_structured(manager, session_id, "In JSON?", Colour)
    assert_type(colour, StructuredResponse[Colour])
    assert colour.value == Colour("blue")


def test_a_coroutine_function_must_await_the_asynchronous_manager(manager: sync.SessionManager) -> None:
    session_id = manager.create_session({}, {"name": "worker"})

    async def blocks() -> str:
        """Call without await on the event loop."""
        return str(manager.list_sessions())

    async def awaits() -> str:
        """Await instead."""
        return str(await manager.asynchronous.list_sessions())

    refused = sync.run_tools(manager, session_id, "Which?", [blocks])
    assert refused.content.startswith(SyncCallError.__name__)
    assert sync.run_tools(manager, session_id, "Which?", [awaits]).content == f"['{session_id}']"


def test_a_keyboard_interrupt_cancels_the_turn(manager: sync.SessionManager) -> None:
    session_id = manager.create_session({}, {"name": "worker"})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            manager.send_message(session_id, "wait")
    finally:
        signal.signal(signal.SIGINT, before)
    assert Worker.cancelled.is_set()
    assert manager.conversation_manager.get_message_count(session_id) == 0


def test_a_stream_that_is_left_unlocks_its_session() -> None:
    manager = sync.SessionManager()
    session_id = manager.create_session({}, {"name": "echo", "extra": {"delay": 0.01}})
    for delta in manager.stream_message(session_id, "one two three", on_stop="keep_partial"):
        assert delta.content == "You "
        break
    assert manager.send_message(session_id, "next", busy="refuse").content == "You said: next"
    stored = manager.conversation_manager.get_messages(session_id)
    assert [message.content for message in stored][-2:] == ["next", "You said: next"]
    assert len(stored) == 4


def test_a_facade_needs_no_class_of_its_own() -> None:
    storage = sync.SessionStorage(aio.InMemoryStorage)
    storage.put_session(session_record())
    assert storage.list_sessions() == ["s"]
    assert isinstance(storage, SyncFacade)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_begins_with_a_manager_of_its_own(tmp_path: Path) -> None:
    """Unsaved changes stay in the parent: the child would write them a second time."""
    with sync.create_storage(f"file://{tmp_path}/files") as storage, sync.SessionManager(storage) as manager:
        session_id = manager.create_session({}, ECHO, {"auto_save": False})
        read, write = os.pipe()
        if not (child := os.fork()):
            try:
                os.write(write, b"none" if manager.get_session(session_id) is None else b"found")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 10) == b"none"
        assert manager.save_session(session_id)
    os.close(read)
    os.close(write)
