"""What messages cost in tokens: text, calls and pictures, counted once and then remembered."""

from collections import OrderedDict
from collections.abc import Sequence

from luminoracore_sdk.application.ports.prompting import TokenCounter
from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.pictures import FLAT_PICTURE_TOKENS, picture_tokens
from luminoracore_sdk.domain.tool_calls import calls_of

__all__ = ["TOKENS_AROUND_A_MESSAGE", "MessageCosts", "estimated_tokens"]

TOKENS_AROUND_A_MESSAGE = 4
"""Role and separators; the figure of OpenAI's cookbook for its chat format, rounded up."""

_COUNTED_WHOLE = 16_384
_SAMPLES = 16
_SAMPLE_CHARACTERS = 1_024
_REMEMBERED = 65_536
_LARGE_PARTS = frozenset({"file", "document", "input_audio", "video_url", "document_url"})


def estimated_tokens(text: str, tokens: TokenCounter) -> int:
    """Return the tokens of a text: counted up to 16,384 characters, above that estimated from 16 samples.

    Counting 5 MB takes longer than an event loop may be blocked. The samples are spread evenly; for prose, code
    and JSON the estimate is within 10 % of the count; a test shows it.
    """
    if len(text) <= _COUNTED_WHOLE:
        return tokens.count(text)
    step = (len(text) - _SAMPLE_CHARACTERS) / (_SAMPLES - 1)
    starts = (round(number * step) for number in range(_SAMPLES))
    counted = sum(tokens.count(text[start : start + _SAMPLE_CHARACTERS]) for start in starts)
    return round(counted / (_SAMPLES * _SAMPLE_CHARACTERS) * len(text))


class MessageCosts:
    """Counts tokens of messages and remembers them by message, so that a turn counts only what is new.

    Args:
        tokens: Counts text.
        remembered: Most messages whose cost is remembered.
    """

    def __init__(self, tokens: TokenCounter, *, remembered: int = _REMEMBERED) -> None:
        self.tokens = tokens
        self._remembered = remembered
        self._known: OrderedDict[tuple[str | None, int, str], int] = OrderedDict()

    def of(self, messages: Sequence[Message], vendor: str) -> list[int]:
        """Return the cost of each message for a vendor."""
        return [self._cost(message, vendor) for message in messages]

    def text(self, text: str) -> int:
        """Return the cost of a text that is a message of its own."""
        return estimated_tokens(text, self.tokens) + TOKENS_AROUND_A_MESSAGE

    def _cost(self, message: Message, vendor: str) -> int:
        key = (message.id, _fingerprint(message.content), vendor)
        known = self._known.get(key) if message.id is not None else None
        if known is None:
            known = self._count(message, vendor)
            self._known[key] = known
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        return known

    def _count(self, message: Message, vendor: str) -> int:
        total = TOKENS_AROUND_A_MESSAGE + self._content(message.content, vendor)
        for call in calls_of(message):
            total += self._value(call["function"]) + TOKENS_AROUND_A_MESSAGE
        reasoning = message.metadata.get("reasoning")
        return total + (self._value(reasoning) if reasoning else 0)

    def _content(self, content: JSONValue, vendor: str) -> int:
        if not isinstance(content, list):
            return self._value(content)
        return sum(self._part(part, vendor) for part in content)

    def _part(self, part: JSONValue, vendor: str) -> int:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, dict) and kind in {"image_url", "image"}:
            return picture_tokens(part, vendor)
        if kind in _LARGE_PARTS:
            return FLAT_PICTURE_TOKENS
        if isinstance(part, dict) and kind == "text" and isinstance(part.get("text"), str):
            return self._value(part["text"])
        return self._value(part)

    def _value(self, value: JSONValue) -> int:
        return estimated_tokens(value if isinstance(value, str) else compact_json(value), self.tokens)


def _fingerprint(content: JSONValue) -> int:
    """Return a number that changes when a content is edited, without reading its pictures."""
    if isinstance(content, str):
        return hash(content)
    if isinstance(content, list):
        return hash(tuple(map(_fingerprint, content)))
    if isinstance(content, dict):
        return hash(
            tuple((key, len(item) if isinstance(item, str) else _fingerprint(item)) for key, item in content.items())
        )
    return hash(content)
