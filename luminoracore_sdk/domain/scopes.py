"""Ids that name a user of a tenant, or an agent, where a store has one column for the owner."""

import re
from urllib.parse import quote, unquote

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.values import STORE_OWNER, check_id

__all__ = ["Owner", "check_owner_id", "check_user_id"]

_PREFIX = "luminora:"
_FORM = re.compile(r"luminora:(?:t=([^/=]+))?/?(?:([ua])=([^/=]+))?")


@attrs.frozen(kw_only=True)
class Owner:
    """The owner of sessions and memories: a user or an agent, perhaps of a tenant.

    Attributes:
        tenant: The tenant; None: none.
        user: The user; None: it is an agent.
        agent: The agent; None: it is a user.
    """

    tenant: str | None = None
    user: str | None = None
    agent: str | None = None

    @classmethod
    def of(cls, owner_id: str | None) -> "Owner":
        """Return the owner of an id."""
        found = _FORM.fullmatch(owner_id) if owner_id is not None else None
        if found is None:
            return cls(user=owner_id)
        tenant, kind, name = (part and unquote(part) for part in found.groups())
        return cls(tenant=tenant, **{"user" if kind == "u" else "agent": name} if kind else {})

    @classmethod
    def of_user(cls, user_id: object, tenant: str | None = None) -> "Owner":
        """Return a user.

        Raises:
            ValidationError: An id is invalid or reserved, or both together are too long.
        """
        owner = cls(user=check_id(user_id, "user id"), tenant=tenant)
        check_id(owner.id, "id of tenant and user together")
        return owner

    @property
    def id(self) -> str:
        """The id under which a store keeps what is of the owner: a user without a tenant has its own.

        Raises:
            ValidationError: A name is invalid or reserved, or they are too long together.
        """
        for name, value in (("tenant", self.tenant), ("user id", self.user), ("agent", self.agent)):
            if value is not None:
                check_id(value, name)
        if (self.user is None) == (self.agent is None):
            raise ValidationError("an owner is a user or an agent, one of the two")
        if self.user is not None and self.tenant is None:
            return check_plain_user_id(self.user)
        parts = (("t", self.tenant), ("u", self.user), ("a", self.agent))
        named = "/".join(f"{kind}={quote(value, safe='')}" for kind, value in parts if value is not None)
        return check_id(f"{_PREFIX}{named}", "id of tenant and user or agent together")


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
        ValidationError: As ``check_id``, or the id is reserved or that of an agent.
    """
    user_id = check_owner_id(value)
    if Owner.of(user_id).user is None:
        raise ValidationError(f"user id {user_id!a:.80} is reserved")
    return user_id


def check_owner_id(value: object) -> str:
    """Return the id under which a store keeps what is of a user or an agent unchanged, or refuse it.

    Raises:
        ValidationError: As ``check_id``, or the id is reserved.
    """
    owner_id = check_id(value, "user id")
    owner = Owner.of(owner_id)
    is_named = owner.tenant is not None or owner.agent is not None
    if is_named and (owner.user or owner.agent) and owner.id == owner_id:
        return owner_id
    return check_plain_user_id(owner_id)
