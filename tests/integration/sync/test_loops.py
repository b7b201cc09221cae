"""Event loops: one for each test, uvloop's, and several in threads, on one shared storage."""

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop

from luminoracore_sdk.session import SessionManager, SessionStorage, shared_storage
from luminoracore_sdk.testing.records import session_record
from tests.integration.sync.conftest import Worker


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionStorage]:
    """Yield a storage that every test of this module uses on a loop of its own."""
    shared = shared_storage(f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db")
    yield shared
    asyncio.run(shared.close())


async def converse(storage: SessionStorage, text: str) -> list[str]:
    async with SessionManager(storage) as manager:
        session_id = await manager.create_session({}, {"name": "echo"})
        await manager.send_message(session_id, text)
        stream = manager.stream_message(session_id, f"{text} again")
        words = [delta.content async for delta in stream]
        messages = manager.conversation_manager.stream_messages(session_id)
        return ["".join(words), *[str(message.content) async for message in messages]]


def conversation(text: str) -> list[str]:
    return [f"You said: {text} again", text, f"You said: {text}", f"{text} again", f"You said: {text} again"]


@pytest.mark.parametrize("number", range(3))
async def test_each_test_has_a_loop_of_its_own(number: int, storage: SessionStorage) -> None:
    text = f"Test {number}"
    assert await converse(storage, text) == conversation(text)


async def test_a_call_of_a_task_that_is_cancelled_first_is_not_made(storage: SessionStorage) -> None:
    call = asyncio.create_task(storage.put_session(session_record("cancelled")))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gc.collect()  # a coroutine that was never awaited is a warning, and an error here
    assert await storage.find_session("cancelled") is None


def test_uvloop_uses_the_same_storage(storage: SessionStorage) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(converse(storage, "uvloop")) == conversation("uvloop")


def test_loops_of_both_kinds_run_at_once(storage: SessionStorage) -> None:
    def run(number: int) -> list[str]:
        factory = uvloop.new_event_loop if number % 2 else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(converse(storage, str(number)))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(run, range(8))) == [conversation(str(number)) for number in range(8)]


def test_code_without_await_works_under_the_policy_of_uvloop(run_python: Worker) -> None:
    code = (
        "import asyncio, uvloop; asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n"
        "from luminoracore_sdk import sync\n"
        "with sync.create_storage('sqlite:///store.db') as storage, sync.SessionManager(storage) as manager:\n"
        "    session_id = manager.create_session({}, {'name': 'echo'})\n"
        "    print(manager.send_message(session_id, 'Hello').content)\n"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "You said: Hello\n", "")
