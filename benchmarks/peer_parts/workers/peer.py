"""What a worker's store can do, and how a worker obeys. It needs the standard library alone, as it must."""

import asyncio
import json
import os
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

__all__ = ["AGENT", "APP", "Peer", "serve"]

APP = "bench"
AGENT = "agent"


class Peer(ABC):
    """One store of a peer, used as its own documentation says.

    Args:
        place: An address, or a path that does not exist yet.
        pool_size: Connections at most, where it has a pool.
    """

    def __init__(self, place: str, pool_size: int) -> None:
        self.place = place
        self.pool_size = pool_size

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make what is needed once."""

    async def close(self) -> None:  # noqa: B027  # some keep nothing open
        """Let go of everything."""

    @abstractmethod
    async def begin(self, session: str) -> None:
        """Make a session."""

    @abstractmethod
    async def append(self, session: str, text: str) -> None:
        """Write one message of the user; it is acknowledged on return."""

    @abstractmethod
    async def newest(self, session: str, count: int) -> Sequence[str]:
        """Return the texts of the newest messages, oldest first."""

    @abstractmethod
    async def everything(self, session: str) -> Sequence[str]:
        """Return the texts of all messages, oldest first."""


class Worker:
    """Carry out one order a line, and answer with the seconds that it took."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def obey(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Do one thing; ``do`` says which."""
        do = {"begin": self._begin, "append": self._append, "read": self._read, "writers": self._writers}
        return await do[order["do"]](order)

    async def _begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        for session in order["sessions"]:
            await self._peer.begin(session)
        return {}

    async def _append(self, order: Mapping[str, Any]) -> dict[str, Any]:
        return {"seconds": await self._append_all(order["session"], order["texts"])}

    async def _read(self, order: Mapping[str, Any]) -> dict[str, Any]:
        session, newest = order["session"], order["newest"]
        seconds, texts = [], list[str]()
        for _ in range(order["times"]):
            began = perf_counter()
            read = self._peer.everything(session) if newest is None else self._peer.newest(session, newest)
            texts = list(await read)
            seconds.append(perf_counter() - began)
        return {"seconds": seconds, "texts": texts}

    async def _writers(self, order: Mapping[str, Any]) -> dict[str, Any]:
        began = perf_counter()
        found = await asyncio.gather(*(self._append_all(one, order["texts"]) for one in order["sessions"]))
        return {"seconds": [second for one in found for second in one], "wall": perf_counter() - began}

    async def _append_all(self, session: str, texts: Sequence[str]) -> list[float]:
        seconds = []
        for text in texts:
            began = perf_counter()
            await self._peer.append(session, text)
            seconds.append(perf_counter() - began)
        return seconds


def serve(peers: Mapping[str, type[Any]], worker: type[Any] = Worker) -> None:
    """Be the worker for one store, until the input ends.

    The command line has the store's name, the place and the pool's size. Each line of the input is an order,
    each line of the output its answer, in JSON; an answer with ``error`` is the last one.
    """
    name, place, pool_size = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a peer prints must not stand among the answers
    asyncio.run(_serve(peers[name](place, int(pool_size)), worker, answers))


async def _serve(peer: Any, work: type[Any], answers: Any) -> None:
    def answer(content: Mapping[str, Any]) -> None:
        print(json.dumps(content), file=answers, flush=True)

    worker = work(peer)
    try:
        await peer.open()
        answer({})
        # the peer's loop may stand still between two orders: nothing is measured then
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer(await worker.obey(json.loads(line)))
        await peer.close()
    except Exception as exc:  # noqa: BLE001  # whatever it is, the table says it in the row's place
        traceback.print_exc()
        answer({"error": f"{type(exc).__name__}: {exc}"})
