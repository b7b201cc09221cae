"""Translate redis-py's errors into those of the storage port."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as driver
from redis.asyncio.sentinel import MasterNotFoundError

from luminoracore_sdk.adapters.storage.redis.records import BACKEND, damaged
from luminoracore_sdk.domain.errors import (
    LuminoraCoreSDKError,
    StorageAccessError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
    WrongEventLoopError,
)

__all__ = ["connecting", "from_reply", "talking"]

_Kind = type[StorageUnavailableError]

# Errors that say that a server did not do what it was asked: nothing was changed.
_REFUSALS: tuple[tuple[type[Exception], _Kind], ...] = (
    (driver.AuthenticationError, StorageAccessError),
    (driver.AuthorizationError, StorageAccessError),
    (driver.NoPermissionError, StorageAccessError),
    (driver.BusyLoadingError, StorageBusyError),
    (driver.MaxConnectionsError, StorageBusyError),
    (driver.OutOfMemoryError, StorageFullError),
    (driver.ReadOnlyError, StorageReadOnlyError),
    (driver.ClusterDownError, StorageUnavailableError),  # MasterDownError is one too
    (driver.ClusterCrossSlotError, StorageUnavailableError),
    (driver.RedisClusterException, StorageUnavailableError),
)

# The same by the first word. Redis 6.2 puts words of its own before the error of a command within a script.
_WORDS: dict[str, _Kind] = {
    "BUSY": StorageBusyError,
    "LOADING": StorageBusyError,
    "TRYAGAIN": StorageBusyError,
    "OOM": StorageFullError,
    "READONLY": StorageReadOnlyError,
    "NOPERM": StorageAccessError,
    "NOAUTH": StorageAccessError,
    "WRONGPASS": StorageAccessError,
    "MISCONF": StorageUnavailableError,
    "NOREPLICAS": StorageUnavailableError,
    "MASTERDOWN": StorageUnavailableError,
    "CLUSTERDOWN": StorageUnavailableError,
}

_SENTINEL_REASON = re.compile(r"\)>\)>\)> - (.*?)(?=, <redis|$)")
_NO_CONNECTION = ("max number of clients", "No connection available", "Too many connections")


@contextmanager
def connecting(seconds: float) -> Iterator[None]:
    """Translate errors from before a request is sent, when nothing can have been changed."""
    try:
        yield
    except (TimeoutError, driver.TimeoutError) as exc:
        raise StorageUnavailableError(BACKEND, f"no connection within {seconds:g} s") from exc
    except driver.ResponseError as exc:  # to AUTH or SELECT; the one to SELECT begins with no word of its own
        raise _refusal(exc) or StorageAccessError(BACKEND, str(exc)) from exc
    except MasterNotFoundError as exc:
        raise _without_master(exc) from exc
    except (driver.RedisError, driver.RedisClusterException) as exc:
        raise _refusal(exc) or StorageUnavailableError(BACKEND, str(exc)) from exc
    except RuntimeError as exc:  # asyncio's, if a client of the caller belongs to another event loop
        if "loop" in str(exc):
            raise WrongEventLoopError(BACKEND) from exc
        raise StorageUnavailableError(BACKEND, str(exc)) from exc


@contextmanager
def talking(seconds: float, *, in_doubt: bool) -> Iterator[None]:
    """Translate errors from between a request and its answer.

    Args:
        seconds: The time limit, for the text.
        in_doubt: Whether the request writes.
    """
    try:
        yield
    except (TimeoutError, driver.TimeoutError) as exc:
        raise StorageTimeoutError(BACKEND, f"no answer within {seconds:g} s", in_doubt=in_doubt) from exc
    except (driver.RedisError, driver.RedisClusterException) as exc:
        raise _refusal(exc) or StorageUnavailableError(BACKEND, str(exc), in_doubt=in_doubt) from exc
    except RuntimeError as exc:  # as above, but the request may have been sent
        raise StorageUnavailableError(BACKEND, str(exc), in_doubt=in_doubt) from exc


def from_reply(exc: driver.ResponseError, key: bytes, *, in_doubt: bool) -> LuminoraCoreSDKError:
    """Return the storage port's error for an answer that is an error; its cause is set.

    Args:
        exc: The answer.
        key: The first key of the request, for the text.
        in_doubt: Whether the request writes; for answers that are not known here.
    """
    text = str(exc)
    error: LuminoraCoreSDKError
    if "WRONGTYPE" in text:
        reason = f"this key, or another one of the same record, holds a value of a foreign type ({text})"
        error = damaged(f"key {key!a}", reason)
    elif text.startswith("ACL failure in script"):  # commands before it may have been allowed and done
        error = StorageAccessError(BACKEND, text, in_doubt=in_doubt)
    else:
        error = _refusal(exc) or StorageUnavailableError(BACKEND, f"the server says: {text}", in_doubt=in_doubt)
    error.__cause__ = exc
    return error


def _without_master(exc: MasterNotFoundError) -> StorageUnavailableError:
    """Return the error for sentinels that know no master; redis-py 6 and 7 put their password into its text."""
    reasons = _SENTINEL_REASON.findall(str(exc))
    exc.args = (": ".join(["no sentinel that answers knows the master", *reasons[:1]]),)
    refused = reasons and all("AuthenticationError" in reason for reason in reasons)
    return (StorageAccessError if refused else StorageUnavailableError)(BACKEND, str(exc))


def _refusal(exc: Exception) -> StorageUnavailableError | None:
    """Return the error for what changed nothing, or None."""
    if type(exc) is driver.RedisClusterException:  # no node accepts us; the last node's answer is the cause
        answer = exc.__cause__ or exc.__context__
        if isinstance(answer, Exception) and (refusal := _refusal(answer)):
            return refusal
    if isinstance(exc.__context__, driver.ReadOnlyError):  # with sentinels; the next connection finds the new master
        return StorageUnavailableError(BACKEND, str(exc))
    if isinstance(exc, driver.MovedError):  # from a single server; a cluster's client follows it
        return StorageUnavailableError(BACKEND, "a node of a cluster answers; redis+cluster:// finds the others")
    if isinstance(exc, (driver.TryAgainError, driver.AskError)):
        return StorageBusyError(BACKEND, "the cluster is still moving the slot of a key to another node")
    kind = next((kind for given, kind in _REFUSALS if isinstance(exc, given)), None) or _kind_of_text(exc)
    return kind(BACKEND, str(exc) or "no free connection") if kind else None


def _kind_of_text(exc: Exception) -> _Kind | None:
    text = str(exc)
    if isinstance(exc, driver.ResponseError):
        words = text.replace("-", " ").split()
        for word in words[:1] if words[:1] != ["Error"] else words:
            if word in _WORDS:
                return _WORDS[word]
    return StorageBusyError if any(words in text for words in _NO_CONNECTION) else None
