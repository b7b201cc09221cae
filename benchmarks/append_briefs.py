"""What an append pays for the summary of its session: with briefs and counters, and without, in alternating rounds.

    python -m benchmarks.append_briefs [--only postgres …] [--rounds 20] [--before CHECKOUT]

Each contender is a process of its own on the same server; they append in turns, so that what disturbs one of them
disturbs the others. ``--before`` adds another checkout of this repository, such as one that knows no summaries.
Ratios are to the first contender: by the median time of a round, and by the CPU time of client and server.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from benchmarks.optimizer_parts.tables import table
from benchmarks.speed_parts.backends import BACKENDS
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.ports.records import MessageRecord, SessionRecord
from luminoracore_sdk.session import (
    JSONFileStorage,
    MongoDBStorage,
    PostgreSQLStorage,
    RedisStorage,
    SessionStorage,
    SQLiteStorage,
)

ROOT = Path(__file__).parents[1]
APPENDS = {1: 256, 64: 2048}
"""Appends of a round, by the number of writers, each of which has a session of its own."""

TEXT = "The quick brown fox jumps over the lazy dog and waits for an answer. " * 3
PAYLOAD = JsonCodec().encode({"content": TEXT, "metadata": {}})
BRIEF = JsonCodec().encode(TEXT[:200])
ADDS = {"tokens/2026-11-29/input/m": 812, "tokens/2026-11-29/output/m": 143}

MAKERS: Mapping[str, Callable[[str, str], SessionStorage]] = {
    "postgres": lambda place, name: PostgreSQLStorage(place, schema=name),
    "redis": lambda place, name: RedisStorage(place, prefix=f"{name}:"),
    "mongodb": lambda place, name: MongoDBStorage(place, database=name),
    "mongodb-motor": lambda place, name: MongoDBStorage(place, database=name, driver="motor"),
    "sqlite": lambda place, name: SQLiteStorage(f"{place}.{name}"),
    "files": lambda place, name: JSONFileStorage(f"{place}.{name}"),
}


def message(number: int, *, with_brief: bool) -> MessageRecord:
    """Return a message of a user, or an answer and its tokens."""
    is_user = number % 2 == 0
    fields: dict[str, Any] = {"brief": BRIEF} if with_brief else {}
    if with_brief and not is_user:
        fields["adds"] = ADDS
    role = "user" if is_user else "assistant"
    return MessageRecord(message_id=f"m{number}", role=role, created_at_us=1, payload=PAYLOAD, **fields)


async def work(backend: str, place: str, name: str, *, with_brief: bool) -> None:
    """Append one round for each line that is read: the number of writers. Print its seconds and CPU seconds."""
    async with MAKERS[backend](place, name) as storage:
        sessions = [f"s{number}" for number in range(max(APPENDS))]
        payload = JsonCodec().encode({})
        for session_id in sessions:
            await storage.put_session(SessionRecord(session_id=session_id, payload=payload))
        numbers = dict.fromkeys(sessions, 0)

        async def write(session_id: str, count: int) -> None:
            for _ in range(count):
                numbers[session_id] += 1
                await storage.append_messages(session_id, [message(numbers[session_id], with_brief=with_brief)])

        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            writers = int(line)
            cpu, began = time.process_time(), time.perf_counter()
            await asyncio.gather(*(write(one, APPENDS[writers] // writers) for one in sessions[:writers]))
            print(time.perf_counter() - began, time.process_time() - cpu, flush=True)


@attrs.frozen
class Contender:
    """A process that appends; ``rounds`` has seconds, CPU seconds and the server's of each round, by writers."""

    title: str
    process: "subprocess.Popen[str]"
    rounds: dict[int, list[tuple[float, float, float]]] = attrs.field(factory=lambda: {one: [] for one in APPENDS})

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def append(self, writers: int, server_cpu: Callable[[], float | None]) -> None:
        assert self.process.stdin is not None
        before = server_cpu() or 0.0
        print(writers, file=self.process.stdin, flush=True)
        seconds, cpu = map(float, self.answer().split())
        self.rounds[writers].append((seconds, cpu, (server_cpu() or 0.0) - before))


def run(backend_name: str, rounds: int, before: Path | None) -> list[list[str]]:
    """Return the lines of one backend, new and empty."""
    checkouts = [("before", before, "")] if before is not None else []
    checkouts += [("without briefs", ROOT, ""), ("with briefs", ROOT, "brief")]
    with tempfile.TemporaryDirectory(prefix="luminora-briefs-") as folder:
        backend = BACKENDS[backend_name](Path(folder))
        backend.start()
        contenders = list[Contender]()
        try:
            for number, (title, checkout, brief) in enumerate(checkouts):
                command = [sys.executable, "-P", __file__, "--work", backend_name, backend.place, f"c{number}", brief]
                environment = {**os.environ, "PYTHONPATH": str(checkout)}
                pipe = subprocess.PIPE
                process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)  # noqa: S603
                contenders.append(Contender(title, process))
                assert contenders[-1].answer() == "ready\n"
            for number in range(rounds * len(contenders)):
                for writers in APPENDS:
                    contenders[number % len(contenders)].append(writers, backend.server_cpu)
        finally:
            for contender in contenders:
                contender.process.communicate()
            backend.stop()
    lines = list[list[str]]()
    for writers, appends in APPENDS.items():
        base = contenders[0].rounds[writers]
        for contender in contenders:
            found = contender.rounds[writers]
            seconds = [median(one[0] for one in many) for many in (found, base)]
            cpu = [sum(one[1] + one[2] for one in many) / len(many) for many in (found, base)]  # the server's in 10 ms
            times = [f"{1e3 * value[0] / appends:.3f}" for value in (seconds, cpu)]
            ratios = [f"{ours / theirs:.2f}" for ours, theirs in (seconds, cpu)]
            lines.append([backend.title, str(writers), contender.title, *times, *ratios])
    return lines


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        backend, place, name, brief = sys.argv[2:]
        asyncio.run(work(backend, place, name, with_brief=bool(brief)))
        return
    parser = argparse.ArgumentParser(description="An append with and without briefs")
    parser.add_argument("--only", nargs="+", choices=list(BACKENDS), default=list(BACKENDS), metavar="BACKEND")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    arguments = parser.parse_args()
    heads = ["", "writers", "append", "ms", "CPU, ms", "÷ first", "CPU ÷ first"]
    lines = [line for name in arguments.only for line in run(name, arguments.rounds, arguments.before)]
    print(table(heads, lines, texts=3))


if __name__ == "__main__":
    main()
