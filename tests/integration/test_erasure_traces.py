"""After an erasure no file, table, key, collection or object of the store has a word of the user."""

from pathlib import Path

import pytest

from luminoracore_sdk.application.services import Services
from luminoracore_sdk.session import SessionManager
from luminoracore_sdk.testing import ManualClock
from tests.support.backends import EMBEDDED, MONGODB, POSTGRES, REDIS, Backend, each_backend
from tests.support.raw_stores import raw_content
from tests.support.users import PLACES, canary, digest_of, fill_user, fill_user_everywhere, session_of, word_in

SIX = (*EMBEDDED, POSTGRES, REDIS, MONGODB)


@each_backend(SIX)
async def test_no_word_of_an_erased_user_is_left_anywhere(
    backend: Backend, tmp_path: Path, clock: ManualClock, services: Services
) -> None:
    path, others = tmp_path / "store", ["bob-4711", "cy-4712"]
    words = ["ada-4710", *(word_in(place, "ada-4710") for place in PLACES)]
    try:
        async with backend.at(path)(clock) as storage, SessionManager(storage, services=services) as manager:
            for user in ("ada-4710", *others):
                await fill_user_everywhere(manager, user)
            clock.advance(10)
            digests = {user: await digest_of(storage, user) for user in others}
            before = await raw_content(backend, path, storage)
            assert [word for word in words if word.encode() not in before] == []

            receipt = await manager.erase_user("ada-4710")

            assert (receipt.sessions, receipt.messages, receipt.memories) == (3, 21, 9)
            assert receipt.verified is True
            after = await raw_content(backend, path, storage)
            assert [word for word in words if word.encode() in after] == []
            kept = [word_in(place, user) for place in PLACES for user in others if place != "expired-value"]
            assert [word for word in kept if word.encode() not in after] == []
            assert {user: await digest_of(storage, user) for user in others} == digests
        if backend.persistent:
            assert canary("ada-4710").encode() not in await raw_content(backend, path, storage)
    finally:
        backend.clear(path)


@each_backend(SIX)
@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.nightly)])
async def test_some_of_many_users_are_erased(
    backend: Backend, tmp_path: Path, clock: ManualClock, services: Services, count: int
) -> None:
    path, users = tmp_path / "store", [f"user-{number}" for number in range(count)]
    erased = users[count // 5 :: count // 5]
    kept = [user for user in users if user not in erased]
    try:
        async with backend.at(path)(clock) as storage, SessionManager(storage, services=services) as manager:
            for user in users:
                await fill_user(manager, user, turns=1)
            digests = {user: await digest_of(storage, user) for user in kept}
            for user in erased:
                receipt = await manager.erase_user(user)
                assert (receipt.sessions, receipt.messages, receipt.memories, receipt.verified) == (1, 2, 2, True)
            after = await raw_content(backend, path, storage)
            assert [user for user in erased if canary(user).encode() in after] == []
            assert [user for user in kept if canary(user).encode() not in after] == []
            assert {user: await digest_of(storage, user) for user in kept} == digests
            assert sorted(await manager.list_sessions()) == sorted(map(session_of, kept))
            assert sorted(await storage.list_memory_owners()) == sorted(kept)
    finally:
        backend.clear(path)
