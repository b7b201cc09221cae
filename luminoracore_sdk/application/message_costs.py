"""What messages cost in tokens: text, calls and pictures, counted once and then remembered."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

from luminoracore_sdk.application.ports.prompting import TokenCounter
from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.domain.pictures import FLAT_PICTURE_TOKENS, picture_tokens
from luminoracore_sdk.domain.pieces import is_large
from luminoracore_sdk.domain.tool_calls import calls_of
from luminoracore_sdk.domain.vendors import rules_of

__all__ = ["TOKENS_AROUND_A_MESSAGE", "MessageCosts", "estimated_tokens"]

TOKENS_AROUND_A_MESSAGE = 4
"""Role and separators; the figure of OpenAI's cookbook for its chat format, rounded up."""

_COUNTED_WHOLE = 16_384
_SAMPLES = 16
_SMALLEST_SAMPLE = 256
_ELEMENT_CHARACTERS = 160
"""Characters that are counted of an element, if a structure is too large to be counted whole."""

_MOST_PARTS = 1_024
_SMALLEST_PART = 32
"""Longer lists are data, not parts; that many parts can each be looked at, and a few characters of each counted."""

_COUNTED_FACTS = frozenset({"tool_calls", "function_call", "reasoning"})
"""Names of what is counted of a message beside its content."""

_FINGERPRINT_NODES = 1_024
_FINGERPRINT_CHARACTERS = 512
_REMEMBERED = 65_536
_REMEMBERED_TEXTS = 256
_PICTURES = frozenset({"image_url", "image"})
_LARGE_PARTS = frozenset({"file", "input_audio", "video_url", "document_url"})


def estimated_tokens(text: str, tokens: TokenCounter) -> int:
    """Return the tokens of a text: counted up to 16,384 characters, above that estimated from 16 samples.

    Counting 5 MB takes longer than an event loop may be blocked. The samples are spread evenly; for prose, code
    and JSON the estimate is within 10 % of the count; a test shows it.
    """
    return _sampled_tokens(text, tokens, _COUNTED_WHOLE)


def _sampled_tokens(text: str, tokens: TokenCounter, characters: int) -> int:
    """Return the tokens of a text of which at most so many characters are counted."""
    if len(text) <= characters:
        return tokens.count(text)
    samples = min(_SAMPLES, max(1, characters // _SMALLEST_SAMPLE))
    size = characters // samples
    step = (len(text) - size) / max(1, samples - 1)
    starts = (round(number * step) for number in range(samples))
    counted = sum(tokens.count(text[start : start + size]) for start in starts)
    return round(counted / (samples * size) * len(text))


class MessageCosts:
    """Counts tokens of messages and remembers them by message, so that a turn counts only what is new.

    Args:
        tokens: Counts text.
        remembered: Most messages whose cost is remembered.
    """

    def __init__(self, tokens: TokenCounter, *, remembered: int = _REMEMBERED) -> None:
        self.tokens = tokens
        self._remembered = remembered
        self._known_texts: OrderedDict[int, int] = OrderedDict()  # by hash: a text may hold what is erased later
        self._known: OrderedDict[tuple[str, int, int | None, str], int] = OrderedDict()

    def of(self, messages: Sequence[Message], vendor: str) -> list[int]:
        """Return the cost of each message for a vendor."""
        return [self._cost(message, vendor) for message in messages]

    def text(self, text: str) -> int:
        """Return the cost of a text that is a message of its own, such as a system prompt; it is remembered."""
        key = hash(text)
        known = self._known_texts.get(key)
        if known is None:
            known = estimated_tokens(text, self.tokens) + TOKENS_AROUND_A_MESSAGE
            if len(text) <= _COUNTED_WHOLE:
                self._known_texts[key] = known
                if len(self._known_texts) > _REMEMBERED_TEXTS:
                    self._known_texts.popitem(last=False)
        return known

    def _cost(self, message: Message, vendor: str) -> int:
        if message.id is None:
            return self._count(message, vendor)
        content, metadata = message.content, message.metadata
        has_facts = not _COUNTED_FACTS.isdisjoint(metadata)
        of_facts = _fingerprint([metadata.get(name) for name in _COUNTED_FACTS]) if has_facts else None
        of_content = hash(content) if type(content) is str and len(content) <= _COUNTED_WHOLE else _fingerprint(content)
        key = (message.id, of_content, of_facts, vendor)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._count(message, vendor)
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        return known

    def _count(self, message: Message, vendor: str) -> int:
        is_text = message.role is MessageRole.TOOL and not rules_of(vendor).result_parts  # pictures and all
        content = self._value(message.content) if is_text else self._content(message.content, vendor)
        total = TOKENS_AROUND_A_MESSAGE + content
        for call in calls_of(message):
            total += self._value(call["function"]) + TOKENS_AROUND_A_MESSAGE
        reasoning = message.metadata.get("reasoning")
        return total + (self._value(reasoning) if reasoning else 0)

    def _content(self, content: JSONValue, vendor: str) -> int:
        if not isinstance(content, list) or len(content) > _MOST_PARTS:
            return self._value(content)
        total = 0
        texts: list[str] = []
        others: list[JSONValue] = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in _PICTURES:
                total += picture_tokens(part, vendor)
            elif kind == "document":
                total += self._document(part, vendor)
            elif kind in _LARGE_PARTS:
                total += FLAT_PICTURE_TOKENS
            elif isinstance(part, str):
                texts.append(part)
            elif kind == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                others.append(part)
        share = max(_SMALLEST_PART, _COUNTED_WHOLE // max(1, len(texts)))
        total += sum(_sampled_tokens(text, self.tokens, share) for text in texts)
        return total + (self._value(others) if others else 0)

    def _document(self, part: JSONObject, vendor: str) -> int:
        source = part.get("source")
        source = source if isinstance(source, dict) else {}
        around = self._value([part.get("title"), part.get("context")])
        match source.get("type"):
            case "text":
                return around + self._value(source.get("data"))
            case "content":
                return around + self._content(source.get("content"), vendor)
        return around + FLAT_PICTURE_TOKENS

    def _value(self, value: JSONValue) -> int:
        if isinstance(value, str):
            return estimated_tokens(value, self.tokens)
        return round(self._structure(value, _COUNTED_WHOLE, Random(0)))  # noqa: S311 - a sample, the same each time

    def _structure(self, value: Any, characters: int, random: Random) -> float:
        """Return the tokens of a value as JSON, of which about so many characters are read.

        Of a structure that is larger, elements are drawn; they stand for the others.
        """
        if not is_large(value, characters):
            return self.tokens.count(compact_json(value))
        if isinstance(value, str):
            return _sampled_tokens(value, self.tokens, characters)
        names: Sequence[Any] = list(value) if isinstance(value, dict) else range(len(value))
        drawn = min(len(names), max(1, characters // _ELEMENT_CHARACTERS))
        starts = [number * len(names) // drawn for number in range(drawn + 1)]
        chosen = [names[random.randrange(*stratum)] for stratum in pairwise(starts)]
        elements = [[name, value[name]] if isinstance(value, dict) else value[name] for name in chosen]
        share = max(_ELEMENT_CHARACTERS, characters // drawn)
        large = [element for element in elements if is_large(element, share)]
        written = "".join(f"{compact_json(element)}," for element in elements if not is_large(element, share))
        counted = self.tokens.count(written) + sum(self._structure(element, share, random) for element in large)
        return counted / drawn * len(names)


def _fingerprint(content: JSONValue, nodes: int = _FINGERPRINT_NODES) -> int:
    """Return a number that changes when a content is edited.

    Of large structures, nested strings and texts whose cost is estimated, a part is read.
    """
    if isinstance(content, str) and (nodes < _FINGERPRINT_NODES or len(content) > _COUNTED_WHOLE):
        return hash((len(content), content[:_FINGERPRINT_CHARACTERS], content[-_FINGERPRINT_CHARACTERS:]))
    if isinstance(content, list | dict):
        items: Sequence[Any] = list(content.items()) if isinstance(content, dict) else content
        step = max(1, len(items) // max(1, nodes))
        share = nodes // (len(items[::step]) + 1)
        if isinstance(content, dict):
            return hash((len(items), *((name, _fingerprint(value, share)) for name, value in items[::step])))
        return hash((len(items), *(_fingerprint(value, share) for value in items[::step])))
    return hash((type(content), content))
