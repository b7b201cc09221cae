"""What is written in which request."""

import asyncio

from luminoracore_sdk.adapters.storage.group_commit import GroupCommit
from luminoracore_sdk.application.ports.records import AppendReceipt
from tests.support.paper import BACKEND, Paper, an_append, two_of_which_the_second_hangs, waiting


async def test_a_lone_writer_writes_alone_in_its_own_task(paper: Paper, group: GroupCommit) -> None:
    for number in (1, 2, 3):
        receipt = await group.append(an_append("s", f"m{number}"))
        assert receipt == AppendReceipt(first_position=number, last_position=number)
    assert paper.requests == [["s:m1"], ["s:m2"], ["s:m3"]]
    assert not group._tasks


async def test_those_who_wait_are_written_together(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    tasks = await waiting(group, [an_append(name) for name in "abcd"])
    assert paper.requests == [["a:a"]]
    paper.gate.set()
    assert [await task for task in tasks] == [AppendReceipt(first_position=1, last_position=1)] * 4
    assert paper.requests == [["a:a"], ["b:a", "c:a", "d:a"]]


async def test_nobody_is_told_before_his_own_request_has_ended(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    tasks = await waiting(group, [an_append(name) for name in "ab"])
    assert not any(task.done() for task in tasks)
    paper.gate.set()
    await asyncio.gather(*tasks)


async def test_more_requests_may_be_under_way_at_once(paper: Paper) -> None:
    group = GroupCommit(BACKEND, alone=paper.alone, together=paper.together, most_requests=2, timeout=30)
    paper.gate.clear()
    tasks = await waiting(group, [an_append(name) for name in "abcd"])
    assert paper.requests == [["a:a"], ["b:a"]]
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests[2:] == [["c:a", "d:a"]]


async def test_a_request_holds_4_megabytes(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    tasks = await waiting(group, [an_append("x"), *(an_append(name, size=1_500_000) for name in "abc")])
    tasks += await waiting(group, [an_append("large", size=5_000_000)])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["x:a"], ["a:a", "b:a"], ["c:a"], ["large:a"]]


async def test_a_full_request_leaves_the_rest_for_the_next_and_turns_go_on(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    wanted = [an_append(name, f"m{number}", count=400) for name in "ab" for number in range(2)]
    tasks = await waiting(group, [an_append("x"), *wanted, an_append("c")])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["x:a"], ["a:m0", "b:m0", "c:a"], ["a:m1", "b:m1"]]


async def test_nobody_waits_for_a_slow_request(paper: Paper, group: GroupCommit) -> None:
    _, slow = await two_of_which_the_second_hangs(paper, group)
    receipts = await asyncio.gather(*(group.append(an_append(name)) for name in "cd"))
    assert [receipt.first_position for receipt in receipts] == [1, 1]
    assert not slow.done()
    assert (await group.append(an_append("e"))).first_position == 1
    slow.cancel()
    for task in group._tasks:
        task.cancel()
    await asyncio.gather(slow, *group._tasks, return_exceptions=True)


async def test_after_a_slow_request_there_are_no_more_requests_at_once_than_before(
    paper: Paper, group: GroupCommit
) -> None:
    paper.gate.clear()
    first, second = await waiting(group, [an_append("a"), an_append("b")])
    while len(paper.requests) < 2:  # noqa: ASYNC110  # until the first has become slow
        await asyncio.sleep(0.01)
    paper.gate.set()
    await asyncio.gather(first, second)
    paper.gate.clear()
    tasks = await waiting(group, [an_append("c"), an_append("d")])
    assert paper.requests == [["a:a"], ["b:a"], ["c:a"]]
    paper.gate.set()
    await asyncio.gather(*tasks)


async def test_what_is_left_over_waits_without_holding_up_the_others(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    tasks = await waiting(group, [an_append(name) for name in "abc"])
    paper.stuck = {"b"}
    paper.gate.set()
    await asyncio.gather(tasks[0], tasks[2])
    assert (await group.append(an_append("d"))).first_position == 1
    tasks[1].cancel()
    for task in group._tasks:
        task.cancel()
    await asyncio.gather(tasks[1], *group._tasks, return_exceptions=True)
