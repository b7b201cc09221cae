# pyright: reportMissingImports=false
"""The embedder over sentence-transformers, with a model made here: nothing is downloaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers", reason="the extra sentence-transformers is not installed")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel

from luminoracore_sdk.search import Embedder, SentenceTransformersEmbedder
from tests.integrations.local_embedders import LocalEmbedderCases
from tests.support.local_models import DIMENSION, VOCABULARY, save_tokenizer, word_vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts, made = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("sentence-transformers")
    save_tokenizer(parts)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=DIMENSION,
        intermediate_size=DIMENSION,
        num_hidden_layers=0,
        num_attention_heads=1,
        max_position_embeddings=130,
    )
    bert = BertModel(config)
    with torch.no_grad():
        bert.embeddings.word_embeddings.weight.copy_(torch.from_numpy(word_vectors()))
        bert.embeddings.position_embeddings.weight.zero_()
        bert.embeddings.token_type_embeddings.weight.zero_()
    bert.save_pretrained(parts)
    SentenceTransformer(modules=[Transformer(str(parts)), Pooling(DIMENSION, "mean")], device="cpu").save(str(made))
    return made


class TestSentenceTransformers(LocalEmbedderCases):
    @pytest.fixture
    def embedder_of(self, folder: Path) -> Callable[[int], Embedder]:
        return lambda dimension: SentenceTransformersEmbedder(str(folder), dimension=dimension, device="cpu")
