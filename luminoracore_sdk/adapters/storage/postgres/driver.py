# ruff: noqa: D102 - asyncpg documents its methods
"""asyncpg as far as it is used here, with types: it ships none."""

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, cast

import asyncpg  # type: ignore[import-untyped]

from luminoracore_sdk.adapters.storage.postgres.url import Address

__all__ = [
    "DRIVER_ERRORS",
    "Connection",
    "DataError",
    "InterfaceError",
    "Pool",
    "PostgresError",
    "Row",
    "Transaction",
    "make_pool",
]

Row = Sequence[Any]

InterfaceError: type[Exception] = asyncpg.InterfaceError
"""What asyncpg itself refuses to do; nothing was sent."""

DataError: type[Exception] = asyncpg.DataError
"""A value that does not fit its parameter."""


class Transaction(Protocol):
    """``asyncpg.transaction.Transaction``."""

    async def start(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...


class Connection(Protocol):
    """``asyncpg.Connection``."""

    async def fetch(self, query: str, *args: object, timeout: float | None) -> list[Row]: ...  # noqa: ASYNC109
    async def execute(self, query: str, *, timeout: float | None) -> str: ...  # noqa: ASYNC109
    def transaction(self, *, isolation: str) -> Transaction: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...
    def get_settings(self) -> Any: ...


class Pool(Protocol):
    """``asyncpg.Pool``, which has no annotations of its own: its connections are ``Connection``."""

    def acquire(self) -> Awaitable[Any]: ...
    async def release(self, connection: Any, *, timeout: float) -> Any: ...  # noqa: ASYNC109
    async def close(self) -> None: ...
    def terminate(self) -> None: ...
    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...
    def get_max_size(self) -> int: ...


PostgresError: type[Exception] = asyncpg.PostgresError
"""What the server reports, and a connection that was lost."""

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    *(PostgresError, InterfaceError, asyncpg.InternalClientError),
    OSError,  # and with it TimeoutError
)
"""All that a call of asyncpg raises."""


async def make_pool(address: Address, *, size: int, connect_seconds: float, call_seconds: float) -> Pool:
    """Return a pool that has no connection yet and makes up to ``size``.

    Raises:
        asyncpg.InterfaceError, ValueError: An option that asyncpg does not take.
    """
    cache: dict[str, Any] = {} if address.prepared_statements else {"statement_cache_size": 0}
    pool = asyncpg.create_pool(
        address.dsn,
        min_size=0,
        max_size=size,
        timeout=connect_seconds,
        # also the limit of asyncpg's own requests to cancel, which has none otherwise
        command_timeout=call_seconds,
        # without names: asyncpg 0.32 then sends Parse again together with Bind, in one message
        **cache,
        # its own is a round trip at each release; nothing here leaves anything to be reset
        reset=_nothing,
    )
    return cast("Pool", await pool)


async def _nothing(_: object) -> None:
    return None
