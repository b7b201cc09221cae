"""The log of a session: one line for each append."""

import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import TracebackType
from typing import Self, TypeVar

import attrs

from luminoracore_sdk.adapters.storage.json_file.files import Files, corrupt
from luminoracore_sdk.adapters.storage.json_file.message_index import (
    ROW_BYTES,
    KnownIds,
    MessageIndex,
    chained_rows,
    digest_of,
)
from luminoracore_sdk.adapters.storage.json_file.records import (
    DamagedError,
    decode_batch,
    encode_batch,
    is_sealed,
)
from luminoracore_sdk.application.ports.records import MessageRecord
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = ["LOG_NAME", "MessageLog"]

LOG_NAME = "messages.jsonl"
_INDEX_NAME = "messages.idx"

_LINE_BYTES = 1 << 14
_CHUNK_BYTES = 1 << 20

T = TypeVar("T")

_logger = logging.getLogger("luminoracore_sdk.storage.json")


@attrs.define(eq=False)
class _Line:
    """A line of the log, from ``start`` to ``end`` with its newline: messages that were appended together."""

    start: int
    end: int
    at_us: int
    messages: list[MessageRecord]

    @property
    def first(self) -> int:
        return self.messages[0].position

    @property
    def last(self) -> int:
        return self.messages[-1].position


class MessageLog:
    """The open log of a session, for one operation under the session's lock.

    A last line without a newline is an append that was killed before it was acknowledged: readers skip it, a
    writer cuts it off. Any other line that is not as it was written is damage.

    Args:
        folder: The folder of the session.
        files: How to write.
        known: What is known of indexes in memory.
        writing: Whether the operation writes.

    Attributes:
        last: The newest position; 0: none.
        at_us: When the newest message was appended, in microseconds; 0: none.

    Raises:
        CorruptRecordError: The log is missing or damaged.
    """

    def __init__(self, folder: str, files: Files, known: KnownIds, *, writing: bool) -> None:
        self._path = f"{folder}/{LOG_NAME}"
        self._files = files
        self.last = self.at_us = self._end = 0
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND if writing else os.O_RDONLY)
        except FileNotFoundError as exc:
            raise corrupt(self._path, "it is missing") from exc
        self._index = MessageIndex(f"{folder}/{_INDEX_NAME}", known, writing=writing)
        try:
            self._size = _size_of(self._fd, self._path)
            if not self._resume():
                self._rebuild()
            if self._end < self._size:
                self._skip_torn_line(cut=writing)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._index.close()
        os.close(self._fd)

    def read(self, first: int, last: int) -> list[MessageRecord]:
        """Return the messages from one position to another; reads no more of the log than they take."""
        return self._by_index(lambda: self._collect(first, last)) if first <= last else []

    def find(self, message_ids: Sequence[str]) -> dict[str, int]:
        """Return the positions of those ids that are stored."""
        return self._by_index(lambda: self._search(message_ids)) if self.last else {}

    def append(self, messages: Sequence[MessageRecord], now_us: int) -> None:
        """Add a line, all of it or nothing.

        Raises:
            OSError: It could not be written.
        """
        at_us = max(now_us, self.at_us)  # a call that waited for the lock comes with an older time
        line = encode_batch(self.last + 1, at_us, messages)
        self._files.append(self._fd, line, self._end)
        self._index.add([message.message_id for message in messages], self._end)
        self.last, self.at_us = self.last + len(messages), at_us
        self._end = self._size = self._end + len(line)

    def truncate(self, after: int) -> int:
        """Remove the messages above a position, all or nothing; returns how many there were."""
        if after >= self.last:
            return 0
        self._cut(after, b"")
        return self.last - after

    def replace_tail(self, after: int, messages: Sequence[MessageRecord], now_us: int) -> None:
        """Replace the messages above a position by others, all or nothing."""
        if after >= self.last:
            if messages:
                self.append(messages, now_us)
            return
        at_us = max(now_us, self.at_us)
        self._cut(after, encode_batch(after + 1, at_us, messages) if messages else b"")

    def _cut(self, after: int, line: bytes) -> None:
        """Replace what is above a position, of which there is something, by a line."""
        offset, part = self._by_index(lambda: self._split(after + 1))
        self._index.remove()  # first: an index that knows more than the log is a sign of damage
        self._files.replace(self._path, chain(self._bytes(0, offset), (part, line)))

    def rewrite(self, changes: Iterable[PayloadRewrite]) -> int:
        """Replace the payloads of those messages that are as their change expects, all or none.

        Returns:
            How many were replaced.
        """
        wanted = {change.position: change for change in changes if change.position <= self.last}
        rewritten = self._by_index(lambda: self._rewritten(wanted))
        replaced = sum(count for _, _, count in rewritten)
        if replaced:
            self._index.remove()  # its offsets are no longer right
            self._files.replace(self._path, self._with(rewritten))
        return replaced

    # -- parts of the log ------------------------------------------------------------------------

    def _split(self, position: int) -> tuple[int, bytes]:
        """Return where the line of a message begins, and a line of the messages before it in that line."""
        line = self._line_of(position)
        before = line.messages[: position - line.first]
        return line.start, encode_batch(line.first, line.at_us, before) if before else b""

    def _rewritten(self, wanted: Mapping[int, PayloadRewrite]) -> list[tuple[_Line, bytes, int]]:
        """Return the lines that change, in order: the old line, the new text, how many messages are replaced."""
        found: list[tuple[_Line, bytes, int]] = []
        seen = 0
        for position in sorted(wanted):
            if position <= seen:  # in the line before
                continue
            line = self._line_of(position)
            seen = line.last
            new = [_rewritten(message, wanted.get(message.position)) for message in line.messages]
            count = sum(message is not other for message, other in zip(line.messages, new, strict=True))
            if count:
                found.append((line, encode_batch(line.first, line.at_us, new), count))
        return found

    def _with(self, rewritten: Iterable[tuple[_Line, bytes, int]]) -> Iterator[bytes]:
        """Yield the log with some of its lines replaced."""
        start = 0
        for line, text, _ in rewritten:
            yield from self._bytes(start, line.start)
            yield text
            start = line.end
        yield from self._bytes(start, self._end)

    # -- reading by the index --------------------------------------------------------------------

    def _by_index(self, work: Callable[[], T]) -> T:
        """Run something that reads by the index; if it fails, rebuild the index and run it again."""
        try:
            return work()
        except CorruptRecordError:
            self._rebuild()  # raises if the log is damaged, and not the index
            return work()

    def _collect(self, first: int, last: int) -> list[MessageRecord]:
        found: list[MessageRecord] = []
        position = first
        for start, text in self._texts(self._offset(first)):
            try:
                _, messages = decode_batch(text)
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

    def _search(self, message_ids: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for message_id, positions in self._index.find(message_ids).items():
            for position in positions:
                line = self._line_of(position)
                stored = line.messages[position - line.first].message_id
                if stored == message_id:
                    found[message_id] = position
                elif digest_of(stored) != digest_of(message_id):
                    raise self._misled(position)
        return found

    def _line_of(self, position: int) -> _Line:
        for start, text in self._texts(self._offset(position)):
            line = self._line(start, text)
            if line.first <= position <= line.last:
                return line
            break
        raise self._misled(position)

    def _offset(self, position: int) -> int:
        offset = self._index.offset(position)
        if offset >= self._size:
            raise self._misled(position)
        return offset

    def _misled(self, position: int) -> CorruptRecordError:
        return corrupt(self._path, f"position {position} is not where the index says")

    # -- reading lines ---------------------------------------------------------------------------

    def _texts(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield offset and text, without its newline, of the lines from an offset on, up to a torn one.

        Reads 16 kB and then more and more, up to 1 MB: few lines cost one small read, many one for each MB.
        """
        rest, place, amount = b"", start, _LINE_BYTES
        while place < self._size and (part := os.pread(self._fd, amount, place)):
            place += len(part)
            *texts, rest = (rest + part).split(b"\n")
            for text in texts:
                yield start, text
                start += len(text) + 1
            amount = max(min(4 * amount, _CHUNK_BYTES), len(rest))  # a long line at least doubles it

    def _line(self, start: int, text: bytes) -> _Line:
        try:
            return _Line(start, start + len(text) + 1, *decode_batch(text))
        except DamagedError as exc:
            raise self._damaged(start, str(exc)) from exc

    def _bytes(self, start: int, end: int) -> Iterator[bytes]:
        while chunk := os.pread(self._fd, min(_CHUNK_BYTES, end - start), start):
            yield chunk
            start += len(chunk)

    def _damaged(self, start: int, reason: str) -> CorruptRecordError:
        number = sum(chunk.count(b"\n") for chunk in self._bytes(0, start)) + 1
        return corrupt(self._path, f"line {number} (byte {start}): {reason}")

    # -- opening ---------------------------------------------------------------------------------

    def _resume(self) -> bool:
        """Read the newest line by the index; False: the index does not fit the log."""
        count = self._index.count
        if not count:
            return not self._size
        try:
            start = self._offset(count)
            text, newline, rest = os.pread(self._fd, self._size - start, start).partition(b"\n")
            line = self._line(start, text)
        except CorruptRecordError:
            return False
        if not newline or b"\n" in rest:  # a line was written and not its row
            return False
        if line.last != count or not self._index.ends_with(line.messages[-1].message_id):
            return False
        self._reach(line)
        return True

    def _rebuild(self) -> None:
        """Read the whole log and make the index anew.

        A row is written after its line is on the disk, so an index that continues where the log ends shows that
        the log has lost lines.
        """
        rows = bytearray()
        self.last = self.at_us = self._end = 0
        for start, text in self._texts(0):
            line = self._line(start, text)
            if line.first != self.last + 1:
                reason = f"it begins at position {line.first}, not {self.last + 1}"
                raise self._damaged(line.start, reason)
            rows += chained_rows(rows[-ROW_BYTES:], [message.message_id for message in line.messages], line.start)
            self._reach(line)
        if self._index.continues(rows, self._end):
            raise corrupt(
                self._path,
                f"it ends after message {self.last}, but {self._index.count} were stored; "
                f"delete {_INDEX_NAME} beside it to accept the loss",
            )
        self._index.replace(bytes(rows))

    def _reach(self, line: _Line) -> None:
        self.last, self.at_us, self._end = line.last, line.at_us, line.end

    def _skip_torn_line(self, *, cut: bool) -> None:
        torn = os.pread(self._fd, self._size - self._end, self._end)
        if is_sealed(torn[:-1]):
            raise self._damaged(self._end, "another byte is where its newline was")
        _logger.warning(
            "%s: %s %d bytes of an append that was killed before it was acknowledged",
            self._path,
            "cut off" if cut else "skipped",
            len(torn),
        )
        if cut:
            os.ftruncate(self._fd, self._end)
            self._size = self._end


def _size_of(fd: int, path: str) -> int:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise corrupt(path, "it is not a file")
    return info.st_size


def _rewritten(message: MessageRecord, change: PayloadRewrite | None) -> MessageRecord:
    """Return a message with its new payload, or the same object if the change does not fit it."""
    if change is None or not change.fits(message):
        return message
    return attrs.evolve(message, payload=change.new)
