"""What every embedder over a model of this machine does, with the model of ``tests.support.local_models``."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from luminoracore_sdk.search import Embedder
from luminoracore_sdk.session import SessionManager, create_storage
from luminoracore_sdk.utils.exceptions import ValidationError
from tests.support.local_models import DIMENSION

__all__ = ["LocalEmbedderCases"]


class LocalEmbedderCases:
    """The cases; a subclass has a fixture ``embedder_of``, which returns the embedder that claims a dimension."""

    @pytest.fixture
    def embedder(self, embedder_of: Callable[[int], Embedder]) -> Embedder:
        return embedder_of(DIMENSION)

    async def test_texts_of_one_meaning_have_one_vector(self, embedder: Embedder) -> None:
        texts = ["the cat sleeps", "the kitten slumbers", "taxes are due", ""]
        cat, kitten, taxes, _ = await embedder.embed_passages(texts)
        assert cat == pytest.approx(kitten)
        assert cat != pytest.approx(taxes, abs=0.1)
        assert await embedder.embed_query("the cat sleeps") == pytest.approx(cat)
        assert await embedder.embed_passages([]) == []

    async def test_lone_surrogates_are_embedded(self, embedder: Embedder) -> None:
        (half,) = await embedder.embed_passages(["cat \ud83d"])
        assert len(half) == DIMENSION

    async def test_tasks_share_one_model(self, embedder: Embedder) -> None:
        found = await asyncio.gather(*(embedder.embed_query(text) for text in ("cat", "taxes") * 6))
        assert found == found[:2] * 6

    async def test_another_dimension_is_refused(self, embedder_of: Callable[[int], Embedder]) -> None:
        with pytest.raises(ValidationError, match="16 dimensions, not 3"):
            await embedder_of(3).embed_query("cat")

    async def test_recall_finds_what_means_the_same(self, embedder: Embedder, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'chat.db'}"
        async with create_storage(url, search="semantic", embedder=embedder) as storage:
            manager = SessionManager(storage)
            session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"}, {"user_id": "u"})
            for text in ("taxes are due", "the kitten slumbers", "april"):
                await manager.conversation_manager.add_message(session_id, "user", text)
        async with create_storage(url, search="semantic", embedder=embedder) as storage:
            hits = await SessionManager(storage).recall("cat sleeps", user_id="u", limit=1)
        assert [hit.text for hit in hits] == ["the kitten slumbers"]
