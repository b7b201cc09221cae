"""Records as Redis keeps them."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.storage.redis.keys import stamp
from luminoracore_sdk.adapters.storage.redis.records import (
    HEADER,
    TURN_HEADER,
    WHOLE_HEADER,
    added_words,
    index_record,
    light_record,
    memory_record,
    memory_value,
    message_element,
    message_record,
    number_or_none,
    session_record,
    summary_texts,
    text_values,
)
from luminoracore_sdk.application.ports.records import (
    HistoryChange,
    Lease,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
    SessionSummary,
)
from luminoracore_sdk.domain.errors import CorruptRecordError, ValidationError
from luminoracore_sdk.testing import records as builders

_HEADER = (stamp(1), b"2", b"", b"3", b"4", b"", b"", b"json", b"{}")
_SCOPE = MemoryScope("user", "u")
_MEMORY = b"\0".join((stamp(1), stamp(2), b"", b"0.5", b"json", b"a\0b"))


@given(
    data=st.binary(),
    message_id=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    time=st.integers(-(2**62), 2**62),
)
def test_a_message_comes_back_equal(data: bytes, message_id: str, time: int) -> None:
    message = MessageRecord(message_id=message_id, role="user", created_at_us=time, payload=Payload("json+x", data))
    found = message_record("s", 7, message_element(message))
    assert found == attrs.evolve(message, position=7)


@given(data=st.binary(), retention=st.floats(allow_nan=False), expires=st.none() | st.integers(-5, 2**62))
def test_a_memory_comes_back_equal(data: bytes, retention: float, expires: int | None) -> None:
    record = attrs.evolve(
        builders.memory_record("k", kind="user", owner="u", retention=retention, expires_at_us=expires),
        payload=Payload("x", data),
        created_at_us=-3,
        updated_at_us=4,
        version=7,
    )
    *places, payload = memory_value(record)
    value = b"\0".join((stamp(-3), stamp(4), *places, b"7", payload))
    assert memory_record(_SCOPE, b"k", value) == record


def test_a_header_is_read() -> None:
    record = SessionRecord(
        session_id="s",
        payload=Payload("json", b"{}"),
        created_at_us=1,
        updated_at_us=2,
        version=3,
        last_position=4,
    )
    assert session_record("s", TURN_HEADER, _HEADER) == record
    full = (stamp(2**62), b"2", b"5", b"3", b"4", "ü".encode(), "b\0é".encode())
    assert session_record("s", HEADER, full) == attrs.evolve(
        record, payload=None, created_at_us=2**62, ttl_us=5, user_id="ü", tags=("b", "é")
    )
    assert session_record("s", TURN_HEADER, [None] * 9) is None


_BRIEFS = st.none() | st.builds(Payload, st.just("json+x"), st.binary())
_NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
_MESSAGES = st.builds(
    MessageRecord,
    message_id=st.just("m"),
    role=st.sampled_from(("user", "assistant", "tool")),
    created_at_us=st.just(1),
    payload=st.just(Payload("json", b"1")),
    brief=_BRIEFS,
    adds=st.dictionaries(_NAMES, st.integers(-2, 2) | st.integers(-(2**48), 2**48), max_size=3),
)


@given(messages=st.lists(_MESSAGES, min_size=1, max_size=5), card=_BRIEFS)
def test_what_is_listed_of_a_header_comes_back_equal(messages: list[MessageRecord], card: Payload | None) -> None:
    summary = SessionSummary().appended(messages, 1)
    record = SessionRecord(
        session_id="s",
        payload=Payload("json", b"{}"),
        card=card,
        created_at_us=1,
        updated_at_us=2,
        version=3,
        last_position=4,
        summary=summary,
    )
    texts = text_values(record.texts)
    values = (*_HEADER[:7], b"3 u5 c0", texts[0], *summary_texts(summary), *_HEADER[7:], b"7\x0012\0h")
    changes = (HistoryChange(2, "updated", 5), HistoryChange(3, "cut", 0))
    found = session_record("s", WHOLE_HEADER, values)
    assert found is not None
    assert found == record
    assert (found.changes, found.lease) == (changes, Lease(fence=7, holder="h", until_us=12))
    assert found.last_change == 3
    assert added_words(messages) == summary_texts(summary) == (summary_texts(summary)[0], *texts[1:])


@pytest.mark.parametrize("place", range(9))
@pytest.mark.parametrize("value", [None, b"\xff"])
def test_a_damaged_header_is_named(place: int, value: bytes | None) -> None:
    values: list[bytes | None] = [*_HEADER]
    values[place] = value
    if place == 8 and value is not None:
        return  # a payload may be any bytes
    with pytest.raises(CorruptRecordError) as caught:
        session_record("s", TURN_HEADER, values)
    assert caught.value.key == "session 's'"


@pytest.mark.parametrize("element", [b"", b"a\0user\0x\0json\0{}", b"a\0user\0005\0json", b"\xff\0user\0005\0j\0"])
def test_a_damaged_message_is_named(element: bytes) -> None:
    with pytest.raises(CorruptRecordError) as caught:
        message_record("s", 3, element)
    assert caught.value.key == "message 3 of session 's'"


@pytest.mark.parametrize(
    "element", [b"", b"a\0user\0005", b"a\0user\0x\0", b"a\0user\0005\0no NUL", b"\xff\0user\0005\0"]
)
def test_a_damaged_index_is_named(element: bytes) -> None:
    with pytest.raises(CorruptRecordError) as caught:
        index_record("s", 3, element)
    assert caught.value.key == "the index of message 3 of session 's'"


@pytest.mark.parametrize(
    "value",
    [b"", _MEMORY.replace(b"0.5", b"x"), _MEMORY.replace(stamp(1), b"q"), _MEMORY.rpartition(b"json")[0]],
)
def test_a_damaged_memory_is_named(value: bytes) -> None:
    with pytest.raises(CorruptRecordError) as caught:
        memory_record(_SCOPE, b"k", value)
    assert caught.value.key == "memory b'k' of user 'u'"


def test_a_light_header_is_read() -> None:
    created, updated, ttl, version, last, user, tags, *_ = (stamp(2**62), b"2", b"5", b"3", b"4", b"u", b"a\0b")
    light = light_record("s", b"\0".join((created, updated, ttl, version, last, user, b"7", tags)))
    assert light == SessionRecord(
        session_id="s",
        payload=None,
        created_at_us=2**62,
        updated_at_us=2,
        ttl_us=5,
        version=3,
        last_position=4,
        user_id="u",
        tags=("a", "b"),
    )
    assert light.last_change == 7
    for value in (b"", b"\0".join((created, updated, ttl, version, last, user, b"", tags)), b"x" + b"\0" * 7):
        with pytest.raises(CorruptRecordError, match="session 's'"):
            light_record("s", value)


def test_an_encoding_with_nul_is_refused() -> None:
    message = builders.message_record("m")
    with pytest.raises(ValidationError):
        message_element(attrs.evolve(message, payload=Payload("a\0b", b"")))


@pytest.mark.parametrize(("value", "text"), [(None, b""), (0, b"0"), (-(2**62), b"-4611686018427387904")])
def test_a_number_is_its_text(value: int | None, text: bytes) -> None:
    assert number_or_none(value) == text
