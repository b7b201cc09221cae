"""``luminora optimize train | rewrite``: train a dictionary, rewrite every record with the current settings."""

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
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.cli.context import FAILED, CommandContext, error_line
from luminoracore_sdk.cli.output import amount, print_table, progress_bar, share
from luminoracore_sdk.cli.stores import compressing
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = [
    "rewrite",
    "train_dictionary",
]


_LARGEST_BYTES = 1_048_576


def train_dictionary(
    context: CommandContext,
    *,
    size: Annotated[
        int, typer.Option(min=SMALLEST_BYTES, max=_LARGEST_BYTES, help="Most bytes that it may take.")
    ] = DICTIONARY_BYTES,
    sample: Annotated[int, typer.Option(min=100, help="Most records to learn from.")] = 20_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure it, store nothing.")] = False,
) -> None:
    """Train a dictionary on a store's own records; if it is better, write with it from now on."""
    store = compressing(context.container.settings().storage)
    trained, before = context.run(_train(context, store, size=size, sample=sample, dry_run=dry_run))
    if context.options.as_json:
        figures = attrs.asdict(trained, filter=attrs.filters.exclude("dictionary"))
        is_used = trained.is_better and not dry_run
        names = {"dictionary": trained.dictionary.id, "before": before, "is_used": is_used}
        context.write_json({**names, "dictionary_bytes": len(trained.dictionary.data), **figures})
    else:
        columns = ("records not learnt from", "as JSON", f"with {before}", f"with {trained.dictionary.id}")
        sizes = (trained.plain_bytes, trained.bytes_before, trained.bytes_after)
        print_table(context.out, columns, [[trained.held_out, *(share(n, trained.plain_bytes) for n in sizes)]])
    context.say(_verdict(trained, before, dry_run=dry_run))


async def _train(
    context: CommandContext, store: StorageConfig, *, size: int, sample: int, dry_run: bool
) -> tuple[Trained, str]:
    from luminoracore_sdk.bootstrap.factory import create_storage  # noqa: PLC0415  # not for --help

    async with create_storage(store) as storage:
        present = await _present(context, storage, dry_run=dry_run)
        trained = train(await sample_payloads(storage, sample), present=present, size_bytes=size)
        if trained.is_better and not dry_run:
            await save_dictionary(storage, trained.dictionary)
            await choose_dictionary(storage, trained.dictionary.id)
    return trained, present.id


async def _present(context: CommandContext, storage: SessionStorage, *, dry_run: bool) -> Dictionary:
    """Return the dictionary in use; where nobody can tell which, the general one is chosen."""
    try:
        return await chosen_dictionary(storage)
    except CorruptRecordError as exc:
        context.say(f"{error_line(exc)}; the general dictionary takes its place")
    if not dry_run:
        await choose_dictionary(storage, general_dictionary().id)
    return general_dictionary()


def _verdict(trained: Trained, before: str, *, dry_run: bool) -> str:
    if not trained.is_better:
        return f"the dictionary {before} is as good: nothing was changed"
    made = f"the dictionary {trained.dictionary.id} of {len(trained.dictionary.data):,} bytes"
    if dry_run:
        return f"{made} would be used; dry run: nothing was stored"
    return (
        f"{made} is stored, and used by storages that are opened from now on; "
        "luminora optimize rewrite brings the records there are up to date. "
        "It holds pieces of their text, and keeps them when the sessions are deleted"
    )


_SECONDS_BETWEEN_MARKS = 2.0
_FIGURES = ("records", "changed", "left", "unreadable", "too_large", "bytes_before", "bytes_after")


def rewrite(
    context: CommandContext,
    *,
    plain: Annotated[bool, typer.Option("--plain", help="Undo compression.")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin anew, wherever the last run was stopped.")
    ] = False,
) -> None:
    """Bring every record into the form that is written now; others may go on writing meanwhile.

    Can be stopped, and goes on where it was.
    """
    work = _Rewrite(context, from_start=from_start)
    try:
        context.run(work.run(compressing(context.container.settings().storage, is_plain=plain)))
    finally:  # an error, or Ctrl-C, leaves what was done before it
        work.tell()
    if work.tally.unreadable or work.tally.too_large:
        raise typer.Exit(FAILED)


@attrs.define
class _Tally:
    """What a rewriting did."""

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
        """How many records have not the form that they should have."""
        return self.left + self.unreadable + self.too_large

    def count(self, done: Rewritten) -> None:
        """Add what was done for one owner."""
        self.sessions += done.kind == "session"
        for name in _FIGURES:
            setattr(self, name, getattr(self, name) + getattr(done, name))


@attrs.define
class _Rewrite:
    """One run."""

    context: CommandContext
    from_start: bool
    tally: _Tally = attrs.field(factory=_Tally)
    form: str | None = None
    begin: Cursor | None = None
    is_whole: bool = False

    async def run(self, store: StorageConfig) -> None:
        """Open the store, rewrite it, close it."""
        from luminoracore_sdk.bootstrap.factory import create_storage  # noqa: PLC0415  # not for --help

        async with create_storage(store) as storage:
            forms = await current_encoding(storage)
            mark = RewriteMark(storage, JsonCodec(), forms.name)
            self.begin = None if self.from_start else await mark.find()
            if self.begin is not None:
                self.context.say(f"going on behind session {self.begin[1]!a}; --from-start begins anew")
            self.form = forms.name
            with progress_bar(self.context.err, quiet=False) as bar:
                await self._rewrite(storage, StoreRewrite(backend_of(storage), forms), mark, bar)
            await mark.clear()
            self.is_whole = True

    async def _rewrite(
        self,
        storage: SessionStorage,
        rewriting: StoreRewrite,
        mark: RewriteMark,
        bar: Progress,
    ) -> None:
        total = await _number(storage, self.begin) if self.context.err.is_terminal else None
        task, marked, last = bar.add_task("rewriting", total=total), time.monotonic(), self.begin
        try:
            async with aclosing(rewriting.run(after=last)) as results:
                async for done in results:
                    self._count(done)
                    bar.update(task, advance=done.kind == "session")
                    if not self.tally.misses:  # else a later run has to look again from here
                        last = done.cursor or last
                    if last is not None and time.monotonic() - marked > _SECONDS_BETWEEN_MARKS:
                        await mark.set(last)
                        marked = time.monotonic()
        except BaseException:
            with suppress(Exception):  # what stopped it is told; without the mark some are looked at again
                if last is not None:
                    await mark.set(last)
            raise

    def _count(self, done: Rewritten) -> None:
        self.tally.count(done)
        if done.reason is not None:
            self.context.say(f"{done.kind} {done.owner_id!a}: {done.reason}")

    def tell(self) -> None:
        """Report it, however it ended."""
        if self.form is None:  # it has not begun
            return
        tally = self.tally
        if self.context.options.as_json:
            self.context.write_json({"form": self.form, "complete": self.is_whole, **attrs.asdict(tally)})
        else:
            columns = ("sessions", "records", "changed", "bytes before", "bytes now")
            after = share(tally.bytes_after, tally.bytes_before)
            row = [tally.sessions, tally.records, tally.changed, f"{tally.bytes_before:,}", after]
            print_table(self.context.out, columns, [row])
        self.context.say("; ".join(self._notes(self.form)))

    def _notes(self, form: str) -> list[str]:
        if not self.is_whole:
            return ["not finished; the same command goes on from here"]
        notes = []
        if self.tally.left:
            meanwhile = f"{amount(self.tally.left, 'record')} written by others meanwhile"
            notes.append(f"{meanwhile}: the same command looks at them again")
        if self.tally.unreadable:
            notes.append(f"{amount(self.tally.unreadable, 'record')} not readable, and left as found")
        if self.tally.too_large:
            notes.append(f"{amount(self.tally.too_large, 'record')} too large for that, and left as found")
        if not notes:
            where = "" if self.begin is None else f" behind session {self.begin[1]!a}"
            notes.append(f"every record{where} has the form {form}")
        return notes


async def _number(storage: SessionStorage, behind: Cursor | None) -> int:
    count = 0
    async for record in headers(storage, SessionQuery()):
        count += behind is None or (record.created_at_us, record.session_id) > behind
    return count
