from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from luminoracore_sdk.domain.errors import InvalidIdError, ValidationError
from luminoracore_sdk.domain.message import Message, MessageRole, at_position, message_text, stamped, stored_message

NOON = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)


def test_a_role_is_a_string() -> None:
    assert Message("user", "hi").role is MessageRole.USER
    assert Message(MessageRole.TOOL, "hi").role == "tool"


@pytest.mark.parametrize("role", ["robot", "User", "", None, 5, ["user"]])
def test_an_unknown_role_is_refused(role: Any) -> None:
    with pytest.raises(ValidationError, match="user, assistant, system, tool"):
        Message(role, "hi")


def test_a_timestamp_is_kept_in_utc_to_the_microsecond() -> None:
    assert Message("user", "hi").timestamp is None
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-7)))
    kept = Message("user", "hi", elsewhere).timestamp
    assert kept is not None
    assert (kept, kept.tzinfo) == (NOON, UTC)


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp": datetime(2026, 1, 1)},  # noqa: DTZ001  # that it is naive is the point
        {"timestamp": "2026-01-01T00:00:00Z"},
        {"metadata": None},
        {"metadata": [1]},
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Message("user", "hi", **fields)


@pytest.mark.parametrize("message_id", ["", "a\0", 5])
def test_a_wrong_id_is_refused(message_id: Any) -> None:
    with pytest.raises(InvalidIdError, match="message id"):
        Message("user", "hi", id=message_id)


def test_a_message_survives_its_dictionary() -> None:
    whole = Message("assistant", [{"text": "hi"}], NOON, {"k": 1}, id="m1", position=3)
    assert whole.to_dict() == {
        "role": "assistant",
        "content": [{"text": "hi"}],
        "timestamp": "2026-01-01T12:00:00.000001+00:00",
        "metadata": {"k": 1},
        "id": "m1",
        "position": 3,
    }
    assert Message.from_dict(whole.to_dict()) == whole


def test_the_dictionary_of_a_new_message_has_no_id() -> None:
    bare = Message("user", "hi")
    assert bare.to_dict() == {"role": "user", "content": "hi", "timestamp": None, "metadata": {}}
    assert Message.from_dict(bare.to_dict()) == bare
    assert Message.from_dict({"role": "user", "content": "hi", "metadata": None}) == bare


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("hi", "must be a JSON object, not str"),
        ({"role": "user"}, "needs the field 'content'"),
        ({"content": "hi"}, "needs the field 'role'"),
        ({"role": "user", "content": "hi", "colour": 1}, "has no field 'colour'"),
        ({"role": "user", "content": "hi", "timestamp": "soon"}, "ISO 8601"),
        ({"role": "user", "content": "hi", "timestamp": ""}, "ISO 8601"),
    ],
)
def test_an_invalid_message_is_refused(data: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Message.from_dict(data)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hi", "hi"),
        ([{"type": "text", "text": "a"}, "b", {"image": 1}, {"text": 5}, 7], "a\nb"),
        ({"text": "hi"}, ""),
        (None, ""),
    ],
)
def test_the_text_of_a_message_is_its_content_or_its_text_parts(content: Any, text: str) -> None:
    assert message_text(Message("user", content)) == text


WHOLE = Message("assistant", ["hi"], NOON, {"k": 1}, id="m1", position=3)


def test_a_stamped_message_has_a_new_id_and_time() -> None:
    later = NOON + timedelta(hours=1)
    expected = Message("assistant", ["hi"], later, {"k": 1}, id="m2")
    assert stamped(WHOLE, id="m2", timestamp=later.astimezone(timezone(timedelta(hours=-7)))) == expected
    assert Message("assistant", ["hi"], NOON, {"k": 1}, id="m1", position=3) == WHOLE


@pytest.mark.parametrize("facts", [{"id": ""}, {"timestamp": datetime(2026, 1, 1)}])  # noqa: DTZ001
def test_a_wrong_stamp_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stamped(WHOLE, **{"id": "m2", "timestamp": NOON, **facts})


def test_a_position_changes_nothing_else() -> None:
    assert at_position(WHOLE, 8) == Message("assistant", ["hi"], NOON, {"k": 1}, id="m1", position=8)
    assert at_position(Message("user", "hi"), 1) == Message("user", "hi", position=1)


@attrs.frozen
class Rated(Message):
    stars: int = attrs.field(default=0, kw_only=True)


def test_a_message_of_a_subclass_keeps_its_own_fields() -> None:
    rated = Rated("user", "hi", stars=5)
    assert at_position(rated, 2) == Rated("user", "hi", stars=5, position=2)
    assert stamped(rated, id="m", timestamp=NOON) == Rated("user", "hi", NOON, id="m", stars=5)


def test_a_stored_message_equals_the_original() -> None:
    read = stored_message("assistant", ["hi"], NOON, {"k": 1}, "m1", 3)
    assert read == WHOLE
    assert read.role is MessageRole.ASSISTANT


@pytest.mark.parametrize(("role", "metadata", "message_id"), [("robot", {}, "m"), ("user", [1], "m"), ("user", {}, "")])
def test_a_stored_message_with_a_wrong_field_is_refused(role: str, metadata: Any, message_id: str) -> None:
    with pytest.raises(ValidationError):
        stored_message(role, "hi", NOON, metadata, message_id, 1)
