"""Reading what ``export_memories`` wrote."""

import json
from collections.abc import Mapping
from typing import Any

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.values import parse_time

__all__ = ["imported_entries"]


def imported_entries(blob: JSONObject | str | bytes) -> list[MemoryEntry]:
    """Return the entries of an export, or of its JSON text.

    Raises:
        ValidationError: Not an export.
    """
    return [_imported(key, data) for key, data in _memories_of(blob).items()]


def _memories_of(blob: JSONObject | str | bytes) -> Mapping[str, Any]:
    if isinstance(blob, str | bytes):
        try:
            blob = json.loads(blob)
        except ValueError as exc:
            raise ValidationError("an export of memories is a JSON object") from exc
    memories = blob.get("memories") if isinstance(blob, Mapping) else None
    if not isinstance(memories, Mapping):
        raise ValidationError("an export of memories has an object 'memories'")
    return memories


def _imported(key: str, data: Any) -> MemoryEntry:
    if not isinstance(data, Mapping) or not {"value", "created_at"} <= data.keys():
        raise ValidationError(f"exported memory {key[:40]!a} needs 'value' and 'created_at'")
    created = parse_time(data["created_at"])
    expires = data.get("expires_at")
    return MemoryEntry(
        key=key,
        value=data["value"],
        created_at=created,
        updated_at=parse_time(data.get("updated_at") or created),
        expires_at=None if expires is None else parse_time(expires),
        importance=data.get("importance", 1.0),
        category=data.get("category", "fact"),
    )
