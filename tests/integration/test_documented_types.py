"""The documented types: names, order of fields, defaults, conversion to and from dictionaries."""

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.session import MongoDBStorage, PostgreSQLStorage, RedisStorage, SessionStorage
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.types.session import (
    Conversation,
    MemoryConfig,
    Message,
    MessageRole,
    SessionConfig,
    SessionType,
    StorageConfig,
    StorageType,
)
from luminoracore_sdk.utils import exceptions
from luminoracore_sdk.utils.exceptions import (
    ConfigurationError,
    LuminoraCoreSDKError,
    ValidationError,
)

AT = datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC)


def defaults(kind: type[Any]) -> dict[str, Any]:
    made = kind()
    return {field.name: getattr(made, field.name) for field in attrs.fields(kind) if not field.kw_only}


def test_storage_types_have_the_documented_values() -> None:
    assert {kind.name: kind.value for kind in StorageType} == {
        "MEMORY": "memory",
        "JSON": "json",
        "SQLITE": "sqlite",
        "REDIS": "redis",
        "POSTGRES": "postgres",
        "MONGODB": "mongodb",
    }
    assert StorageType.FILE is StorageType("file") is StorageType.JSON
    assert [str(StorageType.FILE), StorageType("json") == "json"] == ["json", True]


def test_storage_config_has_the_documented_fields_and_defaults() -> None:
    assert defaults(StorageConfig) == {
        "storage_type": StorageType.MEMORY,
        "connection_string": None,
        "table_name": None,
        "auto_create_tables": True,
        "encryption_enabled": False,
        "compression_enabled": False,
        "redis_db": 0,
        "redis_prefix": "luminoracore:",
        "file_path": None,
        "file_format": "json",
    }


def test_memory_config_has_the_documented_fields_and_defaults() -> None:
    assert defaults(MemoryConfig) == {
        "enabled": True,
        "max_entries": 1000,
        "decay_factor": 0.1,
        "importance_threshold": 0.5,
        "ttl": None,
        "track_topics": True,
        "track_preferences": True,
        "track_context": True,
        "track_emotions": False,
    }


def test_session_config_has_the_documented_fields_and_defaults() -> None:
    assert defaults(SessionConfig) == {
        "session_id": None,
        "personality": None,
        "provider_config": None,
        "session_type": SessionType.CHAT,
        "max_history": 100,
        "timeout": 300,
        "generation_params": {},
        "max_history_length": 50,
        "context_window_size": 4000,
        "include_context_in_prompt": True,
        "memory_enabled": True,
        "memory_decay_factor": None,
        "storage": None,
        "auto_save": True,
        "auto_save_interval": 60,
    }


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (MemoryConfig, "enabled", 1),
        (MemoryConfig, "max_entries", 0),
        (MemoryConfig, "decay_factor", 1.1),
        (MemoryConfig, "importance_threshold", -0.1),
        (MemoryConfig, "ttl", 0),
        (SessionConfig, "session_type", "no-such"),
        (SessionConfig, "max_history", 0),
        (SessionConfig, "timeout", 0),
        (SessionConfig, "generation_params", []),
        (SessionConfig, "max_history_length", -1),
        (SessionConfig, "context_window_size", 0),
        (SessionConfig, "include_context_in_prompt", "yes"),
        (SessionConfig, "memory_decay_factor", 2),
        (SessionConfig, "storage", StorageConfig()),
        (SessionConfig, "auto_save", None),
        (SessionConfig, "auto_save_interval", -1),
        (SessionConfig, "ttl", float("nan")),
        (SessionConfig, "user_id", ""),
        (SessionConfig, "tags", ["ok", ""]),
        (SessionConfig, "session_id", 5),
    ],
)
def test_an_unsupported_field_is_refused_by_name(kind: Any, field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field.rstrip("s").replace("_id", ".id")):
        kind(**{field: value})


def test_a_message_goes_to_a_dictionary_and_back() -> None:
    message = Message("tool", {"k": None}, AT, {"tool_call_id": "1"}, id="m", position=3)
    assert message.to_dict() == {
        "role": "tool",
        "content": {"k": None},
        "timestamp": "2024-05-06T07:08:09.000010+00:00",
        "metadata": {"tool_call_id": "1"},
        "id": "m",
        "position": 3,
    }
    assert Message.from_dict(message.to_dict()) == message
    assert Message(MessageRole.USER, "x").to_dict() == {
        "role": "user",
        "content": "x",
        "timestamp": None,
        "metadata": {},
    }
    assert [role.value for role in MessageRole] == ["user", "assistant", "system", "tool"]


def test_a_conversation_goes_to_a_dictionary_and_back() -> None:
    made = Conversation("s", [Message("user", "x", AT)], {"k": 1}, created_at=AT, updated_at=AT)
    assert Conversation.from_dict(made.to_dict()) == made
    assert made.to_dict()["created_at"] == "2024-05-06T07:08:09.000010+00:00"
    with pytest.raises(ValidationError, match="needs the field 'session_id'"):
        Conversation.from_dict({})


def test_provider_types_have_the_documented_field_order() -> None:
    config = ProviderConfig("openai", "sk-1", "gpt", "https://host/v1", {"timeout": 3})
    assert attrs.astuple(config) == ("openai", "sk-1", "gpt", "https://host/v1", {"timeout": 3})
    assert attrs.astuple(ProviderConfig("echo")) == ("echo", None, None, None, {})
    response = ChatResponse("c", "assistant", "stop", {"total_tokens": 1}, "m", {"id": "x"})
    assert attrs.astuple(response)[:6] == ("c", "assistant", "stop", {"total_tokens": 1}, "m", {"id": "x"})
    assert attrs.astuple(ChatResponse("c"))[:6] == ("c", "assistant", None, None, None, {})
    assert ChatMessage("user", "hello").to_dict() == {"role": "user", "content": "hello"}


def test_errors_have_the_documented_bases() -> None:
    error = LuminoraCoreSDKError("text", "CODE", {"fact": 1})
    assert (str(error), error.error_code, error.details) == ("text", "CODE", {"fact": 1})
    assert (LuminoraCoreSDKError("text").error_code, LuminoraCoreSDKError("text").details) == (
        "LuminoraCoreSDKError",
        {},
    )
    documented = (
        "SessionError ProviderError StorageError ConfigurationError ValidationError "
        "AuthenticationError RateLimitError NetworkError"
    )
    for name in documented.split():
        assert issubclass(getattr(exceptions, name), LuminoraCoreSDKError)


@pytest.mark.parametrize("kind", [RedisStorage, PostgreSQLStorage, MongoDBStorage])
def test_a_server_backend_refuses_a_foreign_url(kind: Any) -> None:
    with pytest.raises(ConfigurationError):
        kind("somewhere://")


async def test_a_storage_has_the_documented_calls(storage: SessionStorage) -> None:
    document = {"k": 1, "$set": {"a.b": [2**70, -0.0, "\x00\ud800"]}, "": {}}
    assert await storage.save_session("s/../1", document) is True
    assert repr(await storage.load_session("s/../1")) == repr(document)
    assert await storage.list_sessions() == ["s/../1"]
    assert [await storage.session_exists(key) for key in ("s/../1", "nobody")] == [True, False]
    assert await storage.load_session("nobody") is None
    assert await storage.delete_session("nobody") is False
    assert await storage.delete_session("s/../1") is True
    assert await storage.list_sessions() == []
