"""What redis-py raises, in the words of the port."""

import pytest
from redis import exceptions as driver
from redis._parsers import _AsyncRESP2Parser
from redis.asyncio.sentinel import MasterNotFoundError

from luminoracore_sdk.adapters.storage.redis.errors import connecting, from_reply, talking
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    LuminoraCoreSDKError,
    StorageAccessError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
    WrongEventLoopError,
)

_IN_SCRIPT = "ERR Error running script (call to f_5af): @user_script:3: @user_script: 3: "


@pytest.mark.parametrize(
    ("said", "kind", "in_doubt"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", StorageFullError, False),
        (f"{_IN_SCRIPT}-OOM command not allowed", StorageFullError, False),
        ("READONLY You can't write against a read only replica.", StorageReadOnlyError, False),
        (f"{_IN_SCRIPT}-READONLY You can't write", StorageReadOnlyError, False),
        ("NOPERM this user has no permissions", StorageAccessError, False),
        ("BUSY Redis is busy running a script.", StorageBusyError, False),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StorageBusyError, False),
        ("MOVED 5 127.0.0.1:7", StorageUnavailableError, False),
        ("CLUSTERDOWN The cluster is down", StorageUnavailableError, False),
        ("MASTERDOWN Link with MASTER is down", StorageUnavailableError, False),
        ("MISCONF Redis is configured to save RDB snapshots", StorageUnavailableError, False),
        ("NOREPLICAS Not enough good replicas to write.", StorageUnavailableError, False),
        ("CROSSSLOT Keys in request don't hash to the same slot", StorageUnavailableError, False),
        ("WRONGTYPE Operation against a key", CorruptRecordError, None),
        (f"{_IN_SCRIPT}-WRONGTYPE Operation against a key", CorruptRecordError, None),
        ("ERR something unexpected", StorageUnavailableError, True),
    ],
)
def test_an_error_reply_becomes_an_error_of_the_port(
    said: str, kind: type[LuminoraCoreSDKError], in_doubt: bool | None
) -> None:
    answer = _AsyncRESP2Parser.parse_error(said)  # type: ignore[no-untyped-call]
    error = from_reply(answer, b"a key", in_doubt=True)
    assert (type(error), getattr(error, "in_doubt", None), error.__cause__) == (kind, in_doubt, answer)


@pytest.mark.parametrize(
    ("raised", "while_connecting", "while_talking"),
    [
        (TimeoutError(), StorageUnavailableError, StorageTimeoutError),
        (driver.TimeoutError("Timeout reading"), StorageUnavailableError, StorageTimeoutError),
        (driver.ConnectionError("Connection closed"), StorageUnavailableError, StorageUnavailableError),
        (driver.RedisClusterException("no node"), StorageUnavailableError, StorageUnavailableError),
    ],
)
def test_only_a_request_that_was_sent_is_in_doubt(
    raised: Exception,
    while_connecting: type[StorageUnavailableError],
    while_talking: type[StorageUnavailableError],
) -> None:
    with pytest.raises(StorageUnavailableError) as early, connecting(5):
        raise raised
    assert (type(early.value), early.value.in_doubt) == (while_connecting, False)
    assert early.value.__cause__ is raised
    with pytest.raises(StorageUnavailableError) as late, talking(5, in_doubt=True):
        raise raised
    assert (type(late.value), late.value.__cause__) == (while_talking, raised)
    assert late.value.in_doubt is not isinstance(raised, driver.RedisClusterException)
    with pytest.raises(StorageUnavailableError) as read, talking(5, in_doubt=False):
        raise raised
    assert read.value.in_doubt is False


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (driver.AuthenticationError("invalid username-password pair"), StorageAccessError),
        (driver.ResponseError("DB index is out of range"), StorageAccessError),
        (driver.NoPermissionError("no permissions"), StorageAccessError),
        (driver.BusyLoadingError("Redis is loading the dataset"), StorageBusyError),
        (driver.MaxConnectionsError(), StorageBusyError),
        (driver.ConnectionError("No connection available."), StorageBusyError),
        (driver.ConnectionError("max number of clients reached"), StorageBusyError),
        (driver.ConnectionError("Error 111 connecting"), StorageUnavailableError),
    ],
)
def test_an_error_of_connecting_becomes_one_of_the_port(raised: Exception, kind: type[StorageUnavailableError]) -> None:
    with pytest.raises(StorageUnavailableError) as caught, connecting(5):
        raise raised
    assert (type(caught.value), caught.value.in_doubt) == (kind, False)


def test_a_connection_of_another_event_loop_is_an_error() -> None:
    raised = RuntimeError("Event loop is closed")
    with pytest.raises(WrongEventLoopError) as early, connecting(5):
        raise raised
    assert early.value.__cause__ is raised
    for in_doubt in (False, True):
        with pytest.raises(StorageUnavailableError) as late, talking(5, in_doubt=in_doubt):
            raise raised
        assert (late.value.__cause__, late.value.in_doubt) == (raised, in_doubt)


def test_another_runtime_error_is_unavailable() -> None:
    raised = RecursionError("maximum recursion depth exceeded")
    with pytest.raises(StorageUnavailableError) as caught, connecting(5):
        raise raised
    assert (caught.value.__cause__, caught.value.in_doubt) == (raised, False)


_SENTINEL = "<redis.asyncio.client.Redis(<Pool(<Connection(password=s3cret,port=1)>)>)> - "


@pytest.mark.parametrize(
    ("reasons", "kind", "text"),
    [
        ([], StorageUnavailableError, "knows the master; "),
        (["network:ConnectionError"], StorageUnavailableError, "knows the master: network:ConnectionError"),
        (["auth:AuthenticationError"], StorageAccessError, "knows the master: auth:AuthenticationError"),
        (["AuthenticationError('no')"] * 2, StorageAccessError, "the master: AuthenticationError('no')"),
        (["ConnectionError('no, really')", "AuthenticationError('no')"], StorageUnavailableError, "really')"),
    ],
)
def test_an_error_of_sentinels_contains_no_password(
    reasons: list[str], kind: type[StorageUnavailableError], text: str
) -> None:
    said = ", ".join(f"{_SENTINEL}{reason}" for reason in reasons)
    raised = MasterNotFoundError(f"No master found for 'm' : {said}")
    with pytest.raises(StorageUnavailableError) as caught, connecting(5):
        raise raised
    assert (type(caught.value), caught.value.in_doubt, caught.value.__cause__) == (kind, False, raised)
    assert f"{caught.value}; ".find(text) > 0
    assert "s3cret" not in f"{caught.value}{raised}{raised.args}"


def test_a_master_that_became_a_replica_is_unavailable() -> None:
    raised = driver.ConnectionError("The previous master is now a slave")
    raised.__context__ = driver.ReadOnlyError("You can't write against a read only replica.")
    with pytest.raises(StorageUnavailableError) as caught, talking(5, in_doubt=True):
        raise raised
    assert (type(caught.value), caught.value.in_doubt) == (StorageUnavailableError, False)
