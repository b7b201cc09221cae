"""``luminora doctor``: whether this machine and this store work."""

import importlib.util
import os
import platform
from collections.abc import Awaitable, Callable
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
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.cli.context import FAILED, NOT_FOUND, CommandContext, error_line
from luminoracore_sdk.cli.output import amount, print_table, printable
from luminoracore_sdk.cli.sessions import headers
from luminoracore_sdk.cli.stores import NoStoreError
from luminoracore_sdk.domain.errors import (
    LuminoraCoreSDKError,
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
_COUNTED = 10_000
"""Sessions that are counted: a server may hold millions, and each page is a query."""

_ADVICE: tuple[tuple[type[StorageUnavailableError], str], ...] = (
    (StorageAccessError, "check user, password, name of the database, and the rights of the user"),
    (StorageBusyError, "raise the server's limit of connections, or lower the pools of its clients"),
    (StorageFullError, "make room: disk, or memory limit of the server"),
    (StorageReadOnlyError, "name the primary and not a replica, or --read-only to check no writing"),
    (StorageTimeoutError, "the server is there and does not answer: look at its load and its log"),
    (StorageUnavailableError, "check that the server runs, and host, port and TLS in the URL"),
)


@attrs.frozen
class Check:
    """One check and how it went."""

    name: str
    ok: bool
    detail: str


def doctor(
    context: CommandContext,
    *,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Do not write, read and delete a session of its own.")
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
    core = "installed" if find_core_memory_system() else "not installed (that is fine)"
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
    """Try the store step by step, up to the first step that fails; returns the exit code as well."""
    steps: dict[str, Callable[[CommandContext], Awaitable[str]]] = {
        "answers": _ping,
        "schema version": _schema,
        **({"writes, reads, deletes": _probe} if writes else {}),
        "holds": _count,
    }
    checks: list[Check] = []
    try:
        checks.append(Check("store", ok=True, detail=context.store_name))
        context.open(makes=False)
        checks.append(Check("opens", ok=True, detail=context.storage.backend))
        for name, step in steps.items():
            checks.append(Check(name, ok=True, detail=context.run(_awaited(step(context)))))
    except (LuminoraCoreSDKError, OSError) as exc:
        failed = ["store", "opens", *steps][len(checks)]
        checks.append(Check(failed, ok=False, detail=_with_advice(context, exc)))
        return checks, NOT_FOUND if isinstance(exc, NoStoreError) else FAILED
    return checks, 0


def _with_advice(context: CommandContext, error: Exception) -> str:
    """Return an error on one line, with what to do about a server."""
    if isinstance(error, StorageUnavailableError) and context.is_server:
        advice = next(text for kind, text in _ADVICE if isinstance(error, kind))
        return f"{error_line(error).rstrip('.')}; {advice}"
    return error_line(error)


async def _awaited(step: Awaitable[str]) -> str:
    return await step


async def _ping(context: CommandContext) -> str:
    """Return the median of a few round trips, the first of which may have been spent on connecting."""
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
            raise StorageError("what was written did not come back equal")
    finally:
        await context.storage.delete_session(session_id)
    return "yes"


async def _count(context: CommandContext) -> str:
    sessions = messages = 0
    async for header in headers(context.storage, SessionQuery(limit=1000)):
        if sessions == _COUNTED:
            return f"more than {amount(sessions, 'session')}"
        sessions += 1
        messages += header.last_position
    return f"{amount(sessions, 'session')}, {amount(messages, 'message')}"


def _print_report(context: CommandContext, checks: list[Check]) -> None:
    for name, value in _machine().items():
        context.out.print(Text(f"{name} {value}"))
    for check in checks:
        mark = ("✓ ", "green") if check.ok else ("✗ ", "red")
        context.out.print(Text.assemble(mark, printable(f"{check.name}: {check.detail}")), soft_wrap=True)
    missing = [name for name, there in _packages().items() if not there]
    context.out.print(Text(f"packages not installed: {', '.join(missing) or 'none'}"))
    rows = ((one["name"], "yes" if one["installed"] else "no", _key_state(one)) for one in _providers())
    print_table(context.out, ("provider", "installed", "key"), rows)


def _key_state(provider: JSONObject) -> str:
    if provider["api_key"] == "never" and not provider["api_key_set"]:
        return "none needed"
    return f"{provider['api_key_variable']} is {'set' if provider['api_key_set'] else 'not set'}"
