"""An append counts when the write concern says so, also one that is repeated."""

import asyncio
from typing import Literal

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import StorageUnavailableError
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.mongodb import MongoPlace
from tests.support.servers import mongodb_replica_set_url


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_a_repeated_append_is_in_doubt_for_as_long_as_too_few_members_have_it(
    place: MongoPlace, driver: Literal["motor", "pymongo"]
) -> None:
    url = mongodb_replica_set_url()
    hopeless = f"{url}&w=2&wtimeoutMS=100"  # the set has one member
    name = f"{place.name}-{driver}"
    async with (
        MongoDBStorage(url, database=name, driver=driver) as confirmed,
        MongoDBStorage(hopeless, database=name, driver=driver) as storage,
    ):
        await confirmed.put_session(session_record())
        for _ in range(3):
            with pytest.raises(StorageUnavailableError) as refused:
                await storage.append_messages("s", [message_record("m1")])
            assert refused.value.in_doubt is True
        again = await confirmed.append_messages("s", [message_record("m1")])
        assert again == AppendReceipt(first_position=1, last_position=1, replayed=True)
        await confirmed.delete_session("s")


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_appends_that_are_written_together_are_all_in_doubt_if_too_few_members_have_them(
    place: MongoPlace, driver: Literal["motor", "pymongo"]
) -> None:
    url = mongodb_replica_set_url()
    name = f"{place.name}-{driver}"
    names = [f"{number}" for number in range(6)]
    async with (
        MongoDBStorage(url, database=name, driver=driver) as confirmed,
        MongoDBStorage(f"{url}&w=2&wtimeoutMS=100", database=name, driver=driver) as storage,
    ):
        for session in names:
            await confirmed.put_session(session_record(session))
        outcomes = await asyncio.gather(
            *(storage.append_messages(session, [message_record("m1")]) for session in names),
            return_exceptions=True,
        )
        for outcome in outcomes:
            assert isinstance(outcome, StorageUnavailableError)
            assert outcome.in_doubt is True
        for session in names:
            again = await confirmed.append_messages(session, [message_record("m1")])
            assert again == AppendReceipt(first_position=1, last_position=1, replayed=True)
            await confirmed.delete_session(session)
