"""JSON values to payloads: a fast encoder where it is exact, the standard one where it is not.

orjson 3.13 writes NaN as null, refuses lone surrogates and integers beyond 64 bits, and *reads*
integers beyond 64 bits as floats. So values are checked first (``check_json``), what orjson refuses
is written by ``json``, and the tag says who must read it:

``json``
    Read by either; written by orjson.
``json-wide``
    Read by ``json`` only: it holds wide integers or escaped lone surrogates.
``…+opt1``
    In the package's own ``opt1`` notation (``adapters.codec.opt1``); read here too, so that
    switching the optimizer off leaves every record readable.
``…+zstd:<id>``
    Compressed with a dictionary (``adapters.compression``); read here too, for the same reason.
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
    """Encodes any JSON value so that it comes back equal, types and key order included."""

    def encode(self, value: object, *, where: str = "value") -> Payload:
        """Return compact UTF-8 JSON on one line; see ``ValueCodec.encode``."""
        check_json(value, where=where)
        try:
            return Payload(JSON, orjson.dumps(value))
        except orjson.JSONEncodeError:  # a wide integer or a lone surrogate: nothing else is left
            return Payload(JSON_WIDE, _dump_wide(value, where).encode("ascii"))

    def decode(self, payload: Payload, *, backend: str, key: str) -> JSONValue:
        """Return the value; see ``ValueCodec.decode``."""
        reader = _READERS.get(payload.encoding)
        if reader is None:  # compressed, or nothing we know
            payload = expanded(payload, backend=backend, key=key)
            reader = _READERS.get(payload.encoding)
        if reader is None:
            raise UnreadablePayloadError(
                backend=backend,
                key=key,
                reason=f"it is tagged {payload.encoding!r}; switch on the wrapper that wrote it",
            )
        try:
            value: JSONValue = reader(payload.data)
        except (ValueError, LookupError, TypeError, RecursionError) as exc:
            raise CorruptRecordError(backend=backend, key=key, reason=f"not valid {payload.encoding}") from exc
        return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} has no JSON form")


def _read_wide(data: bytes) -> Any:
    return json.loads(data, parse_constant=_refuse)


def _read_small(data: bytes) -> Any:
    return expand(orjson.loads(data)[1])


def _read_small_wide(data: bytes) -> Any:
    return expand(_read_wide(data)[1])


_READERS: dict[str, Callable[[bytes], Any]] = {
    JSON: orjson.loads,
    JSON_WIDE: _read_wide,
    f"{JSON}+{MARK}": _read_small,
    f"{JSON_WIDE}+{MARK}": _read_small_wide,
}


def _dump_wide(value: object, where: str) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError as exc:  # CPython refuses to print an int of more than 4,300 digits
        raise InvalidJSONError(where, str(exc)) from exc
