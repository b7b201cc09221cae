"""Appends to the parameters of ``AppendStatements``, and what those return to receipts."""

from collections.abc import Iterable, Sequence
from typing import Any

from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.postgres.errors import BACKEND
from luminoracore_sdk.adapters.storage.postgres.rows import MAX_BATCH_BYTES, Row, clamped, stored
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import PayloadTooLargeError

__all__ = ["batch_values", "group_receipts", "group_values", "one_values"]


def one_values(append: Append) -> dict[str, Any]:
    """Return the parameters of ``AppendStatements.one``."""
    (message,) = append.messages
    payload = message.payload
    text, blob = stored(payload)
    return {
        "session": append.session_id,
        "now": append.now_us,
        "expected": _expected(append),
        "id": message.message_id,
        "role": message.role,
        "time": message.created_at_us,
        "make": payload.encoding,
        "data": text,
        "bytes": blob,
    }


def batch_values(append: Append) -> dict[str, Any]:
    """Return the parameters of ``AppendStatements.batch``.

    Raises:
        PayloadTooLargeError: Together they do not fit one message of PostgreSQL's protocol.
    """
    size = append.size_bytes
    if size > MAX_BATCH_BYTES:
        raise PayloadTooLargeError(backend=BACKEND, key="the batch", size_bytes=size, limit_bytes=MAX_BATCH_BYTES)
    return {
        "session": append.session_id,
        "now": append.now_us,
        "expected": _expected(append),
        "size": len(append.messages),
        **_lists(append.messages),
    }


def group_values(appends: Sequence[Append]) -> dict[str, Any]:
    """Return the parameters of ``AppendStatements.groups``; several appends to one session are one item."""
    sizes = dict[str, int]()
    expected = dict[str, int | None]()
    owners = list[int]()
    places = list[int]()
    numbers = _numbers(appends)
    for append in appends:
        name = append.session_id
        before = sizes.get(name, 0)
        sizes[name] = before + len(append.messages)
        expected[name] = _expected(append)
        owners += [numbers[name]] * len(append.messages)
        places += range(before + 1, sizes[name] + 1)
    return {
        "now": max(append.now_us for append in appends),  # who has expired by then is tried alone
        "sessions": list(sizes),
        "expected": list(expected.values()),
        "sizes": list(sizes.values()),
        "owners": owners,
        "places": places,
        **_lists(message for append in appends for message in append.messages),
    }


def group_receipts(appends: Sequence[Append], rows: Sequence[Row]) -> list[AppendReceipt | None]:
    """Return the receipts of appends for the rows of ``AppendStatements.groups``; None: not written."""
    last_of = {number: last for number, last in rows}  # noqa: C416 - a row of asyncpg is no tuple
    numbers = _numbers(appends)
    receipts = list[AppendReceipt | None]()
    for append in reversed(appends):  # the last append to a session ends at its last position
        number = numbers[append.session_id]
        if (last := last_of.get(number)) is None:
            receipts.append(None)
            continue
        first = last_of[number] - len(append.messages) + 1
        receipts.append(AppendReceipt(first_position=first, last_position=last))
        last_of[number] = first - 1
    return receipts[::-1]


def _numbers(appends: Iterable[Append]) -> dict[str, int]:
    """Return the sessions of appends, numbered from 1 on."""
    names = dict.fromkeys(append.session_id for append in appends)
    return {name: number for number, name in enumerate(names, 1)}


def _expected(append: Append) -> int | None:
    return None if append.expected_last is None else clamped(append.expected_last)


def _lists(messages: Iterable[MessageRecord]) -> dict[str, Any]:
    columns = [
        (
            *(message.message_id, message.role, message.created_at_us),
            *(message.payload.encoding, *stored(message.payload)),
        )
        for message in messages
    ]
    ids, roles, times, makes, data, blobs = zip(*columns, strict=True)
    return {"ids": ids, "roles": roles, "times": times, "makes": makes, "data": data, "bytes": blobs}
