"""What all tests share: Hypothesis profiles, the selection of nightly tests, and real servers.

``HYPOTHESIS_PROFILE`` selects a profile: ``dev`` (the default) looks for new examples, ``ci`` repeats the same
ones, ``nightly`` searches longer: on each backend a state machine makes 100 runs of up to 200 steps. (One run
of 1,000 steps would need more choices than Hypothesis 6 allows an example.)

Tests marked ``nightly``, and those that ``support/selection.py`` lists, are deselected unless ``LUMINORA_NIGHTLY=1`` is
set or ``-m`` names the marker.
"""

import gc
import os
from collections.abc import Generator

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

from tests.support.selection import deselect, mark_listed, unused
from tests.support.servers.shared import begin_run, end_run

_SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "dev",
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=_SLOW_MACHINES,
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.register_profile(
    "nightly",
    settings.get_profile("dev"),
    max_examples=100,
    stateful_step_count=200,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_configure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers inherit what this process started
        begin_run()


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        end_run()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave nightly tests out of an ordinary run."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    if whole and (stale := unused(items)):
        raise pytest.UsageError(f"support/selection.py lists what is no test: {', '.join(stale)}")
    mark_listed(items)
    if os.environ.get("LUMINORA_NIGHTLY") != "1" and "nightly" not in config.option.markexpr:
        deselect(config, items, lambda item: item.get_closest_marker("nightly") is not None)


def pytest_collection_finish() -> None:
    """Leave what was collected out of garbage collections, which take 0.4 s: a server seems silent meanwhile."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Do not measure the coverage of an unmeasured test and of its fixtures."""
    coverage = Coverage.current() if item.get_closest_marker("unmeasured") else None
    if coverage is None:
        return (yield)
    coverage.stop()
    try:
        return (yield)
    finally:
        coverage.start()
