"""The connection that listens for changes of sessions that are watched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.watching import Change
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.postgres import Schema

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%luminoracore_changes%'"
MARKED = "SELECT count(*) FROM luminora_sessions WHERE watched_until > now()"


@pytest.fixture
async def storage(schema: Schema) -> AsyncIterator[PostgreSQLStorage]:
    async with schema.storage() as opened:
        await opened.put_session(session_record())
        yield opened


def watch(storage: PostgreSQLStorage, poll_seconds: float = 30) -> "aclosing[Any]":
    return aclosing(cast("Any", storage.watch("s", poll_seconds=poll_seconds)))


async def position(changes: AsyncIterator[Change]) -> int:
    async with asyncio.timeout(10):
        return (await anext(changes)).position


async def test_a_lost_connection_loses_no_change(schema: Schema, storage: PostgreSQLStorage) -> None:
    async with schema.storage() as reader, watch(reader, 0.2) as changes:
        await storage.append_messages("s", [message_record("m1")])
        assert await position(changes) == 1
        await schema.until(LISTENING, lambda count: count == 1)
        await schema.rows(LISTENING.replace("count(*)", "pg_terminate_backend(pid)"))
        await storage.append_messages("s", [message_record("m2")])
        assert await position(changes) == 2
        await schema.until(LISTENING, lambda count: count == 1)


async def test_the_last_watcher_frees_the_connection(schema: Schema, storage: PostgreSQLStorage) -> None:
    async with schema.storage() as reader:
        async with watch(reader) as changes, watch(reader) as others:
            following = [asyncio.create_task(position(one)) for one in (changes, others)]
            await schema.until(MARKED, lambda count: count == 1)
            await storage.append_messages("s", [message_record("m1")])
            assert [await task for task in following] == [1, 1]
            assert await schema.rows(LISTENING) == [(1,)]
        await schema.until(LISTENING, lambda count: count == 0)


async def test_an_unwatched_session_notifies_nobody(schema: Schema, storage: PostgreSQLStorage) -> None:
    heard: list[object] = []
    async with schema.connection() as connection:
        await connection.add_listener("luminoracore_changes", lambda *notification: heard.append(notification[-1]))
        await storage.append_messages("s", [message_record("m1")])
        await storage.put_session(session_record("t"))
        await storage.append_messages("t", [message_record("m1")])
        await schema.rows("UPDATE luminora_sessions SET watched_until = now() + interval '1 minute' RETURNING 1")
        await storage.append_messages("s", [message_record("m2")])
        async with asyncio.timeout(10):
            while not heard:  # noqa: ASYNC110  # the listener is no coroutine
                await asyncio.sleep(0.01)
        await connection.execute("SELECT 1")
    # the SHA-256 of "s"
    assert heard == ["043a718774c572bd8a25adbeb1bfcd5c0256ae11cecf9f9c3f925d0e52beaf89"]


@pytest.mark.parametrize("option", [{"pool_size": 1}, {"prepared_statements": "false"}], ids=str)
async def test_without_a_connection_to_spare_it_polls(
    schema: Schema, storage: PostgreSQLStorage, option: dict[str, Any]
) -> None:
    url = schema.url
    if "prepared_statements" in option:
        url, option = f"{url}{'&' if '?' in url else '?'}prepared_statements=false", {}
    async with schema.storage(url=url, **option) as reader, watch(reader, 0.05) as changes:
        await storage.append_messages("s", [message_record("m1")])
        assert await position(changes) == 1
        await storage.append_messages("s", [message_record("m2")])
        assert await position(changes) == 2
        assert await schema.rows(MARKED) == [(0,)]


async def test_closing_the_storage_ends_the_listening(schema: Schema, storage: PostgreSQLStorage) -> None:
    reader = schema.storage()
    async with reader.wakeups("s") as wakeup:
        await schema.until(MARKED, lambda count: count == 1)
        await reader.close()
        await wakeup.wait(0.01)
    await schema.until(LISTENING, lambda count: count == 0)
