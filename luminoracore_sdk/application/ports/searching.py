"""What a storage says about how it is searched."""

from collections.abc import Callable, Collection, Coroutine
from typing import Any

import attrs

from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.domain.recall.analyzer import Analyzer
from luminoracore_sdk.domain.recall.ranking import DEFAULT_WEIGHTS, Cosines, Weights, cosines
from luminoracore_sdk.domain.recall.terms import Entry, model_code

__all__ = ["SEARCH_IS_OFF", "Search"]

SEARCH_IS_OFF = 'search is off; switch it on with create_storage(…, search="text")'
"""The text of the error of a query where there is no ``Search``."""


async def _ignore(_: Collection[str]) -> None:
    """Do nothing."""


@attrs.frozen(kw_only=True)
class Search:
    """How what is stored is found.

    Attributes:
        analyzer: Turns texts into terms.
        embedder: Turns texts into vectors; None: words alone decide.
        weights: How the parts of a score count.
        compare: Compares vectors.
        embed_later: Takes the ids of sessions that have messages without vectors; does not wait for the vectors.
        query_seconds: How long a query waits for its vector. After that its words alone decide, and for six times as
            long no other query waits.
    """

    analyzer: Analyzer
    embedder: Embedder | None = None
    weights: Weights = DEFAULT_WEIGHTS
    compare: Cosines = cosines
    embed_later: Callable[[Collection[str]], Coroutine[Any, Any, None]] = _ignore
    query_seconds: float = 10.0

    @property
    def model(self) -> bytes | None:
        """The code of the embedder's model; None: there is no embedder."""
        return None if self.embedder is None else model_code(self.embedder.model_id)

    def lacks_vector(self, entry: Entry) -> bool:
        """Return whether the vector of a text with words is missing, or not one of the embedder."""
        embedder, vector = self.embedder, entry.vector
        if embedder is None or not entry.frequencies:
            return False
        return vector is None or (vector.model, len(vector.values)) != (self.model, embedder.dimension)
