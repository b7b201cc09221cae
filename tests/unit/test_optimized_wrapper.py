"""OptimizedStorageWrapper: what lies in the store, and what happens to optimizers that lie."""

from typing import Any

import pytest

from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    UnreadablePayloadError,
    ValidationError,
)
from luminoracore_sdk.optimization import OptimizationConfig, Optimizer
from luminoracore_sdk.session import InMemoryStorage, OptimizedStorageWrapper, create_storage
from luminoracore_sdk.types.session import StorageConfig

DOCUMENT = {"content": "hello", "metadata": {}, "provider_config": {"name": "echo"}, "k": 1}

PLAIN_NOTATION = OptimizationConfig(record_compression=False)
OURS = [(Optimizer(), "+zstd:g1"), (Optimizer(PLAIN_NOTATION), "+opt1")]


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


@pytest.mark.parametrize(("optimizer", "step"), OURS)
@pytest.mark.parametrize(("extra", "plain"), [({}, "json"), ({"big": 2**70}, "json-wide")])
async def test_a_document_is_compressed_below_and_equal_above(
    optimizer: Optimizer, step: str, extra: dict[str, Any], plain: str
) -> None:
    base = InMemoryStorage()
    wrapper = OptimizedStorageWrapper(base, optimizer)
    await wrapper.save_session("s", DOCUMENT | extra)
    assert await stored_tag(base) == plain + step
    assert await wrapper.load_session("s") == DOCUMENT | extra


@pytest.mark.parametrize("written", [None, *(optimizer for optimizer, _ in OURS)])
@pytest.mark.parametrize("read", [None, *(optimizer for optimizer, _ in OURS)])
async def test_what_any_of_ours_or_none_wrote_is_read_by_any_or_none(
    written: Optimizer | None, read: Optimizer | None
) -> None:
    base = InMemoryStorage()
    writer = base if written is None else OptimizedStorageWrapper(base, written)
    await writer.save_session("s", DOCUMENT)
    reader = base if read is None else OptimizedStorageWrapper(base, read)
    assert await reader.load_session("s") == DOCUMENT


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
