"""Embedders: models on this machine, servers with OpenAI's interface, and any function."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.providers.bodies import bounded_client
from luminoracore_sdk.adapters.providers.clients import LoopClients
from luminoracore_sdk.adapters.providers.credentials import checked_key, with_environment_key
from luminoracore_sdk.adapters.providers.errors import Peer, translated_errors
from luminoracore_sdk.adapters.providers.presets import KeyRule, Preset
from luminoracore_sdk.adapters.providers.redaction import Secrets, guard_logs
from luminoracore_sdk.adapters.providers.settings import OpenAISettings, read_settings
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import ProviderError, ProviderResponseError, ValidationError
from luminoracore_sdk.domain.surrogates import joined_surrogates

__all__ = [
    "CallableEmbedder",
    "FastEmbedEmbedder",
    "HashingEmbedder",
    "OpenAIEmbedder",
    "SentenceTransformersEmbedder",
    "WordLlamaEmbedder",
]

T = TypeVar("T")

_OPENAI = Preset(key=KeyRule.HOSTED, base_url="https://api.openai.com/v1")
_KEYLESS = "none"  # the client requires a key; a server that needs none ignores it


class HashingEmbedder:
    """Add up a random direction for each word: for tests, without a model.

    Texts with the same words get close vectors; it knows nothing of meaning.

    Args:
        dimension: Number of values, at most 512.
    """

    def __init__(self, dimension: int = 64) -> None:
        if not 1 <= dimension <= 512:
            raise ValidationError(f"dimension {dimension!r} is not between 1 and 512")
        self.dimension = dimension
        self.model_id = f"hashing/{dimension}"

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts."""
        return [self._embed(text) for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        return self._embed(text)

    def _embed(self, text: str) -> list[float]:
        total = [0.0] * self.dimension
        for word in text.casefold().split():
            digest = blake2b(word.encode("utf-8", "surrogatepass")).digest()
            for place in range(self.dimension):
                total[place] += 1.0 if digest[place // 8] >> place % 8 & 1 else -1.0
        return total


class CallableEmbedder:
    """Embed with a function.

    Args:
        embed: Returns the vectors of texts, in their order.
        model_id: See ``Embedder``.
        dimension: Number of values of every vector.
        embed_query: Returns the vector of a query; None: as for other texts.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[str]], Awaitable[list[list[float]]]],
        *,
        model_id: str,
        dimension: int,
        embed_query: Callable[[str], Awaitable[list[float]]] | None = None,
    ) -> None:
        self.model_id = model_id
        self.dimension = dimension
        self._embed = embed
        self._embed_query = embed_query

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts.

        Raises:
            ValidationError: The function returned vectors of another number or dimension.
        """
        return _checked(await self._embed(texts), len(texts), self) if texts else []

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query.

        Raises:
            ValidationError: The function returned a vector of another dimension.
        """
        if self._embed_query is None:
            return (await self.embed_passages([text]))[0]
        return _checked([await self._embed_query(text)], 1, self)[0]


class WordLlamaEmbedder:
    """Embed with the static vectors that the package wordllama brings: 256 dimensions, no network.

    About 20 µs a text, in a thread. The model is loaded at the first call.

    Raises:
        MissingDependencyError: The ``semantic`` extra is not installed.
    """

    dimension = 256

    def __init__(self) -> None:
        with _root_logger_left_alone():
            self._package = import_extra("wordllama", needed_by="WordLlamaEmbedder", extra="semantic")
        self.model_id = f"wordllama/{version('wordllama')}/l2_supercat/{self.dimension}"
        self._model = _LocalModel(self._load)

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts; zeros for one without words."""
        # an empty batch, and an empty text beside others, would make it divide by zero
        sent = [joined_surrogates(text, replace=True) for text in texts if text.strip()]
        found = iter(await self._model.run(lambda model: model.embed(sent).tolist()) if sent else [])
        return [next(found) if text.strip() else [0.0] * self.dimension for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        return (await self.embed_passages([text]))[0]

    def _load(self) -> Any:
        folder = Path(str(self._package.__file__)).parent
        return self._package.WordLlama.load(cache_dir=folder, dim=self.dimension, disable_download=True)


@contextmanager
def _root_logger_left_alone() -> Iterator[None]:
    """Keep wordllama 0.4.0, which calls ``logging.basicConfig``, from configuring the log of the whole process."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)  # with a handler, basicConfig changes nothing
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


class FastEmbedEmbedder:
    """Embed with a model of the package fastembed, in a thread; it downloads the model at the first call.

    Args:
        model: Its name in fastembed.
        dimension: Number of values of every vector.
        **options: Of ``fastembed.TextEmbedding``: ``cache_dir``, ``local_files_only`` …

    Raises:
        MissingDependencyError: The ``fastembed`` extra is not installed.
    """

    def __init__(self, model: str = "BAAI/bge-small-en-v1.5", *, dimension: int = 384, **options: Any) -> None:
        package = import_extra("fastembed", needed_by="FastEmbedEmbedder", extra="fastembed")
        self.model_id = f"fastembed/{model}"
        self.dimension = dimension
        self._model = _LocalModel(lambda: package.TextEmbedding(model_name=model, **options))

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts."""
        sent = [joined_surrogates(text, replace=True) for text in texts]
        found = await self._model.run(lambda model: [row.tolist() for row in model.passage_embed(sent)])
        return _checked(found, len(texts), self)

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        sent = joined_surrogates(text, replace=True)
        return _checked(
            await self._model.run(lambda model: [row.tolist() for row in model.query_embed(sent)]), 1, self
        )[0]


class SentenceTransformersEmbedder:
    """Embed with a model of the package sentence-transformers, in a thread.

    Args:
        model: Its name or folder; it is downloaded at the first call if it is not on this machine.
        dimension: Number of values of every vector.
        **options: Of ``SentenceTransformer``: ``device``, ``local_files_only`` …

    Raises:
        MissingDependencyError: The ``sentence-transformers`` extra is not installed.
    """

    def __init__(self, model: str, *, dimension: int, **options: Any) -> None:
        package = import_extra(
            "sentence_transformers", needed_by="SentenceTransformersEmbedder", extra="sentence-transformers"
        )
        self.model_id = f"sentence-transformers/{model}"
        self.dimension = dimension
        self._model = _LocalModel(lambda: package.SentenceTransformer(model, **options))

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts."""
        sent = [joined_surrogates(text, replace=True) for text in texts]
        return _checked(await self._model.run(lambda model: model.encode_document(sent).tolist()), len(texts), self)

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        sent = [joined_surrogates(text, replace=True)]
        return _checked(await self._model.run(lambda model: model.encode_query(sent).tolist()), 1, self)[0]


class OpenAIEmbedder:
    """Embed with OpenAI, or through ``base_url`` with any server that has its ``/embeddings``.

    One client per event loop is created at its first use; see ``LoopClients``. Requests that have too many tokens for
    the server are divided; of a text that has too many for the model, the beginning is embedded.

    Args:
        model: The model.
        dimension: Number of values of every vector.
        base_url: The server; None: OpenAI.
        api_key: The key; None: that of ``OPENAI_API_KEY``. A server other than OpenAI need not have one.
        batch_size: Texts of one request.
        extra: ``timeout``, ``max_retries``, ``headers`` and ``max_answer_bytes``; see ``OpenAISettings``.

    Raises:
        MissingDependencyError: The ``openai`` extra is not installed.
        ProviderAuthenticationError: A required key is missing.
        ProviderError: Another setting is wrong.
    """

    def __init__(
        self,
        model: str,
        *,
        dimension: int,
        base_url: str | None = None,
        api_key: str | None = None,
        batch_size: int = 256,
        extra: dict[str, Any] | None = None,
    ) -> None:
        config = ProviderConfig(name="openai", api_key=api_key, model=model, base_url=base_url, extra=extra or {})
        self._config = with_environment_key(config)
        self._settings = read_settings(OpenAISettings, self._config)
        self._key = checked_key(self._config, _OPENAI)
        self._secrets = Secrets(self._config)
        self._driver = import_extra("openai", needed_by="OpenAIEmbedder", extra="openai")
        self._base_url = base_url or str(_OPENAI.base_url)
        self._clients = LoopClients[Any](self._new_client, lambda client: client.close())
        self._batch_size = batch_size
        self._model = model
        self.dimension = dimension
        self.model_id = f"openai/{model}/{dimension}"

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts.

        Raises:
            ProviderError: The server refused the request, cannot be reached, or violates its protocol.
        """
        found: list[list[float]] = []
        for start in range(0, len(texts), self._batch_size):
            found += await self._fitting(texts[start : start + self._batch_size])
        return found

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query.

        Raises:
            ProviderError: As for ``embed_passages``.
        """
        return (await self._fitting([text]))[0]

    async def close(self) -> None:
        """Close the client of the running event loop; the next call creates a new one."""
        await self._clients.close()

    async def _fitting(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts, or of their beginnings, in as many requests as the server needs."""
        try:
            return await self._request(texts)
        except ProviderError as exc:
            if not self._is_too_long(exc) or sum(map(len, texts)) < 2:
                raise
        if len(texts) == 1:
            return await self._fitting([texts[0][: len(texts[0]) // 2]])
        middle = len(texts) // 2
        return await self._fitting(texts[:middle]) + await self._fitting(texts[middle:])

    def _is_too_long(self, error: ProviderError) -> bool:
        """Return whether the server refused a request for its length; servers agree on no code, but on a word."""
        refusal: Any = error.__cause__
        if not isinstance(refusal, self._driver.APIStatusError):
            return False
        return refusal.status_code == 413 or (refusal.status_code == 400 and "token" in str(refusal))

    async def _request(self, texts: Sequence[str]) -> list[list[float]]:
        # the server refuses empty texts
        sent = [joined_surrogates(text, replace=True) or " " for text in texts]
        with translated_errors(self._driver, Peer(name="openai", base_url=self._base_url), self._secrets):
            client = await self._clients.get()
            answer = await client.embeddings.create(model=self._model, input=sent, encoding_format="float")
            try:
                rows = [list(map(float, item.embedding)) for item in sorted(answer.data, key=lambda item: item.index)]
                return _checked(rows, len(texts), self)
            except (AttributeError, TypeError, ValueError) as exc:
                raise ProviderResponseError("openai sent malformed embeddings") from exc

    def _new_client(self) -> Any:
        guard_logs()
        settings = self._settings
        client = self._driver.AsyncOpenAI(
            api_key=self._key or _KEYLESS,
            base_url=self._base_url,
            default_headers=settings.headers,
            timeout=settings.timeout,
            max_retries=settings.max_retries,
            # a redirect would send custom headers, which may hold keys, to another host
            http_client=bounded_client(
                self._driver.DefaultAsyncHttpxClient,
                max_answer_bytes=settings.max_answer_bytes,
                provider="openai",
                timeout=settings.timeout,
                follow_redirects=False,
            ),
        )
        client.organization, client.project = settings.organization, settings.project
        return client


class _LocalModel:
    """A model that is loaded at its first use and serves one call at a time, in a thread."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._model: Any = None
        self._lock = Lock()

    async def run(self, work: Callable[[Any], T]) -> T:
        """Return what a function makes of the model."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Callable[[Any], T]) -> T:
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return work(self._model)


def _checked(rows: list[list[float]], count: int, embedder: Embedder) -> list[list[float]]:
    """Return vectors unchanged, or refuse them.

    Raises:
        ValidationError: Their number or dimension is wrong.
    """
    if len(rows) != count:
        raise ValidationError(f"{embedder.model_id} returned {len(rows)} vectors for {count} texts")
    for row in rows:
        if len(row) != embedder.dimension:
            raise ValidationError(
                f"{embedder.model_id} returned a vector of {len(row)} dimensions, not {embedder.dimension}"
            )
    return rows
