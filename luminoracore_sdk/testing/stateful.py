"""A Hypothesis state machine: long random lives of one storage, compared with plain dictionaries."""

from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from luminoracore_sdk.testing.machine import StorageMachine
from luminoracore_sdk.testing.machine_base import Place

__all__ = ["Place", "run_storage_state_machine", "storage_state_machine"]


def storage_state_machine(place: Place, *, persistent: bool = True) -> type[RuleBasedStateMachine]:
    """Return a state machine over one storage; its ``TestCase`` is a unittest.

    Args:
        place: A context manager that gives a ``StorageFactory`` on an empty place, one for each life::

                @contextmanager
                def place() -> Iterator[StorageFactory]:
                    with TemporaryDirectory() as folder:
                        yield lambda clock: MyStorage(Path(folder) / "store", clock=clock)

        persistent: Whether a new storage on the same place sees what a closed one wrote; False: the
            machine never reopens.
    """
    attributes = {"place": staticmethod(place), "persistent": persistent}
    return type("StorageMachine", (StorageMachine,), attributes)


def run_storage_state_machine(
    place: Place, *, persistent: bool = True, settings: hypothesis_settings | None = None
) -> None:
    """Run the state machine as a test.

    Args:
        place: See ``storage_state_machine``.
        persistent: See ``storage_state_machine``.
        settings: How many lives and steps; the loaded Hypothesis profile when None.
    Raises:
        AssertionError: The storage and the model differ; the shortest life that shows it is printed.
    """
    run_state_machine_as_test(storage_state_machine(place, persistent=persistent), settings=settings)
