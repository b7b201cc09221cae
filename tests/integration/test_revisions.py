"""The past can be changed: edit, regenerate, choose, rewind, annotate, redact."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.retrying import RetryingStorage
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    TailReceipt,
)
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import MessageNotFoundError
from luminoracore_sdk.session import InMemoryStorage, SessionManager, SessionStorage
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from luminoracore_sdk.types.provider import ChatResponse
from luminoracore_sdk.types.session import Message
from luminoracore_sdk.utils.exceptions import (
    ConflictError,
    CorruptRecordError,
    InvalidJSONError,
    ProviderConnectionError,
    ProviderError,
    SessionNotFoundError,
    StorageUnavailableError,
    ValidationError,
)
from tests.support.scripted_provider import Script
from tests.support.waiting import until

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


async def test_a_message_in_an_alternative_is_redacted(manager: SessionManager, script: Script) -> None:
    before = await two_turns(manager, script)
    first = await manager.regenerate("s", before[0].id or "")
    await manager.regenerate("s", first.id or "")
    redacted = await manager.redact("s", before[2].id or "")
    assert (redacted.id, redacted.content, redacted.metadata) == (before[2].id, "", {"redacted": True})
    after = await said(manager)
    (answer, question, *others), second = await manager.alternatives("s", after[1].id or "")
    assert [answer.content, question, *(one.content for one in (*others, *second))] == [
        *("Answer 1", redacted, "Answer 2", "Answer 3")
    ]
    assert after[1].content == "Answer 4"
    assert "Question 2" not in str(after)
    assert await manager.redact("s", before[2].id or "") == redacted
    with pytest.raises(MessageNotFoundError):
        await manager.redact("s", "absent")


async def test_a_message_in_an_alternative_of_an_alternative_is_redacted(
    manager: SessionManager, script: Script
) -> None:
    before = await two_turns(manager, script)
    await manager.regenerate("s")
    await manager.regenerate("s", before[1].id)
    redacted = await manager.redact("s", before[3].id or "")
    assert (redacted.content, redacted.metadata) == ("", {"redacted": True})
    (_, answer) = await said(manager)
    assert "Answer 2" not in str(answer)
    chosen = await manager.choose("s", answer.id or "", 0)
    assert [one.content for one in chosen] == ["Answer 1", "Question 2", "Answer 3"]
    assert await manager.alternatives("s", chosen[2].id or "") == [[redacted]]


async def test_an_alternative_far_back_in_the_history_is_redacted(
    manager: SessionManager, script: Script, storage: SessionStorage
) -> None:
    before = await two_turns(manager, script)
    await manager.regenerate("s")
    for batch in ("a", "b"):
        await storage.append_messages("s", message_records(1000, prefix=batch))
    redacted = await manager.redact("s", before[3].id or "")
    assert (redacted.id, redacted.content) == (before[3].id, "")
    with pytest.raises(MessageNotFoundError):
        await manager.redact("s", "absent")


async def test_a_redaction_in_an_alternative_that_is_chosen_meanwhile_holds(
    storage: SessionStorage, services: Services, script: Script
) -> None:
    acting = ActsAround(storage)
    async with SessionManager(acting, services=services) as manager:
        before = await two_turns(manager, script)
        answer = await manager.regenerate("s")
        old = before[3].id or ""
        async with SessionManager(StorageWrapper(storage), services=services) as other:  # has locks of its own
            acting.before = lambda: other.redact("s", old)
            chosen = await manager.choose("s", answer.id or "", 0)
        assert [(one.id, one.content) for one in chosen] == [(old, "")]
        after = await said(manager)
        assert after[3] == chosen[0]
        assert "Answer 2" not in str(after)
        assert "Answer 3" in str(after)


async def test_a_redaction_in_an_alternative_of_one_that_is_chosen_meanwhile_holds(
    storage: SessionStorage, services: Services, script: Script
) -> None:
    acting = ActsAround(storage)
    async with SessionManager(acting, services=services) as manager:
        before = await two_turns(manager, script)
        await manager.regenerate("s")
        answer = await manager.regenerate("s", before[1].id)
        async with SessionManager(StorageWrapper(storage), services=services) as other:
            acting.before = lambda: other.redact("s", before[3].id or "")
            chosen = await manager.choose("s", answer.id or "", 0)
        assert chosen == (await said(manager))[1:]
        assert "Answer 2" not in str(chosen)
        assert "Answer 3" in str(chosen)


async def test_an_alternative_that_is_gone_before_its_redaction_is_not_found(
    storage: SessionStorage, services: Services, script: Script
) -> None:
    acting = ActsAround(storage)
    async with SessionManager(acting, services=services) as manager:
        before = await two_turns(manager, script)
        answer = (await manager.regenerate("s")).id or ""
        async with SessionManager(StorageWrapper(storage), services=services) as other:
            acting.before = lambda: other.redact("s", answer)
            with pytest.raises(MessageNotFoundError):
                await manager.redact("s", before[3].id or "")
        assert "Answer 2" not in str(await said(manager))


async def test_a_redaction_in_an_alternative_during_a_regeneration_holds(
    manager: SessionManager, script: Script, storage: SessionStorage, services: Services
) -> None:
    before = await two_turns(manager, script)
    await manager.regenerate("s")
    script.may_answer.clear()
    regenerating = asyncio.create_task(manager.regenerate("s"))
    await asked(script, 4)
    async with SessionManager(StorageWrapper(storage), services=services) as other:
        await other.redact("s", before[3].id or "")
    script.may_answer.set()
    alternatives = await manager.alternatives("s", (await regenerating).id or "")
    assert [branch[0].content for branch in alternatives] == ["", "Answer 3"]


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


async def asked(script: Script, count: int) -> None:
    await until(lambda: len(script.calls) >= count, f"call {count} of the provider")


async def test_an_annotation_during_a_regeneration_is_in_the_alternative(
    manager: SessionManager, script: Script
) -> None:
    before = await two_turns(manager, script)
    script.may_answer.clear()
    regenerating = asyncio.create_task(manager.regenerate("s"))
    await asked(script, 3)
    await manager.annotate("s", before[3].id or "", {"thumb": "down"})
    script.may_answer.set()
    ((old,),) = await manager.alternatives("s", (await regenerating).id or "")
    assert old.metadata["annotations"] == {"thumb": "down"}


async def test_what_another_process_redacts_during_a_regeneration_is_in_no_alternative(
    manager: SessionManager, script: Script, storage: SessionStorage, services: Services
) -> None:
    before = await two_turns(manager, script)
    script.may_answer.clear()
    regenerating = asyncio.create_task(manager.regenerate("s"))
    await asked(script, 3)
    async with SessionManager(StorageWrapper(storage), services=services) as other:  # has locks of its own
        await other.redact("s", before[3].id or "")
        script.may_answer.set()
        ((old,),) = await manager.alternatives("s", (await regenerating).id or "")
    assert (old.content, old.metadata) == ("", {"redacted": True})


async def test_of_two_processes_that_regenerate_an_answer_none_loses_one(
    manager: SessionManager, script: Script, storage: SessionStorage, services: Services
) -> None:
    """Both have seen a history of the same length; one gets a `ConflictError`, or both answers are kept."""
    await two_turns(manager, script)
    script.may_answer.clear()
    async with SessionManager(StorageWrapper(storage), services=services) as other:
        calls = [asyncio.create_task(one.regenerate("s")) for one in (manager, other)]
        await asked(script, 4)
        script.may_answer.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    kept = await said(manager)
    alternatives = await manager.alternatives("s", kept[3].id or "")
    given = {one.content for one in answers if isinstance(one, ChatResponse)}
    assert all(isinstance(one, ChatResponse | ConflictError) for one in answers)
    assert {str(one.content) for one in (kept[3], *(branch[0] for branch in alternatives))} == {"Answer 2", *given}


@pytest.mark.parametrize("edits", [False, True])
async def test_a_history_that_another_process_replaced_by_one_of_the_same_length_conflicts(
    manager: SessionManager, script: Script, storage: SessionStorage, services: Services, *, edits: bool
) -> None:
    before = await two_turns(manager, script)
    script.may_answer.clear()
    call = manager.edit_message("s", before[2].id or "", "Edited") if edits else manager.regenerate("s")
    revising = asyncio.create_task(call)
    await asked(script, 3)
    async with SessionManager(StorageWrapper(storage), services=services) as other:
        await other.rewind("s", 2)
        for role, content in (("user", "Other question"), ("assistant", "Other answer")):
            await other.conversation_manager.add_message("s", role, content)
    script.may_answer.set()
    with pytest.raises(ConflictError):
        await revising
    assert await contents(manager) == ["Question 1", "Answer 1", "Other question", "Other answer"]


@pytest.mark.parametrize("place", [True, 1.5, [1], b"1"])
async def test_what_is_neither_an_id_nor_a_position_is_refused(
    manager: SessionManager, script: Script, place: Any
) -> None:
    before = await two_turns(manager, script)
    conversations = manager.conversation_manager
    for call in (
        manager.rewind("s", place),
        manager.fork("s", place),
        manager.annotate("s", before[0].id or "", place),
        conversations.get_messages("s", before=place),
        conversations.get_messages("s", after=place),
    ):
        with pytest.raises(ValidationError):
            await call
    assert await said(manager) == before
    assert await manager.list_sessions() == ["s"]


@pytest.mark.parametrize(
    "branch", [[], [{"role": "user", "content": "x"}], [{"role": "user", "content": "x", "id": "i"}]]
)
async def test_an_alternative_that_is_not_stored_messages_is_damaged(
    manager: SessionManager, script: Script, branch: list[Any]
) -> None:
    await two_turns(manager, script)
    message = Message(role="assistant", content="x", id="x", metadata={"alternatives": [branch]})
    await manager.conversation_manager.add_message("s", message)
    for call in (manager.alternatives("s", "x"), manager.choose("s", "x", 0)):
        with pytest.raises(CorruptRecordError):
            await call


@pytest.mark.parametrize("place", [0, 2])
async def test_an_edited_message_with_a_stored_id_is_refused_before_the_provider_is_asked(
    manager: SessionManager, script: Script, place: int
) -> None:
    before = await two_turns(manager, script)
    with pytest.raises(ConflictError):
        await manager.edit_message("s", before[2].id or "", Message(role="user", content="New", id=before[place].id))
    assert len(script.calls) == 2
    assert await said(manager) == before
    await manager.edit_message("s", before[2].id or "", Message(role="user", content="New", id="new"))
    assert (await said(manager))[2].id == "new"


async def test_the_result_of_a_tool_does_not_replace_a_question(manager: SessionManager, script: Script) -> None:
    before = await two_turns(manager, script)
    result = Message(role="tool", content="x", metadata={"tool_call_id": "c"})
    for message in (result, [result]):
        with pytest.raises(ValidationError):
            await manager.edit_message("s", before[2].id or "", message)  # type: ignore[arg-type]
    assert len(script.calls) == 2
    assert await said(manager) == before


async def test_a_question_of_an_absent_session_is_not_asked_again(manager: SessionManager) -> None:
    with pytest.raises(SessionNotFoundError):
        await manager.regenerate("absent")


class ActsAround(StorageWrapper):
    """Lets a test act right before a message is changed or a tail replaced, and right after a tail is."""

    before: Callable[[], Awaitable[object]] | None = None
    after: Callable[[], Awaitable[object]] | None = None

    async def act_before(self) -> None:
        for_now, self.before = self.before, None
        if for_now:
            await for_now()

    async def update_message(self, session_id: str, position: int, **arguments: Any) -> MessageRecord:
        await self.act_before()
        return await super().update_message(session_id, position, **arguments)

    async def replace_tail(self, session_id: str, **arguments: Any) -> TailReceipt:
        await self.act_before()
        receipt = await super().replace_tail(session_id, **arguments)
        for_now, self.after = self.after, None
        if for_now:
            await for_now()
        return receipt


async def test_a_change_right_before_an_annotation_is_kept(
    storage: SessionStorage, services: Services, script: Script
) -> None:
    acting = ActsAround(storage)
    async with SessionManager(acting, services=services) as manager, SessionManager(storage) as other:
        answer = (await two_turns(manager, script))[3].id or ""
        acting.before = lambda: other.annotate("s", answer, {"thumb": "down"})
        annotated = await manager.annotate("s", answer, {"why": "wrong"})
        assert annotated.metadata["annotations"] == {"thumb": "down", "why": "wrong"}


@pytest.mark.parametrize("call", ["regenerate", "choose"])
@pytest.mark.parametrize("change", ["annotate", "redact", "replace"])
async def test_a_change_right_before_a_replacement_is_in_the_alternative(
    storage: SessionStorage, services: Services, script: Script, call: str, change: str
) -> None:
    acting = ActsAround(storage)
    async with SessionManager(acting, services=services) as manager, SessionManager(storage) as other:
        await two_turns(manager, script)
        present = await manager.regenerate("s")
        present_id = present.id or ""
        acts: dict[str, Change] = {
            "annotate": lambda by: by.annotate("s", present_id, {"thumb": "down"}),
            "redact": lambda by: by.redact("s", present_id),
            "replace": lambda by: by.regenerate("s"),
        }
        acting.before = lambda: acts[change](other)
        calls: dict[str, Change] = {
            "regenerate": lambda by: by.regenerate("s"),
            "choose": lambda by: by.choose("s", present_id, 0),
        }
        refusals = {
            ("regenerate", "replace"): ConflictError,  # the one that was faster has what it replaced
            ("choose", "replace"): MessageNotFoundError,
            ("choose", "redact"): ValidationError,  # the alternatives were redacted too
        }
        if refusal := refusals.get((call, change)):
            with pytest.raises(refusal):
                await calls[call](manager)
        else:
            await calls[call](manager)
        first = (await said(manager))[3]
        alternatives = await manager.alternatives("s", first.id or "")
        if (call, change) == ("choose", "redact"):
            assert (first.content, alternatives) == ("", [])
            return
        last = alternatives[-1][0]
        assert last.position is None
        if change == "annotate":
            assert (last.content, last.metadata["annotations"]) == ("Answer 3", {"thumb": "down"})
        elif change == "redact":
            assert len(alternatives) == 1
            assert (last.content, last.metadata) == ("", {"redacted": True})
        else:
            assert [branch[0].content for branch in alternatives] == ["Answer 2", "Answer 3"]


async def test_an_answer_that_is_replaced_while_an_alternative_is_chosen_is_not_lost(
    storage: SessionStorage, services: Services, script: Script
) -> None:
    class ActsBeforeReads(ActsAround):
        async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
            await self.act_before()
            return await super().read_messages(session_id, span)

    acting = ActsBeforeReads(storage)
    async with SessionManager(acting, services=services) as manager, SessionManager(storage) as other:
        await two_turns(manager, script)
        present = (await manager.regenerate("s")).id or ""
        acting.before = lambda: other.regenerate("s")
        with pytest.raises(MessageNotFoundError):
            await manager.choose("s", present, 0)
        newest = (await said(manager))[3]
        alternatives = await manager.alternatives("s", newest.id or "")
        assert [branch[0].content for branch in alternatives] == ["Answer 2", "Answer 3"]


async def test_a_redaction_right_behind_a_replacement_holds(
    storage: SessionStorage, services: Services, script: Script
) -> None:
    acting = ActsAround(storage)
    async with SessionManager(acting, services=services) as manager, SessionManager(storage) as other:
        before = await two_turns(manager, script)
        present = (await manager.regenerate("s")).id or ""
        acting.before = lambda: other.annotate("s", present, {"thumb": "down"})
        acting.after = lambda: other.redact("s", before[3].id or "")
        answer = await manager.regenerate("s")
        alternatives = await manager.alternatives("s", answer.id or "")
        assert [branch[0].content for branch in alternatives] == ["", "Answer 3"]


async def test_a_rewind_whose_answer_was_lost_removes_nothing_of_others(script: Script) -> None:
    class Lost(StorageWrapper):
        async def replace_tail(self, session_id: str, **arguments: Any) -> TailReceipt:
            await self.base.replace_tail(session_id, **arguments)
            await self.base.append_messages(session_id, [message_record("of another writer")])
            raise StorageUnavailableError("memory", "no answer", in_doubt=True)

    storage = InMemoryStorage()
    async with SessionManager(storage) as manager:
        await two_turns(manager, script)
    async with SessionManager(RetryingStorage(Lost(storage), attempts=2, first_wait=0.001)) as manager:
        with pytest.raises(StorageUnavailableError) as caught:
            await manager.rewind("s", 2)
    assert caught.value.in_doubt
    assert [one.message_id for one in await storage.read_messages("s", MessageRange(after=2))] == ["of another writer"]


async def test_a_replaced_answer_of_an_unsaved_session_is_saved_in_one_step(script: Script) -> None:
    class Full(StorageWrapper):
        async def append_messages(self, session_id: str, *_: Any, **__: Any) -> AppendReceipt:
            raise StorageUnavailableError("memory", "no space left")

    storage = InMemoryStorage()
    async with SessionManager(storage) as manager:
        await two_turns(manager, script, auto_save=False)
        await manager.save_session("s")
    async with SessionManager(Full(storage)) as manager:
        script.answers = ["Answer 3"]
        await manager.regenerate("s")
        await manager.save_session("s")
        assert await manager.save_session("s")
    async with SessionManager(storage) as manager:
        assert await contents(manager) == ["Question 1", "Answer 1", "Question 2", "Answer 3"]
        chosen = (await said(manager))[3]
        await manager.choose("s", chosen.id or "", 0)  # ids that were stored before are used again
        await manager.save_session("s")
    async with SessionManager(storage) as manager:
        assert await contents(manager) == ["Question 1", "Answer 1", "Question 2", "Answer 2"]


async def test_a_rewind_behind_an_append_removes_that_too(script: Script) -> None:
    class Overtaken(StorageWrapper):
        appended = False

        async def replace_tail(self, session_id: str, **arguments: Any) -> TailReceipt:
            if not self.appended:
                self.appended = True
                await self.base.append_messages(session_id, [message_record("meanwhile")])
            return await self.base.replace_tail(session_id, **arguments)

    async with SessionManager(Overtaken(InMemoryStorage())) as manager:
        before = await two_turns(manager, script)
        removed = await manager.rewind("s", 2)
        assert ids(removed) == [*ids(before[2:]), "meanwhile"]


async def test_a_message_whose_session_is_deleted_meanwhile_is_not_found(script: Script) -> None:
    class Deleted(StorageWrapper):
        async def update_message(self, session_id: str, position: int, **payloads: Any) -> MessageRecord:
            await self.base.delete_session(session_id)
            return await self.base.update_message(session_id, position, **payloads)

    async with SessionManager(Deleted(InMemoryStorage())) as manager:
        before = await two_turns(manager, script)
        with pytest.raises(MessageNotFoundError):
            await manager.annotate("s", before[0].id or "", {"rating": 1})


async def test_a_question_far_back_is_asked_again(script: Script) -> None:
    async with SessionManager() as manager:
        await begin(manager, max_history=1000)
        await manager.conversation_manager.append("s", [Message("user", "Long ago?")])
        await manager.conversation_manager.append("s", [Message("assistant", "…") for _ in range(450)])
        answer = await manager.regenerate("s")
        assert await contents(manager) == ["Long ago?", "An answer."]
        (alternative,) = await manager.alternatives("s", answer.id or "")
        assert len(alternative) == 450


@pytest.mark.parametrize("branch", [[{"role": "robot", "content": "x"}], [7], 7])
async def test_alternatives_that_are_no_messages_are_damage(script: Script, branch: Any) -> None:
    async with SessionManager() as manager:
        await begin(manager)
        message = Message("assistant", "Hello", metadata={"alternatives": [branch]}, id="m")
        await manager.conversation_manager.append("s", [message])
        with pytest.raises(CorruptRecordError, match="not messages"):
            await manager.alternatives("s", "m")
    assert script.prompts == []


async def test_a_storage_without_a_read_of_turns_of_its_own_reads_in_three_calls() -> None:
    class Deleted(StorageWrapper):
        async def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
            found = await self.base.list_memories(scope, query)
            await self.base.delete_session(scope.owner_id)
            return found

    storage = InMemoryStorage()
    assert await StorageWrapper(storage).read_turn("s", newest=5) is None
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m")])
    turn = await StorageWrapper(storage).read_turn("s", newest=5)
    assert turn == await storage.read_turn("s", newest=5)
    assert await Deleted(storage).read_turn("s", newest=5) is None


async def test_a_replaced_answer_whose_saving_was_in_doubt_is_saved_once(script: Script) -> None:
    class Lost(StorageWrapper):
        lost = 0

        async def replace_tail(self, session_id: str, **arguments: Any) -> TailReceipt:
            receipt = await self.base.replace_tail(session_id, **arguments)
            if not self.lost:
                self.lost += 1
                raise StorageUnavailableError("memory", "no answer", in_doubt=True)
            return receipt

    storage = InMemoryStorage()
    async with SessionManager(storage) as manager:
        before = await two_turns(manager, script, auto_save=False)
        await manager.save_session("s")
    async with SessionManager(Lost(storage)) as manager:
        await manager.regenerate("s", before[0].id)  # two messages instead of four
        with pytest.raises(StorageUnavailableError):
            await manager.save_session("s")
        await manager.save_session("s")
        await manager.send_message("s", "Question 3")
        await manager.save_session("s")
        expected = await contents(manager)
    async with SessionManager(storage) as manager:
        assert await contents(manager) == expected
        assert len(expected) == 4


async def test_an_answer_that_was_replaced_and_chosen_back_is_saved_with_its_alternatives(script: Script) -> None:
    storage = InMemoryStorage()
    async with SessionManager(storage) as manager:
        before = await two_turns(manager, script, auto_save=False)
        await manager.save_session("s")
        answer = await manager.regenerate("s")
        await manager.choose("s", answer.id or "", 0)  # its id is stored, with another payload
        await manager.save_session("s")
    async with SessionManager(storage) as manager:
        (alternative,) = await manager.alternatives("s", before[3].id or "")
        assert ids(alternative) == [answer.id]
