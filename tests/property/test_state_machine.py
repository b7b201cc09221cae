"""Long random lives of every backend, compared with plain dictionaries."""

import pytest
from hypothesis import settings

from luminoracore_sdk.testing import run_storage_state_machine
from tests.support.backends import BACKENDS, EMBEDDED, Backend

_QUICK = {backend.name for backend in EMBEDDED}


def lives(backend: Backend) -> settings:
    """Return the profile's settings; on a server, where a place and a step cost more, fewer lives."""
    everywhere = settings()
    if backend.name.split()[-1] in _QUICK:
        return everywhere
    return settings(max_examples=max(1, everywhere.max_examples // 3))


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_storage_and_its_model_never_differ(backend: Backend) -> None:
    run_storage_state_machine(backend.place, persistent=backend.persistent, settings=lives(backend))
