"""Recall and what it is given: any text, wrong arguments, filters, and the sessions of others."""

import asyncio
import gc
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.session import (
    InMemoryStorage,
    MemoryEntry,
    Message,
    SessionManager,
    SessionStorage,
    create_storage,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.session import MemoryConfig
from luminoracore_sdk.utils.exceptions import ConfigurationError, ValidationError
from tests.support.recall import Meanwhile, manager_of, searched

START = datetime(2026, 5, 8, 9, tzinfo=UTC)


@pytest.fixture
async def storage(clock: ManualClock) -> AsyncIterator[SessionStorage]:
    async with searched(InMemoryStorage(clock=clock)) as opened:
        yield opened


@pytest.fixture
async def manager(storage: SessionStorage, clock: ManualClock) -> SessionManager:
    """Two users with a session of six messages each, one an hour, and a memory."""
    made = manager_of(storage, clock)
    for session_id, user_id in (("a", "ada"), ("b", "bob")):
        clock.set(START)
        await made.create_session({"name": "A"}, {"name": "echo"}, {"session_id": session_id, "user_id": user_id})
        for number, role in enumerate(("user", "assistant") * 3):
            clock.set(START + timedelta(hours=number))
            await made.conversation_manager.add_message(session_id, role, f"boat {number} of {user_id}")
        await made.memory_manager.store_memory(session_id, "boat", f"the boat of {user_id}", scope="user")
        await made.memory_manager.store_memory(session_id, "boat", f"a boat in {session_id}")
    return made


@pytest.mark.parametrize(
    "query", ["", " \t\n", "?! … —", "\0", "\ud800", "the of and", "x" * 10_000, "nothing like it"]
)
async def test_a_query_without_a_known_word_finds_nothing(manager: SessionManager, query: str) -> None:
    assert await manager.recall(query) == []
    assert await manager.recall(query, user_id="ada") == []


@pytest.mark.parametrize(
    "query",
    [
        *(
            "boat",
            "BOATS",
            "boat AND",
            "boat AND NOT boat",
            '"boat',
            "boat*",
            "-boat",
            "boat NEAR/2 ada",
            "(boat",
            "^boat",
        ),
        *("boat\0", "\ud800boat", "{boat}:", "boat' OR 1=1 --", "boat " * 2_000, "$where boat", "[boat]", "\\boat"),
    ],
)
async def test_a_query_has_no_operators(manager: SessionManager, query: str) -> None:
    hits = await manager.recall(query, user_id="ada", limit=100)
    assert len(hits) == 7
    assert {(hit.session_id or "user", hit.kind) for hit in hits} == {("a", "message"), ("user", "memory")}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a query that is no string": ({"query": 7}, "a query is a string, not int"),
    "no query": ({"query": None}, "a query is a string, not NoneType"),
    "bytes": ({"query": b"boat"}, "a query is a string, not bytes"),
    "a negative limit": ({"limit": -1}, "limit must be a whole number of at least 0"),
    "a limit of True": ({"limit": True}, "limit must be a whole number"),
    "negative tokens": ({"max_tokens": -1}, "max_tokens must be"),
    "a negative range": ({"around": -1}, "around must be"),
    "an unknown kind": ({"kinds": ["messages"]}, "kinds are of 'message' and 'memory'"),
    "one kind as a string": ({"kinds": "message"}, "kinds must be a list, not str"),
    "no limit": ({"limit": None}, "limit and around must be whole numbers"),
    "no range": ({"around": None}, "limit and around must be whole numbers"),
    "kinds that are no list": ({"kinds": 7}, "kinds must be a list, not int"),
    "a kind that is a list": ({"kinds": [["message"]]}, "kinds are of"),
    "a generator of kinds": ({"kinds": (kind for kind in ("message",))}, "kinds must be a list, not generator"),
    "no kinds": ({"kinds": None}, "kinds must be a list, not NoneType"),
    "an unknown role": ({"roles": ["bot"]}, "role 'bot' is not one of: user, assistant, system, tool"),
    "roles that are no list": ({"roles": 7}, "roles must be a list, not int"),
    "one role as a string": ({"roles": "user"}, "roles must be a list, not str"),
    "one session as a string": ({"session_ids": "a"}, "session_ids must be a list, not str"),
    "one session as a number": ({"session_ids": 7}, "session_ids must be a list, not int"),
    "a number among sessions": ({"user_id": "ada", "session_ids": ["a", 7]}, "session id"),
    "one time": ({"between": (START,)}, "between must be two times"),
    "a time alone": ({"between": START}, "between must be two times"),
    "an empty id": ({"session_ids": [""]}, "session id"),
    "a naive time": ({"between": (datetime(2026, 5, 8), None)}, "naive"),  # noqa: DTZ001
    "a time that is none": ({"between": ("2026-05-08", None)}, "a time must be a datetime"),
    "an empty user": ({"user_id": ""}, "user id"),
    "the store itself": ({"user_id": STORE_OWNER}, "reserved"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
async def test_a_wrong_argument_is_refused(manager: SessionManager, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await manager.recall(**{"query": "boat", **arguments})


async def test_search_that_is_off_is_an_error() -> None:
    for storage in (InMemoryStorage(), create_storage("memory://")):
        with pytest.raises(
            ConfigurationError, match=r'search is off; switch it on with create_storage\(…, search="text"\)'
        ):
            await SessionManager(storage).recall("boat")


async def test_filters_narrow_what_is_found(manager: SessionManager) -> None:
    async def found(**arguments: Any) -> list[str]:
        hits = await manager.recall("boat", user_id="ada", limit=100, **arguments)
        return sorted(hit.text.removeprefix("boat ").removesuffix(" of ada") for hit in hits)

    memory = "the boat"
    assert await found() == ["0", "1", "2", "3", "4", "5", memory]
    assert await found(kinds=["message"]) == ["0", "1", "2", "3", "4", "5"]
    assert await found(kinds=["memory"]) == [memory]
    assert await found(kinds=[]) == []
    assert await found(roles=["assistant"], kinds=["message"]) == ["1", "3", "5"]
    assert await found(roles=["system"], kinds=["message"]) == []
    assert await found(between=(START + timedelta(hours=1), START + timedelta(hours=3))) == ["1", "2"]
    assert await found(between=(None, START + timedelta(hours=1))) == ["0"]
    assert await found(between=(START + timedelta(hours=5), None)) == ["5", memory]
    assert await found(between=(START + timedelta(hours=3), START + timedelta(hours=1))) == []
    assert await found(session_ids=["a"]) == ["0", "1", "2", "3", "4", "5"]
    assert await found(session_ids=["b"]) == []
    assert await found(session_ids=[]) == []


async def test_sessions_without_a_user_have_their_memories(manager: SessionManager) -> None:
    hits = await manager.recall("boat", session_ids=["b", "absent"], limit=100)
    assert {(hit.session_id, hit.kind) for hit in hits} == {("b", "message"), ("b", "memory")}
    assert len(hits) == 7
    assert await manager.recall("boat", session_ids=[]) == []
    everything = await manager.recall("boat", limit=100)
    assert [hit.kind for hit in everything] == ["message"] * 12


async def test_limits_and_tokens_bound_what_is_returned(manager: SessionManager) -> None:
    whole = await manager.recall("boat", user_id="ada", limit=100)
    assert await manager.recall("boat", user_id="ada", limit=2) == whole[:2]
    assert await manager.recall("boat", user_id="ada", limit=0) == []
    assert await manager.recall("boat", user_id="ada", limit=100, max_tokens=0) == []
    bounded = await manager.recall("boat", user_id="ada", limit=100, max_tokens=9)
    assert 0 < len(bounded) < len(whole)
    assert bounded == [hit for hit in whole if hit in bounded]


async def test_messages_around_a_hit_come_with_it(manager: SessionManager) -> None:
    (hit,) = await manager.recall("boat 2", session_ids=["a"], kinds=["message"], limit=1, around=1)
    assert [message.content for message in hit.around] == ["boat 1 of ada", "boat 2 of ada", "boat 3 of ada"]
    (hit,) = await manager.recall("boat 0", session_ids=["a"], kinds=["message"], limit=1, around=99)
    assert [message.position for message in hit.around] == [1, 2, 3, 4, 5, 6]
    (hit,) = await manager.recall("boat 0", session_ids=["a"], kinds=["message"], limit=1)
    assert hit.around == ()


async def test_the_parts_of_a_score_add_up_to_it(manager: SessionManager) -> None:
    hits = await manager.recall("boat 2", user_id="ada", explain=True)
    for hit in hits:
        part: dict[str, Any] = dict(hit.parts)
        if hit.kind == "memory":
            total = (part["text"] + part["similarity"]) * part["memory"]
        else:
            total = part["text"] + part["similarity"] + part["neighbours"] + part["session"] + part["dates"]
        assert hit.score == pytest.approx(total * part["recency"] * part["importance"])
        assert part["text"] == pytest.approx(sum(part["terms"].values()))
    assert {hit.kind for hit in hits} == {"memory", "message"}
    assert all(hit.parts == {} for hit in await manager.recall("boat 2", user_id="ada"))


async def test_tenants_are_apart(storage: SessionStorage, clock: ManualClock) -> None:
    manager = manager_of(storage, clock)
    owners = [("ada", None), ("ada", "one"), ("ada", "two"), ("bob", "one")]
    for number, (user, tenant) in enumerate(owners):
        handle = manager.for_user(user, tenant)
        await handle.create_session({"name": "A"}, {"name": "echo"}, {"session_id": f"s{number}"})
        await handle.send_message(f"s{number}", f"boat of owner{number}")
        await handle.store_memory("boat", f"owner{number}")
    for number, (user, tenant) in enumerate(owners):
        hits = await manager.for_user(user, tenant).recall("boat owner0 owner1 owner2 owner3", limit=100)
        assert [hit.kind for hit in hits].count("memory") == 1
        assert len(hits) == 3
        assert all(f"owner{number}" in hit.text for hit in hits)
        others = [f"s{other}" for other in range(4) if other != number]
        assert await manager.for_user(user, tenant).recall("boat", session_ids=others) == []


@pytest.mark.parametrize("moment", ["before read_index", "after read_index", "before read_messages"])
async def test_the_message_of_a_sessions_next_owner_is_not_returned(clock: ManualClock, moment: str) -> None:
    base = Meanwhile(InMemoryStorage(clock=clock))
    manager = manager_of(searched(base), clock)

    async def write(user_id: str, text: str) -> None:
        clock.advance(1)
        await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s", "user_id": user_id})
        await manager.conversation_manager.append("s", [Message("user", f"{text} {number}") for number in range(3)])

    async def swap() -> None:
        await manager.delete_session("s")
        await write("bob", "secret boat of bob")

    await write("ada", "boat of ada")
    assert len(await manager.for_user("ada").recall("boat", around=1)) == 3
    base.happens[moment] = swap
    fresh = manager_of(searched(base), clock).for_user("ada")
    assert await fresh.recall("boat", around=1) == []
    assert base.happens == {}
    assert await manager.for_user("ada").recall("boat secret") == []
    assert len(await manager.for_user("bob").recall("secret")) == 3


def remembered() -> set[object]:
    """Return the values of all memories that this process holds."""
    gc.collect()
    return {found.value for found in gc.get_objects() if type(found) is MemoryEntry and isinstance(found.value, str)}


def cached_texts() -> list[str]:
    """Return the strings in the ordered dictionaries of this process."""
    dictionaries = [found for found in gc.get_objects() if type(found) is OrderedDict]
    return [text for found in dictionaries for pair in found.items() for text in pair if type(text) is str]


async def test_an_erased_user_is_forgotten_in_this_process_too(manager: SessionManager) -> None:
    handle = manager.for_user("ada")
    assert len(await handle.recall("boat", limit=100)) == 7
    assert len(await manager.recall("boat", user_id="ada", limit=100)) == 7
    assert "the boat of ada" in remembered()
    await manager.erase_user("ada")
    assert "the boat of ada" not in remembered()
    assert await manager.recall("boat", user_id="ada") == []
    assert {hit.session_id for hit in await manager.recall("boat")} == {"b"}


async def test_memories_of_prompts_are_forgotten_with_an_erased_user() -> None:
    manager = SessionManager(searched(InMemoryStorage()), memory_config=MemoryConfig(prompt_minimum=1))
    user = manager.for_user("ada")
    session_id = await user.create_session({"name": "A"}, {"name": "echo"})
    for number in range(3):
        await user.store_memory(str(number), f"berth {number} of ada")
    await user.send_message(session_id, "Where is my boat?")
    assert "berth 1 of ada" in remembered()
    assert any("berth 1 of ada" in text for text in cached_texts())
    await manager.erase_user("ada")
    await asyncio.sleep(0)  # asyncio holds the result of the last call
    assert "berth 1 of ada" not in remembered()
    assert not any("berth 1 of ada" in text for text in cached_texts())
