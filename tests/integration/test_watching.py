"""``SessionManager.watch``: a copy that follows the changes equals what is stored."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord
from luminoracore_sdk.session import InMemoryStorage, Message, SessionChange, SessionManager
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.utils.exceptions import SessionNotFoundError, ValidationError
from tests.support.scripted_provider import Script

PROVIDER = {"name": "scripted"}


async def take(changes: Any, count: int) -> list[SessionChange]:
    async with asyncio.timeout(10):
        return [await anext(changes) for _ in range(count)]


async def test_a_watcher_follows_turns_and_changes_of_the_past(manager: SessionManager, script: Script) -> None:
    await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s"})
    script.answers = [f"Answer {number}" for number in range(1, 9)]
    await manager.send_message("s", "Question 1")
    async with aclosing(manager.watch("s")) as changes:
        assert [(change.kind, change.position) for change in await take(changes, 2)] == [
            ("appended", 1),
            ("appended", 2),
        ]
        await manager.send_message("s", "Question 2")
        appended = await take(changes, 2)
        assert [change.message and change.message.content for change in appended] == ["Question 2", "Answer 2"]
        await manager.annotate("s", appended[1].message.id, {"rating": 1})  # type: ignore[union-attr, arg-type]
        (updated,) = await take(changes, 1)
        assert (updated.kind, updated.position) == ("updated", 4)
        assert isinstance(updated.message, Message)
        assert updated.message.metadata["annotations"] == {"rating": 1}
        await manager.regenerate("s")
        cut, again = await take(changes, 2)
        assert cut == SessionChange("cut", 3)
        assert (again.kind, again.position) == ("appended", 4)
        assert again.to_dict()["message"]["content"] == "Answer 3"
        await manager.delete_session("s")
        assert await take(changes, 1) == [SessionChange("deleted", 0)]
        with pytest.raises(StopAsyncIteration):
            await anext(changes)
    assert cut.to_dict() == {"kind": "cut", "position": 3, "message": None, "cursor": "3.2"}


async def test_a_reader_goes_on_from_the_last_position(manager: SessionManager, script: Script) -> None:
    await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s"})
    for number in range(3):
        await manager.send_message("s", f"Question {number}")
    async with aclosing(manager.watch("s", after=4)) as changes:
        assert [change.position for change in await take(changes, 2)] == [5, 6]
    await manager.rewind("s", 2)
    async with aclosing(manager.watch("s", after=6)) as changes:
        assert await take(changes, 1) == [SessionChange("cut", 2)]


async def test_a_reader_that_comes_back_learns_what_changed(manager: SessionManager, script: Script) -> None:
    await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s", "user_id": "u"})
    user = manager.for_user("u")
    await user.send_message("s", "Question")
    async with aclosing(user.watch("s")) as changes:
        question, answer = await take(changes, 2)
    assert (question.cursor, answer.cursor) == ("1.0", "2.0")
    await user.regenerate("s")  # the newest position is the same
    await user.annotate("s", question.message.id, {"rating": 1})  # type: ignore[union-attr, arg-type]
    async with aclosing(user.watch("s", after=answer.cursor)) as changes:
        cut, updated, again = await take(changes, 3)
    assert [(one.kind, one.position, one.cursor) for one in (cut, updated, again)] == [
        ("cut", 1, "1.1"),
        ("updated", 1, "1.2"),
        ("appended", 2, "2.2"),
    ]
    assert updated.message is not None
    assert updated.message.metadata["annotations"] == {"rating": 1}
    async with aclosing(user.watch("s", after="1")) as changes:  # only a position
        assert await take(changes, 1) == [again]


async def test_a_user_pages_through_a_conversation(manager: SessionManager) -> None:
    user = manager.for_user("u")
    session_id = await user.create_session({"name": "Ada"}, {"name": "echo"})
    for number in range(3):
        await user.send_message(session_id, f"Question {number}")
    newest = await user.get_messages(session_id, 2, before=7)
    assert [message.position for message in newest] == [5, 6]
    assert [message.position for message in await user.get_messages(session_id, before=5, after=2)] == [3, 4]
    assert await manager.for_user("v").get_messages(session_id, before=7) == []


async def test_what_is_not_there_cannot_be_watched(manager: SessionManager) -> None:
    with pytest.raises(SessionNotFoundError):
        await anext(manager.watch("absent"))
    await manager.create_session({}, {"name": "echo"}, {"session_id": "s", "user_id": "u"})
    wrongs: tuple[Any, ...] = (-1, True, 1.5, None, "", "x", "1.", ".1", "1.2.3", "-1", "1\n", "1" * 16)
    for wrong in wrongs:
        with pytest.raises(ValidationError, match="is no position"):
            await anext(manager.watch("s", after=wrong))
    with pytest.raises(SessionNotFoundError):
        await anext(manager.for_user("v").watch("s"))


async def test_a_user_watches_no_session_of_another_user(
    manager: SessionManager, script: Script, clock: ManualClock
) -> None:
    await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s", "user_id": "u"})
    user = manager.for_user("u")
    async with aclosing(user.watch("s")) as changes:
        await user.send_message("s", "Hello")
        assert [change.position for change in await take(changes, 2)] == [1, 2]
        await manager.delete_session("s")
        clock.advance(1)
        await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s", "user_id": "v"})
        await manager.send_message("s", "A secret")
        assert await take(changes, 1) == [SessionChange("deleted", 0)]


class GivesTheSessionAway(StorageWrapper):
    """Makes the session another user's right before its messages are read."""

    is_due = False

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        if self.is_due:
            self.is_due = False
            async with SessionManager(self.base) as another:
                await another.delete_session(session_id)
                await another.create_session({"name": "Ada"}, PROVIDER, {"session_id": session_id, "user_id": "v"})
                await another.conversation_manager.add_message(session_id, "A secret")
        return await super().read_messages(session_id, span)


async def test_what_another_user_says_between_header_and_messages_is_not_shown(script: Script) -> None:
    storage = GivesTheSessionAway(InMemoryStorage())
    async with SessionManager(storage) as manager:
        await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s", "user_id": "u"})
        await manager.send_message("s", "Hello")
        storage.is_due = True
        async with asyncio.timeout(10):
            changes = [change async for change in manager.for_user("u").watch("s")]
        assert changes == [SessionChange("deleted", 0)]


async def test_a_session_made_anew_in_the_same_instant_is_another_one(
    manager: SessionManager, script: Script, clock: ManualClock
) -> None:
    await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s"})
    await manager.conversation_manager.add_message("s", "Hello")
    await manager.clear_conversation("s")  # a change with a number
    async with aclosing(manager.watch("s")) as changes:
        await manager.conversation_manager.add_message("s", "Again")
        assert [change.position for change in await take(changes, 1)] == [1]
        await manager.delete_session("s")
        await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s"})
        await manager.conversation_manager.add_message("s", "Of another session")
        assert await take(changes, 1) == [SessionChange("deleted", 0)]
