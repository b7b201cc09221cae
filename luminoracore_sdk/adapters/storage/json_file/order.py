"""In which order the sessions of a store are listed, kept in memory from one page to the next."""

import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from heapq import merge
from pathlib import Path
from threading import Lock

import attrs

from luminoracore_sdk.adapters.storage.json_file.layout import hashed, is_hashed
from luminoracore_sdk.adapters.storage.json_file.session import HEADER_NAME, sort_key
from luminoracore_sdk.application.ports.records import SessionQuery, SessionRecord

__all__ = ["SessionOrder"]

Key = tuple[int, str]
"""Time of creation and id, which stay as they are while a session is there."""

_RACY_NS = 2_000_000_000
"""What changed so shortly before it was looked at may change again without a later time.

Linux moves its file times on every 4 ms or so; FAT has the coarsest there are, of 2 s.
"""

_UNSURE = 0
"""The stamp of what has to be looked at again, and is never equal to one."""


@attrs.frozen(kw_only=True)
class _Stripe:
    """The sessions in one of the 256 folders: their keys in order, and the stamps of their headers."""

    stamp: int
    keys: list[Key]
    headers: list[int]


class SessionOrder:
    """The keys of all sessions, so that a page reads the headers of what is on it, not of everything.

    A session comes and goes, in every process, by a rename into or out of its stripe's folder. That moves
    the folder's times, so a page looks at the times of all of them and lists those that changed. There it
    reads a header only if that is new or is another file than before: a session may have been deleted and
    made anew in between. A page of 20 takes 3 ms, of 3,000 sessions instead of 90 and of 20,000
    instead of 500; the first one reads every header.

    A header that is damaged when it is first read fails every page until it is mended or deleted; one that
    is damaged later fails the pages that come to it.

    Takes about 250 bytes of memory a session, more with ids longer than 36 letters. Threads may share it.

    Args:
        folder: That of the stripes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._stripes: dict[str, _Stripe] = {}
        self._lock = Lock()

    def keys(self, query: SessionQuery, read: Callable[[Path], SessionRecord | None]) -> Iterator[Key]:
        """Return the keys between the bounds of a query, in its order, one after the other.

        What is there when it is called is among them; the caller finds out what has gone since.

        Args:
            query: Gives direction, times and cursor; user and tag are left to the caller.
            read: Returns the header in a session's folder; None: there is no session.
        """
        parts = [_between(stripe.keys, query) for stripe in self._refreshed(read)]
        return merge(*parts, reverse=query.newest_first)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._stripes.clear()

    def _refreshed(self, read: Callable[[Path], SessionRecord | None]) -> list[_Stripe]:
        with self._lock:
            began_ns = time.time_ns()
            before, self._stripes = self._stripes, {}
            try:
                for name in _names(self._folder):
                    known = before.pop(name, None)
                    stripe = _refreshed(f"{self._folder}/{name}", known, read, began_ns)
                    if stripe is not None:
                        self._stripes[name] = stripe
            except BaseException:
                self._stripes |= before  # one damaged session: the others need not be read again
                raise
            return list(self._stripes.values())


def _refreshed(
    path: str, known: _Stripe | None, read: Callable[[Path], SessionRecord | None], began_ns: int
) -> _Stripe | None:
    try:
        stamp = _stamp(os.stat(path), began_ns)  # noqa: PTH116 - a Path would cost 256 times 2 µs
    except FileNotFoundError:
        return None
    if known is not None and stamp == known.stamp != _UNSURE:
        return known
    seen = {hashed(key[1]): (key, header) for key, header in _rows(known)}
    found: list[tuple[Key, int]] = []
    for name in filter(is_hashed, _names(path)):
        header = _UNSURE
        with suppress(FileNotFoundError):  # before it is read: what is read may be newer, never older
            header = _stamp(os.stat(f"{path}/{name}/{HEADER_NAME}"), began_ns)  # noqa: PTH116
        key, before = seen.get(name, (None, _UNSURE))
        if key is None or header != before or header == _UNSURE:
            record = read(Path(path, name))
            if record is None:
                continue
            key = sort_key(record)
        found.append((key, header))
    found.sort()
    return _Stripe(stamp=stamp, keys=[key for key, _ in found], headers=[header for _, header in found])


def _rows(stripe: _Stripe | None) -> Iterator[tuple[Key, int]]:
    return zip(stripe.keys, stripe.headers, strict=True) if stripe else iter(())


def _between(keys: list[Key], query: SessionQuery) -> Iterator[Key]:
    first, stop = 0, len(keys)
    if query.created_after_us is not None:
        first = bisect_left(keys, (query.created_after_us, ""))
    if query.created_before_us is not None:
        stop = bisect_left(keys, (query.created_before_us, ""))
    if query.cursor is not None and query.newest_first:
        stop = min(stop, bisect_left(keys, query.cursor))
    elif query.cursor is not None:
        first = max(first, bisect_right(keys, query.cursor))
    places = range(first, stop)
    return map(keys.__getitem__, reversed(places) if query.newest_first else places)


def _stamp(info: os.stat_result, began_ns: int) -> int:
    """Return one number for a file in one state: a tuple of these would take 160 bytes, this takes 56."""
    if info.st_mtime_ns > began_ns - _RACY_NS:
        return _UNSURE
    return (info.st_ctime_ns << 128) + (info.st_mtime_ns << 64) + info.st_ino


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - a Path for each would cost more than the listing
    except FileNotFoundError:
        return []
