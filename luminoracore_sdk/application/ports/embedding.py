"""The port of embedding models."""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Embedder"]


class Embedder(Protocol):
    """Turns texts into vectors whose angles say how close their meanings are.

    Texts may be any strings, empty ones and lone surrogates included. A text for which the model has nothing to say
    may get a vector of zeros, which is like none. One embedder may be used by several tasks at once.

    Attributes:
        model_id: Names the model and everything else that the vectors depend on. Vectors of different ids are
            never compared.
        dimension: Number of values of every vector.
    """

    @property
    def model_id(self) -> str:
        """The name of what made the vectors."""
        ...

    @property
    def dimension(self) -> int:
        """The number of values of every vector."""
        ...

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts that are to be found, in their order.

        Args:
            texts: Any number of them; the embedder makes batches.
        """
        ...

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        ...
