"""The folders of one session and of the memories of one owner."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from luminoracore_sdk.adapters.storage.base import MemoryChange, is_live
from luminoracore_sdk.adapters.storage.json_file.files import BACKEND, corrupt
from luminoracore_sdk.adapters.storage.json_file.layout import UNFINISHED, Store, hashed
from luminoracore_sdk.adapters.storage.json_file.log import LOG_NAME, MessageLog
from luminoracore_sdk.adapters.storage.json_file.records import (
    DamagedError,
    decode_memory,
    decode_memory_change,
    decode_session,
    encode_base,
    encode_memory,
    encode_memory_change,
    encode_session,
)
from luminoracore_sdk.adapters.storage.json_file.summary import Base
from luminoracore_sdk.application.ports.records import (
    MemoryQuery,
    MemoryRecord,
    Payload,
    Purged,
    SessionRecord,
    SessionSummary,
)

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

    A change of several memories is first written to a file of its own, which makes it at once: reads prefer what that
    says. Then it is written to the files of the memories, and its own is removed. If the process is killed before that,
    the next write does so.

    Args:
        path: The folder of the session or user.
        store: The store.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self._owner = path
        self._path = path / "memory"
        self._change = self._path / "change"
        self._store = store
        self._files = store.files

    def owner(self, now_us: int) -> str | None:
        """Return the id of the session or user; None: it has no memory."""
        return next((record.scope.owner_id for record in self._records() if not _is_expired(record, now_us)), None)

    def find(self, key: str, now_us: int) -> MemoryRecord | None:
        """Return one memory, or None."""
        puts, deletes = self._begun()
        if key in deletes:
            return None
        record = next((record for record in puts if record.key == key), None) or self._read(self._file(key))
        return None if record is None or _is_expired(record, now_us) else record

    def entries(self, now_us: int, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        """Return all memories, by time of creation, then key; without damaged ones as far as a query asks for that."""
        found = [record for record in self._records(query) if not _is_expired(record, now_us)]
        found.sort(key=lambda record: (record.created_at_us, record.key))
        return found

    def change(self, change: MemoryChange) -> list[MemoryRecord]:
        """Put and delete memories, and then remove those above the limit."""
        self._complete()
        found = [self.find(key, change.now_us) for key in change.keys]
        live = {record.key: record for record in found if record is not None}
        stored = change.stored(BACKEND, live)
        self._write_all(stored, [key for key in change.deletes if key in live])
        if change.max_entries is not None and len(self._paths()) > change.max_entries:
            self.purge(change.now_us)
            self._remove(change.surplus(self.entries(change.now_us)))
        return stored

    def touch(self, keys: Sequence[str], expires_at_us: int | None, now_us: int) -> int:
        """Change when memories expire; returns how many there were."""
        self._complete()
        found = [record for key in keys if (record := self.find(key, now_us)) is not None]
        self._write_all([attrs.evolve(record, expires_at_us=expires_at_us) for record in found], [])
        return len(found)

    def rewrite(self, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        """Replace the payload of a memory; False: there is none, or it has another payload."""
        self._complete()
        record = self.find(key, now_us)
        if record is None or record.payload != old:
            return False
        self._write(attrs.evolve(record, payload=new))
        return True

    def delete(self, key: str, now_us: int) -> bool:
        """Delete a memory; False: there was none."""
        self._complete()
        if self.find(key, now_us) is None:
            return False
        self._remove([key])
        return True

    def clear(self, now_us: int) -> int:
        """Delete all memories at once; returns how many there were."""
        count = len(self.entries(now_us))
        self._store.discard(self._path)
        return count

    def purge(self, now_us: int) -> int:
        """Remove expired memories; returns how many."""
        self._complete()
        return self._remove([record.key for record in self._records() if _is_expired(record, now_us)])

    def _write_all(self, puts: Sequence[MemoryRecord], deletes: Sequence[str]) -> None:
        """Write and delete memories, all or nothing."""
        if puts:
            self._files.make_folders(self._path, self._store.root)
        if len(puts) + len(deletes) < 2:
            self._apply(puts, deletes)
            return
        self._files.replace(self._change, encode_memory_change(puts, deletes))
        with suppress(OSError):  # it is made; the next write completes it
            self._complete()

    def _begun(self) -> tuple[list[MemoryRecord], list[str]]:
        """Return what a change that is not completed puts and deletes."""
        try:
            puts, deletes = decode_memory_change(self._files.read(self._change))
        except FileNotFoundError:
            return [], []
        except DamagedError as exc:
            raise corrupt(self._change, str(exc)) from exc
        for record in puts:
            self._check(record, self._change, self._file(record.key).name)
        return puts, deletes

    def _complete(self) -> None:
        puts, deletes = self._begun()
        if puts or deletes:
            self._apply(puts, deletes)
            self._change.unlink()
            self._files.sync_folder(self._path)

    def _apply(self, puts: Sequence[MemoryRecord], deletes: Sequence[str]) -> None:
        for record in puts:
            self._write(record)
        self._remove(deletes)

    def _write(self, record: MemoryRecord) -> None:
        self._files.replace(self._file(record.key), [encode_memory(record)])

    def _remove(self, keys: Sequence[str]) -> int:
        for key in keys:
            self._file(key).unlink(missing_ok=True)
        if keys:
            self._files.sync_folder(self._path)
        return len(keys)

    def _file(self, key: str) -> Path:
        return self._path / f"{hashed(key)}.json"

    def _paths(self) -> list[Path]:
        try:
            paths = list(self._path.iterdir())
        except FileNotFoundError:
            return []
        return [path for path in paths if path.suffix == ".json"]  # a crash may leave a .tmp

    def _records(self, query: MemoryQuery | None = None) -> Iterator[MemoryRecord]:
        """Yield all memories, the expired ones too."""
        puts, deletes = self._begun()
        yield from puts
        changed = {self._file(key) for key in (*(record.key for record in puts), *deletes)}
        paths = [path for path in self._paths() if path not in changed]
        read = map(self._read, paths) if query is None else query.intact(self._read, paths)
        yield from (record for record in read if record is not None)

    def _read(self, path: Path) -> MemoryRecord | None:
        """Return the memory of a file; None: there is none, or it was deleted meanwhile."""
        try:
            record = decode_memory(self._files.read(path))
        except FileNotFoundError:
            return None
        except DamagedError as exc:
            raise corrupt(path, str(exc)) from exc
        self._check(record, path, path.name)
        return record

    def _check(self, record: MemoryRecord, path: Path, name: str) -> None:
        if name != f"{hashed(record.key)}.json" or hashed(record.scope.owner_id) != self._owner.name:
            raise corrupt(path, "it is another memory")


def _is_expired(record: MemoryRecord, now_us: int) -> bool:
    return record.expires_at_us is not None and record.expires_at_us <= now_us


def memory_owners(store: Store, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]:
    """Return the ids of users that have memories, by the names of their folders.

    Args:
        store: The store.
        prefix: Only ids that begin with it; those of all users are read.
        after: Only users behind this one.
        limit: Most ids.
        now_us: The time, in microseconds.
    """
    found: list[str] = []
    for path in store.users(after=hashed(after) if after is not None else ""):
        owner = MemoryFolder(path, store).owner(now_us)
        if owner is not None and owner.startswith(prefix):
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
