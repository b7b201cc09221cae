"""The single JSON file of the older SDK: an object of sessions by id, in either of its layouts."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from luminoracore_sdk.application.exchange.fields import field_of, objects_of, placed
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import ProviderError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.values import check_id

__all__ = ["OlderSession", "is_older_store", "read_older_session"]

_SETTINGS = ("max_history", "timeout")
_MEMORIES = ("memory", "memories")
_READ = frozenset({"config", "conversation", "created_at", "personality", "provider_config", "session_id"})
_MESSAGE_FIELDS = frozenset({"role", "content", "timestamp", "metadata"})


@attrs.frozen(kw_only=True)
class OlderSession:
    """The content of one entry of the older file.

    Attributes:
        personality: The personality, unchanged.
        provider: The provider without its key; None: the entry names none.
        settings: The settings that still exist.
        created_at: The time of creation, aware; a time without a zone is read as UTC.
        messages: The messages, oldest first, without ids.
        memories: Plain values by key.
        rest: Everything else of the entry, except fields whose names denote secrets.
    """

    personality: JSONObject
    provider: JSONObject | None
    settings: JSONObject
    created_at: datetime
    messages: list[Message]
    memories: JSONObject
    rest: JSONObject


def is_older_store(data: object) -> bool:
    """Return whether this is the older SDK's file: an object of objects, or one that contains a session.

    An export of this package has ``format``, an OpenAI chat a list ``messages``; they are not.
    """
    if not isinstance(data, dict) or not data:
        return False
    if isinstance(data.get("format"), str) or isinstance(data.get("messages"), list):
        return False
    entries = [entry for entry in data.values() if isinstance(entry, dict)]
    return len(entries) == len(data) or any(entry.keys() & {"conversation", "messages"} for entry in entries)


def read_older_session(data: JSONValue, now: datetime) -> OlderSession:
    """Parse one entry.

    Args:
        data: The entry.
        now: The time of creation of an entry that has none.

    Raises:
        ValidationError: The entry is invalid.
    """
    if not isinstance(data, dict):
        raise ValidationError(f"is of type {type(data).__name__}, not an object")
    config = field_of(data, "config", dict, {})
    created = _time(data.get("created_at") or now)
    conversation = _conversation(data)
    memories = _memories(data)
    return OlderSession(
        personality=field_of(data, "personality", dict, {}),
        provider=_provider(config.get("provider_config") or data.get("provider_config")),
        settings={name: config[name] for name in _SETTINGS if name in config},
        created_at=created,
        messages=[_message(index, item, created) for index, item in enumerate(objects_of(conversation, "messages"))],
        memories=memories,
        rest=_rest(data, config, conversation, memories),
    )


def _conversation(data: JSONObject) -> JSONObject:
    if "conversation" in data:
        conversation: JSONObject = field_of(data, "conversation", dict)
        if "messages" not in conversation:
            raise ValidationError("its 'conversation' has no 'messages'")
        return conversation
    if "messages" in data:
        return {"messages": data["messages"]}
    raise ValidationError("has no 'conversation' (nor 'messages')")


def _message(index: int, item: JSONObject, created: datetime) -> Message:
    with placed(f"messages[{index}]"):
        others = {name: value for name, value in item.items() if name not in _MESSAGE_FIELDS}
        return Message(
            role=item.get("role"),
            content=item.get("content"),
            timestamp=_time(item.get("timestamp") or created),
            metadata={**others, **field_of(item, "metadata", dict, {})},
        )


def _memories(data: JSONObject) -> JSONObject:
    """Return the memories; an object that does not contain plain values only belongs to ``rest``."""
    found: JSONObject = {}
    for name in _MEMORIES:
        value = data.get(name)
        if isinstance(value, dict) and not any(isinstance(one, dict | list) for one in value.values()):
            found |= {check_id(key, "memory key"): one for key, one in value.items()}
    return found


def _provider(config: Any) -> JSONObject | None:
    try:
        return ProviderConfig.from_dict(config).public() if config else None
    except ProviderError as exc:
        raise ValidationError(str(exc)) from exc


def _rest(data: JSONObject, config: JSONObject, conversation: JSONObject, memories: JSONObject) -> JSONObject:
    read = _READ | ({"messages"} if "conversation" not in data else set())
    rest = {
        name: value
        for name, value in data.items()
        if name not in read and not (name in _MEMORIES and _is_within(value, memories))
    }
    parts = {
        "config": _without(config, "provider_config", *_SETTINGS),
        "conversation": _without(conversation, "messages"),
    }
    rest |= {name: part for name, part in parts.items() if part}
    # drops secrets by the rule for a provider's extra settings
    return ProviderConfig(name="any", extra=rest).public()["extra"]  # type: ignore[no-any-return]


def _is_within(value: JSONValue, memories: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and value.items() <= memories.items()


def _without(data: JSONObject, *names: str) -> JSONObject:
    return {name: value for name, value in data.items() if name not in names}


def _time(value: Any) -> datetime:
    """Parse a time as ``str(datetime.utcnow())`` wrote it, or one with a zone."""
    if isinstance(value, datetime):
        return value
    try:
        parsed = datetime.fromisoformat(value)
    except (TypeError, ValueError) as exc:
        raise ValidationError("a time is not in ISO 8601") from exc
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
