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

import json
from collections.abc import Callable
from typing import Any

import orjson

from luminoracore_sdk.adapters.codec.opt1 import MARK, expand
from luminoracore_sdk.adapters.compression.dictionary_registry import expanded
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    InvalidJSONError,
    UnreadablePayloadError,
)
from luminoracore_sdk.domain.json_value import JSONValue, check_json

__all__ = ["JSON", "JSON_WIDE", "JsonCodec"]

JSON = "json"
JSON_WIDE = "json-wide"


class JsonCodec:
    """Encode any JSON value so that it decodes to an equal one, types and key order included."""

    def encode(self, value: object, *, where: str = "value") -> Payload:
        """Return compact UTF-8 JSON on one line; see ``ValueCodec.encode``."""
        check_json(value, where=where)
        try:
            return Payload(JSON, orjson.dumps(value))
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


_READERS: dict[str, Callable[[bytes], Any]] = {
    JSON: orjson.loads,
    JSON_WIDE: _read_wide,
    f"{JSON}+{MARK}": _read_opt1,
    f"{JSON_WIDE}+{MARK}": _read_opt1_wide,
}


def _dump_wide(value: object, where: str) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError as exc:  # CPython refuses to convert an int of more than 4,300 digits
        raise InvalidJSONError(where, str(exc)) from exc
