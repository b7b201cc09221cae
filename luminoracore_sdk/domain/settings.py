"""The settings of a session and of a memory, checked when they are made."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from luminoracore_sdk.domain.chat import secret_names
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, check_json
from luminoracore_sdk.domain.memory import MemoryCategory
from luminoracore_sdk.domain.values import STORE_OWNER, NamedValue, check_id

__all__ = ["MemoryConfig", "SessionConfig", "SessionType"]


class SessionType(NamedValue):
    """What a session is for. ``STATELESS`` sends no history to the provider; it is kept all the same."""

    STATEFUL = "stateful"
    STATELESS = "stateless"
    CHAT = "chat"


def _whole_number(minimum: int) -> Any:
    def check(_: object, attribute: Any, value: Any) -> None:
        if type(value) is not int or value < minimum:
            raise ValidationError(f"{attribute.name} must be a whole number of at least {minimum}, not {value!r}")

    return check


def _share(_: object, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValidationError(f"{attribute.name} must be a number from 0 to 1, not {value!r}")


def _positive_seconds(_: object, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e11:
        raise ValidationError(f"{attribute.name} must be a number of seconds above 0, not {value!r}")


def _flag(_: object, attribute: Any, value: Any) -> None:
    if type(value) is not bool:
        raise ValidationError(f"{attribute.name} must be True or False, not {value!r}")


def _object(_: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValidationError(f"{attribute.name} must be a JSON object, not {type(value).__name__}")


def _nothing_secret(_: object, attribute: Any, value: JSONObject) -> None:
    check_json(dict(value), where=attribute.name)
    if names := secret_names(dict(value)):
        raise ValidationError(
            f"{attribute.name} is stored, and {names[0]!a} names a secret; pass it in provider_config"
        )


def _identifier(_: object, attribute: Any, value: Any) -> None:
    check_id(value, attribute.name.replace("_", " "))


def _user(_: object, attribute: Any, value: Any) -> None:
    _identifier(_, attribute, value)
    if value == STORE_OWNER:
        raise ValidationError(f"user id {value!r} is reserved for the store itself")


def _to_tags(tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise ValidationError(f"tags must be a list of texts, not {type(tags).__name__}")
    return tuple(tags)


def _session_type(value: Any) -> SessionType:
    try:
        return SessionType(value)
    except ValueError as exc:
        valid = ", ".join(SessionType)
        raise ValidationError(f"session_type {value!r} is not one of: {valid}") from exc


_optional = attrs.validators.optional


@attrs.frozen
class MemoryConfig:
    """How a memory works.

    Attributes:
        enabled: False: nothing is stored (``store_memory`` returns False) and nothing is read.
        max_entries: Most entries a session keeps; above it the one with the least importance left goes.
        decay_factor: Share of its importance that an entry loses in 30 days.
        importance_threshold: Entries with less importance left stay out of the prompt.
        ttl: Seconds an entry lives when ``store_memory`` names none; None: for ever.
        track_topics: Keep entries of the category topic.
        track_preferences: Keep entries of the category preference.
        track_context: Keep entries of the category context.
        track_emotions: Keep entries of the category emotion.
    """

    enabled: bool = attrs.field(default=True, validator=_flag)
    max_entries: int = attrs.field(default=1000, validator=_whole_number(1))
    decay_factor: float = attrs.field(default=0.1, validator=_share)
    importance_threshold: float = attrs.field(default=0.5, validator=_share)
    ttl: float | None = attrs.field(default=None, validator=_optional(_positive_seconds))
    track_topics: bool = attrs.field(default=True, validator=_flag)
    track_preferences: bool = attrs.field(default=True, validator=_flag)
    track_context: bool = attrs.field(default=True, validator=_flag)
    track_emotions: bool = attrs.field(default=False, validator=_flag)

    def tracks(self, category: MemoryCategory) -> bool:
        """Tell whether entries of a category are kept."""
        return {
            MemoryCategory.FACT: True,
            MemoryCategory.TOPIC: self.track_topics,
            MemoryCategory.PREFERENCE: self.track_preferences,
            MemoryCategory.CONTEXT: self.track_context,
            MemoryCategory.EMOTION: self.track_emotions,
        }[category]


@attrs.frozen
class SessionConfig:
    """How one session works. Stored with it, except ``personality``, ``provider_config`` and ``storage``.

    Attributes:
        session_id: The id to use; None: a new one is made.
        personality: Used when ``create_session`` is given none.
        provider_config: Used when ``create_session`` is given none.
        session_type: What it is for; a stateless one sends no history to the provider.
        max_history: Newest messages that reads through the manager return.
        timeout: Seconds that one answer of the provider may take.
        generation_params: Defaults for every call, under what the call names (temperature, max_tokens …).
        max_history_length: Newest messages that are considered for the prompt.
        context_window_size: Tokens that system message, history and new message may take together.
            History is left out to fit; the system message and the new message never are.
        include_context_in_prompt: Add what is remembered to the system message.
        memory_enabled: False: what is remembered stays out of this session's prompts.
        memory_decay_factor: Overrides ``MemoryConfig.decay_factor``; None: does not.
        storage: Not of a session: the manager owns the storage. Anything but None is refused.
        auto_save: True: every turn is written before it is acknowledged. False: ``save_session`` is
            the only write.
        auto_save_interval: Seconds after which a change must have been written. Ours is written at
            once, so every value above 0 is kept.
        ttl: Seconds without activity after which the session is gone; None: never.
        user_id: Whose session it is, for listings.
        tags: Labels for listings.
    """

    session_id: str | None = attrs.field(default=None, validator=_optional(_identifier))
    personality: JSONObject | None = attrs.field(default=None, validator=_optional(_object))
    provider_config: JSONObject | None = attrs.field(default=None, validator=_optional(_object))
    session_type: SessionType = attrs.field(default=SessionType.CHAT, converter=_session_type)
    max_history: int = attrs.field(default=100, validator=_whole_number(1))
    timeout: float = attrs.field(default=300, validator=_positive_seconds)
    generation_params: JSONObject = attrs.field(factory=dict, validator=[_object, _nothing_secret])
    max_history_length: int = attrs.field(default=50, validator=_whole_number(0))
    context_window_size: int = attrs.field(default=4000, validator=_whole_number(1))
    include_context_in_prompt: bool = attrs.field(default=True, validator=_flag)
    memory_enabled: bool = attrs.field(default=True, validator=_flag)
    memory_decay_factor: float | None = attrs.field(default=None, validator=_optional(_share))
    storage: Any = attrs.field(default=None)
    auto_save: bool = attrs.field(default=True, validator=_flag)
    auto_save_interval: float = attrs.field(default=60, validator=_positive_seconds)
    ttl: float | None = attrs.field(default=None, kw_only=True, validator=_optional(_positive_seconds))
    user_id: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_user))
    tags: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_to_tags, validator=attrs.validators.deep_iterable(_identifier)
    )

    @storage.validator
    def _belongs_to_the_manager(self, _: object, value: object) -> None:
        if value is not None:
            raise ValidationError(
                "SessionConfig.storage cannot be honoured: a session lives where its manager keeps it; "
                "use SessionManager(storage=create_storage(...))"
            )
