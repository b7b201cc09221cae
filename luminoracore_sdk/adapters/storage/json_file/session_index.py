"""The order in which the sessions of a store are listed, cached from one page to the next."""

import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from threading import Lock

import attrs

from luminoracore_sdk.adapters.storage.base import is_live, matches
from luminoracore_sdk.adapters.storage.json_file.layout import Store, is_hashed
from luminoracore_sdk.adapters.storage.json_file.log import LOG_NAME
from luminoracore_sdk.adapters.storage.json_file.sessions import SessionFolder, light
from luminoracore_sdk.application.ports.records import Page, SessionQuery, SessionRecord
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = ["SessionIndex"]

Key = tuple[int, str]
"""The place of a session in a listing: a time, and the id."""

Stamp = tuple[int, ...]
"""The state of a file or folder; another one means that it has changed."""

_STEP_NS = 10_000_000
_RECENT_NS = 2_000_000_000
"""A file or folder that changed this shortly before it was read may change again without a later time.

Those of FAT, the coarsest, have a resolution of 2 s. Linux advances file times every 1 to 10 ms: of a time that is not
a multiple of 10 ms, 0.1 s are enough.
"""


@attrs.frozen
class _Active:
    """What a listing without texts shows of a session, and the state of its files then."""

    path: str
    stamp: Stamp | None
    header: SessionRecord


@attrs.frozen
class _Shard:
    """The sessions in one of the 256 folders, and the state of the folder then.

    Attributes:
        stamp: The state.
        keys: Time of creation and id of each session, in order; neither changes while a session exists.
        active: By id, those that were listed by activity.
    """

    stamp: Stamp | None
    keys: list[Key]
    active: dict[str, _Active]


class SessionIndex:
    """Lists sessions; reads the headers on a page instead of all headers.

    A session appears and disappears, in every process, by a rename into or out of its shard's folder, which
    changes the folder's time. A page compares the times of all shards and reads the headers of those that
    changed. A damaged header there fails every page until it is repaired or deleted.

    An append changes the size of the log, and any other change of a session the time of its folder. A page by
    activity, and one without texts, compares these of all sessions, and reads those that changed; the latter shows no
    more than that.

    The cache takes about 250 bytes for each session, and 900 more once it was listed by activity. Threads may
    share it.

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
        if not query.texts:
            found = self._headers(query, now_us)
            page = tuple(found[: query.limit])
            return Page(sessions=page, next_cursor=query.key(page[-1]) if len(found) > query.limit else None)
        picked: list[SessionRecord] = []
        in_place = 0
        for key in map(query.key, self._headers(query, now_us)) if query.by_activity else self._by_creation(query):
            record = self._current(key[1], query, now_us)
            if record is not None:  # one that moved since is listed if its new place is on the page
                picked.append(record)
                in_place += query.key(record) == key
            if in_place > query.limit:
                break
        picked.sort(key=query.key, reverse=query.newest_first)
        listed = picked[: query.limit]
        return Page(
            sessions=tuple(listed),
            next_cursor=query.key(listed[-1]) if len(picked) > query.limit else None,
        )

    def clear(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._shards.clear()

    def _current(self, session_id: str, query: SessionQuery, now_us: int) -> SessionRecord | None:
        """Return the header of a session if it may be on the page."""
        session = SessionFolder(self._store.session(session_id), self._store)
        if not query.by_activity and (query.user_id, query.tag, query.without_tag) != (None, None, None):
            header = self._header(session)  # most do not match: no lock and no log for them
            if header is None or not matches(header, query):
                return None
        with self._store.locks.hold(session.path, writing=False):
            current = session.current(now_us)
        if current is None or not _belongs(current, query):
            return None  # expired, deleted or changed since
        return current.listed(texts=True)

    def _by_creation(self, query: SessionQuery) -> Iterator[Key]:
        """Return the keys of all sessions between the bounds of a query, in its order."""
        parts = [_between(shard.keys, query) for shard in self._refreshed()]
        return merge(*parts, reverse=query.newest_first)

    def _headers(self, query: SessionQuery, now_us: int) -> list[SessionRecord]:
        """Return the sessions that match a query, in its order, as a listing without texts shows them."""
        began_ns = time.time_ns()
        found: list[SessionRecord] = []
        for shard in self._refreshed():
            for _, session_id in shard.keys:
                header = self._active(shard, session_id, began_ns)
                if header is None or not is_live(header.updated_at_us, header.ttl_us, now_us):
                    continue
                if _belongs(header, query):
                    found.append(header)
        return sorted(found, key=query.key, reverse=query.newest_first)

    def _active(self, shard: _Shard, session_id: str, began_ns: int) -> SessionRecord | None:
        """Return the header of a session as of its last change; None: it was deleted."""
        known = shard.active.get(session_id)
        path = str(self._store.session(session_id)) if known is None else known.path
        stamp = _session_stamp(path, began_ns)
        if known is not None and known.stamp is not None and known.stamp == stamp:
            return known.header
        session = SessionFolder(Path(path), self._store)
        with self._store.locks.hold(session.path, writing=False), session.opened(None, writing=False) as opened:
            if opened is None:
                return None
            header = light(*opened)
        shard.active[session_id] = _Active(path, stamp, header)
        return header

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
                    keys = self._read(path)
                    active = known.active if known else {}
                    kept = {session_id: active[session_id] for _, session_id in keys if session_id in active}
                    self._shards[name] = _Shard(stamp, keys, kept)
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


def _belongs(header: SessionRecord, query: SessionQuery) -> bool:
    """Return whether a session is one of a query, behind its cursor."""
    after, before, cursor = query.created_after_us, query.created_before_us, query.cursor
    key = query.key(header)
    return (
        matches(header, query)
        and (after is None or header.created_at_us >= after)
        and (before is None or header.created_at_us < before)
        and (cursor is None or (key < cursor if query.newest_first else key > cursor))
    )


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


def _stamp(path: str, began_ns: int) -> Stamp | None:
    """Return the state of a folder; None: it is missing, or may change without a later time."""
    try:
        info = os.stat(path)  # noqa: PTH116 - a Path would cost 2 µs for each of 256
    except FileNotFoundError:
        return None
    changed_ns = info.st_mtime_ns
    if changed_ns > began_ns - (10 * _STEP_NS if changed_ns % _STEP_NS else _RECENT_NS):
        return None
    return info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_size


def _session_stamp(path: str, began_ns: int) -> Stamp | None:
    """Return the state of a session's folder and log; None as for a folder."""
    folder, log = _stamp(path, began_ns), _stamp(f"{path}/{LOG_NAME}", began_ns)
    return None if folder is None or log is None else (*folder, *log)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - a Path for each would cost more than the listing
    except FileNotFoundError:
        return []
