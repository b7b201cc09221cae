"""Group commit: what is written together, in which order, and what each caller gets."""

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.base import Append
from luminoracore_sdk.adapters.storage.group_commit import GroupCommit
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord, Payload
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionNotFoundError,
    StorageBusyError,
    StorageTimeoutError,
    ValidationError,
)

Group = GroupCommit[Append, AppendReceipt]

BACKEND = "fake"
FIRST = AppendReceipt(first_position=1, last_position=1)


class FakeServer:
    """Keeps message ids by session and lists its requests as ``session:first message id``.

    Attributes:
        gate: Requests wait for it before they are written.
        stuck: Sessions of which a request is never answered until ``released`` is set; a request that holds
            several sessions leaves them out.
        errors: Raised by the next requests that hold several appends.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, list[str]] = {}
        self.requests: list[list[str]] = []
        self.gate = asyncio.Event()
        self.stuck: set[str] = set()
        self.released = asyncio.Event()
        self.errors: list[Exception] = []

    async def alone(self, append: Append) -> AppendReceipt:
        self.requests.append([label(append)])
        await self.gate.wait()
        if append.session_id in self.stuck:
            await self.released.wait()
        return self.write(append)

    async def together(self, appends: Sequence[Append]) -> list[AppendReceipt | ConflictError | None]:
        assert len(appends) > 1
        self.requests.append([label(append) for append in appends])
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return [None if append.session_id in self.stuck else self.write_or_none(append) for append in appends]

    def write_or_none(self, append: Append) -> AppendReceipt | ConflictError | None:
        try:
            return self.write(append)
        except ConflictError as exc:
            return exc
        except SessionNotFoundError:
            return None

    def write(self, append: Append) -> AppendReceipt:
        message_ids = [message.message_id for message in append.messages]
        if append.session_id == "absent":
            raise SessionNotFoundError(append.session_id, backend=BACKEND)
        stored = self.sessions.setdefault(append.session_id, [])
        if append.expected_last not in (None, len(stored)):
            raise ConflictError(backend=BACKEND, key="session", expected="another", actual=str(len(stored)))
        if message_ids[0] == "invalid":
            raise ValidationError("an invalid message")
        if message_ids[0] == "bug":
            raise TypeError("a bug")
        stored += message_ids
        return AppendReceipt(first_position=len(stored) - len(message_ids) + 1, last_position=len(stored))


def label(append: Append) -> str:
    return f"{append.session_id}:{append.messages[0].message_id}"


def an_append(
    session_id: str, message_id: str = "m1", *, expected: int | None = None, count: int = 1, size: int = 3
) -> Append:
    ids = [message_id, *(f"{message_id}-{number}" for number in range(1, count))]
    payload = Payload("json", b"1" * size)
    records = [MessageRecord(message_id=one, role="user", created_at_us=1, payload=payload) for one in ids]
    return Append(session_id, records, expected, 1)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def start(group: Group, *appends: Append) -> list[asyncio.Task[AppendReceipt]]:
    tasks = [asyncio.create_task(group.write(append)) for append in appends]
    await settle()
    return tasks


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    yield server
    server.gate.set()
    server.released.set()


def group_over(server: FakeServer, *, most_requests: int = 1, least_share: int = 32, timeout: float = 30) -> Group:
    return GroupCommit(
        BACKEND,
        alone=server.alone,
        together=server.together,
        most_requests=most_requests,
        least_share=least_share,
        timeout=timeout,
    )


@pytest.fixture
async def group(server: FakeServer) -> AsyncIterator[Group]:
    group = group_over(server)
    yield group
    server.gate.set()
    server.released.set()
    async with asyncio.timeout(5):
        await group.drain()


# -- requests ------------------------------------------------------------------------------------


async def test_lone_appends_are_written_one_by_one(server: FakeServer, group: Group) -> None:
    server.gate.set()
    for number in (1, 2, 3):
        receipt = await group.write(an_append("s", f"m{number}"))
        assert receipt == AppendReceipt(first_position=number, last_position=number)
    assert server.requests == [["s:m1"], ["s:m2"], ["s:m3"]]


async def test_queued_appends_share_a_request(server: FakeServer, group: Group) -> None:
    tasks = await start(group, *map(an_append, "abcd"))
    assert server.requests == [["a:m1"]]
    server.gate.set()
    assert await asyncio.gather(*tasks) == [FIRST] * 4
    assert server.requests == [["a:m1"], ["b:m1", "c:m1", "d:m1"]]


async def test_callers_answered_together_share_the_next_request(server: FakeServer, group: Group) -> None:
    async def append_twice(name: str) -> None:
        await group.write(an_append(name, "m1"))
        await group.write(an_append(name, "m2"))

    tasks = [asyncio.create_task(append_twice(name)) for name in "abc"]
    await settle()
    server.gate.set()
    await asyncio.gather(*tasks)
    assert server.requests == [["a:m1"], ["b:m1", "c:m1", "a:m2"], ["b:m2", "c:m2"]]


async def test_an_append_returns_after_its_own_request(server: FakeServer, group: Group) -> None:
    tasks = await start(group, *map(an_append, "ab"))
    assert not any(task.done() for task in tasks)
    server.gate.set()
    await asyncio.gather(*tasks)


async def test_requests_run_up_to_the_limit(server: FakeServer) -> None:
    group = group_over(server, most_requests=2)
    tasks = await start(group, *map(an_append, "abcd"))
    assert server.requests == [["a:m1"], ["b:m1"]]
    server.gate.set()
    await asyncio.gather(*tasks)
    assert server.requests[2:] == [["c:m1", "d:m1"]]


@pytest.mark.parametrize(("queued", "sizes"), [(9, [5, 4]), (8, [4, 4]), (7, [7]), (1, [1])])
async def test_a_long_queue_is_divided_among_requests(server: FakeServer, queued: int, sizes: list[int]) -> None:
    group = group_over(server, most_requests=2, least_share=4)
    tasks = await start(group, *(an_append(f"s{number}") for number in range(queued + 2)))
    assert server.requests == [["s0:m1"], ["s1:m1"]]
    server.gate.set()
    await asyncio.gather(*tasks)
    assert [len(request) for request in server.requests[2:]] == sizes
    assert [one for request in server.requests for one in request] == [f"s{number}:m1" for number in range(queued + 2)]


async def test_a_request_holds_at_most_4_megabytes(server: FakeServer, group: Group) -> None:
    appends = [an_append(name, size=1_500_000) for name in "abc"]
    tasks = await start(group, an_append("x"), *appends, an_append("large", size=5_000_000))
    server.gate.set()
    await asyncio.gather(*tasks)
    assert server.requests == [["x:m1"], ["a:m1", "b:m1"], ["c:m1"], ["large:m1"]]


async def test_a_request_holds_at_most_1000_messages(server: FakeServer, group: Group) -> None:
    appends = [an_append(name, count=400) for name in "abcd"]
    tasks = await start(group, an_append("x"), *appends)
    server.gate.set()
    await asyncio.gather(*tasks)
    assert server.requests == [["x:m1"], ["a:m1", "b:m1"], ["c:m1", "d:m1"]]


# -- order ---------------------------------------------------------------------------------------


async def test_appends_to_one_session_keep_their_order(server: FakeServer) -> None:
    group = group_over(server, most_requests=4)
    tasks = await start(group, *(an_append("s", f"m{number}") for number in range(5)))
    assert server.requests == [["s:m0"]]
    server.gate.set()
    receipts = await asyncio.gather(*tasks)
    assert server.sessions["s"] == ["m0", "m1", "m2", "m3", "m4"]
    assert [receipt.first_position for receipt in receipts] == [1, 2, 3, 4, 5]
    assert server.requests == [["s:m0"], ["s:m1", "s:m2", "s:m3", "s:m4"]]


async def test_a_conditional_append_has_its_session_alone(server: FakeServer, group: Group) -> None:
    appends = [an_append("s", "m1"), an_append("s", "m2", expected=1), an_append("s", "m3"), an_append("t")]
    tasks = await start(group, an_append("x"), *appends)
    server.gate.set()
    await asyncio.gather(*tasks)
    assert server.requests == [["x:m1"], ["s:m1", "t:m1"], ["s:m2"], ["s:m3"]]


async def test_the_next_append_of_a_caller_queues_last(server: FakeServer, group: Group) -> None:
    async def twice() -> None:
        await group.write(an_append("a", "m1"))
        await group.write(an_append("a", "m2"))

    task = asyncio.create_task(twice())
    await settle()
    others = await start(group, an_append("b"), an_append("c"))
    server.gate.set()
    await asyncio.gather(task, *others)
    assert server.requests == [["a:m1"], ["b:m1", "c:m1", "a:m2"]]


async def test_a_retry_keeps_its_place_in_the_session(server: FakeServer, group: Group) -> None:
    server.stuck = {"s"}
    first, *others = await start(group, an_append("a"), an_append("s", "m1"), an_append("s", "m2"), an_append("t"))
    server.gate.set()
    await first
    await settle()
    others += await start(group, an_append("s", "m3"))
    assert server.requests == [["a:m1"], ["s:m1", "s:m2", "t:m1"], ["s:m1"]]
    server.released.set()
    await asyncio.gather(*others)
    assert server.sessions["s"] == ["m1", "m2", "m3"]


# -- slow requests -------------------------------------------------------------------------------


async def test_a_slow_request_does_not_hold_up_others(server: FakeServer, group: Group) -> None:
    server.gate.set()
    server.stuck = {"b"}
    slow = asyncio.create_task(group.write(an_append("b")))
    await settle()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(group.write(an_append(name)) for name in "cd")) == [FIRST] * 2
        assert await group.write(an_append("e")) == FIRST
    assert not slow.done()
    server.released.set()
    assert await slow == FIRST


async def test_the_limit_holds_again_after_a_slow_request(server: FakeServer, group: Group) -> None:
    server.gate.set()
    server.stuck = {"b"}
    slow = asyncio.create_task(group.write(an_append("b")))
    await settle()
    await group.write(an_append("c"))  # queued until the first request is slow
    server.released.set()
    await slow
    server.gate.clear()
    tasks = await start(group, an_append("d"), an_append("e"))
    assert server.requests == [["b:m1"], ["c:m1"], ["d:m1"]]
    server.gate.set()
    await asyncio.gather(*tasks)


async def test_a_retry_does_not_hold_up_others(server: FakeServer, group: Group) -> None:
    first, second, third = await start(group, *map(an_append, "abc"))
    server.stuck = {"b"}
    server.gate.set()
    await asyncio.gather(first, third)
    assert await group.write(an_append("d")) == FIRST
    assert not second.done()
    server.released.set()
    assert await second == FIRST


async def test_an_append_queued_too_long_is_not_written(server: FakeServer) -> None:
    group = group_over(server, timeout=0.15)
    server.gate.set()
    server.stuck = {"s"}
    [first] = await start(group, an_append("s", "m1"))
    with pytest.raises(StorageBusyError, match=r"other writes took longer than 0\.15 seconds"):
        await group.write(an_append("s", "m2"))
    server.released.set()
    await first
    assert server.sessions["s"] == ["m1"]


# -- errors --------------------------------------------------------------------------------------


async def test_an_error_reaches_only_its_own_caller(server: FakeServer, group: Group) -> None:
    appends = [an_append("a"), an_append("b", expected=7), an_append("absent"), an_append("c")]
    tasks = await start(group, *appends)
    server.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [AppendReceipt, ConflictError, SessionNotFoundError, AppendReceipt]
    assert server.sessions == {"a": ["m1"], "b": [], "c": ["m1"]}


@pytest.mark.parametrize(("message_id", "error"), [("invalid", ValidationError), ("bug", TypeError)])
async def test_a_failed_request_is_retried_append_by_append(
    server: FakeServer, group: Group, message_id: str, error: type[Exception]
) -> None:
    appends = [an_append("a"), an_append("s", message_id), an_append("s", "valid"), an_append("t")]
    tasks = await start(group, *appends)
    server.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [AppendReceipt, error, AppendReceipt, AppendReceipt]
    assert server.sessions == {"a": ["m1"], "s": ["valid"], "t": ["m1"]}


async def test_an_unanswered_request_is_not_repeated(server: FakeServer, group: Group) -> None:
    lost = StorageTimeoutError(BACKEND, "no answer", in_doubt=True)
    lost.__cause__ = cause = OSError("connection lost")
    server.errors = [lost]
    first, *others = await start(group, *map(an_append, "abc"))
    server.gate.set()
    await first
    results = await asyncio.gather(*others, return_exceptions=True)
    for result in results:
        assert isinstance(result, StorageTimeoutError)
        assert result.in_doubt
        assert result.__cause__ is cause
    assert results[0] is not results[1]
    assert server.requests == [["a:m1"], ["b:m1", "c:m1"]]


# -- cancellation --------------------------------------------------------------------------------


async def test_a_queued_append_is_not_written_once_cancelled(server: FakeServer, group: Group) -> None:
    first, second, third = await start(group, an_append("a"), an_append("s", "m1"), an_append("s", "m2"))
    second.cancel()
    await settle()
    assert second.cancelled()
    server.gate.set()
    await asyncio.gather(first, third)
    assert server.sessions == {"a": ["m1"], "s": ["m2"]}


async def with_two_in_one_request(
    server: FakeServer, group: Group, *appends: Append
) -> list[asyncio.Task[AppendReceipt]]:
    """Start appends; when this returns, the first is written and the request of the others is in progress."""
    tasks = await start(group, *appends)
    server.gate.set()
    await tasks[0]
    server.gate.clear()
    await settle()
    return tasks


async def test_a_cancelled_caller_waits_for_its_request(server: FakeServer, group: Group) -> None:
    _, second, third = await with_two_in_one_request(server, group, *map(an_append, "abc"))
    second.cancel()
    await settle()
    assert not second.done()
    server.gate.set()
    assert await third == FIRST
    with pytest.raises(asyncio.CancelledError):
        await second
    assert server.sessions["b"] == ["m1"]


async def test_a_cancelled_caller_waits_no_longer_than_a_second(server: FakeServer, group: Group) -> None:
    _, second, _ = await with_two_in_one_request(server, group, *map(an_append, "abc"))
    second.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await second
    assert server.sessions == {"a": ["m1"]}


async def test_a_cancelled_append_is_not_retried(server: FakeServer, group: Group) -> None:
    appends = [an_append("a"), an_append("absent"), an_append("c")]
    _, second, third = await with_two_in_one_request(server, group, *appends)
    second.cancel()
    await settle()
    server.gate.set()
    await asyncio.gather(second, third, return_exceptions=True)
    await group.drain()
    assert second.cancelled()
    assert server.requests == [["a:m1"], ["absent:m1", "c:m1"]]


async def test_a_lost_answer_reaches_those_not_cancelled(server: FakeServer, group: Group) -> None:
    server.errors = [StorageTimeoutError(BACKEND, "no answer", in_doubt=True)]
    _, second, third = await with_two_in_one_request(server, group, *map(an_append, "abc"))
    second.cancel()
    await settle()
    server.gate.set()
    with pytest.raises(StorageTimeoutError):
        await third
    await asyncio.gather(second, return_exceptions=True)


async def test_a_cancelled_request_cancels_its_callers(server: FakeServer, group: Group) -> None:
    tasks_before = asyncio.all_tasks()
    _, second, third = callers = await with_two_in_one_request(server, group, *map(an_append, "abc"))
    [request] = asyncio.all_tasks() - tasks_before - set(callers)
    request.cancel()  # as asyncio.run does with every task at its end
    results = await asyncio.gather(second, third, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
    server.gate.set()
    assert await group.write(an_append("b")) == FIRST


# -- end -----------------------------------------------------------------------------------------


async def test_drain_waits_for_queued_appends(server: FakeServer, group: Group) -> None:
    tasks = await start(group, *map(an_append, "abc"))
    drains = [asyncio.create_task(group.drain()) for _ in range(2)]
    await settle()
    assert not any(drain.done() for drain in drains)
    server.gate.set()
    await asyncio.gather(*drains)
    await settle()
    assert all(task.done() for task in tasks)
    await group.drain()


async def test_drain_waits_for_a_lone_append(server: FakeServer, group: Group) -> None:
    [task] = await start(group, an_append("a"))
    drain = asyncio.create_task(group.drain())
    await settle()
    assert not drain.done()
    server.gate.set()
    await asyncio.gather(task, drain)


async def test_drain_waits_for_retries(server: FakeServer, group: Group) -> None:
    server.stuck = {"b", "c"}
    first, *others = await start(group, *map(an_append, "abc"))
    server.gate.set()
    await first
    drain = asyncio.create_task(group.drain())
    await settle()
    assert not drain.done()
    server.released.set()
    await asyncio.gather(*others)
    await drain


async def test_drain_does_not_wait_for_cancelled_appends(server: FakeServer, group: Group) -> None:
    first, second = await start(group, *map(an_append, "ab"))
    second.cancel()
    await settle()
    drain = asyncio.create_task(group.drain())
    server.gate.set()
    await asyncio.gather(first, drain)
    assert server.requests == [["a:m1"]]


async def test_a_closed_event_loop_starts_no_request() -> None:
    def run() -> FakeServer:
        async def abandon() -> tuple[FakeServer, Sequence[Coroutine[Any, Any, AppendReceipt]]]:
            server = FakeServer()
            group = group_over(server)
            calls = [group.write(append) for append in map(an_append, "ab")]
            for call in calls:
                call.send(None)  # a coroutine that no task owns is closed by the garbage collector
            return server, calls

        loop = asyncio.new_event_loop()
        server, calls = loop.run_until_complete(abandon())
        loop.close()
        del calls
        return server

    server = await asyncio.to_thread(run)
    gc.collect()
    assert server.requests == [["a:m1"]]
