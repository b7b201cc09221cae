"""Builders of records for tests, and sample values and ids that stores are known to mishandle."""

from typing import Any

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, MessageRecord, Payload, SessionRecord
from luminoracore_sdk.domain.json_value import MAX_JSON_DEPTH, JSONObject, JSONValue
from luminoracore_sdk.domain.values import MAX_ID_LENGTH

__all__ = [
    "DOCUMENTS",
    "INVALID_IDS",
    "NOT_DOCUMENTS",
    "ODD_KEYS",
    "VALID_IDS",
    "json_payload",
    "memory_record",
    "message_record",
    "message_records",
    "session_record",
]


_CODEC = JsonCodec()
_SAID_AT_US = 1_700_000_000_000_001


def json_payload(value: JSONValue) -> Payload:
    """Return a JSON value as a payload, encoded as this package does."""
    return _CODEC.encode(value)


def session_record(
    session_id: str = "s",
    *,
    text: str = "a session",
    user_id: str | None = None,
    tags: tuple[str, ...] = (),
    ttl_us: int | None = None,
) -> SessionRecord:
    """Return a header ready to be put."""
    return SessionRecord(
        session_id=session_id, payload=json_payload({"text": text}), user_id=user_id, tags=tags, ttl_us=ttl_us
    )


def message_record(message_id: str, *, text: str | None = None, role: str = "user") -> MessageRecord:
    """Return a message ready to be appended; by default its text is derived from its id."""
    return MessageRecord(
        message_id=message_id,
        role=role,
        created_at_us=_SAID_AT_US,
        payload=json_payload({"content": text or f"text of {message_id}"}),
    )


def message_records(count: int, *, prefix: str = "m") -> list[MessageRecord]:
    """Return ``count`` messages with the ids m1, m2, m3 …."""
    return [message_record(f"{prefix}{number}") for number in range(1, count + 1)]


def memory_record(
    key: str,
    *,
    owner: str = "s",
    kind: str = "session",
    value: JSONValue = "a value",
    retention: float = 0.0,
    expires_at_us: int | None = None,
) -> MemoryRecord:
    """Return a memory ready to be put, by default of session ``s``."""
    return MemoryRecord(
        scope=MemoryScope(kind, owner),
        key=key,
        payload=json_payload(value),
        retention=retention,
        expires_at_us=expires_at_us,
    )


ODD_KEYS = ("", "k", "v", "_id", "$set", "a.b", ".", "\0", "__proto__", "\ud800", "0", "@", "~r", "é")
"""Object keys with a special meaning for some store or optimizer."""

VALID_IDS = (
    "plain",
    "PLAIN",
    " ",
    "plain ",
    ".",
    "..",
    "../../etc/passwd",
    "/absolute",
    "C:\\x",
    "a/b",
    "a:b",
    "{a}:b",
    "*",
    "a%b_c",
    "'; DROP TABLE sessions; --",
    'say "hi"',
    "line\nbreak",
    "\r\n\t",
    "\x7f",
    "nul.json",
    "con",
    "é",
    "e\u0301",
    "\u2028",
    "\U0001f600",
    "\ufeffx",
    "x" * MAX_ID_LENGTH,
    "\U0001f600" * MAX_ID_LENGTH,
)
"""Valid but unusual ids, which every storage must distinguish."""

INVALID_IDS: dict[str, Any] = {
    "empty": "",
    "513 characters": "x" * (MAX_ID_LENGTH + 1),
    "10,000 characters": "x" * 10_000,
    "NUL": "a\0b",
    "lone high surrogate": "a\ud800",
    "lone low surrogate": "\udfffa",
    "bytes": b"s",
    "a number": 7,
}
"""Invalid ids by their defect."""


def _nested(levels: int) -> JSONValue:
    value: JSONValue = "innermost"
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


DOCUMENTS: dict[str, JSONObject] = {
    "empty": {},
    "empties": {"object": {}, "list": [], "text": "", "null": None},
    "booleans and numbers apart": {"a": [True, 1, 1.0, False, 0, 0.0, None]},
    "minus zero": {"a": -0.0, "b": [0.0, -0.0]},
    "extreme floats": {"a": [5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1]},
    "64-bit edges": {"a": [2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64]},
    "wide integers": {"a": 2**70, "b": -(10**400), "c": [2**128, {"d": 3**99}]},
    "wide integer beside floats": {"a": 2**70, "b": [1.0, -0.0, 5e-324]},
    "NUL": {"a": "\0", "b": "x\0y", "\0": "\0\0"},
    "control characters": {"a": "".join(map(chr, range(32))), "b": "\x7f\x80\x9f\u2028\u2029"},
    "lone surrogates": {"a": "\ud800", "\udfff": ["\udc00\ud800"], "b": "pair \U0001f600"},
    "all planes": {"a": "aé\u4e2d\uffff\U0001f600\U0010ffff", "e\u0301": "\u00e9"},
    "odd keys": {key: index for index, key in enumerate(ODD_KEYS)},
    "key order": {"z": 1, "a": {"y": 1, "b": 2, "x": 3}, "m": [{"2": 0, "1": 0}]},
    "keys of stored records": {"v": 99, "content": "x", "tag": "json", "payload": [1], "session_id": 5},
    "text that looks like JSON": {"a": '{"b": 1}', "c": "null", "d": "1e5", "e": "2026-01-01T00:00:00Z"},
    "deep": {"a": _nested(MAX_JSON_DEPTH - 1)},
    "wide": {"rows": [{"id": number, "name": f"row {number}"} for number in range(300)]},
}
"""JSON objects by their peculiarity."""

NOT_DOCUMENTS: dict[str, Any] = {
    "None": None,
    "list": [1],
    "text": "{}",
    "bytes": b"{}",
    "NaN": {"a": float("nan")},
    "infinity": {"a": [float("inf")]},
    "minus infinity": {"a": {"b": float("-inf")}},
    "tuple": {"a": (1, 2)},
    "set": {"a": {1}},
    "bytes inside": {"a": b"x"},
    "object inside": {"a": object()},
    "integer key": {1: "a"},
    "None key": {"a": {None: 1}},
    "too deep": {"a": _nested(MAX_JSON_DEPTH + 1)},
}
"""Values that are not JSON objects, by their defect."""
