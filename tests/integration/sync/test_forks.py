"""A process that forks while a storage is open: each backend works in the child, or an error says why not."""

import json
import os
from collections.abc import Callable

import pytest

from tests.integration.sync.conftest import Worker
from tests.support import fork_worker

BEFORE, IN_CHILDREN, AFTER = 2, 2 * fork_worker.CHILDREN, 2


@pytest.fixture
def run_forking(run_python: Worker) -> Callable[[str], dict[str, dict[str, object]]]:
    def run(place: str) -> dict[str, dict[str, object]]:
        # Python 3.12 and newer warn of a fork beside any other thread.
        done = run_python("-W", "ignore:This process:DeprecationWarning", fork_worker.__file__, place)
        assert (done.returncode, done.stderr) == (0, "")
        reports: dict[str, dict[str, object]] = json.loads(done.stdout)
        return reports

    return run


Forking = Callable[[str], dict[str, dict[str, object]]]


def check_children(report: dict[str, object], *, parent: int) -> None:
    """Check that every child has ended, and that the last of their messages was found with the others."""
    assert report["codes"] == [0] * fork_worker.CHILDREN
    assert report["parent"] == parent


def check_all_stored(report: dict[str, object]) -> None:
    check_children(report, parent=BEFORE + IN_CHILDREN + AFTER)
    found = [int(str(child)) for child in report["children"]]  # type: ignore[attr-defined]
    assert max(found) == BEFORE + IN_CHILDREN


def check_refused(report: dict[str, object], error: str) -> None:
    check_children(report, parent=BEFORE + AFTER)
    assert report["children"] == [error] * fork_worker.CHILDREN


def test_json_files_work_in_every_child(run_forking: Forking) -> None:
    reports = run_forking("file://files")
    for how in ("sync", "shared", "plain"):
        check_all_stored(reports[how])


@pytest.mark.parametrize("server", ["sqlite", "postgres", "redis", "mongodb"])
def test_a_database_works_in_every_child(server: str, run_forking: Forking, request: pytest.FixtureRequest) -> None:
    reports = run_forking("sqlite:///store.db" if server == "sqlite" else request.getfixturevalue(server))
    check_all_stored(reports["sync"])
    check_all_stored(reports["shared"])
    check_refused(reports["plain"], "WrongEventLoopError")


def test_in_memory_each_child_has_a_copy(run_forking: Forking) -> None:
    for report in run_forking("memory://").values():
        check_children(report, parent=BEFORE + AFTER)
        assert report["children"] == [str(BEFORE + 2)] * fork_worker.CHILDREN


BUSY = """
import os, signal, sys, threading
from luminoracore_sdk import sync

sys.setswitchinterval(1e-6)  # so that a fork meets the threads at every point
manager = sync.SessionManager(sync.create_storage({url!r}))
session_ids = [manager.create_session({{}}, {{"name": "echo"}}) for _ in range(3)]

over = threading.Event()

def write(session_id):
    while not over.is_set():
        manager.conversation_manager.add_message(session_id, "Hello")

threads = [threading.Thread(target=write, args=(session_id,)) for session_id in session_ids[:2]]
for thread in threads:
    thread.start()
codes = set()
for _ in range({forks}):
    if not (child := os.fork()):
        signal.alarm(20)
        manager.send_message(session_ids[2], "Hello")
        os._exit(0)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
over.set()
for thread in threads:
    thread.join()
print(*codes)
"""


@pytest.mark.parametrize("url", ["memory://", "file://files", "sqlite:///store.db"])
def test_a_fork_beside_busy_threads_leaves_no_lock_held(url: str, run_python: Worker) -> None:
    forks = int(os.environ.get("LUMINORA_CRASH_TRIALS", "20"))
    done = run_python("-W", "ignore:This process:DeprecationWarning", "-c", BUSY.format(url=url, forks=forks))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


CLOSED = """
import os
from luminoracore_sdk import sync

manager = sync.SessionManager(sync.create_storage("sqlite:///store.db"))
session_id = manager.create_session({}, {"name": "echo"})
parent_closed, child_opened = os.pipe(), os.pipe()
if not (child := os.fork()):
    manager.send_message(session_id, "before the parent closes")
    os.write(child_opened[1], b".")
    os.read(parent_closed[0], 1)
    manager.send_message(session_id, "after it")
    os._exit(0)
os.read(child_opened[0], 1)
manager.storage.close()
os.write(parent_closed[1], b".")
os.waitpid(child, 0)
with sync.create_storage("sqlite:///store.db") as storage:
    print(storage.find_session(session_id).last_position)
"""


def test_a_child_keeps_sqlite_after_the_parent_has_closed_it(run_python: Worker) -> None:
    done = run_python("-W", "ignore:This process:DeprecationWarning", "-c", CLOSED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


LEAVES_A_LEASE = """
import os, signal
from luminoracore_sdk import sync

manager = sync.SessionManager(sync.create_storage("sqlite:///store.db"))
manager.create_session({}, {"name": "echo"}, {"session_id": "s"})
with manager.turn_lease("s") as lease:
    child = os.fork()
    if child == 0:
        signal.alarm(20)
    else:
        assert os.waitpid(child, 0)[1] == 0
        assert manager.send_message("s", "Hello", fence=lease.fence).position == 2
        assert not lease.is_lost
if child == 0:
    os._exit(0)
with manager.turn_lease("s") as again:
    print(again.fence - lease.fence)
"""


def test_a_child_that_is_forked_within_a_lease_leaves_it_to_the_parent(run_python: Worker) -> None:
    done = run_python("-W", "ignore:This process:DeprecationWarning", "-c", LEAVES_A_LEASE)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "1\n")
