from typing import Any

import pytest

from luminoracore_sdk.domain.errors import InvalidIdError, ValidationError
from luminoracore_sdk.domain.memory import MemoryCategory
from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig, SessionType
from luminoracore_sdk.domain.values import STORE_OWNER


@pytest.mark.parametrize("value", [0, -1, 1.5, "5", True, None])
def test_an_invalid_limit_of_a_memory_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="max_entries must be a whole number of at least 1"):
        MemoryConfig(max_entries=value)


@pytest.mark.parametrize("field", ["decay_factor", "importance_threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5"])
def test_an_invalid_share_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=f"{field} must be a number from 0 to 1"):
        MemoryConfig(**{field: value})


@pytest.mark.parametrize("value", [0, -5, 1e11, float("inf"), float("nan"), True, "60"])
def test_an_invalid_ttl_of_a_memory_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="ttl must be a number of seconds above 0"):
        MemoryConfig(ttl=value)


@pytest.mark.parametrize("field", ["enabled", "track_topics", "track_preferences", "track_context", "track_emotions"])
@pytest.mark.parametrize("value", [1, "yes", None])
def test_an_invalid_switch_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=f"{field} must be True or False"):
        MemoryConfig(**{field: value})


def test_categories_are_tracked_by_their_switches() -> None:
    assert [category.value for category in MemoryCategory if MemoryConfig().tracks(category)] == [
        "fact",
        "topic",
        "preference",
        "context",
    ]
    none = MemoryConfig(track_topics=False, track_preferences=False, track_context=False)
    assert [category.value for category in MemoryCategory if none.tracks(category)] == ["fact"]
    assert MemoryConfig(track_emotions=True).tracks(MemoryCategory.EMOTION) is True


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_history", 0),
        ("max_history_length", -1),
        ("context_window_size", 0),
        ("timeout", 0),
        ("auto_save_interval", 0),
        ("ttl", 0),
        ("ttl", -1),
        ("memory_decay_factor", 2),
        ("include_context_in_prompt", "yes"),
        ("memory_enabled", 1),
        ("auto_save", None),
        ("generation_params", None),
        ("generation_params", [1]),
        ("personality", "Ada"),
        ("provider_config", ["echo"]),
        ("session_type", "monologue"),
        ("session_type", None),
    ],
)
def test_an_invalid_setting_of_a_session_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        SessionConfig(**{field: value})


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"session_id": ""}, "session id"),
        ({"session_id": "x" * 513}, "session id"),
        ({"user_id": "a\0b"}, "user id"),
        ({"tags": ["fine", ""]}, "tag"),
    ],
)
def test_invalid_ids_of_a_session_are_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidIdError, match=what):
        SessionConfig(**fields)


def test_the_reserved_user_of_the_store_is_refused() -> None:
    with pytest.raises(ValidationError, match="is reserved"):
        SessionConfig(user_id=STORE_OWNER)


def test_an_unknown_session_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="stateful, stateless, chat"):
        SessionConfig(session_type="other")


def test_a_storage_in_a_session_config_is_refused() -> None:
    with pytest.raises(ValidationError, match="SessionManager"):
        SessionConfig(storage=object())
    assert SessionConfig(storage=None).storage is None


def test_the_defaults_are_the_documented_ones() -> None:
    session, memory = SessionConfig(), MemoryConfig()
    assert (session.max_history, session.timeout, session.max_history_length) == (100, 300, 50)
    assert (session.context_window_size, session.auto_save, session.auto_save_interval) == (4000, True, 60)
    assert session.session_type is SessionType.CHAT
    assert (memory.enabled, memory.max_entries, memory.decay_factor) == (True, 1000, 0.1)
    assert (memory.importance_threshold, memory.ttl, memory.track_emotions) == (0.5, None, False)


@pytest.mark.parametrize(
    "params", [{"api_key": "k"}, {"extra_headers": {"Authorization": "k"}}, {"list": [{"accessToken": "k"}]}]
)
def test_a_secret_in_generation_params_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="denotes a secret; pass it in provider_config"):
        SessionConfig(generation_params=params)


@pytest.mark.parametrize(
    ("agent", "user_id"), [("\u65e5" * 56, None), ("a" * 480, "luminora:t=tenant-of-some-name/u=u")]
)
def test_an_agent_whose_memories_could_not_be_kept_is_refused(agent: str, user_id: str | None) -> None:
    with pytest.raises(ValidationError, match="id of tenant, app, user and agent together"):
        SessionConfig(agent=agent, user_id=user_id)
    assert SessionConfig(agent=agent[:50], user_id=user_id).agent == agent[:50]
