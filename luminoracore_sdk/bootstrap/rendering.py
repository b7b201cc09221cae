"""Rendering of data and memory as text for models, with the default token counter and notations."""

from collections.abc import Sequence

from luminoracore_sdk.adapters.notation import default_notations
from luminoracore_sdk.adapters.tokens import default_token_counter
from luminoracore_sdk.application import prompt_tokens as prompt_tokens_module
from luminoracore_sdk.application import prompts
from luminoracore_sdk.application.ports.prompting import Notation, TokenCounter
from luminoracore_sdk.application.prompt_tokens import PromptTokens
from luminoracore_sdk.domain.json_value import JSONValue, check_json
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message

__all__ = ["prompt_tokens", "render_data", "render_memory"]


def render_data(
    value: JSONValue,
    *,
    heading: str = "",
    token_counter: TokenCounter | None = None,
    notations: Sequence[Notation] | None = None,
) -> str:
    """Return structured data as text for a model, in the notation that costs the fewest tokens.

    Args:
        value: Any JSON value.
        heading: A line before the text that says what it is; the name of the notation is added.
        token_counter: Anything with ``count(text)``; None: the default one.
        notations: The most readable one first; None: the default ones.

    Raises:
        InvalidJSONError: ``value`` is not JSON.
    """
    check_json(value)
    counter, notations = token_counter or default_token_counter(), notations or default_notations()
    return prompts.render_data(value, counter, notations, heading=heading)


def render_memory(
    entries: Sequence[MemoryEntry],
    *,
    token_counter: TokenCounter | None = None,
    notations: Sequence[Notation] | None = None,
) -> str:
    """Return memories as the system message shows them; an empty string for no entries.

    Args:
        entries: Of one session, for example ``await manager.memory_manager.recall(session_id)``.
        token_counter: Anything with ``count(text)``; None: the default one.
        notations: The most readable one first; None: the default ones.
    """
    return prompts.render_memory(entries, token_counter or default_token_counter(), notations or default_notations())


def prompt_tokens(
    messages: Sequence[Message],
    entries: Sequence[MemoryEntry],
    *,
    token_counter: TokenCounter | None = None,
    notations: Sequence[Notation] | None = None,
) -> PromptTokens:
    """Return how many tokens messages and memories of a session cost, as text and as JSON.

    Args:
        messages: Oldest first.
        entries: The memories of the session.
        token_counter: Anything with ``count(text)``; None: the default one.
        notations: The most readable one first; None: the default ones.
    """
    counter, notations = token_counter or default_token_counter(), notations or default_notations()
    return prompt_tokens_module.prompt_tokens(messages, entries, counter, notations)
