"""The layout of a store's folder.

    luminora.json                                   marks the store and names the version of its layout
    sessions/3f/3fd1…/session.json                  header, replaced atomically
                     /messages.jsonl                log, one line for each append, with the summary as of then
                     /messages.idx                  derived from the log, rebuilt when missing
                     /memory/<hash of key>.json     one file for each memory
                     /memory/change                 a change of several memories, until it is in their files
    sessions/3f/3fd1….new                           a session that is being created
    users/a0/a09c…/memory/<hash of key>.json
    locks/3f.lock                                   for all sessions and users whose hash begins with 3f
    trash/                                          what is being removed

An id is never used as a file name: names are the first 32 hexadecimal digits of its SHA-256.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import orjson

from luminoracore_sdk.adapters.storage.json_file.files import BACKEND, Files, FolderLocks, corrupt
from luminoracore_sdk.adapters.storage.json_file.message_index import KnownIds
from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.domain.errors import ConfigurationError, SchemaVersionError

__all__ = ["UNFINISHED", "Store", "hashed", "is_hashed"]

UNFINISHED = ".new"
"""Ends the name of the folder of a session that is being created."""

_FORMAT = "luminoracore-json-files"
_SCHEMA_VERSION = 1
_MARKER_NAME = "luminora.json"

_NAME = re.compile(r"[0-9a-f]{32}")


def hashed(value: str) -> str:
    """Return the file name for an id or key."""
    return sha256(value.encode()).hexdigest()[:32]


def is_hashed(name: str) -> bool:
    """Return whether a name is one that ``hashed`` returns; a crash may leave others."""
    return _NAME.fullmatch(name) is not None


class Store:
    """The folder of a store: its paths, and what its sessions and memories share.

    Args:
        root: The folder.
        lock_timeout: Longest wait for a lock, in seconds.
        fsync: Whether writes wait for the disk.

    Attributes:
        root: The folder.
        files: How to write in it.
        locks: Its locks.
        known_ids: The message ids that are known in memory.
    """

    def __init__(self, root: Path, *, lock_timeout: float, fsync: bool) -> None:
        self.root = root
        self.files = Files(fsync=fsync)
        self.locks = FolderLocks(root / "locks", lock_timeout)
        self.known_ids = KnownIds()
        self._prefix = str(root)
        self._trash = root / "trash"
        self._marker = root / _MARKER_NAME

    def session(self, session_id: str) -> Path:
        """Return the folder of a session."""
        return self._folder("sessions", session_id)

    def owner(self, scope: MemoryScope) -> Path:
        """Return the folder of the session or user that owns a memory."""
        return self._folder(f"{scope.kind}s", scope.owner_id)

    def sessions(self) -> Iterator[Path]:
        """Yield the folders of all sessions, by name."""
        return self._folders("sessions")

    def unfinished(self) -> Iterator[Path]:
        """Yield the folders of sessions that are being created, or whose creation was killed."""
        for shard in _listed(self.root / "sessions"):
            yield from (folder for folder in _listed(shard) if folder.suffix == UNFINISHED)

    def users(self, *, after: str = "") -> Iterator[Path]:
        """Yield the folders of all users, by name; only those above a name."""
        return self._folders("users", after)

    def discard(self, path: Path) -> bool:
        """Remove a folder of the store; see ``Files.discard``."""
        return self.files.discard(path, self._trash)

    def schema_version(self) -> int:
        """Return the version that the marker names.

        Raises:
            CorruptRecordError: The marker is missing or damaged.
            SchemaVersionError: It names a version that this package does not know.
        """
        try:
            text = self.files.read(self._marker)
        except FileNotFoundError as exc:
            raise corrupt(self._marker, "it is missing") from exc
        try:
            marker = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            raise corrupt(self._marker, "it is not JSON") from exc
        version = marker.get("schema_version") if isinstance(marker, dict) else None
        if type(version) is not int or marker.get("format") != _FORMAT:
            raise corrupt(self._marker, f"it does not name the format {_FORMAT!r} and a schema version")
        if version != _SCHEMA_VERSION:
            raise SchemaVersionError(
                backend=BACKEND,
                found=version,
                supported=_SCHEMA_VERSION,
                hint=f"open {self.root} with the release that wrote it, or a newer one",
            )
        return version

    def prepare(self) -> None:
        """Check the folder, or make it a store if it is empty or missing.

        Raises:
            ConfigurationError: The path is a file, or the folder holds something else; nothing was changed.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ConfigurationError(
                f"{self.root} is a file; a store of JSON files is a folder. To import its sessions: "
                f"luminora sessions import {self.root} --store file://DIR"
            )
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._marker.exists():
            if any(not path.name.startswith(_MARKER_NAME) for path in self.root.iterdir()):
                raise ConfigurationError(
                    f"{self.root} is neither empty nor a store ({_MARKER_NAME} is missing); choose another folder"
                )
            marker = {"format": _FORMAT, "schema_version": _SCHEMA_VERSION}
            self.files.replace(self._marker, [orjson.dumps(marker) + b"\n"], suffix=f".{uuid4().hex}.tmp")
        self.schema_version()
        self.empty_trash()

    def empty_trash(self) -> None:
        """Remove what killed processes left in the trash."""
        with suppress(OSError):
            for doomed in self._trash.iterdir():
                shutil.rmtree(doomed, ignore_errors=True)

    def _folder(self, kind: str, owner_id: str) -> Path:
        name = hashed(owner_id)
        return Path(f"{self._prefix}/{kind}/{name[:2]}/{name}")  # joining the parts would cost 20 µs

    def _folders(self, kind: str, after: str = "") -> Iterator[Path]:
        for shard in _listed(self.root / kind):
            if shard.name >= after[:2]:
                for folder in _listed(shard):
                    if is_hashed(folder.name) and folder.name > after:
                        yield folder


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
