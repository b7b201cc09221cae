"""The order in which the sessions of a store are listed, cached from one page to the next."""

import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from threading import Lock

import attrs

from luminoracore_sdk.adapters.storage.json_file.layout import Store, is_hashed
from luminoracore_sdk.adapters.storage.json_file.sessions import SessionFolder
from luminoracore_sdk.application.ports.records import Page, SessionQuery, SessionRecord
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = ["SessionIndex"]

Key = tuple[int, str]
"""Time of creation and id, which do not change while a session exists."""

_RECENT_NS = 2_000_000_000
"""A folder that changed this shortly before it was read may change again without a later time.

Linux advances file times every 4 ms or so; those of FAT, the coarsest, have a resolution of 2 s.
"""


@attrs.frozen
class _Shard:
    """The keys of the sessions in one of the 256 folders, in order, and the state of the folder then."""

    stamp: tuple[int, int, int] | None
    keys: list[Key]


class SessionIndex:
    """Lists sessions; reads the headers on a page instead of all headers.

    A session appears and disappears, in every process, by a rename into or out of its shard's folder, which
    changes the folder's time. A page compares the times of all shards and reads the headers of those that
    changed. A damaged header there fails every page until it is repaired or deleted.

    The cache takes about 250 bytes for each session. Threads may share it.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = str(store.root / "sessions")
        self._shards: dict[str, _Shard] = {}
        self._lock = Lock()

    def page(self, query: SessionQuery, now_us: int) -> Page:
        """Return one page of headers, without payloads."""
        picked: list[SessionRecord] = []
        for key in self._keys(query):
            record = self._current(key, query, now_us)
            if record is not None:
                picked.append(record)
            if len(picked) > query.limit:
                break
        listed = picked[: query.limit]
        return Page(
            sessions=tuple(listed),
            next_cursor=_key(listed[-1]) if len(picked) > query.limit else None,
        )

    def clear(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._shards.clear()

    def _current(self, key: Key, query: SessionQuery, now_us: int) -> SessionRecord | None:
        """Return the header of a session if it belongs on the page."""
        created_at_us, session_id = key
        session = SessionFolder(self._store.session(session_id), self._store)
        if query.user_id is not None or query.tag is not None:  # most do not match: no lock and no log for them
            header = self._header(session)
            if header is None or not _matches(header, query):
                return None
        with self._store.locks.hold(session.path, writing=False):
            current = session.current(now_us)
        if current is None or current.created_at_us != created_at_us or not _matches(current, query):
            return None  # expired or deleted since; one that was created anew has another key
        return attrs.evolve(current, payload=None)

    def _keys(self, query: SessionQuery) -> Iterator[Key]:
        """Return the keys of all sessions between the bounds of a query, in its order."""
        parts = [_between(shard.keys, query) for shard in self._refreshed()]
        return merge(*parts, reverse=query.newest_first)

    def _refreshed(self) -> list[_Shard]:
        with self._lock:
            began_ns = time.time_ns()
            names = set(_names(self._folder))
            for name in self._shards.keys() - names:
                del self._shards[name]
            for name in names:
                path = f"{self._folder}/{name}"
                stamp = _stamp(path, began_ns)
                known = self._shards.get(name)
                if known is None or known.stamp is None or known.stamp != stamp:
                    self._shards[name] = _Shard(stamp, self._read(path))
            return list(self._shards.values())

    def _read(self, path: str) -> list[Key]:
        sessions = [SessionFolder(Path(path, name), self._store) for name in _names(path) if is_hashed(name)]
        return sorted(_key(header) for header in map(self._header, sessions) if header is not None)

    def _header(self, session: SessionFolder) -> SessionRecord | None:
        try:
            return session.header()  # without the lock: a header is replaced atomically
        except CorruptRecordError:  # or the session was deleted and created anew between two reads
            with self._store.locks.hold(session.path, writing=False):
                return session.header()


def _key(header: SessionRecord) -> Key:
    return header.created_at_us, header.session_id


def _matches(header: SessionRecord, query: SessionQuery) -> bool:
    """Return whether a session has the user and the tag that a query asks for."""
    return query.user_id in (None, header.user_id) and (query.tag is None or query.tag in header.tags)


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
    positions = range(first, stop)
    return map(keys.__getitem__, reversed(positions) if query.newest_first else positions)


def _stamp(path: str, began_ns: int) -> tuple[int, int, int] | None:
    """Return the state of a folder; None: it is missing, or may change without a later time."""
    try:
        info = os.stat(path)  # noqa: PTH116 - a Path would cost 2 µs for each of 256
    except FileNotFoundError:
        return None
    if info.st_mtime_ns > began_ns - _RECENT_NS:
        return None
    return info.st_mtime_ns, info.st_ctime_ns, info.st_ino


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - a Path for each would cost more than the listing
    except FileNotFoundError:
        return []
