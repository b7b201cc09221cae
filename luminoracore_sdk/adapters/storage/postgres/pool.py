"""Connections of a pool, lent for one call each, in bounded time, and given back whatever happens."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.adapters.storage.postgres.call import Call
from luminoracore_sdk.adapters.storage.postgres.compiled import Statement
from luminoracore_sdk.adapters.storage.postgres.driver import (
    DRIVER_ERRORS,
    Connection,
    DataError,
    InterfaceError,
    Pool,
    PostgresError,
    Row,
    make_pool,
)
from luminoracore_sdk.adapters.storage.postgres.errors import (
    BACKEND,
    ContendedError,
    TakenError,
    error_of,
    is_contended,
)
from luminoracore_sdk.adapters.storage.postgres.kept import KeptConnections
from luminoracore_sdk.adapters.storage.postgres.url import Address
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    LuminoraCoreSDKError,
    StorageBusyError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
)

__all__ = ["Limits", "PostgresPool"]

T = TypeVar("T")

_ATTEMPTS = 10
_GRACE_SECONDS = 2.0  # for a server to say that it has stopped what was cancelled


@attrs.frozen
class Limits:
    """What a pool may take.

    Attributes:
        pool_size: Connections.
        connect_seconds: To make one.
        call_seconds: For one call, the wait for a connection included.
    """

    pool_size: int
    connect_seconds: float
    call_seconds: float


class PostgresPool:
    """Runs calls on the connections of a pool.

    Args:
        pool: Of asyncpg.
        limits: Only ``call_seconds`` concerns a pool that was passed in.
        shown: The address without password, for errors.
        owned: Whether to close the pool in the end.
    """

    def __init__(self, pool: Pool, limits: Limits, *, shown: str, owned: bool) -> None:
        self._pool = pool
        self._limits = limits
        self._shown = shown
        self._owned = owned
        self._under_way = 0
        self._at_rest = asyncio.Event()
        self._kept = KeptConnections(self._release if owned else None)

    @classmethod
    async def make(cls, address: Address, limits: Limits) -> "PostgresPool":
        """Make a pool of our own; it connects at the first call."""
        pool = await make_pool(
            address,
            size=limits.pool_size,
            connect_seconds=limits.connect_seconds,
            call_seconds=limits.call_seconds,
        )
        return cls(pool, limits, shown=address.shown, owned=True)

    async def run(
        self,
        work: Callable[[Call], Awaitable[T]],
        *,
        seconds: float | None = None,
        deadline: float | None = None,
    ) -> T:
        """Do a piece of work on a connection.

        It is done again when another transaction was in its way, so it must not have an effect outside of
        the database.

        Args:
            work: Gets the connection; what it does without a transaction is one statement.
            seconds: For the whole of it; None: as for every call.
            deadline: When the time of the call ends that it is part of; None: it is a call of its own.

        Raises:
            LuminoraCoreSDKError: What the port documents, whatever the driver raised.
        """
        try:
            return await self._repeated(work, seconds, deadline)
        except TakenError as exc:  # no statement lets it come about but by a number that the server gave
            reason = "the server gave a number that is taken; set the sequence of the table beyond it"
            raise CorruptRecordError(backend=BACKEND, key=f"key {exc.constraint!a}", reason=reason) from exc

    async def rows(self, statement: Statement, given: Mapping[str, Any], deadline: float | None = None) -> list[Row]:
        """Run one statement: as ``run`` does, but asyncpg's timer, which it sets anyway, is the only one.

        Raises:
            TakenError: A unique key is there already.
            LuminoraCoreSDKError: What the port documents, whatever the driver raised.
        """
        seconds = self._limits.call_seconds
        if deadline is not None:
            seconds = deadline - asyncio.get_running_loop().time()
        if seconds > 0 and (connection := self._kept.take()) is not None:
            call = Call(connection, seconds=seconds)
            self._under_way += 1
            try:
                return await self._held(call, call.fetch(statement, given))
            except ContendedError:
                pass
            finally:
                self._end()
        return await self._repeated(lambda call: call.fetch(statement, given), None, deadline)

    async def _repeated(self, work: Callable[[Call], Awaitable[T]], seconds: float | None, deadline: float | None) -> T:
        now = asyncio.get_running_loop().time()
        if deadline is None:
            deadline = now + (seconds or self._limits.call_seconds)
        if deadline <= now:
            raise StorageBusyError(BACKEND, f"others took {self._limits.call_seconds:g} seconds before it")
        self._under_way += 1
        try:
            for _ in range(_ATTEMPTS - 1):
                with contextlib.suppress(ContendedError):
                    return await self._once(work, deadline, seconds)
            return await self._once(work, deadline, seconds)
        except ContendedError as exc:
            reason = f"other transactions were in the way {_ATTEMPTS} times"
            raise StorageBusyError(BACKEND, reason) from exc.__cause__
        finally:
            self._end()

    async def close(self) -> None:
        """Wait for the calls under way; close the pool if it is ours. Cancelled, it drops the connections."""
        try:
            if self._under_way:
                self._at_rest.clear()
                await self._at_rest.wait()
        except asyncio.CancelledError:
            self.terminate()
            raise
        if not self._owned:
            return
        with contextlib.suppress(*DRIVER_ERRORS):
            async with asyncio.timeout(_GRACE_SECONDS):  # if it ends early, asyncpg drops the connections
                self._kept.clear()
                await self._pool.close()

    def terminate(self) -> None:
        """Drop the connections of a pool that is ours."""
        if self._owned:
            self._pool.terminate()

    def abandon(self) -> None:
        """Drop the connections of an event loop that is closed."""
        if not self._owned:
            return
        holders: list[Any] = getattr(self._pool, "_holders", [])
        for connection in [holder._con for holder in holders if holder._con is not None]:  # noqa: SLF001
            transport = connection._transport  # noqa: SLF001
            with contextlib.suppress(RuntimeError):  # it wants to tell its event loop
                connection.terminate()
            _finish(transport)

    def _end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._at_rest.set()

    async def _once(self, work: Callable[[Call], Awaitable[T]], deadline: float, seconds: float | None) -> T:
        call = Call(self._kept.take() or await self._acquire(deadline), seconds=seconds)

        async def limited() -> T:
            async with asyncio.timeout_at(deadline):
                return await work(call)

        return await self._held(call, limited())

    async def _held(self, call: Call, result: Awaitable[T]) -> T:
        """Wait for what a call does on its connection; then let go of that."""
        is_clean = False
        try:
            found = await result
            is_clean = True
        except DRIVER_ERRORS as exc:
            if isinstance(exc, LuminoraCoreSDKError):  # ours may mean a built-in one as well
                raise
            raise self._during(exc, in_doubt=call.in_doubt) from exc
        else:
            return found
        finally:
            if not (is_clean and self._kept.keep(call.connection)):
                await self._release(call.connection)

    async def _acquire(self, deadline: float) -> Connection:
        limit = asyncio.timeout_at(deadline)
        self._kept.wanted += 1
        try:
            async with limit:
                connection: Connection = await self._pool.acquire()
                return connection
        except TimeoutError as exc:
            size = self._pool.get_max_size()
            if limit.expired() and self._pool.get_size() == size and not self._pool.get_idle_size():
                raise StorageBusyError(BACKEND, f"all {size} connections of the pool were in use") from exc
            raise StorageTimeoutError(BACKEND, f"{self._shown} did not answer in time") from exc
        except PostgresError as exc:
            raise error_of(_code(exc), _text(exc), connecting=True) from exc
        except (ValueError, OverflowError) as exc:
            # asyncpg's ClientConfigurationError is a ValueError; others quote the URL
            if isinstance(exc, InterfaceError):
                raise ConfigurationError(f"asyncpg refuses the PostgreSQL URL: {exc}") from exc
            raise ConfigurationError("asyncpg cannot read the PostgreSQL URL") from None
        except DRIVER_ERRORS as exc:
            raise StorageUnavailableError(BACKEND, f"cannot connect to {self._shown}: {_text(exc)}") from exc
        finally:
            self._kept.wanted -= 1

    async def _release(self, connection: Connection) -> None:
        # asyncpg waits here for the server to confirm a cancelled statement; when that does not happen it
        # drops the connection and says so, which concerns nobody
        with contextlib.suppress(*DRIVER_ERRORS):
            await self._pool.release(connection, timeout=min(_GRACE_SECONDS, self._limits.call_seconds))

    def _during(self, exc: Exception, *, in_doubt: bool) -> Exception:
        """Return what to raise for what a connection raised at work."""
        if isinstance(exc, TimeoutError):
            return StorageTimeoutError(BACKEND, "the server did not answer in time", in_doubt=in_doubt)
        if isinstance(exc, DataError):
            return ValidationError(f"PostgreSQL cannot store this: {_text(exc)}")
        if not isinstance(exc, PostgresError):
            return StorageUnavailableError(BACKEND, _text(exc), in_doubt=in_doubt)
        code = _code(exc)
        return ContendedError() if is_contended(code) else error_of(code, _text(exc), in_doubt=in_doubt)


def _code(exc: Exception) -> str:
    return getattr(exc, "sqlstate", None) or "XX000"


def _text(exc: Exception) -> str:
    """Return the message without detail and hint, which may quote values."""
    return str(exc.args[-1] if exc.args else "").partition("\n")[0] or type(exc).__name__


def _finish(transport: Any) -> None:
    """Close the socket of a transport as its event loop would have done in its next turn."""
    tls = getattr(transport, "_ssl_protocol", None)
    plain = getattr(tls, "_transport", None) or transport
    with contextlib.suppress(RuntimeError):
        plain.abort()
    if (finish := getattr(plain, "_call_connection_lost", None)) is not None:  # asyncio's own transports
        finish(None)
