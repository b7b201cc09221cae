"""Appends to a session that has expired by one clock and not yet by another."""

from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb.documents import Header
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import SessionNotFoundError, StorageUnavailableError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace, ids


async def two_clocks(place: MongoPlace, ahead: float) -> tuple[MongoDBStorage, MongoDBStorage]:
    """Return a storage for which a session of two messages has expired, and one for which it has not."""
    late_clock = ManualClock()
    late = MongoDBStorage(place.url, database=place.name, driver="pymongo", clock=late_clock)
    punctual = place.storage("pymongo")
    await punctual.put_session(session_record(ttl_us=10_000_000))
    await late.append_messages("s", message_records(2))
    place.clock.advance(9.999)
    late_clock.advance(10 + ahead)
    return late, punctual


@pytest.mark.parametrize("step", ["header", "update"])
async def test_who_appends_behind_a_batch_that_is_to_be_taken_out_finds_no_gap(
    place: MongoPlace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    late, punctual = await two_clocks(place, 0.004)
    async with late, punctual:
        sessions: Any = late._store.sessions if step == "header" else late._store.appends._store.sessions
        call = getattr(sessions, step)

        async def overtaken(*args: Any) -> Header | bool | None:
            monkeypatch.undo()
            if step == "header":  # it is read, and only then comes the other
                found: Header | None = await call(*args)
                await punctual.append_messages("s", [message_record("other")])
                return found
            await punctual.put_session(session_record(ttl_us=10_000_000))
            return bool(await call(*args))

        monkeypatch.setattr(sessions, step, overtaken)
        receipt = await late.append_messages("s", [message_record("late")])
        assert receipt == AppendReceipt(first_position=3, last_position=3)
        assert await ids(punctual) == ["m1", "m2", "late", *(["other"] if step == "header" else [])]
        await punctual.append_messages("s", [message_record("next")])
        assert (await ids(late))[-2:] == ["other" if step == "header" else "late", "next"]


async def test_what_was_refused_since_the_session_has_expired_is_seen_by_nobody(place: MongoPlace) -> None:
    late, punctual = await two_clocks(place, 0.004)
    async with late, punctual:
        with pytest.raises(SessionNotFoundError):
            await late.append_messages("s", [message_record("late")])
        assert await ids(punctual) == ["m1", "m2"]
        receipt = await punctual.append_messages("s", [message_record("late"), message_record("next")])
        assert receipt == AppendReceipt(first_position=3, last_position=4)
        assert await ids(late) == ["m1", "m2", "late", "next"]


async def test_a_batch_that_others_follow_in_a_session_that_has_expired_is_in_doubt(
    place: MongoPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has inserted his batch and not yet prolonged the session."""
    late, punctual = await two_clocks(place, 0.004)
    async with late, punctual:
        looking = punctual._store.appends._appended
        header = late._store.sessions.header

        async def overtaken(*args: Any) -> Header | None:
            monkeypatch.setattr(late._store.sessions, "header", header)
            monkeypatch.setattr(looking, "looked_after", inserted)
            with pytest.raises(_HeldUp):
                await punctual.append_messages("s", [message_record("other")])
            return await header(*args)

        async def inserted(*_: Any) -> AppendReceipt | None:
            raise _HeldUp

        monkeypatch.setattr(late._store.sessions, "header", overtaken)
        with pytest.raises(StorageUnavailableError) as refused:
            await late.append_messages("s", [message_record("late")])
        assert refused.value.in_doubt is True
        assert await ids(punctual) == ["m1", "m2", "late", "other"]


class _HeldUp(Exception):  # noqa: N818  # no error: the writer is slow
    pass
