"""The drivers' errors in the words of the storage port."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bson.errors import BSONError, InvalidBSON
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    LuminoraCoreSDKError,
    PayloadTooLargeError,
    StorageAccessError,
    StorageBusyError,
    StorageClosedError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
)

__all__ = ["BACKEND", "MAX_DOCUMENT_BYTES", "DuplicateKey", "after_write", "refused", "translated"]

BACKEND = "mongodb"

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Largest BSON document: https://www.mongodb.com/docs/manual/reference/limits/."""

_REASON_LENGTH = 300

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_REFUSED: dict[int, type[StorageUnavailableError]] = {
    10058: StorageReadOnlyError,  # LegacyNotPrimary
    10107: StorageReadOnlyError,  # NotWritablePrimary
    13435: StorageReadOnlyError,  # NotPrimaryNoSecondaryOk
    11: StorageAccessError,  # UserNotFound
    13: StorageAccessError,  # Unauthorized
    18: StorageAccessError,  # AuthenticationFailed
    8000: StorageAccessError,  # AtlasError
    24: StorageBusyError,  # LockTimeout
    46: StorageBusyError,  # LockBusy
    112: StorageBusyError,  # WriteConflict
    202: StorageBusyError,  # NetworkInterfaceExceededTimeLimit: the server's own pool
    462: StorageBusyError,  # IngressRequestRateLimitExceeded
    12501: StorageFullError,  # a quota
    14031: StorageFullError,  # OutOfDiskSpace
}
_TOO_LARGE = frozenset({10334, 17419, 17420})  # BSONObjectTooLarge, and an update that grows beyond it


class DuplicateKey(Exception):  # noqa: N818  # not an error: it tells the insert what to look for
    """A unique key is taken; caught where the insert or upsert is.

    Attributes:
        fields: Of the index, in order.
    """

    def __init__(self, fields: tuple[str, ...]) -> None:
        super().__init__(f"duplicate key of ({', '.join(fields)})")
        self.fields = fields


@contextmanager
def translated(*, write: bool) -> Iterator[None]:
    """Raise what one command raises as the error that the port documents.

    Args:
        write: Whether the command writes, so that a missing answer leaves it in doubt.

    Raises:
        DuplicateKey: A unique key is taken.
    """
    try:
        yield
    except DuplicateKeyError as exc:
        pattern = (exc.details or {}).get("keyPattern") or {}
        raise DuplicateKey(tuple(pattern)) from _without_bodies(exc)
    except DocumentTooLarge as exc:  # the driver's own measurement; a subclass of BSONError
        raise _too_large() from exc
    except PyMongoError as exc:
        raise _from_driver(exc, write=write) from _without_bodies(exc)
    except InvalidBSON as exc:
        raise CorruptRecordError(backend=BACKEND, key="a document", reason="not BSON") from _bare(exc)
    except (BSONError, OverflowError, UnicodeEncodeError) as exc:
        text = "a number beyond 64 bits or a text with a lone surrogate is not BSON"
        raise ValidationError(text) from _bare(exc)


@contextmanager
def after_write() -> Iterator[None]:
    """Put in doubt what fails in the block: an earlier command of the same call has written."""
    try:
        yield
    except StorageUnavailableError as exc:
        if exc.in_doubt:
            raise
        raise type(exc)(exc.backend, exc.reason, in_doubt=True) from exc


def refused(answer: Mapping[str, Any]) -> set[int]:
    """Return which documents of an insert, or changes of an update, were refused, by their places.

    Raises:
        StorageUnavailableError: In doubt: those that were not refused may not be kept.
    """
    if concern := answer.get("writeConcernError"):
        reason = str(concern.get("errmsg"))[:_REASON_LENGTH]
        raise StorageUnavailableError(BACKEND, reason, in_doubt=True)
    return {error["index"] for error in answer.get("writeErrors") or ()}


def _from_driver(exc: PyMongoError, *, write: bool) -> LuminoraCoreSDKError:
    if isinstance(exc, InvalidOperation) and "after close" in str(exc):
        return StorageClosedError(BACKEND)
    if isinstance(exc, OperationFailure):
        return _from_answer(exc, write=write)
    if isinstance(exc, ConnectionFailure):
        return _from_connection(exc, write=write)
    return StorageUnavailableError(BACKEND, _said(exc) or type(exc).__name__, in_doubt=write)


def _from_answer(exc: OperationFailure, *, write: bool) -> LuminoraCoreSDKError:
    """Translate what the server answered."""
    code = exc.code or 0
    if code in _TOO_LARGE:
        return _too_large()
    reason = _said(exc)
    if kind := _REFUSED.get(code):
        return kind(BACKEND, reason)
    if isinstance(exc, (ExecutionTimeout, WTimeoutError)):
        return StorageTimeoutError(BACKEND, reason, in_doubt=write)
    in_doubt = write and isinstance(exc, WriteConcernError)  # written here, not (yet) by the majority
    return StorageUnavailableError(BACKEND, reason, in_doubt=in_doubt)


def _from_connection(exc: ConnectionFailure, *, write: bool) -> StorageUnavailableError:
    reason = _said(exc)
    if isinstance(exc, WaitQueueTimeoutError):
        return StorageBusyError(BACKEND, f"every connection is in use: {reason}")
    if isinstance(exc, NetworkTimeout):
        return StorageTimeoutError(BACKEND, reason, in_doubt=write)
    if kind := _REFUSED.get(_details(exc).get("code", 0)):
        return kind(BACKEND, reason)
    unsent = isinstance(exc, ServerSelectionTimeoutError) or isinstance(exc.__cause__, ConnectionRefusedError)
    return StorageUnavailableError(BACKEND, reason, in_doubt=write and not unsent)


def _too_large() -> PayloadTooLargeError:
    return PayloadTooLargeError(
        backend=BACKEND,
        key="the document",
        size_bytes=MAX_DOCUMENT_BYTES + 1,
        limit_bytes=MAX_DOCUMENT_BYTES,
    )


def _details(exc: PyMongoError) -> Mapping[str, Any]:
    """Return the server's answer; empty when there was none."""
    if isinstance(exc, (OperationFailure, NotPrimaryError)) and isinstance(exc.details, Mapping):
        return exc.details
    return {}


def _said(exc: PyMongoError) -> str:
    """Return what the server or the driver says, and no body.

    The server likes to quote the command, with the documents in it ("not authorized on … to execute command
    { insert: …"). So an answer is cut off before. The driver's account of its settings and of the cluster
    goes too, since it is long.
    """
    details = _details(exc)
    text = str(details.get("errmsg") or exc)
    for mark in (" (configured timeouts:", ", Timeout: ", ", full error: "):
        text = text.partition(mark)[0]
    if isinstance(exc, (OperationFailure, NotPrimaryError)):
        for mark in (" to execute command", "{"):
            text = text.partition(mark)[0].rstrip()
        code = details.get("code") or getattr(exc, "code", None) or 0
        text = f"{text[:_REASON_LENGTH]} ({details.get('codeName') or code})"
    return text[:_REASON_LENGTH]


def _without_bodies(exc: PyMongoError) -> PyMongoError:
    """Return the exception to chain: this one, or if a server's answer is in it, one like it without."""
    if isinstance(exc, OperationFailure):
        return OperationFailure(f"{type(exc).__name__}: {_said(exc)}", exc.code)
    if isinstance(exc, NotPrimaryError):
        return NotPrimaryError(_said(exc))
    return exc


def _bare(exc: Exception) -> ValueError:
    """Return what stands for an exception that may hold a document."""
    return ValueError(type(exc).__name__)
