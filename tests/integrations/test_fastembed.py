# pyright: reportMissingImports=false
"""The embedder over fastembed, with a model made here: nothing is downloaded."""

import asyncio
import json
from pathlib import Path

import pytest

pytest.importorskip("fastembed", reason="the extra fastembed is not installed")
pytest.importorskip("onnx")

import onnx
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from onnx import TensorProto, helper, numpy_helper

from luminoracore_sdk.search import FastEmbedEmbedder
from luminoracore_sdk.session import SessionManager, create_storage
from luminoracore_sdk.utils.exceptions import ValidationError
from tests.support.local_models import DIMENSION, save_tokenizer, word_vectors

MODEL = "luminora/tiny"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fastembed")
    save_tokenizer(made)
    (made / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", DIMENSION])
    look_up = helper.make_node("Gather", ["vectors", "input_ids"], ["last_hidden_state"])
    graph = helper.make_graph([look_up], "tiny", inputs, [output], [numpy_helper.from_array(word_vectors(), "vectors")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(made / "model.onnx"))
    TextEmbedding.add_custom_model(
        model=MODEL,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(url="https://models.invalid/tiny.tar.gz"),
        dim=DIMENSION,
        model_file="model.onnx",
    )
    return made


@pytest.fixture
def embedder(folder: Path) -> FastEmbedEmbedder:
    return FastEmbedEmbedder(MODEL, dimension=DIMENSION, specific_model_path=str(folder))


async def test_texts_of_one_meaning_have_one_vector(embedder: FastEmbedEmbedder) -> None:
    cat, kitten, taxes, *_ = await embedder.embed_passages(
        ["the cat sleeps", "the kitten slumbers", "taxes are due", ""]
    )
    assert cat == pytest.approx(kitten)
    assert cat != pytest.approx(taxes, abs=0.1)
    assert await embedder.embed_query("the cat sleeps") == pytest.approx(cat)
    assert await embedder.embed_passages([]) == []


async def test_lone_surrogates_are_embedded(embedder: FastEmbedEmbedder) -> None:
    (half,) = await embedder.embed_passages(["cat \ud83d"])
    assert len(half) == DIMENSION


async def test_tasks_share_one_model(embedder: FastEmbedEmbedder) -> None:
    found = await asyncio.gather(*(embedder.embed_query(text) for text in ("cat", "taxes") * 6))
    assert found == found[:2] * 6


async def test_another_dimension_is_refused(folder: Path) -> None:
    embedder = FastEmbedEmbedder(MODEL, dimension=3, specific_model_path=str(folder))
    with pytest.raises(ValidationError, match="16 dimensions, not 3"):
        await embedder.embed_query("cat")


async def test_recall_finds_what_means_the_same(embedder: FastEmbedEmbedder, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    async with create_storage(url, search="semantic", embedder=embedder) as storage:
        manager = SessionManager(storage)
        session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"}, {"user_id": "u"})
        for text in ("taxes are due", "the kitten slumbers", "april"):
            await manager.conversation_manager.add_message(session_id, "user", text)
    async with create_storage(url, search="semantic", embedder=embedder) as storage:
        hits = await SessionManager(storage).recall("cat sleeps", user_id="u", limit=1)
    assert [hit.text for hit in hits] == ["the kitten slumbers"]
