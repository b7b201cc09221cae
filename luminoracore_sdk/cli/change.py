"""``luminora sessions rename | tag | archive | pin | fork | search``."""

from contextlib import aclosing
from typing import Annotated

import attrs
import typer

from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.cli.context import FAILED, USAGE, CommandContext, not_empty
from luminoracore_sdk.cli.output import amount, display, moment, print_table
from luminoracore_sdk.cli.sessions import SessionId
from luminoracore_sdk.domain.errors import CorruptRecordError, SessionNotFoundError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message, brief_text

__all__ = ["archive", "fork", "pin", "rename", "search", "tag"]

Undo = Annotated[bool, typer.Option("--undo", help="Take it back.", show_default=False)]


def _changed(context: CommandContext, session_id: str, *, existed: bool, said: str) -> None:
    """Print the session's header as JSON if that is asked for, else what was done."""
    session = context.run(context.manager.get_session(session_id)) if existed else None
    if session is None:
        raise SessionNotFoundError(session_id, backend=context.storage.backend)
    if context.options.as_json:
        context.write_json(session.to_dict())
    context.say(said)


def rename(
    context: CommandContext,
    session_id: SessionId,
    title: Annotated[
        str | None, typer.Argument(metavar="[TITLE]", help="The new title; none removes it.", show_default=False)
    ] = None,
    *,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Ask the session's provider for a title.", show_default=False)
    ] = False,
) -> None:
    """Give a session a title."""
    if suggest and title is not None:
        context.say("give a title or --suggest, one of the two")
        raise typer.Exit(USAGE)
    if suggest:
        title = context.run(context.manager.suggest_title(session_id)) or None
    existed = context.run(context.manager.update_session(session_id, title=title))
    said = f"session {session_id} has no title" if title is None else f"session {session_id} is called {title!r}"
    _changed(context, session_id, existed=existed, said=said)


def tag(
    context: CommandContext,
    session_id: SessionId,
    *,
    add: Annotated[list[str] | None, typer.Option(help="Add a tag; may be repeated.", show_default=False)] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Remove a tag; may be repeated.", show_default=False)] = None,
) -> None:
    """Add tags to a session, and remove tags from it."""
    if not add and not remove:
        context.say("nothing to change: give --add or --remove")
        raise typer.Exit(USAGE)
    existed = context.run(context.manager.update_session(session_id, add_tags=add or (), remove_tags=remove or ()))
    session = context.run(context.manager.get_session(session_id)) if existed else None
    tags = ", ".join(session.config.tags) if session else ""
    _changed(context, session_id, existed=existed, said=f"session {session_id} has the tags: {tags or 'none'}")


def archive(context: CommandContext, session_id: SessionId, *, undo: Undo = False) -> None:
    """Archive a session, so that lists of conversations omit it."""
    existed = context.run(context.manager.update_session(session_id, archived=not undo))
    _changed(context, session_id, existed=existed, said=f"session {session_id} is {'not ' * undo}archived")


def pin(context: CommandContext, session_id: SessionId, *, undo: Undo = False) -> None:
    """Pin a session."""
    existed = context.run(context.manager.update_session(session_id, pinned=not undo))
    _changed(context, session_id, existed=existed, said=f"session {session_id} is {'not ' * undo}pinned")


def fork(
    context: CommandContext,
    session_id: SessionId,
    *,
    at: Annotated[
        int | None, typer.Option(min=0, help="Last position to copy; by default the newest.", show_default=False)
    ] = None,
    new_id: Annotated[
        str | None, typer.Option("--id", help="Id of the copy.", show_default=False, callback=not_empty)
    ] = None,
) -> None:
    """Copy a session up to a message into a new one."""
    made = context.run(context.manager.fork(session_id, at, new_session_id=new_id))
    if context.options.as_json:
        context.write_json({"session_id": made, "parent": session_id})
    else:
        context.write(f"{made}\n")
    context.say(f"copied session {session_id} to {made}")


def search(
    context: CommandContext,
    query: Annotated[str, typer.Argument(metavar="TEXT", help="Text that a message contains, in any case.")],
    *,
    user: Annotated[
        str | None, typer.Option(help="Only sessions of this user.", show_default=False, callback=not_empty)
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="Only sessions with this tag.", show_default=False, callback=not_empty)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of messages.")] = 20,
) -> None:
    """Find messages in all sessions, the latest sessions first. Reads every message."""
    rows, damaged = context.run(_found(context, SessionQuery(user_id=user, tag=tag), query, limit))
    if context.options.as_json:
        context.write_json(rows)
    elif rows:
        cells = ([row["session_id"], str(row["position"]), row["role"], row["time"], row["text"]] for row in rows)
        print_table(context.out, ("session", "position", "role", "time (UTC)", "text"), cells, whole=("position",))
    else:
        context.say("no message contains it")
    if damaged:
        context.say(f"{amount(damaged, 'session')} cannot be read; `luminora doctor` says more")
        raise typer.Exit(FAILED)


async def _found(context: CommandContext, query: SessionQuery, text: str, limit: int) -> tuple[list[JSONObject], int]:
    rows: list[JSONObject] = []
    damaged = 0
    latest_first = attrs.evolve(query, by_activity=True, newest_first=True)
    async with aclosing(headers(context.storage, latest_first)) as sessions:
        async for header in sessions:
            try:
                found = await context.manager.conversation_manager.search_messages(
                    header.session_id, text, limit - len(rows)
                )
            except CorruptRecordError:
                damaged += 1
                continue
            rows += [_row(header.session_id, message) for message in found]
            if len(rows) >= limit:
                break
    return rows, damaged


def _row(session_id: str, message: Message) -> JSONObject:
    return {
        "session_id": session_id,
        "message_id": message.id,
        "position": message.position,
        "role": message.role.value,
        "time": moment(message.timestamp) if message.timestamp else "",
        "text": brief_text(message) or display(message.content),
    }
