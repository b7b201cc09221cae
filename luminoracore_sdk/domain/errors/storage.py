"""What a store cannot do."""

from luminoracore_sdk.domain.errors.base import LuminoraCoreSDKError, shown

__all__ = [
    "ConflictError",
    "CorruptRecordError",
    "DecryptionError",
    "KeyMismatchError",
    "KeyNotFoundError",
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
    """The store could not do what was asked."""


class StorageUnavailableError(StorageError):
    """The backend cannot be used now; a repeated append is recognised by its ids.

    Attributes:
        backend: Which one.
        reason: What happened, without addresses' passwords and without message bodies.
        in_doubt: False: nothing was changed. True: the request was sent and no answer came, so that a
            write may have been done.
    """

    def __init__(self, backend: str, reason: str, *, in_doubt: bool = False) -> None:
        doubt = "; whether it was done is not known" if in_doubt else ""
        super().__init__(f"{backend} storage: {reason}{doubt}", details={"backend": backend, "in_doubt": in_doubt})
        self.backend = backend
        self.reason = reason
        self.in_doubt = in_doubt


class StorageAccessError(StorageUnavailableError):
    """The backend is there and refuses us: password, database or rights; trying again will not help."""


class StorageBusyError(StorageUnavailableError):
    """Others held the lock, or every connection, for longer than the time limit; nothing was changed."""


class StorageFullError(StorageUnavailableError):
    """No space is left; nothing of the write was kept."""


class StorageReadOnlyError(StorageUnavailableError):
    """The store cannot be written by this process; nothing was changed."""


class StorageTimeoutError(StorageUnavailableError):
    """The backend took the request and did not answer within the time limit."""


class StorageClosedError(StorageError):
    """The storage was closed; open() makes it usable again."""

    def __init__(self, backend: str) -> None:
        super().__init__(f"{backend} storage is closed; call open() first", details={"backend": backend})
        self.backend = backend


class WrongEventLoopError(StorageError):
    """The storage belongs to another event loop; close it there, or make one a loop."""

    def __init__(self, backend: str) -> None:
        super().__init__(
            f"{backend} storage was opened on another event loop; "
            "close() it there and open() it here, or use one storage a loop",
            details={"backend": backend},
        )
        self.backend = backend


class ConflictError(StorageError):
    """Somebody else wrote first; nothing was changed. Read again and decide anew."""

    def __init__(self, *, backend: str, key: str, expected: object, actual: object) -> None:
        super().__init__(
            f"{backend} storage: {key}: expected {expected}, found {actual}",
            details={"backend": backend, "expected": expected, "actual": actual},
        )
        self.backend = backend
        self.key = key
        self.expected = expected
        self.actual = actual


class CorruptRecordError(StorageError):
    """A stored record cannot be read. It is left as it is."""

    def __init__(self, *, backend: str, key: str, reason: str) -> None:
        super().__init__(
            f"{backend} storage: {key} is damaged: {reason}",
            details={"backend": backend, "key": key},
        )
        self.backend = backend
        self.key = key
        self.reason = reason


class UnreadablePayloadError(CorruptRecordError):
    """The record was written through a wrapper (optimizer, encryption) that is not switched on here."""


class DecryptionError(CorruptRecordError):
    """An encrypted record is not what was written at this place: damaged, moved, or under another key."""


class UnencryptedRecordError(CorruptRecordError):
    """A record is plain in a store where every record has to be encrypted."""

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
    """A key has the id, or the purpose, of another one that the store was written with.

    Attributes:
        backend: Which one.
        key_id: Of the key; None: it is the index key, under which names are encrypted.
    """

    def __init__(self, *, backend: str, key_id: str | None) -> None:
        index_key = "index key (by default made of the last key of the ring)"
        what = index_key if key_id is None else f"key {shown(key_id)}"
        super().__init__(
            f"{backend} storage: the {what} is another than the one the store was written with; "
            "nothing was read or changed",
            details={"backend": backend, "key_id": key_id},
        )
        self.backend = backend
        self.key_id = key_id


class SchemaVersionError(StorageError):
    """The store has another schema version than this package; nothing was changed."""

    def __init__(self, *, backend: str, found: object, supported: int, hint: str) -> None:
        what = f"schema version {found}" if isinstance(found, int) else found
        super().__init__(
            f"{backend} storage has {what}; this package works with schema version {supported}: {hint}",
            details={"backend": backend, "found": found, "supported": supported},
        )
        self.backend = backend
        self.found = found
        self.supported = supported
