"""Where records are on the disk, and who can read them."""

import json
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.application.ports.records import MessageRange, Payload, Purged
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError, SchemaVersionError
from luminoracore_sdk.testing.records import memory_record, message_record, session_record

SHARD = sha256(b"s").hexdigest()[:2]
HOSTILE_IDS = ["../x", "/etc/passwd", "a/b", "CON", "line\nbreak", ".", "x" * 512, "ключ", "a:b|c"]


async def fill(root: Path, session_id: str = "s") -> None:
    async with JSONFileStorage(root) as storage:
        await storage.put_session(session_record(session_id))
        await storage.append_messages(session_id, [message_record("m1"), message_record("m2")])
        await storage.put_memory(memory_record("key", owner=session_id))
        await storage.put_memory(memory_record("key", owner="u", kind="user"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def only(root: Path, name: str) -> Path:
    (path,) = root.rglob(name)
    return path


async def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "new" / "store"
    await fill(root)
    await fill(root, "t")
    modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert modes == {True: 0o700, False: 0o600}


async def test_an_id_is_never_used_as_a_file_name(tmp_path: Path) -> None:
    root = tmp_path / "store"
    for session_id in HOSTILE_IDS:
        await fill(root, session_id)
    used = {path.name for path in root.rglob("*")}
    fixed = {"luminora.json", "sessions", "users", "locks", "memory"} | {
        "session.json",
        "messages.jsonl",
        "messages.idx",
    }
    assert {name for name in used - fixed if set(name.split(".")[0]) - set("0123456789abcdef")} == set()
    assert names(tmp_path) == ["store"]
    async with JSONFileStorage(root) as storage:
        assert sorted(await storage.list_sessions()) == sorted(HOSTILE_IDS)


async def test_text_stays_readable_json(tmp_path: Path) -> None:
    await fill(tmp_path)
    lines = only(tmp_path, "messages.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert [message["id"] for message in line["messages"]] == ["m1", "m2"]
    assert line["body"] == [{"content": "text of m1"}, {"content": "text of m2"}]
    assert json.loads(only(tmp_path, "session.json").read_text("utf-8"))["body"] == {"text": "a session"}


@pytest.mark.parametrize(
    "payload",
    [
        Payload("json+zstd", bytes(range(256))),
        Payload("json", b'{"a":\n1}'),
        Payload("json", b""),
        Payload("raw", b""),
        Payload("json", b'"\xe2\x80\xa8"'),
    ],
)
async def test_a_payload_returns_byte_for_byte(tmp_path: Path, payload: Payload) -> None:
    message = message_record("m")
    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record())
        record = type(message)(message_id="m", role="user", created_at_us=-1, payload=payload)
        await storage.append_messages("s", [message_record("m0"), record, message_record("m2")])
        found = await storage.read_messages("s", MessageRange(after=1, limit=1))
    assert [(m.payload, m.position, m.created_at_us) for m in found] == [(payload, 2, -1)]


async def test_a_message_of_20_mb_returns_whole(tmp_path: Path) -> None:
    text = 'ü"\\' * 5_000_000
    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("big", text=text), message_record("small")])
        (big,) = await storage.read_messages("s", MessageRange(limit=1))
    assert big.payload == message_record("big", text=text).payload
    assert len(big.payload.data) > 20_000_000


async def test_delete_leaves_nothing_of_the_session(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with JSONFileStorage(tmp_path) as storage:
        assert await storage.delete_session("s") is True
    assert names(tmp_path / "sessions" / SHARD) == []
    assert names(tmp_path / "trash") == []


async def test_remains_of_a_crash_are_removed_or_ignored(tmp_path: Path) -> None:
    await fill(tmp_path)
    folder = only(tmp_path, "session.json").parent
    (tmp_path / "trash").mkdir()
    (tmp_path / "trash" / "half").mkdir()
    (tmp_path / "trash" / "half" / "messages.jsonl").write_bytes(b"{")
    (folder / "session.json.1.tmp").write_bytes(b"{")
    (folder / "memory" / "x.json.1.tmp").write_bytes(b"{")
    folder.with_name(f"{folder.name}.new").mkdir()
    async with JSONFileStorage(tmp_path) as storage:
        assert names(tmp_path / "trash") == []
        assert await storage.list_sessions() == ["s"]
        assert await storage.delete_session("s") is True
        await storage.put_session(session_record())  # under the name that a killed put left
        assert await storage.list_sessions() == ["s"]


async def test_a_purge_removes_remains_of_a_crash(tmp_path: Path) -> None:
    await fill(tmp_path)
    folder = only(tmp_path, "session.json").parent
    async with JSONFileStorage(tmp_path) as storage:
        await storage.list_sessions()
        unfinished, half = folder.with_name(f"{folder.name[:2]}{'0' * 30}.new"), tmp_path / "trash" / "half"
        for remains in (unfinished, half):
            remains.mkdir(parents=True)
            (remains / "session.json").write_bytes(b"{")
        assert await storage.purge_expired() == Purged(sessions=0, memories=0)
        assert names(tmp_path / "trash") == []
        assert names(folder.parent) == [folder.name]
        assert await storage.list_sessions() == ["s"]


# -- the folder ------------------------------------------------------------------------------------


async def test_a_file_is_refused_with_the_way_to_import_it(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ConfigurationError, match=f"luminora sessions import {path} --store file://DIR"):
        await JSONFileStorage(path).open()
    assert path.read_text() == "{}\n"


async def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="neither empty nor a store"):
        await JSONFileStorage(tmp_path).open()
    assert names(tmp_path) == ["photo.png"]


async def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path)
    marker = tmp_path / "luminora.json"
    text = marker.read_text()
    assert json.loads(text) == {"format": "luminoracore-json-files", "schema_version": 1}
    marker.write_text(text.replace("1", "2"))
    with pytest.raises(SchemaVersionError) as caught:
        await JSONFileStorage(tmp_path).open()
    assert (caught.value.found, caught.value.supported) == (2, 1)
    assert marker.read_text() == text.replace("1", "2")


async def test_a_flipped_bit_anywhere_in_the_marker_is_noticed(tmp_path: Path) -> None:
    await fill(tmp_path)
    marker = tmp_path / "luminora.json"
    text = marker.read_bytes()
    for place in range(len(text) - 1):
        marker.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises((CorruptRecordError, SchemaVersionError)):
            await JSONFileStorage(tmp_path).open()


async def test_a_marker_removed_while_open_is_noticed(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path) as storage:
        await storage.ping()
        (tmp_path / "luminora.json").unlink()
        with pytest.raises(CorruptRecordError, match=r"luminora\.json is damaged: it is missing"):
            await storage.ping()


def test_importing_the_module_loads_no_lock_library() -> None:
    code = "import sys, luminoracore_sdk.adapters.storage.json_file; print('filelock' in sys.modules)"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
