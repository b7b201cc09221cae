"""What one append costs, by the length of the history before it.

Bytes are what the process hands to ``write`` (``wchar`` of /proc/self/io, Linux), so they hold file data,
journal and index alike. Each figure is the median of a window of appends; SQLite's checkpoints, which move
pages that were counted already, are listed apart as the mean.

    python benchmarks/append_cost.py [--messages 10000] [--size 200]
"""

import argparse
import asyncio
import random
import string
import tempfile
from pathlib import Path
from statistics import mean, median
from time import perf_counter

from luminoracore_sdk.session import ConversationManager, SessionStorage, create_storage

WINDOW = 20


def bytes_written() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/io has no wchar")


async def measure(storage: SessionStorage, messages: int, size: int) -> list[tuple[int, float]]:
    """Append ``messages`` messages; returns bytes and seconds of each."""
    words = random.Random(7)
    conversation = ConversationManager(storage=storage)
    await conversation.create_conversation("bench")
    costs: list[tuple[int, float]] = []
    for _ in range(messages):
        text = "".join(words.choices(string.ascii_letters + " ", k=size))
        before, began = bytes_written(), perf_counter()
        await conversation.add_message("bench", "user", text)
        ended = perf_counter()
        costs.append((bytes_written() - before, ended - began))
    return costs


def row(name: str, costs: list[tuple[int, float]]) -> str:
    early, late = costs[9 : 9 + WINDOW], costs[-WINDOW:]
    first, last = (median(size for size, _ in window) for window in (early, late))
    overall = mean(size for size, _ in costs)
    milliseconds = [1000 * median(seconds for _, seconds in window) for window in (early, late)]
    return (
        f"| {name} | {first:,.0f} | {last:,.0f} | {last / first:.3f} | {overall:,.0f} "
        f"| {milliseconds[0]:.2f} | {milliseconds[1]:.2f} |"
    )


async def main(messages: int, size: int) -> None:
    print(f"{messages:,} messages of {size} characters; windows of {WINDOW} appends\n")
    print(
        f"| backend | bytes, message 10… | bytes, message …{messages:,} | ratio | bytes, mean of all "
        "| ms, first | ms, last |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, url in (("files", f"file://{folder}/files"), ("SQLite", f"sqlite:///{folder}/bench.db")):
            async with create_storage(url) as storage:
                print(row(name, await measure(storage, messages, size)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What one append costs, by the length of the history")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=200)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.messages, arguments.size))
