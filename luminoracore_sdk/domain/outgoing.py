"""The outgoing prompt: a copy of the window that its vendor accepts. What is stored is never changed.

Calls and results are paired and put together, ids are mapped, blanks and parts are written as the vendor wants
them, and reasoning is given back to the provider that made it, and to no other.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from string import ascii_letters, digits

import attrs

from luminoracore_sdk.domain.chat import ChatMessage
from luminoracore_sdk.domain.content_parts import converted_parts, is_part_list
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.domain.pieces import json_text
from luminoracore_sdk.domain.tool_calls import calls_of, derived_id, parsed_arguments, result_id
from luminoracore_sdk.domain.vendors import SKIP_SIGNATURE, ReasoningForm, VendorRules

__all__ = ["CUT_OFF", "MISSING_RESULT", "build_outgoing", "build_outgoing_turn", "shortened"]

MISSING_RESULT = "(No result: the tool call was interrupted.)"
CUT_OFF = "(The arguments of this call were cut off; it was sent without them.)"
_EMPTY_RESULT = "(empty result)"
_EMPTY_MESSAGE = "(empty message)"
_NO_ANSWER = "(no answer)"
_ARRIVED = "(A tool result has arrived. Go on.)"
_OPENING = "(The conversation began earlier.)"
_KEPT_APART = ("thinking_blocks", "vendor_message")
_ALPHABET = digits + ascii_letters


@attrs.frozen
class _Call:
    """A tool call of the window and its result, if there is one."""

    call: JSONObject
    result: Message | None


def build_outgoing(messages: Sequence[Message], rules: VendorRules, *, provider: str) -> list[ChatMessage]:
    """Return the messages of a window as their vendor accepts them.

    Args:
        messages: The window, oldest first, with what is sent now at its end; no system messages at its start.
        rules: What the vendor accepts.
        provider: The registered name of the provider that is asked; reasoning that it made is given back.

    Raises:
        UnsupportedContentError: A content part that the vendor does not take.
    """
    return build_outgoing_turn(messages, len(messages), rules, provider=provider)[0]


def build_outgoing_turn(
    messages: Sequence[Message], turn: int, rules: VendorRules, *, provider: str
) -> tuple[list[ChatMessage], int]:
    """Return what ``build_outgoing`` returns, and how many of these messages stand before the turn in progress.

    A message that was merged with the first one of the turn belongs to it.

    Args:
        messages: See ``build_outgoing``.
        turn: Index of the first message of the turn in progress.
        rules: See ``build_outgoing``.
        provider: See ``build_outgoing``.
    """
    paired = _paired(messages)
    sent: list[ChatMessage] = []
    before = None
    for index, message in enumerate(messages):
        if index == turn:
            before = len(sent)
        if message.role is MessageRole.ASSISTANT:
            sent += _answer(message, paired[index], rules, provider)
        elif message.role is not MessageRole.TOOL:  # results stand behind their calls
            content = _content(message.content, rules, role=message.role.value)
            if content is None and index == len(messages) - 1:
                content = _EMPTY_MESSAGE
            if content is not None:
                is_system = message.role is MessageRole.SYSTEM and rules.late_system
                sent.append(ChatMessage("system" if is_system else "user", content))
    ordered, stable = _ordered(sent, rules, turn=before)
    is_result = bool(messages) and messages[-1].role is MessageRole.TOOL
    if is_result and (not ordered or ordered[-1].role not in {"user", "tool"}):
        # it stands further up, or has no call; Mistral and Claude from 4.6 on refuse a prompt that ends with an answer
        ordered.append(ChatMessage("user", _ARRIVED))
    return ordered, stable


# -- calls and results -------------------------------------------------------------------------------


def _paired(messages: Sequence[Message]) -> dict[int, list[_Call]]:
    """Return the calls of each assistant message with their results, wherever those stand.

    A result that stands before its call, as concurrent appends may store it, waits for the call. An id that an
    earlier answer has too, as of servers that count calls from 0, is replaced: a prompt names each call once.
    """
    waiting: dict[str, Message] = {}
    open_calls: dict[str, tuple[int, int]] = {}
    found: dict[int, list[_Call]] = {}
    named: dict[str, str] = {}
    for index, message in enumerate(messages):
        if message.role is MessageRole.ASSISTANT:
            found[index] = []
            for call in calls_of(message):
                call_id = call["id"]
                earlier = open_calls.get(call_id)
                if earlier is not None and earlier[0] == index:
                    continue  # an id twice in one answer names one call
                open_calls[call_id] = (index, len(found[index]))
                named[call["function"]["name"]] = call_id
                place_of_answer = message.id or message.position or index
                sent_id = call_id if earlier is None else derived_id(call_id, place_of_answer)
                found[index].append(_Call({**call, "id": sent_id}, waiting.pop(call_id, None)))
        elif message.role is MessageRole.TOOL:
            call_id = result_id(message)
            if call_id is None:  # the older role "function" names its call by the function
                call_id = named.get(str(message.metadata.get("name")))
            place = open_calls.get(call_id) if call_id is not None else None
            if place is not None:
                answer, number = place
                found[answer][number] = attrs.evolve(found[answer][number], result=message)
            elif call_id is not None:
                waiting[call_id] = message
    return found


def _answer(message: Message, calls: Sequence[_Call], rules: VendorRules, provider: str) -> list[ChatMessage]:
    content = _content(message.content, rules, role="assistant")
    metadata = _reasoning(message, bool(calls), rules, provider)
    if not calls:
        return [ChatMessage("assistant", content, metadata)] if content is not None else []
    own = message.metadata.get("provider") == provider
    metadata["tool_calls"] = [
        _sent_call(call.call, rules, own=own, first=number == 0) for number, call in enumerate(calls)
    ]
    sent = [ChatMessage("assistant", "" if content is None else content, metadata)]
    for call in calls:
        result: JSONValue = MISSING_RESULT if call.result is None else _result(call.result.content, rules)
        if parsed_arguments(call.call["function"].get("arguments")) is None:
            result = _noted(result)
        metadata = {"tool_call_id": mapped_id(call.call["id"], rules), "name": call.call["function"]["name"]}
        if call.result is not None and call.result.metadata.get("is_error") is True:
            metadata["is_error"] = True
        sent.append(ChatMessage("tool", result, metadata))
    return sent


def _sent_call(call: JSONObject, rules: VendorRules, *, own: bool, first: bool) -> JSONObject:
    function = call["function"]
    arguments = parsed_arguments(function.get("arguments"))
    text = function.get("arguments")
    if not isinstance(text, str) or arguments is None or not text.strip():
        text = json.dumps(arguments or {}, ensure_ascii=False)
    sent: JSONObject = {
        "id": mapped_id(call["id"], rules),
        "type": "function",
        "function": {"name": function["name"], "arguments": text},
    }
    if rules.reasoning is ReasoningForm.SIGNATURES:
        if own and isinstance(call.get("extra_content"), dict):
            sent["extra_content"] = call["extra_content"]
        elif first:
            sent["extra_content"] = {"google": {"thought_signature": SKIP_SIGNATURE}}
    return sent


def mapped_id(call_id: str, rules: VendorRules) -> str:
    """Return an id that the vendor accepts: the same for the same id, another for another."""
    if rules.call_id.fullmatch(call_id):
        return call_id
    number = int.from_bytes(sha256(call_id.encode("utf-8", "surrogatepass")).digest())
    mapped = ""
    while len(mapped) < min(rules.call_id_length, 24):
        number, place = divmod(number, len(_ALPHABET))
        mapped += _ALPHABET[place]
    return mapped


def _result(content: JSONValue, rules: VendorRules) -> JSONValue:
    if is_part_list(content) and rules.result_parts:
        return converted_parts(content, rules, role="tool") or _EMPTY_RESULT
    if is_part_list(content):
        texts = [part if isinstance(part, str) else part.get("text") for part in content]
        if all(isinstance(text, str) for text in texts):
            content = "\n".join(texts)
    text = content if isinstance(content, str) else json_text(content)
    return text if text.strip() else _EMPTY_RESULT


def _noted(result: JSONValue) -> JSONValue:
    if isinstance(result, list):
        return [{"type": "text", "text": CUT_OFF}, *result]
    return f"{CUT_OFF}\n{result}"


# -- contents ----------------------------------------------------------------------------------------


def _content(content: JSONValue, rules: VendorRules, *, role: str) -> JSONValue:
    """Return a content as the vendor accepts it; None: nothing is left of it."""
    if isinstance(content, str):
        return content if content and (rules.blank_text or not content.isspace()) else None
    if is_part_list(content):
        return converted_parts(content, rules, role=role) or None
    return None if content is None else json_text(content)


def _reasoning(message: Message, has_calls: bool, rules: VendorRules, provider: str) -> JSONObject:  # noqa: FBT001
    own = message.metadata.get("provider") == provider
    kept = message.metadata.get("reasoning") if own else None
    kept = kept if isinstance(kept, dict) else {}
    match rules.reasoning:
        case ReasoningForm.CONTENT if has_calls or "reasoning_content" in kept:
            return {"reasoning_content": kept.get("reasoning_content", "")}
        case ReasoningForm.DETAILS if isinstance(kept.get("reasoning_details"), list):
            return {"reasoning_details": kept["reasoning_details"]}
        case ReasoningForm.SIGNATURES if isinstance(kept.get("extra_content"), dict):
            return {"extra_content": kept["extra_content"]}
        case ReasoningForm.BLOCKS if isinstance(kept.get("thinking_blocks"), list):
            return {"thinking_blocks": kept["thinking_blocks"]}
        case ReasoningForm.MESSAGE if kept.get("vendor") == rules.name and isinstance(kept.get("message"), dict):
            return {"vendor_message": kept["message"]}
    return {}


def shortened(text: str, keep_characters: int) -> str:
    """Return the beginning and the end of a text with a marker between them that counts what is missing."""
    if len(text) <= keep_characters:
        return text
    head = keep_characters * 2 // 3
    tail = keep_characters - head
    missing = len(text) - head - tail
    return f"{text[:head]}\n[… {missing} characters left out …]\n{text[len(text) - tail :]}"


# -- order -------------------------------------------------------------------------------------------


def _ordered(sent: Sequence[ChatMessage], rules: VendorRules, *, turn: int | None) -> tuple[list[ChatMessage], int]:
    """Return the messages in an order of roles that the vendor's template accepts, and how many precede the turn."""
    ordered: list[ChatMessage] = []
    stable = None
    begins = True
    for number, message in enumerate(sent):
        if begins and message.role == "assistant" and rules.alternates:
            ordered.append(ChatMessage("user", _OPENING))
        begins = begins and message.role == "system"
        previous = ordered[-1] if ordered else None
        if previous is not None and previous.role == "tool" and message.role == "user" and rules.answers_tools:
            ordered.append(ChatMessage("assistant", _NO_ANSWER))
        elif previous is not None and rules.alternates and _can_merge(previous, message):
            ordered[-1] = _merged(previous, message)
            stable = len(ordered) - 1 if number == turn else stable
            continue
        stable = len(ordered) if number == turn else stable
        ordered.append(message)
    return ordered, len(ordered) if stable is None else stable


def _can_merge(previous: ChatMessage, message: ChatMessage) -> bool:
    if previous.role != message.role or message.role not in {"user", "assistant"}:
        return False
    # the order of signed blocks counts; the API takes such messages one after the other
    return not any(one.metadata.get(name) for one in (previous, message) for name in _KEPT_APART)


def _merged(previous: ChatMessage, message: ChatMessage) -> ChatMessage:
    first, second = previous.content, message.content
    if isinstance(first, str) and isinstance(second, str):
        content: JSONValue = "\n\n".join(filter(None, (first, second)))
    else:
        content = [*_as_parts(first), *_as_parts(second)]
    metadata = {**previous.metadata, **message.metadata}
    if "reasoning_content" in metadata:
        texts = (one.metadata.get("reasoning_content") for one in (previous, message))
        metadata["reasoning_content"] = "\n\n".join(filter(None, texts))
    return ChatMessage(message.role, content, metadata)


def _as_parts(content: JSONValue) -> list[JSONValue]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []
