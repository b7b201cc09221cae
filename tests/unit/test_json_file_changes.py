"""A change of several memories whose process was killed before it had written every file."""

from pathlib import Path

import attrs
import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.json_file.records import encode_memory_change
from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing.records import memory_record

SCOPE = MemoryScope("user", "u")


async def begun(root: Path) -> Path:
    """Store memories and the file of a change of them; return that file."""
    async with JSONFileStorage(root, fsync=False) as storage:
        for key in ("a", "b", "d"):
            await storage.put_memory(memory_record(key, kind="user", owner="u"))
    put = [attrs.evolve(memory_record(key, kind="user", owner="u", value="new"), version=2) for key in "ac"]
    change = folder_of(root) / "change"
    change.write_bytes(b"".join(encode_memory_change(put, ["d"])))
    return change


def folder_of(root: Path) -> Path:
    (folder,) = root.rglob("memory")
    return folder


async def test_a_change_that_was_begun_is_made(tmp_path: Path) -> None:
    change = await begun(tmp_path)
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        listed = {memory.key: memory.version for memory in await storage.list_memories(SCOPE)}
        assert listed == {"a": 2, "b": 1, "c": 2}
        assert await storage.find_memory(SCOPE, "d") is None
        assert change.exists()
        assert (await storage.put_memory(memory_record("a", kind="user", owner="u"))).version == 3
        assert not change.exists()
        listed = {memory.key: memory.version for memory in await storage.list_memories(SCOPE)}
        assert listed == {"a": 3, "b": 1, "c": 2}


async def test_a_damaged_change_is_an_error(tmp_path: Path) -> None:
    change = await begun(tmp_path)
    change.write_bytes(change.read_bytes().replace(b"new", b"odd"))
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        with pytest.raises(CorruptRecordError, match="checksum"):
            await storage.list_memories(SCOPE)
