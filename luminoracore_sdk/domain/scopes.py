"""Ids that name an app, a user or an agent, perhaps of a tenant, where a store has one column for the owner."""

import re
from urllib.parse import quote, unquote

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.values import STORE_OWNER, check_id

__all__ = ["Owner", "check_owner_id", "check_user_id"]

_PREFIX = "luminora:"
_NAMES = {"t": "tenant", "p": "app", "u": "user", "a": "agent"}
_FORM = re.compile(r"luminora:([tpua]=[^/=]+(?:/[tpua]=[^/=]+)*)")


@attrs.frozen(kw_only=True)
class Owner:
    """The owner of sessions and memories: the path tenant / app / user / agent, of which parts may be absent.

    Attributes:
        tenant: The tenant; None: none.
        app: The app; None: none. Without user and agent: what all users of the app share.
        user: The user; None: none.
        agent: The agent; None: none. Without a user: what all users of the agent share.
    """

    tenant: str | None = None
    app: str | None = None
    user: str | None = None
    agent: str | None = None

    @classmethod
    def of(cls, owner_id: str | None) -> "Owner":
        """Return the owner of an id."""
        found = _FORM.fullmatch(owner_id) if owner_id is not None else None
        if found is None:
            return cls(user=owner_id)
        parts = (part.split("=") for part in found[1].split("/"))
        return cls(**{_NAMES[kind]: unquote(name) for kind, name in parts})

    @classmethod
    def of_user(cls, user_id: object, tenant: str | None = None, app: str | None = None) -> "Owner":
        """Return a user.

        Raises:
            ValidationError: An id is invalid or reserved, or all together are too long.
        """
        owner = cls(user=check_id(user_id, "user id"), tenant=tenant, app=app)
        check_id(owner.id, "id of tenant, app and user together")
        return owner

    @property
    def id(self) -> str:
        """The id under which a store keeps what is of the owner: a user without a tenant has its own.

        Raises:
            ValidationError: A name is invalid or reserved, or they are too long together.
        """
        given = {kind: getattr(self, name) for kind, name in _NAMES.items() if getattr(self, name) is not None}
        for kind, value in given.items():
            check_id(value, "user id" if kind == "u" else _NAMES[kind])
        if not given.keys() - {"t"}:
            raise ValidationError("an owner has an app, a user or an agent")
        if self.user is not None and len(given) == 1:
            return check_plain_user_id(self.user)
        named = "/".join(f"{kind}={quote(value, safe='')}" for kind, value in given.items())
        return check_id(f"{_PREFIX}{named}", "id of tenant, app, user and agent together")


def check_plain_user_id(value: object) -> str:
    """Return the id of a user without a tenant unchanged, or refuse it.

    Raises:
        ValidationError: As ``check_id``, or the id is reserved.
    """
    user_id = check_id(value, "user id")
    if user_id == STORE_OWNER or user_id.startswith(_PREFIX):
        raise ValidationError(f"user id {user_id!a:.80} is reserved for the store itself")
    return user_id


def check_user_id(value: object) -> str:
    """Return the id under which a store keeps what is of a user unchanged, or refuse it.

    Raises:
        ValidationError: As ``check_id``, or the id is reserved or names no user.
    """
    user_id = check_owner_id(value)
    if Owner.of(user_id).user is None:
        raise ValidationError(f"user id {user_id!a:.80} is reserved")
    return user_id


def check_owner_id(value: object) -> str:
    """Return the id under which a store keeps what is of an owner unchanged, or refuse it.

    Raises:
        ValidationError: As ``check_id``, or the id is reserved.
    """
    owner_id = check_id(value, "user id")
    owner = Owner.of(owner_id)
    is_plain = owner == Owner(user=owner.user) or owner == Owner(tenant=owner.tenant)
    return owner_id if not is_plain and owner.id == owner_id else check_plain_user_id(owner_id)
