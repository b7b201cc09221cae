"""``luminora watch``."""

from contextlib import aclosing
from typing import Annotated

import typer

from luminoracore_sdk.cli.context import CommandContext
from luminoracore_sdk.cli.sessions import SessionId, message_text_of
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.summaries import SessionChange, watched_from

__all__ = ["watch"]


def _cursor(value: str | None) -> str | None:
    try:
        watched_from("0" if value is None else value)
    except ValidationError as exc:
        raise typer.BadParameter(str(exc)) from exc
    return value


def watch(
    context: CommandContext,
    session_id: SessionId,
    *,
    after: Annotated[
        str | None,
        typer.Option(callback=_cursor, help="Begin behind this position or cursor; by default with what comes."),
    ] = None,
) -> None:
    """Print the messages of a session as they come, and changes of earlier ones, until Ctrl-C or its deletion."""
    context.run(_follow(context, session_id, after))


async def _follow(context: CommandContext, session_id: str, after: str | None) -> None:
    if after is None:
        header = await context.storage.find_session(session_id)
        after = str(header.last_position if header else 0)
    async with aclosing(context.manager.watch(session_id, after=after)) as changes:
        async for change in changes:
            if context.options.as_json:
                context.write_json(change.to_dict())
            else:
                _print(context, change)


def _print(context: CommandContext, change: SessionChange) -> None:
    if change.message is not None:
        if change.kind == "updated":
            context.out.print(f"\nmessage {change.position} was changed:", soft_wrap=True)
        context.out.print(message_text_of(change.message), soft_wrap=True)
    elif change.kind == "cut":
        context.out.print(f"\nevery message behind position {change.position} was removed", soft_wrap=True)
    else:
        context.out.print("\nthe session was deleted", soft_wrap=True)
