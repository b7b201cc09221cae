from datetime import UTC, datetime
from typing import Any

import pytest

from luminoracore_sdk.domain.conversation import Conversation
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.message import Message

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
SAID = [Message("user", "a", NOON), Message("assistant", "b", LATER)]


def conversation(messages: list[Message] | None = None) -> Conversation:
    return Conversation("s", SAID if messages is None else messages, created_at=NOON, updated_at=LATER)


def test_a_conversation_is_a_sequence_and_always_true() -> None:
    assert len(conversation()) == 2
    assert list(conversation()) == SAID
    assert bool(conversation([])) is True


@pytest.mark.parametrize(("count", "contents"), [(0, []), (-1, []), (1, ["b"]), (9, ["a", "b"])])
def test_recent_messages_are_the_newest_oldest_first(count: int, contents: list[str]) -> None:
    assert [message.content for message in conversation().get_recent_messages(count)] == contents


def test_a_conversation_survives_its_dictionary() -> None:
    data = conversation().to_dict()
    assert data["created_at"] == "2026-01-01T12:00:00+00:00"
    assert [message["content"] for message in data["messages"]] == ["a", "b"]
    assert Conversation.from_dict(data) == conversation()


def test_messages_and_metadata_may_be_missing_from_a_dictionary() -> None:
    data = {"session_id": "s", "created_at": NOON, "updated_at": LATER.isoformat()}
    assert Conversation.from_dict(data) == conversation([])


@pytest.mark.parametrize("missing", ["session_id", "created_at", "updated_at"])
def test_a_dictionary_without_a_needed_field_is_refused(missing: str) -> None:
    data: dict[str, Any] = conversation().to_dict()
    del data[missing]
    with pytest.raises(ValidationError, match=missing):
        Conversation.from_dict(data)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="naive"):
        Conversation("s", created_at=datetime(2026, 1, 1), updated_at=NOON)  # noqa: DTZ001


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"unknown": 1},
        {"messages": 5},
        {"messages": None},
        {"metadata": []},
        {"session_id": 5},
        {"session_id": ""},
        {"created_at": "yesterday"},
    ],
    ids=repr,
)
def test_an_invalid_conversation_is_refused(data: Any) -> None:
    whole = {"session_id": "s", "created_at": "2026-01-01T00:00:00+00:00", "updated_at": "2026-01-01T00:00:00+00:00"}
    with pytest.raises(ValidationError):
        Conversation.from_dict({**whole, **data} if isinstance(data, dict) else data)
