"""``luminora copy FROM TO``."""

import hashlib
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from typing import Annotated

import attrs
import typer

from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.encryption.key_check import CHECK_KEY, STORE_SCOPE
from luminoracore_sdk.adapters.encryption.keyring import KEYS_VARIABLE
from luminoracore_sdk.application.maintenance.copy import Copied, Outcome, StoreCopy
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.bootstrap.config import StorageConfig, storage_config_from_url
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.cli.context import FAILED, CommandContext
from luminoracore_sdk.cli.output import amount, print_table, progress_bar
from luminoracore_sdk.cli.stores import count_sessions, existing, is_same_store, missing_path, store_name, untouched
from luminoracore_sdk.domain.errors import ConfigurationError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["copy"]

_COLUMNS = ("outcome", "sessions", "messages", "memories", "users", "their memories")


def copy(
    context: CommandContext,
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the source store; it is only read.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of the target store; created if it is missing.")],
    *,
    user: Annotated[
        str | None, typer.Option(help="Only this user's sessions and memories.", show_default=False)
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only sessions with this tag.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete and rewrite what differs in TO.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compare and report what would be done; write nothing.")
    ] = False,
    decrypt: Annotated[
        bool, typer.Option("--decrypt", help=f"FROM is encrypted, with the keys in {KEYS_VARIABLE}.")
    ] = False,
    encrypt: Annotated[bool, typer.Option("--encrypt", help=f"Encrypt TO, with the keys in {KEYS_VARIABLE}.")] = False,
    compress: Annotated[bool, typer.Option("--compress", help="Compress the records of TO.")] = False,
) -> None:
    """Copy a store into another one and verify that they are equal; an interrupted copy is resumed by the next run."""
    if context.options.store is not None:
        raise typer.BadParameter("--store cannot be used here: FROM and TO name the stores")
    stores = (
        attrs.evolve(storage_config_from_url(source), encryption_enabled=decrypt),
        attrs.evolve(storage_config_from_url(target), encryption_enabled=encrypt, compression_enabled=compress),
    )
    if is_same_store(*stores):
        raise typer.BadParameter(f"FROM and TO are the same store: {store_name(stores[0])}")
    work = _Work(
        context=context,
        source=existing(stores[0]),
        target=_memory_if_missing(stores[1]) if dry_run else stores[1],
        query=SessionQuery(user_id=user, tag=tag),
        overwrite=overwrite,
        dry_run=dry_run,
    )
    try:
        context.run(work.run())
    finally:  # after an error or Ctrl-C, report what was copied before it
        work.tally.report(context, (store_name(stores[0]), store_name(stores[1])), dry_run=dry_run)
    if work.tally.problems:
        raise typer.Exit(FAILED)


def _memory_if_missing(store: StorageConfig) -> StorageConfig:
    """Return the target of a dry run, which must not create a store."""
    return StorageConfig() if missing_path(store) is not None else untouched(store)


async def _is_encrypted(storage: SessionStorage) -> bool:
    """Return whether a store was written with encryption."""
    return await storage.find_memory(STORE_SCOPE, CHECK_KEY) is not None


@attrs.define
class _Tally:
    """Sums over a copy."""

    sessions: Counter[Outcome] = attrs.field(factory=Counter)
    messages: Counter[Outcome] = attrs.field(factory=Counter)
    memories: Counter[Outcome] = attrs.field(factory=Counter)
    users: Counter[Outcome] = attrs.field(factory=Counter)
    user_memories: Counter[Outcome] = attrs.field(factory=Counter)
    problems: list[JSONObject] = attrs.field(factory=list)
    has_begun: bool = False
    is_complete: bool = False
    digest: "hashlib._Hash" = attrs.field(factory=hashlib.sha256)

    def count(self, one: Copied) -> None:
        """Count a session, or a user with memories."""
        if one.kind == "session":
            self.sessions[one.outcome] += 1
            self.messages[one.outcome] += one.messages
            self.memories[one.outcome] += one.memories
        elif one.memories or not one.is_equal:
            self.users[one.outcome] += 1
            self.user_memories[one.outcome] += one.memories
        if one.digest is not None:
            self.digest.update(f"{one.digest}\n".encode())
        if not one.is_equal:
            self.problems.append({"kind": one.kind, "id": one.owner_id, "reason": one.reason})

    def report(self, context: CommandContext, names: tuple[str, str], *, dry_run: bool) -> None:
        """Report the sums, also after an error."""
        is_equal = self.is_complete and not self.problems and not dry_run
        if context.options.as_json:
            report = {
                "from": names[0],
                "to": names[1],
                "dry_run": dry_run,
                "complete": self.is_complete,
                "problems": self.problems,
                "digest": self.digest.hexdigest() if is_equal else None,
            }
            context.write_json({**report, **{name: dict(counts) for name, counts in self._counts().items()}})
        elif any(self._counts().values()):
            print_table(context.out, _COLUMNS, self._rows())
        if self.has_begun:
            context.say(self._last_line(dry_run=dry_run))

    def _counts(self) -> dict[str, Counter[Outcome]]:
        return {
            "sessions": self.sessions,
            "messages": self.messages,
            "memories": self.memories,
            "users": self.users,
            "user_memories": self.user_memories,
        }

    def _rows(self) -> list[list[str]]:
        counts = self._counts().values()
        return [
            [outcome, *(str(count[outcome] or "") for count in counts)]
            for outcome in Outcome
            if any(outcome in count for count in counts)
        ]

    def _last_line(self, *, dry_run: bool) -> str:
        if not self.is_complete:
            return "not finished; run the same command again to continue"
        if self.problems:
            return f"not equal: {amount(len(self.problems), 'difference')}"
        if dry_run:
            return "dry run: nothing was written"
        verified = amount(self.sessions.total() - self.sessions[Outcome.GONE], "session")
        return f"equal in both: {verified}; SHA-256 {self.digest.hexdigest()}"


@attrs.frozen(kw_only=True)
class _Work:
    """One copy."""

    context: CommandContext
    source: StorageConfig
    target: StorageConfig
    query: SessionQuery
    overwrite: bool
    dry_run: bool
    tally: _Tally = attrs.field(factory=_Tally)

    async def run(self) -> None:
        """Open both stores, copy, close them.

        Raises:
            ConfigurationError: One is encrypted, and the option that says so is missing.
        """
        async with AsyncExitStack() as opened:
            source = await opened.enter_async_context(create_storage(self.source))
            target = await opened.enter_async_context(create_storage(self.target))
            if not self.target.encryption_enabled and await _is_encrypted(target):
                raise ConfigurationError(f"TO ({store_name(self.target)}) is encrypted: add --encrypt")
            if not self.source.encryption_enabled and await _is_encrypted(source):
                raise ConfigurationError(f"FROM ({store_name(self.source)}) is encrypted: add --decrypt")
            self.tally.has_begun = True
            await self._copy(source, target)

    async def _copy(self, source: SessionStorage, target: SessionStorage) -> None:
        copy = StoreCopy(
            source,
            target,
            values=JsonCodec(),
            clock=SystemClock(),
            overwrite=self.overwrite,
            dry_run=self.dry_run,
        )
        with progress_bar(self.context.err, quiet=False) as bar:
            total = await count_sessions(source, self.query) if self.context.err.is_terminal else None
            task = bar.add_task("comparing" if self.dry_run else "copying", total=total)
            async with aclosing(copy.run(self.query)) as results:
                async for one in results:
                    self.tally.count(one)
                    if not one.is_equal:
                        self.context.say(f"{one.kind} {one.owner_id!a}: {one.reason}")
                    bar.update(task, advance=one.kind == "session")
        self.tally.is_complete = True
