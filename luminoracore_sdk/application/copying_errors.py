"""Why a session, or a user's memory, is not equal in two stores."""

from collections.abc import Iterator
from contextlib import contextmanager

from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    SessionNotFoundError,
    StorageError,
)

__all__ = ["ChangedError", "DifferentError", "MeanwhileError", "in_target"]


class DifferentError(StorageError):
    """The target has something else under that id."""


class MeanwhileError(StorageError):
    """Somebody else writes to what is being copied, in the target."""


class ChangedError(StorageError):
    """Somebody else writes to what is being copied, in the source, and not only at its end."""


@contextmanager
def in_target() -> Iterator[None]:
    """Say of an error that it was in the target."""
    try:
        yield
    except CorruptRecordError as exc:
        raise DifferentError(f"in the target: {exc}") from exc
    except (ConflictError, SessionNotFoundError) as exc:
        raise MeanwhileError(f"is written by somebody else in the target: {exc}") from exc
