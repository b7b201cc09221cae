"""The contract of the storage port, as a pytest suite that any adapter can be put through."""

from luminoracore_sdk.testing.contract.append import AppendContract, AppendRaceContract, AppendsAtOnceContract
from luminoracore_sdk.testing.contract.base import StorageFactory
from luminoracore_sdk.testing.contract.documents import DocumentContract, IdContract
from luminoracore_sdk.testing.contract.lifecycle import LifeContract, ResumeContract
from luminoracore_sdk.testing.contract.listing import ListingContract, PageContract
from luminoracore_sdk.testing.contract.memory import MemoryContract
from luminoracore_sdk.testing.contract.messages import MeanwhileContract, MessageContract
from luminoracore_sdk.testing.contract.races import MemoryRaceContract, SessionRaceContract
from luminoracore_sdk.testing.contract.rewriting import RewriteContract, RewriteRaceContract, RewriteRefusalContract
from luminoracore_sdk.testing.contract.sessions import ExpiryContract, SessionContract
from luminoracore_sdk.testing.contract.tenants import TenantContract

__all__ = ["StorageContract", "StorageFactory"]


class StorageContract(
    SessionContract,
    ExpiryContract,
    ListingContract,
    PageContract,
    MessageContract,
    MeanwhileContract,
    AppendContract,
    AppendRaceContract,
    AppendsAtOnceContract,
    MemoryContract,
    SessionRaceContract,
    MemoryRaceContract,
    DocumentContract,
    IdContract,
    LifeContract,
    ResumeContract,
    TenantContract,
    RewriteContract,
    RewriteRaceContract,
    RewriteRefusalContract,
):
    """Every statement of ``SessionStorage`` and its records, one test each.

    Subclass it under a name that begins with ``Test`` and override two fixtures::

        class TestMyStorage(StorageContract):
            @pytest.fixture
            def storage_factory(self, tmp_path: Path) -> StorageFactory:
                return lambda clock: MyStorage(tmp_path / "store", clock=clock)

            @pytest.fixture
            def other_storage_factory(self, tmp_path: Path) -> StorageFactory:
                return lambda clock: MyStorage(tmp_path / "other", clock=clock)

    The factory gets the clock that the storage must tell the time by, and returns a storage that is
    not open yet. Its place is empty when a test begins and belongs to that test alone; called again
    within a test, the factory returns another storage on the same place. The suite closes what it made.

    ``other_storage_factory`` does the same for a second place: another file, schema, prefix or database,
    whatever keeps tenants apart. Where it is not overridden, the tests that need it are skipped.

    It runs in both modes of pytest-asyncio. What a storage cannot do is said by a class attribute;
    the tests that need it are skipped with that as the reason:

    Attributes:
        persistent: A new storage on the same place, made after the first is closed, sees its records.
        shares_between_instances: Two open storages on the same place see each other's writes.
        max_payload_bytes: The documented limit of one record, checked at its edge from above.
        listing_size: How many sessions the case that lists many of them stores; 10,000 in a long run.
    """
