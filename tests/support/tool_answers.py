"""Answers of scripted providers that call tools."""

import json
from typing import Any

from luminoracore_sdk.types.provider import ChatResponse

__all__ = ["calling"]


def calling(*calls: tuple[str, str, Any], text: str = "") -> ChatResponse:
    """Return an answer that calls tools, each given by id, name and arguments."""
    made = [
        {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)},
        }
        for call_id, name, arguments in calls
    ]
    return ChatResponse(text, finish_reason="tool_calls", tool_calls=made)
