"""JSON that is split before it is parsed, so that a file of any size is read one conversation at a time.

The parser is the standard library's. Of the streaming parsers that were tried (November 2026), ijson 3.6 replaces a
lone surrogate by ``?`` and refuses integers above 64 bits, and json-stream 2.5 refuses lone surrogates, accepts NaN and
takes 18 times as long; neither refuses duplicate keys.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, Protocol

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["RawJSON", "Readable", "elements_of", "loaded", "read_json", "resolved", "utf8_chunks"]

_CHUNK_BYTES = 64 * 1024
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")
_QUOTE, _COMMA, _ARRAY, _ARRAY_END = b'",[]'
_OPENING, _CLOSING = frozenset(b"[{"), frozenset(b"]}")
_PLACEHOLDER = re.compile(rb"0e[0-9]{20}")
_DEFERRED_DEPTH = 2


def read_json(text: str | bytes | bytearray, *, parse_float: Callable[[str], Any] = float) -> JSONValue:
    """Return the value of a JSON text.

    Args:
        text: The text; bytes in UTF-8, UTF-16 or UTF-32.
        parse_float: Converts a number with a fraction or an exponent.

    Raises:
        ValidationError: The text is not JSON (RFC 8259, which excludes NaN), or an object has a key twice, of which
            any parser keeps only one; the error names the column, or the key, and quotes nothing else.
    """
    try:
        value: JSONValue = json.loads(
            text, parse_constant=_refuse_constant, parse_float=parse_float, object_pairs_hook=_object_of
        )
    except ValidationError:
        raise
    except json.JSONDecodeError as exc:
        line = f"line {exc.lineno}, " if exc.lineno > 1 else ""
        raise ValidationError(f"not JSON: {exc.msg}, at {line}column {exc.colno}") from exc
    except UnicodeDecodeError as exc:
        raise ValidationError("not JSON: not UTF-8") from exc
    except RecursionError as exc:
        raise ValidationError("not JSON: nested too deeply") from exc
    except ValueError as exc:  # of int()
        raise ValidationError("not JSON: an integer has too many digits") from exc
    return value


def _object_of(pairs: list[tuple[str, JSONValue]]) -> JSONObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValidationError(f"the key {name[:80]!a} occurs twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValidationError(f"not JSON: {name} has no JSON form")


class Readable(Protocol):
    """What a file of bytes has."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        ...


@attrs.frozen
class RawJSON:
    """A JSON value in UTF-8 that is not parsed yet.

    Attributes:
        data: The bytes of the value.
        line: The line at which it begins in its file, counted from 1.
        array: The number of the array at the top of the file to which it belongs; 0: none.
    """

    data: bytes | bytearray | memoryview
    line: int = 1
    array: int = 0

    def load(self) -> JSONValue:
        """Parse the value.

        Raises:
            ValidationError: It is not JSON, or an object has a key twice.
        """
        return read_json(bytes(self.data))

    def outline(self) -> Any:
        """Parse the value, with the objects and arrays two levels below it (messages, as a rule) as ``RawJSON``.

        Raises:
            ValidationError: The outline is not JSON, or an object in it has a key twice.
        """
        data = self.data
        if _PLACEHOLDER.search(data):
            return self.load()
        view = memoryview(data)  # the parts share it
        parts: list[RawJSON] = []
        outline = bytearray()
        depth = copied = start = 0
        for token in _TOKEN.finditer(data):
            byte = data[token.start()]
            if byte in _OPENING:
                if depth == _DEFERRED_DEPTH:
                    start = token.start()
                depth += 1
            elif byte in _CLOSING:
                depth -= 1
                if depth == _DEFERRED_DEPTH:
                    outline += view[copied:start]
                    outline += b"0e%020d" % len(parts)
                    copied = token.end()
                    parts.append(RawJSON(view[start:copied]))
        if depth:
            return self.load()  # raises, since the value does not end
        outline += view[copied:]
        return read_json(outline, parse_float=lambda text: _part_or_float(text, parts))


def _part_or_float(text: str, parts: list[RawJSON]) -> Any:
    return parts[int(text[2:])] if _PLACEHOLDER.fullmatch(text.encode()) else float(text)


def loaded(value: Any) -> Any:
    """Return a value of an outline, parsed."""
    return value.load() if isinstance(value, RawJSON) else value


def resolved(value: Any) -> Any:
    """Return an outline with everything in it parsed.

    Raises:
        ValidationError: A part is not JSON, or the value is nested too deeply.
    """
    try:
        return _resolved(value)
    except RecursionError as exc:
        raise ValidationError("nested too deeply") from exc


def _resolved(value: Any) -> Any:
    if isinstance(value, RawJSON):
        return value.load()
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    if isinstance(value, dict):
        return {name: _resolved(item) for name, item in value.items()}
    return value


def utf8_chunks(file: "Readable") -> Iterator[bytes]:
    """Yield the content of a file in UTF-8, without a byte order mark.

    UTF-8, UTF-16 and UTF-32 are recognized, with a byte order mark or without, as ``json.loads`` does.

    Raises:
        UnicodeError: The file is not in the encoding as which it begins; for UTF-8 without a mark, reading the values
            finds that out.
    """
    chunk = file.read(_CHUNK_BYTES)
    encoding = json.detect_encoding(chunk[:4])
    if encoding == "utf-8":
        while chunk:
            yield chunk
            chunk = file.read(_CHUNK_BYTES)
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    while chunk:
        yield from filter(None, [decoder.decode(chunk).encode()])
        chunk = file.read(_CHUNK_BYTES)
    decoder.decode(b"", final=True)


def elements_of(chunks: Iterable[bytes], name: str) -> Iterator[RawJSON]:
    """Yield the objects and arrays of a text, one at a time: its values, or the elements of each array at its top.

    Args:
        chunks: The text, in UTF-8.
        name: The name of the file, for errors.

    Raises:
        ValidationError: The text is not JSON, or has another value in such a place; the error names the line.
    """
    reader = _ElementReader(iter(chunks), name)
    array = 0
    while (first := reader.peek()) is not None:
        if first != _ARRAY:
            yield reader.element(0)
            continue
        array += 1
        reader.skip()
        follows = reader.peek() != _ARRAY_END
        while follows:
            yield reader.element(array)
            follows = reader.peek() == _COMMA
            if follows:
                reader.skip()
        if reader.peek() != _ARRAY_END:
            raise reader.error("an array that neither continues with , nor ends with ]")
        reader.skip()


class _ElementReader:
    """Reads elements from chunks; what it returns is balanced, and otherwise unchecked."""

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self._chunks = chunks
        self._name = name
        self._buffer = b""
        self._place = 0
        self._line = 1

    def peek(self) -> int | None:
        """Return the next byte that is not blank; None: the text has ended."""
        while True:
            found = _NOT_BLANK.search(self._buffer, self._place)
            end = len(self._buffer) if found is None else found.start()
            self._line += self._buffer.count(b"\n", self._place, end)
            self._place = end
            if found is not None:
                return self._buffer[end]
            if not self._next_chunk():
                return None

    def skip(self) -> None:
        """Pass over the byte that ``peek`` returned."""
        self._place += 1

    def error(self, reason: str) -> ValidationError:
        """Return an error at the current line."""
        return ValidationError(f"{self._name}:{self._line}: not JSON: {reason}")

    def element(self, array: int) -> RawJSON:
        """Read the object or array that follows."""
        if self.peek() not in _OPENING:
            raise self.error("an object is expected here")
        data = bytearray()
        scan = _Scan()
        while True:
            start = self._place
            self._place = scan.end_in(self._buffer, start)
            data += self._buffer[start : self._place]
            if scan.depth == 0:
                element = RawJSON(data, self._line, array)
                self._line += data.count(b"\n")
                return element
            if not self._next_chunk():
                raise self.error("the value that begins here does not end")

    def _next_chunk(self) -> bool:
        self._buffer, self._place = next(self._chunks, b""), 0
        return bool(self._buffer)


@attrs.define
class _Scan:
    """How far a value has been read.

    Attributes:
        depth: Objects and arrays that are open.
        is_quoted: Whether a string is open.
        is_escaped: Whether a backslash is open.
    """

    depth: int = 0
    is_quoted: bool = False
    is_escaped: bool = False

    def end_in(self, buffer: bytes, place: int) -> int:
        """Return where the value ends in the next part of the text: with ``depth`` 0, or with the part."""
        while place < len(buffer):
            if self.is_escaped:
                self.is_escaped = False
                place += 1
            elif self.is_quoted:
                place = _string_end(buffer, place)
                self.is_escaped = buffer[place : place + 1] == b"\\"
                self.is_quoted = self.is_escaped or place == len(buffer)
                place += 1
            elif (token := _TOKEN.search(buffer, place)) is None:
                break
            else:
                byte, place = buffer[token.start()], token.end()
                self.is_quoted = byte == _QUOTE and token.end() - token.start() == 1
                self.depth += (byte in _OPENING) - (byte in _CLOSING)
                if self.depth == 0:
                    return place
        return len(buffer)


def _string_end(buffer: bytes, place: int) -> int:
    """Return where a string that was opened before ends: at its quote, at a last backslash, or with the buffer."""
    found = _REST_OF_STRING.match(buffer, place)
    return place if found is None else found.end()
