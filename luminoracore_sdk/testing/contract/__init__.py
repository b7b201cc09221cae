"""The contract of the storage port as a pytest suite for any adapter."""

from luminoracore_sdk.testing.contract.append import AppendContract, AppendRaceContract, AppendsAtOnceContract
from luminoracore_sdk.testing.contract.base import StorageFactory
from luminoracore_sdk.testing.contract.documents import DocumentContract, IdContract
from luminoracore_sdk.testing.contract.forks import ForkContract
from luminoracore_sdk.testing.contract.indexing import IndexContract, LightListingContract
from luminoracore_sdk.testing.contract.leases import LeaseContract
from luminoracore_sdk.testing.contract.lifecycle import LifeContract, ResumeContract
from luminoracore_sdk.testing.contract.listing import ListingContract, PageContract
from luminoracore_sdk.testing.contract.memory import MemoryChangeContract, MemoryContract, MemoryPageContract
from luminoracore_sdk.testing.contract.messages import MeanwhileContract, MessageContract
from luminoracore_sdk.testing.contract.races import MemoryRaceContract, SessionRaceContract
from luminoracore_sdk.testing.contract.rewriting import RewriteContract, RewriteRaceContract, RewriteRefusalContract
from luminoracore_sdk.testing.contract.sessions import ExpiryContract, SessionContract
from luminoracore_sdk.testing.contract.summaries import ActivityContract, SummaryContract
from luminoracore_sdk.testing.contract.tails import TailContract, TailRaceContract, UpdateContract
from luminoracore_sdk.testing.contract.tenants import TenantContract
from luminoracore_sdk.testing.contract.turns import TurnContract
from luminoracore_sdk.testing.contract.watching import WatchContract

__all__ = ["StorageContract", "StorageFactory"]


class StorageContract(
    SessionContract,
    ExpiryContract,
    ListingContract,
    PageContract,
    ActivityContract,
    SummaryContract,
    ForkContract,
    IndexContract,
    LightListingContract,
    LeaseContract,
    WatchContract,
    MessageContract,
    MeanwhileContract,
    TurnContract,
    TailContract,
    UpdateContract,
    TailRaceContract,
    AppendContract,
    AppendRaceContract,
    AppendsAtOnceContract,
    MemoryContract,
    MemoryPageContract,
    MemoryChangeContract,
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
    """Tests every statement of ``SessionStorage`` and its records.

    Subclass it under a name that begins with ``Test`` and override two fixtures:

        class TestMyStorage(StorageContract):
            @pytest.fixture
            def storage_factory(self, tmp_path: Path) -> StorageFactory:
                return lambda clock: MyStorage(tmp_path / "store", clock=clock)

            @pytest.fixture
            def other_storage_factory(self, tmp_path: Path) -> StorageFactory:
                return lambda clock: MyStorage(tmp_path / "other", clock=clock)

    The factory takes the clock that the storage must use, and returns a storage that is not open yet. Its
    store is empty at the beginning of a test and used by that test only; called again within a test, the
    factory returns another storage on the same store. The suite closes all storages.

    ``other_storage_factory`` does the same for another tenant: another file, schema, prefix or database. If
    it is not overridden, the tests that need it are skipped.

    The suite runs in both modes of pytest-asyncio. Class attributes state what a storage cannot do; the tests
    that need it are skipped with that reason.

    Attributes:
        persistent: Whether a new storage on the same store, created after the first is closed, sees its
            records.
        shares_between_instances: Whether two open storages on the same store see each other's writes.
        rewrites: Whether the storage is a ``RewritingStorage``; a wrapper usually is not.
        max_payload_bytes: The documented limit of one record; a record above it must be refused.
        listing_size: Number of sessions in the test of long listings; 10,000 in a long run.
    """
