"""``luminora sessions export | import``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Any

import attrs
import typer

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.application.exchange import OnExisting
from luminoracore_sdk.application.exchange_fields import read_json
from luminoracore_sdk.application.exchange_formats import DraftReader
from luminoracore_sdk.cli.desk import Desk
from luminoracore_sdk.cli.import_files import Item, items_of
from luminoracore_sdk.cli.render import progress_bar
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import (
    SessionExistsError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["export_sessions", "import_sessions"]

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
) -> None:
    """Write sessions as JSON lines, one whole session a line."""
    wanted = session_ids or desk.run(desk.storage.list_sessions())
    with _target(output) as target:
        count = desk.run(_export(desk, wanted, target, may_be_gone=not session_ids))
    if output is not None and desk.options.as_json:
        desk.write_json({"sessions": count, "file": str(output)})
    desk.say(f"exported {count} sessions" + (f" to {output}" if output else ""))


async def _export(desk: Desk, wanted: list[str], target: IO[str], *, may_be_gone: bool) -> int:
    exchange, count = desk.exchange(), 0
    with progress_bar(desk.err, quiet=target is sys.stdout and sys.stdout.isatty()) as bar:
        for session_id in bar.track(wanted, description="exporting"):
            try:
                async for piece in exchange.export_session(session_id):
                    target.write(piece)
            except SessionNotFoundError:
                if not may_be_gone:  # deleted by somebody else since all were listed
                    raise
            else:
                count += 1
    return count


@contextmanager
def _target(output: Path | None) -> Iterator[IO[str]]:
    """Give a file that takes its name when it is whole, for its owner alone; or stdout."""
    if output is None:
        yield sys.stdout
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

    def __str__(self) -> str:
        text = f"imported {self.sessions} sessions, {self.messages} messages, {self.memories} memories"
        text += f"; skipped {len(self.skipped)} that exist" if self.skipped else ""
        return text + (f"; left out {len(self.bad)} that are bad" if self.bad else "")


def import_sessions(
    desk: Desk,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="- is stdin.", allow_dash=True)],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Replace sessions that exist.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Keep those that exist.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Report bad lines and go on.")] = False,
    provider: Annotated[str, typer.Option(help="Answers in imported chats, which name none.")] = "echo",
    model: Annotated[str | None, typer.Option(help="Of that provider.", show_default=False)] = None,
) -> None:
    """Read sessions: an export of this command, OpenAI chat files, the older SDK's JSON file."""
    if replace and skip_existing:
        raise typer.BadParameter("--replace and --skip-existing exclude each other")
    existing = OnExisting.REPLACE if replace else OnExisting.SKIP if skip_existing else OnExisting.REFUSE
    ProviderFactory.get_provider_class(provider)
    answers = ProviderConfig(name=provider, model=model).public()
    reader = DraftReader(toolkit=desk.toolkit, values=JsonCodec(), provider=answers)
    tally = _Tally()
    try:
        _import(desk, file, _Import(desk, reader, existing, tally), skip_bad=skip_bad)
    finally:  # an error, too, leaves what came before it
        if desk.options.as_json:
            desk.write_json(attrs.asdict(tally))
        desk.say(str(tally))
    if tally.bad:
        raise typer.Exit(1)


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
        else:
            self.tally.skipped.append(draft.record.session_id)
