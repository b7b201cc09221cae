"""``luminora users erase | export | usage``."""

from collections.abc import AsyncIterator
from datetime import date, datetime
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from luminoracore_sdk.application.exchange.raw_json import read_json
from luminoracore_sdk.cli.context import FAILED, USAGE, CommandContext
from luminoracore_sdk.cli.export_import import output_target
from luminoracore_sdk.cli.output import amount, print_table
from luminoracore_sdk.cli.sessions import confirm
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.usage import Price

__all__ = ["App", "Tenant", "erase", "export", "usage"]

Tenant = Annotated[str | None, typer.Option("--tenant", help="Tenant of the user.", show_default=False)]
App = Annotated[str | None, typer.Option("--app", help="App of the user.", show_default=False)]
UserId = Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")]


def erase(
    context: CommandContext,
    user: UserId,
    *,
    tenant: Tenant = None,
    app: App = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.", show_default=False)] = False,
) -> None:
    """Delete every session and memory of a user, verify that nothing is left, and print the receipt."""
    if not yes:
        count = len(context.run(context.manager.for_user(user, tenant, app).list_sessions()))
        confirm(context, f"Erase user {user}, {amount(count, 'session')}, with all messages and memories?")
    receipt = context.run(context.manager.erase_user(user, tenant, app)).to_dict()
    if context.options.as_json:
        context.write_json(receipt)
    else:
        for name, value in receipt.items():
            context.write(f"{name}: {'yes' if value is True else 'no' if value is False else value}\n")
    if not receipt["verified"]:
        context.say(f"another process keeps on writing for user {user}; stop it and repeat the command")
        raise typer.Exit(FAILED)
    context.say(f"erased user {user}")


def export(
    context: CommandContext,
    user: UserId,
    *,
    tenant: Tenant = None,
    app: App = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.", show_default=False)
    ] = None,
) -> None:
    """Write the sessions and memories of a user as JSON lines, which `luminora sessions import` reads."""
    with output_target(output) as target:
        lines = context.run(_write(context.manager.export_user(user, tenant, app), target))
    if output is not None and context.options.as_json:
        context.write_json({"lines": lines, "file": str(output)})
    context.say(f"exported {amount(lines, 'line')}" + (f" to {output}" if output else ""))


async def _write(pieces: AsyncIterator[str], target: IO[str]) -> int:
    lines = 0
    async for piece in pieces:
        target.write(piece)
        lines += piece.endswith("\n")
    return lines


_NUMBERS = ("input", "cached", "output")


def usage(
    context: CommandContext,
    user: UserId,
    *,
    tenant: Tenant = None,
    app: App = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only answers of this day (UTC) or later.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only answers before this day.")] = None,
    prices: Annotated[
        Path | None,
        typer.Option(help='JSON file: {"model": {"input": 1.25, "output": 10}}, for a million tokens.'),
    ] = None,
) -> None:
    """Count the tokens of a user's sessions by model, and what they cost."""
    table = None if prices is None else _prices(context, prices)
    period = (_day(since), _day(until))
    found = context.run(context.manager.for_user(user, tenant, app).usage(since=period[0], until=period[1]))
    cost = None if table is None else str(found.cost(table))
    if context.options.as_json:
        context.write_json({"user_id": user, **found.to_dict(), "cost": cost})
    elif found.models:
        rows = (
            [
                one.model or "(unnamed)",
                *(f"{n:,}" for n in (one.input_tokens, one.cached_input_tokens, one.output_tokens)),
            ]
            for one in found.models
        )
        print_table(context.out, ("model", *_NUMBERS), rows, whole=_NUMBERS)
    else:
        context.say("no answer of these sessions says how many tokens it used")
    if cost is not None:
        context.say(f"cost: {cost}")


def _day(time: datetime | None) -> date | None:
    return None if time is None else time.date()


def _prices(context: CommandContext, path: Path) -> dict[str, Price]:
    try:
        data: Any = read_json(path.read_bytes())
        return {model: Price(**price) for model, price in data.items()}
    except (OSError, ValueError, TypeError, AttributeError, ValidationError) as exc:
        context.say(f"{path} is not a table of prices: {exc}")
        raise typer.Exit(USAGE) from exc
