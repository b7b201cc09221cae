"""OptimizedStorageWrapper: what lies in the store, and what happens to optimizers that lie."""

from typing import Any

import pytest

from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    UnreadablePayloadError,
    ValidationError,
)
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import InMemoryStorage, OptimizedStorageWrapper, create_storage
from luminoracore_sdk.types.session import StorageConfig

DOCUMENT = {"content": "hello", "metadata": {}, "provider_config": {"name": "echo"}, "k": 1}


class Foreign:
    """An optimizer of somebody else's that works."""

    def compress(self, data: Any) -> Any:
        if data == {"small": "as it is"}:
            return {"z": data}
        KEPT.append(data)
        return ["packed", len(KEPT) - 1]

    def expand(self, data: Any) -> Any:
        return KEPT[data[1]] if isinstance(data, list) else data["z"]


KEPT: list[Any] = []


class Lossy(Foreign):
    def compress(self, data: Any) -> Any:
        return {}

    def expand(self, data: Any) -> Any:
        return {}


class Raising(Foreign):
    def compress(self, data: Any) -> Any:
        raise KeyError("not today")


class NotJSON(Foreign):
    def compress(self, data: Any) -> Any:
        return {1: data}


async def stored_tag(base: InMemoryStorage) -> str:
    record = await base.find_session("s")
    assert record is not None
    assert record.payload is not None
    return record.payload.tag


async def test_a_document_is_compressed_below_and_equal_above() -> None:
    base = InMemoryStorage()
    wrapper = OptimizedStorageWrapper(base, Optimizer())
    await wrapper.save_session("s", DOCUMENT)
    assert await stored_tag(base) == "json+opt1"
    assert await wrapper.load_session("s") == DOCUMENT


async def test_what_our_optimizer_wrote_is_read_without_the_wrapper() -> None:
    base = InMemoryStorage()
    await OptimizedStorageWrapper(base, Optimizer()).save_session("s", DOCUMENT | {"big": 2**70})
    assert await stored_tag(base) == "json-wide+opt1"
    assert await base.load_session("s") == DOCUMENT | {"big": 2**70}


async def test_switching_it_on_over_a_plain_store_leaves_old_records_readable() -> None:
    base = InMemoryStorage()
    await base.save_session("s", DOCUMENT)
    assert await OptimizedStorageWrapper(base, Optimizer()).load_session("s") == DOCUMENT


@pytest.mark.parametrize("optimizer", [Lossy(), Raising(), NotJSON()], ids=lambda o: type(o).__name__)
async def test_a_lying_optimizer_loses_nothing_and_is_reported_once(
    optimizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    base = InMemoryStorage()
    wrapper = OptimizedStorageWrapper(base, optimizer)
    await wrapper.save_session("s", DOCUMENT)
    await wrapper.save_session("s", DOCUMENT)
    assert await stored_tag(base) == "json"
    assert await wrapper.load_session("s") == DOCUMENT
    assert wrapper.stored_plain == 2
    assert len(caplog.messages) == 1
    assert type(optimizer).__name__ in caplog.messages[0]


async def test_what_does_not_get_smaller_is_stored_as_it_was() -> None:
    base = InMemoryStorage()
    await OptimizedStorageWrapper(base, Foreign()).save_session("s", {"small": "as it is"})
    assert await stored_tag(base) == "json"


async def test_a_foreign_optimizer_is_needed_to_read_what_it_wrote() -> None:
    base = InMemoryStorage()
    wrapper = OptimizedStorageWrapper(base, Foreign())
    await wrapper.save_session("s", DOCUMENT)
    assert await stored_tag(base) == "json+opt0"
    assert await wrapper.load_session("s") == DOCUMENT
    with pytest.raises(UnreadablePayloadError, match="json\\+opt0"):
        await base.load_session("s")
    with pytest.raises(UnreadablePayloadError, match="another optimizer"):
        await OptimizedStorageWrapper(base, Optimizer()).load_session("s")


async def test_a_foreign_optimizer_that_fails_on_the_way_out_is_loud() -> None:
    base = InMemoryStorage()
    wrapper = OptimizedStorageWrapper(base, Foreign())
    await wrapper.save_session("s", DOCUMENT)
    KEPT.clear()
    with pytest.raises(CorruptRecordError, match="cannot expand"):
        await wrapper.load_session("s")


def test_an_optimizer_without_the_two_methods_is_refused() -> None:
    not_one: Any = object()
    with pytest.raises(ValidationError, match="compress"):
        OptimizedStorageWrapper(InMemoryStorage(), not_one)


def test_the_factory_wraps_when_told_to() -> None:
    assert isinstance(create_storage(StorageConfig(compression_enabled=True)), OptimizedStorageWrapper)
    assert isinstance(create_storage(StorageConfig(), optimizer=Foreign()), OptimizedStorageWrapper)
    assert isinstance(create_storage(StorageConfig()), InMemoryStorage)
