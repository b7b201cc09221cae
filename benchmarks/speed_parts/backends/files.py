"""JSON files, and a bare append to one."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed_parts.backends.base import Backend
from benchmarks.speed_parts.contender import Contender
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage

__all__ = ["Files"]


class Floor(Contender):
    system = layer = "floor"

    def __init__(self, folder: Path, *, fsync: bool = True) -> None:
        self._folder = folder
        self._fsync = fsync

    async def open(self) -> None:
        self._folder.mkdir(exist_ok=True)

    async def close(self) -> None:
        """Do nothing: every file is closed."""

    async def begin(self, session: str) -> None:
        (self._folder / session).touch()

    async def append(self, session: str, text: str) -> None:
        await asyncio.to_thread(self._write, session, [text])

    async def fill(self, session: str, texts: Sequence[str]) -> None:
        await asyncio.to_thread(self._write, session, texts)

    async def newest(self, session: str, count: int) -> list[Any]:
        return (await asyncio.to_thread(self._read, session))[-count:]

    async def page(self, session: str, after: int, count: int) -> list[Any]:
        return (await asyncio.to_thread(self._read, session))[after : after + count]

    def _write(self, session: str, texts: Sequence[str]) -> None:
        with (self._folder / session).open("ab") as file:
            file.write(b"".join(json.dumps(text).encode() + b"\n" for text in texts))
            file.flush()
            if self._fsync:
                os.fsync(file.fileno())

    def _read(self, session: str) -> list[Any]:
        with (self._folder / session).open("rb") as file:
            return [json.loads(line) for line in file]


class Defaults(Floor):
    system = layer = "defaults"


class Files(Backend):
    name = "files"
    title = "files"
    durability = "fsync after each append"
    default_durability = "no fsync: what the kernel has not written is lost with the machine"

    @property
    def place(self) -> str:
        return str(self.folder / "ours")

    @staticmethod
    def storage_at(place: str) -> JSONFileStorage:
        return JSONFileStorage(place)

    def floor(self) -> Floor:
        return Floor(self.folder / "floor")

    def defaults(self) -> Defaults:
        return Defaults(self.folder / "defaults", fsync=False)

    def versions(self) -> str:
        return "a local file system"

    def bytes_used(self, of: str) -> int:
        """Return the lengths of all files; the file system rounds each up to its blocks."""
        return sum(path.stat().st_size for path in (self.folder / of).rglob("*") if path.is_file())
