"""A session: one conversation of a personality with a provider."""

from datetime import datetime
from typing import Any

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, copy_json
from luminoracore_sdk.domain.personality import personality_name
from luminoracore_sdk.domain.settings import SessionConfig
from luminoracore_sdk.domain.values import check_id, to_utc

__all__ = ["Session"]


def _check_session_id(_: object, __: object, value: str) -> None:
    check_id(value)


def _check_object(_: object, attribute: Any, value: object) -> None:
    if type(value) is not dict:
        raise ValidationError(f"{attribute.name} must be a JSON object, not {type(value).__name__}")


def _check_provider(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    if type(value) is not dict or set(value) != {"name", "model", "base_url", "extra"}:
        raise ValidationError("provider must have exactly name, model, base_url and extra")


@attrs.frozen(kw_only=True)
class Session:
    """One session, as it was when it was read.

    Attributes:
        session_id: Its opaque id.
        personality: A JSON object.
        provider: Name, model, base_url and extra of the provider, without secrets; None for a conversation
            or memory that was created without a SessionManager.
        config: Its settings.
        created_at: The time of its creation, UTC.
        last_activity: The time of the last write to it or its messages, UTC.
        message_count: The position of the newest message: the number of messages, deleted ones included.
        version: Incremented by each change of the session itself; 0 before it is stored.
        metadata: A JSON object.
        has_deletions: Whether messages were deleted from the middle of the conversation.
    """

    session_id: str = attrs.field(validator=_check_session_id)
    personality: JSONObject = attrs.field(validator=_check_object)
    provider: JSONObject | None = attrs.field(validator=_check_provider)
    config: SessionConfig = attrs.field(factory=SessionConfig)
    created_at: datetime = attrs.field(converter=to_utc)
    last_activity: datetime = attrs.field(converter=to_utc)
    message_count: int = 0
    version: int = 0
    metadata: JSONObject = attrs.field(factory=dict, validator=_check_object)
    has_deletions: bool = False

    def to_dict(self) -> JSONObject:
        """Return a JSON object with ISO 8601 times, without secrets."""
        config = attrs.asdict(self.config, filter=attrs.filters.exclude(*_NOT_SETTINGS))
        config["session_type"] = self.config.session_type.value
        config["tags"] = list(self.config.tags)
        return {
            "session_id": self.session_id,
            "personality": copy_json(self.personality),
            "provider_config": copy_json(self.provider),
            "config": config,
            "created_at": self.created_at.isoformat(),
            "last_activity": self.last_activity.isoformat(),
            "message_count": self.message_count,
            "version": self.version,
            "metadata": copy_json(self.metadata),
        }

    def info(self) -> JSONObject:
        """Return the summary documented by ``get_session_info``; times are datetimes."""
        provider = self.provider or {}
        return {
            "session_id": self.session_id,
            "personality": personality_name(self.personality),
            "provider": provider.get("name"),
            "model": provider.get("model"),
            "created_at": self.created_at,
            "last_activity": self.last_activity,
            "message_count": self.message_count,
        }


_NOT_SETTINGS = ("session_id", "personality", "provider_config", "storage")
