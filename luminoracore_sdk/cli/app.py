"""The ``luminora`` command: its groups, its global options and its entry point."""

import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import luminoracore_sdk
from luminoracore_sdk.cli import (
    change,
    chat,
    copy,
    doctor,
    export_import,
    mcp,
    migrate,
    optimize,
    recall,
    report,
    retention,
    sessions,
    users,
    watch,
)
from luminoracore_sdk.cli.context import JsonOption, Options, StoreOption, VerboseOption, command
from luminoracore_sdk.cli.output import public_url

__all__ = ["app"]


_UsageError: Any = typer.BadParameter.__base__  # typer has no other public name for it


class _Luminora(TyperGroup):
    """The command; its usage errors quote arguments, but no password of a URL."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command of the arguments."""
        try:
            return super().invoke(ctx)
        except _UsageError as exc:
            exc.message = re.sub(r"(?s)[\w+.-]+://.*", lambda found: public_url(found[0]), exc.message)
            raise


app = typer.Typer(
    name="luminora",
    cls=_Luminora,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Store AI conversations: chat, resume, inspect, copy.",
)
_sessions = typer.Typer(no_args_is_help=True, help="List, show, change, delete, export and import sessions.")
app.add_typer(_sessions, name="sessions")
_users = typer.Typer(no_args_is_help=True, help="Erase or export all that is stored of a user; count tokens.")
app.add_typer(_users, name="users")
_optimize = typer.Typer(no_args_is_help=True, help="Measure a store and make it smaller.")
app.add_typer(_optimize, name="optimize")

command(app, "chat", opens=False)(chat.chat)
command(app, "copy", opens=False, names_stores=True)(copy.copy)
command(app, "doctor", opens=False)(doctor.doctor)
command(app, "mcp", opens=False)(mcp.mcp)
command(app, "migrate", opens=False)(migrate.migrate)
command(app, "recall", opens=False)(recall.recall)
command(app, "reindex", opens=False)(recall.reindex)
command(app, "retention")(retention.retention)
command(app, "watch")(watch.watch)
command(_optimize, "report", opens=False)(report.report)
command(_optimize, "rewrite", opens=False)(optimize.rewrite)
command(_optimize, "train", opens=False)(optimize.train_dictionary)
command(_sessions, "list", opens=False)(sessions.list_sessions)
command(_sessions, "show")(sessions.show)
command(_sessions, "delete")(sessions.delete)
command(_sessions, "rename")(change.rename)
command(_sessions, "tag")(change.tag)
command(_sessions, "archive")(change.archive)
command(_sessions, "pin")(change.pin)
command(_sessions, "fork")(change.fork)
command(_sessions, "search")(change.search)
command(_sessions, "export")(export_import.export_sessions)
command(_sessions, "import", creates=True)(export_import.import_sessions)
command(_users, "erase")(users.erase)
command(_users, "export")(users.export)
command(_users, "usage")(users.usage)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  # as typer calls it
    if wanted:
        typer.echo(f"luminora {luminoracore_sdk.__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    context.obj = Options(store=store, as_json=as_json, verbose=verbose)
