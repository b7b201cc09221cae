"""A storage that any number of event loops and threads may use at once."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs

from luminoracore_sdk.adapters.per_process import PerProcess
from luminoracore_sdk.adapters.port_calls import fixed, port_calls
from luminoracore_sdk.adapters.portal import portal
from luminoracore_sdk.adapters.storage import documents
from luminoracore_sdk.adapters.storage.base import check_position
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.application.ports.records import MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.ports.watching import Change, Wakeup
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.values import check_id

if TYPE_CHECKING:
    from luminoracore_sdk.application.ports.searching import Search

__all__ = ["share"]


def _on_portal(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(self: "_Shared", *args: Any, **kwargs: Any) -> Any:  # a task that is cancelled first calls nothing
        method = getattr(self.storage.get(), name)
        arguments, options = fixed(args, kwargs)
        return await portal().call(method(*arguments, **options))

    return call


class _OnPortal:
    """A wake-up on the loop of the portal."""

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  # not an error if nothing happens
        await portal().call(self._wakeup.wait(timeout))


class _EmbedderOnPortal:
    """An embedder whose calls are made on the portal."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.model_id = embedder.model_id
        self.dimension = embedder.dimension

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        return await portal().call(self._embedder.embed_passages(texts))

    async def embed_query(self, text: str) -> list[float]:
        return await portal().call(self._embedder.embed_query(text))


class _Shared(SessionStorage):
    def __init__(self, make: Callable[[], SessionStorage]) -> None:
        self.storage = PerProcess(make)

    @property
    def backend(self) -> str:
        return self.storage.get().backend

    @property
    def search(self) -> "Search | None":
        search = self.storage.get().search
        if search is None or search.embedder is None:
            return search
        embed_later = search.embed_later
        return attrs.evolve(
            search,
            embedder=_EmbedderOnPortal(search.embedder),
            embed_later=lambda session_ids: portal().call(embed_later(session_ids)),
        )

    def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None, chunk: int = 500
    ) -> AsyncIterator[MessageRecord]:
        return documents.stream_messages(self, session_id, after=after, before=before, chunk=chunk)

    def watch(
        self, session_id: str, *, after: int = 0, seen: int | None = None, poll_seconds: float = 0.5
    ) -> AsyncIterator[Change]:
        check_id(session_id)
        check_position(after)
        check_position(0 if seen is None else seen)
        return documents.watch(self, session_id, after=after, seen=seen, poll_seconds=poll_seconds)

    @asynccontextmanager
    async def wakeups(self, session_id: str) -> AsyncIterator[Wakeup]:
        context = self.storage.get().wakeups(session_id)
        wakeup = await portal().call(context.__aenter__())
        try:
            yield _OnPortal(wakeup)
        finally:
            await portal().call(context.__aexit__(None, None, None))

    async def save_session(self, session_id: str, data: JSONObject) -> bool:
        return await documents.save_session(self, session_id, data)  # encoded before the caller can change it


_SharedStorage = type("SharedStorage", (_Shared,), port_calls(_Shared, _on_portal))


def share(make: Callable[[], SessionStorage]) -> SessionStorage:
    """Return a storage whose calls are made on the portal, by whichever loop or thread.

    A call that is cancelled is cancelled there, and its end is awaited.

    Args:
        make: Makes the storage, now and in each forked process that uses it.
    """
    shared: SessionStorage = _SharedStorage(make)
    return shared
