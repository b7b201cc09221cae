"""``luminora doctor``: check this machine and the store."""

import importlib.util
import os
import platform
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from statistics import median
from time import perf_counter
from typing import Annotated
from uuid import uuid4

import attrs
import typer
from rich.text import Text

import luminoracore_sdk
from luminoracore_sdk.adapters.core_memory import find_core_memory_system
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.application.indexing import messages_between, read_indexes, readable_memories, stored_entry
from luminoracore_sdk.application.ports.records import MemoryScope, SessionQuery
from luminoracore_sdk.application.ports.searching import Search
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers, memory_owners
from luminoracore_sdk.cli.context import FAILED, NOT_FOUND, CommandContext, error_line
from luminoracore_sdk.cli.output import amount, print_table, printable
from luminoracore_sdk.cli.stores import NoStoreError
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    LuminoraCoreSDKError,
    SessionNotFoundError,
    StorageAccessError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["doctor"]

_PACKAGES = (
    *("sqlalchemy", "filelock", "alembic", "asyncpg", "redis", "motor", "pymongo", "stamina"),
    *("openai", "anthropic", "typer", "rich"),
)
_PINGS = 5
COUNT_LIMIT = 10_000
"""Most sessions that are counted, and users and sessions whose memories are read: a server may hold millions."""

MESSAGE_LIMIT = 100_000
"""Number of messages after which no other session is read."""

_CHUNK = 500
_NAMED = 10
"""Damaged records that an error names beside the first."""

_ADVICE: tuple[tuple[type[StorageUnavailableError], str], ...] = (
    (StorageAccessError, "check the user, its password and permissions, and the name of the database"),
    (StorageBusyError, "raise the server's connection limit, or lower the pool size of its clients"),
    (StorageFullError, "free disk space, or raise the memory limit of the server"),
    (StorageReadOnlyError, "use the URL of the primary, or --read-only to skip the write check"),
    (StorageTimeoutError, "the server does not answer: check its load and its log"),
    (StorageUnavailableError, "check that the server is running, and the host, port and TLS options of the URL"),
)


@attrs.frozen
class Check:
    """A check and its result."""

    name: str
    ok: bool
    detail: str


def doctor(
    context: CommandContext,
    *,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Skip the check that writes, reads and deletes a session.")
    ] = False,
) -> None:
    """Check this machine and the store."""
    checks, code = _check_store(context, writes=not read_only)
    ok = code == 0
    if context.options.as_json:
        report = {"ok": ok, **_machine(), "checks": [attrs.asdict(check) for check in checks]}
        context.write_json({**report, "packages": _packages(), "providers": _providers()})
    else:
        _print_report(context, checks)
    if not ok:
        raise typer.Exit(code)


def _machine() -> JSONObject:
    core = "installed" if find_core_memory_system() else "not installed (optional)"
    return {"luminora": luminoracore_sdk.__version__, "python": platform.python_version(), "core": core}


def _packages() -> JSONObject:
    return {name: importlib.util.find_spec(name) is not None for name in _PACKAGES}


def _providers() -> list[JSONObject]:
    return [_provider(name) for name in ProviderFactory.get_available_providers()]


def _provider(name: str) -> JSONObject:
    info = ProviderFactory.get_provider_info(name)
    package, variable = info.get("package"), info["api_key_variable"]
    return {
        "name": name,
        "package": package,
        "installed": package is None or importlib.util.find_spec(package) is not None,
        "api_key": info.get("api_key", "never"),
        "api_key_variable": variable,
        "api_key_set": bool(os.environ.get(variable)),
    }


def _check_store(context: CommandContext, *, writes: bool) -> tuple[list[Check], int]:
    """Return the checks of the store, up to the first that fails, and the exit code."""
    steps: dict[str, Callable[[CommandContext], Awaitable[str]]] = {
        "answers": _ping,
        "schema version": _schema,
        **({"writes, reads, deletes": _probe} if writes else {}),
        "holds": _count,
        "messages": _messages,
        "memories": _memories,
    }
    checks: list[Check] = []
    try:
        checks.append(Check("store", ok=True, detail=context.store_name))
        context.open(creates=False)
        if context.storage.search is not None:
            steps["search"] = partial(_search, context.storage.search)
        checks.append(Check("opens", ok=True, detail=context.storage.backend))
        for name, step in steps.items():
            checks.append(Check(name, ok=True, detail=context.run(_awaited(step(context)))))
    except (LuminoraCoreSDKError, OSError) as exc:
        failed = ["store", "opens", *steps][len(checks)]
        checks.append(Check(failed, ok=False, detail=_with_advice(context, exc)))
        return checks, NOT_FOUND if isinstance(exc, NoStoreError) else FAILED
    return checks, 0


def _with_advice(context: CommandContext, error: Exception) -> str:
    """Return an error on one line, for a server with advice."""
    if isinstance(error, StorageUnavailableError) and context.is_server:
        advice = next(text for kind, text in _ADVICE if isinstance(error, kind))
        return f"{error_line(error).rstrip('.')}; {advice}"
    return error_line(error)


async def _awaited(step: Awaitable[str]) -> str:
    return await step


async def _ping(context: CommandContext) -> str:
    """Return the median of several round trips; the first may include connecting."""
    seconds = []
    for _ in range(_PINGS):
        begun = perf_counter()
        await context.storage.ping()
        seconds.append(perf_counter() - begun)
    return f"in {median(seconds) * 1000:.1f} ms"


async def _schema(context: CommandContext) -> str:
    return str(await context.storage.schema_version())


async def _probe(context: CommandContext) -> str:
    session_id, document = f"luminora-doctor-{uuid4().hex}", {"probe": "✓"}
    try:
        await context.storage.save_session(session_id, document)
        if await context.storage.load_session(session_id) != document:
            raise StorageError("the document that was read is not the one that was written")
    finally:
        await context.storage.delete_session(session_id)
    return "yes"


async def _count(context: CommandContext) -> str:
    sessions = messages = 0
    async with aclosing(headers(context.storage, SessionQuery())) as found:
        async for header in found:
            if sessions == COUNT_LIMIT:
                return f"more than {amount(sessions, 'session')}"
            sessions += 1
            messages += header.last_position
    return f"{amount(sessions, 'session')}, {amount(messages, 'message')}"


async def _messages(context: CommandContext) -> str:
    """Read messages; an error names the first that is damaged."""
    codec, read = context.services.codec, 0
    damage: list[CorruptRecordError] = []
    async with aclosing(headers(context.storage, SessionQuery(texts=False))) as found:
        async for header in found:
            for first in range(1, header.last_position + 1, _CHUNK):
                span = first, min(first + _CHUNK - 1, header.last_position)
                with suppress(SessionNotFoundError):  # deleted meanwhile
                    await messages_between(context.storage, codec, header.session_id, *span, damage=damage)
            read += header.last_position
            if read >= MESSAGE_LIMIT:
                break
    _refuse(damage)
    return f"the first {amount(read, 'message')} can be read" if read >= MESSAGE_LIMIT else "all can be read"


async def _memories(context: CommandContext) -> str:
    """Read memories; an error names the first that is damaged."""
    storage, codec, owners = context.storage, context.services.codec, 0
    damage: list[CorruptRecordError] = []
    async with aclosing(_memory_scopes(storage)) as scopes:
        async for scope in scopes:
            if owners == COUNT_LIMIT:
                break
            owners += 1
            for record in await readable_memories(storage, scope, damage=damage):
                try:
                    codec.memory(record, backend=storage.backend)
                except CorruptRecordError as exc:
                    damage.append(exc)
    _refuse(damage)
    return f"those of the first {owners} users and sessions can be read" if owners == COUNT_LIMIT else "all can be read"


async def _memory_scopes(storage: SessionStorage) -> AsyncGenerator[MemoryScope, None]:
    async for user_id in memory_owners(storage):
        yield MemoryScope("user", user_id)
    async for header in headers(storage, SessionQuery(texts=False)):
        yield MemoryScope("session", header.session_id)


def _refuse(damage: list[CorruptRecordError]) -> None:
    """Raise the first error, with what else is damaged."""
    if damage:
        first, *others = damage
        named = "".join(f"; {error.key} too" for error in others[:_NAMED])
        more = f", and {len(others) - _NAMED} others" if len(others) > _NAMED else ""
        raise CorruptRecordError(backend=first.backend, key=first.key, reason=f"{first.reason}{named}{more}")


async def _search(search: Search, context: CommandContext) -> str:
    """Return what is stored in order to find messages."""
    messages = lacking = without_vector = size = 0
    damage: list[CorruptRecordError] = []
    async with aclosing(headers(context.storage, SessionQuery(texts=False))) as found:
        async for header in found:
            with suppress(SessionNotFoundError):  # deleted meanwhile
                after, at_end = 0, False
                while not at_end:
                    read = await read_indexes(
                        context.storage, header.session_id, after=after, limit=_CHUNK, damage=damage
                    )
                    after, at_end = read.reached, read.at_end
                    for record in read.records:
                        entry = stored_entry(record, search.analyzer)
                        messages += 1
                        lacking += entry is None
                        without_vector += entry is not None and search.lacks_vector(entry)
                        size += 0 if record.index is None else len(record.index.data)
            if messages >= MESSAGE_LIMIT:
                break
    _refuse(damage)
    which = "" if messages < MESSAGE_LIMIT else f"of the first {amount(messages, 'message')}, "
    model = f", {without_vector} of them without a vector of {search.embedder.model_id}" if search.embedder else ""
    advice = "; `luminora reindex` completes them" if lacking or without_vector else ""
    return f"{which}{messages - lacking} indexed{model}, {lacking} not, {amount(size, 'byte')}{advice}"


def _print_report(context: CommandContext, checks: list[Check]) -> None:
    for name, value in _machine().items():
        context.out.print(Text(f"{name} {value}"))
    for check in checks:
        mark = ("✓ ", "green") if check.ok else ("✗ ", "red")
        context.out.print(Text.assemble(mark, printable(f"{check.name}: {check.detail}")), soft_wrap=True)
    missing = [name for name, is_installed in _packages().items() if not is_installed]
    context.out.print(Text(f"missing packages: {', '.join(missing) or 'none'}"))
    rows = ((one["name"], "yes" if one["installed"] else "no", _key_state(one)) for one in _providers())
    print_table(context.out, ("provider", "installed", "key"), rows)


def _key_state(provider: JSONObject) -> str:
    if provider["api_key"] == "never" and not provider["api_key_set"]:
        return "none needed"
    return f"{provider['api_key_variable']} is {'set' if provider['api_key_set'] else 'not set'}"
