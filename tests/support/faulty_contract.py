"""The contract over every faulty storage, a class for each; run by the suite's own proof alone."""

from typing import ClassVar

import pytest

from luminoracore_sdk.testing import StorageContract, StorageFactory
from tests.support.faulty_appends import FAULTY_APPENDS, Faulty
from tests.support.faulty_groups import FAULTY_GROUPS
from tests.support.faulty_races import FAULTY_RACES
from tests.support.faulty_rewriting import FAULTY_REWRITING
from tests.support.faulty_tenants import FAULTY_TENANTS


class TestFaulty(StorageContract):
    """Over a storage without a fault."""

    faulty: ClassVar[type[Faulty]] = Faulty
    persistent = False
    shares_between_instances = False
    listing_size = 300

    @pytest.fixture
    def storage_factory(self) -> StorageFactory:
        return lambda clock: self.faulty(clock=clock)

    @pytest.fixture
    def other_storage_factory(self) -> StorageFactory:
        return lambda clock: self.faulty(clock=clock)


for _faulty in (*FAULTY_APPENDS, *FAULTY_GROUPS, *FAULTY_RACES, *FAULTY_REWRITING, *FAULTY_TENANTS):
    _name = f"Test{_faulty.__name__}"
    globals()[_name] = type(_name, (TestFaulty,), {"faulty": _faulty})
