"""A graph of LangGraph with an instant model; the words ``kill`` and ``resume`` are about another one."""

# pyright: reportMissingImports=false

import os
import signal
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.langgraph import LuminoraSaver

STEPS: Any = {"configurable": {"thread_id": "steps"}}


def answer(state: MessagesState) -> dict[str, Any]:
    asked = [message for message in state["messages"] if isinstance(message, HumanMessage)]
    return {"messages": [AIMessage(f"after {len(asked) - 1}: {asked[-1].content}")]}


def graph_of(saver: Any) -> Any:
    return (
        StateGraph(MessagesState)
        .add_node("model", answer)
        .add_edge(START, "model")
        .add_edge("model", END)
        .compile(checkpointer=saver)
    )


class Done(TypedDict):
    done: Annotated[list[str], add]


def steps_of(saver: LuminoraSaver, home: Path) -> Any:
    """Return a graph of two tasks at once; the second is killed the first time, when what the first did is stored."""

    def first(state: Done) -> Any:
        with (home / "first").open("a") as log:
            log.write("x")
        return {"done": ["first"]}

    async def second(state: Done) -> Any:
        marker = home / "killed"
        if not marker.exists():
            found = None
            while found is None or ["first"] not in [write[2] for write in found.pending_writes]:
                found = await saver.aget_tuple(STEPS)
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"done": ["second"]}

    graph = StateGraph(Done).add_node("first", first).add_node("second", second)
    return graph.add_edge(START, "first").add_edge(START, "second").compile(checkpointer=saver)


async def turn(store: StorageConfig, session_id: str, text: str) -> str:
    async with LuminoraSaver(store) as saver:
        if text in ("kill", "resume"):
            home = Path.home()
            given = {"done": ["begun"]} if text == "kill" else None
            state = await steps_of(saver, home).ainvoke(given, STEPS)
            return f"{' '.join(state['done'])}, first ran {len((home / 'first').read_text())} times"
        config = {"configurable": {"thread_id": session_id}}
        state = await graph_of(saver).ainvoke({"messages": [HumanMessage(text)]}, config)
        return str(state["messages"][-1].content)


async def texts(store: StorageConfig, session_id: str) -> list[str]:
    async with LuminoraSaver(store) as saver:
        found = await saver.aget_tuple({"configurable": {"thread_id": session_id}})
        return [str(message.content) for message in found.checkpoint["channel_values"]["messages"]]
