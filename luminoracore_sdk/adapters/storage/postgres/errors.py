"""Translation of PostgreSQL's errors into those of the storage port."""

from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    LuminoraCoreSDKError,
    SchemaVersionError,
    StorageAccessError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
)

__all__ = ["BACKEND", "SCHEMA_VERSION", "ContendedError", "DuplicateKeyError", "error_of", "is_contended"]

BACKEND = "postgres"

SCHEMA_VERSION = 1

_CONTENDED = frozenset({"40001", "40P01"})  # serialization failure, deadlock

# https://www.postgresql.org/docs/current/errcodes-appendix.html; two characters stand for a class of codes
_UNAVAILABLE: dict[str, type[StorageUnavailableError]] = {
    "25006": StorageReadOnlyError,
    "28": StorageAccessError,
    "3D000": StorageAccessError,
    "3F000": StorageAccessError,
    "42501": StorageAccessError,
    "53100": StorageFullError,
    "53200": StorageFullError,
    "53300": StorageBusyError,
    "55P03": StorageBusyError,
    "57014": StorageTimeoutError,  # the server's statement_timeout
    "57P03": StorageBusyError,  # starting up
}
_NO_TABLES = frozenset({"42P01", "42703"})
_SHARED_CONNECTION = frozenset({"26000", "42P05"})  # a prepared statement is missing, or exists already
_DAMAGED = frozenset({"XX001", "XX002"})
_NO_SETTING = frozenset({"42704", "22023", "08P01"})


class ContendedError(Exception):
    """Another transaction interfered; nothing was changed, and the same call may be repeated."""


class DuplicateKeyError(Exception):
    """A unique key exists already; nothing was changed.

    Attributes:
        constraint: Name of the violated constraint.
    """

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


def error_of(sqlstate: str, message: str, *, connecting: bool = False, in_doubt: bool = False) -> LuminoraCoreSDKError:
    """Return the documented error for an error that the server reported.

    Args:
        sqlstate: Its code.
        message: Its message, without the detail, which quotes values.
        connecting: Whether the server refused the connection.
        in_doubt: Whether a write was in progress.
    """
    reason = f"{message} ({sqlstate})"
    kind = _UNAVAILABLE.get(sqlstate) or _UNAVAILABLE.get(sqlstate[:2])
    if kind is not None:
        return kind(BACKEND, reason)
    lost = sqlstate.startswith(("08", "57"))
    return _lasting(sqlstate, reason, connecting=connecting) or StorageUnavailableError(
        BACKEND, reason, in_doubt=in_doubt and lost
    )


def _lasting(sqlstate: str, reason: str, *, connecting: bool) -> LuminoraCoreSDKError | None:
    """Return the error for a cause that a later attempt would meet again, or None."""
    if connecting and sqlstate in _NO_SETTING:
        return ConfigurationError(f"PostgreSQL refuses a parameter of the URL: {reason}")
    if sqlstate in _SHARED_CONNECTION:
        hint = "add prepared_statements=false to the URL"
        return ConfigurationError(f"a pooler shares the connections between clients: {hint}; {reason}")
    if sqlstate in _NO_TABLES:
        hint = f"{reason}; the tables are not, or no longer, those of this package"
        return SchemaVersionError(backend=BACKEND, found="other tables", supported=SCHEMA_VERSION, hint=hint)
    if sqlstate in _DAMAGED:
        return CorruptRecordError(backend=BACKEND, key="the database", reason=reason)
    if sqlstate.startswith("22"):
        return ValidationError(f"PostgreSQL cannot store this: {reason}")
    return None


def is_contended(sqlstate: str) -> bool:
    """Return whether another transaction interfered."""
    return sqlstate in _CONTENDED
