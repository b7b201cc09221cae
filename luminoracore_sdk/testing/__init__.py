"""Tools to test a storage adapter: the contract, a state machine, strategies, crash trials, a manual clock.

Needs the extra ``testing``. See docs/how-to/certify-a-storage-adapter.md.
"""

from luminoracore_sdk.domain.errors import MissingDependencyError

try:
    import hypothesis  # noqa: F401
    import pytest
    import pytest_asyncio  # noqa: F401
except ImportError as exc:
    raise MissingDependencyError("luminoracore_sdk.testing", "testing") from exc

# Failed assertions of the suite are explained like those of any test module.
pytest.register_assert_rewrite("luminoracore_sdk.testing.contract", "luminoracore_sdk.testing.stateful")

from luminoracore_sdk.testing.cancellation import CancelAt  # noqa: E402
from luminoracore_sdk.testing.clock import ManualClock  # noqa: E402
from luminoracore_sdk.testing.contract import StorageContract, StorageFactory  # noqa: E402
from luminoracore_sdk.testing.crash import CrashReport, crash_trial, server_crash_trial  # noqa: E402
from luminoracore_sdk.testing.model import StorageModel  # noqa: E402
from luminoracore_sdk.testing.records import (  # noqa: E402
    json_payload,
    memory_record,
    message_record,
    session_record,
)
from luminoracore_sdk.testing.stateful import (  # noqa: E402
    Place,
    run_storage_state_machine,
    storage_state_machine,
)
from luminoracore_sdk.testing.strategies import (  # noqa: E402
    ids,
    invalid_ids,
    json_objects,
    json_values,
    memory_records,
    message_records,
    payloads,
    session_records,
)

__all__ = [
    "CancelAt",
    "CrashReport",
    "ManualClock",
    "Place",
    "StorageContract",
    "StorageFactory",
    "StorageModel",
    "crash_trial",
    "ids",
    "invalid_ids",
    "json_objects",
    "json_payload",
    "json_values",
    "memory_record",
    "memory_records",
    "message_record",
    "message_records",
    "payloads",
    "run_storage_state_machine",
    "server_crash_trial",
    "session_record",
    "session_records",
    "storage_state_machine",
]
