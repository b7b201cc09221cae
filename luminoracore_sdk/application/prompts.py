"""What the provider is told: one system message, the window of history, the new message."""

import json
from collections.abc import Sequence

from luminoracore_sdk.application.ports.token_counter import TokenCounter
from luminoracore_sdk.domain.chat import ChatMessage
from luminoracore_sdk.domain.context import select_window
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.personality import system_prompt
from luminoracore_sdk.domain.session import Session

__all__ = ["build_prompt", "render_memory"]

_TOKENS_AROUND_A_MESSAGE = 4
"""Role and separators; the figure of OpenAI's cookbook for its chat format, rounded up."""


def build_prompt(
    session: Session,
    history: Sequence[Message],
    remembered: Sequence[MemoryEntry],
    question: Message,
    tokens: TokenCounter,
) -> list[ChatMessage]:
    """Return the prompt of one turn, in order.

    The system message is left out when it would be empty. History is left out, oldest first and in
    whole groups, until everything fits ``context_window_size``; system message and question stay.
    """
    system = system_prompt(session.personality)
    if remembered:
        system = f"{system}\n\n{render_memory(remembered)}".strip()
    prompt = [ChatMessage("system", system)] if system else []
    new = ChatMessage(question.role.value, question.content, question.metadata)
    taken = sum(_cost(message.content, tokens) for message in (*prompt, new))
    window = select_window(
        history,
        [_cost(message.content, tokens) for message in history],
        max_messages=session.config.max_history_length,
        max_tokens=session.config.context_window_size - taken,
    )
    prompt.extend(ChatMessage(said.role.value, said.content, said.metadata) for said in window)
    prompt.append(new)
    return prompt


def render_memory(entries: Sequence[MemoryEntry]) -> str:
    """Return what is remembered as text for a system message: a line for each entry."""
    lines = (f"- {entry.key}: {_as_text(entry.value)}" for entry in entries)
    return "What you remember:\n" + "\n".join(lines)


def _as_text(value: JSONValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cost(content: JSONValue, tokens: TokenCounter) -> int:
    return tokens.count(_as_text(content)) + _TOKENS_AROUND_A_MESSAGE
