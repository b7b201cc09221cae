"""What recall finds, the languages that it knows, and the embedders for semantic search."""

from luminoracore_sdk.adapters.analysis import LANGUAGES
from luminoracore_sdk.adapters.embedders import (
    CallableEmbedder,
    FastEmbedEmbedder,
    HashingEmbedder,
    OpenAIEmbedder,
    SentenceTransformersEmbedder,
    WordLlamaEmbedder,
)
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.domain.recall.hits import Hit

__all__ = [
    "LANGUAGES",
    "CallableEmbedder",
    "Embedder",
    "FastEmbedEmbedder",
    "HashingEmbedder",
    "Hit",
    "OpenAIEmbedder",
    "SentenceTransformersEmbedder",
    "WordLlamaEmbedder",
]
