"""``SessionManager.recall``: the same lists on every backend, plain, compressed and encrypted."""

import json

from luminoracore_sdk.adapters.embedders import HashingEmbedder
from luminoracore_sdk.adapters.vectors import numpy_cosines
from luminoracore_sdk.domain.recall.ranking import Cosines, cosines
from luminoracore_sdk.session import SessionStorage
from luminoracore_sdk.testing import ManualClock
from tests.support.backends import CONTRACT_BACKENDS, MEMORY, Backend, each_backend
from tests.support.recall import (
    CHANGES,
    QUESTIONS,
    TEXTS,
    found_by,
    manager_of,
    reindexed,
    searched,
    stored_entries,
    without_indexes,
)

BACKENDS = [backend for backend in CONTRACT_BACKENDS if not backend.name.startswith(("retrying", "deferred", "unde"))]

_EACH = -(-len(QUESTIONS) // len(CHANGES))


async def lists_of(storage: SessionStorage, clock: ManualClock, *, beside_fresh: bool = False) -> list[str]:
    """Return what some of the queries find after each change, and what all find at the end.

    Args:
        storage: An empty store.
        clock: Its clock.
        beside_fresh: Whether a manager that has followed nothing must find the same after each change.
    """
    manager = manager_of(storage, clock)
    found: list[str] = []
    for number, change in enumerate(CHANGES):
        await change(manager, clock)
        asked = QUESTIONS[number * _EACH :][:_EACH]
        found += await found_by(manager, asked)
        if beside_fresh:
            assert await found_by(manager_of(storage, clock), asked) == found[-len(asked) :]
    return found + await found_by(manager, QUESTIONS)


async def by_meaning(storage: SessionStorage, clock: ManualClock, compare: Cosines) -> list[str]:
    """Return what is found with vectors, too."""
    meaning = searched(storage, HashingEmbedder(64), compare=compare)
    await reindexed(meaning)
    return await found_by(manager_of(meaning, clock), QUESTIONS[:60])


_reference: tuple[list[str], list[str]] | None = None


async def reference() -> tuple[list[str], list[str]]:
    global _reference  # noqa: PLW0603  # made once
    if _reference is None:
        clock = ManualClock()
        with MEMORY.place() as make:
            async with searched(make(clock)) as storage:
                words = await lists_of(storage, clock, beside_fresh=True)
                _reference = words, await by_meaning(storage, clock, cosines)
    return _reference


async def test_the_reference_finds_what_is_looked_for() -> None:
    words, meaning = await reference()
    lists = [json.loads(found) for found in words]
    assert len(lists) == 2 * len(QUESTIONS)
    assert sum(map(bool, lists)) > 200
    assert any(hit["parts"]["similarity"] for found in meaning for hit in json.loads(found))
    clock = ManualClock()
    with MEMORY.place() as make:
        async with searched(make(clock)) as storage:
            manager = manager_of(storage, clock)
            await CHANGES[0](manager, clock)
            for name, text in TEXTS.items():
                hits = await manager.recall(text, session_ids=["s-none"], kinds=["message"])
                assert [hit.text for hit in hits[:1]] == [text] * (name != "blank")


@each_backend([backend for backend in BACKENDS if backend != MEMORY])
async def test_every_backend_gives_the_same_lists(backend: Backend) -> None:
    expected, expected_meaning = await reference()
    clock = ManualClock()
    with backend.place() as make:
        async with searched(make(clock)) as storage:
            found = await lists_of(storage, clock)
            for number, (one, other) in enumerate(zip(found, expected, strict=True)):
                assert one == other, QUESTIONS[number % len(QUESTIONS)]
            last = expected[-len(QUESTIONS) :]
            blobs = await stored_entries(storage)
            assert None not in blobs.values()
            assert await without_indexes(storage) == len(blobs)
            assert await found_by(manager_of(storage, clock), QUESTIONS) == last
            assert await reindexed(storage) == len(blobs)
            assert await stored_entries(storage) == blobs
            assert await found_by(manager_of(storage, clock), QUESTIONS) == last
            assert await by_meaning(storage, clock, numpy_cosines) == expected_meaning
