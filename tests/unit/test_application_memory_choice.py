"""Which memories go into a prompt."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.application.memory_choice import MemoryChoice, question_of
from luminoracore_sdk.application.ports.searching import Search
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig
from luminoracore_sdk.session import SessionManager, create_storage
from luminoracore_sdk.testing import ManualClock
from tests.support.backends import MEMORY_OR_SERVERS, marks
from tests.support.recall import searched
from tests.support.scripted_provider import scripted

NOW = ManualClock().now()
SEARCH = Search(analyzer=make_analyzer())
THINGS = ("river", "guitar", "doctor", "garden", "bicycle", "computer", "holiday", "library", "airport", "chocolate")


class Words:
    """Counts words, and how often it was asked."""

    asked = 0

    def count(self, text: str) -> int:
        self.asked += 1
        return len(text.split())


def entry(key: str, value: Any = "", *, importance: float = 1.0, age_seconds: float = 0) -> MemoryEntry:
    time = NOW - timedelta(seconds=age_seconds)
    return MemoryEntry(key=key, value=value, created_at=time, updated_at=time, importance=importance)


def session(**config: Any) -> Session:
    return Session(
        session_id="s",
        personality={},
        provider=None,
        config=SessionConfig(**config),
        created_at=NOW,
        last_activity=NOW,
    )


def asking(text: str) -> list[Message]:
    return [Message("user", text)]


ENTRIES = [entry(f"thing {number}", f"the {THINGS[number]} is blue", age_seconds=100 - number) for number in range(10)]
"""Ten memories of six words each; later ones are newer."""


async def keys(choice: MemoryChoice, question: str, entries: list[MemoryEntry] = ENTRIES, **config: Any) -> list[str]:
    chosen = await choice.choose(session(**config), entries, asking(question))
    return [f"+{one.key}" for one in chosen.always] + [one.key for one in chosen.recalled]


def choice_of(**config: Any) -> MemoryChoice:
    return MemoryChoice(MemoryConfig(**{"prompt_minimum": 2, "prompt_share": 0.5, **config}), Words(), SEARCH)


async def test_the_newest_important_ones_and_those_that_are_recalled() -> None:
    found = await keys(choice_of(), "Where are the guitar and the river?", context_window_size=60)
    assert found == ["+thing 8", "+thing 9", "thing 0", "thing 1"]


async def test_what_is_always_sent_is_not_recalled_again() -> None:
    found = await keys(choice_of(), "Where are the chocolate and the river?", context_window_size=60)
    assert found == ["+thing 8", "+thing 9", "thing 0"]


async def test_the_best_fill_the_share() -> None:
    found = await keys(choice_of(), "Which river and which guitar are blue?", context_window_size=60)
    assert found == ["+thing 8", "+thing 9", "thing 0", "thing 1", "thing 2"]


async def test_one_that_does_not_fit_makes_room_for_smaller_ones() -> None:
    long = entry("river", "river river river " + "so " * 50, age_seconds=500)
    found = await keys(choice_of(), "river", [long, *ENTRIES], context_window_size=60)
    assert found == ["+thing 8", "+thing 9", "thing 0"]


async def test_the_minimum_goes_in_whatever_its_size() -> None:
    assert await keys(choice_of(), "river", context_window_size=4) == ["+thing 8", "+thing 9"]
    assert await keys(choice_of(prompt_minimum=0), "river", context_window_size=16) == ["thing 0"]


async def test_importance_decides_before_time() -> None:
    entries = [entry("old", "x " * 9, importance=1.0, age_seconds=5), *(entry(f"k{n}", "x " * 9) for n in range(2))]
    changed = [attrs.evolve(one, importance=0.9) if one.key == "k1" else one for one in entries]
    assert await keys(choice_of(), "?", changed, context_window_size=20) == ["+old", "+k0"]


@pytest.mark.parametrize("decay_factor", [0.0, 0.1, 1.0])
async def test_of_equal_ones_the_first_are_always_sent(decay_factor: float) -> None:
    entries = [entry(f"k{number}", "x " * 9) for number in range(5)]
    found = await keys(choice_of(decay_factor=decay_factor), "?", entries, context_window_size=20)
    assert found == ["+k0", "+k1"]


async def test_few_memories_cost_nothing() -> None:
    words = Words()
    choice = MemoryChoice(MemoryConfig(prompt_minimum=10), words, SEARCH)
    chosen = await choice.choose(session(context_window_size=4), ENTRIES, asking("river"))
    assert (chosen.always, words.asked) == (ENTRIES, 0)


async def test_all_go_in_if_they_fit() -> None:
    chosen = await choice_of().choose(session(context_window_size=120), ENTRIES, asking("river"))
    assert (chosen.always, chosen.recalled) == (ENTRIES, ())
    assert len((await choice_of().choose(session(context_window_size=118), ENTRIES, asking("?"))).always) == 2


async def test_what_was_analyzed_is_not_analyzed_again() -> None:
    words = Words()
    choice = MemoryChoice(MemoryConfig(prompt_minimum=2), words, SEARCH)
    for question in ("river", "guitar"):
        await keys(choice, question, context_window_size=60)
    assert words.asked == len(ENTRIES)
    await keys(choice, "river", [*ENTRIES[:9], entry("thing 9", "other")], context_window_size=60)
    assert words.asked == len(ENTRIES) + 1


async def test_what_was_changed_and_removed_is_followed() -> None:
    choice = choice_of()
    size = {"context_window_size": 60}
    assert await keys(choice, "river", **size) == ["+thing 8", "+thing 9", "thing 0"]  # type: ignore[arg-type]
    moved = [attrs.evolve(ENTRIES[3], value="the river is blue") if one is ENTRIES[3] else one for one in ENTRIES[1:]]
    assert await keys(choice, "river", moved, **size) == ["+thing 8", "+thing 9", "thing 3"]
    # 30 words: what is left fits
    assert await keys(choice, "river", ENTRIES[:5], **size) == [f"+thing {number}" for number in range(5)]


async def test_a_choice_does_not_depend_on_what_was_before() -> None:
    used, questions = choice_of(), ("river guitar", "blue", "the doctor in the garden", "?")
    for end in (10, 7, 9, 10):
        for question in questions:
            here = await keys(used, question, ENTRIES[:end], context_window_size=60)
            assert here == await keys(choice_of(), question, ENTRIES[:end], context_window_size=60)


async def test_another_decay_factor_is_followed() -> None:
    entries = [
        entry("old", "x " * 9, age_seconds=86400 * 300),
        *(entry(f"k{n}", "x " * 9, importance=0.9) for n in "ab"),
    ]
    choice, size = choice_of(), 20
    assert await keys(choice, "?", entries, context_window_size=size) == ["+ka", "+kb"]
    found = await keys(choice, "?", entries, context_window_size=size, memory_decay_factor=0.0)
    assert found == ["+old", "+ka"]


async def test_sessions_make_room_for_others() -> None:
    words = Words()
    choice = MemoryChoice(MemoryConfig(prompt_minimum=2), words, SEARCH, kept=25)
    small = session(context_window_size=4)
    for session_id in ("a", "b", "a", "c", "a", "b"):  # b is forgotten for c
        await choice.choose(attrs.evolve(small, session_id=session_id), ENTRIES, asking("river"))
    assert words.asked == 4 * len(ENTRIES)


async def test_a_hundred_are_recalled_at_most() -> None:
    entries = [entry(f"k{number}", "river") for number in range(300)]
    chosen = await choice_of().choose(session(context_window_size=600), entries, asking("river"))
    assert (len(chosen.always), len(chosen.recalled)) == (2, 100)


async def test_turns_of_many_sessions_at_once_choose_alike() -> None:
    choice, first = choice_of(), session(context_window_size=60)
    chosen = await asyncio.gather(
        *(
            choice.choose(attrs.evolve(first, session_id=str(number % 5)), ENTRIES, asking("river"))
            for number in range(50)
        )
    )
    assert {tuple(one.key for one in each.recalled) for each in chosen} == {("thing 0",)}


def test_the_question_is_that_of_the_turn_in_progress() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = [
        Message("user", "earlier"),
        Message("assistant", "yes"),
        Message("user", [{"type": "text", "text": "the question"}]),
        Message("assistant", "", metadata={"tool_calls": [call]}),
        Message("tool", "the result", metadata={"tool_call_id": "c"}),
    ]
    assert question_of(turn) == question_of(turn[:3]) == "the question"
    assert question_of([]) == ""


@pytest.mark.parametrize(
    "config", [{"prompt_share": 1.1}, {"prompt_share": "0.5"}, {"prompt_minimum": -1}, {"prompt_minimum": 0.5}], ids=str
)
def test_settings_out_of_range_are_refused(config: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(config))):
        MemoryConfig(**config)


# -- prompts -----------------------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param(backend, id=backend.name, marks=marks(backend)) for backend in MEMORY_OR_SERVERS])
async def manager(request: pytest.FixtureRequest) -> AsyncIterator[SessionManager]:
    with request.param.place() as make:
        storage, config = searched(make(SystemClock())), MemoryConfig(prompt_minimum=2)
        async with storage, SessionManager(storage, memory_config=config) as manager:
            yield manager


async def test_what_is_recalled_stands_before_the_question(manager: SessionManager) -> None:
    with scripted() as script:
        settings = {"user_id": "u", "context_window_size": 400}
        session_id = await manager.create_session({"name": "Ada"}, {"name": "scripted"}, settings)
        user = manager.for_user("u")
        for number in range(40):
            await user.store_memory(f"thing {number}", f"the {THINGS[number % 10]} is number {number}")
        answers = [
            await manager.send_message(session_id, f"Where is the {thing}?", context="today is Monday")
            for thing in ("river", "guitar")
        ]
        first, second = script.prompts
    assert [role for role, _ in first] == ["system", "system", "user"]
    assert "thing 39" in first[0][1]
    assert "river" not in first[0][1]
    assert first[1][1].startswith("What you remember")
    assert "the river is number 10" in first[1][1]
    assert first[1][1].endswith("\n\ntoday is Monday")
    assert second[0] == first[0]  # the beginning stays in the provider's cache
    assert second[1:3] == [("user", "Where is the river?"), ("assistant", "An answer.")]
    assert "the guitar is number 1" in second[3][1]
    stored = await manager.conversation_manager.get_messages(session_id)
    assert [message.content for message in stored] == [
        *("Where is the river?", "An answer."),
        *("Where is the guitar?", "An answer."),
    ]
    words = sum(len(str(content).split()) for _, content in first)
    assert answers[0].provider_metadata["prompt"]["tokens"] >= words  # what is recalled is counted


async def test_with_few_memories_the_prompt_is_as_without_search(manager: SessionManager) -> None:
    prompts = []
    async with create_storage("memory://") as plain, SessionManager(plain) as without:
        for one in (manager, without):
            with scripted() as script:
                session_id = await one.create_session({"name": "Ada"}, {"name": "scripted"})
                for number in range(8):
                    await one.memory_manager.store_memory(session_id, f"k{number}", THINGS[number])
                await one.send_message(session_id, "hello")
                prompts.append(script.prompts)
    assert prompts[0] == prompts[1]
