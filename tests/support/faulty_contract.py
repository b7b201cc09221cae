"""Each part of the contract over its faulty storage; run in a process of its own by the suite's tests."""

from typing import ClassVar

import pytest

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.testing import StorageFactory
from luminoracore_sdk.testing.contract.base import ContractBase
from tests.support.faulty import FAULTS


class _Faulty(ContractBase):
    fault: ClassVar[type[InMemoryStorage]]
    shares_between_instances = False
    listing_size = 300

    @pytest.fixture
    def storage_factory(self) -> StorageFactory:
        return lambda clock: self.fault(clock=clock)

    @pytest.fixture
    def other_storage_factory(self) -> StorageFactory:
        return lambda clock: self.fault(clock=clock)


for _part, _fault in FAULTS.items():
    globals()[f"Test{_part.__name__}"] = type(f"Test{_part.__name__}", (_Faulty, _part), {"fault": _fault})
