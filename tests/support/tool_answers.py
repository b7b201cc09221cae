"""Answers that call tools: of scripted providers, and of model servers."""

import json
from typing import Any

from luminoracore_sdk.types.provider import ChatResponse
from tests.support.model_server import Answer, Reply, Request, say

__all__ = ["call_on_wire", "calling"]


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


def call_on_wire(name: str, arguments: dict[str, Any]) -> Answer:
    """Return an answer on either wire that calls one tool."""

    def answer(request: Request) -> Reply:
        whole = json.loads(b"".join(say("")(request).pieces))
        if request.wire == "openai":
            function = {"name": name, "arguments": json.dumps(arguments)}
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],
            }
            whole["choices"][0] |= {"message": message, "finish_reason": "tool_calls"}
        else:
            whole["content"] = [{"type": "tool_use", "id": "c1", "name": name, "input": arguments}]
            whole["stop_reason"] = "tool_use"
        return Reply(pieces=[json.dumps(whole).encode()])

    return answer
