"""Servers that refuse a password, a database or a permission."""

from collections.abc import Awaitable, Callable
from types import NoneType

import attrs
import pytest

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import StorageAccessError
from luminoracore_sdk.testing import memory_record, message_record, session_record
from tests.support.bad_days import Place, assert_whole, failure, possible_failure, stored_ids

_WRITES: list[Callable[[SessionStorage], Awaitable[object]]] = [
    lambda storage: storage.put_session(session_record("new")),
    lambda storage: storage.append_messages("s", [message_record("new")]),
    lambda storage: storage.truncate_messages("s", after=0),
    lambda storage: storage.put_memory(memory_record("new")),
    lambda storage: storage.delete_session("s"),
]


async def test_a_wrong_password_is_refused_and_not_shown(place: Place) -> None:
    storage = place.storage(attrs.evolve(place.account, password="wr0ng-and-secret"))
    for call in (storage.open, lambda: storage.put_session(session_record())):
        error = await failure(call())
        assert (type(error), error.in_doubt) == (StorageAccessError, False)
        assert "wr0ng" not in f"{error} {error.details} {error.__cause__!r}"


async def test_an_unknown_user_is_refused(place: Place) -> None:
    error = await failure(place.storage(attrs.evolve(place.account, user="nobody")).open())
    assert (type(error), error.in_doubt) == (StorageAccessError, False)


@pytest.mark.parametrize("kind", ["postgres", "valkey", "mongodb-pymongo"])  # a cluster has one database
async def test_a_missing_database_is_refused(place: Place) -> None:
    account = attrs.evolve(place.account, database=place.rig.missing_database)
    error = await failure(place.storage(account).put_session(session_record()))
    assert (type(error), error.in_doubt) == (StorageAccessError, False)


async def test_a_user_without_rights_is_refused(place: Place) -> None:
    storage = place.storage(attrs.evolve(place.account, user="powerless"))
    error = await failure(storage.put_session(session_record()))
    assert (type(error), error.in_doubt) == (StorageAccessError, False)


async def test_a_read_only_user_can_read(place: Place) -> None:
    owner = await place.begun()
    await owner.append_messages("s", [message_record("m1")])
    place.rig.allow_reading(place.account.place)
    reader = place.storage(attrs.evolve(place.account, user="reader"))
    assert await stored_ids(reader) == ["m1"]
    for write in _WRITES:
        error = await failure(write(reader))
        # In doubt or not: Valkey refuses one command of a script, after others may have run.
        assert type(error) is StorageAccessError
    assert await stored_ids(owner) == ["m1"]
    assert await owner.list_sessions() == ["s"]


async def test_a_right_granted_later_is_used(place: Place) -> None:
    await place.begun()
    reader = place.storage(attrs.evolve(place.account, user="reader"), seconds=10)
    error = await possible_failure(reader.list_sessions())  # Valkey grants the reader its permission from the start
    assert type(error) in {NoneType, StorageAccessError}
    place.rig.allow_reading(place.account.place)
    assert await reader.list_sessions() == ["s"]
    await assert_whole(reader, 4)
