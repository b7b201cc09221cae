"""Core's optimizer: it renames keys without escaping and turns a fact into a row, and so loses data."""

from dataclasses import dataclass
from typing import Any

__all__ = ["OptimizationConfig", "Optimizer"]

_SHORT = {"user_id": "u", "category": "c", "key": "k", "value": "v", "confidence": "f", "session_id": "s"}
_LONG = {short: name for name, short in _SHORT.items()}


@dataclass
class OptimizationConfig:
    key_abbreviation: bool = True
    minify_json: bool = True
    compact_format: bool = True
    deduplicate_memory: bool = True
    cache_enabled: bool = True


class Optimizer:
    def __init__(self, config: OptimizationConfig | None = None) -> None:
        self.config = config or OptimizationConfig()

    def compress(self, data: dict[str, Any], calculate_stats: bool = True) -> Any:
        result = data.copy()
        if self.config.key_abbreviation:
            result = {_SHORT.get(name, name): item for name, item in result.items()}
        if self.config.compact_format:
            return [result.get(short) for short in _LONG]
        return result

    def expand(self, data: Any) -> dict[str, Any]:
        result: dict[str, Any] = data
        if isinstance(data, list) and self.config.compact_format:
            result = {short: item for short, item in zip(_LONG, data, strict=False) if item is not None}
        if self.config.key_abbreviation:
            return {_LONG.get(name, name): item for name, item in result.items()}
        return dict(result)
