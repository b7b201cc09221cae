from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.domain.errors import CorruptRecordError, UnreadablePayloadError, ValidationError
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry, retention
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig
from luminoracore_sdk.domain.values import to_microseconds
from luminoracore_sdk.testing.records import json_payload

NOON = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, 0, 0, 7, tzinfo=UTC)
CODEC = JsonEntityCodec()
SCOPE = MemoryScope("session", "s")

SETTINGS: dict[str, Any] = {"max_history": 7, "ttl": 0.25, "user_id": "u", "tags": ("b", "a")}
SESSION = Session(
    session_id="s",
    personality={"name": "Ada", "k": [2**70, "\ud800"]},
    provider={"name": "echo", "model": None, "base_url": None, "extra": {}},
    config=SessionConfig(**SETTINGS),
    created_at=NOON,
    last_activity=LATER,
    message_count=4,
    version=3,
    metadata={"$set": {}},
)
MESSAGE = Message("tool", [{"text": "hi"}, -0.0], NOON, {"k": 1}, id="m1", position=5)
ENTRY = MemoryEntry(
    key="a.b",
    value={"k": None},
    created_at=NOON,
    updated_at=LATER,
    expires_at=LATER,
    importance=0.25,
    category=MemoryCategory.TOPIC,
)


def document_of(payload: Payload | None) -> Any:
    assert payload is not None
    return JsonCodec().decode(payload, backend="test", key="k")


def test_a_session_comes_back_equal_from_its_record() -> None:
    record = CODEC.session_record(SESSION)
    assert (record.session_id, record.user_id, record.tags) == ("s", "u", ("a", "b"))
    assert record.ttl_us == 250_000
    stored = attrs.evolve(
        record,
        created_at_us=to_microseconds(NOON),
        updated_at_us=to_microseconds(LATER),
        version=3,
        last_position=4,
    )
    config = SessionConfig(**{**SETTINGS, "tags": ("a", "b")})
    assert CODEC.session(stored, backend="test") == attrs.evolve(SESSION, config=config)


def test_session_without_ttl_and_provider_round_trips() -> None:
    bare = attrs.evolve(SESSION, config=SessionConfig(), provider=None, metadata={})
    record = CODEC.session_record(bare)
    assert record.ttl_us is None
    stored = attrs.evolve(
        record,
        created_at_us=to_microseconds(NOON),
        updated_at_us=to_microseconds(LATER),
        version=3,
        last_position=4,
    )
    assert CODEC.session(stored, backend="test") == bare


def test_stored_session_has_version_and_settings() -> None:
    assert document_of(CODEC.session_record(SESSION).payload) == {
        "v": 2,
        "personality": {"name": "Ada", "k": [2**70, "\ud800"]},
        "provider": {"name": "echo", "model": None, "base_url": None, "extra": {}},
        "config": {"max_history": 7},
        "metadata": {"$set": {}},
    }


def test_a_message_comes_back_equal_from_its_record() -> None:
    record = CODEC.message_record(MESSAGE)
    assert (record.message_id, record.role, record.position) == ("m1", "tool", 0)
    assert record.created_at_us == to_microseconds(NOON)
    stored = attrs.evolve(record, position=5)
    assert CODEC.message(stored, backend="test", session_id="s") == MESSAGE


def test_empty_metadata_takes_no_room() -> None:
    bare = attrs.evolve(MESSAGE, metadata={}, position=0)
    record = CODEC.message_record(bare)
    assert document_of(record.payload) == {"v": 2, "content": [{"text": "hi"}, -0.0]}
    assert CODEC.message(record, backend="test", session_id="s") == bare


@pytest.mark.parametrize("missing", ["id", "timestamp"])
def test_a_message_without_id_or_time_is_not_stored(missing: str) -> None:
    without: dict[str, Any] = {missing: None}
    with pytest.raises(ValueError, match="needs an id and a timestamp"):
        CODEC.message_record(attrs.evolve(MESSAGE, **without))


@pytest.mark.parametrize("expires_at", [LATER, None])
def test_a_memory_comes_back_equal_from_its_record(expires_at: datetime | None) -> None:
    entry = attrs.evolve(ENTRY, expires_at=expires_at)
    record = CODEC.memory_record(SCOPE, entry, decay_factor=0.1)
    assert (record.scope, record.key) == (SCOPE, "a.b")
    assert record.retention == retention(0.25, LATER, decay_factor=0.1)
    stored = attrs.evolve(record, created_at_us=to_microseconds(NOON), updated_at_us=to_microseconds(LATER))
    assert CODEC.memory(stored, backend="test") == entry


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"v": 3, "personality": {}},
        {"v": 2, "personality": {}},
        {"v": 2, "personality": {}, "provider": None, "config": {"max_history": 0}, "metadata": {}},
        {"v": 2, "personality": {}, "provider": None, "config": {"unknown": 0}, "metadata": {}},
        {"v": 2, "personality": {}, "provider": None, "config": None, "metadata": {}},
        {"personality": {}, "provider_config": {"name": ""}},
    ],
)
def test_document_that_is_no_session_is_corrupt(document: Any) -> None:
    record = attrs.evolve(CODEC.session_record(SESSION), payload=json_payload(document))
    with pytest.raises(CorruptRecordError, match="session 's' is damaged") as caught:
        CODEC.session(record, backend="test")
    assert caught.value.backend == "test"


def test_a_session_record_without_payload_is_damage() -> None:
    record = attrs.evolve(CODEC.session_record(SESSION), payload=None)
    with pytest.raises(CorruptRecordError, match="it has no payload"):
        CODEC.session(record, backend="test")


@pytest.mark.parametrize("change", [{"role": "robot"}, {"payload": json_payload({"v": 2})}])
def test_document_that_is_no_message_is_corrupt(change: dict[str, Any]) -> None:
    record = attrs.evolve(CODEC.message_record(MESSAGE), position=7, **change)
    with pytest.raises(CorruptRecordError, match="message 7 of session 's' is damaged"):
        CODEC.message(record, backend="test", session_id="s")


@pytest.mark.parametrize(
    "document",
    [
        {"v": 2, "value": 1, "importance": 2, "category": "fact"},
        {"v": 2, "value": 1, "importance": 1, "category": "mood"},
        {"v": 2, "value": 1},
    ],
)
def test_a_record_that_is_no_memory_is_damage_and_names_its_key(document: Any) -> None:
    record = attrs.evolve(CODEC.memory_record(SCOPE, ENTRY, decay_factor=0.1), payload=json_payload(document))
    with pytest.raises(CorruptRecordError, match=r"memory 'a\.b' of session 's' is damaged"):
        CODEC.memory(record, backend="test")


def test_a_payload_of_another_make_keeps_its_finer_error() -> None:
    record = attrs.evolve(CODEC.message_record(MESSAGE), payload=Payload("json+zstd", b""))
    with pytest.raises(UnreadablePayloadError, match="switch on the wrapper"):
        CODEC.message(record, backend="test", session_id="s")


def test_settings_are_taken_as_they_are_or_made_of_a_mapping() -> None:
    config = MemoryConfig(max_entries=5)
    assert CODEC.settings(MemoryConfig, config) is config
    assert CODEC.settings(MemoryConfig, {"max_entries": 5}) == config
    with pytest.raises(ValidationError, match="MemoryConfig must be"):
        CODEC.settings(MemoryConfig, "config")
