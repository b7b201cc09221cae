"""Errors of storages."""

from luminoracore_sdk.domain.errors.base import LuminoraCoreSDKError, shown

__all__ = [
    "ConflictError",
    "CorruptRecordError",
    "DecryptionError",
    "KeyMismatchError",
    "KeyNotFoundError",
    "LeaseHeldError",
    "LeaseLostError",
    "SchemaVersionError",
    "StorageAccessError",
    "StorageBusyError",
    "StorageClosedError",
    "StorageError",
    "StorageFullError",
    "StorageReadOnlyError",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "UnencryptedRecordError",
    "UnreadablePayloadError",
    "WrongEventLoopError",
]


class StorageError(LuminoraCoreSDKError):
    """Base of the errors of storages."""


class StorageUnavailableError(StorageError):
    """The backend cannot be used now. An append may be repeated: it is recognised by its ids.

    Attributes:
        backend: The name of the backend.
        reason: What happened, without passwords and message bodies.
        in_doubt: Whether a write may have been done, because the request was sent and not answered; if False,
            nothing was changed.
    """

    def __init__(self, backend: str, reason: str, *, in_doubt: bool = False) -> None:
        doubt = "; whether it was done is not known" if in_doubt else ""
        super().__init__(f"{backend} storage: {reason}{doubt}", details={"backend": backend, "in_doubt": in_doubt})
        self.backend = backend
        self.reason = reason
        self.in_doubt = in_doubt


class StorageAccessError(StorageUnavailableError):
    """The backend refuses access: password, database or permissions. A retry does not help."""


class StorageBusyError(StorageUnavailableError):
    """No lock or connection became free within the time limit; nothing was changed."""


class StorageFullError(StorageUnavailableError):
    """No space is left; nothing was written."""


class StorageReadOnlyError(StorageUnavailableError):
    """The store cannot be written by this process; nothing was changed."""


class StorageTimeoutError(StorageUnavailableError):
    """The backend did not answer within the time limit."""


class StorageClosedError(StorageError):
    """The storage is closed; ``open()`` makes it usable again."""

    def __init__(self, backend: str) -> None:
        super().__init__(f"{backend} storage is closed; call open() first", details={"backend": backend})
        self.backend = backend


class WrongEventLoopError(StorageError):
    """The storage belongs to another event loop; close it there, or use one for each loop, or ``shared_storage``."""

    def __init__(self, backend: str) -> None:
        super().__init__(
            f"{backend} storage was opened on another event loop; "
            "close() it there and open() it here, or use one storage for each loop, or shared_storage()",
            details={"backend": backend},
        )
        self.backend = backend


class ConflictError(StorageError):
    """Another writer was first; nothing was changed. Read again before the next attempt."""

    def __init__(self, *, backend: str, key: str, expected: object, actual: object) -> None:
        super().__init__(
            f"{backend} storage: {key}: expected {expected}, found {actual}",
            details={"backend": backend, "expected": expected, "actual": actual},
        )
        self.backend = backend
        self.key = key
        self.expected = expected
        self.actual = actual


class LeaseHeldError(ConflictError):
    """Another holder has the lease of a session.

    Attributes:
        session_id: The session.
        until_us: When the lease ends unless it is renewed, in microseconds since 1970.
    """

    def __init__(self, *, backend: str, session_id: str, until_us: int, now_us: int) -> None:
        left = (until_us - now_us) / 1_000_000
        super().__init__(
            backend=backend,
            key=f"session {shown(session_id)}",
            expected="a lease that is free",
            actual=f"one of another holder, for {left:.1f} more seconds",
        )
        self.session_id = session_id
        self.until_us = until_us


class LeaseLostError(ConflictError):
    """The lease of a session has passed to another holder; nothing was written."""

    def __init__(self, *, backend: str, session_id: str, fence: int, latest: int) -> None:
        super().__init__(
            backend=backend,
            key=f"session {shown(session_id)}",
            expected=f"a lease with fence {fence}",
            actual=f"fence {latest}" if latest else "no lease",
        )
        self.session_id = session_id
        self.fence = fence


class CorruptRecordError(StorageError):
    """A stored record cannot be read; it is left unchanged."""

    def __init__(self, *, backend: str, key: str, reason: str) -> None:
        super().__init__(
            f"{backend} storage: {key} is damaged: {reason}",
            details={"backend": backend, "key": key},
        )
        self.backend = backend
        self.key = key
        self.reason = reason


class UnreadablePayloadError(CorruptRecordError):
    """The record was written through a wrapper (optimizer, encryption) that is not configured."""


class DecryptionError(CorruptRecordError):
    """An encrypted record was damaged or moved, or its key has changed."""


class UnencryptedRecordError(CorruptRecordError):
    """A record is not encrypted although encryption is required."""

    def __init__(self, *, backend: str, key: str) -> None:
        super().__init__(backend=backend, key=key, reason="it is not encrypted, and encryption is required")


class KeyNotFoundError(UnreadablePayloadError):
    """A record was encrypted with a key that the keyring does not have."""

    def __init__(self, *, backend: str, key: str, key_id: str) -> None:
        super().__init__(
            backend=backend,
            key=key,
            reason=f"it was encrypted with the key {shown(key_id)}, which is not in the keyring",
        )
        self.key_id = key_id


class KeyMismatchError(StorageError):
    """A key differs from the one with the same id or purpose that the store was written with.

    Attributes:
        backend: The name of the backend.
        key_id: The id of the key; None: the index key, which encrypts names.
    """

    def __init__(self, *, backend: str, key_id: str | None) -> None:
        index_key = "index key (by default made of the last key of the ring)"
        what = index_key if key_id is None else f"key {shown(key_id)}"
        super().__init__(
            f"{backend} storage: the {what} is not the one that the store was written with; "
            "nothing was read or changed",
            details={"backend": backend, "key_id": key_id},
        )
        self.backend = backend
        self.key_id = key_id


class SchemaVersionError(StorageError):
    """The schema version of the store is not the one of this package; nothing was changed."""

    def __init__(self, *, backend: str, found: object, supported: int, hint: str) -> None:
        what = f"schema version {found}" if isinstance(found, int) else found
        super().__init__(
            f"{backend} storage has {what}; this package works with schema version {supported}: {hint}",
            details={"backend": backend, "found": found, "supported": supported},
        )
        self.backend = backend
        self.found = found
        self.supported = supported
