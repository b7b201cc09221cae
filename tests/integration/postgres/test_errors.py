"""Errors of the server, translated into those of the port."""

import asyncio
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import asyncpg
import attrs
import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.postgres.migrate import migrator
from luminoracore_sdk.adapters.storage.postgres.options import Namespace
from luminoracore_sdk.adapters.storage.postgres.pool import Call
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    ConflictError,
    CorruptRecordError,
    SchemaVersionError,
    StorageAccessError,
    StorageBusyError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
)
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_records,
    session_record,
)
from tests.support.postgres import Schema, positions
from tests.support.servers.proxy import FaultProxy


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        pytest.param("default_transaction_read_only=on", StorageReadOnlyError, id="read-only"),
        pytest.param("lock_timeout=100", StorageBusyError, id="lock_timeout"),
        pytest.param("statement_timeout=100", StorageTimeoutError, id="statement_timeout"),
    ],
)
async def test_a_refused_write_is_the_finest_error_and_not_in_doubt(
    schema: Schema, storage: PostgreSQLStorage, setting: str, kind: type[StorageUnavailableError]
) -> None:
    async with (
        schema.storage(url=f"{schema.url}?{setting}", timeout=10) as limited,
        schema.connection() as other,
    ):
        block = other.transaction()
        await block.start()
        await other.execute("SELECT 1 FROM luminora_sessions FOR UPDATE")
        with pytest.raises(kind) as caught:
            await limited.append_messages("s", message_records(1))
        assert (type(caught.value), caught.value.in_doubt) == (kind, False)
        assert isinstance(caught.value.__cause__, asyncpg.PostgresError)
        await block.rollback()
    assert await positions(storage) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        pytest.param(("postgres@", "nobody:s3cret@"), StorageAccessError, id="unknown role"),
        pytest.param(("/postgres", "/nowhere"), StorageAccessError, id="unknown database"),
        pytest.param(("/postgres", "/postgres?no_such_setting=1"), ConfigurationError, id="unknown setting"),
        pytest.param(("/postgres", "/postgres?sslmode=perhaps"), ConfigurationError, id="unknown sslmode"),
        pytest.param(("/postgres", "/postgres?target_session_attrs=standby"), StorageUnavailableError, id="no standby"),
        pytest.param(("127.0.0.1", "no-such-host.invalid"), StorageUnavailableError, id="unknown host"),
    ],
)
async def test_a_refused_connection_is_a_typed_error_with_its_cause(
    schema: Schema, change: tuple[str, str], kind: type[Exception]
) -> None:
    storage = schema.storage(url=change[1].join(schema.url.rsplit(change[0], 1)))
    with pytest.raises(kind) as caught:
        await storage.open()
    assert type(caught.value) is kind
    assert caught.value.__cause__ is not None
    assert "s3cret" not in str(caught.value)


async def test_a_table_dropped_while_open_is_named(schema: Schema, storage: PostgreSQLStorage) -> None:
    await schema.rows("DROP TABLE luminora_messages")
    with pytest.raises(SchemaVersionError, match="messages"):
        await storage.append_messages("s", message_records(1))


async def test_a_number_that_no_column_takes_is_refused(schema: Schema, storage: PostgreSQLStorage) -> None:
    with pytest.raises(ValidationError):
        await storage.put_memory(attrs.evolve(memory_record("k"), retention=10**400))
    with pytest.raises(ConflictError):
        await storage.put_session(session_record(), expected_version=2**80)
    with pytest.raises(ConflictError):
        await storage.append_messages("s", message_records(1), expected_last=2**80)
    assert json_payload({"text": "a session"}) == (await storage.find_session("s") or session_record()).payload
    await schema.assert_connections_free(storage, 4)


async def test_a_sequence_that_was_not_restored_is_named(schema: Schema, storage: PostgreSQLStorage) -> None:
    await storage.put_session(session_record())
    await schema.rows("ALTER TABLE luminora_sessions ALTER sid RESTART")
    with pytest.raises(CorruptRecordError, match=r"sessions_pkey.* set the sequence"):
        await storage.put_session(session_record("another"))
    assert (await storage.put_session(session_record("another"))).version == 1


async def test_only_a_write_that_may_have_committed_is_in_doubt(schema: Schema) -> None:
    # long enough for all that is not held up, also on a busy machine
    async with schema.storage(timeout=2) as storage, schema.connection() as other:
        await storage.put_session(session_record())
        async with other.transaction():
            await other.execute("SELECT 1 FROM luminora_sessions FOR UPDATE")
            with pytest.raises(StorageTimeoutError) as of_one_statement:
                await storage.append_messages("s", message_records(1))
            with pytest.raises(StorageTimeoutError) as of_a_transaction:  # which was not committed
                await storage.truncate_messages("s", after=0)
    assert (of_one_statement.value.in_doubt, of_a_transaction.value.in_doubt) == (True, False)


async def test_a_write_on_a_closed_connection_is_not_in_doubt(schema: Schema) -> None:
    async with schema.connection() as connection:
        await connection.close()
        call = Call(connection, asyncio.get_running_loop().time() + 10)
        with pytest.raises(asyncpg.InterfaceError):
            await call.rows(migrator(Namespace(schema.name)).sql.delete_session, session="s", now=0)
    assert call.in_doubt is False


@pytest.fixture
def proxied(schema: Schema) -> Iterator[tuple[FaultProxy, str]]:
    """Give a proxy before the server, and the URL that leads through it."""
    parts = urlsplit(schema.url)
    with FaultProxy(parts.port or 5432) as proxy:
        login = parts.netloc.rpartition("@")[0]
        yield proxy, parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}").geturl()


async def test_a_commit_whose_answer_is_lost_is_in_doubt(schema: Schema, proxied: tuple[FaultProxy, str]) -> None:
    proxy, url = proxied
    async with schema.storage(url=url) as storage:
        await storage.put_session(session_record())
        proxy.lose_answer(b"COMMIT;")  # "BEGIN" says COMMITTED
        with pytest.raises(StorageUnavailableError) as caught:
            await storage.delete_session("s")
        assert caught.value.in_doubt is True
        assert await storage.find_session("s") is None


async def test_a_call_ends_in_time_on_a_pool_without_limits(schema: Schema, proxied: tuple[FaultProxy, str]) -> None:
    proxy, url = proxied
    pool = await asyncpg.create_pool(url, min_size=1, max_size=1)
    storage = PostgreSQLStorage(pool=pool, schema=schema.name, timeout=1)
    await storage.put_session(session_record())
    proxy.hang()
    begin = time.monotonic()
    with pytest.raises(StorageTimeoutError) as caught:
        await storage.append_messages("s", message_records(1))
    assert caught.value.in_doubt is True
    assert time.monotonic() - begin < 4
    proxy.pass_on()
    await storage.ping()
    await storage.close()
    await pool.close()
