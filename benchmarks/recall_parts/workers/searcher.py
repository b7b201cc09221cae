"""What a worker that searches can do. It needs the standard library alone, as a peer's environment has no more."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from benchmarks.peer_parts.workers import peer

__all__ = ["Searcher", "serve"]


class Searcher(ABC):
    """The search of a framework over the messages of one user, used as its documentation says.

    Args:
        place: A path that does not exist yet.
        pool_size: Not used; there is one search at a time.
    """

    def __init__(self, place: str, pool_size: int) -> None:
        self.place = place
        self.pool_size = pool_size

    async def open(self) -> None:  # noqa: B027  # some have nothing to open
        """Make what is needed once."""

    async def close(self) -> None:  # noqa: B027  # some keep nothing open
        """Let go of everything."""

    @abstractmethod
    async def fill(self, sessions: Mapping[str, Sequence[str]], vectors: Mapping[str, Sequence[float]]) -> None:
        """Store the texts of each session; the vectors are those of all texts and questions."""

    @abstractmethod
    async def search(self, question: str, limit: int) -> list[tuple[str, int]]:
        """Return sessions and positions, from 1 on, the best first."""


class Worker:
    """Carries out a request; a search is answered with the seconds that it took."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher

    async def obey(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Do one thing: fill, or search."""
        if order["do"] == "fill":
            await self._searcher.fill(order["sessions"], order["vectors"])
            return {}
        began = perf_counter()
        found = await self._searcher.search(order["question"], order["limit"])
        return {"found": found, "seconds": perf_counter() - began}


def serve(*searchers: type[Searcher]) -> None:
    """Be the worker of one of these, until the input ends."""
    peer.serve({searcher.__name__: searcher for searcher in searchers}, Worker)
