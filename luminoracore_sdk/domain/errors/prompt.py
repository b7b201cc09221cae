"""Errors of a prompt that cannot be sent as it is; raised before the provider is asked."""

from collections.abc import Sequence

from luminoracore_sdk.domain.errors.base import ValidationError, shown
from luminoracore_sdk.domain.errors.provider import ProviderError

__all__ = ["ContextWindowError", "ToolCallNotFoundError", "UnsupportedContentError"]


class ContextWindowError(ValidationError):
    """The turn in progress does not fit the context window, even with shortened tool results."""

    def __init__(self, *, needed_tokens: int, max_tokens: int) -> None:
        super().__init__(
            f"the turn in progress needs at least {needed_tokens} tokens and {max_tokens} are left in the context "
            "window; raise context_window_size or send less",
            details={"needed_tokens": needed_tokens, "max_tokens": max_tokens},
        )
        self.needed_tokens = needed_tokens
        self.max_tokens = max_tokens


class ToolCallNotFoundError(ValidationError, LookupError):
    """Results of tool calls were sent whose calls are not among the newest messages of the session."""

    def __init__(self, session_id: str, call_ids: Sequence[str], *, searched: int) -> None:
        super().__init__(
            f"the newest {searched} messages of session {shown(session_id)} do not hold the tool call "
            f"{', '.join(map(shown, call_ids))}; send the result as a message of the user",
            details={"searched": searched},
        )
        self.session_id = session_id
        self.call_ids = tuple(call_ids)
        self.searched = searched


class UnsupportedContentError(ProviderError):
    """A message holds a content part that the provider does not take; nothing was sent."""

    def __init__(self, *, provider: str, part: str, role: str) -> None:
        super().__init__(
            f"{provider} does not take a content part of type {part[:40]!a} in a {role} message; "
            "send it as text, or use a provider that does",
            details={"provider": provider, "part": part, "role": role},
        )
        self.provider = provider
        self.part = part
        self.role = role
