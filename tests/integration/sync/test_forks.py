"""A process that forks while a storage is open: each backend works in the child, or an error says why not."""

import json
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


def check_refused(report: dict[str, object]) -> None:
    check_children(report, parent=BEFORE + AFTER)
    assert report["children"] == ["WrongEventLoopError"] * fork_worker.CHILDREN


def test_json_files_work_in_every_child(run_forking: Forking) -> None:
    reports = run_forking("file://files")
    for how in ("sync", "shared", "plain"):
        check_all_stored(reports[how])


@pytest.mark.parametrize("server", ["sqlite", "postgres", "redis", "mongodb"])
def test_a_database_works_in_every_child(server: str, run_forking: Forking, request: pytest.FixtureRequest) -> None:
    place = "sqlite:///store.db" if server == "sqlite" else request.getfixturevalue(server)
    reports = run_forking(place)
    check_all_stored(reports["sync"])
    check_all_stored(reports["shared"])
    check_refused(reports["plain"])


def test_in_memory_each_child_has_a_copy(run_forking: Forking) -> None:
    for report in run_forking("memory://").values():
        check_children(report, parent=BEFORE + AFTER)
        assert report["children"] == [str(BEFORE + 2)] * fork_worker.CHILDREN
