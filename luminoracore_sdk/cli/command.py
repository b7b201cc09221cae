"""What every command shares: the common options, one desk, errors in one line, exit codes."""

import functools
import inspect
import traceback
from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from luminoracore_sdk.cli.desk import Desk, Options
from luminoracore_sdk.cli.render import printable
from luminoracore_sdk.cli.stores import NoStoreError
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, SessionNotFoundError

__all__ = [
    "FAILED",
    "NOT_FOUND",
    "STOPPED",
    "USAGE",
    "JsonOption",
    "StoreOption",
    "VerboseOption",
    "command",
    "error_line",
    "not_empty",
]

FAILED = 1
USAGE = 2
NOT_FOUND = 3
STOPPED = 130

P = ParamSpec("P")


def not_empty(value: str | None) -> str | None:
    """Refuse an empty text, where one is given."""
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty")
    return value


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where sessions are kept: sqlite:///FILE, file://FOLDER, memory://, postgresql://…, redis://… "
        "or mongodb://…. Default: LUMINORA_STORE, else SQLite in your data folder.",
        show_default=False,
        callback=not_empty,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Write JSON to stdout, for scripts.", show_default=False)
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", help="Show a traceback with an error.", show_default=False)
]

_SHARED = {"store": (StoreOption, None), "as_json": (JsonOption, False), "verbose": (VerboseOption, False)}


def command(
    group: typer.Typer, name: str, *, opens: bool = True, makes: bool = False
) -> Callable[[Callable[Concatenate[Desk, P], None]], Callable[Concatenate[Desk, P], None]]:
    """Register a function as a command; it gets a ``Desk`` and its own parameters.

    The common options are taken behind the command as well as in front of it.

    Args:
        group: Where the command belongs.
        name: What the user types.
        opens: Whether the desk is opened before.
        makes: Whether a store that does not exist is made by that.
    """

    def register(body: Callable[Concatenate[Desk, P], None]) -> Callable[Concatenate[Desk, P], None]:
        @functools.wraps(body)
        def run(context: typer.Context, **given: Any) -> None:
            before: Options = context.find_root().obj
            own = {key: given.pop(key) or getattr(before, key) for key in _SHARED}
            _run(functools.partial(body, **given), Options(**own), opens=opens, makes=makes)

        signature = inspect.signature(body, eval_str=True)
        own = list(signature.parameters.values())[1:]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in _SHARED.items()
        ]
        context = inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        parameters = [context, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *shared]
        vars(run)["__signature__"] = signature.replace(parameters=parameters)
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        group.command(name)(run)
        return body

    return register


def _run(body: Callable[[Desk], None], options: Options, *, opens: bool, makes: bool) -> None:
    desk = Desk(options)
    try:
        with desk:
            if opens:
                desk.open(makes=makes)
            body(desk)
    except (LuminoraCoreSDKError, OSError) as exc:
        if isinstance(exc, BrokenPipeError):  # the reader has gone; typer ends quietly
            raise
        _report(desk, exc)
        absent = isinstance(exc, SessionNotFoundError | NoStoreError)
        raise typer.Exit(NOT_FOUND if absent else FAILED) from exc
    except KeyboardInterrupt as exc:
        desk.say("\nstopped")
        raise typer.Exit(STOPPED) from exc


def _report(desk: Desk, error: Exception) -> None:
    if desk.options.verbose:
        traceback.print_exception(error)
    desk.say(f"luminora: {error_line(error)}")


def error_line(error: Exception) -> str:
    """Return an error on one line, as a person reads it."""
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, LuminoraCoreSDKError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return printable(text).replace("\n", "\\n")
