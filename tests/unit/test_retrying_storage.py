"""RetryingStorage: what is repeated, for how long, and what is not."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from luminoracore_sdk.adapters.wrappers.retrying import RetryingStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, RewriteMessage, SessionRecord
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    ConflictError,
    CorruptRecordError,
    MissingDependencyError,
    StorageAccessError,
    StorageBusyError,
    StorageClosedError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from luminoracore_sdk.session import InMemoryStorage
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.testing import CancelAt
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.unreliable import (
    CALLS,
    READS,
    WRITES,
    Fault,
    Unreliable,
    lost,
    retrying,
    small_store,
    unsent,
)

SCOPE = MemoryScope("session", "s")


async def state(storage: InMemoryStorage) -> object:
    """Return all that a store holds but the moments at which it was written."""
    found = await storage.find_session("s")
    return (
        found and (found.version, found.payload),
        found and [message.message_id for message in await storage.read_messages("s", MessageRange())],
        [(entry.key, entry.payload) for entry in await storage.list_memories(SCOPE)],
    )


@pytest.mark.parametrize("name", CALLS)
async def test_what_was_not_done_is_done_by_the_repetition(name: str) -> None:
    plain, base = await small_store(), Unreliable(await small_store(), Fault(unsent()), Fault(unsent()))
    expected, given = await CALLS[name](plain), await CALLS[name](retrying(base))
    assert type(given) is type(expected)
    assert base.calls == [name] * 3
    assert isinstance(base.base, InMemoryStorage)
    assert await state(base.base) == await state(plain)


@pytest.mark.parametrize("name", WRITES)
async def test_lost_acknowledgement_leaves_the_right_state(name: str) -> None:
    plain, base = await small_store(), Unreliable(await small_store(), Fault(lost(), done=True))
    await WRITES[name](plain)
    await WRITES[name](retrying(base))
    assert isinstance(base.base, InMemoryStorage)
    assert await state(base.base) == await state(plain)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "error",
    [
        unsent(StorageAccessError),
        unsent(StorageFullError),
        StorageClosedError("remote"),
        CorruptRecordError(backend="remote", key="k", reason="bits"),
        ConflictError(backend="remote", key="k", expected=1, actual=2),
        RuntimeError("a defect"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_another_attempt_would_not_change_is_raised_at_once(name: str, error: Exception) -> None:
    base = Unreliable(await small_store(), Fault(error))
    with pytest.raises(type(error)) as caught:
        await CALLS[name](retrying(base))
    assert caught.value is error
    assert base.calls == [name]


@pytest.mark.parametrize("kind", [StorageBusyError, StorageReadOnlyError, StorageTimeoutError])
async def test_what_may_pass_is_tried_again(kind: type[StorageUnavailableError]) -> None:
    base = Unreliable(await small_store(), Fault(unsent(kind)))
    assert await retrying(base).delete_session("s") is True
    assert base.calls == ["delete_session"] * 2


@pytest.mark.parametrize("name", CALLS)
async def test_last_error_is_raised_with_its_cause(name: str) -> None:
    faults = [Fault(unsent()) for _ in range(5)]
    faults[2].error.__cause__ = ConnectionRefusedError("no")
    base = Unreliable(await small_store(), *faults)
    with pytest.raises(StorageUnavailableError) as caught:
        await CALLS[name](retrying(base, attempts=3))
    assert caught.value is faults[2].error
    assert type(caught.value.__cause__) is ConnectionRefusedError
    assert base.calls == [name] * 3


async def test_an_answer_about_how_things_are_is_not_embellished() -> None:
    base = Unreliable(await small_store(), Fault(unsent()), Fault(unsent()))
    for call in (retrying(base).ping(), retrying(base).close()):
        with pytest.raises(StorageUnavailableError):
            await call
    assert base.calls == ["ping", "close"]


# -- time, log, cancellation ---------------------------------------------------------------------


async def test_no_attempt_begins_after_the_time_limit() -> None:
    base = Unreliable(await small_store(), *[Fault(unsent())] * 9)
    with pytest.raises(StorageUnavailableError):
        await RetryingStorage(base, attempts=9, first_wait=0, time_limit=1e-9).find_session("s")
    assert base.calls == ["find_session"]


@pytest.fixture
def waits() -> Iterator[list[float]]:
    found: list[float] = []

    def note(details: RetryDetails) -> None:
        assert (details.args, details.kwargs) == ((), {})
        found.append(round(details.wait_for, 9))

    set_on_retry_hooks([note])
    yield found
    set_on_retry_hooks(None)


async def test_waits_grow_differ_and_are_bounded(waits: list[float]) -> None:
    for _ in range(5):
        base = Unreliable(await small_store(), *[Fault(unsent())] * 4)
        await RetryingStorage(base, attempts=5, first_wait=0.001, longest_wait=0.003).find_session("s")
    for number, (low, high) in enumerate([(0.001, 0.002), (0.002, 0.003), (0.003, 0.003), (0.003, 0.003)]):
        assert all(low <= wait <= high for wait in waits[number::4]), (number, waits)
    assert len(set(waits[0::4])) == 5


async def test_every_repetition_is_logged_without_ids_and_contents(caplog: pytest.LogCaptureFixture) -> None:
    base = Unreliable(await small_store(), Fault(unsent()), Fault(lost()))
    caplog.set_level(logging.DEBUG, "luminoracore_sdk")
    await retrying(base).append_messages("s", [message_record("secret-id", text="secret text")])
    ours = [record for record in caplog.records if record.name.startswith("luminoracore_sdk")]
    assert {record.levelname for record in ours} == {"WARNING"}
    first, second = (record.getMessage() for record in ours)
    assert first == "remote storage: connection refused: append_messages, attempt 2 of 4"
    assert second.startswith("remote storage: the connection was cut; whether it was done is not known: ")
    assert second.endswith(": append_messages, attempt 3 of 4")
    assert "secret" not in caplog.text


class Slow(InMemoryStorage):
    """Takes one step of the loop a call, and then cannot be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def schema_version(self) -> int:
        self.count += 1
        await asyncio.sleep(0)
        raise unsent()


@pytest.mark.parametrize("late", [False, True])
async def test_cancelled_call_ends_at_once(late: bool) -> None:
    counts = []
    for step in range(7):  # four attempts and three waits
        base = Slow()
        call = CancelAt(RetryingStorage(base, first_wait=0).schema_version(), step, late=late)
        with pytest.raises(asyncio.CancelledError):
            await call
        counts.append(base.count)
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    assert counts == [1, 1, 2, 2, 3, 3, 4]


async def test_switched_off_for_the_process_it_hands_on() -> None:
    stamina.set_active(False)
    try:
        base = Unreliable(await small_store(), Fault(unsent()))
        with pytest.raises(StorageUnavailableError):
            await retrying(base).find_session("s")
        assert (await retrying(base).find_session("s")) is not None
    finally:
        stamina.set_active(True)


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": 1.5}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"first_wait": -1}, "first_wait"),
        ({"first_wait": 3.0}, "first_wait"),
        ({"first_wait": float("nan")}, "first_wait"),
        ({"longest_wait": float("inf")}, "longest_wait"),
        ({"time_limit": 0}, "time_limit"),
        ({"time_limit": float("inf")}, "time_limit"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        RetryingStorage(InMemoryStorage(), **options)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stamina", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "luminoracore-sdk\[retry\]"'):
        RetryingStorage(InMemoryStorage())


class ForkedElsewhere(StorageWrapper):
    """Makes a shorter fork of the same header instead, and loses the answer."""

    is_due = True

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        if self.is_due:
            self.is_due = False
            await super().fork_session(source_id, record, at=at - 1, rewrite=rewrite)
            raise lost()
        return await super().fork_session(source_id, record, at=at, rewrite=rewrite)


async def test_a_fork_that_ends_elsewhere_is_not_taken_for_the_own_one() -> None:
    base = InMemoryStorage()
    await base.put_session(session_record("s"))
    await base.append_messages("s", [message_record("m1"), message_record("m2")])
    with pytest.raises(ConflictError):
        await RetryingStorage(ForkedElsewhere(base), first_wait=0).fork_session("s", session_record("new"), at=2)


def test_every_primitive_is_called_by_these_tests() -> None:
    own = {name for name in vars(RetryingStorage) if not name.startswith("_")}
    assert own == READS.keys() | WRITES.keys()
