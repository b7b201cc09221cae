"""``luminora sessions export | import``."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import IO, Annotated, Any

import attrs
import typer

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.application.exchange.export_import import OnExisting
from luminoracore_sdk.application.exchange.fields import read_json
from luminoracore_sdk.application.exchange.formats import SessionParser
from luminoracore_sdk.application.exchange.older_sdk import is_older_store
from luminoracore_sdk.cli.context import FAILED, CommandContext
from luminoracore_sdk.cli.output import amount, progress_bar
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    SessionExistsError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = [
    "Item",
    "export_sessions",
    "import_sessions",
    "items_of",
]


@attrs.frozen(kw_only=True)
class Item:
    """One session in a file.

    Attributes:
        place: File and line, or file and session, for errors.
        end: Position in the file at which it ends.
        text: A line; None: ``value`` is set instead.
        value: An entry of an older store.
        session_id: The entry's key; None: the line contains it.
    """

    place: str
    end: int
    text: bytes | None = None
    value: JSONValue = None
    session_id: str | None = None


@contextmanager
def items_of(path: Path) -> Iterator[Iterator[Item]]:
    """Open a file (``-``: stdin) and yield an iterator over its sessions.

    Lines are read one at a time; only an older store is read at once. Blank lines are skipped.
    """
    with ExitStack() as opened:
        if str(path) == "-":
            yield _items("stdin", sys.stdin.buffer)
        else:
            yield _items(str(path), opened.enter_context(path.open("rb")))


def _items(name: str, file: IO[bytes]) -> Iterator[Item]:
    head = []
    for line in file:
        head.append(line)
        if line.strip():
            break
    if not head or _is_whole_session(head[-1]):
        return _lines(name, chain(head, file))
    whole = b"".join(head) + file.read()
    store = _older_store(whole)
    return _lines(name, BytesIO(whole)) if store is None else _entries(name, store, len(whole))


def _is_whole_session(line: bytes) -> bool:
    """Return whether a first line is a session; the first line of an older store, indented or not, is none."""
    try:
        return not is_older_store(read_json(line))
    except ValidationError:
        return False


def _older_store(text: bytes) -> JSONObject | None:
    try:
        value = read_json(text)
    except ValidationError:
        return None
    return value if isinstance(value, dict) and is_older_store(value) else None


def _lines(name: str, lines: Iterable[bytes]) -> Iterator[Item]:
    end = 0
    for number, line in enumerate(lines, 1):
        end += len(line)
        if line.strip():
            yield Item(place=f"{name}:{number}", end=end, text=line)


def _entries(name: str, store: JSONObject, size: int) -> Iterator[Item]:
    for number, (session_id, entry) in enumerate(store.items(), 1):
        place = f"{name}: session {session_id!a}"
        yield Item(place=place, end=size * number // len(store), value=entry, session_id=session_id)


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
    with _target(output) as target:
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
def _target(output: Path | None) -> Iterator[IO[str]]:
    """Yield stdout, or a file that is private to its owner and renamed to its name when it is complete."""
    if output is None:
        yield sys.stdout
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


@attrs.define
class _Tally:
    """Sums over an import."""

    sessions: int = 0
    messages: int = 0
    memories: int = 0
    skipped: list[str] = attrs.field(factory=list)
    bad: list[JSONObject] = attrs.field(factory=list)
    adopted: int = 0

    def __str__(self) -> str:
        done = (self.sessions, "session"), (self.messages, "message"), (self.memories, "memory")
        text = f"imported {', '.join(amount(*one) for one in done)}"
        text += f"; skipped {len(self.skipped)} that already exist" if self.skipped else ""
        return text + (f"; skipped {len(self.bad)} that are invalid" if self.bad else "")


def import_sessions(
    context: CommandContext,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file; - is stdin.", allow_dash=True)],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Replace existing sessions.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Keep existing sessions.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Report invalid lines, and continue.")] = False,
    provider: Annotated[
        str | None, typer.Option(help="Provider of imported chats that name none. [default: echo, offline]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of that provider.", show_default=False)] = None,
) -> None:
    """Import sessions: an export of this command, OpenAI chat files, the older SDK's JSON file."""
    if replace and skip_existing:
        raise typer.BadParameter("--replace and --skip-existing cannot be combined")
    existing = OnExisting.REPLACE if replace else OnExisting.SKIP if skip_existing else OnExisting.REFUSE
    name = provider or "echo"
    ProviderFactory.get_provider_class(name)
    answers = ProviderConfig(name=name, model=model).public()
    reader = SessionParser(services=context.services, values=JsonCodec(), provider=answers)
    tally = _Tally()
    size = 0 if str(file) == "-" else file.stat().st_size
    with items_of(file) as items:
        try:
            _import(context, items, size, _Import(context, reader, existing, tally), skip_bad=skip_bad)
        finally:  # after an error, report what was imported before it
            _report(context, tally, is_adopting=provider is None)
    if not (tally.sessions or tally.skipped or tally.bad):
        context.say(f"{file} contains no sessions")
    if tally.bad:
        raise typer.Exit(FAILED)


def _report(context: CommandContext, tally: _Tally, *, is_adopting: bool) -> None:
    if context.options.as_json:
        context.write_json(attrs.asdict(tally))
    context.say(str(tally))
    if tally.adopted and is_adopting:
        context.say(
            f"{amount(tally.adopted, 'session')} without a provider: echo was set, which repeats the message; "
            "`luminora chat --session ID --provider NAME` changes it"
        )


def _import(context: CommandContext, items: Iterator[Item], size: int, work: "_Import", *, skip_bad: bool) -> None:
    with progress_bar(context.err, quiet=False) as bar:
        task = bar.add_task("importing", total=size or None)
        for item in items:
            try:
                work.take(item)
            except SessionExistsError as exc:
                hint = "use --replace or --skip-existing"
                raise ValidationError(f"{item.place}: {exc}; {hint}") from exc
            except ValidationError as exc:
                if not skip_bad:
                    raise ValidationError(f"{item.place}: {exc}") from exc
                work.tally.bad.append({"place": item.place, "error": str(exc)})
                context.say(f"{item.place}: {exc}")
            bar.update(task, completed=item.end)


@attrs.frozen
class _Import:
    """Import items one by one."""

    context: CommandContext
    reader: SessionParser
    existing: OnExisting
    tally: _Tally

    def take(self, item: Item) -> None:
        """Import one session.

        Raises:
            SessionExistsError: A session with its id exists.
            ValidationError: The item is invalid.
        """
        value: Any = item.value if item.text is None else read_json(item.text)
        if item.session_id is None:
            parsed = self.reader.read_line(value)
        else:
            parsed = self.reader.read_older(item.session_id, value)
        exchange = self.context.exchange()
        if self.context.run(exchange.import_session(parsed, existing=self.existing)):
            self.tally.sessions += 1
            self.tally.messages += len(parsed.messages)
            self.tally.memories += len(parsed.memories)
            self.tally.adopted += parsed.is_adopted
        else:
            self.tally.skipped.append(parsed.record.session_id)
