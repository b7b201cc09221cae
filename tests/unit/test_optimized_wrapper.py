"""OptimizedStorageWrapper: what lies in the store, and what happens to optimizers that lie."""

from typing import Any

import pytest

from luminoracore_sdk.application.ports.records import Payload, SessionRecord
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    UnreadablePayloadError,
    ValidationError,
)
from luminoracore_sdk.optimization import OptimizationConfig, Optimizer
from luminoracore_sdk.session import (
    EncryptedStorageWrapper,
    InMemoryStorage,
    Keyring,
    OptimizedStorageWrapper,
    create_storage,
)
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
    return record.payload.encoding


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


class Abbreviating:
    """A foreign optimizer with a setting: two of them read each other without an error, and wrongly."""

    def __init__(self, long_word: str) -> None:
        self.long_word = long_word

    def compress(self, data: Any) -> Any:
        return {"~" if key == self.long_word else key: value for key, value in data.items()}

    def expand(self, data: Any) -> Any:
        return {self.long_word if key == "~" else key: value for key, value in data.items()}


LONG_WORDS = ["an_exceptionally_long_name_for_a_field", "another_exceptionally_long_name_for_one"]


@pytest.mark.parametrize("extra", [{}, {"big": 2**70, "half": "\ud800"}], ids=["json", "json-wide"])
async def test_third_party_optimizer_with_other_settings_is_refused(extra: dict[str, Any]) -> None:
    base = InMemoryStorage()
    one, other = (OptimizedStorageWrapper(base, Abbreviating(word)) for word in LONG_WORDS)
    document = {"provider_config": {"name": "echo"}, LONG_WORDS[0]: 1.5} | extra
    await one.save_session("s", document)
    assert (await stored_tag(base)).endswith("+opt0")
    assert await one.load_session("s") == document
    with pytest.raises(UnreadablePayloadError, match="by another optimizer, or by this one with other settings"):
        await other.load_session("s")


async def test_encryption_hides_third_party_checksums() -> None:
    base = InMemoryStorage()
    ring = Keyring({"k": bytes(range(32))})
    wrapper = OptimizedStorageWrapper(EncryptedStorageWrapper(base, ring), Abbreviating(LONG_WORDS[0]))
    for session_id, pin in (("a", 1234), ("b", 5678)):
        await wrapper.save_session(session_id, {"provider_config": {"name": "echo"}, LONG_WORDS[0]: pin})
    records = [await base.find_session(session_id) for session_id in "ab"]
    tags = {record.payload.encoding for record in records if record is not None and record.payload is not None}
    assert tags == {"json+opt0+aes256gcm:k"}


@pytest.mark.parametrize("data", [b"1", b"{}", b'["00000000"]', b"[1, {}]"])
async def test_what_no_optimizer_wrote_under_this_tag_is_damaged(data: bytes) -> None:
    base = InMemoryStorage()
    await base.put_session(SessionRecord(session_id="s", payload=Payload("json+opt0", data)))
    with pytest.raises(CorruptRecordError, match=r"not valid json\+opt0"):
        await OptimizedStorageWrapper(base, Foreign()).find_session("s")


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
