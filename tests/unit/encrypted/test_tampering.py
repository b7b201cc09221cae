"""EncryptedStorageWrapper: what was changed or moved in the store is refused, field by field."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    IndexRewrite,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionQuery,
)
from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage
from luminoracore_sdk.testing import json_payload, memory_record, message_record, session_record
from luminoracore_sdk.utils.exceptions import DecryptionError, KeyNotFoundError, UnencryptedRecordError
from tests.support.encryption import ALL, SCOPE, Raw, keyring, small_store

Change = Callable[[Payload], Payload]


@pytest.fixture
def storage() -> EncryptedStorageWrapper:
    return EncryptedStorageWrapper(InMemoryStorage(), keyring("new", "old"))


@pytest.fixture
async def raw(storage: EncryptedStorageWrapper) -> Raw:
    return await small_store(storage)


def flipped(place: int) -> Change:
    def flip(payload: Payload) -> Payload:
        data = bytearray(payload.data)
        data[place] ^= 1
        return attrs.evolve(payload, data=bytes(data))

    return flip


def tagged(tag: str) -> Change:
    return lambda payload: attrs.evolve(payload, encoding=tag)


DAMAGE = {
    "nonce": flipped(0),
    "first byte": flipped(12),
    "last byte": flipped(-1),
    "cut": lambda payload: attrs.evolve(payload, data=payload.data[:-1]),
    "cut to the nonce": lambda payload: attrs.evolve(payload, data=payload.data[:12]),
    "nothing left": lambda payload: attrs.evolve(payload, data=b""),
    "another make": tagged("json-wide+aes256gcm:new"),
    "another key of the ring": tagged("json+aes256gcm:old"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_a_changed_payload_is_refused(storage: EncryptedStorageWrapper, raw: Raw, damage: Change) -> None:
    header, messages, memories = await raw.header(), await raw.messages(), await raw.memories()
    assert header.payload is not None
    await raw.replace(
        header=attrs.evolve(header, payload=damage(header.payload)),
        messages=[attrs.evolve(messages[0], payload=damage(messages[0].payload)), messages[1]],
        memories=[attrs.evolve(memories[0], payload=damage(memories[0].payload))],
    )
    with pytest.raises(DecryptionError, match="memory storage: session 's' is damaged"):
        await storage.find_session("s")
    with pytest.raises(DecryptionError, match="message 1 of session 's' is damaged"):
        await storage.read_messages("s", ALL)
    with pytest.raises(DecryptionError, match=r"memory 'aes-siv:.*' of session 's' is damaged"):
        await storage.list_memories(SCOPE)


async def test_a_key_that_is_not_in_the_ring_is_named(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    header = await raw.header()
    assert header.payload is not None
    await raw.replace(header=attrs.evolve(header, payload=attrs.evolve(header.payload, encoding="json+aes256gcm:1999")))
    with pytest.raises(KeyNotFoundError, match="encrypted with the key '1999', which is not in the keyring"):
        await storage.find_session("s")


@pytest.mark.parametrize(
    "change",
    [
        {"role": "system"},
        {"created_at_us": 1},
        {"message_id": "m9"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_field_of_a_message_that_was_changed_is_noticed(
    storage: EncryptedStorageWrapper, raw: Raw, change: dict[str, Any]
) -> None:
    first, second = await raw.messages()
    await raw.replace(messages=[first, attrs.evolve(second, **change)])
    with pytest.raises(DecryptionError, match="message 2 of session 's' is damaged"):
        await storage.read_messages("s", ALL)


async def test_messages_that_changed_places_are_noticed(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    first, second = await raw.messages()
    await raw.replace(messages=[attrs.evolve(second, position=1), attrs.evolve(first, position=2)])
    with pytest.raises(DecryptionError, match="message 1 of session 's'"):
        await storage.read_messages("s", ALL)


async def test_removed_message_is_noticed_by_the_next_one(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    _, second = await raw.messages()
    await raw.replace(messages=[attrs.evolve(second, position=1)])
    with pytest.raises(DecryptionError, match="message 1 of session 's'"):
        await storage.read_messages("s", ALL)


async def test_a_payload_of_another_message_is_noticed(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    first, second = await raw.messages()
    await raw.replace(messages=[first, attrs.evolve(second, payload=first.payload)])
    with pytest.raises(DecryptionError, match="message 2 of session 's'"):
        await storage.read_messages("s", ALL)


async def test_a_message_of_another_session_is_noticed(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    await storage.put_session(session_record("other"))
    batch = [message_record("m1", text="secret one"), message_record("m2", text="secret two")]
    await storage.append_messages("other", batch)
    await raw.replace(messages=await raw.base.read_messages("other", ALL))
    with pytest.raises(DecryptionError, match="message 1 of session 's'"):
        await storage.read_messages("s", ALL)


async def test_a_header_of_another_session_is_noticed(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    await storage.put_session(session_record("other", user_id="u", tags=("red", "blue")))
    other = await raw.base.find_session("other")
    assert other is not None
    await raw.replace(header=attrs.evolve(other, session_id="s", last_position=2))
    with pytest.raises(DecryptionError, match="session 's'"):
        await storage.find_session("s")


@pytest.mark.parametrize("user_id", [None, "v", "uu"])
async def test_a_session_that_was_given_to_another_user_is_noticed(
    storage: EncryptedStorageWrapper, raw: Raw, user_id: str | None
) -> None:
    await raw.replace(header=attrs.evolve(await raw.header(), user_id=user_id))
    with pytest.raises(DecryptionError, match="session 's'"):
        await storage.find_session("s")


async def test_no_user_is_not_a_user_without_a_name(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    await storage.put_session(session_record("s"))
    await raw.replace(header=attrs.evolve(await raw.header(), user_id=""))
    with pytest.raises(DecryptionError, match="session 's'"):
        await storage.find_session("s")


async def test_a_label_that_was_added_or_taken_is_noticed(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    header = await raw.header()
    await storage.put_session(session_record("other", tags=("green",)))
    other = await raw.base.find_session("other")
    assert other is not None
    for tags in (header.tags[:1], (), (*header.tags, *other.tags), (*header.tags, "plain")):
        await raw.replace(header=attrs.evolve(header, tags=tags))
        with pytest.raises(DecryptionError, match="session 's'"):
            await storage.find_session("s")


async def test_a_changed_label_is_refused_by_listings_too(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    header = await raw.header()
    for label in ("aes-siv:AAAA", "aes-siv:not base64!", header.tags[0][:-4] + "AAAA", "aes-siv:é"):
        await raw.replace(header=attrs.evolve(header, tags=(label,)))
        with pytest.raises(DecryptionError, match="session 's' is damaged"):
            await storage.list_sessions()


async def test_card_and_briefs_are_encrypted_and_bound_to_their_place(
    storage: EncryptedStorageWrapper, raw: Raw
) -> None:
    for name in ("s", "other"):
        card = json_payload(f"secret card of {name}")
        await storage.put_session(attrs.evolve(session_record(name, user_id="u", tags=("red", "blue")), card=card))
        for number in (3, 4):
            message = attrs.evolve(message_record(f"m{number}"), brief=json_payload(f"secret brief {number} of {name}"))
            await storage.append_messages(name, [message])
    header, other = await raw.header(), await raw.base.find_session("other")
    assert other is not None
    assert "secret" not in repr(header.texts)
    first, last = header.summary.first, header.summary.last
    assert first is not None
    assert last is not None
    for texts in (
        attrs.evolve(header.texts, card=other.card),
        attrs.evolve(header.texts, card=first.payload),
        attrs.evolve(header.texts, first=other.summary.first),
        attrs.evolve(header.texts, first=attrs.evolve(first, payload=last.payload)),
        attrs.evolve(header.texts, first=attrs.evolve(first, position=1)),
        attrs.evolve(header.texts, last=first, first=attrs.evolve(last, position=first.position)),
    ):
        await raw.replace(header=header.with_texts(texts))
        with pytest.raises(DecryptionError, match="session 's'"):
            await storage.find_session("s")
        with pytest.raises(DecryptionError, match="session 's'"):
            await storage.query_sessions(SessionQuery())
    await raw.replace(header=header.with_texts(attrs.evolve(header.texts, card=json_payload("planted"))))
    strict = EncryptedStorageWrapper(raw.base, keyring("new", "old"), required=True)
    with pytest.raises(UnencryptedRecordError):
        await strict.find_session("s")


async def test_indexes_are_encrypted_and_bound_to_their_place(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    for name in ("s", "other"):
        await storage.put_session(session_record(name, user_id="u", tags=("red", "blue")))
        batch = [
            attrs.evolve(message_record(f"n{number}"), index=json_payload(f"secret of {name}")) for number in (1, 2)
        ]
        await storage.append_messages(name, batch)
    *_, first, last = await raw.base.read_index("s", ALL)
    other = (await raw.base.read_index("other", ALL))[0]
    assert "secret" not in repr((first, last, other))
    assert [one.index for one in await storage.read_index("s", ALL)][2:] == [json_payload("secret of s")] * 2
    planted = json_payload("planted")
    for index in (other.index, last.index, flipped(-1)(first.index or planted), first.index and planted):
        change = IndexRewrite(position=first.position, message_id=first.message_id, old=first.index, new=index)
        assert await raw.base.rewrite_index("s", [change]) == 1
        reader = (
            storage if index != planted else EncryptedStorageWrapper(raw.base, keyring("new", "old"), required=True)
        )
        error = DecryptionError if index != planted else UnencryptedRecordError
        with pytest.raises(error, match="the index of message 3 of session 's'"):
            await reader.read_index("s", ALL)
        assert await raw.base.rewrite_index("s", [attrs.evolve(change, old=index, new=first.index)]) == 1


async def test_messages_of_a_fork_are_bound_to_it(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    await storage.fork_session("s", session_record("fork"), at=2)
    of_the_fork = await raw.base.read_messages("fork", ALL)
    assert [message.payload for message in await storage.read_messages("fork", ALL)] == [
        message.payload for message in await storage.read_messages("s", ALL)
    ]
    await raw.replace(messages=of_the_fork)
    with pytest.raises(DecryptionError, match="message 1 of session 's'"):
        await storage.read_messages("s", ALL)


def moved(memories: list[MemoryRecord]) -> list[MemoryRecord]:
    return [attrs.evolve(memories[0], key=memories[1].key), attrs.evolve(memories[1], key=memories[0].key)]


async def test_memories_that_changed_keys_are_noticed(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    await raw.replace(memories=moved(await raw.memories()))
    with pytest.raises(DecryptionError, match=r"memory .* of session 's' is damaged"):
        await storage.find_memory(SCOPE, "k1")


async def test_a_memory_of_another_scope_is_noticed(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    await storage.put_memory(memory_record("k1", kind="user", value="secret of k1"))
    (of_user,) = await raw.base.list_memories(MemoryScope("user", "s"))
    (first, _) = await raw.memories()
    await raw.replace(memories=[attrs.evolve(of_user, scope=SCOPE, key=first.key)])
    with pytest.raises(DecryptionError, match=r"memory .* of session 's' is damaged"):
        await storage.find_memory(SCOPE, "k1")
    await raw.replace(memories=[attrs.evolve(first, key=of_user.key)])
    with pytest.raises(DecryptionError, match=r"memory .* of session 's' is damaged"):
        await storage.list_memories(SCOPE)


@pytest.mark.parametrize("key", ["aes-siv:AAAA", "hmac-sha256:AAAA"])
async def test_planted_plain_memory_is_refused_if_required(
    storage: EncryptedStorageWrapper, raw: Raw, key: str
) -> None:
    plain = memory_record(key, value="planted")
    (first, _) = await raw.memories()
    await raw.replace(memories=[attrs.evolve(plain, created_at_us=first.created_at_us)])
    assert [one.key for one in await storage.list_memories(SCOPE)] == [key]
    strict = EncryptedStorageWrapper(raw.base, keyring(), required=True)
    with pytest.raises(UnencryptedRecordError):
        await strict.list_memories(SCOPE)


def rolled(messages: list[MessageRecord]) -> list[MessageRecord]:
    return [attrs.evolve(message, payload=messages[0].payload) for message in messages]


async def test_an_error_shows_neither_content_nor_keys(storage: EncryptedStorageWrapper, raw: Raw) -> None:
    await raw.replace(messages=rolled(await raw.messages()))
    with pytest.raises(DecryptionError) as caught:
        await storage.read_messages("s", ALL)
    text = f"{caught.value} {caught.value.details} {caught.value.__cause__!r}"
    assert [word for word in ("secret", bytes(range(32)).hex()) if word in text] == []
