"""What a worker that takes turns can do. It needs the standard library alone, as a peer's environment has no more."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from time import perf_counter, process_time
from typing import Any

from benchmarks.peer_parts.workers import peer

__all__ = ["ANSWER", "MEMORIES", "NEWEST", "SYSTEM", "TurnTaker", "serve"]

ANSWER = "x" * 200
NEWEST = 50
MEMORIES = {f"fact_{number}": f"value {number}" for number in range(10)}
SYSTEM = "You are Ada."


class TurnTaker(ABC):
    """A framework with one of its stores and a model that answers at once, used as its documentation says.

    Args:
        place: An address, or a path that does not exist yet.
        pool_size: Connections at most, where it has a pool.
    """

    def __init__(self, place: str, pool_size: int) -> None:
        self.place = place
        self.pool_size = pool_size
        self.seen = 0
        """Messages of the newest prompt, without those of the system."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make what is needed once."""

    async def close(self) -> None:  # noqa: B027  # some keep nothing open
        """Let go of everything."""

    @abstractmethod
    async def begin(self, session: str, texts: Sequence[str]) -> None:
        """Make a session with messages of the user and the model in turn, and memories where it knows them."""

    @abstractmethod
    async def turn(self, session: str, text: str) -> str:
        """Send a message of the user; return the stored answer."""


class Worker:
    """Carries out a request, and returns the seconds that it took."""

    def __init__(self, taker: TurnTaker) -> None:
        self._taker = taker

    async def obey(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Do one thing: begin a session, or take turns in it."""
        session, texts = order["session"], order["texts"]
        if order["do"] == "begin":
            await self._taker.begin(session, texts)
            return {}
        seconds, seen = [], []
        cpu = process_time()
        for text in texts:
            began = perf_counter()
            answer = await self._taker.turn(session, text)
            seconds.append(perf_counter() - began)
            seen.append(self._taker.seen)
            if answer != ANSWER:
                raise ValueError(f"the answer was {answer[:40]!r}")
        return {"seconds": seconds, "cpu": process_time() - cpu, "seen": min(seen)}


def serve(*takers: type[TurnTaker]) -> None:
    """Be the worker of one of these, until the input ends."""
    peer.serve({taker.__name__: taker for taker in takers}, Worker)
