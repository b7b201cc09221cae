"""``luminora mcp``."""

import asyncio
import os
import signal
import sys
from typing import Annotated

import typer

import luminoracore_sdk
from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.memory_tools import memory_tools
from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.bootstrap.managers import SessionManager
from luminoracore_sdk.cli.context import CommandContext, not_empty
from luminoracore_sdk.cli.recall import Language, Semantic, searched
from luminoracore_sdk.cli.users import App, Tenant
from luminoracore_sdk.domain.scopes import Owner

__all__ = ["mcp"]

_CALLS_MAY_TAKE_SECONDS = 5.0


def mcp(
    context: CommandContext,
    *,
    user: Annotated[str, typer.Option(help="The user whose sessions and memories are served.", callback=not_empty)],
    tenant: Tenant = None,
    app: App = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer no tool that stores or deletes.", show_default=False)
    ] = False,
    semantic: Semantic = False,
    language: Language = None,
) -> None:
    """Let a model search and keep what is stored of one user: an MCP server on stdin and stdout."""
    import_extra("mcp", needed_by="luminora mcp", extra="mcp")
    config = searched(context, semantic=semantic, language=language)
    sys.unraisablehook = _report_unless_the_client_has_gone
    if not context.run(_serve(config, Owner.of_user(user, tenant, app), read_only=read_only)):
        os._exit(0)  # the store is closed; a thread still waits for stdin, and the interpreter would wait for it


def _report_unless_the_client_has_gone(unraisable: "sys.UnraisableHookArgs") -> None:
    """Be quiet about the buffer of stdout, which is closed with the answers in it that no client reads any more."""
    if not isinstance(unraisable.exc_value, BrokenPipeError):
        sys.__unraisablehook__(unraisable)


async def _serve(config: StorageConfig, owner: Owner, *, read_only: bool) -> bool:
    """Serve until stdin is closed, or a signal comes; return whether stdin is closed."""
    from luminoracore_sdk.adapters.mcp_server import ToolServer  # noqa: PLC0415  # needs the extra

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with create_storage(config) as storage, SessionManager(storage) as manager:
        tools = memory_tools(manager.for_user(owner.user or "", owner.tenant, owner.app), read_only=read_only)
        server = ToolServer(tools=tools, version=luminoracore_sdk.__version__)
        serving, stop = asyncio.ensure_future(server.serve()), asyncio.ensure_future(stopped.wait())
        await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if serving.done():
            await serving
        else:
            await server.finish(seconds=_CALLS_MAY_TAKE_SECONDS)
    return serving.done()
