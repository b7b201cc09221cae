"""The prompt: one system message, the window of history, the new message; and values rendered as text."""

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256

import attrs

from luminoracore_sdk.application.invisible_characters import HIDDEN, JOINERS, SELECTORS
from luminoracore_sdk.application.ports.prompting import Notation, TokenCounter
from luminoracore_sdk.domain.chat import ChatMessage
from luminoracore_sdk.domain.content_parts import is_part_list
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.domain.outgoing import build_outgoing_turn, shortened
from luminoracore_sdk.domain.pieces import LARGE, is_large, json_text
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.vendors import VendorRules
from luminoracore_sdk.domain.window import choose_window

__all__ = [
    "UNSEEN",
    "MemoryRenderer",
    "Prompt",
    "build_prompt",
    "compact_json",
    "is_large_prompt",
    "measured_scale",
    "render_data",
    "render_memory",
    "render_transcript",
]


UNSEEN = re.compile(
    f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{HIDDEN}]"
    rf"|(?<![^\s\"{JOINERS}{SELECTORS}])[{SELECTORS}]"
    rf"|(?<![^\s\"{JOINERS}])[{JOINERS}]"
)
"""Line ends, invisible characters and surrogates, all of which are escaped in a prompt.

A joiner or a selector is legitimate after a visible character. At a beginning, or after another one, it
has no visible effect and could encode text that only a model reads.
"""

_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")

_MARKER_CHARACTERS = 48
"""Length of the marker in a shortened tool result."""

_LARGEST_SCALE = 3.0
_CHARACTERS_OF_A_TOKEN = 4

_HEADINGS = {
    MemoryCategory.FACT: "What you remember",
    MemoryCategory.TOPIC: "Topics you remember",
    MemoryCategory.PREFERENCE: "Preferences you remember",
    MemoryCategory.CONTEXT: "Context you remember",
    MemoryCategory.EMOTION: "Emotions you remember",
}


@attrs.frozen(kw_only=True)
class Prompt:
    """The prompt of one turn.

    Attributes:
        messages: What the provider is sent, in order.
        first_position: Position of the first message of the window; that of the first new message if the window
            holds no history.
        left_out: Messages of the session before the window.
        tokens: Estimated cost of the whole prompt.
        uncorrected_tokens: The same, as estimated without ``measured_scale``.
        prefix_digest: SHA-256 of all that stands before the turn in progress. As long as it stays the same, the
            provider's prompt cache serves that part.
    """

    messages: list[ChatMessage]
    first_position: int
    left_out: int
    tokens: int
    uncorrected_tokens: int
    prefix_digest: str

    def kept_facts(self) -> JSONObject:
        """Return what is stored with the answer, from which the next window is chosen and its cost estimated."""
        facts: JSONObject = {"first_position": self.first_position, "tokens": self.tokens}
        if self.uncorrected_tokens != self.tokens:
            facts["estimated"] = self.uncorrected_tokens
        return facts

    def facts(self) -> JSONObject:
        """Return what a response says of its prompt."""
        return {
            "first_position": self.first_position,
            "left_out": self.left_out,
            "tokens": self.tokens,
            "prefix_digest": self.prefix_digest,
        }


def build_prompt(
    session: Session,
    history: Sequence[Message],
    new: Sequence[Message],
    system: str,
    *,
    costs: Sequence[int],
    fixed_tokens: int,
    rules: VendorRules,
    scale: float = 1.0,
    context: str = "",
) -> Prompt:
    """Return the prompt of one turn.

    The turn in progress is sent whole; older history is omitted in steps, see ``choose_window``. Tool results of
    the turn are shortened where they do not fit.

    Args:
        session: The session; its configuration has the limits.
        history: Newest messages of the session, oldest first; they reach back to the beginning of the turn.
        new: What is sent now.
        system: Text of the system message; an empty one is omitted.
        costs: Tokens of each message of ``history`` and ``new``.
        fixed_tokens: Tokens of the system message, the context and the schemas of tools.
        rules: What the provider accepts.
        scale: What the estimates were multiplied by, see ``measured_scale``.
        context: Text for this turn alone.

    Raises:
        ContextWindowError: The turn in progress does not fit.
        UnsupportedContentError: A content part that the provider does not take.
    """
    messages = [*history, *new]
    window = choose_window(
        messages,
        costs,
        max_tokens=max(0, session.config.context_window_size - fixed_tokens),
        max_messages=session.config.max_history_length,
        previous_start=_previous_start(history),
    )
    provider = str((session.provider or {}).get("name"))
    sent = messages[window.start :]
    if window.result_limit is not None:
        sent = [
            _shortened_result(message, cost, window.result_limit)
            for message, cost in zip(sent, costs[window.start :], strict=True)
        ]
    first = sent[0].position or (history[-1].position or 0 if history else session.message_count) + 1
    before = window.turn - window.start
    if context:
        sent.insert(before, Message(rules.context_role, context))
    outgoing, stable = build_outgoing_turn(sent, before, rules, provider=provider)
    beginning = [ChatMessage("system", system)] if system else []
    prompt = [*beginning, *outgoing]
    return Prompt(
        messages=prompt,
        first_position=first,
        left_out=first - 1,
        tokens=window.tokens + fixed_tokens,
        uncorrected_tokens=round((window.tokens + fixed_tokens) / scale),
        prefix_digest=_digest(prompt[: len(beginning) + stable]),
    )


def is_large_prompt(messages: Sequence[Message], costs: Sequence[int]) -> bool:
    """Return whether building a prompt of these messages may keep an event loop waiting for some milliseconds.

    Args:
        messages: History and new messages.
        costs: Tokens of each of them; a picture costs few, whatever its size.
    """
    if sum(costs) * _CHARACTERS_OF_A_TOKEN > LARGE:
        return True
    return any(type(message.content) is not str and is_large(message.content) for message in messages)


def _previous_start(history: Sequence[Message]) -> int | None:
    """Return the index at which the window of the newest answer began; -1: before the history; None: unknown."""
    for message in reversed(history):
        facts = message.metadata.get("prompt")
        if message.role is MessageRole.ASSISTANT and isinstance(facts, dict):
            position = facts.get("first_position")
            return next((index for index, one in enumerate(history) if one.position == position), -1)
    return None


def _shortened_result(message: Message, cost: int, limit: int) -> Message:
    if message.role is not MessageRole.TOOL or cost <= limit:
        return message
    text, others = _result_text(message.content)
    least = limit // 2 if others else 1  # what is left out cost something, the text may be short
    short = shortened(text, max(least, len(text) * limit // cost - _MARKER_CHARACTERS))
    note = [f"(content parts that are not text were left out: {others})"] if others else []
    return attrs.evolve(message, content="\n".join([*filter(None, [short]), *note]))


def _result_text(content: JSONValue) -> tuple[str, int]:
    """Return the text of a tool result, and how many parts of it are no text."""
    if isinstance(content, str):
        return content, 0
    if not is_part_list(content):
        return compact_json(content), 0
    values = [part.get("text") if isinstance(part, dict) else part for part in content]
    texts = [value for value in values if isinstance(value, str)]
    return "\n".join(texts), len(values) - len(texts)


def _digest(messages: Sequence[ChatMessage]) -> str:
    """Return a digest of messages; each of their texts is preceded by its length, so that none runs into the next."""
    texts = []
    for message in messages:
        content, metadata = message.content, message.metadata
        text = content if isinstance(content, str) else json_text(content)
        form = "" if isinstance(content, str) else "json"
        facts = json_text(metadata) if metadata else ""
        texts.append(f"{message.role} {form} {len(text)} {len(facts)}\n{text}{facts}")
    return sha256("".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def measured_scale(history: Sequence[Message]) -> float:
    """Return how many tokens the provider counted for each one estimated, by its newest answer; else 1.

    The truth of one prompt corrects the estimate of the next; it is compared with the uncorrected estimate, since
    only such ones are corrected. It is bounded, so that a provider that counts something else cannot empty or
    flood the window.
    """
    for message in reversed(history):
        facts, usage = message.metadata.get("prompt"), message.metadata.get("usage")
        if message.role is MessageRole.ASSISTANT and isinstance(facts, dict) and isinstance(usage, dict):
            estimated, counted = facts.get("estimated", facts.get("tokens")), _input_tokens(usage)
            if type(estimated) is int and estimated > 0 and counted > 0:
                return min(_LARGEST_SCALE, max(1 / _LARGEST_SCALE, counted / estimated))
            return 1.0
    return 1.0


def _input_tokens(usage: JSONObject) -> int:
    names = ("prompt_tokens", "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage[name] for name in names if type(usage.get(name)) is int)


class MemoryRenderer:
    """Renders memories for system messages, and remembers the text of those that it rendered last.

    Choosing the notation with the fewest tokens is the most expensive step of a turn, and memories rarely change
    between two of them.

    Args:
        tokens: Decides between the notations.
        notations: The most readable one first.
        remembered: Most texts that are remembered.
    """

    def __init__(self, tokens: TokenCounter, notations: Sequence[Notation], *, remembered: int = 256) -> None:
        self._tokens = tokens
        self._notations = notations
        self._remembered = remembered
        self._texts: OrderedDict[object, str] = OrderedDict()

    def render(self, entries: Sequence[MemoryEntry]) -> str:
        """Return the text; see ``render_memory``."""
        key = tuple((entry.key, entry.category, repr(entry.value)) for entry in entries)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = render_memory(entries, self._tokens, self._notations)
            if len(self._texts) > self._remembered:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return text

    def forget(self) -> None:
        """Drop the texts."""
        self._texts.clear()


def render_memory(entries: Sequence[MemoryEntry], tokens: TokenCounter, notations: Sequence[Notation]) -> str:
    """Return memories as text for a system message; empty without entries.

    Each category has its own heading and notation; entries whose values are objects may have a second one.
    Importance and times are omitted: they decide whether an entry is recalled, not what it says.

    Args:
        entries: The entries of one session, each with a unique key; their order is kept.
        tokens: Counts tokens, to choose the cheapest notation.
        notations: The available notations, the most readable first.
    """
    groups = {
        category: {entry.key: entry.value for entry in entries if entry.category is category}
        for category in MemoryCategory
    }
    return "\n\n".join(
        _render_group(group, tokens, notations, _HEADINGS[category]) for category, group in groups.items() if group
    )


def _render_group(group: JSONObject, tokens: TokenCounter, notations: Sequence[Notation], heading: str) -> str:
    """Render one category, as a whole or with objects apart, since they rarely suit the same notation."""
    whole = render_data(group, tokens, notations, heading=heading)
    objects = {key: value for key, value in group.items() if isinstance(value, dict)}
    others = {key: value for key, value in group.items() if key not in objects}
    if not (objects and others):
        return whole
    parts = (render_data(part, tokens, notations, heading=heading) for part in (others, objects))
    return min(whole, "\n\n".join(parts), key=tokens.count)


def render_data(value: JSONValue, tokens: TokenCounter, notations: Sequence[Notation], *, heading: str = "") -> str:
    """Return a value as text for a model, in the notation that costs the fewest tokens.

    Args:
        value: Any JSON value.
        tokens: Counts tokens, including those of the heading.
        notations: The available notations; the first of equally cheap ones is used. If none can write the
            value, it is written as JSON.
        heading: A line that describes the value; the name of the notation is added.
    """
    written = ((notation.name, notation.render(value)) for notation in notations)
    texts = [_titled(heading, name, text) for name, text in written if text is not None]
    return min(texts, key=tokens.count, default=_titled(heading, "JSON", compact_json(value)))


def _titled(heading: str, name: str, text: str) -> str:
    if not heading:
        return text
    return f"{heading} ({name}):\n{text}" if name else f"{heading}:\n{text}"


def render_transcript(messages: Iterable[Message]) -> str:
    """Return role and content of each message, in the given order: ``user: Hello``.

    Further lines of a message are indented by one space, so that one message cannot look like two. Content
    that is not a string, or that cannot be encoded in UTF-8, is written as JSON and labelled:
    ``user (JSON): [...]``. Times and metadata are omitted.
    """
    return "\n".join(map(_transcript_line, messages))


def _transcript_line(message: Message) -> str:
    role, content = message.role.value, message.content
    if not isinstance(content, str) or _SURROGATE.search(content):
        return f"{role} (JSON): {compact_json(content)}"
    return f"{role}: {_LINE_END.sub(lambda end: f'{end.group()} ', content)}"


def compact_json(value: JSONValue) -> str:
    r"""Return a value as JSON, on one line, without spaces.

    Only the characters of ``UNSEEN`` are escaped (``\u2028``), which costs the fewest tokens.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return UNSEEN.sub(lambda found: json.dumps(found.group())[1:-1], text)
