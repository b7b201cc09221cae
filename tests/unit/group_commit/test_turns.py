"""In which order appends are written."""

import asyncio

from luminoracore_sdk.adapters.storage.group_commit import GroupCommit
from luminoracore_sdk.domain.errors import (
    ValidationError,
)
from tests.support.paper import BACKEND, Paper, an_append, settle, waiting


async def test_the_appends_to_one_session_keep_their_order(paper: Paper) -> None:
    group = GroupCommit(BACKEND, alone=paper.alone, together=paper.together, most_requests=4, timeout=30)
    paper.gate.clear()
    tasks = await waiting(group, [an_append("s", f"m{number}") for number in range(5)])
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
        an_append("x"),
        an_append("s", "m1"),
        an_append("s", "m2", expected=1),
        an_append("s", "m3"),
        an_append("t"),
    ]
    tasks = await waiting(group, wanted)
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["x:a"], ["s:m1", "t:a"], ["s:m2"], ["s:m3"]]


async def test_a_session_with_many_appends_lets_the_others_have_their_turn(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    many = [an_append("s", f"m{number}", count=300) for number in range(6)]
    tasks = await waiting(group, [an_append("x"), *many, an_append("t")])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["x:a"], ["s:m0", "t:a", "s:m1", "s:m2"], ["s:m3", "s:m4", "s:m5"]]


async def test_who_did_not_fit_in_is_the_first_of_the_next_request(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    wanted = [an_append(name, f"m{number}", count=400) for name in "abc" for number in range(2)]
    tasks = await waiting(group, [an_append("x"), *wanted])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["x:a"], ["a:m0", "b:m0"], ["c:m0", "a:m1"], ["b:m1", "c:m1"]]


async def test_who_comes_again_waits_behind_those_who_wait(paper: Paper, group: GroupCommit) -> None:
    async def twice() -> None:
        await group.append(an_append("a", "m1"))
        await group.append(an_append("a", "m2"))

    paper.gate.clear()
    task = asyncio.create_task(twice())
    await settle()
    others = await waiting(group, [an_append("b"), an_append("c")])
    paper.gate.set()
    await asyncio.gather(task, *others)
    assert paper.requests == [["a:m1"], ["b:a", "c:a", "a:m2"]]


async def test_nothing_overtakes_what_is_tried_again(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    paper.errors = [ValidationError("something in it")]
    paper.shuts_after_an_error = True
    first, *others = await waiting(group, [an_append("a"), an_append("s", "m1"), an_append("t")])
    paper.gate.set()
    await first
    await settle()
    last = await waiting(group, [an_append("s", "m2")])
    assert paper.requests == [["a:a"], ["s:m1", "t:a"], ["s:m1"], ["t:a"]]
    paper.gate.set()
    await asyncio.gather(*others, *last)
    assert paper.sessions["s"] == ["m1", "m2"]
    assert (await group.append(an_append("t", "b"))).first_position == 2
