"""What proves a storage adapter: the contract, a state machine, strategies, kills, and a manual clock.

Needs the extra ``testing``. See docs/how-to/certify-a-storage-adapter.md.
"""

from luminoracore_sdk.domain.errors import MissingDependencyError

try:
    import hypothesis  # noqa: F401
    import pytest
    import pytest_asyncio  # noqa: F401
except ImportError as exc:
    raise MissingDependencyError("luminoracore_sdk.testing", "testing") from exc

# The assertions of the suite explain themselves like those of any test module.
pytest.register_assert_rewrite(
    *(
        f"luminoracore_sdk.testing.contract_{part}"
        for part in (
            *("append", "append_races", "base", "documents", "expiry", "life", "listing", "meanwhile"),
            *("memory", "messages", "pages", "places", "races", "recoding"),
            *("recoding_base", "recoding_races", "recoding_refusals", "sessions"),
        )
    ),
    "luminoracore_sdk.testing.machine",
    "luminoracore_sdk.testing.machine_base",
)

from luminoracore_sdk.testing.builders import (  # noqa: E402
    json_payload,
    memory_record,
    message_record,
    session_record,
)
from luminoracore_sdk.testing.cancelling import CancelAt  # noqa: E402
from luminoracore_sdk.testing.clock import ManualClock  # noqa: E402
from luminoracore_sdk.testing.contract import StorageContract, StorageFactory  # noqa: E402
from luminoracore_sdk.testing.crash import crash_trial  # noqa: E402
from luminoracore_sdk.testing.crash_check import CrashReport  # noqa: E402
from luminoracore_sdk.testing.model import StorageModel  # noqa: E402
from luminoracore_sdk.testing.server_crash import server_crash_trial  # noqa: E402
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
