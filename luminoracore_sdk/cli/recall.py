"""``luminora recall`` and ``luminora reindex``."""

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

import attrs
import typer

from luminoracore_sdk.application.indexing import Indexer
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.bootstrap.managers import SessionManager
from luminoracore_sdk.cli.context import FAILED, CommandContext, error_line, not_empty
from luminoracore_sdk.cli.output import amount, moment, print_table, printable, progress_bar
from luminoracore_sdk.cli.stores import count_sessions, existing
from luminoracore_sdk.cli.users import App, Tenant
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError
from luminoracore_sdk.domain.recall.hits import Hit

__all__ = ["Language", "Semantic", "recall", "reindex", "searched"]

Semantic = Annotated[
    bool, typer.Option("--semantic", help="By meaning too, with the embedder of the configuration.", show_default=False)
]
Language = Annotated[
    str | None,
    typer.Option(help="Language of the texts; by default that of the configuration.", show_default=False),
]


def recall(
    context: CommandContext,
    query: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    *,
    user: Annotated[
        str | None, typer.Option(help="Only what this user has.", show_default=False, callback=not_empty)
    ] = None,
    tenant: Tenant = None,
    app: App = None,
    session: Annotated[
        list[str] | None, typer.Option(help="Only this session; may be given more than once.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of hits.")] = 10,
    since: Annotated[datetime | None, typer.Option(help="Only from this time on, UTC.", show_default=False)] = None,
    until: Annotated[datetime | None, typer.Option(help="Only before this time, UTC.", show_default=False)] = None,
    semantic: Semantic = False,
    language: Language = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each score is made of.", show_default=False)
    ] = False,
) -> None:
    """Find messages and memories that answer a question, the best first."""
    if user is None and (tenant is not None or app is not None):
        raise typer.BadParameter("--tenant and --app need --user")
    config = searched(context, semantic=semantic, language=language)
    between = since and since.replace(tzinfo=UTC), until and until.replace(tzinfo=UTC)

    async def find() -> list[Hit]:
        async with create_storage(config) as storage, SessionManager(storage) as manager:
            found = manager if user is None else manager.for_user(user, tenant, app)
            return await found.recall(query, session_ids=session, limit=limit, between=between, explain=explain)

    hits = context.run(find())
    if context.options.as_json:
        context.write_json([hit.to_dict() for hit in hits])
    elif hits:
        print_table(context.out, ("score", "where", "role", "time (UTC)", "text"), map(_cells, hits), whole=("score",))
        if explain:
            for hit in hits:
                context.out.print(printable(f"{_place(hit)}: {_parts(hit)}"), soft_wrap=True, markup=False)
    else:
        context.say("nothing was found")


def _cells(hit: Hit) -> list[str]:
    text = " ".join(hit.text.split())[:200]
    return [f"{hit.score:.2f}", _place(hit), hit.role or "memory", moment(hit.timestamp), text]


def _place(hit: Hit) -> str:
    if hit.kind == "memory":
        return f"{hit.session_id or ''}{'/' if hit.session_id else ''}{hit.key}"
    return f"{hit.session_id}:{hit.position}"


def _parts(hit: Hit) -> str:
    named = ((name, value) for name, value in hit.parts.items() if isinstance(value, float))
    return ", ".join(f"{name} {value:.2f}" for name, value in named)


def searched(context: CommandContext, *, semantic: bool, language: str | None) -> StorageConfig:
    """Return the configured store with search switched on."""
    stored = existing(context.container.settings().storage)
    config = attrs.evolve(stored, search="semantic" if semantic else stored.search or "text")
    return config if language is None else attrs.evolve(config, search_language=language)


def reindex(context: CommandContext, *, semantic: Semantic = False, language: Language = None) -> None:
    """Store the terms, and the vectors, of every message that lacks them; may be stopped and repeated.

    The store may be in use. A message is found before it was indexed, too, only later.
    """
    config = searched(context, semantic=semantic, language=language)
    sessions, messages, damaged, refused = context.run(_reindex(context, config))
    if context.options.as_json:
        context.write_json({"sessions": sessions, "messages": messages, "damaged": damaged, "refused": refused})
    context.say(f"indexed {amount(messages, 'message')} of {amount(sessions, 'session')}")
    if damaged:
        context.say(f"{amount(damaged, 'session')} cannot be read as a whole; `luminora doctor` says more")
    if refused:
        context.say(f"{amount(refused, 'message')} got no vector")
    if damaged or refused:
        raise typer.Exit(FAILED)


async def _reindex(context: CommandContext, config: StorageConfig) -> tuple[int, int, int, int]:
    sessions = messages = damaged = refusals = 0
    async with create_storage(config) as storage:
        indexer = _indexer(context, storage)
        query = SessionQuery(texts=False)
        total = await count_sessions(storage, query) if context.err.is_terminal else None
        with progress_bar(context.err, quiet=False) as bar:
            task = bar.add_task("indexing", total=total)
            async with aclosing(headers(storage, query)) as found:
                async for header in found:
                    session_id, damage, refused = header.session_id, list[CorruptRecordError](), list[Exception]()
                    try:
                        messages += await indexer.complete(session_id, damage=damage, refused=refused)
                    except CorruptRecordError as exc:
                        damage.append(exc)
                    for error in damage:
                        context.say(error_line(error))
                    for refusal in refused:
                        context.say(f"the model refuses a message of session {session_id!a:.80}: {refusal}")
                    damaged += bool(damage)
                    refusals += len(refused)
                    sessions += 1
                    bar.update(task, advance=1)
    return sessions, messages, damaged, refusals


def _indexer(context: CommandContext, storage: SessionStorage) -> Indexer:
    if storage.search is None:
        raise ConfigurationError("search is off")
    return Indexer(storage=storage, codec=context.services.codec, search=storage.search)
