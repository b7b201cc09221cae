# pyright: reportMissingImports=false
"""The embedder over fastembed, with a model made here: nothing is downloaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("fastembed", reason="the extra fastembed is not installed")
pytest.importorskip("onnx")

import onnx
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from onnx import TensorProto, helper, numpy_helper

from luminoracore_sdk.search import Embedder, FastEmbedEmbedder
from tests.integrations.local_embedders import LocalEmbedderCases
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


class TestFastEmbed(LocalEmbedderCases):
    @pytest.fixture
    def embedder_of(self, folder: Path) -> Callable[[int], Embedder]:
        return lambda dimension: FastEmbedEmbedder(MODEL, dimension=dimension, specific_model_path=str(folder))
