"""A writing process is killed again and again; nothing it was told is lost, nothing is unreadable.

``LUMINORA_CRASH_TRIALS`` says how many kills each backend takes; 10 when it is not set.
"""

import os
from pathlib import Path

import pytest

from luminoracore_sdk.testing.crash import crash_trial

_TRIALS = int(os.environ.get("LUMINORA_CRASH_TRIALS", "10"))
_TRIALS_ON_ONE_STORE = 10
_FACTORIES = {
    "files": "luminoracore_sdk.adapters.storage.json_file:JSONFileStorage",
    "sqlite": "luminoracore_sdk.adapters.storage.sqlite:SQLiteStorage",
}


@pytest.mark.parametrize("first_seed", range(1, _TRIALS + 1, _TRIALS_ON_ONE_STORE))
@pytest.mark.parametrize("backend", _FACTORIES)
def test_kills_at_random_moments_lose_nothing(tmp_path: Path, backend: str, first_seed: int) -> None:
    seeds = range(first_seed, min(first_seed + _TRIALS_ON_ONE_STORE, _TRIALS + 1))
    reports = [crash_trial(_FACTORIES[backend], tmp_path / "store", seed=seed) for seed in seeds]
    assert [report.problems for report in reports] == [()] * len(seeds)
    # Every trial but a very early kill had something to lose.
    assert sum(report.acknowledged for report in reports) >= len(seeds)
    assert reports[-1].stored >= sum(report.acknowledged for report in reports)


@pytest.mark.parametrize(
    ("fault", "problem"), [("TornTurns", "is not whole"), ("LostTurns", "was acknowledged and is lost")]
)
def test_a_storage_that_loses_something_is_found_out(tmp_path: Path, fault: str, problem: str) -> None:
    reports = [
        crash_trial(f"tests.support.faulty:{fault}", tmp_path / "store", seed=seed) for seed in (3, 4, 5)
    ]
    assert any(problem in found for report in reports for found in report.problems)
