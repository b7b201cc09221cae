"""How the log of a session is opened and read: by its index, and against its checksums."""

import logging
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

import attrs

from luminoracore_sdk.adapters.storage.json_file.descriptors import open_file
from luminoracore_sdk.adapters.storage.json_file.index import MessageIndex
from luminoracore_sdk.adapters.storage.json_file.io import FileIO, corrupt
from luminoracore_sdk.adapters.storage.json_file.messages import decode_messages
from luminoracore_sdk.adapters.storage.json_file.record import Batch, DamagedError, decode_text, is_sealed
from luminoracore_sdk.application.ports.records import MessageRecord
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = ["LOG_NAME", "Identity", "LogLine", "LogReader", "identity"]

LOG_NAME = "messages.jsonl"
_INDEX_NAME = "messages.idx"
_CHUNK_BYTES = 1 << 20
_LINE_BYTES = 1 << 14

T = TypeVar("T")

Identity = tuple[int, int, int, int, int]

_logger = logging.getLogger("luminoracore_sdk.storage.json")


@attrs.define(eq=False)  # not frozen: see Batch
class LogLine:
    """One line: where it begins, where the next one does, what it holds."""

    start: int
    end: int
    batch: Batch


class LogReader:
    """An open log, as far as it is read; used under the session's lock only.

    It may stay open from one call to the next: ``is_as_left`` tells whether the file still is what this
    object knows of it. While it is open, no other file can have the number of this one.

    A last line without a newline is an append that was killed before it was acknowledged: readers
    pass it over and a writer cuts it off. Any other line that is not as it was written is damage.

    Args:
        folder: Of the session.
        io: Writes the log.
        writing: Whether to open it for writing.

    Attributes:
        last: The newest position; 0: none.
        at_us: When the newest message was appended, in microseconds; 0: none.

    Raises:
        CorruptRecordError: The log is missing or damaged.
    """

    def __init__(self, folder: Path, io: FileIO, *, writing: bool) -> None:
        self._path = f"{folder}/{LOG_NAME}"
        self._io = io
        self._writing = writing
        self._left: Identity | None = None
        self.last = self.at_us = self._end = self._size = 0
        try:
            self._fd = open_file(self._path, os.O_RDWR | os.O_APPEND if writing else os.O_RDONLY)
        except FileNotFoundError as exc:
            raise corrupt(self._path, "it is missing") from exc
        self._index = MessageIndex(f"{folder}/{_INDEX_NAME}")
        try:
            self._load(writing=writing)
        except BaseException:
            self.close()
            raise

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, io: FileIO, *, writing: bool = False) -> Iterator[Self]:
        """Open a log, and close it at the end of the block."""
        log = cls(folder, io, writing=writing)
        try:
            yield log
        finally:
            log.close()

    def is_as_left(self, *, writing: bool) -> bool:
        """Tell whether this object still knows all, and may be used for that."""
        if self._left is None or (writing and not self._writing):
            return False
        try:
            return self._left == identity(os.stat(self._path))  # noqa: PTH116 - a Path costs 5 µs more
        except OSError:
            return False

    def leave(self) -> bool:
        """Note how the file is at the end of a call; False: it is not worth keeping open."""
        is_known = self._end == self._size and self._index.is_usable
        info = os.fstat(self._fd) if is_known else None
        self._left = identity(info) if info is not None and info.st_size == self._end else None
        return self._left is not None

    def close(self) -> None:
        """Close the files."""
        self._index.close()
        os.close(self._fd)

    def read(self, first: int, last: int) -> list[MessageRecord]:
        """Return the messages of positions that are there; reads no more of the log than they take."""
        return self._by_index(lambda: self._collect(first, last)) if first <= last else []

    def find(self, message_ids: Collection[str]) -> dict[str, int]:
        """Return the positions of those ids that are there."""
        return self._by_index(lambda: self._search(message_ids)) if self.last else {}

    # -- reading by the index --------------------------------------------------------------------

    def _by_index(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except CorruptRecordError:
            self._rebuild()  # raises, if it is the log that is damaged and not the index
            return work()

    def _collect(self, first: int, last: int) -> list[MessageRecord]:
        found: list[MessageRecord] = []
        position = first
        for start, text in self._texts(self._place(first)):
            try:
                messages = decode_messages(text)
            except DamagedError as exc:
                raise self._damaged(start, str(exc)) from exc
            skipped = position - messages[0].position
            if not 0 <= skipped < len(messages):
                raise self._misled(position)
            if skipped or messages[-1].position > last:
                messages = messages[skipped : last + 1 - messages[0].position]
            found += messages
            position += len(messages)
            if position > last:
                break
        return found

    def _search(self, message_ids: Collection[str]) -> dict[str, int]:
        found = self._index.find(message_ids)
        batch: Batch | None = None
        for message_id, position in found.items():
            if batch is None or not batch.first <= position <= batch.last:
                batch = self._line_of(position).batch
            if batch.ids[position - batch.first] != message_id:
                raise self._misled(position)
        return found

    def _messages(self, line: LogLine) -> list[MessageRecord]:
        try:
            return line.batch.messages()
        except DamagedError as exc:
            raise self._damaged(line.start, str(exc)) from exc

    def _line_of(self, position: int) -> LogLine:
        line = self._line_at(self._place(position))
        if line is None or not line.batch.first <= position <= line.batch.last:
            raise self._misled(position)
        return line

    def _place(self, position: int) -> int:
        offset = self._index.offset(position)
        if offset >= self._size:
            raise self._misled(position)
        return offset

    def _misled(self, position: int) -> CorruptRecordError:
        return corrupt(self._path, f"position {position} is not where the index says")

    def _bytes(self, start: int, end: int) -> Iterator[bytes]:
        while chunk := os.pread(self._fd, min(_CHUNK_BYTES, end - start), start):
            yield chunk
            start += len(chunk)

    # -- opening ---------------------------------------------------------------------------------

    def _load(self, *, writing: bool) -> None:
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode):
            raise corrupt(self._path, "it is not a file")
        self._size = info.st_size
        if not self._resume():
            self._rebuild()
        if self._end < self._size:
            self._pass_over_torn_line(cut=writing)

    def _resume(self) -> bool:
        """Compare the index with the end of the log and add what it lacks; False: it is of no use."""
        count = self._index.count
        if not count:
            return not self._size
        try:
            newest = self._line_at(self._place(count))
            if newest is None or newest.batch.last != count or not self._index.ends_with(newest.batch.ids[-1]):
                return False
            self._reach(newest)
            if newest.end < self._size:
                for line in self._lines(newest.end, after=count):
                    self._index.add([(line.batch.ids, line.start)])
                    self._reach(line)
        except CorruptRecordError:
            return False
        return True

    def _rebuild(self) -> None:
        def rows() -> Iterator[tuple[Sequence[str], int]]:
            for line in self._lines(0, after=0):
                self._reach(line)
                yield line.batch.ids, line.start

        self.last = self.at_us = self._end = 0
        if lost := self._index.rebuild(rows(), lambda: self._end):
            raise corrupt(
                self._path,
                f"it ends after message {self.last}, but {lost} were stored; "
                f"delete {_INDEX_NAME} beside it to go on without the others",
            )

    def _reach(self, line: LogLine) -> None:
        self.last, self.at_us, self._end = line.batch.last, line.batch.at_us, line.end

    def _line_at(self, start: int) -> LogLine | None:
        """Return one line; None: no whole line begins there."""
        text = os.pread(self._fd, _LINE_BYTES, start)
        end = text.find(b"\n")
        if end >= 0:
            return self._decoded(text[:end], start)
        return next(self._lines(start), None)

    def _lines(self, start: int, *, after: int | None = None) -> Iterator[LogLine]:
        """Yield the lines from an offset on; stops before a torn one.

        Args:
            start: The offset, of a line's beginning.
            after: Position of the newest message before it, if that is known.
        """
        for place, text in self._texts(start):
            line = self._decoded(text, place)
            if after is not None and line.batch.first != after + 1:
                raise self._damaged(place, f"it begins at position {line.batch.first}, not {after + 1}")
            yield line
            if after is not None:
                after = line.batch.last

    def _texts(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield offset and text, without its newline, of the lines from an offset on.

        Reads 16 kB and then more and more, up to 1 MB: few lines cost one small read, many one for each MB.
        """
        rest, place, amount = b"", start, _LINE_BYTES
        while place < self._size and (part := os.pread(self._fd, amount, place)):
            place += len(part)
            *texts, rest = (rest + part).split(b"\n")
            for text in texts:
                yield start, text
                start += len(text) + 1
            amount = max(min(4 * amount, _CHUNK_BYTES), len(rest))  # at least doubles a long line

    def _decoded(self, text: bytes, start: int) -> LogLine:
        try:
            return LogLine(start, start + len(text) + 1, decode_text(text))
        except DamagedError as exc:
            raise self._damaged(start, str(exc)) from exc

    def _damaged(self, start: int, reason: str) -> CorruptRecordError:
        number = sum(chunk.count(b"\n") for chunk in self._bytes(0, start)) + 1
        return corrupt(self._path, f"line {number} (byte {start}): {reason}")

    def _pass_over_torn_line(self, *, cut: bool) -> None:
        torn = os.pread(self._fd, self._size - self._end, self._end)
        if is_sealed(torn[:-1]):
            raise self._damaged(self._end, "another byte is where its newline was")
        _logger.warning(
            "%s: %d bytes of an append that was killed before it was acknowledged are %s",
            self._path,
            len(torn),
            "cut off" if cut else "passed over",
        )
        if cut:
            os.ftruncate(self._fd, self._end)
            self._size = self._end


def identity(info: os.stat_result) -> Identity:
    """Return what is another when a file was replaced or changed."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
