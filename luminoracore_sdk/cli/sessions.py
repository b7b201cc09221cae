"""``luminora sessions list | show | delete``."""

from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from luminoracore_sdk.application.ports.records import SessionQuery, SessionRecord
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.cli.context import FAILED, USAGE, CommandContext
from luminoracore_sdk.cli.output import amount, display, moment, print_table
from luminoracore_sdk.cli.stores import NoStoreError
from luminoracore_sdk.domain.errors import CorruptRecordError, SessionNotFoundError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import ARCHIVED, PINNED, RESERVED_TAGS
from luminoracore_sdk.domain.values import from_microseconds

__all__ = ["confirm", "delete", "list_sessions", "message_text_of", "print_memory", "show"]

_CREATED, _ACTIVE, _SINCE = "created (UTC)", "last activity (UTC)", "since (UTC)"
_COLUMNS = ("session", "title", "personality", "provider", "msgs", _CREATED, _ACTIVE, "tags")

SessionId = Annotated[str, typer.Argument(metavar="ID", help="Id of the session.")]


# -- list ----------------------------------------------------------------------------------------


def list_sessions(
    context: CommandContext,
    *,
    user: Annotated[str | None, typer.Option(help="Only sessions of this user.", show_default=False)] = None,
    tag: Annotated[str | None, typer.Option(help="Only sessions with this tag.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of sessions.")] = 50,
) -> None:
    """List sessions, the newest first."""
    rows = _listed(context, user, tag, limit + 1)
    shown = rows[:limit]
    damaged = sum(row["damaged"] for row in shown)
    if context.options.as_json:
        context.write_json(shown)
    elif shown:
        cells = (_cells(row) for row in shown)
        print_table(
            context.out, _COLUMNS, cells, whole=("msgs", _CREATED, _ACTIVE), spare=("provider", "personality", _CREATED)
        )
    else:
        context.say("no sessions")
    if len(rows) > limit:
        context.say(f"there are more than {limit} sessions; use --limit to show more")
    if damaged:
        context.say(
            f"{amount(damaged, 'session')} of these cannot be read; `luminora sessions show ID` shows the error"
        )
        raise typer.Exit(FAILED)


def _listed(context: CommandContext, user: str | None, tag: str | None, count: int) -> list[JSONObject]:
    """Return the rows; a default store that does not exist yet has none."""
    try:
        context.open(creates=False)
    except NoStoreError:
        if not context.is_default_store:
            raise
        return []
    query = SessionQuery(user_id=user, tag=tag, newest_first=True)
    return context.run(_rows(context, query, count))


async def _rows(context: CommandContext, query: SessionQuery, count: int) -> list[JSONObject]:
    rows: list[JSONObject] = []
    async with aclosing(headers(context.storage, query)) as found:
        async for header in found:
            rows.append(await _row(context, header))
            if len(rows) == count:
                break
    return rows


async def _row(context: CommandContext, header: SessionRecord) -> JSONObject:
    """Return a row; if the document is damaged or not a session's, the row has the fields of the header only."""
    damaged = False
    title = None
    try:
        session = await context.manager.get_session(header.session_id)
        info = session.info() if session else {}
        title = session.config.title if session else None
    except CorruptRecordError:
        damaged = not await _is_own_document(context, header.session_id)
        info = {"personality": None if damaged else "(not readable)"}
    return {
        "session_id": header.session_id,
        "title": title,
        "personality": info.get("personality"),
        "provider": info.get("provider"),
        "model": info.get("model"),
        "message_count": header.last_position,
        "created_at": from_microseconds(header.created_at_us).isoformat(),
        "last_activity": from_microseconds(header.updated_at_us).isoformat(),
        "user_id": header.user_id,
        "tags": [tag for tag in header.tags if not tag.startswith(RESERVED_TAGS)],
        "archived": ARCHIVED in header.tags,
        "pinned": PINNED in header.tags,
        "damaged": damaged,
    }


async def _is_own_document(context: CommandContext, session_id: str) -> bool:
    """Return whether the document is readable JSON that ``save_session`` of a storage stored."""
    try:
        document = await context.storage.load_session(session_id)
    except CorruptRecordError:
        return False
    return document is not None and "v" not in document


def _cells(row: JSONObject) -> list[str]:
    return [
        row["session_id"],
        row["title"] or "",
        "damaged" if row["damaged"] else row["personality"] or "",
        row["provider"] or "",
        str(row["message_count"]),
        moment(datetime.fromisoformat(row["created_at"])),
        moment(datetime.fromisoformat(row["last_activity"])),
        ", ".join([*row["tags"], *(f"({flag})" for flag in ("archived", "pinned") if row[flag])]),
    ]


# -- show ----------------------------------------------------------------------------------------


def show(
    context: CommandContext,
    session_id: SessionId,
    *,
    last: Annotated[
        int | None, typer.Option(min=0, help="Show only this many of the newest messages.", show_default=False)
    ] = None,
) -> None:
    """Show a session: its header, its messages, its memories."""
    session = context.run(context.manager.get_session(session_id))
    if session is None:
        raise SessionNotFoundError(session_id, backend=context.storage.backend)
    conversations = context.manager.conversation_manager
    count = context.run(conversations.get_message_count(session_id))
    after = 0 if last is None else context.run(_before_newest(context, session_id, last))
    entries = context.run(context.manager.memory_manager.list_entries(session_id))
    if context.options.as_json:
        context.run(_write_json(context, session, after, entries))
        return
    for line in _header_lines(session, count):
        context.out.print(line, soft_wrap=True)
    context.run(_print_messages(context, session, after))
    print_memory(context, entries)


async def _before_newest(context: CommandContext, session_id: str, count: int) -> int:
    record = await context.storage.find_session(session_id)
    return 0 if record is None else await context.manager.conversation_manager.before_newest(record, count)


def _header_lines(session: Session, messages: int) -> list[Text]:
    info, provider = session.info(), session.provider or {}
    facts = {
        "session": session.session_id,
        "title": session.config.title or "",
        "personality": info["personality"],
        "provider": " ".join(filter(None, (provider.get("name"), provider.get("model")))) or "none",
        "user": session.config.user_id or "",
        "tags": ", ".join(session.config.tags),
        "flags": ", ".join(name for name in ("archived", "pinned") if getattr(session.config, name)),
        "created": f"{moment(session.created_at)} UTC",
        "messages": str(messages),
        "system prompt": session.personality.get("system_prompt", ""),
    }
    return [Text.assemble((f"{name}: ", "bold"), display(value)) for name, value in facts.items() if value]


async def _print_messages(context: CommandContext, session: Session, after: int) -> None:
    messages = context.manager.conversation_manager.stream_messages(session.session_id, after=after)
    async for message in messages:
        context.out.print(message_text_of(message), soft_wrap=True)


def message_text_of(message: Message) -> Text:
    """Return one message for display: position, time, role, content."""
    time = moment(message.timestamp) if message.timestamp else ""
    head = f"\n[{message.position}] {time} {message.role}\n"
    return Text.assemble((head, "bold cyan"), display(message.content))


def print_memory(context: CommandContext, entries: list[MemoryEntry]) -> None:
    """Print memories as a table."""
    rows = ((entry.key, display(entry.value), moment(entry.updated_at)) for entry in entries)
    if entries:
        print_table(context.out, ("remembers", "value", _SINCE), rows, whole=(_SINCE,))


async def _write_json(context: CommandContext, session: Session, after: int, entries: list[MemoryEntry]) -> None:
    messages = context.manager.conversation_manager.stream_messages(session.session_id, after=after)
    history = [message.to_dict() async for message in messages]
    memories = [entry.to_dict() for entry in entries]
    context.write_json({**session.to_dict(), "messages": history, "memories": memories})


# -- delete --------------------------------------------------------------------------------------


def delete(
    context: CommandContext,
    session_id: SessionId,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.", show_default=False)] = False,
) -> None:
    """Delete a session with its messages and memories."""
    content = _content(context, session_id)
    if not yes:
        confirm(context, f"Delete session {session_id}, {content}?")
    if not context.run(context.manager.delete_session(session_id)):
        raise SessionNotFoundError(session_id, backend=context.storage.backend)
    if context.options.as_json:
        context.write_json({"deleted": session_id})
    context.say(f"deleted session {session_id}, {content}")


def _content(context: CommandContext, session_id: str) -> str:
    try:
        record = context.run(context.storage.find_session(session_id))
    except CorruptRecordError:  # it can be deleted all the same
        return "damaged"
    if record is None:
        raise SessionNotFoundError(session_id, backend=context.storage.backend)
    return amount(record.last_position, "message")


def confirm(context: CommandContext, question: str) -> None:
    """Go on if the question is answered with yes; else end the command.

    Raises:
        Exit: It was answered with no, or cannot be asked.
    """
    if not context.is_at_keyboard:
        context.say("nothing was deleted: without a terminal, confirm with --yes")
        raise typer.Exit(USAGE)
    if not context.ask(question):
        context.say("nothing was deleted")
        raise typer.Exit(FAILED)
