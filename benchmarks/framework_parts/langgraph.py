"""Checkpointers of LangGraph: a turn is a run of a graph of one node, a tail the state of the thread."""

# pyright: reportMissingImports=false

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import attrs
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.framework_parts.side import Pair, Place, ours_at, text
from luminoracore_sdk.integrations.langgraph import LuminoraSaver

__all__ = ["PAIRS"]


@attrs.frozen
class _Graph:
    opened: AbstractAsyncContextManager[Any]
    graph: Any

    async def turn(self, session: str) -> None:
        await self.graph.ainvoke({"messages": [("user", text())]}, _config(session))

    async def tail(self, session: str) -> int:
        state = await self.graph.aget_state(_config(session))
        return len(state.values["messages"])

    async def close(self) -> None:
        await self.opened.__aexit__(None, None, None)


def _config(session: str) -> Any:
    return {"configurable": {"thread_id": session}}


def _answer(_: Any) -> Any:
    return {"messages": [("ai", text())]}


def _graph(saver: Any) -> Any:
    builder = StateGraph(MessagesState).add_node("model", _answer)
    return builder.add_edge(START, "model").add_edge("model", END).compile(checkpointer=saver)


async def _ours(backend: str, place: Place) -> _Graph:
    saver = LuminoraSaver(await ours_at(place, backend))
    return _Graph(saver, _graph(saver))


async def _sqlite(place: Place) -> _Graph:
    opened = AsyncSqliteSaver.from_conn_string(place.file)
    saver = await opened.__aenter__()
    await saver.setup()
    return _Graph(opened, _graph(saver))


async def _postgres(place: Place) -> _Graph:
    given = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool: Any = AsyncConnectionPool(await place.url(), min_size=4, max_size=20, kwargs=given, open=False)
    saver = AsyncPostgresSaver(await pool.__aenter__())
    await saver.setup()
    return _Graph(pool, _graph(saver))


PAIRS = (
    Pair("SQLite", "AsyncSqliteSaver", _sqlite, partial(_ours, "SQLite"), int),
    Pair("PostgreSQL", "AsyncPostgresSaver", _postgres, partial(_ours, "PostgreSQL"), int),
)
