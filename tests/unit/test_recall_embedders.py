"""Embedders: vectors of texts, from models on this machine, servers and functions."""

import asyncio
import json
import logging
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from luminoracore_sdk.adapters.embedders import (
    CallableEmbedder,
    FastEmbedEmbedder,
    HashingEmbedder,
    OpenAIEmbedder,
    SentenceTransformersEmbedder,
    WordLlamaEmbedder,
)
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.domain.errors import (
    MissingDependencyError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderResponseError,
    ValidationError,
)
from luminoracore_sdk.domain.recall.terms import Vector
from tests.support.model_server import KEY, Answer, ModelServer, Reply, Request, fail

TEXTS = ["The cat sleeps.", "", " ", "half \ud83d", "A kitten is asleep on the sofa.", "Taxes are due in April."]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


async def test_hashing_gives_close_vectors_to_texts_with_the_same_words() -> None:
    embedder = HashingEmbedder(256)
    one, other, far = await embedder.embed_passages(["a red house", "a red horse", "nothing alike"])
    assert cosine(one, other) > 0.4 > abs(cosine(one, far)) + 0.1
    assert await embedder.embed_query("A  RED house") == one
    assert await embedder.embed_query("") == [0.0] * 256
    assert (embedder.model_id, embedder.dimension, len(one)) == ("hashing/256", 256, 256)


@pytest.mark.parametrize("dimension", [0, 513])
def test_hashing_has_bounds(dimension: int) -> None:
    with pytest.raises(ValidationError, match="not between 1 and 512"):
        HashingEmbedder(dimension)


async def test_wordllama_knows_what_is_close_without_a_network() -> None:
    embedder: Embedder = WordLlamaEmbedder()
    cat, *nothing, half, kitten, taxes = await embedder.embed_passages(TEXTS)
    assert nothing == [[0.0] * 256] * 2
    assert cosine(cat, kitten) > cosine(cat, taxes) + 0.2
    assert len(half) == embedder.dimension == 256
    query = await embedder.embed_query("The cat sleeps.")
    assert Vector.of("m", query) == Vector.of("m", cat)
    assert await embedder.embed_passages([]) == await embedder.embed_passages([""] * 0) == []
    assert embedder.model_id.startswith("wordllama/0.4")


def test_wordllama_leaves_the_log_of_the_process_alone() -> None:
    code = """
import logging
from luminoracore_sdk.search import WordLlamaEmbedder
WordLlamaEmbedder()
print(logging.root.handlers, logging.root.level)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == f"[] {logging.WARNING}\n"


async def test_one_wordllama_serves_many_tasks() -> None:
    embedder = WordLlamaEmbedder()
    found = await asyncio.gather(*(embedder.embed_query(f"number {n % 3}") for n in range(12)))
    assert found == found[:3] * 4
    assert found[0] != found[1]


async def lengths(texts: Sequence[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


async def test_a_function_is_an_embedder() -> None:
    embedder: Embedder = CallableEmbedder(lengths, model_id="lengths", dimension=2)
    assert await embedder.embed_passages(["a", "bcd"]) == [[1.0, 1.0], [3.0, 1.0]]
    assert await embedder.embed_query("ab") == [2.0, 1.0]
    assert await embedder.embed_passages([]) == []


async def test_queries_may_have_a_function_of_their_own() -> None:
    async def query(text: str) -> list[float]:
        return [0.0, float(len(text))]

    embedder = CallableEmbedder(lengths, model_id="lengths", dimension=2, embed_query=query)
    assert await embedder.embed_query("ab") == [0.0, 2.0]


async def test_wrong_numbers_of_vectors_and_values_are_refused() -> None:
    with pytest.raises(ValidationError, match="lengths returned a vector of 2 dimensions, not 3"):
        await CallableEmbedder(lengths, model_id="lengths", dimension=3).embed_query("a")

    async def none(_: Sequence[str]) -> list[list[float]]:
        return []

    with pytest.raises(ValidationError, match="none returned 0 vectors for 1 texts"):
        await CallableEmbedder(none, model_id="none", dimension=2).embed_query("a")


@pytest.mark.skipif(find_spec("fastembed") is not None, reason="fastembed is installed")
def test_missing_fastembed_names_its_extra() -> None:
    with pytest.raises(MissingDependencyError, match=r"luminoracore-sdk\[fastembed\]"):
        FastEmbedEmbedder()


@pytest.mark.skipif(find_spec("sentence_transformers") is not None, reason="sentence-transformers is installed")
def test_missing_sentence_transformers_names_its_extra() -> None:
    with pytest.raises(MissingDependencyError, match=r"luminoracore-sdk\[sentence-transformers\]"):
        SentenceTransformersEmbedder("model", dimension=2)


def embeddings(change: Callable[[list[dict[str, Any]]], object] = lambda rows: rows) -> Answer:
    """Answer as ``/v1/embeddings`` does, with the length of each text, the last one first."""

    def answer(request: Request) -> Reply:
        rows = [
            {"object": "embedding", "index": at, "embedding": [len(text), 1.0]}
            for at, text in enumerate(request.body["input"])
        ]
        body = {
            "object": "list",
            "data": change(rows[::-1]),
            "model": "m",
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
        return Reply(pieces=[json.dumps(body).encode()])

    return answer


@asynccontextmanager
async def embedder_on(server: ModelServer, **options: Any) -> AsyncIterator[OpenAIEmbedder]:
    quick = {"timeout": 5, "max_retries": 0}
    embedder = OpenAIEmbedder("model-x", dimension=2, base_url=f"{server.url}/v1", api_key=KEY, extra=quick, **options)
    try:
        yield embedder
    finally:
        await embedder.close()


async def test_texts_are_sent_in_batches_and_come_back_in_order() -> None:
    async with ModelServer(embeddings()) as server, embedder_on(server, batch_size=2) as embedder:
        assert await embedder.embed_passages(["abc", "", "half \ud83d"]) == [[3.0, 1.0], [1.0, 1.0], [6.0, 1.0]]
        assert await embedder.embed_query("abcd") == [4.0, 1.0]
        assert await embedder.embed_passages([]) == []
    assert [request.body["input"] for request in server.requests] == [["abc", " "], ["half \ufffd"], ["abcd"]]
    first = server.requests[0]
    assert (first.path, first.body["model"]) == ("/v1/embeddings", "model-x")
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert embedder.model_id == "openai/model-x/2"


def bounded(largest: int, most: int) -> Answer:
    """Refuse texts and requests of too many letters, as OpenAI refuses tokens; else answer."""

    def answer(request: Request) -> Reply:
        lengths = [len(text) for text in request.body["input"]]
        for sizes, message in (
            ([length for length in lengths if length > largest], "This model's maximum context length is 8192 tokens"),
            ([sum(lengths)] * (sum(lengths) > most), "Requested 309209 tokens, max 300000 tokens per request"),
        ):
            if sizes:
                return fail(400, {"error": {"message": message, "type": "invalid_request_error", "code": None}})(
                    request
                )
        return embeddings()(request)

    return answer


async def test_requests_of_too_many_tokens_are_divided() -> None:
    texts = ["a" * length for length in (5, 90, 80, 300, 7, 1)]
    async with ModelServer(bounded(100, 120)) as server, embedder_on(server) as embedder:
        found = await embedder.embed_passages(texts)
        assert [vector[0] for vector in found] == [5, 90, 80, 75, 7, 1]
        assert (await embedder.embed_query("b" * 1000))[0] == 62
        server.requests.clear()
        assert await embedder.embed_passages(texts[:1]) == [[5.0, 1.0]]
        assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "message"), [(400, "unknown model"), (404, "no token"), (400, "0 tokens fit")])
async def test_another_refusal_ends_after_few_requests(status: int, message: str) -> None:
    refuse = fail(status, {"error": {"message": message}})
    async with ModelServer(refuse) as server, embedder_on(server) as embedder:
        with pytest.raises(ProviderError):
            await embedder.embed_passages(["abcdefgh"] * 8)
        assert len(server.requests) <= 8


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[1:],
        lambda rows: [{**rows[0], "embedding": [1.0]}],
        lambda rows: [{**rows[0], "embedding": ["x", "y"]}],
        lambda rows: [{"index": 0}],
        lambda rows: None,
    ],
    ids=["none", "short", "text", "without", "null"],
)
async def test_malformed_embeddings_are_refused(change: Callable[[list[dict[str, Any]]], object]) -> None:
    async with ModelServer(embeddings(change)) as server, embedder_on(server) as embedder:
        with pytest.raises(ProviderResponseError):
            await embedder.embed_query("a")


async def test_refused_keys_and_failures_are_errors_without_the_key() -> None:
    async with (
        ModelServer(fail(401, {"error": {"message": KEY}}), fail(500)) as server,
        embedder_on(server) as embedder,
    ):
        with pytest.raises(ProviderAuthenticationError) as caught:
            await embedder.embed_query("a")
        assert KEY not in f"{caught.value}{caught.value.__cause__}"
        with pytest.raises(ProviderConnectionError):
            await embedder.embed_query("a")


async def test_a_server_that_is_gone_is_an_error() -> None:
    async with ModelServer(embeddings()) as server:
        pass
    async with embedder_on(server) as embedder:
        with pytest.raises(ProviderConnectionError, match="connection refused"):
            await embedder.embed_query("a")


def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ProviderAuthenticationError, match="OPENAI_API_KEY"):
        OpenAIEmbedder("text-embedding-3-small", dimension=1536)
    OpenAIEmbedder("model", dimension=2, base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ProviderError, match="unknown"):
        OpenAIEmbedder("model", dimension=2, base_url="http://127.0.0.1:1/v1", extra={"unknown": 1})
