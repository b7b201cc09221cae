"""Where everything lies in the folder of a store.

    luminora.json                                   says that it is one, and of which version
    sessions/3f/3fd1…/session.json                  header, replaced as a whole
                     /messages.jsonl                log, one line for each append
                     /messages.idx                  made from the log, and made again when missing
                     /memory/<hash of key>.json     one file for each entry
    users/a0/a09c…/memory/<hash of key>.json
    locks/3f.lock                                   for all sessions and users whose hash begins so
    trash/                                          what is being removed

An id never becomes a name: names are the first 32 hexadecimal digits of its SHA-256.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import orjson

from luminoracore_sdk.adapters.storage.json_file.io import BACKEND, FileIO, corrupt
from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.domain.errors import ConfigurationError, SchemaVersionError

__all__ = ["FORMAT", "MARKER_NAME", "SCHEMA_VERSION", "StoreLayout", "hashed", "is_hashed", "stripe_of"]

FORMAT = "luminoracore-json-files"
SCHEMA_VERSION = 1
MARKER_NAME = "luminora.json"

_NAME = re.compile(r"[0-9a-f]{32}")


def hashed(value: str) -> str:
    """Return the name that stands for an id or key."""
    return sha256(value.encode()).hexdigest()[:32]


def is_hashed(name: str) -> bool:
    """Tell whether a name is one that ``hashed`` returns; others are what a crash left."""
    return _NAME.fullmatch(name) is not None


def stripe_of(path: Path) -> str:
    """Return the name of the lock for the folder of a session or user."""
    return path.name[:2]


class StoreLayout:
    """Paths of one store, and the check that it is one.

    Args:
        root: Its folder.
        io: Writes the marker.
    """

    def __init__(self, root: Path, io: FileIO) -> None:
        self.root = root
        self._prefix = str(root)
        self.locks = root / "locks"
        self.trash = root / "trash"
        self._marker = root / MARKER_NAME
        self._io = io

    def session(self, session_id: str) -> Path:
        """Return the folder of a session."""
        return self._folder("sessions", session_id)

    def owner(self, scope: MemoryScope) -> Path:
        """Return the folder of the session or user that a memory belongs to."""
        return self._folder(f"{scope.kind}s", scope.owner_id)

    def sessions(self) -> Iterator[Path]:
        """Yield the folders of all sessions, in no order."""
        return self._folders("sessions")

    def users(self) -> Iterator[Path]:
        """Yield the folders of all users, in no order."""
        return self._folders("users")

    def schema_version(self) -> int:
        """Return the version that the marker names.

        Raises:
            CorruptRecordError: There is no marker, or it is damaged.
            SchemaVersionError: It names a version that this package does not know.
        """
        try:
            text = self._io.read(self._marker)
        except FileNotFoundError as exc:
            raise corrupt(self._marker, "it is missing") from exc
        try:
            marker = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            raise corrupt(self._marker, "it is not JSON") from exc
        version = marker.get("schema_version") if isinstance(marker, dict) else None
        if type(version) is not int or marker.get("format") != FORMAT:
            raise corrupt(self._marker, f"it does not say {FORMAT!r} and a schema version")
        if version != SCHEMA_VERSION:
            raise SchemaVersionError(
                backend=BACKEND,
                found=version,
                supported=SCHEMA_VERSION,
                hint=f"open {self.root} with the release that wrote it, or a newer one",
            )
        return version

    def prepare(self) -> None:
        """Check the folder, or make it a store if it is empty or missing.

        Raises:
            ConfigurationError: It is a file, or holds something else; nothing was changed.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ConfigurationError(
                f"{self.root} is a file; the store of JSON files is a folder. To take over its sessions: "
                f"luminora sessions import {self.root} --store file://DIR"
            )
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._marker.exists():
            if any(not path.name.startswith(MARKER_NAME) for path in self.root.iterdir()):
                raise ConfigurationError(
                    f"{self.root} is neither empty nor a store ({MARKER_NAME} is missing); name another"
                )
            marker = {"format": FORMAT, "schema_version": SCHEMA_VERSION}
            self._io.replace(self._marker, [orjson.dumps(marker) + b"\n"])
        self.schema_version()
        self._sweep()

    def _sweep(self) -> None:
        with suppress(OSError):
            for doomed in self.trash.iterdir():
                shutil.rmtree(doomed, ignore_errors=True)

    def _folder(self, kind: str, owner_id: str) -> Path:
        name = hashed(owner_id)
        return Path(f"{self._prefix}/{kind}/{name[:2]}/{name}")  # joining parts one by one costs 20 µs

    def _folders(self, kind: str) -> Iterator[Path]:
        for shard in _listed(self.root / kind):
            for folder in _listed(shard):
                if is_hashed(folder.name):
                    yield folder


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
