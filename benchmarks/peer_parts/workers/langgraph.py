"""LangGraph's checkpoint savers: ``aput`` of a checkpoint whose channel ``messages`` holds the conversation.

This is what a graph does after a step, without the graph's own time. The messages stay in the process, as in
a graph, so that an append reads nothing. The newest messages come with the whole checkpoint.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any

from benchmarks.peer_parts.workers.peer import Peer, serve

checkpoints: Any = import_module("langgraph.checkpoint.base")
messages: Any = import_module("langchain_core.messages")


class Thread:
    def __init__(self, name: str) -> None:
        self.config: Any = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self.messages: list[Any] = []
        self.version: Any = None


class SaverPeer(Peer):
    _saver: Any

    def __init__(self, place: str, pool_size: int) -> None:
        super().__init__(place, pool_size)
        self._stack = AsyncExitStack()
        self._threads: dict[str, Thread] = {}

    async def begin(self, session: str) -> None:
        self._threads[session] = Thread(session)

    async def append(self, session: str, text: str) -> None:
        thread = self._threads[session]
        number = len(thread.messages)
        thread.messages.append(messages.HumanMessage(content=text, id=f"{session}-{number}"))
        thread.version = self._saver.get_next_version(thread.version, None)
        checkpoint = checkpoints.empty_checkpoint() | {
            "channel_values": {"messages": thread.messages},
            "channel_versions": {"messages": thread.version},
            "updated_channels": ["messages"],
        }
        metadata = {"source": "loop", "step": number, "parents": {}}
        thread.config = await self._saver.aput(thread.config, checkpoint, metadata, {"messages": thread.version})

    async def newest(self, session: str, count: int) -> Sequence[str]:
        return (await self.everything(session))[-count:]

    async def everything(self, session: str) -> Sequence[str]:
        latest = {"configurable": {"thread_id": session, "checkpoint_ns": ""}}
        found = await self._saver.aget_tuple(latest)
        return [message.content for message in found.checkpoint["channel_values"]["messages"]]

    async def close(self) -> None:
        await self._stack.aclose()


class AsyncPostgresSaver(SaverPeer):
    async def open(self) -> None:
        pools: Any = import_module("psycopg_pool")
        saver: Any = import_module("langgraph.checkpoint.postgres.aio")
        rows: Any = import_module("psycopg.rows")
        # the settings of a connection are those that from_conn_string has and a pool of one's own needs
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": rows.dict_row}
        pool = pools.AsyncConnectionPool(self.place, min_size=1, max_size=self.pool_size, open=False, kwargs=options)
        self._saver = saver.AsyncPostgresSaver(await self._stack.enter_async_context(pool))
        await self._saver.setup()


class AsyncSqliteSaver(SaverPeer):
    async def open(self) -> None:
        saver: Any = import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
        self._saver = await self._stack.enter_async_context(saver.from_conn_string(self.place))
        await self._saver.setup()


if __name__ == "__main__":
    serve({one.__name__: one for one in (AsyncPostgresSaver, AsyncSqliteSaver)})
