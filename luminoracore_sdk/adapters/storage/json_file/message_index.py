"""The index of a log: where each message is, and under which id."""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from zlib import crc32

from luminoracore_sdk.adapters.storage.json_file.files import corrupt

__all__ = ["ROW_BYTES", "KnownIds", "MessageIndex", "chained_rows", "digest_of"]

ROW_BYTES = 24

_MOST_KNOWN_IDS = 200_000


class KnownIds:
    """Digests of the message ids of the sessions that were last appended to, so that an append reads no whole index.

    What is known is an index up to some row. The checksum in that row covers the rows before it too, so it tells
    whether the index in the file, which other processes write as well, still begins with the same rows.

    Takes about 100 bytes for each id, up to 20 MB. Threads may share it; the caller holds the session's lock.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[str, tuple[int, bytes, set[int]]] = {}  # by path, the last used at the end
        self._ids = 0

    def take(self, path: str) -> tuple[int, bytes, set[int]]:
        """Remove and return what is known of an index: how many rows, the last of them, all digests."""
        with self._lock:
            count, row, digests = self._entries.pop(path, (0, b"", set[int]()))
            self._ids -= count
            return count, row, digests

    def put(self, path: str, count: int, row: bytes, digests: set[int]) -> None:
        """Keep what is known of an index; forget those that were used longest ago if they are too many."""
        with self._lock:
            self._entries[path] = count, row, digests
            self._ids += count
            while self._ids > _MOST_KNOWN_IDS and len(self._entries) > 1:
                forgotten = self._entries.pop(next(iter(self._entries)))
                self._ids -= forgotten[0]


class MessageIndex:
    """One row for each message, so that position p is row p: a digest of its id, and the offset of its line.

    A row is 8 bytes of BLAKE2b, the offset in 8 bytes, and the CRC-32 of both and of the row before in 8 bytes.
    Because all of it can be rebuilt from the log, a failed write is no error, and a row that is used is compared
    with the log. Only a digest that was damaged on the disk goes unnoticed: its message would be stored twice if
    it were appended again.

    Args:
        path: The file, which may be missing.
        known: What is known of it in memory.
        writing: Whether it may be written.

    Attributes:
        count: The number of rows; the position of the last.
    """

    def __init__(self, path: str, known: KnownIds, *, writing: bool) -> None:
        self._path = path
        self._known = known
        self._fd: int | None = None
        self._rows: bytes | None = None  # those that are not in the file
        self._last_row = b""
        self.count = 0
        with suppress(OSError):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT if writing else os.O_RDONLY, 0o600)
            info = os.fstat(self._fd)
            count, rest = divmod(info.st_size, ROW_BYTES)
            if count and not rest and stat.S_ISREG(info.st_mode):
                self.count = count
                self._last_row = self._part(count, count)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def offset(self, position: int) -> int:
        """Return where the line of a message begins."""
        row = self._last_row if position == self.count else self._read(position, position)
        return int.from_bytes(row[8:16])

    def ends_with(self, message_id: str) -> bool:
        """Return whether the last row is that of a message."""
        return self._last_row[:8] == digest_of(message_id)

    def find(self, message_ids: Iterable[str]) -> dict[str, list[int]]:
        """Return the rows with the digest of an id: normally none for a new id, and one for a stored one."""
        count, row, digests = self._known.take(self._path)
        if count and self._part(count, count) != row:
            count, digests = 0, set()
        if count < self.count:
            rows = self._read(count + 1, self.count)
            digests.update(memoryview(rows).cast("Q")[::3])
        if 0 in digests:  # a power failure may leave zeros
            raise corrupt(self._path, "it has a hole")
        self._known.put(self._path, self.count, self._last_row, digests)
        return {
            message_id: self._search(digest)
            for message_id in message_ids
            if int.from_bytes(digest := digest_of(message_id), sys.byteorder) in digests
        }

    def add(self, message_ids: Sequence[str], offset: int) -> None:
        """Add the rows of a line."""
        rows = chained_rows(self._last_row, message_ids, offset)
        if self._rows is None:
            self._write(rows, self.count * ROW_BYTES)
        count, row, digests = self._known.take(self._path)
        if count == self.count and row == self._last_row:
            digests.update(memoryview(rows).cast("Q")[::3])
            self._known.put(self._path, count + len(message_ids), rows[-ROW_BYTES:], digests)

    def replace(self, rows: bytes) -> None:
        """Replace all rows; they stay in memory if the file cannot be written."""
        self.count, self._last_row = len(rows) // ROW_BYTES, rows[-ROW_BYTES:]
        self.close()
        with suppress(OSError):
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._rows = None if self._write(rows, 0) else rows

    def continues(self, rows: bytes | bytearray, end: int) -> bool:
        """Return whether the file holds these rows, and after them that of a line which begins at an offset."""
        known = self._part(1, self.count)
        following = known[len(rows) : len(rows) + ROW_BYTES]
        return known.startswith(rows) and following[8:16] == end.to_bytes(8) and any(following[:8])

    def remove(self) -> None:
        """Remove the file."""
        self.close()
        with suppress(OSError):
            Path(self._path).unlink(missing_ok=True)

    def _search(self, digest: bytes) -> list[int]:
        rows = self._read(1, self.count)
        found: list[int] = []
        place = rows.find(digest)
        while place >= 0:
            if place % ROW_BYTES == 0:  # or it is another number that looks like it
                found.append(place // ROW_BYTES + 1)
            place = rows.find(digest, place + 1)
        return found

    def _write(self, rows: bytes, place: int) -> bool:
        with suppress(OSError):
            if self._fd is not None and os.pwrite(self._fd, rows, place) == len(rows):
                return True
        self.remove()  # a later row would leave a hole
        return False

    def _read(self, first: int, last: int) -> bytes:
        rows = self._part(first, last)
        if len(rows) != (last - first + 1) * ROW_BYTES:
            raise corrupt(self._path, "rows are missing")
        return rows

    def _part(self, first: int, last: int) -> bytes:
        start, stop = (first - 1) * ROW_BYTES, last * ROW_BYTES
        if self._rows is not None:
            return self._rows[start:stop]
        return b"" if self._fd is None or start == stop else os.pread(self._fd, stop - start, start)


def chained_rows(row: bytes | bytearray, message_ids: Iterable[str], offset: int) -> bytes:
    """Return the rows of a line that follow a row."""
    rows: list[bytes] = []
    for message_id in message_ids:
        numbers = digest_of(message_id) + offset.to_bytes(8)
        row = numbers + crc32(numbers, crc32(row)).to_bytes(8)
        rows.append(row)
    return b"".join(rows)


def digest_of(message_id: str) -> bytes:
    """Return the 8 bytes that stand for an id in the index."""
    return blake2b(message_id.encode(), digest_size=8).digest()
