"""A question and its answer are stored together or not at all, one turn after the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application import session_access, turns
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MessageRange,
    MessageRecord,
)
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.turns import Answer, OnStop
from luminoracore_sdk.domain.errors import (
    ConflictError,
    ProviderStreamError,
    ReaderTimeoutError,
    SessionBusyError,
    ToolCallNotFoundError,
    TurnInterruptedError,
)
from luminoracore_sdk.providers import BaseProvider, ProviderFactory
from luminoracore_sdk.session import ConversationManager, InMemoryStorage, SessionManager, SessionStorage
from luminoracore_sdk.testing import CancelAt
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse
from luminoracore_sdk.types.session import Message
from luminoracore_sdk.utils.exceptions import (
    ProviderConnectionError,
    ProviderError,
    ProviderRateLimitError,
    ProviderResponseError,
    ProviderTimeoutError,
    StorageUnavailableError,
    ValidationError,
)
from tests.support.backends import FILES, SQLITE, Backend
from tests.support.scripted_provider import Script
from tests.support.waiting import until

_ENOUGH_STEPS = 400


async def begin(manager: SessionManager, **config: Any) -> str:
    return await manager.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s", **config})


async def said(manager: SessionManager, session_id: str) -> list[Any]:
    messages = await manager.conversation_manager.get_messages(session_id, limit=10_000)
    assert [message.position for message in messages] == list(range(1, len(messages) + 1))
    return [message.content for message in messages]


FAILURES = [
    (ProviderConnectionError("gone"), ProviderConnectionError),
    (ProviderRateLimitError("later", retry_after=3), ProviderRateLimitError),
    (RuntimeError("a bug in the provider"), ProviderError),
    (TimeoutError(), ProviderTimeoutError),
]


@pytest.mark.parametrize(("failure", "error"), FAILURES)
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_failed_turn_stores_nothing_and_the_next_works(
    manager: SessionManager,
    script: Script,
    failure: Exception,
    error: type[Exception],
    *,
    streaming: bool,
) -> None:
    session_id = await begin(manager)
    script.answers = [failure, "Fine."]
    with pytest.raises(error) as caught:
        await take_turn(manager, session_id, "Lost", streaming=streaming)
    assert type(caught.value) is error
    assert "a bug" not in str(caught.value)
    assert await said(manager, session_id) == []
    await take_turn(manager, session_id, "Kept", streaming=streaming)
    assert await said(manager, session_id) == ["Kept", "Fine."]


async def take_turn(manager: SessionManager, session_id: str, text: Any, *, streaming: bool, **options: Any) -> None:
    if not streaming:
        await manager.send_message(session_id, text, **options)
        return
    async with aclosing(manager.stream_message(session_id, text, **options)) as deltas:
        async for _ in deltas:
            pass


@pytest.mark.parametrize("answer", [ChatResponse(None), ChatResponse(5)])  # type: ignore[arg-type]
async def test_an_answer_without_text_is_refused(manager: SessionManager, script: Script, answer: ChatResponse) -> None:
    session_id = await begin(manager)
    script.answers = [answer]
    with pytest.raises(ProviderResponseError):
        await manager.send_message(session_id, "Lost")
    assert await said(manager, session_id) == []


async def test_metadata_that_is_not_json_is_refused(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [ChatResponse("text", usage={"tokens": float("nan")})]
    with pytest.raises(ProviderResponseError, match="is not JSON"):
        await manager.send_message(session_id, "Lost")
    assert await said(manager, session_id) == []


async def test_a_hanging_provider_times_out(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, timeout=0.02)
    script.turns = 10**9
    with pytest.raises(ProviderTimeoutError, match=r"did not answer within 0\.02 s"):
        await manager.send_message(session_id, "Lost")
    assert script.active == 0
    assert await said(manager, session_id) == []


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_cancelled_send_keeps_the_whole_turn_or_nothing(
    manager: SessionManager, script: Script, *, streaming: bool, late: bool
) -> None:
    session_id = await begin(manager)
    script.turns = 2
    kept: list[Any] = []
    for step in range(_ENOUGH_STEPS):
        call = CancelAt(take_turn(manager, session_id, f"q{step}", streaming=streaming), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        # A cancelled call has one of two outcomes, which the next call shows.
        assert script.active == 0
        now = await said(manager, session_id)
        assert now in (kept, [*kept, f"q{step}", "An answer."])
        kept = now
        if not call.reached:
            assert kept[-2:] == [f"q{step}", "An answer."]
            return
    raise AssertionError(f"a send still waits after {_ENOUGH_STEPS} steps")


async def test_an_abandoned_stream_stores_nothing(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = ["One two three"]
    script.may_finish.clear()
    async with aclosing(manager.stream_message(session_id, "Lost")) as deltas:
        assert (await anext(deltas)).content == "One "
        assert (await anext(deltas)).content == "two "
    assert script.active == 0
    assert await said(manager, session_id) == []
    script.may_finish.set()
    await take_turn(manager, session_id, "Kept", streaming=True)
    assert await said(manager, session_id) == ["Kept", "One two three"]


async def test_breaking_out_of_a_stream_frees_the_session(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = ["One two three"]
    script.may_finish.clear()
    async for _ in manager.stream_message(session_id, "Lost"):
        break
    async with asyncio.timeout(5):
        await manager.send_message(session_id, "Kept")
    assert await said(manager, session_id) == ["Kept", "One two three"]


async def test_a_turn_is_stored_before_the_last_delta(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = ["One two"]
    script.may_finish.clear()
    async with aclosing(manager.stream_message(session_id, "Hello")) as deltas:
        await anext(deltas)
        assert await said(manager, session_id) == []
        script.may_finish.set()
        assert (await anext(deltas)).finish_reason == "stop"
        assert await said(manager, session_id) == ["Hello", "One two"]


async def test_50_concurrent_sends_are_50_whole_turns_in_order(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.turns = 3
    await asyncio.gather(*(manager.send_message(session_id, f"q{number}") for number in range(50)))
    assert script.most_active == 1
    contents = await said(manager, session_id)
    assert contents == [part for number in range(50) for part in (f"q{number}", "An answer.")]


async def test_50_concurrent_sends_of_5_managers_do_not_mix(storage: SessionStorage, script: Script) -> None:
    managers = [SessionManager(storage) for _ in range(5)]
    session_id = await begin(managers[0])
    script.turns = 3
    await asyncio.gather(*(managers[n % 5].send_message(session_id, f"q{n}") for n in range(50)))
    assert script.most_active == 1
    contents = await said(managers[0], session_id)
    assert contents[1::2] == ["An answer."] * 50
    assert sorted(contents[::2]) == sorted(f"q{number}" for number in range(50))
    for manager in managers:
        await manager.close()


async def test_different_sessions_run_concurrently(manager: SessionManager, script: Script) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        await begin(manager, session_id=name)
    script.may_answer.clear()
    sends = [asyncio.ensure_future(manager.send_message(name, "Hello")) for name in names]
    await until(lambda: script.active == 5, "five calls of the provider")
    script.may_answer.set()
    await asyncio.gather(*sends)
    assert [await said(manager, name) for name in names] == [["Hello", "An answer."]] * 5


async def test_cancelling_a_queued_send_spares_the_others(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.may_answer.clear()
    sends = [asyncio.ensure_future(manager.send_message(session_id, f"q{n}")) for n in range(3)]
    await script.asked.wait()
    sends[1].cancel()
    script.may_answer.set()
    ended = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(outcome) for outcome in ended] == [ChatResponse, asyncio.CancelledError, ChatResponse]
    assert await said(manager, session_id) == ["q0", "An answer.", "q2", "An answer."]


async def test_a_question_that_is_not_json_is_refused(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    for content in (float("nan"), object(), ("tuple",)):
        with pytest.raises(ValueError, match="is not JSON"):
            await manager.send_message(session_id, Message("user", content))  # type: ignore[arg-type]
    assert script.calls == []


@pytest.mark.parametrize(
    "message", [None, 5, ["part"], {"foo": 1}, Message("system", "x"), Message("assistant", "x")], ids=repr
)
async def test_an_invalid_question_is_refused_before_the_call(
    manager: SessionManager, script: Script, message: Any
) -> None:
    session_id = await begin(manager)
    with pytest.raises(ValidationError):
        await manager.send_message(session_id, message)
    assert script.calls == []


async def test_a_storage_failure_leaves_no_half_turn(
    storage: SessionStorage, services: Services, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = SessionManager(storage, services=services)
    session_id = await begin(manager)

    async def refuse(*_: Any, **__: Any) -> None:
        raise StorageUnavailableError("test", "unplugged")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "append_messages", refuse)
        with pytest.raises(StorageUnavailableError, match="unplugged"):
            await manager.send_message(session_id, "Lost")
    await manager.send_message(session_id, "Kept")
    assert await said(manager, session_id) == ["Kept", "An answer."]
    await manager.close()


@pytest.fixture
async def other(
    backend: Backend, open_storage: Callable[[], SessionStorage], services: Services
) -> AsyncIterator[SessionManager]:
    """Yield a manager over a second storage on the same store, as in another process."""
    async with open_storage() as opened, SessionManager(opened, services=services) as made:
        yield made


@pytest.mark.parametrize("backend", [FILES, SQLITE], ids=lambda backend: backend.name, indirect=True)
async def test_turns_of_two_storages_do_not_interleave(
    manager: SessionManager, other: SessionManager, script: Script
) -> None:
    session_id = await begin(manager)
    script.turns = 2
    await asyncio.gather(*([manager, other][n % 2].send_message(session_id, f"q{n}") for n in range(20)))
    contents = await said(manager, session_id)
    assert contents[1::2] == ["An answer."] * 20
    assert sorted(contents[::2]) == sorted(f"q{number}" for number in range(20))
    assert await said(other, session_id) == contents


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("ending", ["delete", "clear"])
async def test_deleting_and_clearing_win_over_a_running_turn(
    manager: SessionManager, script: Script, ending: str, *, streaming: bool
) -> None:
    session_id = await begin(manager)
    script.may_answer.clear()
    script.may_finish.clear()
    turn = asyncio.ensure_future(take_turn(manager, session_id, "q", streaming=streaming))
    await script.asked.wait()
    end = manager.delete_session if ending == "delete" else manager.clear_conversation
    assert await end(session_id) is True
    with pytest.raises(TurnInterruptedError, match="deleted or cleared"):
        await turn
    assert await manager.conversation_manager.get_messages(session_id) == []
    assert (await manager.get_session(session_id) is None) is (ending == "delete")


async def test_a_reader_that_sleeps_holds_up_no_deletion(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = ["One two three"]
    script.may_finish.clear()
    async with aclosing(manager.stream_message(session_id, "Lost")) as deltas:
        await anext(deltas)
        assert await manager.delete_session(session_id) is True
        with pytest.raises(TurnInterruptedError):
            [delta async for delta in deltas]


async def test_a_slow_reader_gets_an_answer_that_is_stored(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = ["One two three"]
    async with aclosing(manager.stream_message(session_id, "Hello")) as deltas:
        await anext(deltas)
        await until(lambda: script.active == 0, "the answer")
        assert (await manager.send_message(session_id, "Meanwhile")).content == "One two three"
        assert [delta.content async for delta in deltas] == ["two ", "three"]
    assert await said(manager, session_id) == ["Hello", "One two three", "Meanwhile", "One two three"]


@pytest.mark.parametrize("on_stop", ["discard", "keep_partial"])
async def test_a_reader_that_takes_nothing_is_given_up(
    manager: SessionManager, script: Script, on_stop: OnStop
) -> None:
    session_id = await begin(manager)
    script.answers = ["word " * 3000]
    stream = manager.stream_message(session_id, "Hello", on_stop=on_stop, reader_timeout=0.05)
    async with aclosing(stream) as deltas:
        await anext(deltas)
        await until(lambda: script.active == 0, "the answer")
        with pytest.raises(ReaderTimeoutError, match="took nothing for"):
            [delta async for delta in deltas]
    stored = await manager.conversation_manager.get_messages(session_id)
    assert len(stored) == (2 if on_stop == "keep_partial" else 0)
    assert [one.metadata["finish_reason"] for one in stored[1:]] == ["stopped"] * (len(stored) // 2)


async def test_a_stopped_answer_is_kept_on_request(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = ["One two three"]
    script.may_finish.clear()
    async with aclosing(manager.stream_message(session_id, "Hello", on_stop="keep_partial")) as deltas:
        assert [(await anext(deltas)).content, (await anext(deltas)).content] == ["One ", "two "]
    stored = await manager.conversation_manager.get_messages(session_id)
    assert [(one.role, one.content) for one in stored] == [("user", "Hello"), ("assistant", "One two ")]
    assert stored[1].metadata["finish_reason"] == "stopped"


async def test_a_broken_answer_is_kept_on_request(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [ProviderStreamError("cut")]
    with pytest.raises(ProviderStreamError):
        [delta async for delta in manager.stream_message(session_id, "Hello", on_stop="keep_partial")]
    assert await said(manager, session_id) == ["Hello", "Half "]


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_failed_question_is_kept_on_request(
    manager: SessionManager, script: Script, *, streaming: bool
) -> None:
    session_id = await begin(manager)
    script.answers = [ProviderError("down"), "An answer."]
    question = Message("user", "Hello", id="q")
    with pytest.raises(ProviderError, match="down"):
        await take_turn(manager, session_id, question, streaming=streaming, on_failure="keep_question")
    assert await said(manager, session_id) == ["Hello"]
    await manager.send_message(session_id, question)
    assert await said(manager, session_id) == ["Hello", "An answer."]
    assert script.prompts[-1] == [("system", "You are Ada."), ("user", "Hello")]


# -- repeated sends ------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_send_can_be_repeated(manager: SessionManager, script: Script, *, streaming: bool) -> None:
    session_id = await begin(manager)
    script.answers = ["First.", "Second."]
    question = Message("user", "Hello", id="q")
    first = await manager.send_message(session_id, question)
    for number in range(60):  # far behind the window
        await manager.conversation_manager.add_message(session_id, "user", str(number))
    if streaming:
        [again] = [delta async for delta in manager.stream_message(session_id, question)]
    else:
        again = await manager.send_message(session_id, question)
    assert (again.content, again.id, again.position) == ("First.", first.id, 2)
    assert len(script.calls) == 1


def tool_call(call_id: str) -> ChatResponse:
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return ChatResponse("", tool_calls=[call])


async def keep(manager: SessionManager, script: Script, session_id: str, question: Message) -> None:
    answers = script.answers
    script.answers = [ProviderError("down")]
    with pytest.raises(ProviderError, match="down"):
        await manager.send_message(session_id, question, on_failure="keep_question")
    script.answers = answers


@pytest.mark.parametrize("between", [0, 2])
async def test_a_kept_question_of_a_stateless_session_can_be_repeated(
    manager: SessionManager, script: Script, between: int
) -> None:
    session_id = await begin(manager, session_type="stateless")
    question = Message("user", "Hello", id="q")
    await keep(manager, script, session_id, question)
    for number in range(between):
        await manager.send_message(session_id, str(number))
    assert (await manager.send_message(session_id, question)).content == "An answer."
    assert script.prompts[-1] == [("system", "You are Ada."), ("user", "Hello")]


async def test_a_kept_question_far_behind_the_newest_messages_can_be_repeated(
    manager: SessionManager, script: Script
) -> None:
    session_id = await begin(manager, max_history_length=4)
    for text in ("One", "Two", "Three"):
        await manager.send_message(session_id, text)
    question = Message("user", "Hello", id="q")
    await keep(manager, script, session_id, question)
    expected = script.prompts[-1]
    for number in range(4):
        await manager.send_message(session_id, str(number))
    assert (await manager.send_message(session_id, question)).content == "An answer."
    assert script.prompts[-1] == expected
    assert expected[-1] == ("user", "Hello")


async def test_stored_results_of_a_stateless_session_are_sent_with_their_turn(
    manager: SessionManager, script: Script
) -> None:
    session_id = await begin(manager, session_type="stateless")
    script.answers = [ChatResponse("Before"), tool_call("c"), ChatResponse("Done")]
    await manager.send_message(session_id, "Zero")
    await manager.send_message(session_id, "One")
    result = Message("tool", "1", metadata={"tool_call_id": "c"}, id="r")
    await manager.conversation_manager.append(session_id, [result])
    await manager.conversation_manager.add_message(session_id, "user", "Later")
    assert (await manager.send_message(session_id, result)).content == "Done"
    assert [role for role, _ in script.prompts[-1]] == ["system", "user", "assistant", "tool"]


async def test_a_kept_question_is_answered_once(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    first, second = Message("user", "One?", id="q1"), Message("user", "Two?", id="q2")
    for question in (first, second):
        await keep(manager, script, session_id, question)
    script.answers = ["One.", "Two.", "Unexpected"]
    asked = len(script.calls)
    answers = [(await manager.send_message(session_id, question)) for question in (first, second) * 2]
    assert [(one.content, one.position) for one in answers] == [("One.", 3), ("Two.", 4)] * 2
    assert len(script.calls) == asked + 2
    assert await said(manager, session_id) == ["One?", "Two?", "One.", "Two."]


@pytest.mark.parametrize(
    "other",
    [
        Message("user", "Quite another question", id="1"),
        Message("tool", "Hello", id="1", metadata={"tool_call_id": "c"}),
        [Message("tool", "Hello", id="1", metadata={"tool_call_id": "c"})],
    ],
    ids=repr,
)
@pytest.mark.parametrize("is_answered", [False, True])
async def test_an_id_of_another_message_is_refused(
    manager: SessionManager, script: Script, other: Any, *, is_answered: bool
) -> None:
    session_id = await begin(manager)
    question = Message("user", "Hello", id="1")
    if is_answered:
        script.answers = [tool_call("c"), ChatResponse("Done")]
        await manager.send_message(session_id, question)
    else:
        await keep(manager, script, session_id, question)
    stored, asked = await said(manager, session_id), len(script.calls)
    with pytest.raises(ConflictError, match="'1'"):
        await manager.send_message(session_id, other)
    assert (await said(manager, session_id), len(script.calls)) == (stored, asked)


def result(call_id: str, message_id: str, content: str = "1", **metadata: Any) -> Message:
    return Message("tool", content, id=message_id, metadata={"tool_call_id": call_id, **metadata})


@pytest.mark.parametrize(
    "other", [result("d", "r"), result("c", "r", "2"), result("c", "r", name="another"), [result("d", "r")]], ids=repr
)
async def test_an_id_of_another_result_is_refused(manager: SessionManager, script: Script, other: Any) -> None:
    session_id = await begin(manager)
    script.answers = [tool_call("c"), tool_call("d"), "Done."]
    await manager.send_message(session_id, "Hello")
    sent = result("c", "r", is_error=False)
    response = await manager.send_message(session_id, sent)
    assert (await manager.send_message(session_id, result("c", "r", is_error=True))).id == response.id
    with pytest.raises(ConflictError, match="'r'"):
        await manager.send_message(session_id, other)
    assert len(script.calls) == 2


@pytest.mark.parametrize("sent", [("r2", "r3"), ("r3", "r1"), ("r2", "r1")])
async def test_a_partly_stored_batch_is_refused_before_the_provider_is_asked(
    manager: SessionManager, script: Script, sent: tuple[str, str]
) -> None:
    session_id = await begin(manager)
    script.answers = [tool_call("c")]
    await manager.send_message(session_id, "Hello")
    results = {name: result("c", name) for name in ("r1", "r2", "r3")}
    await manager.conversation_manager.append(session_id, [results["r1"], results["r2"]])
    with pytest.raises(ConflictError, match=r"'r[12]'"):
        await manager.send_message(session_id, [results[name] for name in sent])
    assert len(script.calls) == 1
    assert len(await said(manager, session_id)) == 4


async def test_a_new_batch_with_ids_is_sent_once(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    calls = [tool_call(name).tool_calls[0] for name in ("c", "d")]
    script.answers = [ChatResponse("", tool_calls=calls), ChatResponse("Done.")]
    await manager.send_message(session_id, "Hello")
    results = [result("d", "r1"), result("c", "r2")]
    answers = [await manager.send_message(session_id, results) for _ in range(2)]
    assert [(answer.content, answer.position) for answer in answers] == [("Done.", 5)] * 2
    assert len(script.calls) == 2


class ClearedMeanwhile(StorageWrapper):
    """Another process clears the session behind an append that is recognised as a repetition.

    With ``behind_read`` it does so behind the next read. ``filled`` is what it then adds.
    """

    filled: Sequence[Message] = ()
    times = 1
    behind_read = False
    is_replayed = False

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        receipt = await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)
        self.is_replayed = receipt.replayed
        if not self.behind_read:
            await self.clear(session_id)
        return receipt

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        records = await super().read_messages(session_id, span)
        await self.clear(session_id)
        return records

    async def clear(self, session_id: str) -> None:
        if self.is_replayed and self.times:
            self.times -= 1
            await self.base.truncate_messages(session_id, after=0)
            if self.filled:
                await ConversationManager(storage=self.base).append(session_id, self.filled)


FILLED = [[], [Message("user", "Hello", id="another"), Message("assistant", "Of another", id="answer")]]


@pytest.mark.parametrize("filled", FILLED)
@pytest.mark.parametrize("behind_read", [False, True])
@pytest.mark.parametrize("config", [{}, {"session_type": "stateless"}])
async def test_a_session_that_is_cleared_while_a_repetition_is_read_is_an_error(
    storage: SessionStorage, script: Script, filled: list[Message], config: dict[str, Any], *, behind_read: bool
) -> None:
    wrapped = ClearedMeanwhile(storage)
    async with SessionManager(wrapped) as manager:
        session_id = await begin(manager, **config)
        question = Message("user", "Hello", id="q")
        await keep(manager, script, session_id, question)
        wrapped.filled, wrapped.behind_read = filled, behind_read
        with pytest.raises(TurnInterruptedError):
            await manager.send_message(session_id, question)
        assert wrapped.times == 0
    assert len(script.calls) == 1


@pytest.mark.parametrize("filled", FILLED)
async def test_a_message_that_is_cleared_while_its_repetition_is_read_is_added_again(
    storage: SessionStorage, filled: list[Message]
) -> None:
    wrapped = ClearedMeanwhile(storage)
    conversations = ConversationManager(storage=wrapped)
    message = Message("user", "Hello", id="q")
    for times in (0, 1):
        wrapped.filled, wrapped.times = filled, times
        assert (await conversations.add_message("s", message)).id == "q"
    stored = [one.id for one in await conversations.get_messages("s")]
    assert stored == [*(one.id for one in filled), "q"]


async def test_a_response_names_its_stored_message(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    response = await manager.send_message(session_id, "Hello")
    *_, last = [delta async for delta in manager.stream_message(session_id, "Again")]
    stored = await manager.conversation_manager.get_messages(session_id)
    assert [(response.id, response.position), (last.id, last.position)] == [
        (one.id, one.position) for one in stored[1::2]
    ]


# -- options -------------------------------------------------------------------------------------


async def test_a_busy_session_can_refuse(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.may_answer.clear()
    send = asyncio.ensure_future(manager.send_message(session_id, "q"))
    await script.asked.wait()
    with pytest.raises(SessionBusyError, match="in the middle of a turn"):
        await manager.send_message(session_id, "again", busy="refuse")
    with pytest.raises(SessionBusyError, match="in the middle of a turn"):
        [delta async for delta in manager.stream_message(session_id, "again", busy="refuse")]
    script.may_answer.set()
    assert (await send).content == "An answer."


async def test_context_is_sent_and_never_stored(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    await manager.send_message(session_id, "One", context="Today is Monday.")
    await manager.send_message(session_id, "Two", context="Today is Tuesday.")
    assert script.prompts[-1] == [
        ("system", "You are Ada."),
        ("user", "One"),
        ("assistant", "An answer."),
        ("system", "Today is Tuesday."),
        ("user", "Two"),
    ]
    assert await said(manager, session_id) == ["One", "An answer.", "Two", "An answer."]


async def test_a_key_can_be_passed_for_one_call(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    await manager.send_message(session_id, "One", provider_config={"api_key": "sk-of-the-user"})
    await manager.send_message(session_id, "Two")
    assert [call.config.api_key for call in script.calls] == ["sk-of-the-user", None]
    with pytest.raises(ProviderError, match="update_provider"):
        await manager.send_message(session_id, "Three", provider_config={"name": "echo"})


@pytest.mark.parametrize("option", [{"busy": "maybe"}, {"on_failure": "keep"}, {"reader_timeout": 0}])
async def test_an_unknown_option_is_refused(manager: SessionManager, script: Script, option: dict[str, Any]) -> None:
    session_id = await begin(manager)
    with pytest.raises(ValidationError, match=next(iter(option))):
        [delta async for delta in manager.stream_message(session_id, "q", **option)]
    assert script.calls == []


async def test_a_turn_that_comes_during_a_clearing_waits_for_it(
    storage: SessionStorage, services: Services, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionManager(storage, services=services) as manager:
        session_id = await begin(manager)
        begun, may_end = asyncio.Event(), asyncio.Event()
        truncate = storage.truncate_messages

        async def slow(session_id: str, *, after: int) -> int:
            begun.set()
            await may_end.wait()
            return await truncate(session_id, after=after)

        monkeypatch.setattr(storage, "truncate_messages", slow)
        clearing = asyncio.ensure_future(manager.clear_conversation(session_id))
        await begun.wait()
        send = asyncio.ensure_future(manager.send_message(session_id, "Hello"))
        await asyncio.wait([send], timeout=0.05)
        assert script.calls == []
        may_end.set()
        assert await clearing is True
        assert (await send).position == 2


async def test_a_kept_partial_answer_survives_a_second_cancellation(
    storage: SessionStorage, services: Services, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionManager(storage, services=services) as manager:
        session_id = await begin(manager)
        script.answers = ["One two three"]
        script.may_finish.clear()
        append, begun, may_end = storage.append_messages, asyncio.Event(), asyncio.Event()

        async def slow(*args: Any, **options: Any) -> Any:
            begun.set()
            await may_end.wait()
            return await append(*args, **options)

        deltas = manager.stream_message(session_id, "Hello", on_stop="keep_partial")
        await anext(deltas)
        monkeypatch.setattr(storage, "append_messages", slow)
        closing = asyncio.ensure_future(deltas.aclose())
        await begun.wait()
        clearing = asyncio.ensure_future(manager.get_session(session_id))
        await clearing
        interrupting = asyncio.ensure_future(manager.clear_conversation(session_id))
        await asyncio.wait([interrupting], timeout=0.05)
        may_end.set()
        await asyncio.wait([closing, interrupting])
        assert await said(manager, session_id) == []  # stored whole, then cleared


async def test_reasoning_is_stored_for_its_provider(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    kept = {"reasoning_content": "Because."}
    script.answers = [ChatResponse("Yes.", reasoning="Because.", provider_metadata={"reasoning": kept})]
    response = await manager.send_message(session_id, Message("user", "Why?", id="q"))
    stored = (await manager.conversation_manager.get_messages(session_id))[1]
    assert (stored.metadata["reasoning"], stored.metadata["provider"]) == (kept, "scripted")
    again = await manager.send_message(session_id, Message("user", "Why?", id="q"))
    assert (again.content, again.reasoning) == (response.content, response.reasoning) == ("Yes.", "Because.")
    assert again.provider_metadata["reasoning"] == kept


# -- results of tool calls -----------------------------------------------------------------------


@pytest.mark.parametrize(("length", "between"), [(4, 3), (2, 0)])
async def test_a_result_is_sent_with_its_call_however_much_was_said_meanwhile(
    manager: SessionManager, script: Script, length: int, between: int
) -> None:
    session_id = await begin(manager, max_history_length=length)
    script.answers = [tool_call("c"), ChatResponse("Fine.")]
    await manager.send_message(session_id, "Book it")
    for number in range(between):
        await manager.send_message(session_id, str(number))
    await manager.send_message(session_id, Message("tool", "BOOKED", metadata={"tool_call_id": "c"}))
    assert script.prompts[-1][1:4] == [("user", "Book it"), ("assistant", ""), ("tool", "BOOKED")]


async def test_a_result_whose_call_is_too_far_back_is_refused(
    manager: SessionManager, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_MORE_HISTORY", 4)
    session_id = await begin(manager, max_history_length=2)
    script.answers = [tool_call("c"), "An answer."]
    for number in range(6):
        await manager.send_message(session_id, str(number))
    near, far = (Message("tool", "x", metadata={"tool_call_id": call_id}) for call_id in ("d", "c"))
    script.answers = [tool_call("d"), "An answer."]
    await manager.send_message(session_id, "Near")
    stored, asked = await said(manager, session_id), len(script.calls)
    for results in (far, [near, far]):
        with pytest.raises(ToolCallNotFoundError, match=r"newest 6 messages of session 's' .* 'c'") as caught:
            await manager.send_message(session_id, results)
        assert (caught.value.call_ids, caught.value.searched) == (("c",), 6)
    assert (await said(manager, session_id), len(script.calls)) == (stored, asked)
    assert (await manager.send_message(session_id, near)).content == "An answer."


async def test_a_result_is_sent_with_its_call_where_no_user_message_precedes_it(
    manager: SessionManager, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_MORE_HISTORY", 4)
    session_id = await begin(manager, max_history_length=2)
    call = Message("assistant", "", metadata={"tool_calls": tool_call("c").tool_calls})
    notes = [Message("assistant", f"Note {number}") for number in range(8)]
    await manager.conversation_manager.append(session_id, [*notes, call, Message("user", "Well?"), notes[0]])
    await manager.send_message(session_id, Message("tool", "x", metadata={"tool_call_id": "c"}))
    sent = script.prompts[-1]
    assert sent[sent.index(("tool", "x")) - 1] == ("assistant", "")


async def test_a_result_that_names_no_call_is_refused(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    for message in (Message("tool", "x"), [Message("tool", "x", metadata={"tool_call_id": 5})]):
        with pytest.raises(ValidationError, match="tool_call_id"):
            await manager.send_message(session_id, message)
    assert script.calls == []


# -- interruptions -------------------------------------------------------------------------------


async def test_a_session_can_be_cleared_and_deleted_at_once(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.may_answer.clear()
    turn = asyncio.ensure_future(manager.send_message(session_id, "q"))
    await script.asked.wait()
    ended = await asyncio.gather(manager.clear_conversation(session_id), manager.delete_session(session_id))
    assert ended[1] is True
    with pytest.raises(TurnInterruptedError):
        await turn
    assert await manager.get_session(session_id) is None


class Stubborn(BaseProvider):
    """A provider that takes its time to end after a cancellation."""

    may_end: asyncio.Event
    asked: asyncio.Event

    def get_default_model(self) -> str:
        return "stubborn-1"

    async def chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> ChatResponse:
        self.asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await self.may_end.wait()
        return ChatResponse("Too late.")

    async def stream_chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        yield await self.chat(messages)


@pytest.fixture
def stubborn() -> Iterator[type[Stubborn]]:
    Stubborn.may_end, Stubborn.asked = asyncio.Event(), asyncio.Event()
    ProviderFactory.register_provider("stubborn", Stubborn)
    yield Stubborn
    ProviderFactory.unregister_provider("stubborn")


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_provider_that_does_not_end_holds_up_no_clearing(
    manager: SessionManager, stubborn: type[Stubborn], monkeypatch: pytest.MonkeyPatch, *, streaming: bool
) -> None:
    monkeypatch.setattr(session_access, "INTERRUPT_SECONDS", 0.02)
    session_id = await manager.create_session({}, {"name": "stubborn"})
    turn = asyncio.ensure_future(take_turn(manager, session_id, "q", streaming=streaming, on_failure="keep_question"))
    await stubborn.asked.wait()
    async with asyncio.timeout(5):
        assert await manager.clear_conversation(session_id) is True
    stubborn.may_end.set()
    with pytest.raises(TurnInterruptedError):
        await turn
    assert await said(manager, session_id) == []


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_clearing_waits_for_a_turn_that_is_being_stored(
    storage: SessionStorage, services: Services, script: Script, monkeypatch: pytest.MonkeyPatch, *, streaming: bool
) -> None:
    monkeypatch.setattr(session_access, "INTERRUPT_SECONDS", 0.02)
    async with SessionManager(storage, services=services) as manager:
        session_id = await begin(manager)
        append, begun, may_end = storage.append_messages, asyncio.Event(), asyncio.Event()

        async def slow(*args: Any, **options: Any) -> Any:
            begun.set()
            await may_end.wait()
            return await append(*args, **options)

        monkeypatch.setattr(storage, "append_messages", slow)
        turn = asyncio.ensure_future(take_turn(manager, session_id, "q", streaming=streaming))
        await begun.wait()
        clearing = asyncio.ensure_future(manager.clear_conversation(session_id))
        await asyncio.wait([clearing], timeout=0.1)
        assert not clearing.done()
        may_end.set()
        assert await clearing is True
        await turn
        assert await said(manager, session_id) == []


async def test_a_session_whose_turns_wait_in_line_refuses(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.may_answer.clear()

    async def first_and_third() -> None:
        await manager.send_message(session_id, "1")
        with pytest.raises(SessionBusyError):
            await manager.send_message(session_id, "3", busy="refuse")

    task = asyncio.ensure_future(first_and_third())
    await script.asked.wait()
    second = asyncio.ensure_future(manager.send_message(session_id, "2"))
    await asyncio.sleep(0)
    script.may_answer.set()
    await asyncio.gather(task, second)
    assert await said(manager, session_id) == ["1", "An answer.", "2", "An answer."]


# -- stored as far as it was shown ---------------------------------------------------------------


async def test_a_whole_answer_is_stored_although_the_reader_leaves(
    storage: SessionStorage, services: Services, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionManager(storage, services=services) as manager:
        session_id = await begin(manager)
        script.answers = ["One two three"]
        script.may_finish.clear()
        append, begun = storage.append_messages, asyncio.Event()

        async def slow(*args: Any, **options: Any) -> Any:
            begun.set()
            await asyncio.sleep(0.02)
            return await append(*args, **options)

        deltas = manager.stream_message(session_id, "Hello", on_stop="keep_partial")
        assert [(await anext(deltas)).content, (await anext(deltas)).content] == ["One ", "two "]
        monkeypatch.setattr(storage, "append_messages", slow)
        script.may_finish.set()
        await begun.wait()
        await deltas.aclose()
        monkeypatch.undo()
        assert await said(manager, session_id) == ["Hello", "One two three"]


class Leaking(Stubborn):
    """A provider whose stream cannot be closed without an error."""

    async def stream_chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        try:
            for _ in range(3000):
                yield ChatResponse("w ")
                if self.asked.is_set():
                    await self.may_end.wait()
        finally:
            raise RuntimeError("not closed")


@pytest.fixture
def leaking() -> Iterator[type[Leaking]]:
    Leaking.may_end, Leaking.asked = asyncio.Event(), asyncio.Event()
    ProviderFactory.register_provider("leaking", Leaking)
    yield Leaking
    ProviderFactory.unregister_provider("leaking")


@pytest.mark.parametrize("waits_for", ["reader", "provider"])
@pytest.mark.parametrize("ending", ["leave", "delete"])
async def test_a_stream_that_fails_when_it_is_closed_changes_nothing(
    manager: SessionManager, leaking: type[Leaking], waits_for: str, ending: str
) -> None:
    session_id = await manager.create_session({}, {"name": "leaking"})
    if waits_for == "provider":
        leaking.asked.set()
    async with aclosing(manager.stream_message(session_id, "q", on_stop="keep_partial")) as deltas:
        await anext(deltas)
        await asyncio.sleep(0.05)  # until the buffer is full
        if ending == "delete":
            assert await manager.delete_session(session_id) is True
            with pytest.raises(TurnInterruptedError):
                [delta async for delta in deltas]
    stored = await said(manager, session_id)
    assert stored[:1] == (["q"] if ending == "leave" else [])


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_question_is_kept_if_its_answer_cannot_be_stored(
    manager: SessionManager, script: Script, monkeypatch: pytest.MonkeyPatch, *, streaming: bool
) -> None:
    session_id = await begin(manager)
    script.answers = [ChatResponse("x", usage={"x": float("nan")})]
    if streaming:
        monkeypatch.setattr(Answer, "whole", lambda _: script.answers[0])
    with pytest.raises(ProviderResponseError, match="not JSON"):
        await take_turn(manager, session_id, "q", streaming=streaming, on_failure="keep_question")
    assert await said(manager, session_id) == ["q"]


async def test_a_wrapper_that_changes_what_is_read_changes_turns_too(script: Script) -> None:
    class Loud(StorageWrapper):
        async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
            found = await self.base.read_messages(session_id, span)
            return [
                attrs.evolve(
                    one, payload=attrs.evolve(one.payload, data=one.payload.data.replace(b"a question", b"A QUESTION"))
                )
                for one in found
            ]

    async with SessionManager(Loud(InMemoryStorage())) as manager:
        session_id = await begin(manager)
        await manager.send_message(session_id, "a question")
        await manager.send_message(session_id, "another")
    assert [text for _, text in script.prompts[-1]][1:] == ["A QUESTION", "An answer.", "another"]
