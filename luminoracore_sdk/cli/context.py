"""What every command shares: options, store, managers, event loop, output, one-line errors, exit codes."""

import asyncio
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, Self, TypeVar

import attrs
import platformdirs
import typer
from rich.console import Console

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.exchange.export_import import SessionExchange, json_text
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.sessions import Sessions
from luminoracore_sdk.bootstrap.config import Settings
from luminoracore_sdk.cli.output import printable
from luminoracore_sdk.cli.stores import NoStoreError, existing, is_server, store_name
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, SessionNotFoundError

if TYPE_CHECKING:
    from luminoracore_sdk.bootstrap.container import Container

__all__ = [
    "FAILED",
    "NOT_FOUND",
    "STOPPED",
    "USAGE",
    "CommandContext",
    "JsonOption",
    "Options",
    "StoreOption",
    "VerboseOption",
    "command",
    "error_line",
    "not_empty",
]


T = TypeVar("T")

_NAMES_STORE = (
    "LUMINORA_STORE",
    "LUMINORA_STORAGE_STORAGE_TYPE",
    "LUMINORA_STORAGE_CONNECTION_STRING",
    "LUMINORA_STORAGE_FILE_PATH",
)


@attrs.frozen(kw_only=True)
class Options:
    """The options that every command has.

    Attributes:
        store: URL of the store; None: ``LUMINORA_STORE``, else SQLite in the user's data folder.
        as_json: Machine-readable on stdout.
        verbose: Tracebacks with errors.
    """

    store: str | None = None
    as_json: bool = False
    verbose: bool = False


def _default_store() -> str:
    folder = Path(platformdirs.user_data_dir("luminora", appauthor=False))
    return f"sqlite:///{folder / 'sessions.db'}"


def _settings(store: str | None) -> Settings:
    """Read the environment; a store that is named takes the place of the one there alone."""
    environ = dict(os.environ)
    if store is None and not _names_store(environ):
        store = _default_store()
    if store is not None:
        environ = {name: value for name, value in environ.items() if name not in _NAMES_STORE}
        environ["LUMINORA_STORE"] = store
    return Settings.from_environment(environ)


def _silence_stamina() -> None:
    """Leave it to our own log to tell of a retry; the library's default is a line that says nothing else."""
    with suppress(ImportError):  # who asks for retries without it is told so in a moment
        from stamina.instrumentation import set_on_retry_hooks  # noqa: PLC0415  # an extra

        set_on_retry_hooks(())


def _names_store(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in _NAMES_STORE)


class CommandContext:
    """Holds the store, and closes everything at the end of its ``with`` block.

    Results go to stdout, everything else to stderr. The event loop runs only while it is given work,
    so that waiting for the user's next line is left to plain blocking calls, which Ctrl-C interrupts.

    Args:
        options: As the user gave them.

    Attributes:
        options: As the user gave them.
        out: Console on stdout.
        err: Console on stderr.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)
        self._runner = asyncio.Runner()
        self._opened = AsyncExitStack()
        self._container: Container | None = None
        self._manager: Sessions | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._runner:
            self._runner.run(self._opened.aclose())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something asynchronous to its end."""
        return self._runner.run(work)

    # -- the package -----------------------------------------------------------------------------

    @property
    def container(self) -> "Container":
        """The container, configured; nothing is opened yet."""
        if self._container is None:
            # only here: the container's package takes longer to import than all else, and --help needs none
            from luminoracore_sdk.bootstrap.container import make_container  # noqa: PLC0415

            settings = _settings(self.options.store)
            if settings.storage.retry_attempts > 1:
                _silence_stamina()
            self._container = make_container(settings)
        return self._container

    @property
    def store_name(self) -> str:
        """Where the store lies, without a password."""
        return store_name(self.container.settings().storage)

    @property
    def is_server(self) -> bool:
        """Whether the store is a server, which can be away."""
        return is_server(self.container.settings().storage)

    @property
    def is_default_store(self) -> bool:
        """Whether nobody named a store."""
        return self.options.store is None and not _names_store(os.environ)

    def open(self, *, makes: bool) -> None:
        """Open the store.

        Args:
            makes: Whether one that does not exist is made, and the tables of an old one brought up to date.

        Raises:
            NoStoreError: It does not exist and is not made.
            ConfigurationError: A URL or a variable of the environment that cannot work.
            StorageError: The store cannot be opened.
        """
        from luminoracore_sdk.bootstrap.container import make_container, running  # noqa: PLC0415  # as above

        if not makes:
            settings = self.container.settings()
            self._container = make_container(attrs.evolve(settings, storage=existing(settings.storage)))
        self._manager = self.run(self._opened.enter_async_context(running(self.container)))

    @property
    def manager(self) -> Sessions:
        """The SessionManager over the store, which is open."""
        if self._manager is None:
            raise RuntimeError("the context is not open")
        return self._manager

    @property
    def storage(self) -> SessionStorage:
        """The store."""
        return self.manager.storage

    @property
    def services(self) -> Services:
        """Codec, clock, ids and the provider registry."""
        return self.container.services()

    def exchange(self) -> SessionExchange:
        """Return the use cases of import and export, over the store."""
        return SessionExchange(storage=self.storage, services=self.services, values=JsonCodec())

    # -- the user --------------------------------------------------------------------------------

    @property
    def is_at_keyboard(self) -> bool:
        """Whether somebody can be asked: input and stderr are a terminal."""
        return sys.stdin.isatty() and self.err.is_terminal

    def ask(self, question: str) -> bool:
        """Ask a question that is answered with y or n; the end of input is no."""
        try:
            answer = self.err.input(f"{printable(question)} [y/N] ", markup=False)
        except EOFError:
            self.say("")
            return False
        return answer.strip().lower() in {"y", "yes"}

    # -- the outputs -----------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Tell the user something beside the result, on stderr."""
        self.err.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def write(self, text: str) -> None:
        """Write a piece of the result as it is, at once."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def write_json(self, value: object) -> None:
        """Write a JSON value on one line of stdout."""
        self.write(f"{json_text(value)}\n")


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160  # a pipe has no width; ids and names should not be folded for want of one
    return console


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
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for scripts.", show_default=False)]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show a traceback with an error.", show_default=False)]

_SHARED = {"store": (StoreOption, None), "as_json": (JsonOption, False), "verbose": (VerboseOption, False)}


def command(
    group: typer.Typer, name: str, *, opens: bool = True, makes: bool = False
) -> Callable[[Callable[Concatenate[CommandContext, P], None]], Callable[Concatenate[CommandContext, P], None]]:
    """Register a function as a command; it gets a ``CommandContext`` and its own parameters.

    The common options are taken behind the command as well as in front of it.

    Args:
        group: Where the command belongs.
        name: What the user types.
        opens: Whether the context is opened before.
        makes: Whether a store that does not exist is made by that.
    """

    def register(
        body: Callable[Concatenate[CommandContext, P], None],
    ) -> Callable[Concatenate[CommandContext, P], None]:
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
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [context, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *shared]
        vars(run)["__signature__"] = signature.replace(parameters=parameters)
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        group.command(name)(run)
        return body

    return register


def _run(body: Callable[[CommandContext], None], options: Options, *, opens: bool, makes: bool) -> None:
    context = CommandContext(options)
    try:
        with context:
            if opens:
                context.open(makes=makes)
            body(context)
    except (LuminoraCoreSDKError, OSError) as exc:
        if isinstance(exc, BrokenPipeError):  # the reader has gone; typer ends quietly
            raise
        _report(context, exc)
        absent = isinstance(exc, SessionNotFoundError | NoStoreError)
        raise typer.Exit(NOT_FOUND if absent else FAILED) from exc
    except KeyboardInterrupt as exc:
        context.say("\nstopped")
        raise typer.Exit(STOPPED) from exc


def _report(context: CommandContext, error: Exception) -> None:
    if context.options.verbose:
        traceback.print_exception(error)
    context.say(f"luminora: {error_line(error)}")


def error_line(error: Exception) -> str:
    """Return an error on one line, as a person reads it."""
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, LuminoraCoreSDKError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return printable(text).replace("\n", "\\n")
