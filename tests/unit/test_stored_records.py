"""Records that backends make without the constructor."""

from luminoracore_sdk.application.ports.records import (
    Brief,
    IndexRecord,
    MessageRecord,
    Payload,
    SessionRecord,
    SessionSummary,
    stored_brief,
    stored_header,
    stored_index,
    stored_payload,
    stored_record,
    stored_summary,
)

_PAYLOAD = Payload("json", b"{}")


def test_they_equal_what_the_constructors_make() -> None:
    assert stored_payload("json", b"{}") == _PAYLOAD
    first, last = stored_brief(1, _PAYLOAD), stored_brief(2, _PAYLOAD)
    assert (first, last) == (Brief(1, _PAYLOAD), Brief(2, _PAYLOAD))
    assert stored_record(3, "m", "user", 4, "json", b"{}") == MessageRecord(
        message_id="m", role="user", created_at_us=4, payload=_PAYLOAD, position=3
    )
    assert stored_index(3, "m", "user", 4, _PAYLOAD) == IndexRecord(
        position=3, message_id="m", role="user", created_at_us=4, index=_PAYLOAD
    )
    summary = stored_summary(first, last, {"user": 1})
    header = stored_header("s", "u", ("a",), 1, 2, 3, 4, 5, 6, _PAYLOAD, summary)
    assert header == SessionRecord(
        session_id="s",
        user_id="u",
        tags=("a",),
        ttl_us=1,
        created_at_us=2,
        updated_at_us=3,
        version=4,
        last_position=5,
        payload=None,
        card=_PAYLOAD,
        summary=SessionSummary(first=first, last=last, counters={"user": 1}),
    )
    assert (header.last_change, header.changes, header.lease) == (6, (), None)
    light = stored_header("s", "u", ("a",), 1, 2, 3, 4, 5, 6)
    assert light == SessionRecord.listed(header, texts=False)
