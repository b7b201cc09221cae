# pyright: reportMissingImports=false
"""The embedder over sentence-transformers, with a model made here: nothing is downloaded."""

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers", reason="the extra sentence-transformers is not installed")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel

from luminoracore_sdk.search import SentenceTransformersEmbedder
from luminoracore_sdk.session import SessionManager, create_storage
from luminoracore_sdk.utils.exceptions import ValidationError
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


@pytest.fixture
def embedder(folder: Path) -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder(str(folder), dimension=DIMENSION, device="cpu")


async def test_texts_of_one_meaning_have_one_vector(embedder: SentenceTransformersEmbedder) -> None:
    cat, kitten, taxes, *_ = await embedder.embed_passages(
        ["the cat sleeps", "the kitten slumbers", "taxes are due", ""]
    )
    assert cat == pytest.approx(kitten)
    assert cat != pytest.approx(taxes, abs=0.1)
    assert await embedder.embed_query("the cat sleeps") == pytest.approx(cat)
    assert await embedder.embed_passages([]) == []


async def test_lone_surrogates_are_embedded(embedder: SentenceTransformersEmbedder) -> None:
    (half,) = await embedder.embed_passages(["cat \ud83d"])
    assert len(half) == DIMENSION


async def test_tasks_share_one_model(embedder: SentenceTransformersEmbedder) -> None:
    found = await asyncio.gather(*(embedder.embed_query(text) for text in ("cat", "taxes") * 6))
    assert found == found[:2] * 6


async def test_another_dimension_is_refused(folder: Path) -> None:
    embedder = SentenceTransformersEmbedder(str(folder), dimension=3, device="cpu")
    with pytest.raises(ValidationError, match="16 dimensions, not 3"):
        await embedder.embed_query("cat")


async def test_recall_finds_what_means_the_same(embedder: SentenceTransformersEmbedder, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    async with create_storage(url, search="semantic", embedder=embedder) as storage:
        manager = SessionManager(storage)
        session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"}, {"user_id": "u"})
        for text in ("taxes are due", "the kitten slumbers", "april"):
            await manager.conversation_manager.add_message(session_id, "user", text)
    async with create_storage(url, search="semantic", embedder=embedder) as storage:
        hits = await SessionManager(storage).recall("cat sleeps", user_id="u", limit=1)
    assert [hit.text for hit in hits] == ["the kitten slumbers"]
