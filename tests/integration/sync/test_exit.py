"""The end of an interpreter that has used the portal: soon, silent, and with everything closed."""

import pytest

from tests.integration.sync.conftest import Worker

SERVERS = [pytest.param(name, marks=pytest.mark.nightly) for name in ("postgres", "redis", "mongodb")]

BEGIN = """
import threading
from luminoracore_sdk import sync
from luminoracore_sdk.providers import ProviderFactory
from tests.support.stub_provider import StubProvider

class Closing(StubProvider):
    async def close(self):
        print("provider closed")

ProviderFactory.register_provider("closing", Closing)
"""

OPEN = """
storage = sync.create_storage({url!r}.partition("#")[0])
manager = sync.SessionManager(storage)
session_id = manager.create_session({{}}, {{"name": "closing"}})
manager.send_message(session_id, "Hello")
"""

STREAM = """
deltas = manager.stream_message(session_id, "Hello")
next(deltas)
"""

WAITING = """
import asyncio
from luminoracore_sdk.adapters.portal import portal

begun = threading.Event()

async def wait():
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        print("call cancelled")

def call():
    try:
        portal().run(wait())
    except asyncio.CancelledError:
        pass

threading.Thread(target=call, daemon=True).start()
begun.wait()
"""


def outcome(run_python: Worker, code: str) -> tuple[int, list[str], str]:
    done = run_python("-W", "error", "-c", code)
    return done.returncode, done.stdout.splitlines(), done.stderr


OUTLIVING = """
def work():
    threading.main_thread().join()
    try:
        for number in range(3):
            manager.send_message(session_id, str(number))
        print(manager.get_session_info(session_id)["message_count"])
    except Exception as exc:
        print(type(exc).__name__)

threading.Thread(target=work).start()
"""


@pytest.mark.parametrize(
    ("place", "end"), [("memory://", "8"), ("sqlite:///store.db", "8"), ("file://f", "StorageClosedError")]
)
def test_a_thread_may_outlive_the_main_one(place: str, end: str, run_python: Worker) -> None:
    """JSON files cannot be used then: the threads of executors have ended."""
    code = BEGIN + OPEN.format(url=place) + OUTLIVING
    assert outcome(run_python, code) == (0, [end, "provider closed"], "")


@pytest.mark.parametrize("place", ["memory", "files", "sqlite", *SERVERS])
def test_what_is_open_is_closed_at_exit(place: str, run_python: Worker, request: pytest.FixtureRequest) -> None:
    url = {"memory": "memory://", "files": "file://files", "sqlite": "sqlite:///store.db"}.get(
        place
    ) or request.getfixturevalue(place)
    assert outcome(run_python, BEGIN + OPEN.format(url=url)) == (0, ["provider closed"], "")


def test_a_stream_that_is_open_at_exit_is_closed(run_python: Worker) -> None:
    code = BEGIN + OPEN.format(url="memory://") + STREAM
    assert outcome(run_python, code) == (0, ["provider closed"], "")


def test_a_call_of_another_thread_is_cancelled_at_exit(run_python: Worker) -> None:
    assert outcome(run_python, BEGIN + WAITING) == (0, ["call cancelled"], "")


def test_an_import_alone_starts_no_thread(run_python: Worker) -> None:
    made = "sync.SessionManager(sync.create_storage('sqlite:///store.db')); print(threading.active_count())"
    assert outcome(run_python, BEGIN + made) == (0, ["1"], "")


def test_sqlite_is_whole_after_an_exit_without_close(run_python: Worker) -> None:
    assert run_python("-c", BEGIN + OPEN.format(url="sqlite:///store.db")).stderr == ""
    read = "import sqlite3; print(*sqlite3.connect('store.db').execute('pragma integrity_check').fetchone())"
    assert run_python("-c", read).stdout == "ok\n"
