"""The log of a session: one line for each append."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
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
    Batch,
    DamagedError,
    decode_base,
    decode_batch,
    encode_base,
    encode_batch,
    is_base,
    is_sealed,
)
from luminoracore_sdk.adapters.storage.json_file.summary import Base, Tally
from luminoracore_sdk.application.ports.records import (
    Brief,
    HistoryChange,
    IndexRecord,
    IndexRewrite,
    MessageRecord,
    Payload,
    SessionSummary,
    noted,
    with_indexes,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = ["LOG_NAME", "MessageLog"]

LOG_NAME = "messages.jsonl"
_INDEX_NAME = "messages.idx"

_LINE_BYTES = 1 << 14
_CHUNK_BYTES = 1 << 20

T = TypeVar("T")
R = TypeVar("R", MessageRecord, IndexRecord)

_logger = logging.getLogger("luminoracore_sdk.storage.json")


@attrs.define(eq=False)
class _Line:
    """A line of the log, from ``start`` to ``end`` with its newline."""

    start: int
    end: int
    batch: Batch


_Changed = tuple[_Line, Sequence[MessageRecord]]
"""A line, and its messages with their indexes as they are to be."""


class MessageLog:
    """The open log of a session, for one operation under the session's lock.

    An append adds a line, which has the summary of the session as of then. Any other change writes the log anew,
    beginning with a base: it has the briefs, so that no line needs to have them, and the changes of the history.

    A last line without a newline is an append that was killed before it was acknowledged: readers skip it, a
    writer cuts it off. Any other line that is not as it was written is damage.

    Args:
        folder: The folder of the session.
        files: How to write.
        known: What is known of indexes in memory.
        writing: Whether the operation writes.

    Attributes:
        last: The newest position; 0: none.
        at_us: When the log was changed, in microseconds, except for updates of messages; 0: never.

    Raises:
        CorruptRecordError: The log is missing or damaged.
    """

    def __init__(self, folder: str, files: Files, known: KnownIds, *, writing: bool) -> None:
        self._path = f"{folder}/{LOG_NAME}"
        self._files = files
        self.last = self.at_us = self._end = 0
        self._newest: _Line | None = None
        self._read_base: tuple[Base, int] | None = None
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
        return self._by_index(lambda: self._collect(first, last, self._messages)) if first <= last else []

    def read_index(self, first: int, last: int) -> list[IndexRecord]:
        """Return the indexes of the messages from one position to another."""
        return self._by_index(lambda: self._collect(first, last, self._indexes)) if first <= last else []

    def find(self, message_ids: Sequence[str]) -> dict[str, int]:
        """Return the positions of those ids that are stored."""
        return self._by_index(lambda: self._search(message_ids)) if self.last else {}

    def summary(self) -> SessionSummary:
        """Return the summary of the session."""
        return self._by_index(self._summary)

    def changes(self) -> tuple[HistoryChange, ...]:
        """Return the latest changes of the history."""
        return self._base().changes

    def append(self, messages: Sequence[MessageRecord], now_us: int) -> None:
        """Add a line, all of it or nothing.

        Raises:
            OSError: It could not be written.
        """
        at_us = max(now_us, self.at_us)  # a call that waited for the lock comes with an older time
        line = encode_batch(self.last + 1, at_us, messages, *self._tally().appended(messages, self.last + 1))
        self._files.append(self._fd, line, self._end)
        self._index.add([message.message_id for message in messages], self._end)

    def truncate(self, after: int, now_us: int) -> int:
        """Remove the messages above a position, all or nothing; returns how many there were."""
        if after >= self.last:
            return 0
        self._cut(after, (), now_us)
        return self.last - after

    def replace_tail(self, after: int, messages: Sequence[MessageRecord], now_us: int) -> None:
        """Replace the messages above a position by others, all or nothing."""
        if after < self.last:
            self._cut(after, messages, now_us)
        elif messages:
            self.append(messages, now_us)

    def update(self, change: PayloadRewrite, brief: Payload | None, index: Payload | None) -> bool:
        """Replace payload, brief and index of a message; False: it is not as the change expects."""
        changed, _ = self._changed([change])
        if not changed:
            return False
        [(line, messages)] = changed
        messages = [
            attrs.evolve(message, index=index) if message.position == change.position else message
            for message in messages
        ]
        summary = self.summary().updated(change.position, brief)
        changes = noted(self.changes(), "updated", change.position)
        self._write_anew(Base(summary, changes, self.at_us), [(line, messages)])
        return True

    def rewrite(self, changes: Iterable[PayloadRewrite | IndexRewrite]) -> int:
        """Replace the payloads or indexes of those messages that are as their change expects, all or none.

        Returns:
            How many were replaced.
        """
        changed, count = self._changed(changes)
        if changed:
            self._write_anew(self._current_base(), changed)
        return count

    def rewrite_briefs(self, first: Brief | None, last: Brief | None) -> None:
        """Replace the briefs of the summary."""
        base, tally = self._current_base(), self._tally()
        positions = {position for position in (tally.first, tally.last) if position and position <= self.last}
        lines = self._by_index(lambda: {line.start: line for line in map(self._line_of, sorted(positions))})
        summary = attrs.evolve(base.summary, first=first, last=last)
        changed = [(line, self._whole(line)) for line in lines.values()]  # without the old briefs
        self._write_anew(attrs.evolve(base, summary=summary), changed)

    def copied(
        self,
        at: int,
        base: Base,
        roles: Counter[str],
        rewrite: Callable[[Sequence[MessageRecord]], Sequence[MessageRecord]] | None,
    ) -> Iterator[bytes]:
        """Yield the log of a new session that has the messages up to a position; needs no lock.

        Args:
            at: The position, at most ``last``.
            base: The base of the new log; its summary does not count the messages.
            roles: Counts the messages by role.
            rewrite: Returns messages as they are to be stored; None: as they are.
        """
        if base.summary != SessionSummary():
            yield encode_base(base)
        position = 0
        for start, text in self._texts(self._beginning()[1]):
            if position >= at:
                return
            line = self._line(start, text)
            batch = line.batch
            self._check_order(line, position)
            position = batch.last
            if rewrite is None and position < at:
                roles.update(message.role for message in batch.messages)
                yield text + b"\n"
                continue
            messages: Sequence[MessageRecord] = self._whole(line)[: at - batch.first + 1]
            if rewrite is not None:
                messages = rewrite(messages)
            roles.update(message.role for message in messages)
            if position >= at:
                tally = Tally.of(base.summary.copied(roles.elements()))
                yield encode_batch(batch.first, base.at_us, messages, tally)
            else:
                yield encode_batch(batch.first, batch.at_us, messages, self._tally_of(line))

    # -- the summary -----------------------------------------------------------------------------

    def _summary(self) -> SessionSummary:
        base, tally = self._base().summary, self._tally()
        first, last = base.first, base.last
        if first is None and tally.first is not None:
            first = self._brief(tally.first)
        if tally.last is not None:
            last = self._brief(tally.last)
        return SessionSummary(first=first, last=last, counters=tally.counters)

    def _brief(self, position: int) -> Brief:
        line = self._line_of(position)
        try:
            return line.batch.brief(position)
        except DamagedError as exc:
            raise self._damaged(line.start, str(exc)) from exc

    def _tally(self) -> Tally:
        if self._newest is None:
            return Tally.of(self._base().summary)
        return self._tally_of(self._newest)

    def _tally_of(self, line: _Line) -> Tally:
        try:
            return line.batch.tally
        except DamagedError as exc:
            raise self._damaged(line.start, str(exc)) from exc

    def _base(self) -> Base:
        return self._beginning()[0]

    def _beginning(self) -> tuple[Base, int]:
        """Return the base, and where the first line of messages begins."""
        if self._read_base is None:
            _, text = next(self._texts(0), (0, b""))
            self._read_base = self._decoded_base(text) if is_base(text) else (Base(), 0)
        return self._read_base

    def _decoded_base(self, text: bytes) -> tuple[Base, int]:
        try:
            return decode_base(text), len(text) + 1
        except DamagedError as exc:
            raise self._damaged(0, str(exc)) from exc

    def _current_base(self) -> Base:
        """Return the base of a log whose messages stay and whose lines are to have no briefs."""
        return Base(self.summary(), self.changes(), self.at_us)

    # -- writing anew ----------------------------------------------------------------------------

    def _cut(self, after: int, messages: Sequence[MessageRecord], now_us: int) -> None:
        """Replace the messages above a position, of which there are some, by others, if any."""
        at_us = max(now_us, self.at_us)
        removed = self._by_index(lambda: self._roles(after + 1))
        summary = self.summary().cut(after, removed.elements())
        base = Base(summary, noted(self.changes(), "cut", after), at_us)
        line = b""
        if messages:
            line = encode_batch(after + 1, at_us, messages, *Tally.of(summary).appended(messages, after + 1))
        self._write_anew(base, [], after, line)

    def _roles(self, first: int) -> Counter[str]:
        """Return how many messages of each role there are from a position on."""
        roles = Counter[str]()
        for start, text in self._texts(self._offset(first)):
            batch = self._batch(start, text)
            if not roles and not batch.first <= first <= batch.last:
                raise self._misled(first)
            roles.update(message.role for message in batch.messages if message.position >= first)
        return roles

    def _changed(self, changes: Iterable[PayloadRewrite | IndexRewrite]) -> tuple[list[_Changed], int]:
        """Return the lines that change, in order, with their new messages, and how many of these change."""
        wanted = {change.position: change for change in changes if change.position <= self.last}
        return self._by_index(lambda: self._rewritten(wanted))

    def _rewritten(self, wanted: Mapping[int, PayloadRewrite | IndexRewrite]) -> tuple[list[_Changed], int]:
        found: list[_Changed] = []
        seen = count = 0
        for position in sorted(wanted):
            if position <= seen:  # in the line before
                continue
            line = self._line_of(position)
            seen = line.batch.last
            old = self._whole(line)
            new = [_rewritten(message, wanted.get(message.position)) for message in old]
            changed = sum(message is not other for message, other in zip(old, new, strict=True))
            if changed:
                found.append((line, new))
                count += changed
        return found, count

    def _write_anew(self, base: Base, changed: Sequence[_Changed], after: int | None = None, line: bytes = b"") -> None:
        """Replace the log, all or nothing.

        Args:
            base: What it begins with.
            changed: Lines with their new messages.
            after: The last position that stays; None: all stay.
            line: What it ends with.
        """
        after = self.last if after is None else after
        texts = {
            old.start: (old.end, encode_batch(old.batch.first, old.batch.at_us, new, self._tally_of(old)))
            for old, new in changed
        }
        end = self._beginning()[1]
        if after:
            newest = self._by_index(lambda: self._line_of(after))
            messages = {old.start: new for old, new in changed}.get(newest.start) or self._whole(newest)
            kept, tally = messages[: after - newest.batch.first + 1], Tally.of(base.summary)
            end = newest.end
            texts[newest.start] = end, encode_batch(newest.batch.first, base.at_us, kept, tally)
        self._index.remove()  # first: an index that knows more than the log is a sign of damage
        self._files.replace(self._path, self._chunks(encode_base(base), texts, end, line))

    def _chunks(self, base: bytes, texts: Mapping[int, tuple[int, bytes]], end: int, line: bytes) -> Iterator[bytes]:
        """Yield a base, the log up to an offset with some of its lines replaced, and a last line."""
        yield base
        place = self._beginning()[1]
        for start, (stop, text) in sorted(texts.items()):
            yield from self._bytes(place, start)
            yield text
            place = stop
        yield from self._bytes(place, end)
        yield line

    # -- reading by the index --------------------------------------------------------------------

    def _by_index(self, work: Callable[[], T]) -> T:
        """Run something that reads by the index; if it fails, rebuild the index and run it again."""
        try:
            return work()
        except CorruptRecordError:
            self._rebuild()  # raises if the log is damaged, and not the index
            return work()

    def _collect(self, first: int, last: int, of: Callable[[_Line], list[R]]) -> list[R]:
        found: list[R] = []
        position = first
        for start, text in self._texts(self._offset(first)):
            records = of(self._line(start, text))
            skipped = position - records[0].position
            if not 0 <= skipped < len(records):
                raise self._misled(position)
            if skipped or records[-1].position > last:
                records = records[skipped : last + 1 - records[0].position]
            found += records
            position += len(records)
            if position > last:
                break
        return found

    def _search(self, message_ids: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        batch: Batch | None = None
        for message_id, positions in self._index.find(message_ids).items():
            for position in positions:
                if batch is None or not batch.first <= position <= batch.last:  # a batch is decoded once
                    batch = self._line_of(position).batch
                stored = batch.messages[position - batch.first].message_id
                if stored == message_id:
                    found[message_id] = position
                elif digest_of(stored) != digest_of(message_id):
                    raise self._misled(position)
        return found

    def _line_of(self, position: int) -> _Line:
        for start, text in self._texts(self._offset(position)):
            line = self._line(start, text)
            if line.batch.first <= position <= line.batch.last:
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
        if self._newest is not None and self._newest.start == start:  # was decoded at the opening
            return self._newest
        return _Line(start, start + len(text) + 1, self._batch(start, text))

    def _batch(self, start: int, text: bytes) -> Batch:
        try:
            return decode_batch(text)
        except DamagedError as exc:
            raise self._damaged(start, str(exc)) from exc

    @staticmethod
    def _messages(line: _Line) -> list[MessageRecord]:
        return line.batch.messages

    def _indexes(self, line: _Line) -> list[IndexRecord]:
        try:
            return line.batch.indexes
        except DamagedError as exc:
            raise self._damaged(line.start, str(exc)) from exc

    def _whole(self, line: _Line) -> list[MessageRecord]:
        """Return the messages of a line with their indexes, as they are to be written again."""
        return with_indexes(line.batch.messages, self._indexes(line))

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
            return self._resume_at_base()
        try:
            start = self._offset(count)
            text, newline, rest = os.pread(self._fd, self._size - start, start).partition(b"\n")
            line = self._line(start, text)
        except CorruptRecordError:
            return False
        if not newline or b"\n" in rest:  # a line was written and not its row
            return False
        if line.batch.last != count or not self._index.ends_with(line.batch.messages[-1].message_id):
            return False
        self._reach(line)
        return True

    def _resume_at_base(self) -> bool:
        """Read the base of a log without messages, if it has one; False: it has messages, or is torn."""
        texts = list(islice(self._texts(0), 2))
        if len(texts) == 1 and is_base(texts[0][1]):
            self._reach_base(texts[0][1])
            return True
        return not self._size

    def _rebuild(self) -> None:
        """Read the whole log and make the index anew.

        A row is written after its line is on the disk, so an index that continues where the log ends shows that
        the log has lost lines.
        """
        rows = bytearray()
        self.last = self.at_us = self._end = 0
        self._newest = self._read_base = None
        for start, text in self._texts(0):
            if not start and is_base(text):
                self._reach_base(text)
                continue
            line = self._line(start, text)
            self._check_order(line, self.last)
            rows += chained_rows(rows[-ROW_BYTES:], [message.message_id for message in line.batch.messages], start)
            self._reach(line)
        if self._index.continues(rows, self._end):
            raise corrupt(
                self._path,
                f"it ends after message {self.last}, but {self._index.count} were stored; "
                f"delete {_INDEX_NAME} beside it to accept the loss",
            )
        self._index.replace(bytes(rows))

    def _check_order(self, line: _Line, last: int) -> None:
        if line.batch.first != last + 1:
            raise self._damaged(line.start, f"it begins at position {line.batch.first}, not {last + 1}")

    def _reach(self, line: _Line) -> None:
        self.last, self.at_us, self._end, self._newest = line.batch.last, line.batch.at_us, line.end, line

    def _reach_base(self, text: bytes) -> None:
        self._read_base = base, self._end = self._decoded_base(text)
        self.at_us = base.at_us

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


def _rewritten(message: MessageRecord, change: PayloadRewrite | IndexRewrite | None) -> MessageRecord:
    """Return a message with its new payload or index, or the same object if the change does not fit it."""
    if change is None or not change.fits(message):
        return message
    if isinstance(change, PayloadRewrite):
        return attrs.evolve(message, payload=change.new)
    return attrs.evolve(message, index=change.new)
