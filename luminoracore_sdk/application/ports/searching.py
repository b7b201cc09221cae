"""What a storage says about how it is searched."""

from collections.abc import Callable

import attrs

from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.domain.recall.analyzer import Analyzer
from luminoracore_sdk.domain.recall.ranking import DEFAULT_WEIGHTS, Cosines, Weights, cosines
from luminoracore_sdk.domain.recall.terms import model_code

__all__ = ["Search"]


def _ignore(_: str) -> None:
    """Do nothing."""


@attrs.frozen(kw_only=True)
class Search:
    """How what is stored is found.

    Attributes:
        analyzer: Turns texts into terms.
        embedder: Turns texts into vectors; None: words alone decide.
        weights: How the parts of a score count.
        compare: Compares vectors.
        embed_later: Takes the id of a session that has messages without vectors; returns at once.
    """

    analyzer: Analyzer
    embedder: Embedder | None = None
    weights: Weights = DEFAULT_WEIGHTS
    compare: Cosines = cosines
    embed_later: Callable[[str], None] = _ignore

    @property
    def model(self) -> bytes | None:
        """The code of the embedder's model; None: there is no embedder."""
        return None if self.embedder is None else model_code(self.embedder.model_id)
