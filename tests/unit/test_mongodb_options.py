"""What MongoDBStorage takes and refuses, and how it words the drivers' errors; no server."""

import traceback
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb.errors import DuplicateKey, after_write, translated
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    PayloadTooLargeError,
    StorageAccessError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
)

_URL = "mongodb://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "a url or a client"),
        ({"url": "postgresql://x/y"}, "begins with mongodb://"),
        ({"url": "mongodb://"}, "cannot be read"),
        ({"url": "mongodb://user:s3cret@word@h/x"}, "percent-encoded"),
        ({"url": "mongodb://user:s3cret/word@h/x"}, "percent-encoded"),
        ({"url": f"{_URL}?w=0"}, "w=0"),
        ({"url": f"{_URL}admin"}, "authSource"),
        ({"url": _URL, "database": ""}, "1 to 63 bytes"),
        ({"url": _URL, "database": "a.b"}, "1 to 63 bytes"),
        ({"url": _URL, "database": "é" * 32}, "1 to 63 bytes"),
        ({"url": _URL, "collection_prefix": "a$b"}, "collection_prefix"),
        ({"url": _URL, "collection_prefix": "system."}, "collection_prefix"),
        ({"url": _URL, "collection_prefix": "x" * 65}, "collection_prefix"),
        ({"url": _URL, "driver": "mongoengine"}, "driver is one of"),
        ({"url": _URL, "max_pool_size": 0}, "max_pool_size"),
        ({"url": _URL, "timeout": 0}, "timeout is a number"),
        ({"url": _URL, "connect_timeout": float("nan")}, "connect_timeout is a number"),
        ({"client": object()}, "AsyncMongoClient, not builtins.object"),
    ],
)
def test_what_cannot_work_is_refused_without_a_password_in_the_text(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MongoDBStorage(**arguments)
    assert text in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_blocking_client_is_refused() -> None:
    with (
        MongoClient[dict[str, Any]](_URL, connect=False) as client,
        pytest.raises(ConfigurationError, match=r"not pymongo\.MongoClient"),
    ):
        MongoDBStorage(client=client)  # type: ignore[arg-type]


def _answer(code: int, text: str = "not authorized to execute command { insert: 's3cret' }") -> OperationFailure:
    return OperationFailure(text, code, {"errmsg": text, "codeName": "Name", "errInfo": {"body": "s3cret"}})


def _refused() -> AutoReconnect:
    error = AutoReconnect("h:1: [Errno 111] Connection refused (configured timeouts: …)")
    error.__cause__ = ConnectionRefusedError()
    return error


@pytest.mark.parametrize(
    ("error", "kind", "in_doubt"),
    [
        (ServerSelectionTimeoutError("none"), StorageUnavailableError, False),
        (_refused(), StorageUnavailableError, False),
        (AutoReconnect("connection closed"), StorageUnavailableError, True),
        (NetworkTimeout("timed out"), StorageTimeoutError, True),
        (WaitQueueTimeoutError("timed out"), StorageBusyError, False),
        (NotPrimaryError("no", {"code": 10107, "errmsg": "not primary"}), StorageReadOnlyError, False),
        (NotPrimaryError("no", {"code": 11600, "errmsg": "shutdown"}), StorageUnavailableError, True),
        (_answer(13), StorageAccessError, False),
        (_answer(18), StorageAccessError, False),
        (_answer(14031), StorageFullError, False),
        (_answer(24), StorageBusyError, False),
        (_answer(9), StorageUnavailableError, False),
        (ExecutionTimeout("late", 50, {}), StorageTimeoutError, True),
        (WTimeoutError("late", 64, {}), StorageTimeoutError, True),
        (WriteConcernError("not enough", 100, {}), StorageUnavailableError, True),
        (DriverConfigurationError("no"), StorageUnavailableError, True),
    ],
)
def test_an_error_of_the_driver_becomes_ours_and_says_whether_a_write_is_in_doubt(
    error: PyMongoError, kind: type[StorageUnavailableError], in_doubt: bool
) -> None:
    for write, expected in ((True, in_doubt), (False, False)):
        with pytest.raises(StorageUnavailableError) as caught, translated(write=write):
            raise error
        assert (type(caught.value), caught.value.in_doubt) == (kind, expected)
        told = "".join(traceback.format_exception(caught.value))
        assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r} {told}"
        assert type(error).__name__ in told
        assert "configured timeouts" not in str(caught.value)


@pytest.mark.parametrize("error", [DocumentTooLarge("too large"), _answer(10334), _answer(17419)])
def test_a_document_above_the_limit_is_too_large(error: Exception) -> None:
    with pytest.raises(PayloadTooLargeError), translated(write=True):
        raise error


def test_a_number_beyond_64_bits_is_the_callers_mistake() -> None:
    with pytest.raises(ValidationError), translated(write=True):
        raise OverflowError("MongoDB can only handle up to 8-byte ints")


def test_a_duplicate_key_names_the_fields_of_its_index() -> None:
    error = DuplicateKeyError("E11000", 11000, {"keyPattern": {"inc": 1, "epoch": 1, "first": 1}})
    with pytest.raises(DuplicateKey) as caught, translated(write=True):
        raise error
    assert caught.value.fields == ("inc", "epoch", "first")


def test_what_fails_after_a_write_is_in_doubt_and_of_its_own_kind() -> None:
    with pytest.raises(StorageBusyError) as caught, after_write():
        raise StorageBusyError("mongodb", "every connection is in use")
    assert caught.value.in_doubt is True
    assert caught.value.reason == "every connection is in use"
