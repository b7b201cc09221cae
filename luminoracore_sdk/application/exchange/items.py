"""The conversations in a file that is to be imported, one at a time."""

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import Any

import attrs

from luminoracore_sdk.application.exchange.fields import placed
from luminoracore_sdk.application.exchange.formats import ImportFormat, detected_format
from luminoracore_sdk.application.exchange.older_sdk import is_older_store
from luminoracore_sdk.application.exchange.raw_json import RawJSON, Readable, elements_of, utf8_chunks
from luminoracore_sdk.domain.errors import ValidationError

__all__ = ["Item", "items_of"]

_LISTS = frozenset({ImportFormat.OPENAI, ImportFormat.LANGCHAIN, ImportFormat.OPENAI_AGENTS})
"""Formats in which an array may be one conversation."""


@attrs.frozen(kw_only=True)
class Item:
    """One conversation in a file.

    Attributes:
        place: File and line, or file and session, for errors.
        end: The number of bytes of the file that were read so far.
        content: What ``SessionParser.read`` takes; of the older SDK's file, what ``read_older`` takes.
        session_id: The key of an entry of the older SDK's file; None: the content is not one.
    """

    place: str
    end: int
    content: Any
    session_id: str | None = None


def items_of(file: Readable, name: str, format: ImportFormat | None = None) -> Iterator[Item]:  # noqa: A002
    """Yield the conversations of a file.

    A file holds one conversation a line (blank lines are skipped), or an array of them, or a list of messages, or JSON
    that is laid out in any other way, or the older SDK's object of sessions, which alone is read at once.

    Args:
        file: Bytes in UTF-8, UTF-16 or UTF-32.
        name: Its name, for errors.
        format: None: detect it.

    Raises:
        ValidationError: The file cannot be split into conversations; the error names the line.
    """
    counted = _Counted(file)
    try:
        chunks = utf8_chunks(counted)
        head, line = _first_line(chunks)
        chunks = chain([head], chunks)
        if line is not None and _is_conversation(line, format):
            yield from _lines(name, chunks, counted)
        else:
            yield from _elements(name, elements_of(chunks, name), counted, format)
    except UnicodeError as exc:
        raise ValidationError(f"{name}: not {getattr(exc, 'encoding', 'text').upper()}") from exc


@attrs.define
class _Counted:
    """A file that counts what was read of it."""

    file: Readable
    count: int = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self.file.read(size)
        self.count += len(found)
        return found


def _first_line(chunks: Iterator[bytes]) -> tuple[bytes, bytes | None]:
    """Return what was read of a file, and its first line that is not blank; None: it begins with an array."""
    head = bytearray()
    begin: int | None = None
    searched = 0
    for chunk in chunks:
        head += chunk
        if head.isspace():
            continue
        if begin is None:
            begin = searched = len(head) - len(head.lstrip())
        if head[begin : begin + 1] == b"[":
            return bytes(head), None
        end = head.find(b"\n", searched)
        if end >= 0:
            return bytes(head), bytes(head[begin:end])
        searched = len(head)
    return bytes(head), bytes(head[begin:])


def _is_conversation(line: bytes, format: ImportFormat | None) -> bool:  # noqa: A002
    """Return whether a first line is a conversation; the first line of indented JSON is none."""
    try:
        outline = RawJSON(line).outline()
    except ValidationError:
        return False
    return not _is_older(outline, format)


def _is_older(outline: Any, format: ImportFormat | None) -> bool:  # noqa: A002
    if format is not None:
        return format is ImportFormat.OLDER_SDK and isinstance(outline, dict)
    return is_older_store(outline) and detected_format(outline) is None


def _lines(name: str, chunks: Iterable[bytes], counted: _Counted) -> Iterator[Item]:
    number = 1
    line = bytearray()
    for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            line += chunk[start:end]
            if line.strip():
                yield Item(place=f"{name}:{number}", end=counted.count, content=RawJSON(line, number))
            line = bytearray()
            number, start = number + 1, end + 1
        line += chunk[start:]
    if line.strip():
        yield Item(place=f"{name}:{number}", end=counted.count, content=RawJSON(line, number))


def _elements(
    name: str,
    elements: Iterator[RawJSON],
    counted: _Counted,
    format: ImportFormat | None,  # noqa: A002
) -> Iterator[Item]:
    for array, group in groupby(elements, key=lambda element: element.array):
        if not array:
            for element in group:
                yield from _values(name, element, counted, format)
            continue
        messages: list[RawJSON] = []
        for number, element in enumerate(group, 1):
            if messages or (number == 1 and _is_message(element, format)):
                messages.append(element)
                continue
            place = f"{name}:{element.line}: conversation {number}"
            yield Item(place=place, end=counted.count, content=element)
        if messages:
            yield Item(place=f"{name}:{messages[0].line}", end=counted.count, content=messages)


def _values(
    name: str,
    element: RawJSON,
    counted: _Counted,
    format: ImportFormat | None,  # noqa: A002
) -> Iterator[Item]:
    """Yield a value at the top of a file, or the entries of the older SDK's object."""
    try:
        is_older = _is_older(element.outline(), format)
    except ValidationError:
        is_older = False
    with placed(f"{name}:{element.line}"):
        store = element.load() if is_older else None
    if not isinstance(store, dict):
        yield Item(place=f"{name}:{element.line}", end=counted.count, content=element)
        return
    for number, (session_id, entry) in enumerate(store.items(), 1):
        place = f"{name}: session {session_id!a}"
        yield Item(place=place, end=counted.count * number // len(store), content=entry, session_id=session_id)


def _is_message(element: RawJSON, format: ImportFormat | None) -> bool:  # noqa: A002
    """Return whether the first element of an array is a message, so that the array is one conversation."""
    try:
        outline = element.outline()
        if not isinstance(outline, dict) or "messages" in outline:
            return False
        if format is not None:
            return format in _LISTS
        return detected_format(outline) is None and detected_format([outline]) is not None
    except ValidationError:
        return False
