"""Connections to PostgreSQL: each lent for one call, in bounded time, and returned whatever happens."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Literal, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

from luminoracore_sdk.adapters.storage.postgres.errors import (
    BACKEND,
    ContendedError,
    DuplicateKeyError,
    error_of,
    is_contended,
)
from luminoracore_sdk.adapters.storage.postgres.options import Address, Limits
from luminoracore_sdk.adapters.storage.sql import Statement
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    LuminoraCoreSDKError,
    StorageBusyError,
    StorageClosedError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
    WrongEventLoopError,
)

__all__ = ["KEEP_SECONDS", "Call", "PostgresPool", "Record", "Snapshot"]

Record: TypeAlias = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"
T = TypeVar("T")
_Isolation: TypeAlias = Literal["read_committed", "repeatable_read"]

DRIVER_ERRORS = (
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
    OSError,  # and with it TimeoutError
)
"""Everything that a call of asyncpg raises."""

KEEP_SECONDS = 1.0
"""After so long, connections that calls have left go back to asyncpg's pool, which closes idle ones."""

_ATTEMPTS = 10
_SNAPSHOT_SETTINGS = "SET LOCAL idle_in_transaction_session_timeout = 0"
"""Between the rows of a snapshot its reader does other work."""
_SEARCH_PATH = "SELECT set_config('search_path', quote_ident($1), true)"
_GRACE_SECONDS = 2.0  # for the server to confirm that it has stopped a cancelled statement


class Call:
    """Run statements on a connection, for the length of one call.

    Args:
        connection: Used by this call alone.
        deadline: Time limit of the call, by the event loop's clock.

    Attributes:
        in_doubt: Whether a change was sent whose answer has not arrived.
    """

    def __init__(self, connection: Connection, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._time = asyncio.get_running_loop().time
        self._in_transaction = False
        self.in_doubt = False

    @property
    def server_encoding(self) -> str:
        """The encoding of the database."""
        return str(self._connection.get_settings().server_encoding)

    async def rows(self, statement: Statement, **given: Any) -> list[Record]:
        """Run a statement and return its rows.

        Raises:
            DuplicateKeyError: A unique key exists already.
        """
        arguments = statement.arguments(given)
        self.in_doubt = statement.writes and not self._in_transaction
        try:
            # asyncpg sets a timer in any case; one of ours would cost an append 5 %
            rows = await self._connection.fetch(statement.sql, *arguments, timeout=self._deadline - self._time())
        except asyncpg.UniqueViolationError as exc:
            self.in_doubt = False
            raise DuplicateKeyError(exc.constraint_name or "") from exc
        except asyncpg.InterfaceError:  # asyncpg refused; nothing was sent
            self.in_doubt = False
            raise
        self.in_doubt = False
        return rows

    async def row(self, statement: Statement, **given: Any) -> Record | None:
        """Run a statement and return its first row, or None."""
        return next(iter(await self.rows(statement, **given)), None)

    async def value(self, statement: Statement, **given: Any) -> Any:
        """Run a statement that always returns a row, and return the first column of it."""
        return (await self.rows(statement, **given))[0][0]

    async def script(self, sql: str) -> None:
        """Run one or several statements without parameters; only in a transaction."""
        await self._connection.execute(sql, timeout=self._deadline - self._time())

    @contextlib.asynccontextmanager
    async def transaction(self, *, isolation: _Isolation = "read_committed") -> AsyncIterator[None]:
        """Commit what the block does, or nothing of it if it raises.

        When the call is cancelled or the server is silent, the connection is dropped instead of asking for a
        rollback: the server then undoes the transaction, and the caller does not wait.
        """
        block = self._connection.transaction(isolation=isolation)
        self._in_transaction = True
        async with asyncio.timeout_at(self._deadline):  # asyncpg's BEGIN and COMMIT take no time limit
            try:
                await block.start()
                yield
            except (asyncpg.PostgresError, LuminoraCoreSDKError, ContendedError, DuplicateKeyError):
                await self._roll_back(block)
                raise
            except BaseException:
                self._drop()
                raise
            finally:
                self._in_transaction = False
            self.in_doubt = True
            await block.commit()
            self.in_doubt = False

    async def _roll_back(self, block: Transaction) -> None:
        try:
            await block.rollback()
        except DRIVER_ERRORS:  # the connection is lost, and the transaction with it
            self._drop()
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        with contextlib.suppress(asyncpg.InterfaceError):  # the pool has dropped it already
            self._connection.terminate()


class Snapshot:
    """Read the database as it was at one moment.

    Args:
        connection: In a transaction that only reads, and used by this reader alone.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str, *given: object) -> AsyncGenerator[Record, None]:
        """Yield the rows of a statement, of which a few are held at a time; another one may be run meanwhile.

        Raises:
            LuminoraCoreSDKError: What the driver raised, in the words of the port.
        """
        try:
            async for row in self._connection.cursor(sql, *given):
                yield row
        except DRIVER_ERRORS as exc:
            raise _failed_read(exc) from exc


class PostgresPool:
    """Run calls on the connections of an asyncpg pool.

    Connections of a pool of its own stay checked out between calls, up to ``KEEP_SECONDS``: checking one in and
    out costs asyncpg a task, a proxy and three timers, a quarter of the fastest durable append (0.1 of 0.4 ms).

    Args:
        limits: Only ``call_seconds`` applies to a pool that was passed in.
        address: Where to connect; None: use ``pool``.
        pool: A pool of the caller, which is never closed.
    """

    def __init__(self, limits: Limits, *, address: Address | None, pool: "asyncpg.Pool[Any] | None") -> None:
        self._limits = limits
        self._address = address
        self._foreign_pool = pool
        self._foreign_loop: asyncio.AbstractEventLoop | None = None
        self._open_pool: asyncpg.Pool[Any] | None = None
        self._active_calls = 0
        self._idle = asyncio.Event()
        self._acquiring = 0  # while any call waits for a connection, none is kept
        self._kept: list[PoolConnectionProxy[Record]] = []
        self._returns: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def shown(self) -> str:
        """The address without password, for errors."""
        return self._address.shown if self._address else "postgresql://…"

    async def open(self) -> None:
        """Make the pool ready; it connects at the first call.

        Raises:
            WrongEventLoopError: The pool that was passed in was used on another event loop.
        """
        self._idle = asyncio.Event()  # an event belongs to the event loop on which it was first awaited
        if self._address is not None:
            self._open_pool = await _create_pool(self._address, self._limits)
            return
        loop = asyncio.get_running_loop()
        if self._foreign_loop not in (None, loop):  # a pool of asyncpg cannot move
            raise WrongEventLoopError(BACKEND)
        self._foreign_loop = loop
        self._open_pool = self._foreign_pool

    async def close(self) -> None:
        """Wait for the calls in progress, then close a pool of its own; if cancelled, drop its connections."""
        pool, self._open_pool = self._open_pool, None
        if pool is None:
            return
        try:
            if self._active_calls:
                self._idle.clear()
                await self._idle.wait()
        except asyncio.CancelledError:
            self._terminate(pool)
            raise
        if self._address is None:
            return
        with contextlib.suppress(*DRIVER_ERRORS):
            async with asyncio.timeout(_GRACE_SECONDS):  # if it expires, asyncpg drops the connections
                self._return_kept(pool)
                await pool.close()

    def terminate(self) -> None:
        """Close at once, without waiting: drop the connections of a pool of its own."""
        pool, self._open_pool = self._open_pool, None
        if pool is not None:
            self._terminate(pool)

    def _terminate(self, pool: "asyncpg.Pool[Any]") -> None:
        self._stop_keeping()
        if self._address is not None:
            pool.terminate()

    # -- calls -----------------------------------------------------------------------------------

    async def rows(self, statement: Statement, **given: Any) -> list[Record]:
        """Run one statement and return its rows; see ``run``."""
        return await self.run(lambda call: call.rows(statement, **given))

    async def row(self, statement: Statement, **given: Any) -> Record | None:
        """Run one statement and return its first row, or None; see ``run``."""
        return await self.run(lambda call: call.row(statement, **given))

    async def run(self, work: Callable[[Call], Awaitable[T]], deadline: float | None = None) -> T:
        """Run a function on a connection, again when another transaction interfered.

        Args:
            work: Has no effect outside of the database, as it may run several times.
            deadline: Time limit by the event loop's clock, the wait for a connection included; None: as configured.

        Raises:
            StorageClosedError: The pool was closed.
            StorageBusyError: No connection was free in time, or other transactions interfered each time.
            LuminoraCoreSDKError: What ``work`` raised, or the driver, in the words of the port.
        """
        pool = self._open_pool
        if pool is None:
            raise StorageClosedError(BACKEND)
        now = asyncio.get_running_loop().time()
        if deadline is None:
            deadline = now + self._limits.call_seconds
        if deadline <= now:
            raise StorageBusyError(BACKEND, f"it had waited {self._limits.call_seconds:g} seconds for other writes")
        cause: BaseException | None = None
        self._active_calls += 1
        try:
            for _ in range(_ATTEMPTS):
                try:
                    return await self._attempt(pool, work, deadline)
                except ContendedError as exc:
                    cause = exc.__cause__
            raise StorageBusyError(BACKEND, f"other transactions interfered {_ATTEMPTS} times") from cause
        except DuplicateKeyError as exc:  # the only key that is not checked is one that the server generated
            reason = "the server generated a number that is in use; set the sequence of the table beyond it"
            raise CorruptRecordError(backend=BACKEND, key=f"key {exc.constraint!a}", reason=reason) from exc
        finally:
            self._active_calls -= 1
            if not self._active_calls:
                self._idle.set()

    # -- listening -------------------------------------------------------------------------------

    @property
    def can_listen(self) -> bool:
        """Whether a connection may be kept for long: the pool has others, and no pooler shares them."""
        is_shared = self._address is not None and not self._address.prepared_statements
        return not is_shared and self._open_pool is not None and self._open_pool.get_max_size() > 1

    @contextlib.asynccontextmanager
    async def listening(
        self, channel: str, heard: Callable[[str], None], lost: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Listen to a channel on a connection of the pool within the block.

        Args:
            channel: Name of the channel.
            heard: Called with the payload of each notification.
            lost: Called when the connection is lost.
        """
        pool = self._open_pool
        if pool is None:
            raise StorageClosedError(BACKEND)
        deadline = asyncio.get_running_loop().time() + self._limits.call_seconds
        connection = await self._acquire(pool, deadline)

        def hear(*notification: object) -> None:
            heard(str(notification[-1]))

        def lose(_: object) -> None:
            lost()

        try:
            connection.add_termination_listener(lose)
            async with asyncio.timeout_at(deadline):
                await connection.add_listener(channel, hear)
            yield
        except DRIVER_ERRORS as exc:
            if isinstance(exc, LuminoraCoreSDKError):
                raise
            raise _translated(exc, in_doubt=False) from exc
        finally:
            with contextlib.suppress(*DRIVER_ERRORS):  # a lost connection has no listeners any more
                connection.remove_termination_listener(lose)
                async with asyncio.timeout(_GRACE_SECONDS):
                    await connection.remove_listener(channel, hear)
            await self._release(pool, connection)

    # -- snapshots -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def snapshot(self, schema: str | None = None) -> AsyncIterator[Snapshot]:
        """Yield a reader of the database as it is now, which changes nothing; it takes a connection of the pool.

        Args:
            schema: Where tables are found; None: where the role's ``search_path`` leads.
        """
        pool = self._open_pool
        if pool is None:
            raise StorageClosedError(BACKEND)
        deadline = asyncio.get_running_loop().time() + self._limits.call_seconds
        connection = await self._acquire(pool, deadline)
        block = connection.transaction(isolation="repeatable_read", readonly=True)
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await block.start()
                    await connection.execute(_SNAPSHOT_SETTINGS)
                    if schema is not None:
                        await connection.execute(_SEARCH_PATH, schema)
            except DRIVER_ERRORS as exc:
                raise _failed_read(exc) from exc
            yield Snapshot(connection)
        finally:
            try:
                async with asyncio.timeout(_GRACE_SECONDS):
                    await block.rollback()
            except DRIVER_ERRORS:  # the connection is lost, or the server silent: nothing of it may be lent again
                with contextlib.suppress(asyncpg.InterfaceError):
                    connection.terminate()
            await self._release(pool, connection)

    # -- attempts --------------------------------------------------------------------------------

    async def _attempt(self, pool: "asyncpg.Pool[Any]", work: Callable[[Call], Awaitable[T]], deadline: float) -> T:
        connection = self._take_kept(pool) or await self._acquire(pool, deadline)
        call = Call(connection, deadline)
        succeeded = False
        try:
            result = await work(call)
            succeeded = True
        except DRIVER_ERRORS as exc:
            if isinstance(exc, LuminoraCoreSDKError):  # which may be a TimeoutError as well
                raise
            raise _translated(exc, in_doubt=call.in_doubt) from exc
        else:
            return result
        finally:
            if not (succeeded and self._keep(pool, connection)):
                await self._release(pool, connection)

    async def _acquire(self, pool: "asyncpg.Pool[Any]", deadline: float) -> "PoolConnectionProxy[Record]":
        limit = asyncio.timeout_at(deadline)
        self._acquiring += 1
        try:
            async with limit:
                return await pool.acquire()
        except TimeoutError as exc:
            size = pool.get_max_size()
            if limit.expired() and pool.get_size() == size and not pool.get_idle_size():
                raise StorageBusyError(BACKEND, f"all {size} connections of the pool were in use") from exc
            raise StorageTimeoutError(BACKEND, f"{self.shown} did not answer in time") from exc
        except asyncpg.PostgresError as exc:
            raise error_of(_code(exc), _text(exc), connecting=True) from exc
        except (ValueError, OverflowError) as exc:
            # asyncpg's ClientConfigurationError is a ValueError; others quote the URL
            if isinstance(exc, asyncpg.InterfaceError):
                raise ConfigurationError(f"asyncpg refuses the PostgreSQL URL: {exc}") from exc
            raise ConfigurationError("asyncpg cannot read the PostgreSQL URL") from None
        except DRIVER_ERRORS as exc:
            raise StorageUnavailableError(BACKEND, f"cannot connect to {self.shown}: {_text(exc)}") from exc
        finally:
            self._acquiring -= 1

    async def _release(self, pool: "asyncpg.Pool[Any]", connection: "PoolConnectionProxy[Record]") -> None:
        # asyncpg waits here for the server to confirm a cancelled statement; without the confirmation it drops
        # the connection and raises, which concerns no caller
        with contextlib.suppress(*DRIVER_ERRORS):
            await pool.release(connection, timeout=min(_GRACE_SECONDS, self._limits.call_seconds))

    # -- kept connections ------------------------------------------------------------------------

    def _take_kept(self, pool: "asyncpg.Pool[Any]") -> "PoolConnectionProxy[Record] | None":
        """Return the connection that was used last, or None."""
        while self._kept:
            connection = self._kept.pop()
            try:
                if not connection.is_closed():
                    return connection
            except asyncpg.InterfaceError:  # the pool has noticed, and has taken it back
                continue
            self._return(pool, connection)
        return None

    def _keep(self, pool: "asyncpg.Pool[Any]", connection: "PoolConnectionProxy[Record]") -> bool:
        """Keep a connection for the next call; False: others may need it, or the pool is closing."""
        if self._address is None or self._acquiring or pool is not self._open_pool:
            return False
        self._kept.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEEP_SECONDS, self._return_kept, pool)
        return True

    def _stop_keeping(self) -> "list[PoolConnectionProxy[Record]]":
        """Return the kept connections and keep none of them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        kept, self._kept = self._kept, []
        return kept

    def _return_kept(self, pool: "asyncpg.Pool[Any]") -> None:
        for connection in self._stop_keeping():
            self._return(pool, connection)

    def _return(self, pool: "asyncpg.Pool[Any]", connection: "PoolConnectionProxy[Record]") -> None:
        """Begin to return a connection; closing the pool waits for it."""
        task = asyncio.ensure_future(self._release(pool, connection))
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)


async def _create_pool(address: Address, limits: Limits) -> "asyncpg.Pool[Any]":
    """Return a pool that has no connection yet."""
    cache: dict[str, Any] = {} if address.prepared_statements else {"statement_cache_size": 0}
    return await asyncpg.create_pool(
        address.dsn,
        min_size=0,
        max_size=limits.pool_size,
        timeout=limits.connect_seconds,
        # also the limit of asyncpg's own requests to cancel, which has none otherwise
        command_timeout=limits.call_seconds,
        # without a cache, asyncpg 0.32 sends Parse again together with Bind, in one message
        **cache,
        # the default is a round trip at each release; no call leaves anything to be reset
        reset=_no_reset,
    )


async def _no_reset(_: object) -> None:
    return None


def _translated(exc: Exception, *, in_doubt: bool) -> Exception:
    """Return what to raise for an error of the driver in a call."""
    if isinstance(exc, TimeoutError):
        return StorageTimeoutError(BACKEND, "the server did not answer in time", in_doubt=in_doubt)
    if isinstance(exc, asyncpg.DataError):
        return ValidationError(f"PostgreSQL cannot store this: {_text(exc)}")
    if not isinstance(exc, asyncpg.PostgresError):
        return StorageUnavailableError(BACKEND, _text(exc), in_doubt=in_doubt)
    code = _code(exc)
    return ContendedError() if is_contended(code) else error_of(code, _text(exc), in_doubt=in_doubt)


def _failed_read(exc: Exception) -> Exception:
    """Return what to raise for an error of the driver in a snapshot, which cannot be read again."""
    translated = _translated(exc, in_doubt=False)
    return error_of(_code(exc), _text(exc)) if isinstance(translated, ContendedError) else translated


def _code(exc: Exception) -> str:
    return getattr(exc, "sqlstate", None) or "XX000"


def _text(exc: Exception) -> str:
    """Return the message without detail and hint, which may quote values."""
    return str(exc.args[-1] if exc.args else "").partition("\n")[0] or type(exc).__name__
