"""After an erasure no file, table, key, collection or object of the store has a word of the user."""

from pathlib import Path

import pytest

from luminoracore_sdk.application.services import Services
from luminoracore_sdk.session import SessionManager
from luminoracore_sdk.testing import ManualClock
from tests.support.backends import EMBEDDED, MONGODB, POSTGRES, REDIS, Backend, each_backend
from tests.support.raw_stores import raw_content
from tests.support.users import PLACES, canary, digest_of, fill_user, fill_user_everywhere, word_in

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
