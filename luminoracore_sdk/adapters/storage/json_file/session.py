"""The folder of one session: its header and its log."""

import os
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from luminoracore_sdk.adapters.storage.base import is_live
from luminoracore_sdk.adapters.storage.json_file.io import FileIO, corrupt
from luminoracore_sdk.adapters.storage.json_file.layout import hashed
from luminoracore_sdk.adapters.storage.json_file.log import LOG_NAME, MessageLog
from luminoracore_sdk.adapters.storage.json_file.log_reader import Identity, identity
from luminoracore_sdk.adapters.storage.json_file.record import DamagedError, decode_session, encode_session
from luminoracore_sdk.application.ports.records import SessionQuery, SessionRecord

__all__ = ["HEADER_NAME", "SessionFolder", "live", "matches", "sort_key"]

HEADER_NAME = "session.json"
_KNOWN_BYTES = 1 << 14
"""A header up to this size is read once as long as its file stays the same: 20 µs for each append."""
_SETTLED_NS = 100_000_000
"""A file that was last changed so long ago gets another time when it is changed again."""


class SessionFolder:
    """One session on the disk; whoever calls holds its lock, but for ``header``.

    Args:
        path: The folder, which need not be there.
        io: Writes the files.
    """

    def __init__(self, path: Path, io: FileIO) -> None:
        self.path = path
        self._header = f"{path}/{HEADER_NAME}"
        self._io = io
        self._known: tuple[Identity, SessionRecord] | None = None
        self._log: MessageLog | None = None

    def known_header(self) -> SessionRecord | None:
        """Return the same as ``header``; reads the file only if it is not the one that was read before."""
        try:
            info = os.stat(self._header)  # noqa: PTH116 - a Path costs 5 µs more
        except OSError:
            return self.header()
        if self._known is not None and self._known[0] == identity(info):
            return self._known[1]
        record = self.header()
        is_settled = time.time_ns() - info.st_ctime_ns > _SETTLED_NS
        is_small = info.st_size <= _KNOWN_BYTES
        self._known = (identity(info), record) if record and is_settled and is_small else None
        return record

    def header(self) -> SessionRecord | None:
        """Return the header as it lies there, without what the log knows; None: no session.

        Raises:
            CorruptRecordError: It is damaged, another session's, or missing where there is a folder.
        """
        try:
            line = self._io.read(self._header)
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

    def current(self, now_us: int) -> SessionRecord | None:
        """Return the header with the log's part in it; None: no session, or an expired one."""
        header = self.header()
        if header is None:
            return None
        with self.log() as log:
            if not live(header, log, now_us):
                return None
            updated_at_us = max(header.updated_at_us, log.at_us)
            return attrs.evolve(header, updated_at_us=updated_at_us, last_position=log.last)

    def log(self, *, writing: bool = False) -> AbstractContextManager[MessageLog]:
        """Open the log for a ``with`` block."""
        return MessageLog.opened(self.path, self._io, writing=writing)

    def open_log(self, *, writing: bool) -> MessageLog:
        """Return the log, as it was left open by the call before if nobody else touched it since."""
        if self._log is None or not self._log.is_as_left(writing=writing):
            self.close()
            self._log = MessageLog(self.path, self._io, writing=writing)
        return self._log

    def leave(self) -> bool:
        """End a call; False: there is no open log that is worth keeping."""
        return self._log is not None and self._log.leave()

    def close(self) -> None:
        """Close the log that ``open_log`` opened."""
        log, self._log = self._log, None
        if log is not None:
            log.close()

    def write_header(self, record: SessionRecord) -> None:
        """Replace the header."""
        self._io.replace(self._header, [encode_session(record)])

    def create(self, record: SessionRecord, root: Path) -> None:
        """Make the folder with a header and an empty log; it appears complete or not at all."""
        self._io.make_folders(self.path.parent, root)
        building = self.path.with_name(f"{self.path.name}.new")
        try:
            building.mkdir(mode=0o700)
        except FileExistsError:  # one was killed here
            shutil.rmtree(building)
            building.mkdir(mode=0o700)
        self._io.create(building / LOG_NAME, [])
        self._io.create(building / HEADER_NAME, [encode_session(record)])
        self._io.sync_folder(building)
        self._io.move(building, self.path)

    def _is_empty(self) -> bool:
        try:
            return not any(self.path.iterdir())
        except FileNotFoundError:
            return True


def live(header: SessionRecord, log: MessageLog, now_us: int) -> bool:
    """Tell whether a session has not expired."""
    return is_live(max(header.updated_at_us, log.at_us), header.ttl_us, now_us)


def sort_key(header: SessionRecord) -> tuple[int, str]:
    """Return what sessions are listed by."""
    return header.created_at_us, header.session_id


def matches(header: SessionRecord, query: SessionQuery) -> bool:
    """Tell whether a session is of the user and has the tag that a query asks for."""
    return query.user_id in (None, header.user_id) and (query.tag is None or query.tag in header.tags)
