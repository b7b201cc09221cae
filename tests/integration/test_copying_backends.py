"""A copy through every backend and back is equal everywhere, whatever the values and ids."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise

import attrs
import pytest

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.maintenance.copy import Copied, Outcome, StoreCopy
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import (
    DOCUMENTS,
    VALID_IDS,
    json_payload,
    memory_record,
    message_record,
    session_record,
)
from tests.support.backends import BACKENDS, MEMORY, Backend

RETENTIONS = (0.0, -0.0, 5e-324, -1e300, 0.1)


async def fill(storage: SessionStorage) -> None:
    """Store every unusual value as a document, a message and a memory, under every unusual id."""
    documents = list(DOCUMENTS.values())
    for number, name in enumerate(VALID_IDS):
        payload = json_payload(documents[number % len(documents)])
        header = session_record(name, user_id=name, tags=(name, "t"), ttl_us=2**60 + number)
        await storage.put_session(attrs.evolve(header, payload=payload, created_at_us=-(2**60) + number))
        said = [attrs.evolve(message_record(one), payload=payload, created_at_us=number) for one in VALID_IDS]
        await storage.append_messages(name, said)
        for kind in ("session", "user"):
            entry = attrs.evolve(
                memory_record(name, kind=kind, owner=name, expires_at_us=2**60 + number),
                payload=payload,
                retention=RETENTIONS[number % len(RETENTIONS)],
                created_at_us=-number - 1,
            )
            await storage.put_memory(entry)


async def copied(source: SessionStorage, target: SessionStorage, clock: ManualClock) -> list[Copied]:
    copy = StoreCopy(source, target, values=JsonCodec(), clock=clock)
    return [one async for one in copy.run(SessionQuery())]


@pytest.mark.parametrize(
    "backends",
    [
        pytest.param([backend for backend in BACKENDS if not backend.nightly], id="most"),
        pytest.param(BACKENDS, id="all", marks=pytest.mark.nightly),
    ],
)
async def test_copies_through_every_backend_end_equal(clock: ManualClock, backends: Sequence[Backend]) -> None:
    async with AsyncExitStack() as opened:
        ring: list[SessionStorage] = []
        for backend in (MEMORY, *backends, MEMORY):
            make = opened.enter_context(backend.place())
            ring.append(await opened.enter_async_context(make(clock)))
        await fill(ring[0])
        digests = []
        for source, target in pairwise(ring):
            found = await copied(source, target, clock)
            assert {one.outcome for one in found} == {Outcome.COPIED}, (source.backend, target.backend)
            digests.append(sorted(str(one.digest) for one in found))  # the order of users is the backend's
        assert len(digests[0]) == 2 * len(VALID_IDS)
        assert digests == digests[:1] * len(digests)
        again = await copied(ring[0], ring[-1], clock)
        assert [one.reason for one in again if not one.is_equal] == []
        assert {one.outcome for one in again} == {Outcome.PRESENT}
