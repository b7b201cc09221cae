"""A line that can be imported, and a reader of such lines with a manual clock."""

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.exchange.formats import SessionParser
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.testing import ManualClock

__all__ = ["ECHO", "TOOLS", "good_line", "reader"]

ECHO: JSONObject = {"name": "echo", "model": "echo-1", "base_url": None, "extra": {}}
TOOLS = attrs.evolve(default_services(), clock=ManualClock())


def reader() -> SessionParser:
    """Return a reader under which chats are answered by echo."""
    return SessionParser(services=TOOLS, values=JsonCodec(), provider=ECHO)


def good_line() -> JSONObject:
    """Return the smallest session with a message and a memory."""
    return {
        "format": "luminora-session",
        "version": 1,
        "session_id": "s",
        "created_at": "2026-01-02T03:04:05.000006+00:00",
        "document": {"anything": 1},
        "messages": [{"id": "m1", "role": "user", "content": "hi", "timestamp": "2026-01-02T03:04:05Z", "position": 1}],
        "memories": [{"key": "k", "value": 1, "created_at": "2026-01-02T03:04:05Z"}],
    }
