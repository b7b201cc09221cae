"""The log of a session and its index, one operation at a time."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import log as log_module
from luminoracore_sdk.adapters.storage.json_file import message_index
from luminoracore_sdk.adapters.storage.json_file.files import Files
from luminoracore_sdk.adapters.storage.json_file.log import MessageLog
from luminoracore_sdk.adapters.storage.json_file.message_index import KnownIds
from luminoracore_sdk.testing.records import message_record


class Session:
    """A folder with a log; each call opens the log anew, as the storage does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "messages.jsonl").touch()
        self.folder = folder
        self.index = folder / "messages.idx"
        self.known = KnownIds()

    def append(self, *message_ids: str, at_us: int = 1) -> None:
        for message_id in message_ids:
            with self.opened() as log:
                log.append([message_record(message_id)], at_us)

    def find(self, *message_ids: str) -> dict[str, int]:
        with self.opened() as log:
            return log.find(message_ids)

    def opened(self) -> MessageLog:
        return MessageLog(str(self.folder), Files(fsync=False), self.known, writing=True)

    def rows(self) -> Sequence[bytes]:
        data = self.index.read_bytes()
        return [data[start : start + 24] for start in range(0, len(data), 24)]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def test_the_time_of_a_log_never_runs_backwards(session: Session) -> None:
    session.append("m1", at_us=200)
    session.append("m2", at_us=100)
    with session.opened() as log:
        assert (log.last, log.at_us) == (2, 200)


def test_every_stored_id_is_found_and_no_other(session: Session) -> None:
    session.append("m1", "m2")
    assert session.find("m1", "new", "m2") == {"m1": 1, "m2": 2}
    session.append("m3")
    assert session.find("m3", "m1") == {"m3": 3, "m1": 1}
    session.known = KnownIds()
    assert session.find("m3", "m1", "new") == {"m3": 3, "m1": 1}


def test_ids_with_the_same_digest_are_told_apart(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (log_module, message_index):
        monkeypatch.setattr(module, "digest_of", lambda _: b"\x01" * 8)
    session.append("m1", "m2", "m3")
    assert session.find("m1", "m2", "m3", "new") == {"m1": 1, "m2": 2, "m3": 3}


def test_ids_appended_by_another_process_are_found(session: Session) -> None:
    session.append("m1", "m2")
    assert session.find("m1") == {"m1": 1}
    other = Session(session.folder)
    other.append("m3")
    assert session.find("m2", "m3") == {"m2": 2, "m3": 3}
    with other.opened() as log:
        log.truncate(1, 1)
    other.append("n2", "n3", "n4")  # as many messages as before, and more
    assert session.find("m1", "m2", "m3", "n3") == {"m1": 1, "n3": 3}


def test_forgotten_ids_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_index, "_MOST_KNOWN_IDS", 4)
    known = KnownIds()
    sessions = [Session(tmp_path / str(number)) for number in range(5)]
    for session in sessions:
        session.known = known
        session.append("m1", "m2")
    for session in sessions * 2:
        assert session.find("m2", "new") == {"m2": 2}
    for session in sessions:
        session.append("m3")
        assert session.find("m1", "m3") == {"m1": 1, "m3": 3}


def failing_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next row not fit on the disk, and those after it fit again."""
    pwrite, calls = os.pwrite, list[int]()

    def failing(fd: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)


def test_after_a_row_that_did_not_fit_every_id_is_found(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.append("m1", "m2")
    whole = session.rows()
    failing_once(monkeypatch)
    session.append("m3")
    assert not session.index.exists()
    session.append("m4")
    assert session.find("m1", "m3", "m4", "m5") == {"m1": 1, "m3": 3, "m4": 4}
    assert session.rows()[:2] == whole
    assert len(session.rows()) == 4


def test_a_rebuild_that_does_not_fit_leaves_no_hole(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.append("m1", "m2", "m3", "m4")
    os.truncate(session.index, 48)
    failing_once(monkeypatch)
    session.append("m5")
    assert session.find("m1", "m4", "m5") == {"m1": 1, "m4": 4, "m5": 5}
    assert bytes(24) not in session.rows()


@pytest.mark.parametrize("damage", ["hole", "short"])
def test_a_damaged_index_is_rebuilt(session: Session, damage: str) -> None:
    session.append("m1", "m2", "m3")
    whole = session.index.read_bytes()
    session.index.write_bytes(bytes(48) + whole[48:] if damage == "hole" else whole[:-24])
    session.known = KnownIds()
    assert session.find("m2", "m3", "new") == {"m2": 2, "m3": 3}
    assert session.index.read_bytes() == whole
