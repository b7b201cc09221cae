"""What happens to each append when something goes wrong."""

import asyncio

import pytest

from luminoracore_sdk.adapters.storage.group_commit import GroupCommit
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionNotFoundError,
    StorageBusyError,
    StorageTimeoutError,
    ValidationError,
)
from tests.support.paper import BACKEND, Paper, an_append, others_under_way, settle, waiting


async def test_a_conflict_fails_its_caller_alone(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    wanted = [an_append("a"), an_append("b", expected=7), an_append("absent"), an_append("c")]
    tasks = await waiting(group, wanted)
    paper.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [
        AppendReceipt,
        ConflictError,
        SessionNotFoundError,
        AppendReceipt,
    ]
    assert paper.sessions == {"a": ["a"], "b": [], "c": ["a"]}


async def test_after_an_error_of_the_whole_request_each_is_tried_alone(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    paper.errors = [ValidationError("something in it")]
    tasks = await waiting(group, [an_append(name) for name in "abc"])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["a:a"], ["b:a", "c:a"], ["b:a"], ["c:a"]]
    assert paper.sessions == {"a": ["a"], "b": ["a"], "c": ["a"]}


async def test_a_bad_append_does_not_keep_back_the_next_of_its_session(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    wanted = [an_append("a"), an_append("s", "bad"), an_append("s", "good")]
    tasks = await waiting(group, wanted)
    paper.gate.set()
    _, bad, good = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(bad, ValidationError)
    assert good == AppendReceipt(first_position=1, last_position=1)
    assert paper.sessions["s"] == ["good"]


async def test_a_lost_answer_goes_to_each_caller_as_an_error_of_his_own(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    lost = StorageTimeoutError(BACKEND, "no answer", in_doubt=True)
    lost.__cause__ = cause = OSError("cut")
    paper.errors = [lost]
    first, *others = await waiting(group, [an_append(name) for name in "abc"])
    paper.gate.set()
    await first
    results = await asyncio.gather(*others, return_exceptions=True)
    assert [type(result) for result in results] == [StorageTimeoutError] * 2
    assert all(isinstance(result, StorageTimeoutError) and result.in_doubt for result in results)
    assert all(isinstance(result, Exception) and result.__cause__ is cause for result in results)
    assert results[0] is not results[1]
    assert paper.requests == [["a:a"], ["b:a", "c:a"]], "what may have been done is not done again"


async def test_a_lost_answer_reaches_the_others_when_one_has_gone(paper: Paper, group: GroupCommit) -> None:
    paper.errors = [StorageTimeoutError(BACKEND, "no answer", in_doubt=True)]
    _, second, third = await others_under_way(paper, group, [an_append("a"), an_append("b"), an_append("c")])
    second.cancel()
    await settle()
    paper.gate.set()
    with pytest.raises(StorageTimeoutError):
        await third
    await asyncio.gather(second, return_exceptions=True)


async def test_after_a_foreign_error_each_is_tried_alone(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    paper.errors = [TypeError("of one of them")]
    tasks = await waiting(group, [an_append(name) for name in "abc"])
    paper.gate.set()
    await asyncio.gather(*tasks)
    assert paper.requests == [["a:a"], ["b:a", "c:a"], ["b:a"], ["c:a"]]


async def test_a_foreign_error_of_one_append_is_his_alone(paper: Paper, group: GroupCommit) -> None:
    paper.gate.clear()
    wanted = [an_append("a"), an_append("s", "defect"), an_append("s", "good"), an_append("t")]
    tasks = await waiting(group, wanted)
    paper.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [AppendReceipt, TypeError, AppendReceipt, AppendReceipt]
    assert paper.sessions["s"] == ["good"]


async def test_who_waits_too_long_is_told_that_nothing_was_written(paper: Paper) -> None:
    group = GroupCommit(BACKEND, alone=paper.alone, together=paper.together, most_requests=1, timeout=0.15)
    paper.stuck = {"s"}
    first = asyncio.create_task(group.append(an_append("s", "m1")))
    await settle()
    with pytest.raises(StorageBusyError, match=r"other appends took longer than 0\.15 seconds"):
        await group.append(an_append("s", "m2"))
    assert paper.requests == [["s:m1"]]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
