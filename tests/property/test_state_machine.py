"""Long random lives of every backend, compared with plain dictionaries."""

import pytest

from luminoracore_sdk.testing import run_storage_state_machine
from tests.support.backends import BACKENDS, Backend


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_storage_and_its_model_never_differ(backend: Backend) -> None:
    run_storage_state_machine(backend.place, persistent=backend.persistent)
