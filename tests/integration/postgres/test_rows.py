"""What the tables contain, and what counts as damage."""

import attrs
import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.records import (
    MemoryScope,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
)
from luminoracore_sdk.testing.records import (
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.postgres import ALL, Schema


async def test_text_payloads_are_readable_in_the_table(schema: Schema, storage: PostgreSQLStorage) -> None:
    text = '{"a":"\\u0000 \\ud800 é\U0001f600","b":1.0}'
    payload = Payload("json-wide", text.encode())
    await storage.put_session(SessionRecord(session_id="s", payload=payload))
    await storage.append_messages("s", [attrs.evolve(message_record("m1"), payload=payload)])
    await storage.put_memory(attrs.evolve(memory_record("k"), payload=payload))
    query = "SELECT encoding, payload, blob FROM luminora_{}"
    for table in ("documents", "messages", "session_memories"):
        assert await schema.rows(query.format(table)) == [("json-wide", text, None)]
    document = {"nul": "\0", "surrogate": "\udcff", "number": 2**70, "key\0": [1.0]}
    await storage.save_session("s", document)
    assert await storage.load_session("s") == document


@pytest.mark.parametrize(
    "payload",
    [Payload("json", b"\xff\0"), Payload("json", b'"\0"'), Payload("json+zstd", b"{}")],
    ids=["not UTF-8", "a raw NUL", "not a text encoding"],
)
async def test_other_payloads_are_stored_as_bytes(schema: Schema, storage: PostgreSQLStorage, payload: Payload) -> None:
    await storage.append_messages("s", [attrs.evolve(message_record("m1"), payload=payload)])
    (message,) = await storage.read_messages("s", ALL)
    assert message.payload == payload
    ((text, blob),) = await schema.rows("SELECT payload, blob FROM luminora_messages")
    assert (text, blob) == (None, payload.data)


async def test_the_longest_ids_fit_every_index(storage: PostgreSQLStorage) -> None:
    rare = "".join(chr(0x20000 + (number * 7919) % 40_000) for number in range(512))  # compresses badly
    other = rare[::-1]
    record = session_record(rare, user_id=other, tags=(rare, other))
    await storage.put_session(record)
    await storage.append_messages(rare, [message_record(other)])
    for kind in ("session", "user"):
        await storage.put_memory(memory_record(other, owner=rare, kind=kind), max_entries=1)
        assert await storage.find_memory(MemoryScope(kind, rare), other) is not None
    assert await storage.delete_session(rare) is True


async def test_a_payload_of_64_megabytes_comes_back_whole(storage: PostgreSQLStorage) -> None:
    payload = Payload("json+zstd", bytes(range(256)) * (256 * 1024))
    await storage.append_messages("s", [attrs.evolve(message_record("m1"), payload=payload)])
    (message,) = await storage.read_messages("s", ALL)
    same = message.payload == payload  # a failure would print megabytes
    assert same is True


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("DELETE FROM luminora_messages WHERE position = 2", r"3 messages \(1 to 4\)"),
        ("DELETE FROM luminora_messages WHERE position = 4", r"3 messages \(1 to 3\)"),
        ("UPDATE luminora_sessions SET last_position = 3", r"4 messages \(1 to 4\)"),
        ("UPDATE luminora_messages SET position = position + 10", r"4 messages \(11 to 14\)"),
        ("DELETE FROM luminora_messages", r"0 messages \(none\)"),
        ("UPDATE luminora_messages SET payload = NULL WHERE position = 3", "message 3"),
    ],
)
async def test_missing_or_misplaced_messages_are_damage(
    schema: Schema, storage: PostgreSQLStorage, damage: str, reason: str
) -> None:
    await storage.append_messages("s", message_records(4))
    await schema.rows(damage)
    with pytest.raises(CorruptRecordError, match=reason):
        await storage.read_messages("s", ALL)


async def test_a_missing_document_or_position_is_damage(schema: Schema, storage: PostgreSQLStorage) -> None:
    await storage.append_messages("s", message_records(2))
    await schema.rows("DELETE FROM luminora_documents")
    with pytest.raises(CorruptRecordError, match="no payload"):
        await storage.find_session("s")
    await schema.rows("UPDATE luminora_sessions SET last_position = 1")
    with pytest.raises(CorruptRecordError, match="above its last position"):
        await storage.append_messages("s", message_records(1, prefix="new"))
