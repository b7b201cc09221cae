"""A worker process of one peer, and the orders that it is given."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.peer_parts.catalogue import Case
from benchmarks.peer_parts.environments import CACHE, PeerUnavailableError

__all__ = ["Link", "started"]

_ROOT = Path(__file__).parents[2]
_LONGEST_ANSWER = 64 * 2**20
_SECONDS = 120
_REASON = 200  # characters of it that the table gets; the log has all


class Link:
    """Gives orders to a worker, one at a time."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def order(self, **order: Any) -> dict[str, Any]:
        """Give an order and return its answer.

        Raises:
            PeerUnavailableError: The peer raised an error, ended or took too long.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """Return the next answer.

        Raises:
            PeerUnavailableError: The peer raised an error, ended or took too long.
        """
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), _SECONDS)
        except TimeoutError as exc:
            raise PeerUnavailableError(f"no answer within {_SECONDS} s") from exc
        if not line:
            last = self._log.read_text("utf-8", errors="replace").splitlines()[-1:]
            raise PeerUnavailableError(f"the worker ended: {' '.join(last)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerUnavailableError(" ".join(answer["error"].split())[:_REASON])
        return answer


@asynccontextmanager
async def started(case: Case, python: Path, place: str, pool_size: int) -> AsyncIterator[Link]:
    """Run the worker of a case on a place; it is ended at the end.

    Raises:
        PeerUnavailableError: It cannot open its store.
    """
    log = CACHE / "logs" / f"{case.name.replace('/', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", case.worker, case.store, place, str(pool_size)]
    # nothing of our own installation, and no peer that reports what it does
    environment = {"PATH": os.environ["PATH"], "HOME": str(CACHE), "LANG": "C.UTF-8"}
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors,
            cwd=_ROOT,
            env=environment,
            limit=_LONGEST_ANSWER,
        )
    try:
        link = Link(process, log)
        await link.answer()
        yield link
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
