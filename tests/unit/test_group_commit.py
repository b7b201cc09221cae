"""Which appends are written together, and what happens to each when something goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from luminoracore_sdk.adapters.storage.group_commit import Append, GroupCommit
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord, Payload
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionNotFoundError,
    StorageBusyError,
    StorageTimeoutError,
    ValidationError,
)

BACKEND = "paper"


class Paper:
    """Keeps messages by session, and a list of its requests; ``gate`` holds them back while it is closed."""

    def __init__(self) -> None:
        self.sessions: dict[str, list[str]] = {}
        self.requests: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.stuck: set[str] = set()
        self.errors: list[Exception] = []

    async def alone(self, append: Append) -> AppendReceipt:
        self.requests.append([_text(append)])
        await self.gate.wait()
        if append.session_id in self.stuck:
            await asyncio.Event().wait()
        return self._write(append)

    async def together(self, appends: Sequence[Append]) -> list[AppendReceipt | None]:
        self.requests.append([_text(append) for append in appends])
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return [None if append.session_id in self.stuck else self._or_none(append) for append in appends]

    def _or_none(self, append: Append) -> AppendReceipt | None:
        try:
            return self._write(append)
        except (ConflictError, SessionNotFoundError):
            return None

    def _write(self, append: Append) -> AppendReceipt:
        if append.session_id == "absent":
            raise SessionNotFoundError(append.session_id, backend=BACKEND)
        kept = self.sessions.setdefault(append.session_id, [])
        if append.expected_last not in (None, len(kept)):
            expected, actual = append.expected_last, len(kept)
            raise ConflictError(backend=BACKEND, key="session", expected=expected, actual=actual)
        first = len(kept) + 1
        kept += [message.message_id for message in append.messages]
        return AppendReceipt(first_position=first, last_position=len(kept))


def _text(append: Append) -> str:
    return f"{append.session_id}:{append.messages[0].message_id}"


def _append(session_id: str, message_id: str = "a", *, expected: int | None = None, count: int = 1) -> Append:
    ids = [message_id, *(f"{message_id}{number}" for number in range(1, count))]
    payload = Payload("json", b'"x"')
    records = [MessageRecord(message_id=one, role="user", created_at_us=1, payload=payload) for one in ids]
    return Append(session_id, records, expected, 1)


@pytest.fixture
async def paper() -> Paper:
    return Paper()


@pytest.fixture
async def group(paper: Paper) -> AsyncIterator[GroupCommit]:
    made = GroupCommit(BACKEND, alone=paper.alone, together=paper.together, most_requests=1, timeout=30)
    yield made
    assert not made._tasks, "a request is still under way"


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def _waiting(group: GroupCommit, appends: Sequence[Append]) -> list[asyncio.Task[AppendReceipt]]:
    tasks = [asyncio.create_task(group.append(append)) for append in appends]
    await _settle()
    return tasks


async def test_a_lone_writer_writes_alone_in_its_own_task(paper: Paper, group: GroupCommit) -> None:
    for number in (1, 2, 3):
        receipt = await group.append(_append("s", f"m{number}"))
        assert receipt == AppendReceipt(first_position=number, last_position=number)
    assert paper.requests == [["s:m1"], ["s:m2"], ["s:m3"]]
    assert not group._tasks


async def test_those_who_wait_are_written_together(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    tasks = await _waiting(group, [_append(name) for name in "abcd"])
    assert paper.requests == [["a:a"]]
    paper.gate.set()
    assert [await task for task in tasks] == [AppendReceipt(first_position=1, last_position=1)] * 4
    assert paper.requests == [["a:a"], ["b:a", "c:a", "d:a"]]


async def test_nobody_is_told_before_his_own_request_has_ended(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    tasks = await _waiting(group, [_append(name) for name in "ab"])
    assert not any(task.done() for task in tasks)
    paper.gate.set()
    await asyncio.gather(*tasks)


async def test_the_appends_to_one_session_keep_their_order(paper: Paper) -> None:
    group = GroupCommit(BACKEND, alone=paper.alone, together=paper.together, most_requests=4, timeout=30)
    paper.gate.clear()
    tasks = await _waiting(group, [_append("s", f"m{number}") for number in range(5)])
    assert paper.requests == [["s:m0"]], "one request of a session at a time"
    paper.gate.set()
    receipts = await asyncio.gather(*tasks)
    assert paper.sessions["s"] == ["m0", "m1", "m2", "m3", "m4"]
    assert [receipt.first_position for receipt in receipts] == [1, 2, 3, 4, 5]
    assert paper.requests == [["s:m0"], ["s:m1", "s:m2", "s:m3", "s:m4"]]


async def test_a_conditional_append_is_the_only_one_of_its_session_in_a_request(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    wanted = [
        _append("x"),
        _append("s", "m1"),
        _append("s", "m2", expected=1),
        _append("s", "m3"),
        _append("t"),
    ]
    tasks = await _waiting(group, wanted)
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["x:a"], ["s:m1", "t:a"], ["s:m2"], ["s:m3"]]


async def test_a_conflict_fails_its_caller_alone(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    wanted = [_append("a"), _append("b", expected=7), _append("absent"), _append("c")]
    tasks = await _waiting(group, wanted)
    paper.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [
        AppendReceipt,
        ConflictError,
        SessionNotFoundError,
        AppendReceipt,
    ]
    assert paper.sessions == {"a": ["a"], "b": [], "c": ["a"]}


async def test_after_an_error_of_the_whole_request_each_is_tried_alone(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    paper.errors = [ValidationError("something in it")]
    tasks = await _waiting(group, [_append(name) for name in "abc"])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["a:a"], ["b:a", "c:a"], ["b:a"], ["c:a"]]
    assert paper.sessions == {"a": ["a"], "b": ["a"], "c": ["a"]}


async def test_a_lost_answer_goes_to_each_caller_as_an_error_of_his_own(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    lost = StorageTimeoutError(BACKEND, "no answer", in_doubt=True)
    lost.__cause__ = cause = OSError("cut")
    paper.errors = [lost]
    first, *others = await _waiting(group, [_append(name) for name in "abc"])
    paper.gate.set()
    await first
    results = await asyncio.gather(*others, return_exceptions=True)
    assert [type(result) for result in results] == [StorageTimeoutError] * 2
    assert all(isinstance(result, StorageTimeoutError) and result.in_doubt for result in results)
    assert all(isinstance(result, Exception) and result.__cause__ is cause for result in results)
    assert results[0] is not results[1]
    assert paper.requests == [["a:a"], ["b:a", "c:a"]], "what may have been done is not done again"


async def test_a_foreign_error_reaches_every_caller_and_the_next_append_works(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    paper.errors = [TypeError("a defect")]
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context["exception"]))
    first, *others = await _waiting(group, [_append(name) for name in "abc"])
    paper.gate.set()
    await first
    results = await asyncio.gather(*others, return_exceptions=True)
    assert [str(result) for result in results] == ["a defect"] * 2
    assert (await group.append(_append("a", "b"))).first_position == 2


async def test_a_caller_who_goes_while_waiting_is_not_written(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    first, second, third = await _waiting(group, [_append("a"), _append("s", "m1"), _append("s", "m2")])
    second.cancel()
    await _settle()
    assert second.cancelled()
    paper.gate.set()
    await asyncio.gather(first, third)
    assert paper.sessions == {"a": ["a"], "s": ["m2"]}


async def test_a_caller_who_goes_under_way_waits_for_the_end_and_takes_nobody_along(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    first, second, third = await _waiting(group, [_append("a"), _append("b"), _append("c")])
    paper.gate.set()
    await first
    paper.gate.clear()
    await _settle()
    second.cancel()
    await _settle()
    assert not second.done(), "its request is under way"
    paper.gate.set()
    assert (await third).first_position == 1
    with pytest.raises(asyncio.CancelledError):
        await second
    assert paper.sessions["b"] == ["a"]


async def test_who_is_cancelled_does_not_wait_for_a_dead_server(paper: Paper, group: GroupCommit) -> None:
    first, second = await _two_of_which_the_second_hangs(paper, group)
    began = asyncio.get_running_loop().time()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert asyncio.get_running_loop().time() - began < 10
    assert first.done()
    for task in group._tasks:
        task.cancel()
    await asyncio.gather(*group._tasks, return_exceptions=True)


async def _two_of_which_the_second_hangs(
    paper: Paper, group: GroupCommit
) -> tuple[asyncio.Task[AppendReceipt], asyncio.Task[AppendReceipt]]:
    paper.gate.clear()
    paper.stuck = {"b"}
    first, second = await _waiting(group, [_append("a"), _append("b")])
    paper.gate.set()
    await first
    await _settle()
    return first, second


async def test_nobody_waits_for_a_slow_request(paper: Paper, group: GroupCommit) -> None:
    _, slow = await _two_of_which_the_second_hangs(paper, group)
    receipts = await asyncio.gather(*(group.append(_append(name)) for name in "cd"))
    assert [receipt.first_position for receipt in receipts] == [1, 1]
    assert not slow.done()
    assert (await group.append(_append("e"))).first_position == 1
    slow.cancel()
    for task in group._tasks:
        task.cancel()
    await asyncio.gather(slow, *group._tasks, return_exceptions=True)


async def test_who_waits_too_long_is_told_that_nothing_was_written(paper: Paper) -> None:
    group = GroupCommit(BACKEND, alone=paper.alone, together=paper.together, most_requests=1, timeout=0.15)
    paper.stuck = {"s"}
    first = asyncio.create_task(group.append(_append("s", "m1")))
    await _settle()
    with pytest.raises(StorageBusyError, match=r"other appends took longer than 0\.15 seconds"):
        await group.append(_append("s", "m2"))
    assert paper.requests == [["s:m1"]]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_session_with_many_appends_lets_the_others_have_their_turn(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    many = [_append("s", f"m{number}", count=300) for number in range(6)]
    tasks = await _waiting(group, [_append("x"), *many, _append("t")])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["x:a"], ["s:m0", "t:a", "s:m1", "s:m2"], ["s:m3", "s:m4", "s:m5"]]


async def test_a_full_request_leaves_the_rest_for_the_next_and_turns_go_on(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    wanted = [_append(name, f"m{number}", count=400) for name in "ab" for number in range(2)]
    tasks = await _waiting(group, [_append("x"), *wanted, _append("c")])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["x:a"], ["a:m0", "b:m0", "c:a"], ["a:m1", "b:m1"]]


async def test_draining_waits_for_all_who_wait(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    tasks = await _waiting(group, [_append(name) for name in "abc"])
    drained = asyncio.create_task(group.drain())
    again = asyncio.create_task(group.drain())
    await _settle()
    assert not drained.done()
    paper.gate.set()
    await asyncio.gather(drained, again)
    await _settle()
    assert all(task.done() for task in tasks)
    await group.drain()


async def test_what_waits_only_for_a_cancelled_caller_does_not_hold_up_draining(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    first, second = await _waiting(group, [_append("a"), _append("b")])
    second.cancel()
    await _settle()
    drained = asyncio.create_task(group.drain())
    paper.gate.set()
    await asyncio.gather(first, drained)
    assert paper.requests == [["a:a"]]


async def test_what_is_left_over_waits_without_holding_up_the_others(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    tasks = await _waiting(group, [_append(name) for name in "abc"])
    paper.stuck = {"b"}
    paper.gate.set()
    await asyncio.gather(tasks[0], tasks[2])
    assert (await group.append(_append("d"))).first_position == 1
    tasks[1].cancel()
    for task in group._tasks:
        task.cancel()
    await asyncio.gather(tasks[1], *group._tasks, return_exceptions=True)


async def test_more_requests_may_be_under_way_at_once(paper: Paper) -> None:
    group = GroupCommit(BACKEND, alone=paper.alone, together=paper.together, most_requests=2, timeout=30)
    paper.gate.clear()
    tasks = await _waiting(group, [_append(name) for name in "abcd"])
    assert paper.requests == [["a:a"], ["b:a"]]
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests[2:] == [["c:a", "d:a"]]
