"""``luminora optimize train``: a dictionary of a store's own."""

from typing import Annotated

import attrs
import typer

from luminoracore_sdk.adapters.compression.dictionary import Dictionary, general_dictionary
from luminoracore_sdk.adapters.compression.stored import choose_dictionary, chosen_dictionary, save_dictionary
from luminoracore_sdk.adapters.compression.training import DICTIONARY_BYTES, SMALLEST_BYTES, Trained, train
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.sampling import sample_payloads
from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.cli.command import error_line
from luminoracore_sdk.cli.desk import Desk
from luminoracore_sdk.cli.render import print_table, share
from luminoracore_sdk.cli.stores import compressing
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = ["train_dictionary"]

_LARGEST_BYTES = 1_048_576


def train_dictionary(
    desk: Desk,
    *,
    size: Annotated[
        int, typer.Option(min=SMALLEST_BYTES, max=_LARGEST_BYTES, help="Most bytes that it may take.")
    ] = DICTIONARY_BYTES,
    sample: Annotated[int, typer.Option(min=100, help="Most records to learn from.")] = 20_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure it, store nothing.")] = False,
) -> None:
    """Train a dictionary on a store's own records; if it is better, write with it from now on."""
    store = compressing(desk.container.settings().storage)
    trained, before = desk.run(_train(desk, store, size=size, sample=sample, dry_run=dry_run))
    if desk.options.as_json:
        figures = attrs.asdict(trained, filter=attrs.filters.exclude("dictionary"))
        is_used = trained.is_better and not dry_run
        names = {"dictionary": trained.dictionary.id, "before": before, "is_used": is_used}
        desk.write_json({**names, "dictionary_bytes": len(trained.dictionary.data), **figures})
    else:
        columns = ("records not learnt from", "as JSON", f"with {before}", f"with {trained.dictionary.id}")
        sizes = (trained.plain_bytes, trained.bytes_before, trained.bytes_after)
        print_table(desk.out, columns, [[trained.held_out, *(share(n, trained.plain_bytes) for n in sizes)]])
    desk.say(_verdict(trained, before, dry_run=dry_run))


async def _train(
    desk: Desk, store: StorageConfig, *, size: int, sample: int, dry_run: bool
) -> tuple[Trained, str]:
    from luminoracore_sdk.bootstrap.factory import create_storage  # noqa: PLC0415  # not for --help

    async with create_storage(store) as storage:
        present = await _present(desk, storage, dry_run=dry_run)
        trained = train(await sample_payloads(storage, sample), present=present, size_bytes=size)
        if trained.is_better and not dry_run:
            await save_dictionary(storage, trained.dictionary)
            await choose_dictionary(storage, trained.dictionary.id)
    return trained, present.id


async def _present(desk: Desk, storage: SessionStorage, *, dry_run: bool) -> Dictionary:
    """Return the dictionary in use; where nobody can tell which, the general one is chosen."""
    try:
        return await chosen_dictionary(storage)
    except CorruptRecordError as exc:
        desk.say(f"{error_line(exc)}; the general dictionary takes its place")
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
