"""Answers that call tools: of scripted providers, and of model servers."""

import json
from typing import Any

from luminoracore_sdk.types.provider import ChatResponse
from tests.support.model_server import Answer, Reply, Request, event, say, stream

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
    """Return an answer on either wire that calls one tool, streamed if the request says so."""

    def answer(request: Request) -> Reply:
        if request.streaming:
            events = _openai_events if request.wire == "openai" else _anthropic_events
            return stream(*map(event, events(name, json.dumps(arguments))))(request)
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


def _openai_events(name: str, arguments: str) -> list[dict[str, Any]]:
    pieces = [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": ""}},
        {"index": 0, "function": {"arguments": arguments[:3]}},
        {"index": 0, "function": {"arguments": arguments[3:]}},
    ]
    deltas: list[tuple[dict[str, Any], str | None]] = [({"content": "Let me see."}, None)]
    deltas += [({"tool_calls": [piece]}, None) for piece in pieces]
    return [
        {"id": "answer-1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in [*deltas, ({}, "tool_calls")]
    ]


def _anthropic_events(name: str, arguments: str) -> list[dict[str, Any]]:
    call = {"type": "tool_use", "id": "c1", "name": name, "input": {}}
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "Let me see."}]),
        (
            call,
            [{"type": "input_json_delta", "partial_json": piece} for piece in (arguments[:3], arguments[3:])],
        ),
    ]
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"id": "answer-1", "usage": {}}}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    end = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}
    return [*events, end, {"type": "message_stop"}]
