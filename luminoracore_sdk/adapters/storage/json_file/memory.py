"""The memories of one scope: a file for each."""

from pathlib import Path

import attrs

from luminoracore_sdk.adapters.storage.json_file.io import FileIO, corrupt
from luminoracore_sdk.adapters.storage.json_file.layout import hashed
from luminoracore_sdk.adapters.storage.json_file.record import DamagedError, decode_memory, encode_memory
from luminoracore_sdk.application.ports.records import MemoryRecord, Payload

__all__ = ["MemoryFolder"]


class MemoryFolder:
    """The memories of a session or user; whoever calls holds its lock.

    Args:
        owner: The folder of the session or user.
        io: Writes the files.
    """

    def __init__(self, owner: Path, io: FileIO) -> None:
        self._owner = owner
        self._path = owner / "memory"
        self._io = io

    def find(self, key: str, now_us: int) -> MemoryRecord | None:
        """Return one memory, or None."""
        try:
            record = self._read(self._file(key))
        except FileNotFoundError:
            return None
        return None if _is_gone(record, now_us) else record

    def entries(self, now_us: int) -> list[MemoryRecord]:
        """Return all, by time of creation, then key."""
        found = [record for record in map(self._read, self._files()) if not _is_gone(record, now_us)]
        found.sort(key=lambda record: (record.created_at_us, record.key))
        return found

    def put(self, record: MemoryRecord, max_entries: int | None, now_us: int, root: Path) -> MemoryRecord:
        """Create or replace one, and remove those that are too many."""
        before = self.find(record.key, now_us)
        kept = attrs.evolve(
            record,
            created_at_us=before.created_at_us if before else record.created_at_us or now_us,
            updated_at_us=now_us,
        )
        self._io.make_folders(self._path, root)
        self._io.replace(self._file(record.key), [encode_memory(kept)])
        if max_entries is not None and len(self._files()) > max_entries:
            self._evict(kept, max_entries, now_us)
        return kept

    def rewrite(self, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        """Replace the payload of one; False: there is none, or it has another payload."""
        record = self.find(key, now_us)
        if record is None or record.payload != old:
            return False
        self._io.replace(self._file(key), [encode_memory(attrs.evolve(record, payload=new))])
        return True

    def delete(self, key: str, now_us: int) -> bool:
        """Delete one; False: there was none."""
        if self.find(key, now_us) is None:
            return False
        self._remove([self._file(key)])
        return True

    def clear(self, now_us: int, trash: Path) -> int:
        """Delete all at once; returns how many there were."""
        count = len(self.entries(now_us))
        self._io.discard(self._path, trash)
        return count

    def purge(self, now_us: int) -> int:
        """Remove the expired ones; returns how many."""
        return self._remove([path for path in self._files() if _is_gone(self._read(path), now_us)])

    def _evict(self, kept: MemoryRecord, max_entries: int, now_us: int) -> None:
        self.purge(now_us)
        others = [record for record in self.entries(now_us) if record.key != kept.key]
        others.sort(key=lambda record: (record.retention, record.updated_at_us, record.key))
        surplus = len(others) + 1 - max_entries
        self._remove([self._file(record.key) for record in others[: max(0, surplus)]])

    def _remove(self, paths: list[Path]) -> int:
        for path in paths:
            path.unlink()
        if paths:
            self._io.sync_folder(self._path)
        return len(paths)

    def _file(self, key: str) -> Path:
        return self._path / f"{hashed(key)}.json"

    def _files(self) -> list[Path]:
        try:
            paths = list(self._path.iterdir())
        except FileNotFoundError:
            return []
        return [path for path in paths if path.suffix == ".json"]  # what a crash left of a write is a .tmp

    def _read(self, path: Path) -> MemoryRecord:
        try:
            record = decode_memory(self._io.read(path))
        except DamagedError as exc:
            raise corrupt(path, str(exc)) from exc
        if path.name != f"{hashed(record.key)}.json" or hashed(record.scope.owner_id) != self._owner.name:
            raise corrupt(path, "it is another memory")
        return record


def _is_gone(record: MemoryRecord, now_us: int) -> bool:
    return record.expires_at_us is not None and record.expires_at_us <= now_us
