"""The package's own optimizer: ``expand(compress(value))`` equals ``value`` for every JSON value."""

import json
from collections import OrderedDict
from typing import Any

import attrs

from luminoracore_sdk.adapters.codec.opt1 import MARK, REPEAT, TABLE, expand, write_key
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.compression.dictionary import LEVEL, general_dictionary
from luminoracore_sdk.application.ports.prompting import TokenCounter
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import ConfigurationError
from luminoracore_sdk.domain.json_value import check_json, copy_json

__all__ = ["OptimizationConfig", "OptimizationStatistics", "Optimizer"]

_LARGEST_CACHED = 64 * 1024
"""Bytes of JSON above which a value is not cached."""

_SMALLEST_REPEAT = len('{"@":10}')


def _flag(_: object, attribute: Any, value: object) -> None:
    if type(value) is not bool:
        raise ConfigurationError(f"{attribute.name} must be True or False, not {value!r}")


def _size(_: object, attribute: Any, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number of at least 1, not {value!r}")


def _level(_: object, attribute: Any, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= 19:
        raise ConfigurationError(f"{attribute.name} must be a whole number from 1 to 19, not {value!r}")


@attrs.frozen
class OptimizationConfig:
    """What an optimizer does. Every combination can read what every other one wrote.

    Attributes:
        key_abbreviation: Write well-known keys (content, timestamp, metadata …) as one or two letters.
        compact_format: Write a list of objects with the same keys as a table: keys once, then rows.
        minify_json: ``compress_text`` writes UTF-8 without white space instead of ASCII with spaces.
        deduplicate_memory: Write a repeated item of a list as a reference.
        cache_enabled: Cache the latest results of ``compress``.
        cache_size: Number of cached results.
        record_compression: In a storage, compress each record with zstandard and a dictionary, without the
            notation, which would save 0.1 points on chat and double the time. False: records are written in the
            notation and stay readable in the store.
        compression_level: zstandard level, 1 (fast) to 19 (small).
    """

    key_abbreviation: bool = attrs.field(default=True, validator=_flag)
    compact_format: bool = attrs.field(default=True, validator=_flag)
    minify_json: bool = attrs.field(default=True, validator=_flag)
    deduplicate_memory: bool = attrs.field(default=True, validator=_flag)
    cache_enabled: bool = attrs.field(default=True, validator=_flag)
    cache_size: int = attrs.field(default=128, validator=_size)
    record_compression: bool = attrs.field(default=True, validator=_flag)
    compression_level: int = attrs.field(default=LEVEL, validator=_level)


@attrs.frozen(kw_only=True)
class OptimizationStatistics:
    """Sizes of one value.

    Attributes:
        json_bytes: As compact JSON in UTF-8.
        text_bytes: As ``compress_text`` writes it, in UTF-8.
        record_bytes: As a record of a store, with the package's own dictionary; at most ``json_bytes``.
        json_tokens: Of the compact JSON; None: not counted.
        text_tokens: Of ``compress_text``; None: not counted.
    """

    json_bytes: int
    text_bytes: int
    record_bytes: int
    json_tokens: int | None = None
    text_tokens: int | None = None

    @property
    def text_saving(self) -> float:
        """Share of the bytes that the text saves, 0.25 for a quarter; negative if it is longer."""
        return 1 - self.text_bytes / self.json_bytes

    @property
    def record_saving(self) -> float:
        """Share of the bytes that a record saves, 0 to 1."""
        return 1 - self.record_bytes / self.json_bytes

    @property
    def token_saving(self) -> float | None:
        """Share of the tokens that the text saves, or None if they were not counted."""
        if self.json_tokens is None or self.text_tokens is None:
            return None
        return 1 - self.text_tokens / self.json_tokens


class Optimizer:
    """Make JSON values smaller, and restore them exactly.

    Args:
        config: What it does; None: the defaults.
    """

    def __init__(self, config: OptimizationConfig | None = None) -> None:
        self.config = config or OptimizationConfig()
        self._codec = JsonCodec()
        self._cache: OrderedDict[bytes, Any] = OrderedDict()

    def compress(self, data: Any) -> Any:
        """Return a JSON value in the ``opt1`` notation; it shares nothing with ``data``.

        Raises:
            InvalidJSONError: ``data`` is not a JSON value.
        """
        check_json(data, where="data")
        if not self.config.cache_enabled or len(key := self._identity(data)) > _LARGEST_CACHED:
            return [MARK, self._write(data)]
        if key not in self._cache:
            self._cache[key] = [MARK, self._write(data)]
            if len(self._cache) > self.config.cache_size:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return copy_json(self._cache[key])

    def expand(self, data: Any) -> Any:
        """Return the value that was compressed; a value that ``compress`` did not return is returned unchanged."""
        if type(data) is list and len(data) == 2 and data[0] == MARK:
            return expand(data[1])
        return data

    def compress_text(self, data: Any) -> str:
        """Return ``compress(data)`` as JSON: without white space, or as ``json.dumps`` writes it."""
        small = self.compress(data)
        if self.config.minify_json:
            return self._codec.encode(small).data.decode()
        return json.dumps(small, allow_nan=False)

    def expand_text(self, text: str) -> Any:
        """Return the value that ``compress_text`` wrote."""
        return self.expand(json.loads(text))

    def statistics(self, data: Any, tokens: TokenCounter | None = None) -> OptimizationStatistics:
        """Return the sizes of a value as JSON and as this optimizer writes it.

        Args:
            data: Any JSON value.
            tokens: Counts tokens; None: not counted.

        Raises:
            InvalidJSONError: ``data`` is not a JSON value.
        """
        plain = self._codec.encode(data, where="data")
        text = self.compress_text(data)
        counts = {}
        if tokens is not None:
            counts = {"json_tokens": tokens.count(plain.data.decode()), "text_tokens": tokens.count(text)}
        return OptimizationStatistics(
            json_bytes=len(plain.data),
            text_bytes=len(text.encode()),
            record_bytes=min(len(plain.data), self._record_bytes(plain, data)),
            **counts,
        )

    def _record_bytes(self, plain: Payload, data: Any) -> int:
        if self.config.record_compression:
            return len(general_dictionary().compress(plain.data, self.config.compression_level))
        return len(self._codec.encode(self.compress(data)).data)

    def _identity(self, value: Any) -> bytes:
        return self._codec.encode(value).data

    def _write(self, value: Any) -> Any:
        if type(value) is dict:
            abbreviate = self.config.key_abbreviation
            return {write_key(key, abbreviate=abbreviate): self._write(item) for key, item in value.items()}
        if type(value) is list:
            return self._write_table(value) if self._is_table(value) else self._write_list(value)
        return value

    def _is_table(self, items: list[Any]) -> bool:
        if not self.config.compact_format or len(items) < 2 or type(items[0]) is not dict:
            return False
        keys = list(items[0])
        return bool(keys) and all(type(item) is dict and list(item) == keys for item in items)

    def _write_table(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        keys = [write_key(key, abbreviate=self.config.key_abbreviation) for key in items[0]]
        rows = [[self._write(value) for value in item.values()] for item in items]
        return {TABLE: [keys, *self._without_repeats(rows, items, lambda index: index)]}

    def _write_list(self, items: list[Any]) -> list[Any]:
        written = [self._write(item) for item in items]
        return self._without_repeats(written, items, lambda index: {REPEAT: index})

    def _without_repeats(self, written: list[Any], items: list[Any], reference: Any) -> list[Any]:
        if not self.config.deduplicate_memory:
            return written
        seen: dict[bytes, int] = {}
        result: list[Any] = []
        for index, (text, item) in enumerate(zip(written, items, strict=True)):
            identity = self._identity(item) if type(item) in (dict, list) else b""
            if len(identity) <= _SMALLEST_REPEAT or (first := seen.setdefault(identity, index)) == index:
                result.append(text)
            else:
                result.append(reference(first))
        return result
