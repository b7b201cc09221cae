"""The sidebar and the bill: rows of folded summaries, on the embedded backends; servers in the long run."""

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, Page, SessionQuery
from luminoracore_sdk.session import (
    ConversationSummary,
    InMemoryStorage,
    ModelUsage,
    Price,
    RetentionPolicy,
    SessionManager,
    SessionStorage,
    Usage,
)
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.provider import ChatResponse
from luminoracore_sdk.types.session import Message, SessionConfig
from luminoracore_sdk.utils.exceptions import CorruptRecordError, SessionNotFoundError, ValidationError
from tests.support.scripted_provider import Script

pytestmark = pytest.mark.usefixtures("script")

PROVIDER = {"name": "scripted"}
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}}


def counted(text: str, model: str = "m") -> ChatResponse:
    return ChatResponse(text, finish_reason="stop", usage=USAGE, model=model)


async def create(manager: SessionManager, session_id: str, **config: Any) -> None:
    await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": session_id, **config})


async def rows(manager: SessionManager, *args: Any, **query: Any) -> list[ConversationSummary]:
    return (await manager.list_conversations(*args, **query)).conversations


async def names(manager: SessionManager, *args: Any, **query: Any) -> list[str]:
    return [row.session_id for row in await rows(manager, *args, **query)]


async def test_a_row_says_what_a_sidebar_shows(manager: SessionManager, script: Script, clock: ManualClock) -> None:
    created = clock.now()
    await create(
        manager, "s", user_id="u", tags=["t"], title="A title", pinned=True, attributes={"colour": "red", "n": [1]}
    )
    script.answers = [counted("An\n  answer. " + "x" * 300)]
    clock.advance(5)
    await manager.send_message("s", "  A question,\nin two lines ")
    await manager.conversation_manager.append("s", [Message("tool", "a result", metadata={"name": "n"})])
    (row,) = await rows(manager, "u")
    assert row == ConversationSummary(
        session_id="s",
        user_id="u",
        title="A title",
        attributes={"colour": "red", "n": [1]},
        tags=("t",),
        pinned=True,
        first_text="A question, in two lines",
        last_text=("An answer. " + "x" * 300)[:200],
        counters=row.counters,
        message_count=3,
        created_at=created,
        last_activity=clock.now(),
    )
    assert row.messages == {"user": 1, "assistant": 1, "tool": 1}
    assert row.usage == Usage(
        models=(ModelUsage(model="m", input_tokens=100, output_tokens=10, cached_input_tokens=40),)
    )
    assert row.to_dict()["usage"]["input_tokens"] == 100
    session = await manager.get_session("s")
    assert session is not None
    assert (session.config.title, session.config.pinned, session.config.tags) == ("A title", True, ("t",))


async def test_the_header_is_changed_after_creation(manager: SessionManager, clock: ManualClock) -> None:
    await create(manager, "s", tags=["t"])
    (before,) = await rows(manager)
    assert (before.title, before.archived, before.pinned, before.attributes) == (None, False, False, {})
    clock.advance(1)
    assert await manager.update_session("s", title="New", pinned=True, attributes={"a": 1})
    (after,) = await rows(manager)
    assert after == attrs.evolve(
        before, title="New", pinned=True, attributes={"a": 1}, last_activity=after.last_activity
    )
    await manager.update_session("s", title=None, pinned=False, metadata={"x": 1})
    (last,) = await rows(manager)
    assert (last.title, last.pinned, last.attributes, last.tags) == (None, False, {"a": 1}, ("t",))
    assert await manager.update_session("absent", title="x") is False


@pytest.mark.parametrize(
    "change",
    [
        {"title": ""},
        {"title": "x" * 201},
        {"title": "two\nlines"},
        {"title": 5},
        {"attributes": {"a": "x" * 4096}},
        {"attributes": {"api_key": "x"}},
        {"archived": "yes"},
        {"tags": ["luminora:archived"]},
        {"add_tags": ["luminora:archived"]},
        {"add_tags": "text"},
        {"remove_tags": "text"},
        {"config": {"title": "by another way"}},
        {"tags": "old"},
        {"add_tags": "old"},
        {"add_tags": ["luminora:pinned"]},
        {"remove_tags": "old"},
        {"remove_tags": 5},
    ],
)
async def test_a_wrong_header_is_refused(manager: SessionManager, change: dict[str, Any]) -> None:
    await create(manager, "s", tags=["o"])
    with pytest.raises(ValidationError):
        await manager.update_session("s", **change)
    (row,) = await rows(manager)
    assert (row.title, row.tags) == (None, ("o",))


async def test_conversations_are_listed_by_activity_in_pages(manager: SessionManager, clock: ManualClock) -> None:
    for number in range(7):
        await create(manager, f"s{number}", user_id="uv"[number == 3])
        clock.advance(30)
    await manager.conversation_manager.add_message("s1", "user", "I am back")
    expected = ["s1", "s6", "s5", "s4", "s2", "s0"]
    found: list[str] = []
    cursor = None
    while True:
        page = await manager.list_conversations("u", limit=2, cursor=cursor)
        found += [row.session_id for row in page.conversations]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.to_dict()["conversations"]) == 2
    assert found == expected
    assert await names(manager, "u", order="created") == ["s6", "s5", "s4", "s2", "s1", "s0"]
    assert await names(manager) == ["s1", "s6", "s5", "s4", "s3", "s2", "s0"]
    assert (await manager.list_conversations("u", limit=6)).next_cursor is None


async def test_filters_are_combined(manager: SessionManager, clock: ManualClock) -> None:
    for number in range(12):
        flags = {"archived": number % 2 == 0, "pinned": number % 3 == 0}
        await create(manager, f"s{number:02}", tags=["t"] if number < 8 else [], **flags)
        clock.advance(1)

    def expected(keep: Any) -> list[str]:
        return [f"s{number:02}" for number in reversed(range(12)) if keep(number)]

    assert await names(manager) == expected(lambda n: n % 2)
    assert await names(manager, archived=True) == expected(lambda n: n % 2 == 0)
    assert await names(manager, archived=None) == expected(lambda _: True)
    assert await names(manager, archived=None, pinned=True) == expected(lambda n: n % 3 == 0)
    assert await names(manager, archived=False, pinned=False) == expected(lambda n: n % 2 and n % 3)
    assert await names(manager, tag="t", archived=True, pinned=True) == ["s06", "s00"]
    cursor, found = None, []
    while True:  # a page is full although the storage filters by one tag only
        page = await manager.list_conversations(tag="t", archived=True, pinned=False, limit=1, cursor=cursor)
        found += [row.session_id for row in page.conversations]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == ["s04", "s02"]


def as_cursor(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "query",
    [
        {"order": "size"},
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"cursor": "x"},
        {"cursor": 5},
        *(
            {"cursor": as_cursor(text)}
            for text in ("[1]", '[true, "s"]', f'[{10**30}, "s"]', '[1, "\\ud800"]', "[" * 100_000)
        ),
    ],
    ids=lambda query: f"{query!s:.40}",
)
async def test_a_wrong_query_is_refused(manager: SessionManager, query: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        await manager.list_conversations(**query)


class CountsReads(StorageWrapper):
    reads = 0

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.pages: list[int] = []

    async def query_sessions(self, query: SessionQuery) -> Page:
        page = await super().query_sessions(query)
        self.pages.append(len(page.sessions))
        return page

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        self.reads += 1
        return await super().read_messages(session_id, span)


async def test_a_page_reads_no_message(script: Script) -> None:
    storage = CountsReads(InMemoryStorage())
    async with SessionManager(storage) as manager:
        for number in range(3):
            await create(manager, f"s{number}", user_id="u")
            await manager.send_message(f"s{number}", "Hello")
        storage.reads = 0
        assert [row.last_text for row in await rows(manager, "u")] == ["An answer."] * 3
        assert (await manager.usage(user_id="u")).input_tokens == 0
        assert storage.reads == 0


async def test_a_rare_combination_of_filters_is_looked_for_in_large_pages(clock: ManualClock) -> None:
    storage = CountsReads(InMemoryStorage(clock=clock))
    async with SessionManager(storage) as manager:
        for number in range(30):
            await create(manager, f"s{number}", tags=["t"], archived=number == 0, pinned=number < 2)
            clock.advance(1)
        assert await names(manager, tag="t", archived=None, pinned=True, limit=1) == ["s1"]
        assert storage.pages == [1]
        storage.pages.clear()
        assert await names(manager, tag="t", archived=True, limit=1) == ["s0"]
        assert storage.pages == [1, 29]


async def test_the_summary_follows_every_change_of_the_past(manager: SessionManager, script: Script) -> None:
    await create(manager, "s")
    script.answers = [counted(f"Answer {number}") for number in range(1, 20)]

    async def row() -> tuple[str | None, str | None, int]:
        (found,) = await rows(manager)
        assert found.message_count == sum(found.messages.values())
        return found.first_text, found.last_text, found.message_count

    await manager.send_message("s", "Question 1")
    await manager.send_message("s", "Question 2")
    assert await row() == ("Question 1", "Answer 2", 4)
    await manager.regenerate("s")
    assert await row() == ("Question 1", "Answer 3", 4)
    first, answer, second, _ = await manager.conversation_manager.get_messages("s")
    await manager.edit_message("s", second.id or "", "Question two")
    assert await row() == ("Question 1", "Answer 4", 4)
    edited = (await manager.conversation_manager.get_messages("s"))[2]
    await manager.choose("s", edited.id or "", 0)
    assert await row() == ("Question 1", "Answer 3", 4)
    await manager.annotate("s", first.id or "", {"rating": 5})
    assert await row() == ("Question 1", "Answer 3", 4)
    await manager.redact("s", first.id or "")
    assert await row() == (None, "Answer 3", 4)
    await manager.rewind("s", answer.id or "")
    assert await row() == (None, None, 2)
    await manager.send_message("s", "Question 3")
    assert await row() == (None, "Answer 5", 4)  # the first question was another one
    third = (await manager.conversation_manager.get_messages("s"))[2]
    await manager.delete_messages("s", [third.id or ""])
    assert await row() == (None, "Answer 5", 4)  # a deleted message has a position
    await manager.clear_conversation("s")
    assert await row() == (None, None, 0)
    # five answers were made, one of them chosen back: each is in the bill once
    assert (await manager.usage("s")).output_tokens == 50


@pytest.mark.parametrize("way", ["redact", "redact in an alternative", "delete_messages", "apply_retention"])
async def test_a_later_question_is_not_taken_for_the_first_that_was_removed(
    manager: SessionManager, script: Script, way: str
) -> None:
    await create(manager, "s")
    script.answers = [f"Answer {number}" for number in range(1, 4)]
    for number in (1, 2):
        await manager.send_message("s", f"Question {number}")
    first = (await manager.conversation_manager.get_messages("s"))[0].id or ""
    if way == "redact":
        await manager.redact("s", first)
        await manager.annotate("s", first, {"by": "Ada"})
    elif way == "redact in an alternative":
        await manager.edit_message("s", first, "Other question")
        await manager.redact("s", first)
        other = (await manager.conversation_manager.get_messages("s"))[0].id or ""
        await manager.choose("s", other, 0)
    elif way == "delete_messages":
        await manager.delete_messages("s", [first])
    else:
        await manager.apply_retention(RetentionPolicy(max_messages=3))
    await manager.send_message("s", "Question 3")
    (row,) = await rows(manager)
    assert (row.first_text, row.last_text) == (None, "Answer 3")
    for at, last in ((5, "Question 3"), (2, "Answer 1"), (1, None)):
        await manager.fork("s", at, new_session_id=f"fork at {at}")
        fork = next(row for row in await rows(manager) if row.session_id == f"fork at {at}")
        assert (fork.first_text, fork.last_text) == (None, last)


async def test_the_bill_is_by_day_and_model(manager: SessionManager, script: Script, clock: ManualClock) -> None:
    days: list[date] = []
    for number, model in enumerate(("cheap", "dear", "cheap")):
        await create(manager, f"s{number}", user_id="uv"[number == 2])
        script.answers = [counted("Answer", model)]
        await manager.send_message(f"s{number}", "Question")
        script.answers = [counted("Answer", "dear")]
        await manager.send_message(f"s{number}", "Question")
        days.append(clock.now().date())
        clock.advance(86_400)
    prices = {"cheap": Price(input=1, output=1), "dear": Price(input=10, output=20, cached_input=5)}
    assert (await manager.usage()).input_tokens == 600
    of_user = await manager.usage(user_id="u")
    assert [(one.model, one.input_tokens) for one in of_user.models] == [("cheap", 100), ("dear", 300)]
    assert of_user.cost(prices) == Decimal("0.00011") + 3 * Decimal("0.001")
    assert (await manager.usage("s0")).output_tokens == 20
    assert (await manager.usage(since=days[1])).output_tokens == 40
    assert (await manager.usage("s0", since=days[1])) == Usage()
    assert (await manager.usage(until=days[1], user_id="u")).output_tokens == 20
    with pytest.raises(SessionNotFoundError):
        await manager.usage("absent")
    with pytest.raises(SessionNotFoundError):
        await manager.usage("s0", user_id="v")
    with pytest.raises(ValidationError):
        await manager.usage(since=datetime.now(UTC))
    with pytest.raises(ValidationError):
        await manager.usage(until="2026-01-01")  # type: ignore[arg-type]


async def test_any_answer_may_be_the_first_of_its_session(manager: SessionManager) -> None:
    for number in range(200):  # some of these ids make an append look for counters to fold
        answer = Message("assistant", "x", metadata={"model": "m", "usage": USAGE}, id=f"answer {number}")
        await manager.conversation_manager.add_message(f"s{number}", answer)
    assert (await manager.usage()).output_tokens == 10 * 200


async def test_the_bill_of_years_stays_small(
    manager: SessionManager, storage: SessionStorage, clock: ManualClock
) -> None:
    await create(manager, "s")
    began, day = clock.now().date(), timedelta(days=1)
    most = 0
    for number in range(3 * 365):
        answers = [
            Message("assistant", "x", metadata={"model": model, "usage": USAGE}, id=f"{number} {model}")
            for model in ("cheap", "dear")
        ]
        await manager.conversation_manager.append("s", answers)
        if number % 100 == 0:
            header = await storage.find_session("s")
            assert header is not None
            most = max(most, len(header.summary.counters))
        clock.advance(86_400)
    today = clock.now().date()
    assert (await manager.usage("s")).output_tokens == 2 * 10 * 3 * 365
    # last month and this one by day, last year and this one by month; and the days since the last folding
    assert most < 2 * 3 * (62 + 24 + 200)
    for since in (today - 40 * day, today.replace(day=1), today.replace(month=1, day=1)):
        assert (await manager.usage("s", since=since)).output_tokens == 2 * 10 * (today - since).days
    year = date(began.year + 1, 1, 1)
    assert (await manager.usage("s", until=year)).output_tokens == 2 * 10 * (year - began).days


@pytest.fixture
async def unsaved(storage: SessionStorage) -> AsyncIterator[SessionManager]:
    async with SessionManager(storage) as manager:
        yield manager


async def test_an_unsaved_session_is_summed_up_once_it_is_saved(
    storage: SessionStorage, unsaved: SessionManager, script: Script
) -> None:
    config = SessionConfig(session_id="s", auto_save=False, title="Unsaved")
    await unsaved.create_session({"name": "Ada"}, PROVIDER, config)
    script.answers = [counted(f"Answer {number}") for number in range(1, 20)]
    await unsaved.send_message("s", "Question 1")
    await unsaved.regenerate("s")
    async with SessionManager(storage) as other:
        assert await rows(other) == []
        (mine,) = await rows(unsaved)
        assert (mine.last_text, mine.usage.output_tokens) == ("Answer 2", 20)
        await unsaved.save_session("s")
        assert (await rows(other))[0].usage == mine.usage  # the answer that was replaced is in the bill
        await unsaved.send_message("s", "Question 2")
        await unsaved.rewind("s", 2)
        await unsaved.send_message("s", "Question 3")
        await unsaved.save_session("s")
        await unsaved.save_session("s")
        (saved,) = await rows(other)
    assert (saved.title, saved.first_text, saved.last_text) == ("Unsaved", "Question 1", "Answer 4")
    assert saved.usage.output_tokens == 40


async def test_every_answer_replaced_before_it_is_saved_is_in_the_bill(
    storage: SessionStorage, unsaved: SessionManager, script: Script
) -> None:
    await unsaved.create_session({"name": "Ada"}, PROVIDER, SessionConfig(session_id="s", auto_save=False))
    script.answers = [counted("An answer.")]
    await unsaved.send_message("s", "Question")
    await unsaved.save_session("s")
    await unsaved.regenerate("s")
    await unsaved.regenerate("s")
    await unsaved.clear_conversation("s")
    await unsaved.send_message("s", "Question")
    await unsaved.clear_conversation("s")
    await unsaved.send_message("s", "Question")
    assert (await unsaved.usage("s")).output_tokens == 50
    await unsaved.save_session("s")
    async with SessionManager(storage) as other:
        assert (await other.usage("s")).output_tokens == 50


async def test_an_unsaved_fork_has_used_nothing(
    storage: SessionStorage, unsaved: SessionManager, script: Script
) -> None:
    await unsaved.create_session({"name": "Ada"}, PROVIDER, SessionConfig(session_id="s", auto_save=False))
    script.answers = [counted("An answer.")]
    await unsaved.send_message("s", "Question")
    fork = await unsaved.fork("s")
    fork_of_fork = await unsaved.fork(fork)
    for session_id in ("s", fork, fork_of_fork):
        await unsaved.save_session(session_id)
    async with SessionManager(storage) as other:
        assert [(await other.usage(one)).output_tokens for one in ("s", fork, fork_of_fork)] == [10, 0, 0]
        (_, _, row) = sorted(await rows(other), key=lambda row: row.created_at)
        assert (row.last_text, row.messages) == ("An answer.", {"user": 1, "assistant": 1})


async def test_a_damaged_card_is_an_error(script: Script) -> None:
    storage = InMemoryStorage()
    async with SessionManager(storage) as manager:
        await create(manager, "s", title="A title")
        record = await storage.find_session("s")
        assert record is not None
        assert record.card is not None
        for data in (b"{", b"[]", b'{"attributes": 5}'):
            await storage.put_session(attrs.evolve(record, card=attrs.evolve(record.card, data=data)))
            with pytest.raises(CorruptRecordError):
                await manager.list_conversations()
