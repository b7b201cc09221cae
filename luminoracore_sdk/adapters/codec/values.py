"""Encoding of JSON values as payloads: with orjson where it is exact, else with the standard library.

orjson 3.13 writes NaN as null, refuses lone surrogates and integers beyond 64 bits, and *reads* such integers as
floats. Therefore values are checked first (``check_json``), ``json`` writes what orjson refuses, and the payload's
encoding names the reader:

``json``
    Written by orjson; either library can read it.
``json-wide``
    Holds integers beyond 64 bits or escaped lone surrogates; only ``json`` reads it exactly.
``…+opt1``
    In the package's own ``opt1`` notation (``adapters.codec.opt1``). It is read here too, so that records stay
    readable without the optimizer.
``…+zstd:<id>``
    Compressed with a dictionary (``adapters.compression``). It is read here too, for the same reason.
"""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from luminoracore_sdk.adapters.codec.long_strings import read_long_strings
from luminoracore_sdk.adapters.codec.opt1 import MARK, expand
from luminoracore_sdk.adapters.compression.dictionary_registry import expanded
from luminoracore_sdk.application.collector import collector_held_off
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    InvalidJSONError,
    UnreadablePayloadError,
)
from luminoracore_sdk.domain.json_value import JSONValue, check_json
from luminoracore_sdk.domain.pieces import LARGE, is_large, let_others_run, written

__all__ = ["JSON", "JSON_WIDE", "JsonCodec"]

JSON = "json"
JSON_WIDE = "json-wide"

_PIECE_VALUES = 512
_TEXT_CHARACTERS = 256
_SAMPLES, _SAMPLE = 32, 2048


class JsonCodec:
    """Encode any JSON value so that it decodes to an equal one, types and key order included."""

    def encode(self, value: object, *, where: str = "value") -> Payload:
        """Return compact UTF-8 JSON on one line; see ``ValueCodec.encode``."""
        check_json(value, where=where)
        try:
            if is_large(value):
                return Payload(JSON, _dump_in_pieces(value))
            # orjson returns what it has written in a buffer of 4 KB, which a copy leaves behind (orjson 3.11)
            return Payload(JSON, bytes(memoryview(orjson.dumps(value))))
        except orjson.JSONEncodeError:  # a wide integer or a lone surrogate: check_json refused everything else
            return Payload(JSON_WIDE, _dump_wide(value, where).encode("ascii"))

    def decode(self, payload: Payload, *, backend: str, key: str) -> JSONValue:
        """Return the value; see ``ValueCodec.decode``."""
        reader = _READERS.get(payload.encoding)
        if reader is None:  # compressed or unknown
            payload = expanded(payload, backend=backend, key=key)
            reader = _READERS.get(payload.encoding)
        if reader is None:
            raise UnreadablePayloadError(
                backend=backend,
                key=key,
                reason=f"its encoding is {payload.encoding!r}; switch on the wrapper that wrote it",
            )
        if len(payload.data) > LARGE and not _is_on_loop():
            reader = _IN_PIECES.get(payload.encoding, reader)
        try:
            value: JSONValue = reader(payload.data)
        except (ValueError, LookupError, TypeError, RecursionError) as exc:
            raise CorruptRecordError(backend=backend, key=key, reason=f"not valid {payload.encoding}") from exc
        return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read_wide(data: bytes) -> Any:
    return json.loads(data, parse_constant=_refuse)


def _read_opt1(data: bytes) -> Any:
    return expand(orjson.loads(data)[1])


def _read_opt1_wide(data: bytes) -> Any:
    return expand(_read_wide(data)[1])


def _dump_in_pieces(value: object) -> bytes:
    text = "".join(written(value, lambda part: orjson.dumps(part).decode(), comma=",", colon=":"))
    let_others_run()
    data = text.encode()
    let_others_run()
    return data


def _is_on_loop() -> bool:
    """Whether this thread runs an event loop, which pieces would only hold up longer."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _read_in_pieces(data: bytes) -> Any:
    """Read what orjson wrote, with the standard library's reader, which can be interrupted: orjson cannot.

    It calls a function for each object and number, and other threads run between two such calls.
    """
    if _is_mostly_text(data):  # which orjson reads faster
        return read_long_strings(data)
    read = 0

    def note(value: Any) -> Any:
        nonlocal read
        read += 1
        if not read % _PIECE_VALUES:
            let_others_run()
        return value

    with collector_held_off():
        return json.loads(
            data.decode(),
            object_hook=note,
            parse_int=lambda digits: note(int(digits)),
            parse_float=lambda digits: note(float(digits)),
            parse_constant=_refuse,
        )


def _is_mostly_text(data: bytes) -> bool:
    """Whether compact JSON consists of few strings: samples have few quotes, and no more commas than spaces."""
    step = len(data) // _SAMPLES
    sample = b"".join(data[start : start + _SAMPLE] for start in range(0, len(data), step))
    return sample.count(b'"') * _TEXT_CHARACTERS < len(sample) and sample.count(b",") <= sample.count(b" ")


_IN_PIECES = {JSON: _read_in_pieces}

_READERS: dict[str, Callable[[bytes], Any]] = {
    JSON: orjson.loads,
    JSON_WIDE: _read_wide,
    f"{JSON}+{MARK}": _read_opt1,
    f"{JSON_WIDE}+{MARK}": _read_opt1_wide,
}


_wide = partial(json.dumps, separators=(",", ":"), allow_nan=False)


def _dump_wide(value: object, where: str) -> str:
    try:
        return "".join(written(value, _wide, comma=",", colon=":")) if is_large(value) else _wide(value)
    except ValueError as exc:  # CPython refuses to convert an int of more than 4,300 digits
        raise InvalidJSONError(where, str(exc)) from exc
