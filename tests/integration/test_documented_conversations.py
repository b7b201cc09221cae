"""Every documented call of the ConversationManager, with each storage and without one."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.services import Services
from luminoracore_sdk.session import ConversationManager, SessionManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.session import Conversation, Message, MessageRole
from luminoracore_sdk.utils.exceptions import ValidationError


@pytest.fixture
async def conversations(storage: SessionStorage, services: Services) -> ConversationManager:
    return ConversationManager(100, storage=storage, services=services)


@pytest.fixture
async def filled(conversations: ConversationManager, clock: ManualClock) -> str:
    """Return a conversation of six messages, a second apart."""
    said = ["Hello Ada", "Hello", "What is a LOOM?", "A machine that weaves.", "And a loop?", "A way back."]
    for number, text in enumerate(said):
        await conversations.add_message("s", ["user", "assistant"][number % 2], text)
        clock.advance(1)
    return "s"


def texts(messages: list[Message] | Conversation) -> list[Any]:
    return [message.content for message in messages]


async def test_without_a_storage_the_newest_are_kept_in_memory(services: Services) -> None:
    conversations = ConversationManager(max_history=3, services=services)
    for number in range(5):
        await conversations.add_message("s", "user", str(number))
    assert texts(await conversations.get_messages("s")) == ["2", "3", "4"]
    assert texts(await conversations.get_messages("s", 1)) == ["2"]
    assert texts(await conversations.get_messages("s", 9, 1)) == ["3", "4"]
    assert texts(await conversations.get_recent_messages("s", 9)) == ["2", "3", "4"]
    assert await conversations.get_message_count("s") == 3
    assert texts(await conversations.search_messages("s", "1")) == []


async def test_with_a_storage_older_messages_stay_readable(storage: SessionStorage) -> None:
    conversations = ConversationManager(3, storage=storage)
    for number in range(7):
        await conversations.add_message("s", "user", str(number))
    assert texts(await conversations.get_messages("s")) == ["4", "5", "6"]
    assert texts(await conversations.get_messages("s", limit=2)) == ["0", "1"]
    assert texts(await conversations.get_messages("s", limit=3, offset=2)) == ["2", "3", "4"]
    assert texts(await conversations.get_messages("s", offset=5)) == ["5", "6"]
    assert texts(await conversations.get_recent_messages("s", 5)) == ["2", "3", "4", "5", "6"]
    assert await conversations.get_message_count("s") == 7
    assert [said.position async for said in conversations.stream_messages("s", after=1, before=4)] == [2, 3]
    assert texts(await ConversationManager(storage=storage).get_messages("s")) == [*"0123456"]


@pytest.mark.parametrize("max_history", [0, -1, 2.0, True, "9"])
def test_max_history_is_a_whole_number_of_at_least_1(max_history: Any) -> None:
    with pytest.raises(ValidationError, match="max_history must be a whole number of at least 1"):
        ConversationManager(max_history)


async def test_create_conversation_returns_an_existing_one(
    conversations: ConversationManager, clock: ManualClock
) -> None:
    made = await conversations.create_conversation("s")
    assert isinstance(made, Conversation)
    assert (made.session_id, made.messages, made.created_at) == ("s", [], clock.now())
    await conversations.add_message("s", "user", "Hello")
    assert texts(await conversations.create_conversation("s")) == ["Hello"]


@pytest.mark.parametrize(
    "arguments",
    [
        (Message(MessageRole.USER, "Hello", metadata={"n": 1}),),
        ({"role": "user", "content": "Hello", "metadata": {"n": 1}},),
        ("user", "Hello", {"n": 1}),
        (MessageRole.USER, "Hello", {"n": 1}),
    ],
)
async def test_add_message_takes_every_documented_form(
    conversations: ConversationManager, clock: ManualClock, arguments: Any
) -> None:
    added = await conversations.add_message("s", *arguments)
    assert (added.role, added.content, added.metadata) == (MessageRole.USER, "Hello", {"n": 1})
    assert (added.timestamp, added.position) == (clock.now(), 1)
    assert await conversations.get_messages("s") == [added]


async def test_add_message_takes_keywords_and_a_string(conversations: ConversationManager) -> None:
    first = await conversations.add_message("s", role="tool", content={"k": [1, None]}, metadata=None)
    second = await conversations.add_message("s", "Just a text")
    assert (first.role, first.content, first.metadata) == ("tool", {"k": [1, None]}, {})
    assert (second.role, second.content) == ("user", "Just a text")


async def test_a_message_added_twice_is_stored_once(
    conversations: ConversationManager,
) -> None:
    message = Message("user", "Hello", id="m1")
    first = await conversations.add_message("s", message)
    assert await conversations.add_message("s", message) == first
    assert await conversations.get_messages("s") == [first]


async def test_a_message_keeps_its_time_in_utc(
    conversations: ConversationManager,
) -> None:
    said_at = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-5)))
    await conversations.add_message("s", Message("user", "Hello", said_at))
    [message] = await conversations.get_messages("s")
    assert message.timestamp is not None
    assert message.timestamp == said_at
    assert message.timestamp.tzinfo is UTC
    assert message.to_dict()["timestamp"] == "2024-03-01T04:59:59.999999+00:00"


async def test_a_naive_time_is_refused(conversations: ConversationManager) -> None:
    with pytest.raises(ValidationError, match="naive datetime"):
        Message("user", "Hello", datetime(2024, 1, 1))  # noqa: DTZ001  # the point of the test
    with pytest.raises(ValidationError, match="naive datetime"):
        await conversations.add_message("s", {"role": "user", "content": "x", "timestamp": "2024-01-01T00:00:00"})
    assert await conversations.list_conversations() == []


async def test_unknown_ids_give_nothing(conversations: ConversationManager) -> None:
    assert await conversations.get_conversation("nobody") is None
    assert await conversations.get_messages("nobody") == []
    assert await conversations.get_messages("nobody", limit=3) == []
    assert await conversations.get_recent_messages("nobody", 3) == []
    assert await conversations.get_last_message("nobody") is None
    assert await conversations.get_message_count("nobody") == 0
    assert await conversations.search_messages("nobody", "x") == []
    assert await conversations.get_messages_by_role("nobody", "user") == []
    assert await conversations.get_conversation_summary("nobody") is None
    assert await conversations.get_conversation_stats("nobody") is None
    assert await conversations.clear_conversation("nobody") is False
    assert await conversations.delete_conversation("nobody") is False
    assert await conversations.list_conversations() == []


async def test_reads_are_oldest_first(conversations: ConversationManager, filled: str) -> None:
    everything = texts(await conversations.get_messages(filled))
    assert everything[0] == "Hello Ada"
    assert texts(await conversations.get_messages(filled, 2, 3)) == everything[3:5]
    assert await conversations.get_messages(filled, limit=0) == []
    assert texts(await conversations.get_recent_messages(filled, 2)) == everything[-2:]
    assert await conversations.get_recent_messages(filled, 0) == []
    assert (await conversations.get_last_message(filled) or Message("user", "")).content == "A way back."
    assert texts(await conversations.get_conversation(filled, limit=1) or []) == ["A way back."]


@pytest.mark.parametrize("count", [-1, 1.0, True, "1"])
async def test_an_invalid_count_is_refused(conversations: ConversationManager, filled: str, count: Any) -> None:
    for call in (
        conversations.get_messages(filled, limit=count),
        conversations.get_messages(filled, offset=count),
        conversations.get_recent_messages(filled, count),
        conversations.search_messages(filled, "x", limit=count),
    ):
        with pytest.raises(ValidationError, match="must be a whole number of at least 0"):
            await call


async def test_searches_ignore_case_and_keep_the_newest(conversations: ConversationManager, filled: str) -> None:
    assert texts(await conversations.search_messages(filled, "LOO")) == ["What is a LOOM?", "And a loop?"]
    assert texts(await conversations.search_messages(filled, "loo", limit=1)) == ["And a loop?"]
    assert await conversations.search_messages(filled, "no such text") == []
    with pytest.raises(ValidationError):
        await conversations.search_messages(filled, "")


async def test_messages_can_be_filtered_by_role(conversations: ConversationManager, filled: str) -> None:
    asked = await conversations.get_messages_by_role(filled, "user")
    assert texts(asked) == ["Hello Ada", "What is a LOOM?", "And a loop?"]
    assert await conversations.get_messages_by_role(filled, MessageRole.USER, 2) == asked[-2:]
    assert await conversations.get_messages_by_role(filled, "system") == []
    with pytest.raises(ValidationError, match="is not one of: user, assistant, system, tool"):
        await conversations.get_messages_by_role(filled, "robot")


async def test_summary_and_stats_count_and_measure(
    conversations: ConversationManager, filled: str, clock: ManualClock
) -> None:
    first, last = await conversations.get_messages(filled, 1), await conversations.get_last_message(filled)
    began = first[0].timestamp
    assert last is not None
    shared = {
        "total_messages": 6,
        "user_messages": 3,
        "assistant_messages": 3,
        "created_at": began,
        "updated_at": last.timestamp,
    }
    assert await conversations.get_conversation_summary(filled) == shared | {
        "session_id": "s",
        "first_message": first[0],
        "last_message": last,
    }
    assert await conversations.get_conversation_stats(filled) == shared | {
        "system_messages": 0,
        "tool_messages": 0,
        "total_characters": 73,
        "average_message_length": 73 / 6,
        "duration": 5.0,
    }


async def test_clearing_keeps_the_conversation(conversations: ConversationManager, filled: str) -> None:
    assert await conversations.clear_conversation(filled) is True
    assert await conversations.get_messages(filled) == []
    assert await conversations.list_conversations() == ["s"]
    assert await conversations.delete_conversation(filled) is True
    assert await conversations.list_conversations() == []
    assert (await conversations.add_message("s", "user", "Anew")).position == 1


async def test_deleting_a_conversation_leaves_its_session(
    manager: SessionManager, conversations: ConversationManager
) -> None:
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
    await conversations.add_message(session_id, "user", "Hello")
    assert await conversations.delete_conversation(session_id) is True
    session = await manager.get_session(session_id)
    assert session is not None
    assert session.message_count == 0


async def test_several_messages_are_appended_all_or_none(conversations: ConversationManager) -> None:
    await conversations.create_conversation("s")
    turn = [Message("user", "One"), Message("assistant", "Two")]
    stored = await conversations.append("s", turn)
    assert [(said.content, said.position) for said in stored] == [("One", 1), ("Two", 2)]
    with pytest.raises(ValidationError):
        await conversations.append("s", [Message("user", "Three"), Message("user", float("nan"))])
    assert await conversations.get_messages("s") == stored
    assert attrs.evolve(stored[0], content="changed") not in await conversations.get_messages("s")
