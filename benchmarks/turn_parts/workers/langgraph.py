"""LangGraph: a graph of one node that asks a model, compiled with a checkpoint saver.

The whole history is read and sent with each turn: a graph has no limit of its own.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any

from benchmarks.turn_parts.workers.taker import ANSWER, SYSTEM, TurnTaker, serve

graphs: Any = import_module("langgraph.graph")
messages: Any = import_module("langchain_core.messages")
models: Any = import_module("langchain_core.language_models.chat_models")
outputs: Any = import_module("langchain_core.outputs")


class Instant(models.BaseChatModel):  # type: ignore[misc]
    """A chat model like langchain-core's own fakes, without their thread."""

    @property
    def _llm_type(self) -> str:
        return "instant"

    def _generate(self, *_: Any, **__: Any) -> Any:
        return outputs.ChatResult(generations=[outputs.ChatGeneration(message=messages.AIMessage(ANSWER))])

    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        return self._generate()


class Graph(TurnTaker):
    def __init__(self, place: str, pool_size: int) -> None:
        super().__init__(place, pool_size)
        self._stack = AsyncExitStack()

    def _compile(self, saver: Any) -> None:
        model, system = Instant(), messages.SystemMessage(SYSTEM)

        # LangGraph reads the annotations of a node, and none is needed
        async def ask(state):  # type: ignore[no-untyped-def]
            self.seen = len(state["messages"])
            return {"messages": [await model.ainvoke([system, *state["messages"]])]}

        graph = graphs.StateGraph(graphs.MessagesState)
        graph.add_node("model", ask)
        graph.add_edge(graphs.START, "model")
        self._graph = graph.compile(checkpointer=saver)

    async def begin(self, session: str, texts: Sequence[str]) -> None:
        kinds = (messages.HumanMessage, messages.AIMessage)
        said = [kinds[number % 2](text) for number, text in enumerate(texts)]
        await self._graph.aupdate_state(_thread(session), {"messages": said}, as_node="model")

    async def turn(self, session: str, text: str) -> str:
        state = await self._graph.ainvoke({"messages": [messages.HumanMessage(text)]}, _thread(session))
        return str(state["messages"][-1].content)

    async def close(self) -> None:
        await self._stack.aclose()


def _thread(session: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": session}}


class AsyncPostgresSaver(Graph):
    async def open(self) -> None:
        pools: Any = import_module("psycopg_pool")
        saver: Any = import_module("langgraph.checkpoint.postgres.aio")
        rows: Any = import_module("psycopg.rows")
        # the settings of a connection are those that from_conn_string has and a pool of one's own needs
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": rows.dict_row}
        pool = pools.AsyncConnectionPool(self.place, min_size=1, max_size=self.pool_size, open=False, kwargs=options)
        postgres = saver.AsyncPostgresSaver(await self._stack.enter_async_context(pool))
        await postgres.setup()
        self._compile(postgres)


class AsyncSqliteSaver(Graph):
    async def open(self) -> None:
        saver: Any = import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
        sqlite = await self._stack.enter_async_context(saver.from_conn_string(self.place))
        await sqlite.setup()
        self._compile(sqlite)


class MongoDBSaver(Graph):
    async def open(self) -> None:
        client = import_module("pymongo").MongoClient(self.place, w="majority", journal=True)
        self._stack.callback(client.close)
        self._compile(import_module("langgraph.checkpoint.mongodb").MongoDBSaver(client, db_name="peer"))


if __name__ == "__main__":
    serve(AsyncPostgresSaver, AsyncSqliteSaver, MongoDBSaver)
