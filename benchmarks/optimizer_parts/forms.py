"""The forms that are compared: how each writes a JSON value as bytes."""

import json
import zlib
from collections.abc import Callable
from typing import Any

import attrs
import msgpack  # type: ignore[import-untyped]
import orjson
import zstandard

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.compression.dictionary import LEVEL, general_dictionary
from luminoracore_sdk.adapters.compression.dictionary_registry import compressed, expanded
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.optimization import OptimizationConfig, Optimizer

__all__ = ["FORMS", "OURS", "PLAIN", "Form", "payload_bytes"]

PLAIN = "compact JSON"
OURS = "the SDK's optimizer"


@attrs.frozen
class Form:
    """One form.

    Attributes:
        name: In the tables.
        write: Value to what is stored.
        read: What is stored to the same value.
        size: Bytes of what is stored.
    """

    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    size: Callable[[Any], int] = len


def _plain() -> Form:
    return Form(PLAIN, lambda value: _json(value).encode(), json.loads)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _abbreviated() -> Form:
    config = OptimizationConfig(compact_format=False, deduplicate_memory=False, cache_enabled=False)
    optimizer = Optimizer(config)
    return Form(
        "key abbreviation alone",
        lambda value: orjson.dumps(optimizer.compress(value)),
        lambda data: optimizer.expand(orjson.loads(data)),
    )


def _zlib() -> Form:
    return Form(
        "zlib, level 6",
        lambda value: zlib.compress(orjson.dumps(value), 6),
        lambda data: orjson.loads(zlib.decompress(data)),
    )


def _zstd() -> Form:
    writer, reader = zstandard.ZstdCompressor(level=LEVEL), zstandard.ZstdDecompressor()
    return Form(
        f"zstd alone, level {LEVEL}",
        lambda value: writer.compress(orjson.dumps(value)),
        lambda data: orjson.loads(reader.decompress(data)),
    )


def _msgpack() -> Form:
    return Form("msgpack", msgpack.packb, msgpack.unpackb)


def _ours() -> Form:
    """As ``OptimizedStorageWrapper`` does it: JSON by the codec, then the general dictionary.

    What the payload's tag gets longer by is counted as bytes of the record.
    """
    codec, dictionary = JsonCodec(), general_dictionary()
    return Form(
        OURS,
        lambda value: compressed(codec.encode(value), dictionary, LEVEL),
        lambda payload: codec.decode(expanded(payload, backend="", key=""), backend="", key=""),
        payload_bytes,
    )


def payload_bytes(payload: Payload) -> int:
    """Return the bytes of a payload, with those that its tag has more than that of plain JSON."""
    return len(payload.data) + len(payload.encoding) - len("json")


FORMS = (_plain(), _abbreviated(), _msgpack(), _zlib(), _zstd(), _ours())
"""Compact JSON first, ours last."""
