"""Text for models, with the token counter and the notations that are used when none are given."""

from collections.abc import Sequence

from luminoracore_sdk.adapters.notation.choice import default_notations
from luminoracore_sdk.adapters.tokens.choice import default_token_counter
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
        heading: Says in a line of its own what the value is; the notation's name is added.
        token_counter: In place of the default one; anything with ``count(text)``.
        notations: In place of the default ones, the most readable one first.

    Raises:
        InvalidJSONError: ``value`` is not JSON.
    """
    check_json(value)
    return prompts.render_data(value, *_tools(token_counter, notations), heading=heading)


def render_memory(
    entries: Sequence[MemoryEntry],
    *,
    token_counter: TokenCounter | None = None,
    notations: Sequence[Notation] | None = None,
) -> str:
    """Return what is remembered as it stands in the system message; empty for no entries.

    Args:
        entries: Of one session, for example ``await manager.memory_manager.recall(session_id)``.
        token_counter: In place of the default one; anything with ``count(text)``.
        notations: In place of the default ones, the most readable one first.
    """
    return prompts.render_memory(entries, *_tools(token_counter, notations))


def prompt_tokens(
    messages: Sequence[Message],
    entries: Sequence[MemoryEntry],
    *,
    token_counter: TokenCounter | None = None,
    notations: Sequence[Notation] | None = None,
) -> PromptTokens:
    """Return what messages and entries of a session cost as text and as JSON.

    Args:
        messages: Oldest first.
        entries: What is remembered of the session.
        token_counter: In place of the default one; anything with ``count(text)``.
        notations: In place of the default ones, the most readable one first.
    """
    return prompt_tokens_module.prompt_tokens(messages, entries, *_tools(token_counter, notations))


def _tools(
    token_counter: TokenCounter | None, notations: Sequence[Notation] | None
) -> tuple[TokenCounter, Sequence[Notation]]:
    return token_counter or default_token_counter(), notations or default_notations()
