"""What one call does with its connection."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from luminoracore_sdk.adapters.storage.postgres.compiled import Statement
from luminoracore_sdk.adapters.storage.postgres.driver import (
    DRIVER_ERRORS,
    Connection,
    InterfaceError,
    PostgresError,
    Row,
    Transaction,
)
from luminoracore_sdk.adapters.storage.postgres.errors import ContendedError, TakenError
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError

__all__ = ["Call"]

_UNIQUE_VIOLATION = "23505"


class Call:
    """Runs statements.

    Args:
        connection: For the length of the call.
        seconds: For each statement; None: what the connection allows.

    Attributes:
        connection: The same.
        in_doubt: Whether a change was sent whose answer has not come.
    """

    def __init__(self, connection: Connection, *, seconds: float | None = None) -> None:
        self.connection = connection
        self._seconds = seconds
        self.in_doubt = False
        self._in_transaction = False

    async def rows(self, statement: Statement, **given: Any) -> list[Row]:
        """Run a statement and return its rows.

        Raises:
            TakenError: A unique key is there already.
        """
        return await self.fetch(statement, given)

    async def fetch(self, statement: Statement, given: Mapping[str, Any]) -> list[Row]:
        """Do the same with the parameters in a dictionary."""
        self.in_doubt = statement.writes and not self._in_transaction
        try:
            arguments = statement.arguments(given)
            found = await self.connection.fetch(statement.sql, *arguments, timeout=self._seconds)
        except PostgresError as exc:
            if getattr(exc, "sqlstate", None) != _UNIQUE_VIOLATION:
                raise
            raise TakenError(getattr(exc, "constraint_name", None) or "") from exc
        except InterfaceError:
            self.in_doubt = False
            raise
        self.in_doubt = False
        return found

    async def row(self, statement: Statement, **given: Any) -> Row | None:
        """Run a statement and return its first row, or None."""
        return next(iter(await self.rows(statement, **given)), None)

    async def one(self, statement: Statement, **given: Any) -> Row:
        """Run a statement that returns one row in any case."""
        return (await self.rows(statement, **given))[0]

    async def script(self, sql: str) -> None:
        """Run SQL without parameters, of one statement or several; only in a transaction."""
        await self.connection.execute(sql, timeout=self._seconds)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Do what follows as one; an error undoes it.

        When the call is cancelled or the server is silent, the connection is dropped instead of asking for a
        rollback on it: the server then undoes what it has, and nobody waits.
        """
        block = self.connection.transaction(isolation="read_committed")
        self._in_transaction = True
        try:
            await block.start()
            yield
        except (PostgresError, LuminoraCoreSDKError, ContendedError, TakenError):
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
        except DRIVER_ERRORS:  # the connection is lost, and with it the transaction
            self._drop()
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        with suppress(InterfaceError):  # the pool has dropped it already
            self.connection.terminate()
