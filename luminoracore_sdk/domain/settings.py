"""The settings of sessions and memories, validated on construction."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from luminoracore_sdk.domain.chat import secret_names
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, check_json
from luminoracore_sdk.domain.memory import MemoryCategory
from luminoracore_sdk.domain.scopes import Owner, check_user_id
from luminoracore_sdk.domain.values import NamedValue, check_id

__all__ = ["ARCHIVED", "MAX_TITLE", "PINNED", "RESERVED_TAGS", "MemoryConfig", "SessionConfig", "SessionType"]

RESERVED_TAGS = "luminora:"
"""Begins the tags that stand for settings, so that listings can be asked for them."""

ARCHIVED = f"{RESERVED_TAGS}archived"
PINNED = f"{RESERVED_TAGS}pinned"

MAX_TITLE = 200
"""Most characters of a title."""

_MOST_ATTRIBUTES_BYTES = 4096


class SessionType(NamedValue):
    """The type of a session. ``STATELESS`` sends no history to the provider, but stores it."""

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
            f"{attribute.name} is stored, and {names[0]!a} denotes a secret; pass it in provider_config"
        )


def _identifier(_: object, attribute: Any, value: Any) -> None:
    check_id(value, attribute.name.replace("_", " "))


def _user(_: object, __: object, value: Any) -> None:
    check_user_id(value)


def _agent(config: "SessionConfig", _: object, value: Any) -> None:
    check_id(value, "agent")
    user = Owner.of(config.user_id)
    _ = Owner(agent=value, app=user.app, tenant=user.tenant).id  # under which its memories are kept


def _tag(_: object, __: object, value: Any) -> None:
    check_id(value, "tags")
    if value.startswith(RESERVED_TAGS):
        raise ValidationError(f"a tag does not begin with {RESERVED_TAGS!r}, which this package uses for its own")


def _title(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TITLE or len(value.splitlines()) > 1:
        raise ValidationError(f"title must be one line of 1 to {MAX_TITLE} characters")


def _small(_: object, attribute: Any, value: JSONObject) -> None:
    size = len(json.dumps(dict(value)))
    if size > _MOST_ATTRIBUTES_BYTES:
        raise ValidationError(f"{attribute.name} must have at most {_MOST_ATTRIBUTES_BYTES} bytes as JSON, not {size}")


def _to_tags(tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise ValidationError(f"tags must be a list of strings, not {type(tags).__name__}")
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
    """The settings of a memory.

    Attributes:
        enabled: Whether memory works; if not, ``store_memory`` returns False and reads find nothing.
        max_entries: Most entries of a session, and of a user; above it, those with the least remaining importance are
            evicted.
        decay_factor: The share of its importance that an entry loses in 30 days.
        importance_threshold: Entries with less remaining importance are not part of the prompt.
        ttl: The default lifetime of an entry in seconds; None: unlimited.
        past_values: Most values of an entry that are kept when others replace them; 0: none.
        prompt_share: Where search is on, the share of the context window that memories may take; if there are more,
            the question recalls those that go into the prompt.
        prompt_minimum: So many memories, the most important ones, go into every prompt, whatever their size.
        track_topics: Whether entries of category topic are stored.
        track_preferences: Whether entries of category preference are stored.
        track_context: Whether entries of category context are stored.
        track_emotions: Whether entries of category emotion are stored.
    """

    enabled: bool = attrs.field(default=True, validator=_flag)
    max_entries: int = attrs.field(default=1000, validator=_whole_number(1))
    decay_factor: float = attrs.field(default=0.1, validator=_share)
    importance_threshold: float = attrs.field(default=0.5, validator=_share)
    ttl: float | None = attrs.field(default=None, validator=_optional(_positive_seconds))
    past_values: int = attrs.field(default=20, kw_only=True, validator=_whole_number(0))
    prompt_share: float = attrs.field(default=0.25, kw_only=True, validator=_share)
    prompt_minimum: int = attrs.field(default=10, kw_only=True, validator=_whole_number(0))
    track_topics: bool = attrs.field(default=True, validator=_flag)
    track_preferences: bool = attrs.field(default=True, validator=_flag)
    track_context: bool = attrs.field(default=True, validator=_flag)
    track_emotions: bool = attrs.field(default=False, validator=_flag)

    def tracks(self, category: MemoryCategory) -> bool:
        """Return whether entries of a category are stored."""
        return {
            MemoryCategory.FACT: True,
            MemoryCategory.TOPIC: self.track_topics,
            MemoryCategory.PREFERENCE: self.track_preferences,
            MemoryCategory.CONTEXT: self.track_context,
            MemoryCategory.EMOTION: self.track_emotions,
        }[category]


@attrs.frozen
class SessionConfig:
    """The settings of a session; all but the id, ``personality``, ``provider_config`` and ``storage`` are stored.

    Attributes:
        session_id: The id of the session; None: one is generated.
        personality: The personality, if ``create_session`` gets none.
        provider_config: The provider, if ``create_session`` gets none.
        session_type: The type; a stateless session sends no history to the provider.
        max_history: How many of the newest messages are returned by reads through the manager.
        timeout: Time limit in seconds for one answer of the provider.
        generation_params: Defaults for every call, which its arguments override (temperature, max_tokens …).
        max_history_length: How many of the newest messages are considered for the prompt.
        context_window_size: Largest number of tokens of system message, history and new message together.
            History is omitted to fit; the system message and the new message never are.
        include_context_in_prompt: Whether memories are added to the system message.
        memory_enabled: Whether memories may be part of this session's prompts.
        memory_decay_factor: Overrides ``MemoryConfig.decay_factor``, unless it is None.
        storage: Must be None: the storage belongs to the manager.
        auto_save: Whether every turn is written before it is acknowledged; if not, only ``save_session``
            writes.
        auto_save_interval: Seconds within which a change must be written. Changes are written at once, so
            any value above 0 is satisfied.
        ttl: Seconds without activity after which the session expires; None: never.
        user_id: The user of the session, for listings and the memory of users.
        tags: Tags for listings.
        agent: The name of the agent that answers, which may have memories of its own.
        title: The title of the conversation, one line of at most 200 characters, for listings.
        archived: Whether listings leave it out unless they are asked for it.
        pinned: Whether users want it at the top.
        attributes: A JSON object of the application's, of at most 4,096 bytes, for listings.
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
        default=(), kw_only=True, converter=_to_tags, validator=attrs.validators.deep_iterable(_tag)
    )
    agent: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_agent))
    title: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_title))
    archived: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    pinned: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    attributes: JSONObject = attrs.field(factory=dict, kw_only=True, validator=[_object, _nothing_secret, _small])

    @storage.validator
    def _belongs_to_the_manager(self, _: object, value: object) -> None:
        if value is not None:
            raise ValidationError(
                "SessionConfig.storage is not supported: a session lives in the storage of its manager; "
                "use SessionManager(storage=create_storage(...))"
            )
