"""The folders of one session and of the memories of one owner."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from luminoracore_sdk.adapters.storage.base import is_live
from luminoracore_sdk.adapters.storage.json_file.files import corrupt
from luminoracore_sdk.adapters.storage.json_file.layout import UNFINISHED, Store, hashed
from luminoracore_sdk.adapters.storage.json_file.log import LOG_NAME, MessageLog
from luminoracore_sdk.adapters.storage.json_file.records import (
    DamagedError,
    decode_memory,
    decode_session,
    encode_base,
    encode_memory,
    encode_session,
)
from luminoracore_sdk.adapters.storage.json_file.summary import Base
from luminoracore_sdk.application.ports.records import MemoryRecord, Payload, Purged, SessionRecord, SessionSummary

__all__ = ["MemoryFolder", "SessionFolder", "dated", "light", "memory_owners", "purge", "whole"]

_HEADER_NAME = "session.json"


class SessionFolder:
    """The header, log and memories of one session; the caller holds its lock, except for ``header``.

    Args:
        path: The folder, which may be missing.
        store: The store.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self._header = f"{path}/{_HEADER_NAME}"
        self._store = store
        self._files = store.files

    def header(self) -> SessionRecord | None:
        """Return the header as it is in its file, without what the log adds; None: no session.

        Raises:
            CorruptRecordError: It is damaged, of another session, or missing from a folder.
        """
        try:
            line = self._files.read(self._header)
        except FileNotFoundError as exc:
            if self._is_empty():
                return None
            raise corrupt(self._header, "it is missing") from exc
        try:
            record = decode_session(line)
        except DamagedError as exc:
            raise corrupt(self._header, str(exc)) from exc
        if hashed(record.session_id) != self.path.name:
            raise corrupt(self._header, "it is the header of another session")
        return record

    @contextmanager
    def opened(self, now_us: int | None, *, writing: bool) -> Iterator[tuple[SessionRecord, MessageLog] | None]:
        """Open the log; yields it with the header as in its file, or None: no session, or an expired one.

        Args:
            now_us: The time; None: expired sessions too.
            writing: Whether the caller writes.
        """
        header = self.header()
        if header is None:
            yield None
            return
        with MessageLog(str(self.path), self._files, self._store.known_ids, writing=writing) as log:
            updated_at_us = max(header.updated_at_us, log.at_us)
            yield (header, log) if now_us is None or is_live(updated_at_us, header.ttl_us, now_us) else None

    def exists(self, now_us: int) -> bool:
        """Return whether there is a session that has not expired."""
        with self.opened(now_us, writing=False) as opened:
            return opened is not None

    def current(self, now_us: int) -> SessionRecord | None:
        """Return the header with what the log adds; None: no session, or an expired one."""
        with self.opened(now_us, writing=False) as opened:
            return None if opened is None else whole(*opened)

    def write_header(self, record: SessionRecord) -> None:
        """Replace the header."""
        self._files.replace(self._header, [encode_session(record)])

    def create(self, record: SessionRecord, log: Iterable[bytes] | None = None) -> None:
        """Create the folder; it appears complete or not at all.

        Args:
            record: The header.
            log: The log in parts; None: it has no message.
        """
        if log is None:
            log = [] if record.summary == SessionSummary() else [encode_base(Base(record.summary))]
        self._files.make_folders(self.path.parent, self._store.root)
        building = self.path.with_name(f"{self.path.name}{UNFINISHED}")
        try:
            building.mkdir(mode=0o700)
        except FileExistsError:  # left by a process that was killed here
            shutil.rmtree(building)
            building.mkdir(mode=0o700)
        try:
            self._files.create(building / LOG_NAME, log)
            self._files.create(building / _HEADER_NAME, [encode_session(record)])
            self._files.sync_folder(building)
            self._files.move(building, self.path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise

    def discard(self) -> bool:
        """Remove the session with all it holds; False: there was none."""
        return self._store.discard(self.path)

    def _is_empty(self) -> bool:
        try:
            return not any(self.path.iterdir())
        except FileNotFoundError:
            return True


def dated(header: SessionRecord, log: MessageLog) -> SessionRecord:
    """Return a header with the time and the last position of the log."""
    return attrs.evolve(header, updated_at_us=max(header.updated_at_us, log.at_us), last_position=log.last)


def light(header: SessionRecord, log: MessageLog) -> SessionRecord:
    """Return a header as a listing without texts shows it."""
    changes = log.changes()
    last_change = changes[-1].number if changes else 0
    return attrs.evolve(dated(header, log), last_change=last_change).listed(texts=False)


def whole(header: SessionRecord, log: MessageLog) -> SessionRecord:
    """Return a header with everything that the log adds."""
    changes = log.changes()
    last_change = changes[-1].number if changes else 0
    return attrs.evolve(dated(header, log), summary=log.summary(), last_change=last_change, changes=changes)


class MemoryFolder:
    """The memories of a session or user, one file each; the caller holds its lock, except for ``owner``.

    Args:
        path: The folder of the session or user.
        store: The store.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self._owner = path
        self._path = path / "memory"
        self._store = store
        self._files = store.files

    def owner(self, now_us: int) -> str | None:
        """Return the id of the session or user; None: it has no memory."""
        for path in self._paths():
            try:
                record = self._read(path)
            except FileNotFoundError:  # deleted meanwhile
                continue
            if not _is_expired(record, now_us):
                return record.scope.owner_id
        return None

    def find(self, key: str, now_us: int) -> MemoryRecord | None:
        """Return one memory, or None."""
        try:
            record = self._read(self._file(key))
        except FileNotFoundError:
            return None
        return None if _is_expired(record, now_us) else record

    def entries(self, now_us: int) -> list[MemoryRecord]:
        """Return all memories, by time of creation, then key."""
        found = [record for record in map(self._read, self._paths()) if not _is_expired(record, now_us)]
        found.sort(key=lambda record: (record.created_at_us, record.key))
        return found

    def put(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        """Create or replace a memory, and remove those above the limit."""
        before = self.find(record.key, now_us)
        stored = attrs.evolve(
            record,
            created_at_us=before.created_at_us if before else record.created_at_us or now_us,
            updated_at_us=now_us,
        )
        self._files.make_folders(self._path, self._store.root)
        self._write(stored)
        if max_entries is not None and len(self._paths()) > max_entries:
            self._evict(stored, max_entries, now_us)
        return stored

    def rewrite(self, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        """Replace the payload of a memory; False: there is none, or it has another payload."""
        record = self.find(key, now_us)
        if record is None or record.payload != old:
            return False
        self._write(attrs.evolve(record, payload=new))
        return True

    def delete(self, key: str, now_us: int) -> bool:
        """Delete a memory; False: there was none."""
        if self.find(key, now_us) is None:
            return False
        self._remove([self._file(key)])
        return True

    def clear(self, now_us: int) -> int:
        """Delete all memories at once; returns how many there were."""
        count = len(self.entries(now_us))
        self._store.discard(self._path)
        return count

    def purge(self, now_us: int) -> int:
        """Remove expired memories; returns how many."""
        return self._remove([path for path in self._paths() if _is_expired(self._read(path), now_us)])

    def _evict(self, stored: MemoryRecord, max_entries: int, now_us: int) -> None:
        self.purge(now_us)
        others = [record for record in self.entries(now_us) if record.key != stored.key]
        others.sort(key=lambda record: (record.retention, record.updated_at_us, record.key))
        surplus = len(others) + 1 - max_entries
        self._remove([self._file(record.key) for record in others[: max(0, surplus)]])

    def _write(self, record: MemoryRecord) -> None:
        self._files.replace(self._file(record.key), [encode_memory(record)])

    def _remove(self, paths: list[Path]) -> int:
        for path in paths:
            path.unlink()
        if paths:
            self._files.sync_folder(self._path)
        return len(paths)

    def _file(self, key: str) -> Path:
        return self._path / f"{hashed(key)}.json"

    def _paths(self) -> list[Path]:
        try:
            paths = list(self._path.iterdir())
        except FileNotFoundError:
            return []
        return [path for path in paths if path.suffix == ".json"]  # a crash may leave a .tmp

    def _read(self, path: Path) -> MemoryRecord:
        try:
            record = decode_memory(self._files.read(path))
        except DamagedError as exc:
            raise corrupt(path, str(exc)) from exc
        if path.name != f"{hashed(record.key)}.json" or hashed(record.scope.owner_id) != self._owner.name:
            raise corrupt(path, "it is another memory")
        return record


def _is_expired(record: MemoryRecord, now_us: int) -> bool:
    return record.expires_at_us is not None and record.expires_at_us <= now_us


def memory_owners(store: Store, after: str | None, limit: int, now_us: int) -> list[str]:
    """Return the ids of users that have memories, by the names of their folders.

    Args:
        store: The store.
        after: Only users behind this one.
        limit: Most ids.
        now_us: The time, in microseconds.
    """
    found: list[str] = []
    for path in store.users(after=hashed(after) if after is not None else ""):
        owner = MemoryFolder(path, store).owner(now_us)
        if owner is not None:
            found.append(owner)
        if len(found) == limit:
            break
    return found


def purge(store: Store, now_us: int) -> Purged:
    """Remove expired sessions and memories from a store, and what killed processes left there."""
    sessions = memories = 0
    for path in store.sessions():
        with store.locks.hold(path, writing=True):
            session = SessionFolder(path, store)
            if session.exists(now_us):
                memories += MemoryFolder(path, store).purge(now_us)
            elif session.discard():
                sessions += 1
    for path in store.users():
        with store.locks.hold(path, writing=True):
            memories += MemoryFolder(path, store).purge(now_us)
    for path in store.unfinished():
        with store.locks.hold(path, writing=True):
            store.discard(path)
    store.empty_trash()
    return Purged(sessions=sessions, memories=memories)
