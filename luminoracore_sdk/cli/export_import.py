"""``luminora sessions export | import``."""

import io
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import IO, Annotated, Any

import attrs
import typer

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.application.exchange.export_import import ImportReceipt, OnExisting, Outcome
from luminoracore_sdk.application.exchange.formats import ImportFormat, ParsedSession, SessionParser
from luminoracore_sdk.application.exchange.items import Item, items_of
from luminoracore_sdk.application.exchange.raw_json import Readable
from luminoracore_sdk.cli.context import FAILED, CommandContext
from luminoracore_sdk.cli.output import amount, progress_bar, public_url
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    SessionExistsError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["export_sessions", "import_sessions", "output_target"]


_SPOOL_BYTES = 4 * 1024 * 1024

# -- export --------------------------------------------------------------------------------------


def export_sessions(
    context: CommandContext,
    session_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Session ids; all sessions if none is given.")
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.", show_default=False)
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Report sessions that cannot be read, and continue.")
    ] = False,
) -> None:
    """Write sessions as JSON lines, one complete session per line."""
    wanted = session_ids or context.run(context.storage.list_sessions())
    with output_target(output) as target:
        work = _Export(context, target, may_be_gone=not session_ids, skip_bad=skip_bad)
        context.run(work.run(wanted))
    if output is not None and context.options.as_json:
        context.write_json({"sessions": work.count, "file": str(output), "bad": work.bad})
    skipped = f"; skipped {len(work.bad)} that cannot be read" if work.bad else ""
    context.say(f"exported {amount(work.count, 'session')}" + (f" to {output}" if output else "") + skipped)
    if work.bad:
        raise typer.Exit(FAILED)


@attrs.define
class _Export:
    """Write sessions one by one."""

    context: CommandContext
    target: IO[str]
    may_be_gone: bool = attrs.field(kw_only=True)
    skip_bad: bool = attrs.field(kw_only=True)
    count: int = 0
    bad: list[JSONObject] = attrs.field(factory=list)

    async def run(self, wanted: list[str]) -> None:
        """Write all sessions."""
        quiet = self.target is sys.stdout and sys.stdout.isatty()
        with progress_bar(self.context.err, quiet=quiet) as bar:
            for session_id in bar.track(wanted, description="exporting"):
                try:
                    await self._write(session_id)
                except SessionNotFoundError:
                    if not self.may_be_gone:  # deleted by another process since the listing
                        raise
                except CorruptRecordError as exc:
                    if not self.skip_bad:
                        self.context.say("use --skip-bad to export the readable sessions")
                        raise
                    self.bad.append({"session_id": session_id, "error": str(exc)})
                    self.context.say(str(exc))
                else:
                    self.count += 1

    async def _write(self, session_id: str) -> None:
        pieces = self.context.exchange().export_session(session_id)
        if not self.skip_bad:
            async for piece in pieces:
                self.target.write(piece)
            return
        with SpooledTemporaryFile(_SPOOL_BYTES, "w+", encoding="utf-8", newline="\n") as whole:
            async for (
                piece
            ) in pieces:  # damage may be found in the last message, and a partial line must not be written
                whole.write(piece)
            whole.seek(0)
            shutil.copyfileobj(whole, self.target)


@contextmanager
def output_target(output: Path | None) -> Iterator[IO[str]]:
    """Yield stdout, or a file that is private to its owner and renamed to its name when it is complete."""
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    output = output.resolve()  # a link must stay a link
    if not output.parent.is_dir():
        raise ValidationError(f"{output.parent}: no such folder")
    if output.is_dir():
        raise ValidationError(f"{output}: is a folder")
    if output.exists() and not output.is_file():  # a pipe or /dev/null must not be replaced
        with output.open("w", encoding="utf-8", newline="\n") as target:
            yield target
        return
    with NamedTemporaryFile(
        "w", encoding="utf-8", newline="\n", dir=output.parent, prefix=f".{output.name}.", delete=False
    ) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(output)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


# -- import --------------------------------------------------------------------------------------


class Framework(StrEnum):
    """An agent framework whose own store can be imported."""

    OPENAI_AGENTS = "openai-agents"
    LANGGRAPH = "langgraph"
    GOOGLE_ADK = "google-adk"


@attrs.define
class _Tally:
    """Sums over an import."""

    sessions: int = 0
    messages: int = 0
    memories: int = 0
    skipped: list[str] = attrs.field(factory=list)
    bad: list[JSONObject] = attrs.field(factory=list)
    adopted: int = 0
    completed: int = 0

    def add(self, parsed: ParsedSession, receipt: ImportReceipt) -> None:
        """Count a session of a file."""
        self.count(parsed.record.session_id, receipt)
        self.adopted += parsed.is_adopted and receipt.outcome is Outcome.ADDED

    def count(self, session_id: str | None, receipt: ImportReceipt) -> None:
        """Count a session; None: memories that belong to none."""
        self.messages += receipt.messages
        self.memories += receipt.memories
        if session_id is None:
            return
        if receipt.outcome is Outcome.ADDED:
            self.sessions += 1
        elif receipt.outcome is Outcome.COMPLETED:
            self.completed += 1
        else:
            self.skipped.append(session_id)

    def __str__(self) -> str:
        done = (self.sessions, "session"), (self.messages, "message"), (self.memories, "memory")
        text = f"imported {', '.join(amount(*one) for one in done)}"
        text += f"; completed {self.completed}" if self.completed else ""
        text += f"; skipped {len(self.skipped)} that already exist" if self.skipped else ""
        return text + (f"; skipped {len(self.bad)} that are invalid" if self.bad else "")


def import_sessions(
    context: CommandContext,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file; - is stdin; with --from, also postgresql://….")],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Replace existing sessions.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Keep existing sessions.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Report invalid sessions, and continue.")] = False,
    format: Annotated[  # noqa: A002  # the name of the option
        ImportFormat | None, typer.Option(help="Format of the file. [default: detected]", show_default=False)
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Provider of imported chats that name none. [default: echo, offline]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of that provider.", show_default=False)] = None,
    framework: Annotated[
        Framework | None,
        typer.Option("--from", help="FILE is the own store of an agent framework.", show_default=False),
    ] = None,
) -> None:
    """Import sessions: an export of this command or of ChatGPT, Claude and others, as JSON or ZIP.

    With ``--from``: the store of an agent framework, for this package's adapter, in SQLite or PostgreSQL.

    An import that was interrupted can be repeated: what the store has already is not added again.
    """
    if replace and skip_existing:
        raise typer.BadParameter("--replace and --skip-existing cannot be combined")
    existing = OnExisting.REPLACE if replace else OnExisting.SKIP if skip_existing else OnExisting.REFUSE
    if framework is not None:
        if skip_bad or format or provider or model:
            raise typer.BadParameter("--from can be combined with --replace or --skip-existing only")
        _import_store(context, framework, file, existing)
        return
    if re.match("(postgres|redis|mongodb)[a-z+]*:|.*://", file):  # it may hold a password
        raise typer.BadParameter("a URL is read with --from only")
    name = provider or "echo"
    ProviderFactory.get_provider_class(name)
    answers = ProviderConfig(name=name, model=model).public()
    parser = SessionParser(services=context.services, values=JsonCodec(), provider=answers)
    tally = _Tally()
    work = _Import(context, parser, tally, existing=existing, format=format, skip_bad=skip_bad)
    with sources_of(Path(file)) as sources:
        try:
            count = work.run(sources)
        finally:  # after an error, report what was imported before it
            _report(context, tally, is_adopting=provider is None)
    if not count:
        context.say(f"{file} contains no sessions")
    if tally.bad:
        raise typer.Exit(FAILED)


def _import_store(context: CommandContext, framework: Framework, given: str, existing: OnExisting) -> None:
    """Import the sessions of a framework's own store, a file or a URL."""
    is_file = os.path.isfile(given)  # noqa: PTH113  # a Path would raise for a long URL, and show it
    if not is_file and not re.search("[:=@]", given):  # anything else may be a URL, and hold a password
        raise ValidationError(f"{given}: no such file")
    source, shown = (Path(given), given) if is_file else (given, public_url(given.strip()))
    name = framework.value.replace("-", "_")
    module: Any = import_module(f"luminoracore_sdk.integrations.{name}")
    tally = _Tally()

    async def work() -> bool:
        is_empty = True
        async with aclosing(module.import_history(source, context.storage, existing)) as imported:
            async for session_id, receipt in imported:
                tally.count(session_id, receipt)
                is_empty = False
        return is_empty

    try:
        is_empty = context.run(work())
    except SessionExistsError as exc:
        raise ValidationError(f"{shown}: {exc}; use --replace or --skip-existing") from exc
    finally:
        _report(context, tally, is_adopting=False)
    if is_empty:
        context.say(f"{shown} contains no sessions")


def _report(context: CommandContext, tally: _Tally, *, is_adopting: bool) -> None:
    if context.options.as_json:
        context.write_json(attrs.asdict(tally))
    context.say(str(tally))
    if tally.adopted and is_adopting:
        context.say(
            f"{amount(tally.adopted, 'session')} without a provider: echo was set, which repeats the message; "
            "`luminora chat --session ID --provider NAME` changes it"
        )


@attrs.frozen
class _Import:
    """Import the sessions of a file one by one."""

    context: CommandContext
    parser: SessionParser
    tally: _Tally
    existing: OnExisting = attrs.field(kw_only=True)
    format: ImportFormat | None = attrs.field(kw_only=True)
    skip_bad: bool = attrs.field(kw_only=True)

    def run(self, sources: Iterator["_Source"]) -> int:
        """Import all sessions; return the number of conversations in the files.

        Raises:
            ValidationError: A session exists, or is invalid and ``skip_bad`` is not set; the error names the place.
        """
        count = 0
        with progress_bar(self.context.err, quiet=False) as bar:
            for source in sources:
                task = bar.add_task("importing", total=source.size or None)
                for item in items_of(source.file, source.name, self.format):
                    count += 1
                    self._take(item)
                    bar.update(task, completed=item.end)
        return count

    def _take(self, item: Item) -> None:
        exchange = self.context.exchange()
        try:
            user = None if item.session_id else self.parser.read_user(item.content)
            if user is not None:
                self.tally.memories += self.context.run(exchange.import_user(user, existing=self.existing))
                return
            for parsed in self._sessions(item):
                self.tally.add(parsed, self.context.run(exchange.import_session(parsed, existing=self.existing)))
        except SessionExistsError as exc:
            hint = "use --replace or --skip-existing"
            raise ValidationError(f"{item.place}: {exc}; {hint}") from exc
        except ValidationError as exc:
            if not self.skip_bad:
                raise ValidationError(f"{item.place}: {exc}") from exc
            self.tally.bad.append({"place": item.place, "error": str(exc)})
            self.context.say(f"{item.place}: {exc}")

    def _sessions(self, item: Item) -> Iterator[ParsedSession]:
        if item.session_id is None:
            return self.parser.read(item.content, self.format)
        return iter([self.parser.read_older(item.session_id, item.content)])


@attrs.frozen
class _Source:
    """One file of conversations.

    Attributes:
        name: Its name, for errors.
        size: Its size in bytes; 0: unknown.
        file: The open file.
    """

    name: str
    size: int
    file: Readable


@attrs.frozen
class _Member:
    """A file in an archive; damage that reading it finds is a ``ValidationError``."""

    name: str
    file: IO[bytes]

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        try:
            return self.file.read(size)
        except Exception as exc:  # each compression has errors of its own
            raise ValidationError(f"{self.name}: a ZIP archive that cannot be read: {exc}") from exc


@contextmanager
def sources_of(path: Path) -> Iterator[Iterator[_Source]]:
    """Open a file (``-``: stdin), and yield an iterator over the files in it: those of a ZIP archive, else itself.

    Raises:
        ValidationError: An archive is damaged or encrypted, or has no conversations.
    """
    with ExitStack() as opened:
        if str(path) == "-":
            name, size = "stdin", 0
            given: Any = sys.stdin.buffer  # anything that reads, where a program that calls ``run`` replaced it
        else:
            name, size = str(path), path.stat().st_size
            given = opened.enter_context(path.open("rb"))
        file = given if isinstance(given, io.BufferedReader) else io.BufferedReader(given)
        if file.peek(4)[:4] not in _ZIP:
            yield iter([_Source(name, size, file)])
            return
        if str(path) == "-":  # an archive is read from its end
            spooled = opened.enter_context(SpooledTemporaryFile(_SPOOL_BYTES))
            shutil.copyfileobj(file, spooled)
            archive_file: IO[bytes] = spooled
        else:
            archive_file = file
        try:
            archive = opened.enter_context(zipfile.ZipFile(archive_file))
            yield _members(name, archive)
        except (zipfile.BadZipFile, NotImplementedError) as exc:
            raise ValidationError(f"{name}: a ZIP archive that cannot be read: {exc}") from exc


_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


def _members(name: str, archive: zipfile.ZipFile) -> Iterator[_Source]:
    """Yield the files with conversations; ChatGPT divides a large export into ``conversations-000.json`` and so on."""
    found = [info for info in archive.infolist() if _CONVERSATIONS.fullmatch(PurePosixPath(info.filename).name)]
    if not found:
        raise ValidationError(f"{name}: the ZIP archive has no conversations.json")
    for info in sorted(found, key=lambda info: info.filename):
        if info.flag_bits & 1:
            raise ValidationError(f"{name}/{info.filename}: is encrypted")
        with archive.open(info) as file:
            yield _Source(f"{name}/{info.filename}", info.file_size, _Member(name, file))


_CONVERSATIONS = re.compile(r"conversations([-_]?[0-9]+)?\.json")
