"""Locked access to the sessions and memories of one store, and what walks over all of them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.json_file.append import Outcome, append_together
from luminoracore_sdk.adapters.storage.json_file.io import BACKEND, FileIO, Syncing, os_errors, translated
from luminoracore_sdk.adapters.storage.json_file.layout import StoreLayout, hashed, stripe_of
from luminoracore_sdk.adapters.storage.json_file.lock import StripeLocks
from luminoracore_sdk.adapters.storage.json_file.log import MessageLog
from luminoracore_sdk.adapters.storage.json_file.memory import MemoryFolder
from luminoracore_sdk.adapters.storage.json_file.open import OpenSessions
from luminoracore_sdk.adapters.storage.json_file.order import SessionOrder
from luminoracore_sdk.adapters.storage.json_file.session import SessionFolder, live, matches, sort_key
from luminoracore_sdk.application.ports.records import (
    MemoryScope,
    Page,
    Purged,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import CorruptRecordError, SessionNotFoundError

__all__ = ["FileStore"]


class FileStore:
    """A store's folder, for worker threads: every call may wait for a lock and for the disk.

    What the operating system refuses is translated here; see ``os_errors``.

    Args:
        directory: The store's folder.
        lock_timeout: Longest wait for a lock, in seconds.
        fsync: Whether a write waits for the disk.
    """

    def __init__(self, directory: str | os.PathLike[str], *, lock_timeout: float, fsync: bool) -> None:
        self.io = FileIO(fsync=fsync)
        self.layout = StoreLayout(Path(directory).absolute(), self.io)
        self._locks = StripeLocks(self.layout.locks, lock_timeout)
        self._open = OpenSessions()
        self._order = SessionOrder(self.layout.root / "sessions")

    def prepare(self) -> None:
        """Check or make the folder; see ``StoreLayout.prepare``."""
        with os_errors("open the store", writing=True):
            self.layout.prepare()

    def schema_version(self) -> int:
        """Return the version of the layout."""
        with os_errors("read the store", writing=False):
            return self.layout.schema_version()

    # -- one session or scope --------------------------------------------------------------------

    @contextmanager
    def session(self, session_id: str, doing: str, *, writing: bool) -> Iterator[SessionFolder]:
        """Hold the lock of a session, whether or not it is there.

        Args:
            session_id: Whose.
            doing: For errors: "append to".
            writing: Whether the block writes.
        """
        path = self.layout.session(session_id)
        with self._locked(stripe_of(path), f"{doing} session {session_id!a}", writing=writing):
            yield SessionFolder(path, self.io)

    @contextmanager
    def _opened(
        self, session_id: str, doing: str, *, writing: bool
    ) -> Iterator[tuple[SessionRecord, SessionFolder, MessageLog] | None]:
        """Hold the lock of a session, with its log open, and keep that open; None: no session is there."""
        name = hashed(session_id)
        with self._locked(name[:2], f"{doing} session {session_id!a}", writing=writing):
            folder = self._open.take(name) or SessionFolder(self.layout.session(session_id), self.io)
            try:
                header = folder.known_header()
                yield (header, folder, folder.open_log(writing=writing)) if header else None
            except BaseException:
                folder.close()
                raise
            self._open.keep(folder)

    @contextmanager
    def messages(
        self, session_id: str, doing: str, now_us: int, *, writing: bool
    ) -> Iterator[tuple[SessionRecord, SessionFolder, MessageLog]]:
        """Hold the lock of a session that is there, with its log open.

        Yields:
            The header as it lies there, its folder, its log.

        Raises:
            SessionNotFoundError: It is not there, or has expired.
        """
        with self._opened(session_id, doing, writing=writing) as opened:
            if opened is not None:
                header, folder, log = opened
                if live(header, log, now_us):
                    yield header, folder, log
                    return
        raise SessionNotFoundError(session_id, backend=BACKEND)

    def append(self, session_id: str, appends: Sequence[Append], deadline: float) -> Syncing[Sequence[Outcome]]:
        """Write appends to one session together; see ``append_together``.

        The same as in ``_opened``, without ``with``, which took 10 of 50 µs.

        Args:
            session_id: Of each of them.
            appends: What.
            deadline: Until when to wait for the session's lock, by ``time.monotonic``.
        """
        name = hashed(session_id)
        stripe = name[:2]
        try:
            self._locks.take(stripe, writing=True, deadline=deadline)
            try:
                folder = self._open.take(name) or SessionFolder(self.layout.session(session_id), self.io)
                try:
                    header = folder.known_header()
                    outcomes: Sequence[Outcome]
                    if header is None:
                        outcomes = [SessionNotFoundError(session_id, backend=BACKEND) for _ in appends]
                    else:
                        outcomes = yield from append_together(header, folder.open_log(writing=True), appends)
                except BaseException:
                    folder.close()
                    raise
                self._open.keep(folder)
            finally:
                self._locks.give_back(stripe)
        except OSError as exc:
            raise translated(exc, f"append to session {session_id!a}", writing=True) from exc
        return outcomes

    @contextmanager
    def memories(self, scope: MemoryScope, doing: str, now_us: int, *, writing: bool) -> Iterator[MemoryFolder | None]:
        """Hold the lock of a scope; None: its session is not there."""
        path = self.layout.owner(scope)
        with self._locked(stripe_of(path), f"{doing} {scope.kind} {scope.owner_id!a}", writing=writing):
            is_there = scope.kind == "user" or SessionFolder(path, self.io).current(now_us) is not None
            yield MemoryFolder(path, self.io) if is_there else None

    def discard(self, folder: Path) -> bool:
        """Remove a folder whose lock is held; False: there is none."""
        self._open.drop(folder.name)
        return self.io.discard(folder, self.layout.trash)

    def close(self) -> None:
        """Close what stayed open from one call to the next, and forget the order of the sessions."""
        self._open.close()
        self._order.clear()

    @contextmanager
    def _locked(self, stripe: str, doing: str, *, writing: bool) -> Iterator[None]:
        with os_errors(doing, writing=writing), self._locks.hold(stripe, writing=writing):
            yield

    # -- all of them -----------------------------------------------------------------------------

    def query(self, query: SessionQuery, now_us: int) -> Page:
        """Return one page of headers; reads those that may be on it, and what is new since the last page."""
        picked: list[SessionRecord] = []
        with os_errors("list sessions", writing=False):
            for key in self._order.keys(query, self._header):
                record = self._listed(key, query, now_us)
                if record is not None:
                    picked.append(record)
                if len(picked) > query.limit:
                    break
        listed = picked[: query.limit]
        return Page(
            sessions=tuple(listed),
            next_cursor=sort_key(listed[-1]) if len(picked) > query.limit else None,
        )

    def purge(self, now_us: int) -> Purged:
        """Remove what has expired."""
        sessions = memories = 0
        with os_errors("purge the store", writing=True):
            for path in self.layout.sessions():
                with self._locked(stripe_of(path), "purge the store", writing=True):
                    folder = SessionFolder(path, self.io)
                    if folder.current(now_us) is not None:
                        memories += MemoryFolder(path, self.io).purge(now_us)
                    elif self.discard(path):
                        sessions += 1
            for path in self.layout.users():
                with self._locked(stripe_of(path), "purge the store", writing=True):
                    memories += MemoryFolder(path, self.io).purge(now_us)
        return Purged(sessions=sessions, memories=memories)

    def _header(self, path: Path) -> SessionRecord | None:
        folder = SessionFolder(path, self.io)
        try:
            return folder.header()  # without the lock: a header is replaced as a whole
        except CorruptRecordError:  # or it was deleted and made again in between
            with self._locked(stripe_of(path), "list sessions", writing=False):
                return folder.header()

    def _listed(self, key: tuple[int, str], query: SessionQuery, now_us: int) -> SessionRecord | None:
        created_at_us, session_id = key
        if query.user_id is not None or query.tag is not None:  # most will not match: no lock, no log
            header = self._header(self.layout.session(session_id))
            if header is None or not matches(header, query):
                return None
        with self.session(session_id, "list", writing=False) as folder:
            current = folder.current(now_us)
        if current is None or current.created_at_us != created_at_us or not matches(current, query):
            return None  # expired, or gone since; one made anew has another place
        return attrs.evolve(current, payload=None)
