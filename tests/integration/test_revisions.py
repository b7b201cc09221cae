"""The past can be changed: edit, regenerate, choose, rewind, annotate, redact."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import attrs
import pytest

from luminoracore_sdk.domain.errors import MessageNotFoundError
from luminoracore_sdk.session import SessionManager, SessionStorage
from luminoracore_sdk.types.provider import ChatResponse
from luminoracore_sdk.types.session import Message
from luminoracore_sdk.utils.exceptions import (
    ConflictError,
    InvalidJSONError,
    ProviderConnectionError,
    ProviderError,
    SessionNotFoundError,
    ValidationError,
)
from tests.support.scripted_provider import Script

Change = Callable[[SessionManager], Awaitable[object]]


async def begin(manager: SessionManager, **config: Any) -> None:
    await manager.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s", **config})


async def said(manager: SessionManager) -> list[Message]:
    messages = await manager.conversation_manager.get_messages("s")
    assert [message.position for message in messages] == list(range(1, len(messages) + 1))
    return messages


async def contents(manager: SessionManager) -> list[Any]:
    return [message.content for message in await said(manager)]


async def two_turns(manager: SessionManager, script: Script, **config: Any) -> list[Message]:
    """Take two turns; return the messages."""
    await begin(manager, **config)
    script.answers = ["Answer 1", "Answer 2", "Answer 3", "Answer 4"]
    await manager.send_message("s", "Question 1")
    await manager.send_message("s", "Question 2")
    return await said(manager)


def ids(branch: list[Message]) -> list[str | None]:
    return [message.id for message in branch]


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_regenerated_answer_replaces_the_last_one(
    manager: SessionManager, script: Script, *, streaming: bool
) -> None:
    before = await two_turns(manager, script)
    if streaming:
        deltas = [delta async for delta in manager.stream_regenerate("s", temperature=0.9)]
        answer = deltas[-1]
        assert "".join(delta.content for delta in deltas) == "Answer 3"
    else:
        answer = await manager.regenerate("s", temperature=0.9)
        assert answer.content == "Answer 3"
    after = await said(manager)
    assert [message.content for message in after] == ["Question 1", "Answer 1", "Question 2", "Answer 3"]
    assert after[:3] == before[:3]
    assert (answer.id, answer.position) == (after[3].id, 4)
    assert after[3].id != before[3].id
    assert script.prompts[2] == script.prompts[1]
    assert script.calls[2].parameters["temperature"] == 0.9
    (alternative,) = await manager.alternatives("s", after[3].id or "")
    assert (ids(alternative), alternative[0].content) == ([before[3].id], "Answer 2")


async def test_any_alternative_can_be_chosen_and_none_is_lost(manager: SessionManager, script: Script) -> None:
    before = await two_turns(manager, script)
    await manager.regenerate("s")
    newest = await manager.regenerate("s")
    assert [branch[0].content for branch in await manager.alternatives("s", newest.id or "")] == [
        "Answer 2",
        "Answer 3",
    ]
    (chosen,) = await manager.choose("s", newest.id or "", 0)
    assert (chosen.id, chosen.content, chosen.position) == (before[3].id, "Answer 2", 4)
    stored = (await said(manager))[3]
    assert stored == chosen
    assert attrs.evolve(stored, metadata=before[3].metadata) == before[3]
    branches = await manager.alternatives("s", before[3].id or "")
    assert [branch[0].content for branch in branches] == ["Answer 3", "Answer 4"]
    (back,) = await manager.choose("s", before[3].id or "", 1)
    assert (back.id, back.content) == (newest.id, "Answer 4")
    script.answers = ["Answer 5"]
    await manager.send_message("s", "Question 3")
    assert script.prompts[-1][-2:] == [("assistant", "Answer 4"), ("user", "Question 3")]
    assert await contents(manager) == ["Question 1", "Answer 1", "Question 2", "Answer 4", "Question 3", "Answer 5"]


@pytest.mark.parametrize("place", [0, 1], ids=["question", "answer"])
async def test_an_early_answer_takes_the_later_turns_with_it(
    manager: SessionManager, script: Script, place: int
) -> None:
    before = await two_turns(manager, script)
    answer = await manager.regenerate("s", before[place].id)
    assert await contents(manager) == ["Question 1", "Answer 3"]
    assert script.prompts[-1] == script.prompts[0]
    (alternative,) = await manager.alternatives("s", answer.id or "")
    assert ids(alternative) == ids(before[1:])
    await manager.choose("s", answer.id or "", 0)
    after = await said(manager)
    assert after[2:] == before[2:]
    assert attrs.evolve(after[1], metadata=before[1].metadata) == before[1]


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_edited_question_is_answered_anew(manager: SessionManager, script: Script, *, streaming: bool) -> None:
    before = await two_turns(manager, script)
    new: Any = Message("user", "Question 1, better", metadata={"edited": True})
    if streaming:
        async with aclosing(manager.stream_edit_message("s", before[0].id or "", new)) as deltas:
            assert "".join([delta.content async for delta in deltas]) == "Answer 3"
    else:
        assert (await manager.edit_message("s", before[0].id or "", new)).content == "Answer 3"
    question, answer = await said(manager)
    assert (question.content, answer.content) == ("Question 1, better", "Answer 3")
    assert question.metadata["edited"] is True
    assert question.id != before[0].id
    assert script.prompts[-1] == [*script.prompts[0][:-1], ("user", "Question 1, better")]
    (alternative,) = await manager.alternatives("s", question.id or "")
    assert ids(alternative) == ids(before)
    await manager.choose("s", question.id or "", 0)
    assert await contents(manager) == ["Question 1", "Answer 1", "Question 2", "Answer 2"]


async def test_a_tool_conversation_is_regenerated_as_a_whole(manager: SessionManager, script: Script) -> None:
    await begin(manager)
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    script.answers = [ChatResponse("", finish_reason="tool_calls", tool_calls=[call]), "Three.", "Four."]
    await manager.send_message("s", "How much?")
    await manager.send_message("s", Message("tool", "3", metadata={"tool_call_id": "c1"}))
    before = await said(manager)
    answer = await manager.regenerate("s")
    assert await contents(manager) == ["How much?", "Four."]
    (alternative,) = await manager.alternatives("s", answer.id or "")
    assert ids(alternative) == ids(before[1:])
    await manager.choose("s", answer.id or "", 0)
    after = await said(manager)
    assert after[2:] == before[2:]
    assert after[1].metadata["tool_calls"] == [call]


CHANGES: dict[str, Change] = {
    "regenerate": lambda manager: manager.regenerate("s"),
    "edit": lambda manager: manager.edit_message("s", "q2", "Question 2, better"),
}


async def with_ids(manager: SessionManager, script: Script) -> list[Message]:
    await begin(manager)
    script.answers = ["Answer 1", "Answer 2", "Answer 3"]
    for number in (1, 2):
        await manager.send_message("s", Message("user", f"Question {number}", id=f"q{number}"))
    return await said(manager)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_provider_that_fails_changes_nothing(manager: SessionManager, script: Script, change: str) -> None:
    before = await with_ids(manager, script)
    script.answers = [ProviderConnectionError("gone")]
    with pytest.raises(ProviderError):
        await CHANGES[change](manager)
    assert await said(manager) == before


@pytest.mark.parametrize("change", CHANGES)
async def test_another_writer_meanwhile_is_a_conflict(
    manager: SessionManager, storage: SessionStorage, script: Script, change: str
) -> None:
    before = await with_ids(manager, script)
    script.may_answer.clear()
    script.asked.clear()
    turn = asyncio.ensure_future(CHANGES[change](manager))
    await script.asked.wait()
    await manager.conversation_manager.add_message("s", "user", "Wait!")
    script.may_answer.set()
    with pytest.raises(ConflictError):
        await turn
    after = await said(manager)
    assert after[:4] == before
    assert [message.content for message in after[4:]] == ["Wait!"]
    assert await storage.session_exists("s")


async def test_a_stopped_regeneration_changes_nothing(manager: SessionManager, script: Script) -> None:
    before = await two_turns(manager, script)
    script.may_finish.clear()
    async with aclosing(manager.stream_regenerate("s")) as deltas:
        async for _ in deltas:
            break
    assert await said(manager) == before


async def test_a_question_without_an_answer_is_answered(manager: SessionManager, script: Script) -> None:
    await begin(manager)
    script.answers = [ProviderConnectionError("gone"), "Here."]
    with pytest.raises(ProviderError):
        await manager.send_message("s", "Anybody?", on_failure="keep_question")
    answer = await manager.regenerate("s")
    assert await contents(manager) == ["Anybody?", "Here."]
    assert await manager.alternatives("s", answer.id or "") == []


async def test_what_is_not_there_cannot_be_changed(manager: SessionManager, script: Script) -> None:
    await begin(manager)
    with pytest.raises(ValidationError, match="no such question to answer again"):
        await manager.regenerate("s")
    before = await with_answer(manager, script)
    answer = before[1].id or ""
    for call in (
        manager.regenerate("s", "nobody's"),
        manager.edit_message("s", "nobody's", "x"),
        manager.alternatives("s", "nobody's"),
        manager.choose("s", "nobody's", 0),
        manager.annotate("s", "nobody's", {}),
        manager.redact("s", "nobody's"),
        manager.rewind("s", "nobody's"),
        manager.rewind("s", 3),
        manager.annotate("t", answer, {}),
    ):
        with pytest.raises(MessageNotFoundError, match="no message"):
            await call
    for call in (
        manager.edit_message("s", answer, "x"),
        manager.edit_message("s", before[0].id or "", Message("assistant", "x")),
        manager.choose("s", answer, 0),
    ):
        with pytest.raises(ValidationError):
            await call
    for call in (manager.rewind("t", 0), manager.regenerate("t")):
        with pytest.raises((SessionNotFoundError, ValidationError)):
            await call
    assert await said(manager) == before


async def with_answer(manager: SessionManager, script: Script) -> list[Message]:
    script.answers = ["Answer 1"]
    await manager.send_message("s", "Question 1")
    return await said(manager)


async def test_a_rewind_returns_what_it_removes(manager: SessionManager, script: Script) -> None:
    before = await two_turns(manager, script)
    assert await manager.rewind("s", before[2].id or "") == before[3:]
    assert await manager.rewind("s", 2) == before[2:3]
    assert await manager.rewind("s", 2) == []
    assert await manager.rewind("s", 0) == before[:2]
    assert await contents(manager) == []


async def test_annotations_are_merged_and_not_sent(manager: SessionManager, script: Script) -> None:
    before = await two_turns(manager, script)
    answer = before[3].id or ""
    await asyncio.gather(*(manager.annotate("s", answer, {f"label {number}": number}) for number in range(5)))
    annotated = await manager.annotate("s", answer, {"rating": "good", "label 0": None})
    assert annotated.metadata["annotations"] == {"rating": "good", **{f"label {n}": n for n in range(1, 5)}}
    after = await said(manager)
    assert after[3] == annotated
    assert after[:3] == before[:3]
    await manager.send_message("s", "Question 3")
    assert "good" not in str(script.calls[-1])
    cleared = await manager.annotate("s", answer, {"rating": None, **{f"label {n}": None for n in range(1, 5)}})
    assert cleared == before[3]
    with pytest.raises(InvalidJSONError):
        await manager.annotate("s", answer, {"rating": float("nan")})


async def test_redacted_content_is_gone(manager: SessionManager, script: Script) -> None:
    before = await two_turns(manager, script)
    answer = await manager.regenerate("s")
    await manager.annotate("s", answer.id or "", {"why": "Answer 3 is wrong"})
    redacted = await manager.redact("s", answer.id or "")
    assert (redacted.content, redacted.metadata, redacted.position) == ("", {"redacted": True}, 4)
    question = await manager.redact("s", before[0].id or "")
    after = await said(manager)
    assert after == [question, before[1], before[2], redacted]
    assert "Answer 3" not in str(after)
    assert "Answer 2" not in str(after)
    await manager.send_message("s", "Question 3")
    assert "Question 1" not in str(script.prompts[-1])


async def test_an_unsaved_session_is_changed_on_saving(
    manager: SessionManager, storage: SessionStorage, script: Script
) -> None:
    before = await two_turns(manager, script, auto_save=False)
    await manager.save_session("s")
    await manager.annotate("s", before[1].id or "", {"rating": 1})
    await manager.regenerate("s")
    async with SessionManager(storage) as other:
        assert await contents(other) == ["Question 1", "Answer 1", "Question 2", "Answer 2"]
    await manager.save_session("s")
    async with SessionManager(storage) as other:
        assert await said(other) == await said(manager)
        assert await contents(other) == ["Question 1", "Answer 1", "Question 2", "Answer 3"]
        assert (await said(other))[1].metadata["annotations"] == {"rating": 1}
