from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.domain.errors import InvalidIdError, ValidationError
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionConfig

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS: dict[str, Any] = {"session_id": "s", "tags": ["t"], "user_id": "u"}
SESSION = Session(
    session_id="s",
    personality={"name": "Ada", "traits": ["exact"]},
    provider={"name": "echo", "model": "m", "base_url": None, "extra": {}},
    config=SessionConfig(**SETTINGS),
    created_at=NOON,
    last_activity=NOON,
    message_count=2,
    version=3,
    metadata={"k": 1},
)


@pytest.mark.parametrize("session_id", ["", "a\0", 5])
def test_an_invalid_id_is_refused(session_id: Any) -> None:
    with pytest.raises(InvalidIdError, match="session id"):
        attrs.evolve(SESSION, session_id=session_id)


@pytest.mark.parametrize("field", ["created_at", "last_activity"])
def test_a_naive_time_is_refused(field: str) -> None:
    wrong: dict[str, Any] = {field: datetime(2026, 1, 1)}  # noqa: DTZ001
    with pytest.raises(ValidationError, match="naive"):
        attrs.evolve(SESSION, **wrong)


def test_its_dictionary_is_json_and_its_own() -> None:
    data = SESSION.to_dict()
    assert (data["session_id"], data["message_count"], data["version"]) == ("s", 2, 3)
    assert data["created_at"] == data["last_activity"] == "2026-01-01T12:00:00+00:00"
    assert data["provider_config"] == {"name": "echo", "model": "m", "base_url": None, "extra": {}}
    assert (data["config"]["session_type"], data["config"]["tags"]) == ("chat", ["t"])
    assert data["config"].keys().isdisjoint({"session_id", "personality", "provider_config", "storage"})
    data["personality"]["traits"].append("changed")
    assert SESSION.personality["traits"] == ["exact"]


def test_its_summary_has_the_documented_keys() -> None:
    assert SESSION.info() == {
        "session_id": "s",
        "personality": "Ada",
        "provider": "echo",
        "model": "m",
        "created_at": NOON,
        "last_activity": NOON,
        "message_count": 2,
    }


def test_a_session_without_a_provider_has_none_in_its_summary() -> None:
    info = attrs.evolve(SESSION, provider=None).info()
    assert (info["provider"], info["model"]) == (None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"personality": "s"},
        {"metadata": None},
        {"provider": 5},
        {"provider": {"name": "a"}},
        {"provider": {"name": "a", "model": None, "base_url": None, "extra": {}, "api_key": "k"}},
    ],
    ids=repr,
)
def test_a_session_of_wrong_parts_is_refused(fields: dict[str, Any]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    parts: dict[str, Any] = {
        "session_id": "s",
        "personality": {},
        "provider": None,
        "created_at": now,
        "last_activity": now,
    }
    with pytest.raises(ValidationError):
        Session(**{**parts, **fields})
