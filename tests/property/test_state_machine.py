"""Random call sequences on every backend, compared with a model of plain dictionaries."""

from hypothesis import settings

from luminoracore_sdk.testing import run_storage_state_machine
from tests.support.backends import Backend, each_backend


def lives(backend: Backend) -> settings:
    """Return the profile's settings, with fewer examples on servers, where a step costs more."""
    everywhere = settings()
    if backend.embedded:
        return everywhere
    return settings(max_examples=max(1, everywhere.max_examples // 3))


@each_backend()
def test_a_storage_and_its_model_never_differ(backend: Backend) -> None:
    run_storage_state_machine(backend.place, persistent=backend.persistent, settings=lives(backend))
