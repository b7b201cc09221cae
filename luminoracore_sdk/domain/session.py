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
        session_id: Opaque.
        personality: A JSON object; a copy of its own.
        provider: name, model, base_url and extra of the provider, without any secret; None for a
            conversation or a memory that was begun without a SessionManager.
        config: Its settings.
        created_at: UTC.
        last_activity: When it or its messages were last written, UTC.
        message_count: Messages in the store.
        version: Rises by one with each change of the session itself; 0 before it is stored.
        metadata: A JSON object of the caller's.
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

    def to_dict(self) -> JSONObject:
        """Return a JSON object with ISO 8601 times and without any secret."""
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
        """Return the summary that ``get_session_info`` documents; times are datetimes."""
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
