"""The summary in the log: where the briefs are, that none is left behind, and that damage is noticed."""

import asyncio
import errno
import os
import threading
from pathlib import Path
from random import Random

import attrs
import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.json_file.layout import hashed
from luminoracore_sdk.adapters.storage.json_file.summary import Tally
from luminoracore_sdk.application.ports.records import (
    Brief,
    HeaderTexts,
    MessageRange,
    MessageRecord,
    Payload,
    SessionRecord,
    SessionSummary,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import CorruptRecordError, StorageFullError
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record

ALL = MessageRange()


def said(message_id: str, role: str = "user") -> MessageRecord:
    return attrs.evolve(message_record(message_id, role=role), brief=json_payload(f"brief of {message_id}"))


def brief(position: int, message_id: str) -> Brief:
    return Brief(position, json_payload(f"brief of {message_id}"))


def folder_of(root: Path, session_id: str = "s") -> Path:
    return root / "sessions" / hashed(session_id)[:2] / hashed(session_id)


def files_with(root: Path, text: str) -> list[str]:
    """Return the names of the files that contain a text."""
    return [path.name for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def reads() -> int:
    """Return how often this process has read."""
    return int(Path("/proc/self/io").read_text("ascii").split("syscr:")[1].split()[0])


def unfinished(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.suffix in {".tmp", ".new"}]


async def header_of(storage: JSONFileStorage, session_id: str = "s") -> SessionRecord:
    header = await storage.find_session(session_id)
    assert header is not None
    return header


async def update(storage: JSONFileStorage, position: int, text: str, new: Payload | None) -> None:
    (found,) = await storage.read_messages("s", MessageRange(after=position - 1, limit=1))
    await storage.update_message(
        "s", position, payload=json_payload({"content": text}), expected=found.payload, brief=new
    )


def test_a_tally_is_what_a_summary_is() -> None:
    random = Random(7)  # noqa: S311  # not a secret
    for _ in range(300):
        summary = SessionSummary()
        tally, position, briefs = Tally.of(summary), 1, dict[int, Payload]()
        for _ in range(random.randint(1, 4)):
            messages = [
                attrs.evolve(
                    message_record(f"m{number}", role=random.choice(("user", "assistant"))),
                    brief=random.choice((None, json_payload(f"brief {position} {number}"))),
                    adds=random.choice(({}, {"tokens": number, "user": 1})),
                )
                for number in range(random.randint(1, 4))
            ]
            summary = summary.appended(messages, position)
            tally, new = tally.appended(messages, position)
            assert len(new) <= 2
            briefs |= new
            position += len(messages)
            places = [None if found is None else found.position for found in (summary.first, summary.last)]
            assert (tally.counters, [tally.first, tally.last]) == (summary.counters, places)
            assert [None if place is None else Brief(place, briefs[place]) for place in places] == [
                summary.first,
                summary.last,
            ]


# -- where the briefs are --------------------------------------------------------------------------


async def test_a_line_does_not_repeat_the_first_brief(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        for number in range(1, 6):
            await storage.append_messages("s", [said(f"m{number}")])
        assert (await header_of(storage)).summary.first == brief(1, "m1")
    lines = (folder_of(tmp_path) / "messages.jsonl").read_text("ascii").splitlines()
    assert [[f"brief of m{number}" in line for line in lines].count(True) for number in range(1, 6)] == [1] * 5


async def test_a_redacted_brief_is_nowhere(tmp_path: Path) -> None:
    given = SessionSummary(last=Brief(1, json_payload("given")))
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(attrs.evolve(session_record(), summary=given))
        assert files_with(tmp_path, "given") == ["messages.jsonl"]
        await storage.append_messages("s", [said("m1"), said("m2", "assistant")])
        await storage.append_messages("s", [said("m3"), said("m4")])
        await storage.truncate_messages("s", after=3)
        assert files_with(tmp_path, "given") == []
        await storage.append_messages("s", [said("m5")])
        left = folder_of(tmp_path) / "messages.jsonl.tmp"  # by a process that was killed
        left.write_bytes((folder_of(tmp_path) / "messages.jsonl").read_bytes())
        for position, message_id in ((1, "m1"), (4, "m5"), (2, "m2"), (3, "m3")):
            await update(storage, position, "gone", None)
            for text in (f"brief of {message_id}", f"text of {message_id}"):
                assert files_with(tmp_path, text) == []
        assert (await header_of(storage)).summary == SessionSummary(counters={"user": 3, "assistant": 1})


@pytest.mark.parametrize("texts_first", [False, True])
async def test_rewriting_leaves_no_brief_as_it_was(tmp_path: Path, texts_first: bool) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(attrs.evolve(session_record(), card=json_payload("brief of the card")))
        for number in range(1, 7):
            await storage.append_messages("s", [said(f"m{number}"), said(f"n{number}", "assistant")])
        await update(storage, 12, "changed", json_payload("brief of n6"))
        before = await header_of(storage)
        new = HeaderTexts(card=json_payload("c"), first=Brief(1, json_payload("f")), last=Brief(12, json_payload("l")))
        for step in (texts_first, not texts_first):
            if step:
                assert await storage.rewrite_texts("s", old=before.texts, new=new) is True
                continue
            changes = [
                PayloadRewrite(
                    position=message.position,
                    message_id=message.message_id,
                    old=message.payload,
                    new=json_payload(message.position),
                )
                for message in await storage.read_messages("s", ALL)
            ]
            assert await storage.rewrite_messages("s", changes) == 12
        assert files_with(tmp_path, "brief of") == []
        after = await header_of(storage)
        assert (after, after.changes) == (before.with_texts(new), before.changes)


async def test_a_fork_takes_no_brief_for_its_own(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        for number in range(1, 4):
            await storage.append_messages("s", [said(f"m{number}")])
        given = SessionSummary(last=Brief(2, json_payload("given")))
        await storage.fork_session("s", attrs.evolve(session_record("f"), summary=given), at=3)
        assert (await header_of(storage, "f")).summary == attrs.evolve(given, counters={"user": 3})
        await storage.append_messages("f", [said("m4")])
        expected = SessionSummary(first=brief(4, "m4"), last=brief(4, "m4"), counters={"user": 4})
        assert (await header_of(storage, "f")).summary == expected


# -- damage ----------------------------------------------------------------------------------------


async def test_a_flipped_bit_anywhere_in_the_base_is_noticed(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [said("m1"), said("m2")])
        await storage.truncate_messages("s", after=1)
        header = await header_of(storage)
        assert [(change.kind, change.position) for change in header.changes] == [("cut", 1)]
        log = folder_of(tmp_path) / "messages.jsonl"
        whole = log.read_bytes()
        for place in range(whole.index(b"\n")):
            log.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(CorruptRecordError, match=r"messages\.jsonl is damaged"):
                await storage.find_session("s")
        log.write_bytes(whole)
        assert await header_of(storage) == header


@pytest.mark.parametrize("state", ["missing", "garbage", "behind"])
async def test_a_log_with_a_base_outlives_its_index(tmp_path: Path, state: str) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [said("m1"), said("m2")])
        await storage.truncate_messages("s", after=0)
        empty = await header_of(storage)
        assert (empty.last_position, empty.summary) == (0, SessionSummary())
        await storage.append_messages("s", [said("n1")])
        await storage.append_messages("s", [said("n2")])
        index = folder_of(tmp_path) / "messages.idx"
        rows = index.read_bytes()
        index.unlink()
        if state != "missing":
            index.write_bytes(b"\xff" * 48 if state == "garbage" else rows[:24])
        expected = SessionSummary(first=brief(1, "n1"), last=brief(2, "n2"), counters={"user": 2})
        assert (await header_of(storage)).summary == expected
        assert (await storage.append_messages("s", [said("n1")])).replayed
        assert index.read_bytes() == rows


async def test_a_torn_line_behind_a_base_is_cut_off(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [said("m1")])
        await storage.truncate_messages("s", after=0)
        log = folder_of(tmp_path) / "messages.jsonl"
        base = log.read_bytes()
        log.write_bytes(base + b'{"crc":"00')
        assert (await header_of(storage)).last_position == 0
        assert (await storage.append_messages("s", [said("n1")])).first_position == 1
        assert log.read_bytes().startswith(base + b'{"crc":"')
        assert await storage.read_messages("s", ALL) == [attrs.evolve(message_record("n1"), position=1)]


async def test_a_missing_brief_is_damage(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [said("m1")])
        await storage.append_messages("s", [said("m2")])
        log = folder_of(tmp_path) / "messages.jsonl"
        lines = log.read_bytes().splitlines(keepends=True)
        await storage.delete_session("s")
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("m1")])
        await storage.append_messages("s", [said("m2")])
        log.write_bytes(log.read_bytes().splitlines(keepends=True)[0] + lines[1])
        with pytest.raises(CorruptRecordError, match=r"line 1 .*no brief of message 1"):
            await storage.find_session("s")


# -- changes that fail or are killed ---------------------------------------------------------------


async def test_a_failed_change_leaves_the_session_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [said("m1"), said("m2")])
        before = await header_of(storage)
        messages = await storage.read_messages("s", ALL)

        def refused(source: Path, target: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", refused)
            with pytest.raises(StorageFullError):
                await update(storage, 1, "new", None)
            with pytest.raises(StorageFullError):
                await storage.truncate_messages("s", after=1)
            with pytest.raises(StorageFullError):
                await storage.replace_tail("s", after=1, messages=[said("n2")])
            with pytest.raises(StorageFullError):
                await storage.acquire_lease("s", holder="h", ttl_us=1)
            with pytest.raises(StorageFullError):
                await storage.fork_session("s", session_record("f"), at=1)
        after = await header_of(storage)
        assert (after, after.changes, after.lease) == (before, (), None)
        assert await storage.read_messages("s", ALL) == messages
        assert await storage.find_session("f") is None
    assert unfinished(tmp_path) == []


async def test_what_a_killed_fork_left_is_purged(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record())
        left = folder_of(tmp_path, "f")
        left = left.with_name(f"{left.name}.new")
        left.mkdir(parents=True)
        (left / "messages.jsonl").write_bytes(b"{")
        assert await storage.find_session("f") is None
        assert await storage.list_sessions() == ["s"]
        await storage.purge_expired()
        assert not left.exists()
        await storage.fork_session("s", session_record("f"), at=0)
        assert await storage.list_sessions() == ["s", "f"]


# -- what it costs ---------------------------------------------------------------------------------


async def test_a_fork_does_not_hold_up_the_source(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(3))
        await storage.append_messages("s", message_records(3, prefix="n"))
        copying, changed = threading.Event(), threading.Event()

        def rewrite(message: MessageRecord) -> MessageRecord:
            copying.set()
            assert changed.wait(20)
            return message

        fork = asyncio.create_task(storage.fork_session("s", session_record("f"), at=5, rewrite=rewrite))
        assert await asyncio.to_thread(copying.wait, 20)
        await storage.append_messages("s", [message_record("later")])
        await storage.replace_tail("s", after=1, messages=[message_record("other")])
        changed.set()
        assert (await fork).last_position == 5
        forked = [message.message_id for message in await storage.read_messages("f", ALL)]
        assert forked == ["m1", "m2", "m3", "n1", "n2"]


async def test_an_append_after_a_cut_costs_no_more(tmp_path: Path) -> None:
    costs = list[int]()
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        for number in range(10):
            await storage.append_messages("s", [said(f"m{number}")])
        for number in range(3):
            before = reads()
            await storage.append_messages("s", [said(f"n{number}")])
            costs.append(reads() - before)
            if number == 0:
                await storage.truncate_messages("s", after=5)
    assert costs[2] == costs[0]


async def test_a_turn_does_not_read_the_summary(tmp_path: Path) -> None:
    costs = list[int]()
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        for cut in (False, True):
            await storage.put_session(session_record(f"{cut}"))
            await storage.append_messages(f"{cut}", [said("m1"), said("m2")])
            await storage.append_messages(f"{cut}", [said("m3"), said("m4")])
            if cut:
                await storage.truncate_messages("True", after=3)
            await storage.read_turn(f"{cut}", newest=1)
            before = reads()
            await storage.read_turn(f"{cut}", newest=1)
            costs.append(reads() - before)
    assert costs[1] == costs[0]
