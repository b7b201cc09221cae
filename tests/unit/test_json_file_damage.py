"""A torn last line is skipped; everything else that is not as it was written is an error."""

import logging
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

ALL = MessageRange()


async def fill(root: Path, *, messages: int = 3) -> Path:
    """Store a session with one line for each message; return its folder."""
    async with JSONFileStorage(root, fsync=False) as storage:
        await storage.put_session(session_record())
        for message in message_records(messages):
            await storage.append_messages("s", [message])
        await storage.put_memory(memory_record("key"))
    return folder_of(root)


def folder_of(root: Path) -> Path:
    (header,) = root.rglob("messages.jsonl")
    return header.parent


def header_but(root: Path, header: Path) -> Path:
    (other,) = (path for path in root.rglob("session.json") if path != header)
    return other


async def texts(root: Path) -> list[str]:
    async with JSONFileStorage(root) as storage:
        return [message.message_id for message in await storage.read_messages("s", ALL)]


# -- the torn last line ----------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 8, 30, -1])
async def test_a_torn_last_line_is_skipped_and_then_cut_off(
    tmp_path: Path, keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = (await fill(tmp_path)) / "messages.jsonl"
    whole = log.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    log.write_bytes(whole + last[:keep])
    with caplog.at_level(logging.WARNING, "luminoracore_sdk.storage.json"):
        assert await texts(tmp_path) == ["m1", "m2", "m3"]
    assert log.read_bytes() == whole + last[:keep]
    assert "skipped" in caplog.text
    async with JSONFileStorage(tmp_path) as storage:
        receipt = await storage.append_messages("s", [message_record("m4")])
    assert receipt.first_position == 4
    assert log.read_bytes().startswith(whole)
    assert await texts(tmp_path) == ["m1", "m2", "m3", "m4"]
    assert "cut off" in caplog.text


async def test_zeros_at_the_end_are_a_torn_line(tmp_path: Path) -> None:
    log = (await fill(tmp_path)) / "messages.jsonl"
    log.write_bytes(log.read_bytes() + bytes(300))
    assert await texts(tmp_path) == ["m1", "m2", "m3"]


async def test_a_log_of_one_torn_line_is_empty(tmp_path: Path) -> None:
    log = (await fill(tmp_path)) / "messages.jsonl"
    log.write_bytes(log.read_bytes()[:40])
    log.with_name("messages.idx").unlink()  # it is written after the line
    assert await texts(tmp_path) == []


# -- flipped bits ----------------------------------------------------------------------------------


async def test_a_flipped_bit_anywhere_in_the_log_is_noticed(tmp_path: Path) -> None:
    log = (await fill(tmp_path)) / "messages.jsonl"
    whole = log.read_bytes()
    async with JSONFileStorage(tmp_path) as storage:
        for place in range(len(whole)):
            log.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(CorruptRecordError, match=r"messages\.jsonl is damaged"):
                await storage.read_messages("s", ALL)
        log.write_bytes(whole)
        assert len(await storage.read_messages("s", ALL)) == 3


async def test_a_flipped_bit_anywhere_in_the_header_is_noticed(tmp_path: Path) -> None:
    header = (await fill(tmp_path)) / "session.json"
    whole = header.read_bytes()
    async with JSONFileStorage(tmp_path) as storage:
        for place in range(len(whole)):
            header.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(CorruptRecordError, match=r"session\.json is damaged"):
                await storage.find_session("s")


async def test_a_flipped_bit_anywhere_in_a_memory_is_noticed(tmp_path: Path) -> None:
    (path,) = ((await fill(tmp_path)) / "memory").iterdir()
    whole = path.read_bytes()
    async with JSONFileStorage(tmp_path) as storage:
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(CorruptRecordError, match=f"{path.name} is damaged"):
                await storage.list_memories(MemoryScope("session", "s"))


async def test_damage_names_the_line_and_changes_nothing(tmp_path: Path) -> None:
    log = (await fill(tmp_path)) / "messages.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + lines[1].replace(b"text", b"tExt") + lines[2]
    log.write_bytes(damaged)
    async with JSONFileStorage(tmp_path) as storage:
        with pytest.raises(CorruptRecordError, match=rf"line 2 \(byte {len(lines[0])}\): its checksum is wrong"):
            await storage.read_messages("s", ALL)
        newest = await storage.read_messages("s", MessageRange(limit=1, newest=True))
    assert [message.message_id for message in newest] == ["m3"]
    assert log.read_bytes() == damaged


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage\n", "does not begin as a record"),
        (b"\n", "does not begin as a record"),
        (b'{"crc":"00000000","size":2,"body":[]}\n', "checksum is wrong"),
    ],
)
async def test_a_whole_line_of_garbage_at_the_end_is_damage(tmp_path: Path, line: bytes, reason: str) -> None:
    log = (await fill(tmp_path)) / "messages.jsonl"
    log.write_bytes(log.read_bytes() + line)
    async with JSONFileStorage(tmp_path) as storage:
        with pytest.raises(CorruptRecordError, match=rf"line 4 .*{reason}"):
            await storage.read_messages("s", ALL)
        with pytest.raises(CorruptRecordError, match=rf"line 4 .*{reason}"):
            await storage.append_messages("s", [message_record("m4")])
    assert log.read_bytes().endswith(line)


async def test_a_line_at_the_wrong_position_is_damage(tmp_path: Path) -> None:
    log = (await fill(tmp_path)) / "messages.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[2])
    with pytest.raises(CorruptRecordError, match=r"line 2 .*begins at position 3, not 2"):
        await texts(tmp_path)


# -- files in the wrong place ----------------------------------------------------------------------


async def test_a_missing_header_is_damage(tmp_path: Path) -> None:
    header = (await fill(tmp_path)) / "session.json"
    header.unlink()
    async with JSONFileStorage(tmp_path) as storage:
        with pytest.raises(CorruptRecordError, match=r"session\.json is damaged: it is missing"):
            await storage.find_session("s")
        with pytest.raises(CorruptRecordError, match=r"session\.json is damaged: it is missing"):
            await storage.query_sessions(SessionQuery())
        with pytest.raises(CorruptRecordError, match=r"session\.json is damaged: it is missing"):
            await storage.put_session(session_record())


async def test_a_missing_log_is_damage(tmp_path: Path) -> None:
    ((await fill(tmp_path)) / "messages.jsonl").unlink()
    with pytest.raises(CorruptRecordError, match=r"messages\.jsonl is damaged: it is missing"):
        await texts(tmp_path)


async def test_the_header_of_another_session_is_damage(tmp_path: Path) -> None:
    header = (await fill(tmp_path)) / "session.json"
    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record("other"))
        header.write_bytes(header_but(tmp_path, header).read_bytes())
        with pytest.raises(CorruptRecordError, match="header of another session"):
            await storage.find_session("s")
        with pytest.raises(CorruptRecordError, match="header of another session"):
            await storage.list_sessions()


@pytest.mark.parametrize("name", ["session.json", "messages.jsonl"])
async def test_a_folder_where_a_file_should_be_is_damage(tmp_path: Path, name: str) -> None:
    path = (await fill(tmp_path)) / name
    path.unlink()
    path.mkdir()
    async with JSONFileStorage(tmp_path) as storage:
        with pytest.raises(CorruptRecordError, match=f"{name} is damaged"):
            await storage.read_messages("s", ALL)
        with pytest.raises(CorruptRecordError, match=f"{name} is damaged"):
            await storage.append_messages("s", [message_record("m4")])
        with pytest.raises(CorruptRecordError, match=f"{name} is damaged"):
            await storage.put_session(session_record())


async def test_a_file_where_a_folder_should_be_is_damage(tmp_path: Path) -> None:
    folder = await fill(tmp_path)
    folder.rename(tmp_path / "elsewhere")
    folder.write_bytes(b"")
    async with JSONFileStorage(tmp_path) as storage:
        with pytest.raises(CorruptRecordError, match="Not a directory"):
            await storage.find_session("s")
        with pytest.raises(CorruptRecordError, match="Not a directory"):
            await storage.list_sessions()


# -- the index -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", ["missing", "garbage", "half", "odd", "behind", "empty", "swapped", "ahead", "other", "hole", "folder"]
)
async def test_a_bad_index_is_rebuilt(tmp_path: Path, state: str) -> None:
    index = (await fill(tmp_path)) / "messages.idx"
    rows = index.read_bytes()
    assert len(rows) == 3 * 24
    index.unlink()
    contents = {
        "garbage": b"\xff" * len(rows),
        "half": b"\xff" * 48 + rows[48:],
        "odd": rows[:-1],
        "behind": rows[:24],
        "empty": b"",
        "swapped": rows[24:48] + rows[:24] + rows[48:],
        "other": rows[:48] + b"\xff" * 8 + rows[56:],
        "hole": bytes(48) + rows[48:],
        "ahead": rows + rows[48:],
    }
    if state == "folder":
        index.mkdir()
    elif state != "missing":
        index.write_bytes(contents[state])
    async with JSONFileStorage(tmp_path) as storage:
        middle = await storage.read_messages("s", MessageRange(after=1, limit=1))
        assert [message.message_id for message in middle] == ["m2"]
        replayed = await storage.append_messages("s", [message_record("m1")])
        assert (replayed.first_position, replayed.replayed) == (1, True)
        assert (await storage.append_messages("s", [message_record("m4")])).first_position == 4
        assert [m.message_id for m in await storage.read_messages("s", ALL)] == ["m1", "m2", "m3", "m4"]
    if state != "folder":
        assert len(index.read_bytes()) == 4 * 24
        assert index.read_bytes()[: 3 * 24] == rows


async def test_the_index_follows_a_truncation_inside_a_line(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(2))
        await storage.append_messages("s", message_records(3, prefix="n"))
        assert await storage.truncate_messages("s", after=3) == 2
        index = folder_of(tmp_path) / "messages.idx"
        assert not index.exists()
        receipt = await storage.append_messages("s", message_records(3, prefix="p"))
        assert receipt.first_position == 4
        assert len(index.read_bytes()) == 6 * 24
    assert await texts(tmp_path) == ["m1", "m2", "n1", "p1", "p2", "p3"]


@pytest.mark.parametrize("lost", ["all lines", "the last line", "the end of the last line"])
async def test_a_log_that_lost_acknowledged_lines_is_damaged(tmp_path: Path, lost: str) -> None:
    async with JSONFileStorage(tmp_path / "store") as storage:
        await storage.put_session(session_record())
        for number in range(5):
            await storage.append_messages("s", [message_record(f"m{number}")])
    [log] = (tmp_path / "store").rglob("messages.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    left = {
        "all lines": b"",
        "the last line": b"".join(lines[:-1]),
        "the end of the last line": b"".join(lines)[:-10],
    }[lost]
    log.write_bytes(left)
    async with JSONFileStorage(tmp_path / "store") as storage:
        for _ in range(2):
            with pytest.raises(CorruptRecordError, match=r"but 5 were stored; delete messages\.idx"):
                await storage.read_messages("s", MessageRange())
            with pytest.raises(CorruptRecordError):
                await storage.append_messages("s", [message_record("new")])
        assert log.read_bytes() == left
        log.with_name("messages.idx").unlink()
        await storage.append_messages("s", [message_record("new")])
