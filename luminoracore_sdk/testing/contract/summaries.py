"""The contract: the summary of a session, its card, and listings by activity."""

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import Brief, MessageRecord, Payload, SessionQuery, SessionSummary
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, ValidationError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase, spread
from luminoracore_sdk.testing.records import VALID_IDS, json_payload, message_record, message_records, session_record

__all__ = ["ActivityContract", "SummaryContract"]

_CARD = json_payload({"title": "A title"})
_BINARY = Payload("json+zstd", bytes(range(256)))
_ENOUGH_STEPS = 200


def said(message_id: str, role: str = "user", *, brief: str | None = "", **adds: int) -> MessageRecord:
    """Return a message with a brief, by default one made of its id, and what it adds to counters."""
    text = f"brief of {message_id}" if brief == "" else brief
    return attrs.evolve(
        message_record(message_id, role=role), brief=None if text is None else json_payload(text), adds=adds
    )


def brief(position: int, message_id: str) -> Brief:
    """Return the brief that ``said`` gives a message."""
    return Brief(position, json_payload(f"brief of {message_id}"))


class SummaryContract(ContractBase):
    """What headers say of their messages."""

    async def summary(self, storage: SessionStorage, session_id: str = "s") -> SessionSummary:
        """Return the summary of a session, which header and listing agree on."""
        header = await storage.find_session(session_id)
        assert header is not None
        (listed,) = [
            record
            for record in (await storage.query_sessions(SessionQuery(limit=1000))).sessions
            if record.session_id == session_id
        ]
        assert (listed.summary, listed.card) == (header.summary, header.card)
        return header.summary

    async def test_a_session_begins_without_a_summary(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        assert await self.summary(storage) == SessionSummary()

    async def test_an_append_is_folded_into_the_summary(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [said("m1", "system")])
        assert await self.summary(storage) == SessionSummary(last=brief(1, "m1"), counters={"system": 1})
        await storage.append_messages("s", [said("m2"), said("m3", "assistant", tokens=7)])
        expected = SessionSummary(
            first=brief(2, "m2"),
            last=brief(3, "m3"),
            counters={"system": 1, "user": 1, "assistant": 1, "tokens": 7},
        )
        assert await self.summary(storage) == expected
        more = [said("m4", tokens=1), said("m5", "tool", brief=None), said("m6", "assistant", brief=None, tokens=5)]
        await storage.append_messages("s", more)
        expected = SessionSummary(
            first=brief(2, "m2"),
            last=brief(4, "m4"),
            counters={"system": 1, "user": 2, "assistant": 2, "tool": 1, "tokens": 13},
        )
        assert await self.summary(storage) == expected
        await storage.append_messages("s", [said("m7", brief=None)])
        assert (await self.summary(storage)).last == brief(4, "m4")

    async def test_a_user_message_without_brief_is_not_the_first(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [said("m1", brief=None)])
        await storage.append_messages("s", [said("m2", "assistant"), said("m3"), said("m4")])
        summary = await self.summary(storage)
        assert (summary.first, summary.last) == (brief(3, "m3"), brief(4, "m4"))

    async def test_an_append_that_is_not_written_is_not_counted(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        batch = [said("m1"), said("m2", "assistant", tokens=3)]
        await storage.append_messages("s", batch)
        before = await self.summary(storage)
        assert (await storage.append_messages("s", batch)).replayed
        assert (await storage.append_messages("s", batch[1:])).replayed
        for refused, expected_last in (([said("x", x=1)], 1), ([said("m2"), said("y", y=1)], None)):
            with pytest.raises(ConflictError):
                await storage.append_messages("s", refused, expected_last=expected_last)
        assert await self.summary(storage) == before

    async def test_messages_are_returned_without_brief_and_counters(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [said("m1", tokens=3)])
        found = await storage.find_message("s", "m1")
        assert found == attrs.evolve(message_record("m1"), position=1)

    async def test_a_cut_takes_back_roles_and_briefs_only(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [said("m1", "system", a=1), said("m2", b=2)])
        await storage.append_messages("s", [said("m3", "assistant", brief=None, c=3), said("m4", d=4), said("m5")])
        sums = {"a": 1, "b": 2, "c": 3, "d": 4}
        await storage.truncate_messages("s", after=4)
        counters = {"system": 1, "user": 2, "assistant": 1, **sums}
        assert await self.summary(storage) == SessionSummary(first=brief(2, "m2"), counters=counters)
        await storage.replace_tail("s", after=3)
        counters = {"system": 1, "user": 1, "assistant": 1, **sums}
        assert await self.summary(storage) == SessionSummary(first=brief(2, "m2"), counters=counters)
        await storage.replace_tail("s", after=1, messages=[said("n2", "assistant", e=5), said("n3")])
        counters = {"system": 1, "assistant": 1, "user": 1, "e": 5, **sums}
        assert await self.summary(storage) == SessionSummary(
            first=brief(3, "n3"), last=brief(3, "n3"), counters=counters
        )
        for cut in (storage.truncate_messages, storage.replace_tail):  # several messages of one role
            await storage.append_messages("s", [said(f"{cut.__name__}{number}") for number in range(3)])
            await cut("s", after=3)
            assert (await self.summary(storage)).counters == counters
        await storage.truncate_messages("s", after=0)
        assert await self.summary(storage) == SessionSummary(counters={**sums, "e": 5})
        await storage.append_messages("s", [said("again")])
        assert await self.summary(storage) == SessionSummary(
            first=brief(1, "again"), last=brief(1, "again"), counters={**sums, "e": 5, "user": 1}
        )

    async def test_a_repeated_replacement_is_counted_once(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [said("m1", a=1), said("m2")])
        new = [said("n1", "assistant", a=1)]
        await storage.replace_tail("s", after=1, messages=new)
        before = await self.summary(storage)
        assert (await storage.replace_tail("s", after=1, messages=new)).replayed
        assert await self.summary(storage) == before
        assert before == SessionSummary(
            first=brief(1, "m1"), last=brief(2, "n1"), counters={"user": 1, "assistant": 1, "a": 2}
        )

    async def test_an_update_replaces_the_brief(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        batch = [said("m1"), said("m2", "assistant"), said("m3"), said("m4", "assistant")]
        await storage.append_messages("s", batch)
        await storage.append_messages("s", [said("m5", "tool", brief=None)])
        new = json_payload({"content": "new"})

        async def update(position: int, text: str | None) -> SessionSummary:
            (found,) = [m for m in [await storage.find_message("s", f"m{position}")] if m]
            await storage.update_message(
                "s",
                position,
                payload=json_payload({"content": f"{text} at {position}"}) if found.payload == new else new,
                expected=found.payload,
                brief=None if text is None else json_payload(text),
            )
            return await self.summary(storage)

        counters = {"user": 2, "assistant": 2, "tool": 1}
        first, last = Brief(1, json_payload("one")), Brief(4, json_payload("four"))
        assert await update(2, "two") == SessionSummary(first=brief(1, "m1"), last=brief(4, "m4"), counters=counters)
        assert await update(1, "one") == SessionSummary(first=first, last=brief(4, "m4"), counters=counters)
        assert await update(5, "five") == SessionSummary(first=first, last=brief(4, "m4"), counters=counters)
        assert await update(4, "four") == SessionSummary(first=first, last=last, counters=counters)
        assert await update(1, None) == SessionSummary(last=last, counters=counters)
        assert await update(4, None) == SessionSummary(counters=counters)
        await storage.append_messages("s", [said("m6")])
        assert await self.summary(storage) == SessionSummary(
            first=brief(6, "m6"), last=brief(6, "m6"), counters={**counters, "user": 3}
        )

    async def test_a_put_keeps_the_summary_and_replaces_the_card(self, storage: SessionStorage) -> None:
        put = await storage.put_session(attrs.evolve(session_record(), card=_CARD))
        assert put.card == _CARD
        await storage.append_messages("s", [said("m1")])
        summary = await self.summary(storage)
        ignored = SessionSummary(counters={"x": 1})
        again = await storage.put_session(attrs.evolve(session_record(), card=_BINARY, summary=ignored))
        assert (again.card, again.summary) == (_BINARY, summary)
        with pytest.raises(ConflictError):
            await storage.put_session(attrs.evolve(session_record(), card=_CARD), expected_version=1)
        found = await storage.find_session("s")
        assert found is not None
        assert (found.card, await self.summary(storage)) == (_BINARY, summary)
        await storage.put_session(session_record(), expected_version=2)
        assert (await storage.query_sessions(SessionQuery())).sessions[0].card is None
        assert await self.summary(storage) == summary

    async def test_a_new_session_takes_over_a_summary(self, storage: SessionStorage) -> None:
        given = SessionSummary(
            first=Brief(1, _BINARY), last=Brief(4, json_payload("\ud800\0")), counters={"tokens": 2**40}
        )
        asked = attrs.evolve(given, counters={"user": 3, "tool": 1, **given.counters})
        put = await storage.put_session(attrs.evolve(session_record(), summary=asked), expected_version=0)
        assert put.summary == given
        await storage.append_messages("s", [said("m1", brief=None, tokens=1)])
        assert await self.summary(storage) == attrs.evolve(given, counters={"tokens": 2**40 + 1, "user": 1})

    async def test_an_expired_session_leaves_no_summary(self, storage: SessionStorage, clock: ManualClock) -> None:
        await storage.put_session(attrs.evolve(session_record(ttl_us=1_000_000), card=_CARD))
        await storage.append_messages("s", [said("m1", tokens=1)])
        clock.advance(2)
        await self.begin(storage)
        assert await self.summary(storage) == SessionSummary()
        header = await storage.find_session("s")
        assert header is not None
        assert (header.card, header.changes, header.lease) == (None, (), None)

    async def test_the_header_of_a_turn_has_no_summary(self, storage: SessionStorage) -> None:
        await storage.put_session(attrs.evolve(session_record(), card=_CARD))
        await storage.append_messages("s", [said("m1")])
        header, turn = await storage.find_session("s"), await storage.read_turn("s", newest=1)
        assert header is not None
        assert turn is not None
        assert turn.session == attrs.evolve(header, card=None, summary=SessionSummary())

    @pytest.mark.parametrize("name", VALID_IDS)
    async def test_a_counter_may_have_any_valid_name(self, storage: SessionStorage, name: str) -> None:
        await self.begin(storage)
        one = attrs.evolve(said("m1", brief=None), adds={name: 2**48, "other": 0})
        await storage.append_messages("s", [one])
        await storage.append_messages("s", [attrs.evolve(one, message_id="m2", adds={name: 1})])
        assert (await self.summary(storage)).counters == {"user": 2, name: 2**48 + 1}

    @pytest.mark.parametrize("size", [1, 3])
    async def test_an_append_moves_counts_between_counters(self, storage: SessionStorage, size: int) -> None:
        await self.begin(storage)
        batch = [said("m0", a=3, b=2**48, c=1), *(said(f"m{number}") for number in range(1, size))]
        await storage.append_messages("s", batch)
        moves = [said("n0", a=-3, b=1 - 2**48, c=-3, d=5), *(said(f"n{number}") for number in range(1, size))]
        await storage.append_messages("s", moves)
        assert (await self.summary(storage)).counters == {"user": 2 * size, "b": 1, "c": -2, "d": 5}
        await storage.append_messages("s", moves)
        assert (await self.summary(storage)).counters == {"user": 2 * size, "b": 1, "c": -2, "d": 5}
        await storage.append_messages("s", [said("z", a=0, b=-1, c=2, d=-5)])
        assert (await self.summary(storage)).counters == {"user": 2 * size + 1}
        await storage.replace_tail("s", after=0, messages=[said("t0", a=-1, b=2), said("t1", a=1, b=-1)])
        assert (await self.summary(storage)).counters == {"user": 2, "b": 1}

    async def test_a_new_session_has_no_counters_of_zero(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        summary = SessionSummary(counters={"none": 0, "less": -2, "more": 2})
        await storage.put_session(attrs.evolve(session_record("t"), summary=summary), expected_version=0)
        assert (await self.summary(storage, "t")).counters == {"less": -2, "more": 2}
        await storage.fork_session("s", attrs.evolve(session_record("f"), summary=summary), at=0)
        assert (await self.summary(storage, "f")).counters == {"less": -2, "more": 2}

    async def test_payloads_of_any_encoding_are_briefs(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        payloads = (_BINARY, json_payload("\ud800\0'\"\\\n"), Payload("json", b'"x"'), Payload("json+zstd", b""))
        for number, payload in enumerate(payloads, start=1):
            message = attrs.evolve(message_record(f"m{number}"), brief=payload)
            await storage.append_messages("s", [message])
            summary = await self.summary(storage)
            assert (summary.first, summary.last) == (Brief(1, _BINARY), Brief(number, payload))

    async def test_what_is_too_large_or_no_number_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        large = Payload("json+zstd", bytes(16 * 1024 + 1))
        with pytest.raises(ValidationError):
            await storage.put_session(attrs.evolve(session_record("t"), card=large))
        with pytest.raises(ValidationError):
            await storage.append_messages("s", [attrs.evolve(message_record("m"), brief=large)])
        wrong: tuple[Any, ...] = ({"user": -1}, {"n": -(2**48) - 1}, {"n": 2**48 + 1}, {"": 1}, {"n": True}, {"n": 0.5})
        for adds in wrong:
            with pytest.raises(ValidationError):
                await storage.append_messages("s", [attrs.evolve(message_record("m"), adds=adds)])
        await storage.append_messages("s", [said("m", brief=None)])
        with pytest.raises(ValidationError):
            await storage.update_message(
                "s", 1, payload=json_payload(1), expected=message_record("m").payload, brief=large
            )
        assert await self.summary(storage) == SessionSummary(counters={"user": 1})

    async def test_concurrent_appends_are_all_counted(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        await self.begin(writers[0], session_id="t")
        await asyncio.gather(
            *(
                storage.append_messages(
                    "st"[number % 2], [said(f"a{number}", n=number), said(f"b{number}", "assistant", n=1)]
                )
                for storage, number in spread(writers, range(50))
            )
        )
        for session_id in "st":
            summary = await self.summary(writers[0], session_id)
            numbers = range("st".index(session_id), 50, 2)
            assert summary.counters == {"user": 25, "assistant": 25, "n": sum(numbers) + 25}
            messages = await self.ids(writers[0], session_id)
            assert (summary.first, summary.last) == (brief(1, messages[0]), brief(50, messages[-1]))

    async def test_counters_survive_appends_among_cuts(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        await asyncio.gather(
            *(
                storage.append_messages("s", [said(f"a{number}", n=1)])
                if number % 4
                else storage.replace_tail("s", after=0, messages=[said(f"a{number}", "assistant", n=1)])
                for storage, number in spread(writers, range(24))
            )
        )
        left = await self.ids(writers[0])
        summary = await self.summary(writers[0])
        assert summary.counters["n"] == 24
        assert summary.counters.get("user", 0) + summary.counters["assistant"] == len(left)
        assert summary.last == brief(len(left), left[-1])

    async def test_repeated_conditional_appends_among_cuts_count_once(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])

        async def append(storage: SessionStorage, message: MessageRecord) -> None:
            while (header := await storage.find_session("s")) is not None:
                with suppress(ConflictError):
                    await storage.append_messages("s", [message], expected_last=header.last_position)
                    return

        await asyncio.gather(
            *(
                append(storage, said(f"a{number}", n=1)) if number % 3 else storage.truncate_messages("s", after=0)
                for storage, number in spread(writers, range(24))
            )
        )
        counters = (await self.summary(writers[0])).counters
        assert (counters["n"], counters.get("user", 0)) == (16, len(await self.ids(writers[0])))

    @pytest.mark.parametrize("late", [False, True])
    async def test_an_update_cancelled_at_any_step_is_whole_or_absent(
        self, storage: SessionStorage, *, late: bool
    ) -> None:
        await self.begin(storage)
        await storage.append_messages("s", [said("m1")])
        payload = message_record("m1").payload
        for step in range(_ENOUGH_STEPS):
            new, text = json_payload({"content": f"{step}"}), json_payload(f"step {step}")
            call = storage.update_message("s", 1, payload=new, expected=payload, brief=text)
            cancelled = await self.cancel(call, step, late=late)
            found = await storage.find_message("s", "m1")
            summary = await self.summary(storage)
            assert found is not None
            assert found.payload in (payload, new)
            if found.payload == new:
                payload = new
                assert summary.first == summary.last == Brief(1, text)
            if not cancelled:
                return
        pytest.fail(f"the call took more than {_ENOUGH_STEPS} steps")


class ActivityContract(ContractBase):
    """Listings by the time of the last change, and without a tag."""

    async def listed(self, storage: SessionStorage, **query: object) -> list[str]:
        """Return the ids of all pages of two, newest first unless the query says otherwise."""
        asked = SessionQuery(**{"by_activity": True, "newest_first": True, "limit": 2, **query})  # type: ignore[arg-type]
        found: list[str] = []
        for _ in range(100):
            page = await storage.query_sessions(asked)
            found.extend(record.session_id for record in page.sessions)
            if page.next_cursor is None:
                return found
            asked = attrs.evolve(asked, cursor=page.next_cursor)
        raise AssertionError(f"no end of pages: {found}")

    async def test_every_change_moves_a_session_to_the_top(self, storage: SessionStorage, clock: ManualClock) -> None:
        for name in ("a", "b", "c", "d", "e"):
            await storage.put_session(session_record(name, user_id="u"))
            clock.advance(1)
        assert await self.listed(storage) == ["e", "d", "c", "b", "a"]
        for seconds in (1, 61, 3601, 86_401):
            clock.advance(seconds)
            await storage.append_messages("b", message_records(2, prefix=f"{seconds}-"))
            assert await self.listed(storage) == ["b", "e", "d", "c", "a"]
            clock.advance(seconds)
            await storage.truncate_messages("d", after=0)
            assert await self.listed(storage, user_id="u") == ["d", "b", "e", "c", "a"]
            clock.advance(seconds)
            await storage.replace_tail("b", after=0, messages=message_records(1, prefix=f"new{seconds}-"))
            await storage.put_session(session_record("e", user_id="u"))
            assert await self.listed(storage) == ["e", "b", "d", "c", "a"]
            assert await self.listed(storage, newest_first=False) == ["a", "c", "d", "b", "e"]
        assert await self.listed(storage, by_activity=False) == ["e", "d", "c", "b", "a"]
        assert await self.listed(storage, user_id="v") == []

    async def test_sessions_of_one_time_are_ordered_by_id(self, storage: SessionStorage) -> None:
        names = ["A", "a", "aa", "b", "é", "\U0001f600"]
        for name in reversed(names):
            await storage.put_session(session_record(name))
        assert await self.listed(storage, newest_first=False) == names
        assert await self.listed(storage) == names[::-1]

    async def test_filters_hold_in_either_order(self, storage: SessionStorage, clock: ManualClock) -> None:
        created = []
        for number, tags in enumerate(((), ("x",), ("x", "y"), ("y",), (), ("y", "z"))):
            record = session_record(f"s{number}", user_id="uv"[number % 2], tags=tags)
            created.append((await storage.put_session(record)).created_at_us)
            clock.advance(40)
        await storage.append_messages("s1", message_records(1))
        for by_activity in (True, False):
            order = {"by_activity": by_activity, "newest_first": False}
            last = [1] if by_activity else []
            expected = [n for n in (0, 1, 4) if n not in last] + last
            assert await self.listed(storage, without_tag="y", **order) == [f"s{n}" for n in expected]
            assert await self.listed(storage, tag="x", without_tag="y", **order) == ["s1"]
            assert await self.listed(storage, tag="y", without_tag="z", **order) == ["s2", "s3"]
            assert await self.listed(storage, without_tag="y", user_id="u", **order) == ["s0", "s4"]
            assert await self.listed(storage, tag="y", without_tag="y", **order) == []
            assert await self.listed(storage, without_tag="absent", user_id="v", **order) == (
                ["s3", "s5", "s1"] if by_activity else ["s1", "s3", "s5"]
            )
            between = {"created_after_us": created[1], "created_before_us": created[4], **order}
            expected = [n for n in (1, 2, 3) if n not in last] + last
            assert await self.listed(storage, **between) == [f"s{n}" for n in expected]
        with pytest.raises(ValidationError):
            await storage.query_sessions(SessionQuery(without_tag=""))

    async def test_unchanged_sessions_are_listed_once_among_writers(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        random = Random(7)  # noqa: S311  # not a secret
        quiet = [f"quiet{number}" for number in range(12)]
        for number, name in enumerate(quiet):
            await storage.put_session(session_record(name))
            await storage.put_session(session_record(f"busy{number}"))
            clock.advance(random.choice((1, 30, 90)))
        for newest_first in (True, False):
            query, found = SessionQuery(by_activity=True, newest_first=newest_first, limit=3), list[str]()
            for page_number in range(100):
                page = await storage.query_sessions(query)
                found.extend(record.session_id for record in page.sessions)
                if page.next_cursor is None:
                    break
                query = attrs.evolve(query, cursor=page.next_cursor)
                clock.advance(random.choice((1, 30, 90)))
                busy = f"busy{random.randrange(12)}"
                await storage.append_messages(busy, [message_record(f"{newest_first}{page_number}")])
            assert [name for name in found if name in quiet] == (quiet[::-1] if newest_first else quiet)

    async def test_expired_sessions_are_not_listed(self, storage: SessionStorage, clock: ManualClock) -> None:
        await storage.put_session(session_record("short", ttl_us=10_000_000))
        await storage.put_session(session_record("kept", ttl_us=10_000_000))
        clock.advance(6)
        await storage.append_messages("kept", message_records(1))
        clock.advance(6)
        assert await self.listed(storage) == ["kept"]
        clock.advance(6)
        assert await self.listed(storage) == []
        await storage.put_session(session_record("short"))
        assert await self.listed(storage) == ["short"]

    async def test_a_deleted_session_is_not_listed(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage, messages=1)
        clock.advance(100)
        await storage.append_messages("s", [message_record("later")])
        await storage.delete_session("s")
        assert await self.listed(storage) == []
        await self.begin(storage)
        assert await self.listed(storage) == ["s"]
