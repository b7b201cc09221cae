"""The root of the error tree; errors of arguments, configuration and sessions."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

__all__ = [
    "ConfigurationError",
    "InvalidIdError",
    "InvalidJSONError",
    "LuminoraCoreSDKError",
    "MessageNotFoundError",
    "MissingDependencyError",
    "PayloadTooLargeError",
    "ReaderTimeoutError",
    "SessionBusyError",
    "SessionError",
    "SessionExistsError",
    "SessionNotFoundError",
    "SyncCallError",
    "TurnInterruptedError",
    "UnsupportedStorageTypeError",
    "ValidationError",
    "shown",
]

_SHOWN_ID_LENGTH = 80


def shown(value: object) -> str:
    """Return an id for an error text: quoted, escaped and cut to 80 characters."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_ID_LENGTH else f"{text[:_SHOWN_ID_LENGTH]}…"


class LuminoraCoreSDKError(Exception):
    """Base of every error of this package.

    Args:
        message: What happened, to which key, on which backend, and what to do.
        error_code: A stable name for programs; the name of the class if not given.
        details: Facts for logs; never secrets or message bodies.
    """

    def __init__(self, message: str, error_code: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code or type(self).__name__
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling (process pools, task queues) for any signature of the constructor."""
        return _rebuild, (type(self), self.args), self.__dict__

    @classmethod
    def _bare(cls, args: tuple[Any, ...]) -> Self:
        error = cls.__new__(cls, *args)
        error.args = args
        return error


def _rebuild(cls: type[LuminoraCoreSDKError], args: tuple[Any, ...]) -> LuminoraCoreSDKError:
    return cls._bare(args)


class ValidationError(LuminoraCoreSDKError, ValueError):
    """A value of the caller is invalid; nothing was done."""


class InvalidIdError(ValidationError):
    """An id is empty, too long, or contains a character that not every backend can store."""

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
    """A record exceeds the backend's documented limit; nothing was written."""

    def __init__(self, *, backend: str, key: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{key} is {size_bytes} bytes; {backend} stores at most {limit_bytes} in one record",
            details={"backend": backend, "size_bytes": size_bytes, "limit_bytes": limit_bytes},
        )
        self.backend = backend
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class SyncCallError(LuminoraCoreSDKError, RuntimeError):
    """A call of ``luminoracore_sdk.sync`` that could not end; nothing was done."""


class ConfigurationError(LuminoraCoreSDKError, ValueError):
    """The configuration is invalid."""


class UnsupportedStorageTypeError(ConfigurationError):
    """The storage type is not supported; the error lists the supported ones."""

    def __init__(self, given: object, valid: Sequence[str], *, meant: str | None = None) -> None:
        hint = f". For this file write {meant}" if meant else ""
        super().__init__(
            f"Storage type not supported: {shown(given)}. Valid types: {', '.join(valid)}{hint}",
            details={"valid": list(valid)},
        )
        self.valid = tuple(valid)


class MissingDependencyError(ConfigurationError, ImportError):
    """An optional package is required and not installed."""

    def __init__(self, needed_by: str, extra: str, package: str = "luminoracore-sdk") -> None:
        whose = "" if package == "luminoracore-sdk" else f" of {package}"
        super().__init__(
            f'{needed_by} needs the {extra!r} extra{whose}: pip install "{package}[{extra}]"',
            details={"extra": extra},
        )
        self.extra = extra


class SessionError(LuminoraCoreSDKError):
    """Base of the errors of sessions."""


class SessionNotFoundError(SessionError, LookupError):
    """No such session; an expired one counts as absent."""

    def __init__(self, session_id: str, *, backend: str | None = None) -> None:
        where = f" in {backend} storage" if backend else ""
        super().__init__(f"no session {shown(session_id)}{where}", details={"backend": backend})
        self.session_id = session_id
        self.backend = backend


class MessageNotFoundError(SessionError, LookupError):
    """No such message, or no such session."""

    def __init__(self, session_id: str, message: str | int, *, backend: str | None = None) -> None:
        which = f"at position {message}" if isinstance(message, int) else shown(message)
        where = f" in {backend} storage" if backend else ""
        super().__init__(f"no message {which} in session {shown(session_id)}{where}", details={"backend": backend})
        self.session_id = session_id
        self.message_id = None if isinstance(message, int) else message
        self.backend = backend


class SessionBusyError(SessionError):
    """Another turn of the session is in progress, and the caller does not wait for it."""

    def __init__(self, session_id: str, *, own_stream: bool = True) -> None:
        super().__init__(
            f"a stream of this task on session {shown(session_id)} is still open; exhaust it or call its aclose()"
            if own_stream
            else f"session {shown(session_id)} is in the middle of a turn; try again later, or send with busy='wait'"
        )
        self.session_id = session_id


class TurnInterruptedError(SessionError):
    """The session was deleted or cleared during its turn, or the turn was stopped; nothing of it was stored."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {shown(session_id)} was deleted or cleared during this turn, or the turn was stopped; "
            "nothing of the turn was stored"
        )
        self.session_id = session_id


class ReaderTimeoutError(SessionError, TimeoutError):
    """The reader of a stream took nothing for too long; the turn was given up."""

    def __init__(self, session_id: str, seconds: float) -> None:
        super().__init__(
            f"the reader of a stream of session {shown(session_id)} took nothing for {seconds:g} s; "
            "the turn was given up"
        )
        self.session_id = session_id
        self.seconds = seconds


class SessionExistsError(SessionError):
    """A session with that id exists already."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {shown(session_id)} already exists; load it, or delete it first")
        self.session_id = session_id
