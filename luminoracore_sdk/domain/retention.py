"""Rules of retention: which sessions and messages are not kept."""

from datetime import datetime, timedelta
from typing import Any

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.values import check_id

__all__ = ["RetentionPolicy"]


def _check_duration(_: object, attribute: Any, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, timedelta):
        raise ValidationError(f"{attribute.name} must be a timedelta, not {type(value).__name__}")
    if value <= timedelta(0):
        raise ValidationError(f"{attribute.name} must be above 0, not {value}")


def _check_number(_: object, attribute: Any, value: Any) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise ValidationError(f"{attribute.name} must be a whole number of at least 1, not {value!a:.80}")


def _check_tag(_: object, __: object, value: Any) -> None:
    if value is not None:
        check_id(value, "tag")


@attrs.frozen(kw_only=True)
class RetentionPolicy:
    """What ``SessionManager.apply_retention`` deletes; a rule that is None deletes nothing.

    Attributes:
        max_age: Sessions that were created longer ago are deleted.
        idle: Sessions without activity for longer are deleted. Activity is a message, a removed one or a change of the
            session itself.
        max_messages: Of longer conversations the oldest messages are deleted, until so many are left.
        keep_latest: So many sessions of each user, those that were created last, are kept whatever their age; so are as
            many of the sessions without a user.
        hold: Sessions with this tag are left as they are (legal hold).
    """

    max_age: timedelta | None = attrs.field(default=None, validator=_check_duration)
    idle: timedelta | None = attrs.field(default=None, validator=_check_duration)
    max_messages: int | None = attrs.field(default=None, validator=_check_number)
    keep_latest: int | None = attrs.field(default=None, validator=_check_number)
    hold: str | None = attrs.field(default=None, validator=_check_tag)

    @property
    def youngest(self) -> timedelta | None:
        """The age below which no session is deleted; None: none is at all."""
        return min((rule for rule in (self.max_age, self.idle) if rule is not None), default=None)

    def is_over(self, *, created_at: datetime, last_activity: datetime, now: datetime) -> bool:
        """Return whether a session is to be deleted for its age."""
        is_old = self.max_age is not None and now - created_at > self.max_age
        return is_old or (self.idle is not None and now - last_activity > self.idle)
