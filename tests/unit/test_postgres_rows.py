"""Records to columns and back, and the server's errors, without a server."""

import attrs
import pytest

from luminoracore_sdk.adapters.storage.base import Append
from luminoracore_sdk.adapters.storage.postgres import rows as postgres_rows
from luminoracore_sdk.adapters.storage.postgres.errors import error_of
from luminoracore_sdk.adapters.storage.postgres.rows import (
    batch_values,
    group_receipts,
    group_values,
    message_records,
    rewrite_batches,
    span_values,
)
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    PayloadTooLargeError,
    SchemaVersionError,
    StorageAccessError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
    ValidationError,
)
from luminoracore_sdk.testing import model
from luminoracore_sdk.testing.records import message_record


def rows(last: int, *positions: int) -> list[tuple[object, ...]]:
    return [(last, position, f"m{position}", "user", 1, "json", "1", None) for position in positions]


def test_a_range_equals_a_slice_of_a_list() -> None:
    everything = [attrs.evolve(message_record(f"m{n}"), position=n) for n in range(1, 5)]
    for after in (-1, 0, 2, 9):
        for before in (None, 0, 3, 9):
            for limit in (None, 0, 1, 9):
                for newest in (False, True):
                    span = MessageRange(after=after, before=before, limit=limit, newest=newest)
                    expected = [m.position for m in model.select_range(everything, span)]
                    found = message_records("s", rows(4, *expected) or [(4, *[None] * 7)], span, last=4)
                    assert [message.position for message in found] == expected


@pytest.mark.parametrize(
    ("positions", "span"),
    [
        ((1, 3), MessageRange()),
        ((2, 3), MessageRange()),
        ((1, 2), MessageRange()),
        ((1, 2), MessageRange(limit=2, newest=True)),
        ((2, 3), MessageRange(limit=2)),
        ((1, 2, 3, 4), MessageRange()),
    ],
)
def test_missing_or_unexpected_positions_are_damage(positions: tuple[int, ...], span: MessageRange) -> None:
    with pytest.raises(CorruptRecordError, match="where there must be"):
        message_records("s", rows(3, *positions), span, last=3)


def test_bounds_beyond_64_bits_mean_the_same() -> None:
    span = MessageRange(after=-(2**80), before=2**80, limit=2**80)
    assert span_values(span) == {"after": -(2**63), "before": 2**63 - 1, "count": 2**63 - 1}


def test_a_batch_beyond_one_protocol_message_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_rows, "MAX_BATCH_BYTES", 5)
    payload = Payload("json", b"123")
    batch: list[MessageRecord] = [attrs.evolve(message_record(name), payload=payload) for name in "ab"]
    assert batch_values(Append("s", batch[:1], None, 0))["payloads"] == ("123",)
    with pytest.raises(PayloadTooLargeError):
        batch_values(Append("s", batch, None, 0))


def test_rewrites_beyond_one_protocol_message_are_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = [
        PayloadRewrite(position=place, message_id="m", old=Payload("json", b"12"), new=Payload("b", b"\xff" * 3))
        for place in (3, 1, 2**70)
    ]
    sizes = {15: [3], 14: [2, 1], 10: [2, 1], 9: [1, 1, 1], 1: [1, 1, 1]}
    for limit, expected in sizes.items():
        monkeypatch.setattr(postgres_rows, "MAX_BATCH_BYTES", limit)
        batches = list(rewrite_batches(changes))
        assert [len(batch["positions"]) for batch in batches] == expected
        assert [position for batch in batches for position in batch["positions"]] == [3, 1, 2**63 - 1]
    (row,) = rewrite_batches(changes[:1])
    assert row == {
        "positions": [3],
        "ids": ["m"],
        "old_encodings": ["json"],
        "old_payloads": ["12"],
        "old_blobs": [None],
        "encodings": ["b"],
        "payloads": [None],
        "blobs": [b"\xff" * 3],
    }


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("28P01", StorageAccessError),
        ("3D000", StorageAccessError),
        ("42501", StorageAccessError),
        ("53300", StorageBusyError),
        ("57P03", StorageBusyError),
        ("55P03", StorageBusyError),
        ("53100", StorageFullError),
        ("53200", StorageFullError),
        ("25006", StorageReadOnlyError),
        ("42P01", SchemaVersionError),
        ("XX001", CorruptRecordError),
        ("22021", ValidationError),
        ("XX000", StorageUnavailableError),
    ],
)
def test_an_sqlstate_is_the_finest_error_that_fits(sqlstate: str, kind: type[Exception]) -> None:
    error = error_of(sqlstate, "what it said", in_doubt=True)
    assert type(error) is kind
    assert f"what it said ({sqlstate})" in str(error)
    assert getattr(error, "in_doubt", False) is False


@pytest.mark.parametrize("sqlstate", ["08003", "57P01"])
def test_a_lost_connection_leaves_a_write_in_doubt(sqlstate: str) -> None:
    for in_doubt in (False, True):
        error = error_of(sqlstate, "lost", in_doubt=in_doubt)
        assert isinstance(error, StorageUnavailableError)
        assert error.in_doubt is in_doubt


def test_a_group_has_an_item_a_session_and_a_receipt_an_append() -> None:
    def append(session_id: str, *ids: str, expected_last: int | None = None, now_us: int = 1) -> Append:
        return Append(session_id, [message_record(name) for name in ids], expected_last, now_us)

    appends = [
        append("a", "a1", "a2"),
        append("b", "b1", expected_last=2**80, now_us=9),
        append("c", "c1"),
        append("a", "a3", now_us=3),
    ]
    given = group_values(appends)
    assert given["now"] == 9
    assert given["sessions"] == ["a", "b", "c"]
    assert given["expected_lasts"] == [None, 2**63 - 1, None]
    assert given["sizes"] == [3, 1, 1]
    assert given["ids"] == ("a1", "a2", "a3", "b1", "c1")
    assert given["numbers"] == [1, 1, 1, 2, 3]
    assert given["places"] == [1, 2, 3, 1, 1]
    assert (given["encoding"], given["encodings"]) == ("json", ())
    receipts = group_receipts(appends, [("c", 1), ("a", 10)])
    assert [receipt and (receipt.first_position, receipt.last_position) for receipt in receipts] == [
        (8, 9),
        None,
        (1, 1),
        (10, 10),
    ]


def test_a_group_of_single_messages_has_no_sizes() -> None:
    first = message_record("a1")
    second = attrs.evolve(first, payload=Payload("json-wide", b"1"))
    given = group_values([Append("a", [first], None, 1), Append("b", [second], None, 1)])
    assert [given[name] for name in ("expected_lasts", "sizes", "numbers", "places")] == [(), [], [], []]
    assert given["encodings"] == ("json", "json-wide")
