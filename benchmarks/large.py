"""What size does: a session of a million messages, a hundred thousand sessions, and the room they take.

    python -m benchmarks.large [--only BACKEND …] [--part stream …] [--messages N] [--sessions N] [--write]

Every measurement is a process of its own, so that the peak of its memory is its own.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.optimizer_parts.tables import put_into, table
from benchmarks.speed import DOCUMENT
from benchmarks.speed_parts.backends import BACKENDS, Backend
from benchmarks.speed_parts.large import JOBS, Figures

MOST_MEGABYTES = 50
MOST_TIMES_SLOWER = 1.2
MOST_TIMES_LARGER = 1.5


def child(backend: Backend, job: str, number: int) -> Figures:
    """Do a job in another process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.large",
        "--job",
        job,
        backend.name,
        backend.place,
        str(number),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


async def work(job: str, name: str, place: str, number: int) -> Figures:
    """Do a job in this process."""
    async with BACKENDS[name].storage_at(place) as storage:
        return await JOBS[job](storage, number)


def mark(value: float, most: float) -> str:
    return f"{value:.2f} {'✓' if value <= most else '✗'}"


def stream_row(backend: Backend, messages: int, _: int) -> list[str]:
    written, read = (child(backend, job, messages) for job in ("write", "stream"))
    reached = "✓" if read["grown"] < MOST_MEGABYTES else "✗"
    return [
        f"{written['seconds']:.0f}",
        f"{written['grown']:.0f}",
        f"{read['seconds']:.0f}",
        f"{read['grown']:.0f} {reached}",
    ]


def list_row(backend: Backend, _: int, sessions: int) -> list[str]:
    found = child(backend, "list", sessions)
    walked = f"{found['walked']:,.0f}" if "walked" in found else "not walked: too slow"
    return [
        f"{found['made']:.0f}",
        f"{found['first_ms']:.2f}",
        f"{found['last_ms']:.2f}",
        mark(found["last_ms"] / found["first_ms"], MOST_TIMES_SLOWER),
        walked,
    ]


def filled(sessions: int) -> int:
    """Return how many sessions are filled with messages."""
    return max(sessions // 100, 1)


def room_row(backend: Backend, _: int, sessions: int) -> list[str]:
    found = child(backend, "room", filled(sessions))
    backend.settle()
    used = backend.bytes_used("ours")
    return [
        f"{used:,}",
        f"{used / found['messages']:.0f}",
        mark(used / found["whole"], MOST_TIMES_LARGER),
        mark(used / found["payload"], MOST_TIMES_LARGER),
    ]


PARTS: dict[str, tuple[Sequence[str], Callable[[Backend, int, int], list[str]]]] = {
    "stream": (["", "written, s", "peak, MB more", "streamed, s", "peak, MB more (< 50)"], stream_row),
    "list": (
        ["", "made, s", "first pages, ms", "last pages, ms", "last ÷ first (≤ 1.2)", "sessions in all pages"],
        list_row,
    ),
    "room": (
        ["", "bytes on disk", "a message", "÷ messages as JSON (≤ 1.5)", "÷ contents alone (≤ 1.5)"],
        room_row,
    ),
}


def measured(part: str, names: Sequence[str], messages: int, sessions: int) -> str:
    """Return the table of one part; every backend is new and empty for it."""
    heads, row = PARTS[part]
    lines = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="luminora-large-") as folder:
            backend = BACKENDS[name](Path(folder))
            backend.start()
            try:
                lines.append([backend.title, *row(backend, messages, sessions)])
            finally:
                backend.stop()
        print(f"{part}: {' | '.join(lines[-1])}", file=sys.stderr, flush=True)
    told = {"stream": f"{messages:,} messages", "list": f"{sessions:,} sessions"}
    size = told.get(part, f"{filled(sessions):,} sessions of 100 messages")
    return f"{size}:\n\n{table(heads, lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What size does")
    parser.add_argument("--only", nargs="+", choices=list(BACKENDS), default=list(BACKENDS), metavar="BACKEND")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--messages", type=int, default=1_000_000, help="of the session that is streamed")
    parser.add_argument("--sessions", type=int, default=100_000, help="listed; a hundredth of them is filled")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job, name, place, number = arguments.job
        print(json.dumps(asyncio.run(work(job, name, place, int(number)))))
        return
    for part in arguments.part:
        content = measured(part, arguments.only, arguments.messages, arguments.sessions)
        print(f"## {part}\n\n{content}\n", flush=True)
        if arguments.write:
            DOCUMENT.write_text(put_into(DOCUMENT.read_text("utf-8"), f"large-{part}", content), "utf-8")


if __name__ == "__main__":
    main()
