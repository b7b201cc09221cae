"""The context of a command: options, store, managers, event loop, output, one-line errors, exit codes."""

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
from luminoracore_sdk.bootstrap.managers import searching
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
    """The options of every command.

    Attributes:
        store: URL of the store; None: ``LUMINORA_STORE``, else SQLite in the user's data folder.
        as_json: Whether to write JSON to stdout.
        verbose: Whether to show tracebacks of errors.
    """

    store: str | None = None
    as_json: bool = False
    verbose: bool = False


def _default_store() -> str:
    folder = Path(platformdirs.user_data_dir("luminora", appauthor=False))
    return f"sqlite:///{folder / 'sessions.db'}"


def _settings(store: str | None) -> Settings:
    """Return settings from the environment; a given store replaces the one named there, nothing else."""
    environ = dict(os.environ)
    if store is None and not _names_store(environ):
        store = _default_store()
    if store is not None:
        environ = {name: value for name, value in environ.items() if name not in _NAMES_STORE}
        environ["LUMINORA_STORE"] = store
    return Settings.from_environment(environ)


def _silence_stamina() -> None:
    """Remove stamina's log lines about retries: ``RetryingStorage`` logs them with the error."""
    with suppress(ImportError):  # creating the storage reports the missing extra
        from stamina.instrumentation import set_on_retry_hooks  # noqa: PLC0415  # an extra

        set_on_retry_hooks(())


def _names_store(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name, "").strip() for name in _NAMES_STORE)


class CommandContext:
    """Hold the store of a command, and close everything at the end of its ``with`` block.

    Results go to stdout, everything else to stderr. The event loop runs only during ``run``, so that input is read
    by blocking calls, which Ctrl-C interrupts.

    Args:
        options: The options of the command.

    Attributes:
        options: The options of the command.
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
        """Run a coroutine and return its result."""
        return self._runner.run(work)

    # -- store -----------------------------------------------------------------------------------

    @property
    def container(self) -> "Container":
        """The configured container; nothing is opened yet."""
        if self._container is None:
            # imported here because dependency_injector takes longer to import than everything else together
            from luminoracore_sdk.bootstrap.container import make_container  # noqa: PLC0415

            settings = _settings(self.options.store)
            if settings.storage.retry_attempts > 1:
                _silence_stamina()
            self._container = make_container(settings)
        return self._container

    @property
    def store_name(self) -> str:
        """The location of the store, without a password."""
        return store_name(self.container.settings().storage)

    @property
    def is_server(self) -> bool:
        """Whether the store is a server."""
        return is_server(self.container.settings().storage)

    @property
    def is_default_store(self) -> bool:
        """Whether neither an option nor the environment names a store."""
        return self.options.store is None and not _names_store(os.environ)

    def open(self, *, creates: bool) -> None:
        """Open the store.

        Args:
            creates: Whether to create a missing store and to migrate old tables.

        Raises:
            NoStoreError: The store does not exist, and ``creates`` is False.
            ConfigurationError: A URL or an environment variable cannot work.
            StorageError: The store cannot be opened.
        """
        from luminoracore_sdk.bootstrap.container import make_container, running  # noqa: PLC0415  # as above

        if not creates:
            settings = self.container.settings()
            self._container = make_container(attrs.evolve(settings, storage=existing(settings.storage)))
        self._manager = self.run(self._opened.enter_async_context(running(self.container)))

    @property
    def manager(self) -> Sessions:
        """The SessionManager over the open store."""
        if self._manager is None:
            raise RuntimeError("the store is not open")
        return self._manager

    @property
    def storage(self) -> SessionStorage:
        """The store."""
        return self.manager.storage

    @property
    def services(self) -> Services:
        """The other ports: codec, clock, ids, token counter, notations, provider registry."""
        services = self.container.services()
        return services if self._manager is None else searching(services, self.storage)

    def exchange(self) -> SessionExchange:
        """Return the use cases of import and export for the store."""
        return SessionExchange(storage=self.storage, services=self.services, values=JsonCodec())

    # -- input and output ------------------------------------------------------------------------

    @property
    def is_at_keyboard(self) -> bool:
        """Whether questions can be asked: stdin and stderr are terminals."""
        return sys.stdin.isatty() and self.err.is_terminal

    def ask(self, question: str) -> bool:
        """Return the answer to a yes-or-no question; the end of input is no."""
        try:
            answer = self.err.input(f"{printable(question)} [y/N] ", markup=False)
        except EOFError:
            self.say("")
            return False
        return answer.strip().lower() in {"y", "yes"}

    def say(self, text: str) -> None:
        """Write a message to stderr."""
        self.err.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def write(self, text: str) -> None:
        """Write part of the result to stdout, unbuffered."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def write_json(self, value: object) -> None:
        """Write a JSON value on one line of stdout."""
        self.write(f"{json_text(value)}\n")


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160  # a pipe has no width; do not fold ids and names
    return console


FAILED = 1
USAGE = 2
NOT_FOUND = 3
STOPPED = 130

P = ParamSpec("P")


def not_empty(value: str | None) -> str | None:
    """Refuse an empty value of an option."""
    if value is not None and not value.strip():
        raise typer.BadParameter("it must not be empty")
    return value


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="URL of the store: sqlite:///FILE, file://FOLDER, memory://, postgresql://…, redis://… "
        "or mongodb://…. Default: LUMINORA_STORE, else SQLite in your data folder.",
        show_default=False,
        callback=not_empty,
    ),
]
HiddenStoreOption = Annotated[str | None, typer.Option("--store", hidden=True, callback=not_empty)]
"""Of a command whose arguments name its stores; it says so when it is given one."""

JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.", show_default=False)]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show tracebacks of errors.", show_default=False)]

_SHARED = {"store": (StoreOption, None), "as_json": (JsonOption, False), "verbose": (VerboseOption, False)}


def command(
    group: typer.Typer, name: str, *, opens: bool = True, creates: bool = False, names_stores: bool = False
) -> Callable[[Callable[Concatenate[CommandContext, P], None]], Callable[Concatenate[CommandContext, P], None]]:
    """Register a function as a command; it is called with a ``CommandContext`` and its own parameters.

    The common options are accepted before and after the name of the command.

    Args:
        group: The group of the command.
        name: The name of the command.
        opens: Whether to open the store before the call.
        creates: Whether to create a missing store.
        names_stores: Whether its arguments name the stores; then its help does not show ``--store``.
    """

    def register(
        body: Callable[Concatenate[CommandContext, P], None],
    ) -> Callable[Concatenate[CommandContext, P], None]:
        @functools.wraps(body)
        def run(context: typer.Context, **given: Any) -> None:
            before: Options = context.find_root().obj
            own = {key: given.pop(key) or getattr(before, key) for key in _SHARED}
            _run(functools.partial(body, **given), Options(**own), opens=opens, creates=creates)

        signature = inspect.signature(body, eval_str=True)
        own = list(signature.parameters.values())[1:]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in (
                _SHARED | ({"store": (HiddenStoreOption, None)} if names_stores else {})
            ).items()
        ]
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [context, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *shared]
        vars(run)["__signature__"] = signature.replace(parameters=parameters)
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        group.command(name)(run)
        return body

    return register


def _run(body: Callable[[CommandContext], None], options: Options, *, opens: bool, creates: bool) -> None:
    context = CommandContext(options)
    try:
        with context:
            if opens:
                context.open(creates=creates)
            body(context)
            sys.stdout.flush()
    except (LuminoraCoreSDKError, OSError) as exc:
        if isinstance(exc, BrokenPipeError):  # the reader of the output has exited; typer exits quietly
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
    """Return the text of an error on one line."""
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, LuminoraCoreSDKError) and error.strerror:
        text = f"{error.filename or 'cannot write the output'}: {error.strerror}"
    return printable(text).replace("\n", "\\n")
