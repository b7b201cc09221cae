"""The contract: what an index of the messages is made of, stored with them, and listings without texts."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    IndexRewrite,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
    SessionSummary,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConflictError,
    InvalidIdError,
    LuminoraCoreSDKError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase, spread
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record

__all__ = ["IndexContract", "LightListingContract"]

_ALL = MessageRange()
_LARGEST = 256 * 1024

_BLOBS: dict[str, Payload] = {
    "text": Payload("terms1", b"cat 2 hat 1"),
    "every byte": Payload("terms1", bytes(range(256))),
    "NUL": Payload("terms1", b"\0\0a\0"),
    "no UTF-8": Payload("json", b"\xff\xfe\x80"),
    "a newline": Payload("json", b"a\nb\r\n"),
    "nothing": Payload("terms1", b""),
    "JSON": json_payload({"a": ["\ud800", "\0"]}),
    "the largest": Payload("terms1", bytes(_LARGEST - 100)),
}


def terms(name: str) -> Payload:
    """Return an index that is made of a name."""
    return Payload("terms1", b"\xff\0" + name.encode())


def indexed(message_id: str, role: str = "user") -> MessageRecord:
    """Return a message with an index that is made of its id."""
    return attrs.evolve(message_record(message_id, role=role), index=terms(message_id))


def indexed_records(count: int, prefix: str = "m") -> list[MessageRecord]:
    """Return ``count`` such messages with the ids m1, m2, m3 …."""
    return [indexed(f"{prefix}{number}") for number in range(1, count + 1)]


class _IndexCalls(ContractBase):
    async def indexes(
        self, storage: SessionStorage, session_id: str = "s", span: MessageRange = _ALL
    ) -> list[Payload | None]:
        """Return the indexes of a range, whose other fields are those of the messages."""
        found = await storage.read_index(session_id, span)
        messages = await storage.read_messages(session_id, span)
        assert [(one.position, one.message_id, one.role, one.created_at_us) for one in found] == [
            (one.position, one.message_id, one.role, one.created_at_us) for one in messages
        ]
        return [one.index for one in found]

    async def header(self, storage: SessionStorage, session_id: str = "s") -> SessionRecord:
        """Return the header of an existing session."""
        found = await storage.find_session(session_id)
        assert found is not None
        return found


class IndexContract(_IndexCalls):
    """``MessageRecord.index``, ``read_index`` and ``rewrite_index``."""

    async def test_an_append_stores_indexes(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        assert await self.indexes(storage) == []
        await storage.append_messages("s", [message_record("m1")])
        await storage.append_messages("s", [indexed("m2", "assistant")])
        await storage.append_messages("s", [message_record("m3"), indexed("m4"), message_record("m5", role="tool")])
        await storage.append_messages("s", [indexed("m6"), indexed("m7")])
        await storage.append_messages("s", [message_record("m8")])
        names = (None, "m2", None, "m4", None, "m6", "m7", None)
        assert await self.indexes(storage) == [name and terms(name) for name in names]
        found = await storage.find_message("s", "m6")
        assert found == attrs.evolve(message_record("m6"), position=6)

    @pytest.mark.parametrize(
        ("span", "positions"),
        [
            (MessageRange(), [1, 2, 3, 4, 5, 6]),
            (MessageRange(after=2), [3, 4, 5, 6]),
            (MessageRange(after=1, before=4), [2, 3]),
            (MessageRange(limit=2), [1, 2]),
            (MessageRange(limit=2, newest=True), [5, 6]),
            (MessageRange(after=3, limit=2), [4, 5]),
            (MessageRange(before=6, limit=3, newest=True), [3, 4, 5]),
            (MessageRange(limit=0), []),
            (MessageRange(after=6), []),
            (MessageRange(after=2**70), []),
            (MessageRange(before=2**70, limit=2**70), [1, 2, 3, 4, 5, 6]),
            (MessageRange(before=1), []),
        ],
        ids=str,
    )
    async def test_a_range_of_indexes(self, storage: SessionStorage, span: MessageRange, positions: list[int]) -> None:
        await self.begin(storage)
        await storage.append_messages("s", indexed_records(1))
        await storage.append_messages("s", [indexed(f"m{number}") for number in (2, 3, 4, 5)])
        await storage.append_messages("s", [indexed("m6")])
        assert await self.indexes(storage, span=span) == [terms(f"m{position}") for position in positions]

    async def test_a_repeated_append_changes_no_index(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        batch = [indexed("m1"), message_record("m2"), indexed("m3")]
        await storage.append_messages("s", batch)
        others = [attrs.evolve(message, index=terms("other")) for message in batch]
        assert (await storage.append_messages("s", others)).replayed
        assert (await storage.append_messages("s", [attrs.evolve(batch[2], index=None)])).replayed
        assert await self.indexes(storage) == [terms("m1"), None, terms("m3")]

    async def test_a_refused_append_stores_no_index(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [message_record("m1")])
        for batch, expected_last in (([indexed("m2")], 0), ([indexed("m1"), indexed("m2")], None)):
            with pytest.raises(ConflictError):
                await storage.append_messages("s", batch, expected_last=expected_last)
        assert await self.indexes(storage) == [None]
        await storage.append_messages("s", [message_record("m2")])
        assert await self.indexes(storage) == [None, None]

    @pytest.mark.parametrize("blob", _BLOBS.values(), ids=_BLOBS)
    async def test_an_index_is_any_bytes(self, storage: SessionStorage, blob: Payload) -> None:
        await self.begin(storage)
        batch = [attrs.evolve(message, index=blob) for message in message_records(3)]
        await storage.append_messages("s", batch[:1])
        await storage.append_messages("s", batch[1:])
        assert await self.indexes(storage) == [blob] * 3
        new = Payload(blob.encoding, blob.data[:-1] + b"!")
        changes = [IndexRewrite(position=2, message_id="m2", old=blob, new=new)]
        assert await storage.rewrite_index("s", changes) == 1
        assert await self.indexes(storage) == [blob, new, blob]

    async def test_a_replaced_tail_has_its_own_indexes(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", indexed_records(4))
        new = [message_record("n1"), indexed("n2")]
        await storage.replace_tail("s", after=2, messages=new)
        expected = [terms("m1"), terms("m2"), None, terms("n2")]
        assert await self.indexes(storage) == expected
        again = [attrs.evolve(message, index=terms("other")) for message in new]
        assert (await storage.replace_tail("s", after=2, messages=again)).replayed
        assert await self.indexes(storage) == expected
        with pytest.raises(ConflictError):
            await storage.replace_tail("s", after=1, messages=[indexed("p")], expected_last=3)
        assert await self.indexes(storage) == expected
        await storage.replace_tail("s", after=0, messages=[indexed("q")])
        assert await self.indexes(storage) == [terms("q")]

    async def test_positions_that_were_cut_have_new_indexes(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", indexed_records(3))
        await storage.append_messages("s", [indexed("m4")])
        await storage.truncate_messages("s", after=2)
        assert await self.indexes(storage) == [terms("m1"), terms("m2")]
        await storage.append_messages("s", [message_record("n3"), message_record("n4"), indexed("n5")])
        assert await self.indexes(storage) == [terms("m1"), terms("m2"), None, None, terms("n5")]
        await storage.truncate_messages("s", after=0)
        assert await self.indexes(storage) == []
        await storage.append_messages("s", [message_record("m1"), indexed("m2")])
        assert await self.indexes(storage) == [None, terms("m2")]

    async def test_an_update_replaces_the_index(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        batch = [indexed("m1"), message_record("m2"), indexed("m3")]
        await storage.append_messages("s", batch)
        await storage.append_messages("s", [indexed("m4")])
        await storage.append_messages("s", [message_record("m5")])
        new = json_payload({"content": "new"})
        for position, index in ((1, terms("new")), (2, terms("two")), (3, None), (4, None), (5, terms("five"))):
            old = message_record(f"m{position}").payload
            await storage.update_message("s", position, payload=new, expected=old, index=index)
        expected = [terms("new"), terms("two"), None, None, terms("five")]
        assert await self.indexes(storage) == expected
        await storage.update_message("s", 1, payload=new, expected=new)  # it is stored already
        with pytest.raises(ConflictError):
            await storage.update_message(
                "s", 2, payload=json_payload(1), expected=message_record("m2").payload, index=terms("x")
            )
        assert await self.indexes(storage) == expected
        await storage.append_messages("s", [indexed("m6")])
        assert await self.indexes(storage) == [*expected, terms("m6")]

    async def test_a_fork_has_the_indexes_up_to_a_position(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [message_record("m1"), indexed("m2"), indexed("m3")])
        await storage.append_messages("s", [indexed("m4")])
        await storage.append_messages("s", [message_record("m5")])
        source = [None, terms("m2"), terms("m3"), terms("m4"), None]
        for at, name in ((5, "e"), (4, "d"), (2, "b"), (0, "z")):
            await storage.fork_session("s", session_record(name), at=at)
            assert await self.indexes(storage, name) == source[:at]
        payloads = {"payload": json_payload("new"), "expected": message_record("m2").payload}
        await storage.update_message("d", 2, **payloads, index=terms("of the fork"))
        await storage.append_messages("d", [indexed("n5")])
        await storage.append_messages("b", [indexed("n3")])
        await storage.truncate_messages("s", after=3)
        change = IndexRewrite(position=3, message_id="m3", old=terms("m3"), new=None)
        assert await storage.rewrite_index("s", [change]) == 1
        assert await self.indexes(storage) == [None, terms("m2"), None]
        assert await self.indexes(storage, "d") == [None, terms("of the fork"), *source[2:4], terms("n5")]
        assert await self.indexes(storage, "b") == [None, terms("m2"), terms("n3")]
        assert await storage.delete_session("s") is True
        await storage.purge_expired()
        assert await self.indexes(storage, "e") == source

    async def test_a_fork_may_rewrite_indexes(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [indexed("m1"), message_record("m2"), indexed("m3")])
        await storage.append_messages("s", [indexed("m4")])
        seen: dict[str, Payload | None] = {}

        def rewrite(message: MessageRecord) -> MessageRecord:
            seen[message.message_id] = message.index
            if message.message_id == "m3":
                return attrs.evolve(message, payload=json_payload("new"), index=None)
            return attrs.evolve(message, index=terms("new")) if message.message_id == "m2" else message

        await storage.fork_session("s", session_record("f"), at=4, rewrite=rewrite)
        assert seen == {"m1": terms("m1"), "m2": None, "m3": terms("m3"), "m4": terms("m4")}
        assert await self.indexes(storage, "f") == [terms("m1"), terms("new"), None, terms("m4")]
        assert await self.indexes(storage) == [terms("m1"), None, terms("m3"), terms("m4")]

    async def test_a_deleted_session_leaves_no_index(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", indexed_records(3))
        await storage.delete_session("s")
        with pytest.raises(SessionNotFoundError):
            await storage.read_index("s", _ALL)
        await self.begin(storage, messages=2)
        assert await self.indexes(storage) == [None, None]
        await storage.append_messages("s", [indexed("m3")])
        assert await self.indexes(storage) == [None, None, terms("m3")]

    async def test_an_expired_session_leaves_no_index(self, storage: SessionStorage, clock: ManualClock) -> None:
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", indexed_records(2))
        clock.advance(9)
        change = IndexRewrite(position=1, message_id="m1", old=terms("m1"), new=terms("new"))
        assert await storage.rewrite_index("s", [change]) == 1
        clock.advance(1)
        with pytest.raises(SessionNotFoundError):
            await storage.read_index("s", _ALL)
        assert await storage.rewrite_index("s", [attrs.evolve(change, old=terms("new"))]) == 0
        await self.begin(storage, messages=2)
        assert await self.indexes(storage) == [None, None]
        await storage.fork_session("s", session_record("f", ttl_us=1), at=2)
        clock.advance(1)
        await storage.fork_session("s", session_record("f"), at=1)
        assert await self.indexes(storage, "f") == [None]

    async def test_a_put_keeps_indexes(self, storage: SessionStorage) -> None:
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", indexed_records(2))
        await storage.put_session(session_record())
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.put_session(session_record())
        assert await self.indexes(storage) == [terms("m1"), terms("m2")]

    async def test_indexes_survive_a_new_storage(
        self, storage: SessionStorage, another: Callable[[], SessionStorage]
    ) -> None:
        self.need("persistent")
        await self.begin(storage)
        await storage.append_messages("s", [message_record("m1"), indexed("m2")])
        await storage.close()
        assert await self.indexes(another()) == [None, terms("m2")]

    async def test_rewriting_an_index_changes_nothing_else(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [message_record("m1"), indexed("m2"), indexed("m3")])
        await storage.append_messages("s", [indexed("m4")])
        await storage.append_messages("s", [message_record("m5")])
        await storage.update_message("s", 1, payload=json_payload("new"), expected=message_record("m1").payload)
        before, messages = await self.header(storage), await storage.read_messages("s", _ALL)
        clock.advance(120)
        changes = [
            IndexRewrite(position=1, message_id="m1", old=None, new=terms("one")),
            IndexRewrite(position=4, message_id="m4", old=terms("m4"), new=terms("four")),
            IndexRewrite(position=3, message_id="m3", old=terms("m3"), new=None),
            IndexRewrite(position=5, message_id="m5", old=None, new=terms("five")),
        ]
        assert await storage.rewrite_index("s", changes) == 4
        assert await self.indexes(storage) == [terms("one"), terms("m2"), None, terms("four"), terms("five")]
        after = await self.header(storage)
        assert (after, after.changes, after.last_change) == (before, before.changes, before.last_change)
        assert await storage.read_messages("s", _ALL) == messages
        assert await storage.rewrite_index("s", changes) == 0
        receipt = await storage.append_messages("s", [indexed("m6")], expected_last=5)
        assert (receipt.last_position, receipt.replayed) == (6, False)

    async def test_an_index_other_than_the_old_one_is_kept(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [message_record("m1"), indexed("m2")])
        await storage.append_messages("s", [indexed("m3")])
        change = IndexRewrite(position=2, message_id="m2", old=terms("m2"), new=terms("new"))
        for wrong in (
            attrs.evolve(change, old=None),
            attrs.evolve(change, old=terms("m3")),
            attrs.evolve(change, old=Payload("terms2", terms("m2").data)),
            attrs.evolve(change, old=Payload("terms1", terms("m2").data[:-1])),
            attrs.evolve(change, message_id="m3"),
            attrs.evolve(change, message_id="absent"),
            attrs.evolve(change, position=1),
            attrs.evolve(change, position=3),
            attrs.evolve(change, position=4),
            attrs.evolve(change, position=2**70),
            IndexRewrite(position=1, message_id="m1", old=terms("m1"), new=None),
            IndexRewrite(position=3, message_id="m2", old=terms("m3"), new=None),
        ):
            assert await storage.rewrite_index("s", [wrong]) == 0
        assert await storage.rewrite_index("absent", [change]) == 0
        assert await self.indexes(storage) == [None, terms("m2"), terms("m3")]
        stale = attrs.evolve(change, position=3, message_id="m3", old=terms("stale"))
        assert await storage.rewrite_index("s", [stale, change]) == 1
        assert await self.indexes(storage) == [None, terms("new"), terms("m3")]

    async def test_indexes_of_1000_messages(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        batch = indexed_records(1000)
        batch[500] = attrs.evolve(batch[500], index=None)
        await storage.append_messages("s", batch)
        expected = [message.index for message in batch]
        assert await self.indexes(storage) == expected
        changes = [
            IndexRewrite(position=number, message_id=f"m{number}", old=terms(f"m{number}"), new=terms(f"n{number}"))
            for number in range(1, 1001)
        ]
        assert await storage.rewrite_index("s", changes[::-1]) == 999
        assert await self.indexes(storage) == [
            index and terms(f"n{number}") for number, index in enumerate(expected, 1)
        ]

    async def test_an_index_that_is_too_large_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [indexed("m1")])
        large = Payload("terms1", bytes(_LARGEST + 1))
        calls: tuple[Callable[[], Any], ...] = (
            lambda: storage.append_messages("s", [attrs.evolve(message_record("x"), index=large)]),
            lambda: storage.replace_tail("s", after=0, messages=[attrs.evolve(message_record("x"), index=large)]),
            lambda: storage.update_message(
                "s", 1, payload=json_payload(1), expected=message_record("m1").payload, index=large
            ),
            lambda: storage.rewrite_index("s", [IndexRewrite(position=1, message_id="m1", old=terms("m1"), new=large)]),
        )
        for call in calls:
            with pytest.raises(ValidationError):
                await call()
        assert await self.indexes(storage) == [terms("m1")]
        assert (await self.header(storage)).last_change == 0

    async def test_wrong_calls_are_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", indexed_records(2))
        change = IndexRewrite(position=1, message_id="m1", old=terms("m1"), new=None)
        many = [attrs.evolve(change, position=number) for number in range(1, 1002)]
        refused: tuple[tuple[Sequence[IndexRewrite], type[LuminoraCoreSDKError]], ...] = (
            ([], ValidationError),
            (many, ValidationError),
            ([attrs.evolve(change, position=0)], ValidationError),
            ([change, change], ValidationError),
            ([attrs.evolve(change, message_id="")], InvalidIdError),
        )
        for changes, error in refused:
            with pytest.raises(error):
                await storage.rewrite_index("s", changes)
        with pytest.raises(InvalidIdError):
            await storage.rewrite_index("", [change])
        with pytest.raises(InvalidIdError):
            await storage.read_index("", _ALL)
        with pytest.raises(ValidationError):
            await storage.read_index("s", MessageRange(limit=-1))
        assert await self.indexes(storage) == [terms("m1"), terms("m2")]

    async def test_one_of_concurrent_rewrites_is_made(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        await writers[0].append_messages("s", [message_record("m1"), indexed("m2")])

        def changes(number: int) -> list[IndexRewrite]:
            first = IndexRewrite(position=1, message_id="m1", old=None, new=terms(f"a{number}"))
            second = IndexRewrite(position=2, message_id="m2", old=terms("m2"), new=terms(f"b{number}"))
            return [first, second]

        made = await asyncio.gather(
            *(storage.rewrite_index("s", changes(number)) for storage, number in spread(writers, range(12)))
        )
        assert sum(made) == 2
        first, second = await self.indexes(writers[0])
        assert first in [terms(f"a{number}") for number in range(12)]
        assert second in [terms(f"b{number}") for number in range(12)]

    async def test_concurrent_writers_keep_their_indexes(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        await writers[0].append_messages("s", [indexed("m1")])

        async def write(storage: SessionStorage, number: int) -> None:
            name = f"w{number}"
            if number % 10 == 9:
                await storage.truncate_messages("s", after=1)
            elif number % 3:
                await storage.append_messages("s", [indexed(name)])
            else:
                await storage.append_messages("s", [indexed(f"{name}a"), message_record(f"{name}b")])

        await asyncio.gather(*(write(storage, number) for storage, number in spread(writers, range(40))))
        found = await writers[-1].read_index("s", _ALL)
        assert [one.message_id for one in found] == await self.ids(writers[0])
        expected = [None if one.message_id.endswith("b") else terms(one.message_id) for one in found]
        assert [one.index for one in found] == expected

    async def test_last_change_follows_the_history(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        seen = [0]

        async def changed() -> bool:
            header = await self.header(storage)
            assert header.last_change == (header.changes[-1].number if header.changes else 0)
            for texts in (True, False):
                (listed,) = (await storage.query_sessions(SessionQuery(texts=texts))).sessions
                assert (listed.last_change, listed.last_position) == (header.last_change, header.last_position)
                assert listed.updated_at_us == header.updated_at_us
            seen.append(header.last_change)
            return seen[-1] > seen[-2]

        await storage.append_messages("s", indexed_records(5))
        assert not await changed()
        await storage.update_message("s", 1, payload=json_payload(1), expected=message_record("m1").payload)
        assert await changed()
        change = IndexRewrite(position=2, message_id="m2", old=terms("m2"), new=None)
        assert await storage.rewrite_index("s", [change]) == 1
        assert not await changed()
        await storage.put_session(session_record())
        assert not await changed()
        await storage.truncate_messages("s", after=4)
        assert await changed()
        await storage.replace_tail("s", after=3, messages=[indexed("n")])
        assert await changed()
        await storage.replace_tail("s", after=4, messages=[indexed("n5")])
        await storage.truncate_messages("s", after=9)
        assert not await changed()
        for number in range(40):
            await storage.truncate_messages("s", after=4)
            await storage.append_messages("s", [indexed(f"x{number}")])
        assert await changed()
        assert seen[-1] >= 43
        await storage.fork_session("s", session_record("f"), at=2)
        assert (await self.header(storage, "f")).last_change == 0


class LightListingContract(_IndexCalls):
    """``SessionQuery.texts``."""

    @pytest.mark.parametrize("by_activity", [False, True], ids=["by-creation", "by-activity"])
    @pytest.mark.parametrize("newest_first", [False, True], ids=["oldest-first", "newest-first"])
    async def test_a_listing_without_texts(
        self, storage: SessionStorage, clock: ManualClock, *, by_activity: bool, newest_first: bool
    ) -> None:
        for number in range(6):
            record = session_record(f"s{number}", user_id="u", tags=("t", f"t{number % 2}"), ttl_us=10**12)
            await storage.put_session(attrs.evolve(record, card=json_payload({"title": str(number)})))
            clock.advance(100)
        await storage.put_session(session_record("other", user_id="v"))
        for number in (3, 1, 4):
            message = attrs.evolve(indexed(f"m{number}"), brief=json_payload("brief"), adds={"tokens": 3})
            await storage.append_messages(f"s{number}", [message])
            clock.advance(100)
        await storage.truncate_messages("s1", after=0)
        for tag, without_tag in ((None, None), ("t1", None), (None, "t1")):
            query = SessionQuery(
                user_id="u",
                tag=tag,
                without_tag=without_tag,
                by_activity=by_activity,
                newest_first=newest_first,
                limit=2,
            )
            for _ in range(2):  # a backend may keep what the first listing has found
                whole, light = await self.pages(storage, query), await self.pages(storage, query, texts=False)
                assert light == [attrs.evolve(header, card=None, summary=SessionSummary()) for header in whole]
                assert [header.last_change for header in light] == [header.last_change for header in whole]
                assert len(light) == (6 if tag is without_tag else 3)
                assert all(header.payload is None for header in light)

    async def pages(self, storage: SessionStorage, query: SessionQuery, *, texts: bool = True) -> list[SessionRecord]:
        """Return all pages as one list."""
        found: list[SessionRecord] = []
        query = attrs.evolve(query, texts=texts)
        while True:
            page = await storage.query_sessions(query)
            found += page.sessions
            if page.next_cursor is None:
                return found
            query = attrs.evolve(query, cursor=page.next_cursor)

    async def test_a_light_listing_shows_each_change(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        query = SessionQuery(texts=False)
        for number in range(1, 4):
            clock.advance(1)
            await storage.append_messages("s", [indexed(f"m{number}")])
            (listed,) = (await storage.query_sessions(query)).sessions
            assert (listed.last_position, listed.updated_at_us) == (number, clock.now_us)
        await storage.put_session(session_record(user_id="u", tags=("t",), ttl_us=1_000_000))
        (listed,) = (await storage.query_sessions(query)).sessions
        assert (listed.user_id, listed.tags, listed.version) == ("u", ("t",), 2)
        clock.advance(1)
        assert (await storage.query_sessions(query)).sessions == ()
        await self.begin(storage)
        (listed,) = (await storage.query_sessions(query)).sessions
        assert (listed.last_position, listed.last_change, listed.created_at_us) == (0, 0, clock.now_us)
        await storage.delete_session("s")
        assert (await storage.query_sessions(query)).sessions == ()
