"""The log and its sidecar by themselves."""

import errno
import os
from pathlib import Path

import pytest
from luminoracore_sdk.adapters.storage.json_file.index import MessageIndex
from luminoracore_sdk.adapters.storage.json_file.io import FileIO

from luminoracore_sdk.adapters.storage.json_file.log import MessageLog
from luminoracore_sdk.testing.records import message_record, message_records


def test_an_id_is_found_by_its_row_and_not_by_bytes_across_two_rows(tmp_path: Path) -> None:
    path = tmp_path / "messages.idx"
    index = MessageIndex(str(path))
    index.add([(["wanted"], 7)])
    index.close()
    row = path.read_bytes()
    path.write_bytes(bytes(8) + row[:16] + row)
    index = MessageIndex(str(path))
    try:
        assert (index.count, index.find(["wanted", "unknown"])) == (2, {"wanted": 2})
        assert index.offset(2) == 7
        many = [f"u{number}" for number in range(20)]
        assert index.find([*many, "wanted"]) == {"wanted": 2}
    finally:
        index.close()


def test_the_time_of_a_log_never_runs_backwards(tmp_path: Path) -> None:
    (tmp_path / "messages.jsonl").touch()
    io = FileIO(fsync=False)
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        list(log.append([([message_record("m1")], 200)]))
        list(log.append([([message_record("m2")], 100)]))
        assert log.at_us == 200
    with MessageLog.opened(tmp_path, io) as log:
        assert (log.last, log.at_us) == (2, 200)


def test_a_read_takes_from_the_log_what_it_needs_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "messages.jsonl").touch()
    io = FileIO(fsync=False)
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        for message in message_records(5000):
            list(log.append([([message], 1)]))

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text("ascii").split("rchar:")[1].split()[0])

    size = (tmp_path / "messages.jsonl").stat().st_size
    before = bytes_read()
    with MessageLog.opened(tmp_path, io) as log:
        found = log.read(4981, 5000)
    assert [message.message_id for message in found] == [f"m{number}" for number in range(4981, 5001)]
    assert bytes_read() - before < size / 20


def appended(log: MessageLog, *message_ids: str) -> None:
    for message_id in message_ids:
        list(log.append([([message_record(message_id)], 1)]))


def rows(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return [data[start : start + 16] for start in range(0, len(data), 24)]


def failing_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next row not fit onto the disk, and those after it fit again."""
    pwrite, calls = os.pwrite, []

    def failing(fd: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)


@pytest.mark.parametrize("searches", [0, 1, 3])
def test_after_a_row_that_did_not_fit_every_id_is_found_and_no_hole_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searches: int
) -> None:
    (tmp_path / "messages.jsonl").touch()
    io = FileIO(fsync=False)
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        appended(log, "m1", "m2")
        for _ in range(searches):
            assert log.find(["new"]) == {}
        failing_once(monkeypatch)
        appended(log, "m3", "m4")
        assert log.find(["m1", "m3", "m4", "m5"]) == {"m1": 1, "m3": 3, "m4": 4}
        appended(log, "m5")
        assert log.find(["m2", "m5"]) == {"m2": 2, "m5": 5}
        assert log.leave() is False
        assert not (tmp_path / "messages.idx").exists()
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        assert log.find(["m1", "m5"]) == {"m1": 1, "m5": 5}
    assert len(rows(tmp_path / "messages.idx")) == 5


def test_rows_that_are_caught_up_on_leave_no_hole_if_the_first_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "messages.jsonl").touch()
    io = FileIO(fsync=False)
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        appended(log, "m1", "m2", "m3", "m4")
    os.truncate(tmp_path / "messages.idx", 48)
    failing_once(monkeypatch)
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        assert log.find(["m1", "m4"]) == {"m1": 1, "m4": 4}
        appended(log, "m5")
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        assert log.find(["m1", "m4", "m5"]) == {"m1": 1, "m4": 4, "m5": 5}
    assert bytes(16) not in rows(tmp_path / "messages.idx")


@pytest.mark.parametrize("damage", ["hole", "short"])
def test_a_sidecar_with_a_hole_or_one_that_became_shorter_is_made_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "messages.jsonl").touch()
    sidecar = tmp_path / "messages.idx"
    io = FileIO(fsync=False)
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        appended(log, "m1", "m2", "m3")
        whole = sidecar.read_bytes()
    if damage == "hole":
        sidecar.write_bytes(bytes(48) + whole[48:])
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        if damage == "short":
            os.truncate(sidecar, 24)
        assert log.find(["m2"]) == {"m2": 2}
    assert sidecar.read_bytes() == whole


def test_an_id_that_was_appended_after_a_search_is_found(tmp_path: Path) -> None:
    (tmp_path / "messages.jsonl").touch()
    with MessageLog.opened(tmp_path, FileIO(fsync=False), writing=True) as log:
        appended(log, "m1")
        assert [log.find(["new"]), log.find(["new"])] == [{}, {}]  # the second makes the filter
        appended(log, "m2")
        assert log.find(["m2"]) == {"m2": 2}
