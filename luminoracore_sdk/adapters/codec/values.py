"""JSON values to payloads: a fast encoder where it is exact, the standard one where it is not.

orjson 3.13 writes NaN as null, refuses lone surrogates and integers beyond 64 bits, and *reads*
integers beyond 64 bits as floats. So values are checked first (``check_json``), what orjson refuses
is written by ``json``, and the tag says who must read it:

``json``
    Read by either; written by orjson.
``json-wide``
    Read by ``json`` only: it holds wide integers or escaped lone surrogates.
"""

import json

import orjson

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
        try:
            if payload.tag == JSON:
                value: JSONValue = orjson.loads(payload.data)
            elif payload.tag == JSON_WIDE:
                value = json.loads(payload.data)
            else:
                raise UnreadablePayloadError(
                    backend=backend,
                    key=key,
                    reason=f"it is tagged {payload.tag!r}; switch on the wrapper that wrote it",
                )
        except ValueError as exc:
            if isinstance(exc, UnreadablePayloadError):
                raise
            raise CorruptRecordError(backend=backend, key=key, reason="not valid JSON") from exc
        return value


def _dump_wide(value: object, where: str) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError as exc:  # CPython refuses to print an int of more than 4,300 digits
        raise InvalidJSONError(where, str(exc)) from exc
