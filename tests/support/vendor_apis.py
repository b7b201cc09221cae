"""Gemini's, Mistral's and Cohere's own APIs: answers, and what they refuse in a request.

Sources, as of November 2026: ai.google.dev/api/generate-content ("Content", "Part"), ai.google.dev/gemini-api/docs/
function-calling and thought-signatures; docs.mistral.ai/api; docs.cohere.com/reference/chat.
"""

import json
from itertools import pairwise
from typing import Any

from tests.support.model_server import Answer, Ending, Reply, Request, event, fail
from tests.support.strict_vendors import refusals

__all__ = [
    "bedrock",
    "cohere",
    "gemini",
    "gemini_refusals",
    "gemini_refuses",
    "mistral",
    "strict_gemini",
    "strict_mistral",
]

Body = dict[str, Any]

SKIP = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""base64 of skip_thought_signature_validator (thought-signatures, FAQ 1): stands in for calls of another origin."""

_PART_KEYS = {
    "text",
    "inlineData",
    "functionCall",
    "functionResponse",
    "fileData",
    "thought",
    "thoughtSignature",
}


def gemini(*parts: Body, finish: str | None = "STOP", ending: Ending = Ending.COMPLETE) -> Answer:
    """Answer with these parts; as a stream, one event for each, the last with the finish reason."""

    def answer(request: Request) -> Reply:
        usage = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}
        common = {"modelVersion": "gemini-3-test", "responseId": "answer-1"}

        def chunk(some: list[Body], reason: str | None) -> Body:
            candidate: Body = {"content": {"role": "model", "parts": some}, "index": 0}
            end = {"finishReason": reason} if reason else {}
            counted = {"usageMetadata": usage} if reason else {}
            return {"candidates": [candidate | end], **common, **counted}

        if ":streamGenerateContent" not in request.path:
            return Reply(pieces=[json.dumps(chunk(list(parts), finish)).encode()])
        frames = [event(chunk([part], None)) for part in parts]
        if finish is not None:
            frames.append(event(chunk([{"text": ""}], finish)))
        return Reply(content_type="text/event-stream", pieces=frames, ending=ending)

    return answer


def gemini_refuses(status: int, code: str, message: str, **headers: str) -> Answer:
    """google.rpc.Status, as all of Google's APIs report errors."""
    return fail(status, {"error": {"code": status, "status": code, "message": message}}, **headers)


def strict_gemini(answer: Answer, *signatures: str) -> Answer:
    """Refuse with 400 what Gemini refuses; it accepts these thought signatures."""

    def checked(request: Request) -> Reply:
        found = gemini_refusals(request.body, {*signatures, SKIP})
        return gemini_refuses(400, "INVALID_ARGUMENT", "; ".join(found))(request) if found else answer(request)

    return checked


def gemini_refusals(body: Body, signatures: set[str]) -> list[str]:
    contents = body.get("contents") or []
    found = []
    if not contents:
        found.append("contents is not specified")  # "Contents: Required"
    for content in contents:
        if content.get("role") not in {"user", "model"}:
            found.append("Please use a valid role: user, model.")  # Content.role: "Must be either 'user' or 'model'."
        if not content.get("parts"):
            found.append("contents.parts must not be empty.")
        found += [refusal for part in content.get("parts") or [] for refusal in _gemini_part(part, signatures)]
        calls = [part for part in content.get("parts") or [] if "functionCall" in part]
        # thought-signatures: "the first function call part must include its thought signature", else 400
        if calls and "thoughtSignature" not in calls[0]:
            found.append("Function call is missing a thought_signature in functionCall parts")
    return found + _gemini_turns(contents)


def _gemini_turns(contents: list[Body]) -> list[str]:
    """function-calling: "function call turn comes immediately after a user turn or after a function response turn";
    "the number of function response parts is equal to the number of function call parts"."""
    found = []
    kinds = [{key for part in content["parts"] for key in part} for content in contents]
    if contents and contents[0]["role"] != "user":
        found.append("Please ensure that the first turn is a user turn.")
    for index, (before, after) in enumerate(pairwise(contents)):
        if "functionCall" in kinds[index + 1] and before["role"] != "user":
            found.append("Please ensure that function call turn comes immediately after a user turn")
        if "functionResponse" in kinds[index + 1] and "functionCall" not in kinds[index]:
            found.append("Please ensure that function response turn comes immediately after a function call turn.")
        if "functionCall" in kinds[index]:
            calls = [part["functionCall"].get("id") for part in before["parts"] if "functionCall" in part]
            results = [part["functionResponse"].get("id") for part in after["parts"] if "functionResponse" in part]
            if calls != results:
                found.append(f"the function response parts {results} are not equal to the function calls {calls}")
    if kinds and "functionCall" in kinds[-1]:
        found.append("a function call without a function response")
    return found


def _gemini_part(part: Body, signatures: set[str]) -> list[str]:
    found = [f'Invalid JSON payload received. Unknown name "{key}"' for key in part if key not in _PART_KEYS]
    data = [key for key in part if key not in {"thought", "thoughtSignature"}]
    if len(data) != 1:  # Part.data is a union: "Only one of these fields"
        found.append("contents.parts.data: required oneof field 'data' must have one initialized field")
    if "thoughtSignature" in part and part["thoughtSignature"] not in signatures:
        found.append("Thought signature is not valid")
    if "functionCall" in part and not isinstance(part["functionCall"].get("args"), dict):
        found.append("function_call.args: Proto field is not repeating, must be a Struct")
    if "functionResponse" in part and not isinstance(part["functionResponse"].get("response"), dict):
        found.append("function_response.response: must be a Struct")
    return found


def mistral(content: Any = "", *calls: Body, finish: str | None = None, ending: Ending = Ending.COMPLETE) -> Answer:
    """Answer as Mistral's chat completions; the content of a stream comes word by word."""
    reason = finish or ("tool_calls" if calls else "stop")

    def answer(request: Request) -> Reply:
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        common = {"id": "answer-1", "created": 1, "model": "mistral-test"}
        if not request.streaming:
            message = {"role": "assistant", "content": content, "tool_calls": list(calls) or None}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return Reply(
                pieces=[
                    json.dumps({**common, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
                ]
            )
        words = [f"{word} " for word in content.split(" ")] if isinstance(content, str) else [[one] for one in content]
        if isinstance(words[-1], str):
            words[-1] = words[-1][:-1]
        deltas: list[Body] = [{"content": word} for word in words]
        if calls:
            deltas.append({"content": "", "tool_calls": [{**one, "index": place} for place, one in enumerate(calls)]})

        def chunk(delta: Body, end: str | None) -> bytes:
            choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": end}
            counted = {"usage": usage} if end else {}
            return event({**common, "object": "chat.completion.chunk", "choices": [choice], **counted})

        frames = [chunk(delta, None) for delta in deltas]
        if ending is Ending.COMPLETE and finish != "":
            frames += [chunk({"content": ""}, reason), b"data: [DONE]\n\n"]
        return Reply(content_type="text/event-stream", pieces=frames, ending=ending)

    return answer


def strict_mistral(answer: Answer) -> Answer:
    """Refuse with 400 what Mistral refuses; the rules are those of ``strict_vendors``."""

    def checked(request: Request) -> Reply:
        # pydantic-ai sends [] where an answer has no calls, or calls and no content, and leaves out an answer without
        # both, which Mistral rejects: its models/mistral.py, "_map_model_response"
        messages = [{key: value for key, value in one.items() if value != []} for one in request.body["messages"]]
        found = refusals("mistral", {**request.body, "messages": messages})
        refused = {
            "object": "error",
            "message": "; ".join(found),
            "type": "invalid_request_message_order",
            "code": "3230",
        }
        return fail(400, refused)(request) if found else answer(request)

    return checked


def cohere(text: str) -> Answer:
    """Answer as Cohere's chat API, version 2."""

    def answer(request: Request) -> Reply:
        usage = {"tokens": {"input_tokens": 11, "output_tokens": 7}}
        message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
        body = {"id": "answer-1", "finish_reason": "COMPLETE", "message": message, "usage": usage}
        return Reply(pieces=[json.dumps(body).encode()])

    return answer


def bedrock(text: str) -> Answer:
    """Answer as Bedrock's Converse API."""
    body = {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18},
        "metrics": {"latencyMs": 5},
    }
    return lambda _: Reply(pieces=[json.dumps(body).encode()])
