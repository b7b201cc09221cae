"""The documented functions for tools and structured output."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from luminoracore_sdk.adapters.schemas import output_kind, tool_of
from luminoracore_sdk.application import structured
from luminoracore_sdk.application.sessions import Sessions
from luminoracore_sdk.application.structured import StructuredResponse
from luminoracore_sdk.application.tools import DEFAULT_MAX_STEPS, Tool, ToolRun
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.message import Message

__all__ = ["run_tools", "send_structured"]

T = TypeVar("T")


async def run_tools(
    manager: Sessions,
    session_id: str,
    message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]] | None,
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    max_steps: int = DEFAULT_MAX_STEPS,
    on_delta: Callable[[ChatResponse], Awaitable[None] | None] | None = None,
    **options: Any,
) -> ChatResponse:
    """Send a message with tools, run the tools that the model calls, and return the answer after them.

    Each answer is stored together with what it answers. The calls of one answer run at the same time, functions that
    are not coroutine functions in threads. Their results are stored before they are sent. A tool that raises an error,
    an unknown tool and arguments that do not fit have a result that says so.

    After a crash, the same call with None in place of the message, or with a message of the same ``id``, continues
    with what is stored. A tool whose result was not stored runs again: one that must not run twice needs a check of
    its own.

    Args:
        manager: The manager.
        session_id: An existing session.
        message: See ``send_message``; None: continue with what is stored. Without a call to run, that returns the
            newest answer.
        tools: Functions, see ``tool_of``, or ``Tool`` objects.
        max_steps: How often results may be sent.
        on_delta: A function, synchronous or not: answers are streamed, and it is called with each delta of each of
            them. The delta with a ``finish_reason`` ends an answer. The session is locked while it is called, until
            that delta; an error that it raises stops the answer, as if the reader of ``stream_message`` had left.
        **options: Further arguments of ``send_message``, with ``on_delta`` of ``stream_message``, for each step;
            ``tool_choice`` for the first one.

    Returns:
        The first answer without calls.

    Raises:
        ToolStepsError: The model calls tools after ``max_steps`` steps; all of them are stored.
        TurnInterruptedError: The session was cleared meanwhile.
        ValidationError: A tool cannot be described, or there is nothing to continue with.
    """
    described = [tool if isinstance(tool, Tool) else tool_of(tool) for tool in tools]
    run = ToolRun(
        sessions=manager,
        session_id=session_id,
        tools=described,
        max_steps=max_steps,
        options=options,
        on_delta=on_delta,
    )
    return await run.run(message)


async def send_structured(
    manager: Sessions,
    session_id: str,
    message: str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]],
    kind: type[T],
    *,
    repair: int = 1,
    **options: Any,
) -> StructuredResponse[T]:
    """Send a message and return the answer as an instance of a class.

    The provider is asked for an answer that fits the JSON schema of the class; one that takes no schema is sent it as
    text, which is not stored. Question and answer are stored as by ``send_message``.

    Args:
        manager: The manager.
        session_id: An existing session.
        message: See ``send_message``.
        kind: An attrs class, a pydantic model, a dataclass or a TypedDict.
        repair: 1: an answer that does not fit is sent back once, as a further question that says what is wrong;
            0: it is not.
        **options: Further arguments of ``send_message``.

    Raises:
        StructuredOutputError: The answer does not fit, was refused or was cut off. It is stored, and its text is in
            ``error.text``.
        ValidationError: The class cannot be described as a JSON object.
    """
    return await structured.send_structured(
        manager, session_id, message, output_kind(kind), repair=repair, options=options
    )
