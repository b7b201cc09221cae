"""Files that sessions are imported from: JSON lines, or the single file of the older SDK."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO

import attrs

from luminoracore_sdk.application.exchange_fields import read_json
from luminoracore_sdk.application.exchange_older import is_older_store
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["Item", "items_of"]


@attrs.frozen(kw_only=True)
class Item:
    """One session as it stands in a file.

    Attributes:
        place: File and line, or file and session, for errors.
        end: Bytes of the file up to its end.
        text: A line; None: ``value`` is there instead.
        value: An entry of an older store.
        session_id: The entry's key; None: a line says it itself.
    """

    place: str
    end: int
    text: bytes | None = None
    value: JSONValue = None
    session_id: str | None = None


@contextmanager
def items_of(path: Path) -> Iterator[Iterator[Item]]:
    """Open a file (``-``: stdin) and give its sessions, one after the other.

    Lines are read one at a time; only an older store is read whole. Blank lines are passed over.
    """
    with ExitStack() as opened:
        if str(path) == "-":
            yield _items("stdin", sys.stdin.buffer)
        else:
            yield _items(str(path), opened.enter_context(path.open("rb")))


def _items(name: str, file: IO[bytes]) -> Iterator[Item]:
    head = []
    for line in file:
        head.append(line)
        if line.strip():
            break
    if not head or _is_whole_session(head[-1]):
        return _lines(name, chain(head, file))
    whole = b"".join(head) + file.read()
    store = _older_store(whole)
    return _lines(name, BytesIO(whole)) if store is None else _entries(name, store, len(whole))


def _is_whole_session(line: bytes) -> bool:
    """Tell whether a first line stands for itself; that of an older store, indented or not, does not."""
    try:
        return not is_older_store(read_json(line))
    except ValidationError:
        return False


def _older_store(text: bytes) -> JSONObject | None:
    try:
        value = read_json(text)
    except ValidationError:
        return None
    return value if isinstance(value, dict) and is_older_store(value) else None


def _lines(name: str, lines: Iterable[bytes]) -> Iterator[Item]:
    end = 0
    for number, line in enumerate(lines, 1):
        end += len(line)
        if line.strip():
            yield Item(place=f"{name}:{number}", end=end, text=line)


def _entries(name: str, store: JSONObject, size: int) -> Iterator[Item]:
    for number, (session_id, entry) in enumerate(store.items(), 1):
        place = f"{name}: session {session_id!a}"
        yield Item(place=place, end=size * number // len(store), value=entry, session_id=session_id)
