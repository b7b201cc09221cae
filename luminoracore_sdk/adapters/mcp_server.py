"""Tools as a server of the Model Context Protocol."""

import asyncio
from collections.abc import Sequence

import attrs
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)
from mcp_types import Tool as ListedTool

from luminoracore_sdk.application.memory_tools import ERROR
from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.application.tools import Tool
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["ToolServer"]

_INSTRUCTIONS = (
    "Holds what one user has said and wanted remembered, in all conversations. Use recall before you say that you do "
    "not know something about the user."
)


@attrs.frozen(kw_only=True)
class ToolServer:
    """Offers memory tools to the client at the other end of stdin and stdout.

    Attributes:
        tools: The tools, with distinct names.
        version: Version of the server, for the client.
    """

    tools: Sequence[Tool]
    version: str
    _calls: set[asyncio.Task[JSONValue]] = attrs.field(factory=set, init=False)

    async def serve(self) -> None:
        """Answer until stdin is closed or the reader of stdout has gone.

        Meanwhile the descriptor of stdout is that of stderr for everything else in this process. A cancelled call waits
        for the next line of stdin, which nothing else can interrupt.
        """
        server = Server(
            "luminora",
            version=self.version,
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        try:
            async with stdio_server() as (requests, answers):
                await server.run(requests, answers, server.create_initialization_options())
        except* BrokenPipeError:
            pass  # the client has gone

    async def finish(self, *, seconds: float) -> None:
        """Wait for the calls that are under way, but no longer than this."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=seconds)

    async def _list(self, _: ServerRequestContext, __: PaginatedRequestParams | None) -> ListToolsResult:
        listed = [
            ListedTool(name=tool.name, description=tool.description, input_schema=tool.schema) for tool in self.tools
        ]
        return ListToolsResult(tools=listed)

    async def _call(self, _: ServerRequestContext, asked: CallToolRequestParams) -> CallToolResult:
        tool = next((tool for tool in self.tools if tool.name == asked.name), None)
        if tool is None:
            names = ", ".join(tool.name for tool in self.tools)
            raise MCPError(INVALID_PARAMS, f"there is no tool {asked.name!a:.80}; there are: {names}")
        call = asyncio.ensure_future(tool.call(asked.arguments or {}))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        result = await call
        is_error = isinstance(result, str) and result.startswith(ERROR)
        text = result if isinstance(result, str) else compact_json(result)
        return CallToolResult(content=[TextContent(text=text)], is_error=is_error)
