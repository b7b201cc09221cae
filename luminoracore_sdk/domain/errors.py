"""The error tree: every error this package raises on purpose.

::

    LuminoraCoreSDKError
    ├── ValidationError (ValueError)         the caller's value is wrong; nothing was done
    │   ├── InvalidIdError                   an id that no backend could keep
    │   ├── InvalidJSONError                 a value that is not JSON, NaN and infinities included
    │   └── PayloadTooLargeError             above the backend's documented limit
    ├── ConfigurationError (ValueError)      the wiring is wrong
    │   ├── UnsupportedStorageTypeError      carries the valid types
    │   └── MissingDependencyError (ImportError)   carries the pip command that helps
    ├── SessionError
    │   ├── SessionNotFoundError (LookupError)
    │   └── SessionExistsError
    ├── StorageError
    │   ├── StorageUnavailableError          not reachable or not usable now; nothing was changed
    │   │   ├── StorageBusyError             a lock was not given within the time limit
    │   │   ├── StorageFullError             no space left
    │   │   └── StorageReadOnlyError         no permission to write
    │   ├── StorageClosedError               used after close()
    │   ├── WrongEventLoopError              used on another event loop than it was opened on
    │   ├── ConflictError                    somebody else wrote first; carries expected and actual
    │   ├── CorruptRecordError               a record that cannot be read; carries backend and key
    │   │   └── UnreadablePayloadError       written through a wrapper that is not switched on here
    │   └── SchemaVersionError               the store is newer or older than this package
    ├── NetworkError
    ├── AuthenticationError
    ├── RateLimitError
    └── ProviderError
        ├── ProviderAuthenticationError (AuthenticationError)
        ├── ProviderRateLimitError (RateLimitError)      carries retry_after in seconds
        ├── ProviderConnectionError (NetworkError)
        │   └── ProviderTimeoutError (TimeoutError)
        ├── ProviderResponseError            an answer that cannot be understood
        └── ProviderStreamError (NetworkError)           a stream that ended before its end

No error carries a message body, a memory value or a secret.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "ConflictError",
    "CorruptRecordError",
    "InvalidIdError",
    "InvalidJSONError",
    "LuminoraCoreSDKError",
    "MissingDependencyError",
    "NetworkError",
    "PayloadTooLargeError",
    "ProviderAuthenticationError",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderRateLimitError",
    "ProviderResponseError",
    "ProviderStreamError",
    "ProviderTimeoutError",
    "RateLimitError",
    "SchemaVersionError",
    "SessionError",
    "SessionExistsError",
    "SessionNotFoundError",
    "StorageBusyError",
    "StorageClosedError",
    "StorageError",
    "StorageFullError",
    "StorageReadOnlyError",
    "StorageUnavailableError",
    "UnreadablePayloadError",
    "UnsupportedStorageTypeError",
    "ValidationError",
    "WrongEventLoopError",
]

_SHOWN_ID_LENGTH = 80


def shown(value: object) -> str:
    """Return an id as an error shows it: quoted, escaped and cut to 80 characters."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_ID_LENGTH else f"{text[:_SHOWN_ID_LENGTH]}…"


class LuminoraCoreSDKError(Exception):
    """Base of every error of this package.

    Args:
        message: What happened, to which key, on which backend, and what to do.
        error_code: A stable name for programs; the class name when not given.
        details: Facts for logs; never secrets or message bodies.
    """

    def __init__(
        self, message: str, error_code: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code or type(self).__name__
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling (process pools, task queues) whatever the constructor takes."""
        return _rebuild, (type(self), self.args), self.__dict__

    @classmethod
    def _bare(cls, args: tuple[Any, ...]) -> Self:
        error = cls.__new__(cls, *args)
        error.args = args
        return error


def _rebuild(cls: type[LuminoraCoreSDKError], args: tuple[Any, ...]) -> LuminoraCoreSDKError:
    return cls._bare(args)


class ValidationError(LuminoraCoreSDKError, ValueError):
    """A value from the caller breaks a rule; nothing was done with it."""


class InvalidIdError(ValidationError):
    """An id is empty, too long, or holds a character that not every backend can keep."""

    def __init__(self, what: str, value: object, reason: str) -> None:
        super().__init__(f"{what} {shown(value)} is refused: {reason}", details={"what": what})
        self.what = what


class InvalidJSONError(ValidationError):
    """A value is not JSON: NaN, an infinity, a tuple, a non-string key, too deep."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} is not JSON: {reason}", details={"where": where})
        self.where = where
        self.reason = reason


class PayloadTooLargeError(ValidationError):
    """A record is larger than the backend's documented limit; nothing was written."""

    def __init__(self, *, backend: str, key: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{key} is {size_bytes} bytes; {backend} keeps at most {limit_bytes} in one record",
            details={"backend": backend, "size_bytes": size_bytes, "limit_bytes": limit_bytes},
        )
        self.backend = backend
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class ConfigurationError(LuminoraCoreSDKError, ValueError):
    """The configuration cannot work as it stands."""


class UnsupportedStorageTypeError(ConfigurationError):
    """Storage type not supported; lists the ones that are."""

    def __init__(self, given: object, valid: Sequence[str]) -> None:
        super().__init__(
            f"Storage type not supported: {shown(given)}. Valid types: {', '.join(valid)}",
            details={"valid": list(valid)},
        )
        self.valid = tuple(valid)


class MissingDependencyError(ConfigurationError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, needed_by: str, extra: str) -> None:
        super().__init__(
            f'{needed_by} needs the {extra!r} extra: pip install "luminoracore-sdk[{extra}]"',
            details={"extra": extra},
        )
        self.extra = extra


class SessionError(LuminoraCoreSDKError):
    """Something is wrong with a session."""


class SessionNotFoundError(SessionError, LookupError):
    """No such session; an expired one counts as absent."""

    def __init__(self, session_id: str, *, backend: str | None = None) -> None:
        place = f" in {backend} storage" if backend else ""
        super().__init__(f"no session {shown(session_id)}{place}", details={"backend": backend})
        self.session_id = session_id
        self.backend = backend


class SessionExistsError(SessionError):
    """A session with that id is there already."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {shown(session_id)} exists already; load it, or delete it first")
        self.session_id = session_id


class StorageError(LuminoraCoreSDKError):
    """The store could not do what was asked."""


class StorageUnavailableError(StorageError):
    """The backend cannot be used now; safe to retry, a repeated append is recognised by its ids."""

    def __init__(self, backend: str, reason: str) -> None:
        super().__init__(f"{backend} storage: {reason}", details={"backend": backend})
        self.backend = backend
        self.reason = reason


class StorageBusyError(StorageUnavailableError):
    """Another writer held the lock for longer than the time limit; nothing was changed."""


class StorageFullError(StorageUnavailableError):
    """No space is left; nothing of the write was kept."""


class StorageReadOnlyError(StorageUnavailableError):
    """The store cannot be written by this process; nothing was changed."""


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


class SchemaVersionError(StorageError):
    """The store has another schema version than this package; nothing was changed."""

    def __init__(self, *, backend: str, found: object, supported: int, hint: str) -> None:
        super().__init__(
            f"{backend} storage has schema version {found}, this package works with {supported}: {hint}",
            details={"backend": backend, "found": found, "supported": supported},
        )
        self.backend = backend
        self.found = found
        self.supported = supported


class NetworkError(LuminoraCoreSDKError):
    """A connection failed."""


class AuthenticationError(LuminoraCoreSDKError):
    """Credentials were refused."""


class RateLimitError(LuminoraCoreSDKError):
    """Too many requests."""


class ProviderError(LuminoraCoreSDKError):
    """The model provider could not be made or did not answer; the conversation is unchanged."""


class ProviderAuthenticationError(ProviderError, AuthenticationError):
    """The provider refused the key (401, 403), or no key was found."""


class ProviderRateLimitError(ProviderError, RateLimitError):
    """The provider refused for the moment (429), after the client's own retries."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, details={"retry_after": retry_after})
        self.retry_after = retry_after


class ProviderConnectionError(ProviderError, NetworkError):
    """The provider could not be reached, or answered 5xx, after the client's own retries."""


class ProviderTimeoutError(ProviderConnectionError, TimeoutError):
    """The provider did not answer within the time limit."""


class ProviderResponseError(ProviderError):
    """The provider's answer is not what its protocol says."""


class ProviderStreamError(ProviderError, NetworkError):
    """A streamed answer ended before its end; nothing of it was kept."""
