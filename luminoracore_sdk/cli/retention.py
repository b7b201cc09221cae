"""``luminora retention``."""

import re
from datetime import timedelta
from typing import Annotated

import typer

from luminoracore_sdk.cli.context import FAILED, USAGE, CommandContext, not_empty
from luminoracore_sdk.cli.output import amount, printable
from luminoracore_sdk.cli.sessions import confirm
from luminoracore_sdk.domain.retention import RetentionPolicy

__all__ = ["duration", "retention"]

_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Return the duration of a whole number with a unit: ``30s``, ``15m``, ``12h``, ``90d``, ``4w``."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter("write a whole number and s, m (minutes), h, d or w, such as 90d")
    try:
        length = timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError as exc:
        raise typer.BadParameter("it is too long") from exc
    if not length:
        raise typer.BadParameter("it must be above 0")
    return length


def retention(
    context: CommandContext,
    *,
    max_age: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="TIME", help="Delete sessions created longer ago, such as 90d or 12h."),
    ] = None,
    idle: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="TIME", help="Delete sessions without activity for longer."),
    ] = None,
    max_messages: Annotated[
        int | None, typer.Option(min=1, help="Delete the oldest messages above this number.", show_default=False)
    ] = None,
    keep_latest: Annotated[
        int | None,
        typer.Option(min=1, help="Keep this many of the newest sessions of each user.", show_default=False),
    ] = None,
    hold: Annotated[
        str | None,
        typer.Option(metavar="TAG", help="Leave sessions with this tag alone.", show_default=False, callback=not_empty),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Only sessions of this user.", show_default=False, callback=not_empty)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.", show_default=False)] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.", show_default=False)] = False,
) -> None:
    """Delete old and idle sessions, and the oldest messages of long ones."""
    if max_age is None and idle is None and max_messages is None:
        context.say("nothing to delete: give --max-age, --idle or --max-messages")
        raise typer.Exit(USAGE)
    policy = RetentionPolicy(max_age=max_age, idle=idle, max_messages=max_messages, keep_latest=keep_latest, hold=hold)
    apply = context.manager.apply_retention
    if not (dry_run or yes):
        planned = context.run(apply(policy, user_id=user, dry_run=True))
        counts = amount(planned.sessions, "session"), amount(planned.trimmed_messages, "message")
        confirm(context, f"Delete {counts[0]}, and {counts[1]} of others?")
    report = context.run(apply(policy, user_id=user, dry_run=dry_run))
    if context.options.as_json:
        context.write_json(report.to_dict())
    else:
        facts = report.to_dict()
        for session_id in facts.pop("session_ids"):
            context.write(f"session: {printable(session_id)}\n")
        for name, value in facts.items():
            context.write(f"{name}: {'yes' if value is True else 'no' if value is False else value}\n")
    if report.unreadable:
        context.say(f"kept {amount(report.unreadable, 'session')} that cannot be read")
        raise typer.Exit(FAILED)
    did = "would delete" if dry_run else "deleted"
    context.say(
        f"{did} {amount(report.sessions, 'session')}, and {amount(report.trimmed_messages, 'message')} of others"
    )
