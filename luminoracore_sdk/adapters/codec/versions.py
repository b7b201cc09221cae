"""Upgrades of stored documents from earlier versions, applied when they are read.

A stored document has its version under ``"v"``. To change a layout, raise ``CURRENT``, write one function that
upgrades the version before, and keep an example of the old record in the tests. Reading does not rewrite records.

Version 1 is the layout of the documented 1.2 dictionaries (``Session.to_dict`` of that document): no ``"v"``, the
provider with its key under ``provider_config``, messages with their ``timestamp``.
"""

from collections.abc import Callable, Mapping
from typing import Any

from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["CURRENT", "memory_document", "message_document", "session_document"]

CURRENT = 2

Upcaster = Callable[[JSONObject], JSONObject]

_SETTINGS_OF_1 = (
    "session_type",
    "max_history",
    "timeout",
    "generation_params",
    "max_history_length",
    "context_window_size",
    "include_context_in_prompt",
    "memory_enabled",
    "memory_decay_factor",
    "auto_save",
    "auto_save_interval",
)


def _session_1_to_2(old: JSONObject) -> JSONObject:
    provider = old.get("provider_config")
    return {
        "v": 2,
        "personality": old["personality"],
        "provider": ProviderConfig.from_dict(provider).public() if provider else None,
        "config": {name: old[name] for name in _SETTINGS_OF_1 if name in old},
        "metadata": old.get("metadata") or {},
    }


def _message_1_to_2(old: JSONObject) -> JSONObject:
    return {"v": 2, "content": old["content"], "metadata": old.get("metadata") or {}}


def _memory_1_to_2(old: JSONObject) -> JSONObject:
    return {"v": 2, "value": old["value"], "importance": 1.0, "category": "fact"}


_SESSION: Mapping[int, Upcaster] = {1: _session_1_to_2}
_MESSAGE: Mapping[int, Upcaster] = {1: _message_1_to_2}
_MEMORY: Mapping[int, Upcaster] = {1: _memory_1_to_2}


def session_document(document: Any) -> JSONObject:
    """Return a session's document in the current version.

    Raises:
        ValueError: It is not a session's document, or of an unknown version.
    """
    return _upcast(document, _SESSION, needs="personality")


def message_document(document: Any) -> JSONObject:
    """Return a message's document in the current version; raises what ``session_document`` raises."""
    if type(document) is dict and document.get("v") == CURRENT and "content" in document:
        return document  # the common case
    return _upcast(document, _MESSAGE, needs="content")


def memory_document(document: Any) -> JSONObject:
    """Return a memory's document in the current version; raises what ``session_document`` raises."""
    return _upcast(document, _MEMORY, needs="value")


def _upcast(document: Any, upcasters: Mapping[int, Upcaster], *, needs: str) -> JSONObject:
    if type(document) is not dict or needs not in document:
        raise ValueError(f"its document has no {needs!r}")
    current: JSONObject = document
    version = current.get("v", 1)
    while version != CURRENT:
        upcaster = upcasters.get(version) if type(version) is int else None
        if upcaster is None:
            raise ValueError(f"its document has version {version!r}; this package reads 1 to {CURRENT}")
        current = upcaster(current)
        version = current["v"]
    return current
