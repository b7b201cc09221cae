"""EncryptedStorageWrapper: an opening that is cut off, or overtaken by a closing, leaves nothing open."""

import asyncio

import pytest

from luminoracore_sdk.adapters.encryption.key_check import CHECK_KEY
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope
from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage, Keyring
from luminoracore_sdk.testing.records import session_record
from luminoracore_sdk.utils.exceptions import ConfigurationError, StorageClosedError
from tests.support.encryption import keyring


class Halting(StorageWrapper):
    """A storage that does not answer the question for its keys until it is let.

    Attributes:
        asked: Set when somebody waits.
        answer: Lets them go on.
    """

    def __init__(self, base: InMemoryStorage) -> None:
        super().__init__(base)
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        if key == CHECK_KEY:
            self.asked.set()
            await self.answer.wait()
        return await super().find_memory(scope, key)


@pytest.fixture
def base() -> InMemoryStorage:
    return InMemoryStorage()


async def is_closed(base: InMemoryStorage) -> bool:
    try:
        await base.find_session("s")
    except StorageClosedError:
        return True
    return False


async def test_close_overtakes_an_opening_that_fetches_keys(base: InMemoryStorage) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def fetch() -> Keyring:
        asked.set()
        await answer.wait()
        return keyring()

    storage = EncryptedStorageWrapper(base, fetch)
    opening = asyncio.ensure_future(storage.open())
    await asked.wait()
    await storage.close()
    answer.set()
    with pytest.raises(StorageClosedError):
        await opening
    assert await is_closed(base)
    with pytest.raises(StorageClosedError):
        await storage.find_session("s")
    await storage.open()
    await storage.put_session(session_record())
    assert await storage.find_session("s") is not None


async def test_close_overtakes_an_opening_that_compares_keys(base: InMemoryStorage) -> None:
    halting = Halting(base)
    storage = EncryptedStorageWrapper(halting, keyring())
    opening = asyncio.ensure_future(storage.open())
    await halting.asked.wait()
    await storage.close()
    halting.answer.set()
    with pytest.raises(StorageClosedError):
        await opening
    assert await is_closed(base)


async def test_opening_after_an_overtaking_close_stays_open(
    base: InMemoryStorage,
) -> None:
    halting = Halting(base)
    storage = EncryptedStorageWrapper(halting, keyring())
    first = asyncio.ensure_future(storage.open())
    await halting.asked.wait()
    await storage.close()
    second = asyncio.ensure_future(storage.open())
    await asyncio.sleep(0)
    halting.answer.set()
    with pytest.raises(StorageClosedError):
        await first
    await second
    assert await storage.find_session("s") is None
    assert not await is_closed(base)


async def test_keys_fetched_from_the_storage_itself_are_refused(
    base: InMemoryStorage,
) -> None:
    async def fetch() -> Keyring:
        await storage.find_session("keys")
        return keyring()

    storage = EncryptedStorageWrapper(base, fetch)
    async with asyncio.timeout(1):
        with pytest.raises(ConfigurationError, match=r"keys\(\) uses the storage whose keys it fetches"):
            await storage.open()
