"""What every test shares: the Hypothesis profiles.

``HYPOTHESIS_PROFILE`` chooses one: ``dev`` (the default) looks for new examples, ``ci`` repeats the same
ones, ``nightly`` looks long: a state machine makes 20 lives of 1,000 steps on each backend.
"""

import os

from hypothesis import HealthCheck, settings

_SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "dev",
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=_SLOW_MACHINES,
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.register_profile(
    "nightly",
    settings.get_profile("dev"),
    max_examples=20,
    stateful_step_count=1_000,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))
