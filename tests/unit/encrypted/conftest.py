"""A store that was plain, and is encrypted from now on."""

import pytest

from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage
from luminoracore_sdk.testing.clock import ManualClock
from tests.support.encryption import keyring, plain_store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def base(clock: ManualClock) -> InMemoryStorage:
    """A store that was filled before encryption was switched on."""
    return await plain_store(clock)


@pytest.fixture
def storage(base: InMemoryStorage) -> EncryptedStorageWrapper:
    return EncryptedStorageWrapper(base, keyring())
