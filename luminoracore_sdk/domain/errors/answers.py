"""Errors of answers that were stored and are not what the caller asked for."""

from typing import TYPE_CHECKING

from luminoracore_sdk.domain.errors.base import LuminoraCoreSDKError, SessionError, shown

if TYPE_CHECKING:
    from luminoracore_sdk.domain.chat import ChatResponse

__all__ = ["StructuredOutputError", "ToolStepsError"]


class ToolStepsError(SessionError):
    """The model still calls tools after the largest number of steps; every step is stored.

    Attributes:
        response: The last answer, whose calls were not run.
    """

    def __init__(self, session_id: str, *, max_steps: int, response: "ChatResponse") -> None:
        super().__init__(
            f"session {shown(session_id)}: the model still calls tools after {max_steps} steps, which are stored; "
            "continue with run_tools(manager, session_id, None, tools), or raise max_steps"
        )
        self.session_id = session_id
        self.max_steps = max_steps
        self.response = response


class StructuredOutputError(LuminoraCoreSDKError, ValueError):
    """The answer does not have the form that was asked for; it is stored.

    Attributes:
        reason: What does not fit.
        response: The answer; its ``content`` is the raw text.
    """

    def __init__(self, name: str, reason: str, response: "ChatResponse") -> None:
        super().__init__(f"the answer is not a valid {name}: {reason}")
        self.reason = reason
        self.response = response

    @property
    def text(self) -> str:
        """The raw text of the answer."""
        return self.response.content
