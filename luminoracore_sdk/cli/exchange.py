"""``luminora sessions export | import``."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import IO, Annotated, Any

import attrs
import typer

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.application.exchange import OnExisting
from luminoracore_sdk.application.exchange_fields import read_json
from luminoracore_sdk.application.exchange_formats import DraftReader
from luminoracore_sdk.cli.command import FAILED
from luminoracore_sdk.cli.desk import Desk
from luminoracore_sdk.cli.import_files import Item, items_of
from luminoracore_sdk.cli.render import amount, progress_bar
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    SessionExistsError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["export_sessions", "import_sessions"]

_SPOOL_BYTES = 4 * 1024 * 1024

# -- export --------------------------------------------------------------------------------------


def export_sessions(
    desk: Desk,
    session_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Of the sessions; none: all.")
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, in place of stdout.", show_default=False)
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Report sessions that cannot be read and go on.")
    ] = False,
) -> None:
    """Write sessions as JSON lines, one whole session a line."""
    wanted = session_ids or desk.run(desk.storage.list_sessions())
    with _target(output) as target:
        work = _Export(desk, target, may_be_gone=not session_ids, skip_bad=skip_bad)
        desk.run(work.run(wanted))
    if output is not None and desk.options.as_json:
        desk.write_json({"sessions": work.count, "file": str(output), "bad": work.bad})
    left_out = f"; left out {len(work.bad)} that cannot be read" if work.bad else ""
    desk.say(f"exported {amount(work.count, 'session')}" + (f" to {output}" if output else "") + left_out)
    if work.bad:
        raise typer.Exit(FAILED)


@attrs.define
class _Export:
    """Writes one session after the other."""

    desk: Desk
    target: IO[str]
    may_be_gone: bool = attrs.field(kw_only=True)
    skip_bad: bool = attrs.field(kw_only=True)
    count: int = 0
    bad: list[JSONObject] = attrs.field(factory=list)

    async def run(self, wanted: list[str]) -> None:
        """Write them all."""
        quiet = self.target is sys.stdout and sys.stdout.isatty()
        with progress_bar(self.desk.err, quiet=quiet) as bar:
            for session_id in bar.track(wanted, description="exporting"):
                try:
                    await self._write(session_id)
                except SessionNotFoundError:
                    if not self.may_be_gone:  # deleted by somebody else since all were listed
                        raise
                except CorruptRecordError as exc:
                    if not self.skip_bad:
                        self.desk.say("--skip-bad exports those that can be read")
                        raise
                    self.bad.append({"session_id": session_id, "error": str(exc)})
                    self.desk.say(str(exc))
                else:
                    self.count += 1

    async def _write(self, session_id: str) -> None:
        pieces = self.desk.exchange().export_session(session_id)
        if not self.skip_bad:
            async for piece in pieces:
                self.target.write(piece)
            return
        with SpooledTemporaryFile(_SPOOL_BYTES, "w+", encoding="utf-8", newline="\n") as whole:
            async for piece in pieces:  # damage may show in its last message; no half of a line is left
                whole.write(piece)
            whole.seek(0)
            shutil.copyfileobj(whole, self.target)


@contextmanager
def _target(output: Path | None) -> Iterator[IO[str]]:
    """Give a file that takes its name when it is whole, for its owner alone; or stdout."""
    if output is None:
        yield sys.stdout
        return
    output = output.resolve()  # a link stays one
    if not output.parent.is_dir():
        raise ValidationError(f"{output.parent}: there is no such folder")
    if output.exists() and not (output.is_file() or output.is_dir()):  # a pipe, /dev/null: never replaced
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
    """What an import did."""

    sessions: int = 0
    messages: int = 0
    memories: int = 0
    skipped: list[str] = attrs.field(factory=list)
    bad: list[JSONObject] = attrs.field(factory=list)
    adopted: int = 0

    def __str__(self) -> str:
        done = (self.sessions, "session"), (self.messages, "message"), (self.memories, "memory")
        text = f"imported {', '.join(amount(*one) for one in done)}"
        text += f"; skipped {len(self.skipped)} that exist" if self.skipped else ""
        return text + (f"; left out {len(self.bad)} that are bad" if self.bad else "")


def import_sessions(
    desk: Desk,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="- is stdin.", allow_dash=True)],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Replace sessions that exist.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Keep those that exist.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Report bad lines and go on.")] = False,
    provider: Annotated[
        str | None, typer.Option(help="Answers in imported chats, which name none. [default: echo, offline]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Of that provider.", show_default=False)] = None,
) -> None:
    """Read sessions: an export of this command, OpenAI chat files, the older SDK's JSON file."""
    if replace and skip_existing:
        raise typer.BadParameter("--replace and --skip-existing exclude each other")
    existing = OnExisting.REPLACE if replace else OnExisting.SKIP if skip_existing else OnExisting.REFUSE
    name = provider or "echo"
    ProviderFactory.get_provider_class(name)
    answers = ProviderConfig(name=name, model=model).public()
    reader = DraftReader(toolkit=desk.toolkit, values=JsonCodec(), provider=answers)
    tally = _Tally()
    try:
        _import(desk, file, _Import(desk, reader, existing, tally), skip_bad=skip_bad)
    finally:  # an error, too, leaves what came before it
        if desk.options.as_json:
            desk.write_json(attrs.asdict(tally))
        desk.say(str(tally))
        if tally.adopted and provider is None:
            desk.say(
                f"{amount(tally.adopted, 'session')} named no provider: echo answers, which only repeats; "
                "chat --session ID --provider NAME changes that"
            )
    if not (tally.sessions or tally.skipped or tally.bad):
        desk.say(f"{file}: there is no session in it")
    if tally.bad:
        raise typer.Exit(FAILED)


def _import(desk: Desk, file: Path, work: "_Import", *, skip_bad: bool) -> None:
    size = 0 if str(file) == "-" else file.stat().st_size
    with progress_bar(desk.err, quiet=False) as bar, items_of(file) as items:
        task = bar.add_task("importing", total=size or None)
        for item in items:
            try:
                work.take(item)
            except SessionExistsError as exc:
                hint = "--replace and --skip-existing say what to do"
                raise ValidationError(f"{item.place}: {exc}; {hint}") from exc
            except ValidationError as exc:
                if not skip_bad:
                    raise ValidationError(f"{item.place}: {exc}") from exc
                work.tally.bad.append({"place": item.place, "error": str(exc)})
                desk.say(f"{item.place}: {exc}")
            bar.update(task, completed=item.end)


@attrs.frozen
class _Import:
    """Imports one item after the other."""

    desk: Desk
    reader: DraftReader
    existing: OnExisting
    tally: _Tally

    def take(self, item: Item) -> None:
        """Import one session; raises what is wrong with it."""
        value: Any = item.value if item.text is None else read_json(item.text)
        if item.session_id is None:
            draft = self.reader.read_line(value)
        else:
            draft = self.reader.read_older(item.session_id, value)
        exchange = self.desk.exchange()
        if self.desk.run(exchange.import_session(draft, existing=self.existing)):
            self.tally.sessions += 1
            self.tally.messages += len(draft.messages)
            self.tally.memories += len(draft.memories)
            self.tally.adopted += draft.is_adopted
        else:
            self.tally.skipped.append(draft.record.session_id)
