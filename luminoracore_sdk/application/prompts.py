"""The prompt: one system message, the window of history, the new message; and values rendered as text."""

import json
import re
from collections.abc import Iterable, Sequence

from luminoracore_sdk.application.invisible_characters import HIDDEN, JOINERS, SELECTORS
from luminoracore_sdk.application.ports.prompting import Notation, TokenCounter
from luminoracore_sdk.domain.chat import ChatMessage
from luminoracore_sdk.domain.context import select_window
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.personality import system_prompt
from luminoracore_sdk.domain.session import Session

__all__ = ["UNSEEN", "build_prompt", "compact_json", "render_data", "render_memory", "render_transcript"]


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

_TOKENS_AROUND_A_MESSAGE = 4
"""Tokens for role and separators: the figure of OpenAI's cookbook for its chat format, rounded up."""

_HEADINGS = {
    MemoryCategory.FACT: "What you remember",
    MemoryCategory.TOPIC: "Topics you remember",
    MemoryCategory.PREFERENCE: "Preferences you remember",
    MemoryCategory.CONTEXT: "Context you remember",
    MemoryCategory.EMOTION: "Emotions you remember",
}


def build_prompt(
    session: Session,
    history: Sequence[Message],
    remembered: Sequence[MemoryEntry],
    question: Message,
    tokens: TokenCounter,
    notations: Sequence[Notation],
) -> list[ChatMessage]:
    """Return the prompt of one turn, in order.

    An empty system message is omitted. History is omitted, oldest first and in whole groups, until everything
    fits ``context_window_size``; the system message and the question always stay.
    """
    parts = (system_prompt(session.personality), render_memory(remembered, tokens, notations))
    system = "\n\n".join(filter(None, parts))
    prompt = [ChatMessage("system", system)] if system else []
    new = ChatMessage(question.role.value, question.content, question.metadata)
    taken = sum(_cost(message.content, tokens) for message in (*prompt, new))
    window = select_window(
        history,
        lambda index: _cost(history[index].content, tokens),
        max_messages=session.config.max_history_length,
        max_tokens=session.config.context_window_size - taken,
    )
    prompt.extend(ChatMessage(message.role.value, message.content, message.metadata) for message in window)
    prompt.append(new)
    return prompt


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


def _cost(content: JSONValue, tokens: TokenCounter) -> int:
    text = content if isinstance(content, str) else compact_json(content)
    return tokens.count(text) + _TOKENS_AROUND_A_MESSAGE
