"""Callers that go, and the end of the storage."""

import asyncio
import gc

import pytest

from luminoracore_sdk.adapters.storage.group_commit import Append, GroupCommit
from luminoracore_sdk.application.ports.records import AppendReceipt
from tests.support.paper import (
    BACKEND,
    Paper,
    an_append,
    others_under_way,
    settle,
    two_of_which_the_second_hangs,
    waiting,
)


async def test_a_caller_who_goes_while_waiting_is_not_written(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    first, second, third = await waiting(group, [an_append("a"), an_append("s", "m1"), an_append("s", "m2")])
    second.cancel()
    await settle()
    assert second.cancelled()
    paper.gate.set()
    await asyncio.gather(first, third)
    assert paper.sessions == {"a": ["a"], "s": ["m2"]}


async def test_a_caller_who_goes_under_way_waits_for_the_end_and_takes_nobody_along(
    paper: Paper, group: GroupCommit
) -> None:
    _, second, third = await others_under_way(paper, group, [an_append("a"), an_append("b"), an_append("c")])
    second.cancel()
    await settle()
    assert not second.done(), "its request is under way"
    paper.gate.set()
    assert (await third).first_position == 1
    with pytest.raises(asyncio.CancelledError):
        await second
    assert paper.sessions["b"] == ["a"]


async def test_who_is_cancelled_does_not_wait_for_a_dead_server(paper: Paper, group: GroupCommit) -> None:
    first, second = await two_of_which_the_second_hangs(paper, group)
    began = asyncio.get_running_loop().time()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert asyncio.get_running_loop().time() - began < 10
    assert first.done()
    for task in group._tasks:
        task.cancel()
    await asyncio.gather(*group._tasks, return_exceptions=True)


async def test_what_a_group_could_not_write_is_not_tried_again_for_one_who_has_gone(
    paper: Paper, group: GroupCommit
) -> None:
    _, second, third = await others_under_way(
        paper, group, [an_append("a"), an_append("b", expected=7), an_append("c")]
    )
    second.cancel()
    await settle()
    paper.gate.set()
    await third
    await asyncio.gather(second, return_exceptions=True)
    assert second.cancelled()
    assert paper.requests == [["a:a"], ["b:a", "c:a"]]


async def test_draining_waits_for_all_who_wait(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    tasks = await waiting(group, [an_append(name) for name in "abc"])
    drained = asyncio.create_task(group.drain())
    again = asyncio.create_task(group.drain())
    await settle()
    assert not drained.done()
    paper.gate.set()
    await asyncio.gather(drained, again)
    await settle()
    assert all(task.done() for task in tasks)
    await group.drain()


async def test_draining_waits_for_a_lone_writer(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    [task] = await waiting(group, [an_append("a")])
    drained = asyncio.create_task(group.drain())
    await settle()
    assert not drained.done()
    paper.gate.set()
    async with asyncio.timeout(5):
        await asyncio.gather(task, drained)


async def test_one_who_drains_and_goes_leaves_the_other_draining(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    [task] = await waiting(group, [an_append("a")])
    one, other = (asyncio.create_task(group.drain()) for _ in range(2))
    await settle()
    one.cancel()
    await settle()
    assert not other.done()
    paper.gate.set()
    await asyncio.gather(task, other)


async def test_what_waits_only_for_a_cancelled_caller_does_not_hold_up_draining(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    first, second = await waiting(group, [an_append("a"), an_append("b")])
    second.cancel()
    await settle()
    drained = asyncio.create_task(group.drain())
    paper.gate.set()
    await asyncio.gather(first, drained)
    assert paper.requests == [["a:a"]]


async def test_a_request_cancelled_before_its_first_step_leaves_nobody_waiting(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    first, second, third = await waiting(group, [an_append("a"), an_append("b"), an_append("c")])
    paper.gate.set()
    while not group._tasks:  # noqa: ASYNC110  # the group commit does not call back
        await asyncio.sleep(0)
    [request] = group._tasks
    request.cancel()  # as asyncio.run does with every task at its end
    drained = asyncio.create_task(group.drain())
    async with asyncio.timeout(5):
        results = await asyncio.gather(first, second, third, return_exceptions=True)
        await drained
    assert paper.requests == [["a:a"]], "it had not begun"
    assert [type(result) for result in results[1:]] == [asyncio.CancelledError] * 2
    assert (await group.append(an_append("b"))).first_position == 1
    assert group._counted == 0


async def test_what_the_collector_finds_of_a_closed_loop_starts_nothing(paper: Paper) -> None:
    async def abandoned() -> tuple[GroupCommit, list[asyncio.Task[AppendReceipt]]]:
        group = GroupCommit(BACKEND, alone=never, together=paper.together, most_requests=1, timeout=30)
        return group, await waiting(group, [an_append("a"), an_append("b")])

    async def never(_: Append) -> AppendReceipt:
        await asyncio.Event().wait()
        raise AssertionError

    def run() -> GroupCommit:
        loop = asyncio.new_event_loop()
        group, tasks = loop.run_until_complete(abandoned())
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what is tried
        loop.close()
        return group

    group = await asyncio.to_thread(run)
    gc.collect()
    assert group._counted == 0
    assert (paper.requests, group._starting) == ([], False)
