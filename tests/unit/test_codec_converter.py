from typing import Any

import pytest

from luminoracore_sdk.adapters.codec.converter import settings_from_mapping, settings_to_mapping
from luminoracore_sdk.domain.errors import InvalidIdError, ValidationError
from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig, SessionType


def test_a_mapping_becomes_checked_settings() -> None:
    config = settings_from_mapping(
        SessionConfig,
        {"session_type": "stateless", "timeout": 5, "tags": ["a"], "generation_params": {"top_p": 0.5}},
    )
    assert (config.session_type, config.timeout, config.tags) == (SessionType.STATELESS, 5, ("a",))
    assert config.generation_params == {"top_p": 0.5}
    assert settings_from_mapping(MemoryConfig, {"max_entries": 5}) == MemoryConfig(max_entries=5)


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (SessionConfig, None, "SessionConfig must be a SessionConfig or a dict, not NoneType"),
        (SessionConfig, [("timeout", 5)], "not list"),
        (SessionConfig, {"time_out": 5}, "no field 'time_out'; its fields are: session_id, personality"),
        (SessionConfig, {5: 5}, "no field '5'"),
        (SessionConfig, {"timeout": "5"}, "timeout must be a number of seconds"),
        (SessionConfig, {"tags": 5}, "tags must be a list of strings, not int"),
        (MemoryConfig, {"max_entries": "5"}, "max_entries must be a whole number"),
        (MemoryConfig, {"enabled": "yes"}, "enabled must be True or False"),
        (MemoryConfig, {"decay_factor": "0.1"}, "decay_factor must be a number from 0 to 1"),
    ],
)
def test_what_is_no_mapping_of_settings_is_refused(kind: type[Any], data: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        settings_from_mapping(kind, data)


def test_a_finer_error_of_a_field_is_kept() -> None:
    with pytest.raises(InvalidIdError, match="user id"):
        settings_from_mapping(SessionConfig, {"user_id": ""})


def test_only_changed_settings_are_written() -> None:
    settings: dict[str, Any] = {
        "session_id": "s",
        "personality": {"name": "Ada"},
        "provider_config": {"name": "echo", "api_key": "sk-secret"},
        "session_type": SessionType.STATEFUL,
        "max_history": 7,
        "user_id": "u",
        "tags": ("t",),
        "ttl": 60,
    }
    assert settings_to_mapping(SessionConfig(**settings)) == {"session_type": "stateful", "max_history": 7}
    assert settings_to_mapping(SessionConfig()) == {}


def test_what_is_written_is_a_copy() -> None:
    params = {"stop": ["a"]}
    written = settings_to_mapping(SessionConfig(generation_params=params))
    params["stop"].append("b")
    assert written == {"generation_params": {"stop": ["a"]}}
