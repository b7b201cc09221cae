"""``luminora optimize train | rewrite``: train a dictionary, rewrite all records with the current settings."""

import time
from contextlib import aclosing, suppress
from typing import Annotated

import attrs
import typer
from rich.progress import Progress

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.compression.dictionary import Dictionary, general_dictionary
from luminoracore_sdk.adapters.compression.dictionary_store import (
    choose_dictionary,
    chosen_dictionary,
    save_dictionary,
)
from luminoracore_sdk.adapters.compression.training import DICTIONARY_BYTES, SMALLEST_BYTES, Trained, train
from luminoracore_sdk.adapters.wrappers.current_encoding import backend_of, current_encoding
from luminoracore_sdk.application.maintenance.rewrite import Cursor, RewriteMark, Rewritten, StoreRewrite
from luminoracore_sdk.application.maintenance.sample import sample_payloads
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.cli.context import FAILED, CommandContext, error_line
from luminoracore_sdk.cli.output import amount, print_table, progress_bar, share
from luminoracore_sdk.cli.stores import compressing, count_sessions
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = ["rewrite", "train_dictionary"]

_LARGEST_BYTES = 1_048_576

# -- train ---------------------------------------------------------------------------------------


def train_dictionary(
    context: CommandContext,
    *,
    size: Annotated[
        int, typer.Option(min=SMALLEST_BYTES, max=_LARGEST_BYTES, help="Size limit of the dictionary in bytes.")
    ] = DICTIONARY_BYTES,
    sample: Annotated[int, typer.Option(min=100, help="Maximum number of records to train on.")] = 20_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure the dictionary without storing it.")] = False,
) -> None:
    """Train a dictionary on the records of a store, and use it for new records if it is better."""
    store = compressing(context.container.settings().storage)
    trained, before = context.run(_train(context, store, size=size, sample=sample, dry_run=dry_run))
    if context.options.as_json:
        figures = attrs.asdict(trained, filter=attrs.filters.exclude("dictionary"))
        is_used = trained.is_better and not dry_run
        names = {"dictionary": trained.dictionary.id, "before": before, "is_used": is_used}
        context.write_json({**names, "dictionary_bytes": len(trained.dictionary.data), **figures})
    else:
        columns = ("records held out", "as JSON", f"with {before}", f"with {trained.dictionary.id}")
        sizes = (trained.plain_bytes, trained.bytes_before, trained.bytes_after)
        print_table(context.out, columns, [[trained.held_out, *(share(n, trained.plain_bytes) for n in sizes)]])
    context.say(_verdict(trained, before, dry_run=dry_run))


async def _train(
    context: CommandContext, store: StorageConfig, *, size: int, sample: int, dry_run: bool
) -> tuple[Trained, str]:
    async with create_storage(store) as storage:
        present = await _present(context, storage, dry_run=dry_run)
        trained = train(await sample_payloads(storage, sample), present=present, size_bytes=size)
        if trained.is_better and not dry_run:
            await save_dictionary(storage, trained.dictionary)
            await choose_dictionary(storage, trained.dictionary.id)
    return trained, present.id


async def _present(context: CommandContext, storage: SessionStorage, *, dry_run: bool) -> Dictionary:
    """Return the dictionary in use; if the record that names it is damaged, choose the general one."""
    try:
        return await chosen_dictionary(storage)
    except CorruptRecordError as exc:
        context.say(f"{error_line(exc)}; using the general dictionary instead")
    if not dry_run:
        await choose_dictionary(storage, general_dictionary().id)
    return general_dictionary()


def _verdict(trained: Trained, before: str, *, dry_run: bool) -> str:
    if not trained.is_better:
        return f"the dictionary {before} is as good; nothing was changed"
    name = f"the dictionary {trained.dictionary.id} of {len(trained.dictionary.data):,} bytes"
    if dry_run:
        return f"{name} would be used; dry run: nothing was stored"
    return (
        f"{name} was stored; storages that are opened from now on write with it, and "
        "`luminora optimize rewrite` recompresses the existing records. "
        "It contains fragments of their text, even after the sessions are deleted"
    )


# -- rewrite -------------------------------------------------------------------------------------

_FIGURES = ("records", "changed", "left", "unreadable", "too_large", "bytes_before", "bytes_after")


def rewrite(
    context: CommandContext,
    *,
    plain: Annotated[bool, typer.Option("--plain", help="Remove compression.")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Start over instead of resuming an interrupted run.")
    ] = False,
    save_every: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", hidden=True, help="Time between saves of the progress.")
    ] = 2.0,
) -> None:
    """Rewrite every record with the current settings, while the store is in use.

    An interrupted run is resumed by the next one.
    """
    work = _Rewrite(context, from_start=from_start, save_every=save_every)
    try:
        context.run(work.run(compressing(context.container.settings().storage, is_plain=plain)))
    finally:  # after an error or Ctrl-C, report what was done before it
        work.report()
    if work.tally.unreadable or work.tally.too_large:
        raise typer.Exit(FAILED)


@attrs.define
class _Tally:
    """Sums over a run."""

    sessions: int = 0
    records: int = 0
    changed: int = 0
    left: int = 0
    unreadable: int = 0
    too_large: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def misses(self) -> int:
        """Number of records that are not in the encoding that they should have."""
        return self.left + self.unreadable + self.too_large

    def count(self, done: Rewritten) -> None:
        """Add the records of one owner."""
        self.sessions += done.kind == "session"
        for name in _FIGURES:
            setattr(self, name, getattr(self, name) + getattr(done, name))


@attrs.define
class _Rewrite:
    """One run."""

    context: CommandContext
    from_start: bool
    save_every: float
    tally: _Tally = attrs.field(factory=_Tally)
    encoding: str | None = None
    begin: Cursor | None = None
    is_complete: bool = False

    async def run(self, store: StorageConfig) -> None:
        """Open the store, rewrite it, close it."""
        async with create_storage(store) as storage:
            encoding = await current_encoding(storage)
            mark = RewriteMark(storage, JsonCodec(), encoding.name)
            self.begin = None if self.from_start else await mark.find()
            if self.begin is not None:
                self.context.say(f"continuing after session {self.begin[1]!a}; use --from-start to start over")
            self.encoding = encoding.name
            with progress_bar(self.context.err, quiet=False) as bar:
                await self._rewrite(storage, StoreRewrite(backend_of(storage), encoding), mark, bar)
            await mark.clear()
            self.is_complete = True

    async def _rewrite(
        self, storage: SessionStorage, rewriting: StoreRewrite, mark: RewriteMark, bar: Progress
    ) -> None:
        total = None
        if self.context.err.is_terminal:
            total = await count_sessions(storage, SessionQuery(cursor=self.begin))
        task, saved, last = bar.add_task("rewriting", total=total), time.monotonic(), self.begin
        try:
            async with aclosing(rewriting.run(after=last)) as results:
                async for done in results:
                    self.tally.count(done)
                    if done.reason is not None:
                        self.context.say(f"{done.kind} {done.owner_id!a}: {done.reason}")
                    bar.update(task, advance=done.kind == "session")
                    if not self.tally.misses:  # else a later run must begin here again
                        last = done.cursor or last
                    if last is not None and time.monotonic() - saved >= self.save_every:
                        await mark.set(last)
                        saved = time.monotonic()
        except BaseException:
            with suppress(Exception):  # the first error is reported; without the mark, some sessions are read again
                if last is not None:
                    await mark.set(last)
            raise

    def report(self) -> None:
        """Report the sums; if the run failed before it began, nothing."""
        if self.encoding is None:
            return
        tally = self.tally
        if self.context.options.as_json:
            report = {"encoding": self.encoding, "complete": self.is_complete, **attrs.asdict(tally)}
            self.context.write_json(report)
        else:
            columns = ("sessions", "records", "changed", "bytes before", "bytes now")
            after = share(tally.bytes_after, tally.bytes_before)
            row = [tally.sessions, tally.records, tally.changed, f"{tally.bytes_before:,}", after]
            print_table(self.context.out, columns, [row])
        self.context.say("; ".join(self._notes(self.encoding)))

    def _notes(self, encoding: str) -> list[str]:
        if not self.is_complete:
            return ["not finished; run the same command again to continue"]
        notes = []
        if self.tally.left:
            changed = f"{amount(self.tally.left, 'record')} changed by other writers meanwhile"
            notes.append(f"{changed}; run the same command again to rewrite them")
        if self.tally.unreadable:
            notes.append(f"{amount(self.tally.unreadable, 'record')} not readable, left unchanged")
        if self.tally.too_large:
            notes.append(f"{amount(self.tally.too_large, 'record')} too large after rewriting, left unchanged")
        if not notes:
            where = "" if self.begin is None else f" after session {self.begin[1]!a}"
            notes.append(f"every record{where} has the encoding {encoding}")
        return notes
