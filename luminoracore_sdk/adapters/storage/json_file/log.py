"""The log of a session: one line for each append, the truth about its messages."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import attrs

from luminoracore_sdk.adapters.storage.json_file.io import Syncing
from luminoracore_sdk.adapters.storage.json_file.log_reader import LOG_NAME, LogLine, LogReader
from luminoracore_sdk.adapters.storage.json_file.record import encode_batch
from luminoracore_sdk.application.ports.records import MessageRecord
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite

__all__ = ["LOG_NAME", "MessageLog"]


class MessageLog(LogReader):
    """An open log that can be written; see ``LogReader``. After ``truncate`` or ``rewrite`` it is used up."""

    def append(self, batches: Iterable[tuple[Sequence[MessageRecord], int]]) -> Syncing[None]:
        """Add a line for each batch, all of them or nothing: in one write that waits for the disk once.

        Args:
            batches: The messages, and when they were appended.

        Raises:
            UnsyncedError: They were written, but the disk did not say that it has them; they were removed.
            OSError: They could not be written.
        """
        last, at_us, end = self.last, self.at_us, self._end
        lines: list[bytes] = []
        rows: list[tuple[list[str], int]] = []
        for messages, asked_us in batches:
            at_us = max(asked_us, at_us)  # who waited for the lock comes with an older time
            line = encode_batch(last + 1, at_us, messages)
            lines.append(line)
            rows.append(([message.message_id for message in messages], end))
            last, end = last + len(messages), end + len(line)
        yield from self._io.append(self._fd, b"".join(lines), self._end)
        self._index.add(rows)
        self.last, self.at_us, self._end, self._size = last, at_us, end, end

    def is_whole(self) -> bool:
        """Tell whether the log ends where this object left it, so that more can be written."""
        try:
            return os.fstat(self._fd).st_size == self._end
        except OSError:
            return False

    def truncate(self, after: int) -> int:
        """Remove what is above a position, all or nothing.

        Returns:
            How many messages were removed.
        """
        if after >= self.last:
            return 0
        offset, part = self._by_index(lambda: self._split(after + 1))
        self._size = -1  # used up
        self._index.remove()  # first: one that knows more than the log is a sign of damage
        self._io.replace(self._path, chain(self._bytes(0, offset), (part,)))
        return self.last - after

    def rewrite(self, changes: Iterable[PayloadRewrite]) -> int:
        """Replace the payloads of those messages that are as their change says.

        The log is written anew beside the old one and takes its place: after a crash, one of them is there.

        Returns:
            How many were replaced.
        """
        wanted = {change.position: change for change in changes if change.position <= self.last}
        rewritten = self._by_index(lambda: self._rewritten(wanted))
        replaced = sum(count for _, _, count in rewritten)
        if replaced:
            self._size = -1  # used up
            self._index.remove()  # its offsets hold no more
            self._io.replace(self._path, self._with(rewritten))
        return replaced

    def _split(self, position: int) -> tuple[int, bytes]:
        """Return where the line of a message begins, and as much of that line as is before it."""
        line = self._line_of(position)
        batch = line.batch
        before = self._messages(line)[: position - batch.first]
        return line.start, encode_batch(batch.first, batch.at_us, before) if before else b""

    def _rewritten(self, wanted: Mapping[int, PayloadRewrite]) -> list[tuple[LogLine, bytes, int]]:
        """Return the lines that change, in order: as they are, as they become, messages replaced."""
        found: list[tuple[LogLine, bytes, int]] = []
        seen = 0
        for position in sorted(wanted):
            if position <= seen:  # within the line before
                continue
            line = self._line_of(position)
            seen = line.batch.last
            messages = self._messages(line)
            new = [_rewritten(message, wanted.get(message.position)) for message in messages]
            count = sum(message is not other for message, other in zip(messages, new, strict=True))
            if count:
                found.append((line, encode_batch(line.batch.first, line.batch.at_us, new), count))
        return found

    def _with(self, rewritten: Iterable[tuple[LogLine, bytes, int]]) -> Iterator[bytes]:
        """Yield the log with some of its lines replaced."""
        start = 0
        for line, text, _ in rewritten:
            yield from self._bytes(start, line.start)
            yield text
            start = line.end
        yield from self._bytes(start, self._end)


def _rewritten(message: MessageRecord, change: PayloadRewrite | None) -> MessageRecord:
    """Return a message with its new payload; the same object: it is not what the change is for."""
    if change is None or not change.fits(message):
        return message
    return attrs.evolve(message, payload=change.new)
