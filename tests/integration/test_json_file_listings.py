"""What a page of a listing costs, and that it sees the changes of other processes."""

import os
import stat as stat_module
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.json_file.layout import hashed
from luminoracore_sdk.adapters.storage.json_file.sessions import SessionFolder
from luminoracore_sdk.application.ports.records import MessageRange, SessionQuery, SessionRecord
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import json_payload, message_record, session_record

EVERYTHING = SessionQuery(limit=1000)
LATEST = SessionQuery(by_activity=True, newest_first=True, limit=10)


async def fill(storage: JSONFileStorage, count: int) -> list[str]:
    ids = [f"s{number:03}" for number in range(count)]
    for number, session_id in enumerate(ids):
        record = session_record(session_id, user_id=f"u{number % 2}", tags=(f"t{number % 4}",))
        await storage.put_session(record)
    return ids


def age(root: Path) -> None:
    """Make everything look as if it had been written a minute ago."""
    then = time.time() - 60
    for path in (root / "sessions").rglob("*"):
        os.utime(path, (then, then))


async def listed(storage: JSONFileStorage, query: SessionQuery = EVERYTHING) -> list[str]:
    return [record.session_id for record in (await storage.query_sessions(query)).sessions]


@contextmanager
def files_opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Give the names of the files that are opened in the block, in order."""
    opened: list[str] = []
    open_file = os.open

    def recorded(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append(Path(path).name)
        return open_file(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", recorded)
        yield opened


async def headers_read(
    storage: JSONFileStorage, monkeypatch: pytest.MonkeyPatch, query: SessionQuery
) -> tuple[list[str], int]:
    """Return the ids on a page, and the number of headers that were opened for it."""
    with files_opened(monkeypatch) as opened:
        ids = await listed(storage, query)
    return ids, opened.count("session.json")


def make_file_times_coarse(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Report file times as FAT has them, in steps of 2 s, and one inode number for everything."""
    stat = os.stat

    def coarse(path: int | str | os.PathLike[str], **options: Any) -> os.stat_result:
        info = stat(path, **options)
        if not str(path).startswith(f"{root}/sessions/"):
            return info
        values = [7 if place == stat_module.ST_INO else value for place, value in enumerate(info)]
        times = {f"{name}_ns": getattr(info, name) // 2 * 2_000_000_000 for name in ("st_mtime", "st_ctime")}
        return os.stat_result(values, {name: int(value) for name, value in times.items()})

    monkeypatch.setattr(os, "stat", coarse)


def header_of(root: Path, session_id: str) -> Path:
    return root / "sessions" / hashed(session_id)[:2] / hashed(session_id) / "session.json"


# -- cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_page_reads_the_headers_on_it_and_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest_first: bool
) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        ids = await fill(storage, 100)
        in_order = ids[::-1] if newest_first else ids
        age(tmp_path)
        first = SessionQuery(limit=10, newest_first=newest_first)
        assert await headers_read(storage, monkeypatch, first) == (in_order[:10], 100 + 11)
        assert await headers_read(storage, monkeypatch, first) == (in_order[:10], 11)
        cursor = (await storage.query_sessions(first)).next_cursor
        second = SessionQuery(limit=10, newest_first=newest_first, cursor=cursor)
        assert await headers_read(storage, monkeypatch, second) == (in_order[10:20], 11)


async def test_a_page_between_two_times_reads_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    async with JSONFileStorage(tmp_path, clock=clock, fsync=False) as storage:
        for number in range(50):
            clock.advance(seconds=1)
            await storage.put_session(session_record(f"s{number:03}"))
        age(tmp_path)
        records = (await storage.query_sessions(EVERYTHING)).sessions
        between = SessionQuery(created_after_us=records[20].created_at_us, created_before_us=records[25].created_at_us)
        expected = [f"s{number:03}" for number in range(20, 25)]
        assert await headers_read(storage, monkeypatch, between) == (expected, 5)


@pytest.mark.parametrize(("fraction_ns", "again"), [(0, 10), (1, 0), (9_999_999, 0)])
async def test_a_change_of_a_second_ago_is_trusted_if_file_times_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction_ns: int, again: int
) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        ids = await fill(storage, 10)
        then = (time.time_ns() - 10**9) // 10_000_000 * 10_000_000 + fraction_ns
        for path in (tmp_path / "sessions").rglob("*"):
            os.utime(path, ns=(then, then))
        light = attrs.evolve(EVERYTHING, texts=False)
        assert await listed(storage, light) == ids
        found, headers = await headers_read(storage, monkeypatch, light)
        assert (found, headers) == (ids, 2 * again)  # for the order, and for the change


async def test_a_new_session_costs_the_headers_of_its_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as ours, JSONFileStorage(tmp_path) as theirs:
        ids = await fill(theirs, 100)
        age(tmp_path)
        await listed(ours)
        await theirs.put_session(session_record("new"))
        shard = sum(hashed(session_id)[:2] == hashed("new")[:2] for session_id in [*ids, "new"])
        newest = SessionQuery(limit=1, newest_first=True)
        assert await headers_read(ours, monkeypatch, newest) == (["new"], shard + 2)
        await theirs.delete_session("s050")
        ids.remove("s050")
        assert await listed(ours) == [*ids, "new"]


async def test_a_page_lists_only_the_shards_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await fill(storage, 100)
        age(tmp_path)
        await listed(storage)
        await storage.put_session(session_record("new"))
        looked: list[str] = []
        list_folder = os.listdir

        def recorded(path: str) -> list[str]:
            looked.append(Path(path).name)
            return list_folder(path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", recorded)
            assert len(await listed(storage)) == 101
        assert looked == ["sessions", hashed("new")[:2]]


async def test_a_page_for_a_user_or_tag_stops_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await fill(storage, 100)
        age(tmp_path)
        await listed(storage)
        for query, expected, reads in (
            (SessionQuery(limit=3, user_id="u1"), ["s001", "s003", "s005"], 8 + 4),
            (SessionQuery(limit=2, tag="t2"), ["s002", "s006"], 11 + 3),
        ):
            assert await headers_read(storage, monkeypatch, query) == (expected, reads)


async def test_a_page_by_activity_reads_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as ours, JSONFileStorage(tmp_path) as theirs:
        ids = await fill(theirs, 100)
        age(tmp_path)
        expected = ids[:-11:-1]
        assert await headers_read(ours, monkeypatch, LATEST) == (expected, 100 + 100 + 11)
        assert await headers_read(ours, monkeypatch, LATEST) == (expected, 11)
        await theirs.append_messages("s007", [message_record("m1")])
        expected = ["s007", *expected[:9]]
        assert await headers_read(ours, monkeypatch, LATEST) == (expected, 1 + 11)
        of_user = SessionQuery(by_activity=True, newest_first=True, limit=3, user_id="u0", without_tag="t0")
        assert await headers_read(ours, monkeypatch, of_user) == (["s098", "s094", "s090"], 1 + 4)


# -- other processes ----------------------------------------------------------------------------------------


async def test_the_next_page_shows_the_changes_of_another_storage(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as ours, JSONFileStorage(tmp_path) as theirs:
        assert await listed(ours) == []
        ids = await fill(theirs, 20)
        for _ in range(2):
            assert await listed(ours) == ids
            age(tmp_path)
        await theirs.delete_session(ids.pop(7))
        assert await listed(ours) == ids
        await ours.delete_session(ids.pop(3))
        assert await listed(theirs) == ids


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_session_created_anew_is_listed_in_its_new_place(tmp_path: Path, is_old: bool) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as ours, JSONFileStorage(tmp_path) as theirs:
        await fill(theirs, 3)
        for session_id in ("s000", "s001", "s002") * 5:
            if is_old:
                age(tmp_path)
            before = await listed(ours)
            await theirs.delete_session(session_id)
            await theirs.put_session(session_record(session_id))
            before.remove(session_id)
            assert await listed(ours) == [*before, session_id]


async def test_a_replaced_expired_session_is_listed_once(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        JSONFileStorage(tmp_path, clock=clock, fsync=False) as ours,
        JSONFileStorage(tmp_path, clock=clock, fsync=False) as theirs,
    ):
        await theirs.put_session(session_record("short", ttl_us=1_000_000))
        clock.advance(seconds=0.5)
        await theirs.put_session(session_record("long"))
        age(tmp_path)
        assert await listed(ours) == ["short", "long"]
        clock.advance(seconds=2)
        assert await listed(ours) == ["long"]
        await theirs.put_session(session_record("short"))
        assert await listed(ours) == ["long", "short"]


async def test_a_change_within_one_tick_of_file_times_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_file_times_coarse(tmp_path, monkeypatch)
    async with JSONFileStorage(tmp_path, fsync=False) as ours, JSONFileStorage(tmp_path) as theirs:
        expected: list[str] = []
        for number in range(600):  # more than shards, so that some have several
            expected.append(f"s{number:03}")
            await theirs.put_session(session_record(expected[-1]))
            if number % 50 == 49:
                assert await listed(ours) == expected
        for session_id in ("s000", "s599", "s300"):
            await theirs.delete_session(session_id)
            await theirs.put_session(session_record(session_id))
            expected.remove(session_id)
            expected.append(session_id)
            assert await listed(ours) == expected


@pytest.mark.parametrize("is_coarse", [False, True])
async def test_every_change_of_another_storage_moves_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_coarse: bool
) -> None:
    if is_coarse:
        make_file_times_coarse(tmp_path, monkeypatch)
    clock = ManualClock()
    async with (
        JSONFileStorage(tmp_path, clock=clock, fsync=False) as ours,
        JSONFileStorage(tmp_path, clock=clock, fsync=False) as theirs,
    ):
        expected = await fill(theirs, 6)
        expected.reverse()

        async def changed(session_id: str) -> None:
            expected.remove(session_id)
            expected.insert(0, session_id)
            clock.advance(seconds=1)

        for number in range(12):
            if number % 3 == 0:
                age(tmp_path)
            await changed("s001")
            await theirs.append_messages("s001", [message_record(f"m{number}")])
            assert await listed(ours, LATEST) == expected
            await changed("s002")
            await theirs.put_session(session_record("s002", text=f"{number}"))
            assert await listed(ours, LATEST) == expected
            await changed("s001")
            await theirs.replace_tail("s001", after=number // 2, messages=[message_record(f"n{number}")])
            assert await listed(ours, LATEST) == expected
            message = (await theirs.read_messages("s001", MessageRange(limit=1)))[0]
            await theirs.update_message("s001", 1, payload=json_payload(number), expected=message.payload)
            await theirs.acquire_lease("s003", holder=f"h{number}", ttl_us=1)
            assert await listed(ours, LATEST) == expected


async def test_what_moves_while_a_page_is_read_is_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    async with JSONFileStorage(tmp_path, clock=clock, fsync=False) as storage:
        ids = await fill(storage, 6)
        clock.advance(seconds=1)
        find_current = SessionFolder.current
        oldest_first = SessionQuery(by_activity=True, limit=2)

        def moving(folder: SessionFolder, now_us: int) -> SessionRecord | None:
            """Find a session after one that was changed at that moment."""
            found = find_current(folder, now_us)
            if found is not None and found.session_id == "s004":
                found = attrs.evolve(found, updated_at_us=clock.now_us)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(SessionFolder, "current", moving)
            newest = await storage.query_sessions(attrs.evolve(LATEST, limit=2))
            assert [record.session_id for record in newest.sessions] == ["s004", "s005"]
            second = await storage.query_sessions(attrs.evolve(LATEST, limit=3, cursor=newest.next_cursor))
            assert [record.session_id for record in second.sessions] == ["s003", "s002", "s001"]
            found, query = list[str](), oldest_first
            for _ in range(3):
                page = await storage.query_sessions(query)
                found += [record.session_id for record in page.sessions]
                query = attrs.evolve(query, cursor=page.next_cursor)
            assert found == [*ids[:4], "s005", "s004"]


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("was_listed", [False, True])
async def test_a_damaged_header_fails_every_page_it_belongs_to(tmp_path: Path, was_listed: bool) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        ids = await fill(storage, 10)
        if was_listed:
            age(tmp_path)
            assert await listed(storage) == ids
        header = header_of(tmp_path, "s004")
        whole = header.read_bytes()
        header.write_bytes(whole[:-9])
        for _ in range(2):
            with pytest.raises(CorruptRecordError, match=r"session\.json"):
                await listed(storage)
        header.write_bytes(whole)
        assert await listed(storage) == ids
        header.write_bytes(whole[:-9])
        await storage.delete_session("s004")
        ids.remove("s004")
        assert await listed(storage) == ids


async def test_a_reopened_storage_lists_new_sessions(tmp_path: Path) -> None:
    storage = JSONFileStorage(tmp_path, fsync=False)
    async with storage:
        await storage.put_session(session_record("a"))
        assert await listed(storage) == ["a"]
    async with JSONFileStorage(tmp_path, fsync=False) as theirs:
        await theirs.put_session(session_record("b"))
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        assert await listed(storage) == ["a", "b"]
