"""``luminora users erase | export``."""

from pathlib import Path
from typing import IO, Annotated

import typer

from luminoracore_sdk.cli.context import FAILED, CommandContext
from luminoracore_sdk.cli.export_import import output_target
from luminoracore_sdk.cli.output import amount
from luminoracore_sdk.cli.sessions import confirm

__all__ = ["erase", "export"]

Tenant = Annotated[str | None, typer.Option("--tenant", help="Tenant of the user.", show_default=False)]
UserId = Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")]


def erase(
    context: CommandContext,
    user: UserId,
    *,
    tenant: Tenant = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.", show_default=False)] = False,
) -> None:
    """Delete every session and memory of a user, verify that nothing is left, and print the receipt."""
    if not yes:
        count = len(context.run(context.manager.for_user(user, tenant).list_sessions()))
        confirm(context, f"Erase user {user}, {amount(count, 'session')}, with all messages and memories?")
    receipt = context.run(context.manager.erase_user(user, tenant)).to_dict()
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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.", show_default=False)
    ] = None,
) -> None:
    """Write the sessions and memories of a user as JSON lines, which `luminora sessions import` reads."""
    with output_target(output) as target:
        lines = context.run(_write(context, user, tenant, target))
    if output is not None and context.options.as_json:
        context.write_json({"lines": lines, "file": str(output)})
    context.say(f"exported {amount(lines, 'line')}" + (f" to {output}" if output else ""))


async def _write(context: CommandContext, user: str, tenant: str | None, target: IO[str]) -> int:
    lines = 0
    async for piece in context.manager.export_user(user, tenant):
        target.write(piece)
        lines += piece.endswith("\n")
    return lines
