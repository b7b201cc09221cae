"""What recall costs on each backend: a query, an append with its terms, and their bytes.

    python -m benchmarks.recall_speed [--messages 10000] [--data FILE] [--only postgres …] [--write]

One user has all messages, in sessions of 40. The texts are the turns of a file in LoCoMo's form, again and again, or,
without one, sentences of words that are as frequent as in English (Zipf). A query is a text of eight words of one
message. The first query of a process reads the index; the others follow it. Appends with and without search take
turns.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from pathlib import Path

import attrs

from benchmarks.optimizer_parts.tables import put_into, table
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.results import percentile
from benchmarks.turn_parts.timed import Timed
from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.wrappers.searching import SearchWrapper
from luminoracore_sdk.application.ports.records import MessageRange, SessionQuery
from luminoracore_sdk.application.ports.searching import Search
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.session import Message, SessionManager, SessionStorage

DOCUMENT = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
USER = "u"
IN_A_SESSION = 40
QUERIES = 100
APPENDS = 200


def texts_of(data: Path | None) -> list[str]:
    """Return the texts to store."""
    if data is not None:
        conversations = [one["conversation"] for one in json.loads(data.read_text("utf-8"))]
        turns = (turn for talk in conversations for part in talk.values() if isinstance(part, list) for turn in part)
        return [f"{turn['speaker']}: {turn['text']}" for turn in turns]
    rnd = random.Random(7)  # the same texts in each run
    words = [f"{rnd.choice('bcdfghjklmnpqrstvwxyz')}{rnd.choice('aeiou')}{number:x}" for number in range(20_000)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    return [" ".join(rnd.choices(words, cum_weights=weights, k=rnd.randint(5, 40))) for _ in range(5000)]


async def fill(manager: SessionManager, texts: list[str], count: int) -> None:
    for start in range(0, count, IN_A_SESSION):
        session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"}, {"user_id": USER})
        batch = [
            Message("assistant" if n % 2 else "user", texts[n % len(texts)])
            for n in range(start, min(count, start + IN_A_SESSION))
        ]
        await manager.conversation_manager.append(session_id, batch)


async def sizes(storage: SessionStorage) -> tuple[int, int]:
    """Return the bytes of all indexes and of all texts."""
    indexes = contents = 0
    codec = JsonEntityCodec()
    async for header in headers(storage, SessionQuery(texts=False)):
        session_id = header.session_id
        for one in await storage.read_index(session_id, MessageRange()):
            indexes += len(one.index.data) if one.index else 0
        for record in await storage.read_messages(session_id, MessageRange()):
            content = codec.message(record, backend="", session_id=session_id).content
            contents += len(str(content).encode("utf-8", "surrogatepass"))
    return indexes, contents


@attrs.frozen
class Figures:
    """What was measured on one backend."""

    first: float
    queries: Timed
    plain: Timed
    searched: Timed
    share: float

    def cells(self) -> list[str]:
        """Return the cells of a row."""
        ratio = percentile(self.searched.seconds, 0.5) / percentile(self.plain.seconds, 0.5)
        return [f"{1e3 * self.first:.0f}", *self.queries.cells(), f"{ratio:.2f}", f"{self.share:.2f}"]


async def measure(storage: SessionStorage, texts: list[str], count: int) -> Figures:
    async with SearchWrapper(storage, Search(analyzer=make_analyzer()), codec=JsonEntityCodec()) as searched:
        manager, plain = SessionManager(searched), SessionManager(storage)
        await fill(manager, texts, count)
        rnd = random.Random(3)  # the same queries on each backend
        asked = [" ".join(rnd.choice(texts).split()[:8]) for _ in range(QUERIES + 1)]
        began = time.perf_counter()
        await manager.recall(asked[0], user_id=USER)
        first = time.perf_counter() - began
        queries = Timed()
        for query in asked[1:]:
            await queries.call(manager.recall(query, user_id=USER))
        timed = {True: Timed(), False: Timed()}
        managers = {True: manager, False: plain}
        ids = {
            one: await managers[one].create_session({"name": "Ada"}, {"name": "echo"}, {"user_id": "other"})
            for one in (True, False)
        }
        for number in range(APPENDS):
            pair = [Message("user", texts[number]), Message("assistant", texts[-number - 1])]
            for one in (True, False) if number % 2 else (False, True):
                await timed[one].call(managers[one].conversation_manager.append(ids[one], pair))
        await manager.delete_session(ids[True])
        await manager.delete_session(ids[False])
        indexes, contents = await sizes(storage)
        return Figures(first, queries, timed[False], timed[True], indexes / contents)


def run(name: str, texts: list[str], count: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="luminora-recall-") as folder:
        backend = BACKENDS[name](Path(folder))
        backend.start()
        try:
            figures = asyncio.run(measure(backend.storage_at(backend.place), texts, count))
        finally:
            backend.stop()
    return [backend.title, *figures.cells()]


def main() -> None:
    parser = argparse.ArgumentParser(description="What recall costs")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--data", type=Path, help="a file in LoCoMo's form")
    parser.add_argument("--only", nargs="+", choices=list(BACKENDS), default=list(BACKENDS), metavar="BACKEND")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    arguments = parser.parse_args()
    texts = texts_of(arguments.data)
    lines = [run(name, texts, arguments.messages) for name in arguments.only]
    heads = [
        f"{arguments.messages:,} messages",
        *("first query, ms", "p50, ms", "p99, ms", "CPU, ms", "append ÷ without", "index ÷ text"),
    ]
    content = table(heads, lines)
    print(content)
    if arguments.write:
        DOCUMENT.write_text(put_into(DOCUMENT.read_text("utf-8"), "recall-speed", content), "utf-8")


if __name__ == "__main__":
    main()
