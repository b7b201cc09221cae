"""Hypothesis strategies for JSON values, ids and records, including those that stores tend to mishandle."""

from functools import partial
from typing import Any

from hypothesis import strategies as st

from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, MessageRecord, Payload, SessionRecord
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import MessageRole
from luminoracore_sdk.domain.values import MAX_ID_LENGTH
from luminoracore_sdk.testing.records import INVALID_IDS, ODD_KEYS, VALID_IDS, json_payload

__all__ = [
    "ids",
    "invalid_ids",
    "json_objects",
    "json_values",
    "memory_records",
    "message_records",
    "payloads",
    "session_records",
]

_ANY_CHARACTER = st.characters(exclude_categories=())
_ID_CHARACTER = st.characters(codec="utf-8", exclude_characters="\0")
_MOMENTS_US = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)


def _texts() -> st.SearchStrategy[str]:
    return st.text(_ANY_CHARACTER, max_size=12)


def _keys() -> st.SearchStrategy[str]:
    return st.sampled_from(ODD_KEYS) | _texts()


def _scalars() -> st.SearchStrategy[JSONValue]:
    edges = [0, 1, -1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 2**70]
    floats = [0.0, -0.0, 5e-324, -5e-324, 1.0, 1e308]
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from(edges),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(floats),
        _texts(),
    )


def _objects(values: st.SearchStrategy[Any], max_size: int) -> st.SearchStrategy[JSONObject]:
    return st.dictionaries(_keys(), values, max_size=max_size)


def json_values(*, max_leaves: int = 12) -> st.SearchStrategy[JSONValue]:
    """Return any JSON value: NUL, lone surrogates, wide integers, −0.0, subnormals, odd keys, nested.

    Args:
        max_leaves: Largest number of scalars in a value.
    """
    return st.recursive(
        _scalars(), lambda inner: st.lists(inner, max_size=4) | _objects(inner, 4), max_leaves=max_leaves
    )


def json_objects(*, max_leaves: int = 12) -> st.SearchStrategy[JSONObject]:
    """Return JSON objects with values of ``json_values``.

    Args:
        max_leaves: Largest number of scalars in a value.
    """
    return _objects(json_values(max_leaves=max_leaves), 4)


def ids() -> st.SearchStrategy[str]:
    """Return valid ids, including paths, quotes, newlines and 512 characters."""
    return st.sampled_from(VALID_IDS) | st.text(_ID_CHARACTER, min_size=1, max_size=20)


def invalid_ids() -> st.SearchStrategy[Any]:
    """Return invalid ids: empty, too long, with NUL or lone surrogates, or not strings."""
    broken = st.tuples(_texts(), st.sampled_from(["\0", "\ud800", "\udfff"]), _texts()).map("".join)
    too_long = st.text(_ID_CHARACTER, min_size=1, max_size=3).map(lambda text: text * (MAX_ID_LENGTH + 1))
    return st.sampled_from(list(INVALID_IDS.values())) | broken | too_long


def payloads() -> st.SearchStrategy[Payload]:
    """Return payloads of JSON values, and of bytes in an encoding that no codec reads."""
    binary = st.builds(partial(Payload, "json+zstd"), st.binary(max_size=40))
    return json_values(max_leaves=5).map(json_payload) | binary


def message_records(message_ids: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[MessageRecord]:
    """Return messages ready to be appended.

    Args:
        message_ids: The strategy for their ids; None: ``ids()``.
    """
    return st.builds(
        MessageRecord,
        message_id=ids() if message_ids is None else message_ids,
        role=st.sampled_from([role.value for role in MessageRole]),
        created_at_us=_MOMENTS_US,
        payload=payloads(),
    )


def session_records(session_ids: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[SessionRecord]:
    """Return headers ready to be put, some with a time to live.

    Args:
        session_ids: The strategy for their ids; None: ``ids()``.
    """
    return st.builds(
        SessionRecord,
        session_id=ids() if session_ids is None else session_ids,
        payload=payloads(),
        user_id=st.none() | ids(),
        tags=st.lists(ids(), max_size=3).map(tuple),
        ttl_us=st.none() | st.integers(1, 10**12),
    )


def memory_records(scopes: st.SearchStrategy[MemoryScope] | None = None) -> st.SearchStrategy[MemoryRecord]:
    """Return memories ready to be put, which do not expire.

    Args:
        scopes: The strategy for their scopes; None: users with ids of ``ids()``.
    """
    return st.builds(
        MemoryRecord,
        scope=st.builds(partial(MemoryScope, "user"), ids()) if scopes is None else scopes,
        key=ids(),
        retention=st.floats(-1e300, 1e300),
        payload=payloads(),
    )
