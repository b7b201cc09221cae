"""What every test shares: the Hypothesis profiles, and real servers for the length of a run.

``HYPOTHESIS_PROFILE`` chooses one: ``dev`` (the default) looks for new examples, ``ci`` repeats the same
ones, ``nightly`` looks long: on each backend a state machine makes 100 lives of up to 200 steps, several
thousand in all. (One life of 1,000 steps would need more choices than Hypothesis 6 lets an example have.)
"""

import os

from hypothesis import HealthCheck, settings

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
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers inherit what this process made
        begin_run()


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        end_run()
