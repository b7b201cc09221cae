"""What recall finds depends on what is stored alone, not on how the index in the process came about."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.session import Message, SessionManager
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.utils.exceptions import LuminoraCoreSDKError
from tests.support.backends import FILES, MEMORY, SQLITE, Backend, each_backend
from tests.support.recall import Numbers, found_by, manager_of, reindexed, searched, without_indexes

WORDS = ("boat", "Carol", "Köln", "cats", "cat", "京都", "call_abc-123", "the", "🎉", "\ud800")
SESSIONS = ("a", "b", "c")
USERS = ("ada", "bob")
ASKED: Sequence[tuple[str, dict[str, Any]]] = [
    (text, {"explain": True, "around": 1, "limit": 20, **scope})
    for text in ("boat cat 京都", "call_abc-123 carol 🎉")
    for scope in ({"user_id": "ada"}, {"user_id": "bob"}, {"session_ids": ["a", "b"]}, {})
]


async def message_id(manager: SessionManager, session_id: str, number: int) -> str:
    """Return the id of a message, counted from the end."""
    found = await manager.conversation_manager.get_messages(session_id, 7)
    return (found[-1 - number % len(found)].id if found else None) or "absent"


FOLLOWED: Sequence[tuple[str, dict[str, Any]]] = [(text, {**scope, "limit": 1}) for text, scope in ASKED[:4]]
"""Asked after each change, so that the indexes of a manager follow it."""

Step = tuple[str, str, int, str, bool]
Change = Callable[[SessionManager, str, int, str], Awaitable[object]]


async def add_many(manager: SessionManager, session_id: str, number: int, text: str) -> None:
    messages = [Message("user", f"{text} {place}") for place in range(number + 1)]
    await manager.conversation_manager.append(session_id, messages)


async def remember(manager: SessionManager, session_id: str, number: int, text: str) -> None:
    await manager.memory_manager.store_memory(session_id, f"key {number}", text, scope="user")
    await manager.memory_manager.store_memory(session_id, f"key_{number}", [text])


async def replace(manager: SessionManager, session_id: str, number: int, text: str) -> None:
    await manager.delete_session(session_id)
    await CHANGES["create"](manager, session_id, number, text)
    await manager.conversation_manager.add_message(session_id, "user", text)


async def redact(manager: SessionManager, session_id: str, number: int, _: str) -> None:
    await manager.redact(session_id, await message_id(manager, session_id, number))


async def delete(manager: SessionManager, session_id: str, number: int, _: str) -> None:
    await manager.delete_messages(session_id, [await message_id(manager, session_id, number)])


async def edit(manager: SessionManager, session_id: str, number: int, text: str) -> None:
    await manager.edit_message(session_id, await message_id(manager, session_id, number), text or "edited")


CHANGES: dict[str, Change] = {
    "create": lambda manager, session_id, number, _: manager.create_session(
        {"name": "A"}, {"name": "echo"}, {"session_id": session_id, "user_id": USERS[number % 2]}
    ),
    "add": lambda manager, session_id, _, text: manager.conversation_manager.add_message(session_id, "user", text),
    "many": add_many,
    "talk": lambda manager, session_id, _, text: manager.send_message(session_id, text or "hello"),
    "edit": edit,
    "redact": redact,
    "delete": delete,
    "rewind": lambda manager, session_id, number, _: manager.rewind(session_id, number),
    "fork": lambda manager, session_id, number, _: manager.fork(
        session_id, number, new_session_id=SESSIONS[number % len(SESSIONS)]
    ),
    "replace": replace,
    "drop": lambda manager, session_id, *_: manager.delete_session(session_id),
    "expire": lambda manager, session_id, *_: manager.update_session(session_id, ttl=0.00001),
    "erase": lambda manager, _, number, __: manager.erase_user(USERS[number % 2]),
    "remember": remember,
    "forget": lambda manager, session_id, number, _: manager.memory_manager.delete_memory(
        session_id, f"key {number}", scope="user"
    ),
}

steps = st.tuples(
    st.sampled_from([*CHANGES, "create", "add", "add", "many"]),
    st.sampled_from(SESSIONS),
    st.integers(0, 6),
    st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join),
    st.booleans(),
)


_FIRST: list[Step] = [("create", session_id, 0, "", True) for session_id in SESSIONS[:2]]


async def follow(backend: Backend, made: Sequence[Step]) -> int:
    """Make changes by two managers, and compare what is found in four ways; return how much was found."""
    clock, ids = ManualClock(), Numbers()
    with backend.place() as opened:
        first = opened(clock)
        async with searched(first) as storage, searched(opened(clock) if backend.persistent else first) as second:
            manager, other = manager_of(storage, clock, ids=ids), manager_of(second, clock, ids=ids)
            for kind, session_id, number, text, by_other in [*_FIRST, *made]:
                clock.advance_us(1 + number)
                with suppress(LuminoraCoreSDKError):  # such a session or message is not there
                    await CHANGES[kind](other if by_other else manager, session_id, number, text)
                await found_by(manager, FOLLOWED)
            found = await found_by(manager, ASKED)
            assert await found_by(other, ASKED) == found
            assert await found_by(manager_of(second, clock), ASKED) == found
            await without_indexes(storage)
            assert await found_by(manager_of(storage, clock), ASKED) == found
            assert await found_by(manager, ASKED) == found
            await reindexed(second)
            assert await found_by(manager_of(storage, clock), ASKED) == found
            return sum(one != "[]" for one in found)


@each_backend([MEMORY, attrs.evolve(FILES, nightly=True), SQLITE])
@given(made=st.lists(steps, max_size=25))
def test_an_index_that_follows_is_one_that_is_made_anew(backend: Backend, made: list[Step]) -> None:
    asyncio.run(follow(backend, made))


def test_the_changes_leave_something_to_find() -> None:
    made: list[Step] = [("many", "a", 5, "boat cats", True), ("fork", "a", 2, "", True)]
    made += [("redact", "a", 1, "", True), ("remember", "b", 1, "京都", False)]
    assert asyncio.run(follow(MEMORY, made)) == 3  # bob has nothing, and nobody has the other words
