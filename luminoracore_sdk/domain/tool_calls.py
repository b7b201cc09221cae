"""Tool calls as messages keep them: OpenAI's form in ``metadata["tool_calls"]``, results by their id."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import uuid4

from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import Message, MessageRole

__all__ = [
    "ToolCallAssembly",
    "call_ids",
    "calls_of",
    "derived_id",
    "parsed_arguments",
    "result_id",
    "with_missing_ids",
]


def calls_of(message: Message) -> list[JSONObject]:
    """Return the well-formed tool calls of a message, in order.

    The older form, ``metadata["function_call"]``, is returned as a call whose id is derived from the message.
    """
    if message.role is not MessageRole.ASSISTANT:
        return []
    calls = message.metadata.get("tool_calls")
    if isinstance(calls, list) and calls:
        return [call for call in calls if _is_call(call)]
    older = message.metadata.get("function_call")
    if isinstance(older, dict) and isinstance(older.get("name"), str):
        return [{"id": derived_id(message.id, message.position), "type": "function", "function": dict(older)}]
    return []


def _is_call(call: JSONValue) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(call, dict)
        and isinstance(call.get("id"), str)
        and isinstance(function, dict)
        and isinstance(function.get("name"), str)
    )


def derived_id(*facts: object) -> str:
    """Return an id for a call: the same for the same facts."""
    seed = "\0".join(map(str, facts)).encode("utf-8", "surrogatepass")
    return f"call_{sha256(seed).hexdigest()[:24]}"


def call_ids(message: Message) -> list[str]:
    """Return the ids of the tool calls of a message, in order."""
    return [str(call["id"]) for call in calls_of(message)]


def result_id(message: Message) -> str | None:
    """Return the id of the call that a tool message answers; None: it does not say."""
    call_id = message.metadata.get("tool_call_id")
    return call_id if isinstance(call_id, str) else None


def parsed_arguments(arguments: JSONValue) -> JSONObject | None:
    """Return the arguments of a call as an object; None: they are not one, as after a cut-off."""
    if isinstance(arguments, dict):
        return arguments
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return {}
    if not isinstance(arguments, str):
        return None
    try:
        parsed = json.loads(arguments, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


class ToolCallAssembly:
    """Put streamed tool calls together, whatever way a server cuts them.

    Seen in the field: one index for two calls (Gemini), no index or null, the name repeated in every piece or
    split over pieces, the id before the function, a null function later, arguments as an object, none at all, one
    id or none for several calls (a name behind whole arguments begins the next), a call repeated whole at its end.
    """

    def __init__(self) -> None:
        self._calls: list[JSONObject] = []
        self._by_index: dict[int, JSONObject] = {}

    def add(self, piece: JSONObject, *, whole: bool = False) -> None:
        """Add one element of a delta's ``tool_calls``.

        Args:
            piece: The element.
            whole: It is a call of its own, whatever its id and index.
        """
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        call = None if whole else self._repeated(piece, function)
        if call is not None:
            function = {}
        else:
            call = self._begun(piece) if whole else self._call_of(piece, function)
        for key, value in piece.items():
            if key not in {"index", "function", "id", "type"} and value is not None:
                call[key] = value
        name, arguments = function.get("name"), function.get("arguments")
        known = call["function"]
        if isinstance(name, str) and name != known["name"] and not known["arguments"]:
            known["name"] += name
        if isinstance(arguments, dict):
            known["arguments"] = json.dumps(arguments, ensure_ascii=False)
        elif isinstance(arguments, str):
            known["arguments"] += arguments

    def _repeated(self, piece: JSONObject, function: JSONObject) -> JSONObject | None:
        """Return the call whose whole arguments a piece has again; None: it has others, or begins a call."""
        call_id, name = _id_of(piece), function.get("name")
        call = self._with_id(call_id) if call_id is not None else None if name else self._at(piece.get("index"))
        if call is None or name not in {None, "", call["function"]["name"]}:
            return None
        known, given = call["function"]["arguments"], function.get("arguments")
        if not known.strip() or given is None or given == "":
            return None
        whole = parsed_arguments(known)
        return call if whole is not None and parsed_arguments(given) == whole else None

    def _with_id(self, call_id: str | None) -> JSONObject | None:
        return next((call for call in reversed(self._calls) if call_id is not None and call["id"] == call_id), None)

    def _at(self, index: Any) -> JSONObject | None:
        return self._by_index.get(index) if type(index) is int else next(reversed(self._calls), None)

    def _call_of(self, piece: JSONObject, function: JSONObject) -> JSONObject:
        call_id, index = _id_of(piece), piece.get("index")
        call = self._with_id(call_id)
        if call is None:
            call = self._at(index)
            if call is not None and call_id is not None and call["id"] is not None:
                call = None  # a new id begins a new call, also under a known index
        if call is None or _begins_next(function, call["function"]):
            call = self._begun(piece)
        if type(index) is int:
            self._by_index[index] = call
        call["id"] = call_id or call["id"]
        return call

    def _begun(self, piece: JSONObject) -> JSONObject:
        call: JSONObject = {"id": _id_of(piece), "type": "function", "function": {"name": "", "arguments": ""}}
        self._calls.append(call)
        return call

    def calls(self, answer_id: str | None = None) -> list[JSONObject]:
        """Return the calls in the order in which they began; empty arguments become ``{}``.

        Args:
            answer_id: Id of the answer, from which a missing or repeated call id is derived; without it, such a
                call gets a new id each time.
        """
        return _completed(self._calls, answer_id)


def _id_of(piece: JSONObject) -> str | None:
    call_id = piece.get("id")
    return call_id if isinstance(call_id, str) and call_id else None


def _begins_next(function: JSONObject, known: JSONObject) -> bool:
    """Whether a piece does not continue a call: it has a name, the call has whole arguments."""
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name or not known["arguments"].rstrip().endswith("}"):
        return False
    repeats = name == known["name"] and (arguments is None or (isinstance(arguments, str) and not arguments.strip()))
    return not repeats and parsed_arguments(known["arguments"]) is not None


def _completed(calls: Sequence[JSONObject], answer_id: str | None) -> list[JSONObject]:
    answer_id = answer_id or uuid4().hex
    found: dict[str, JSONObject] = {}
    for number, call in enumerate(calls):
        function: JSONObject = dict(call["function"])
        function["arguments"] = function["arguments"] if function["arguments"].strip() else "{}"
        call_id = call["id"]
        if call_id is None or call_id in found:
            call_id = derived_id(answer_id, number, function["name"], function["arguments"])
        found[call_id] = {**call, "id": call_id, "function": function}
    return list(found.values())


def with_missing_ids(calls: Sequence[Any], answer_id: str | None) -> list[JSONObject]:
    """Return the calls of an answer that was not streamed, each with an id of its own; see ``ToolCallAssembly``."""
    assembly = ToolCallAssembly()
    for call in calls:
        if isinstance(call, dict):
            assembly.add(call, whole=True)
    return assembly.calls(answer_id)
