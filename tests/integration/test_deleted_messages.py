"""``delete_messages``: nothing of a deleted message is left to any reader, and nothing else changes."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.exchange.export_import import Outcome, SessionExchange
from luminoracore_sdk.application.exchange.formats import ParsedSession
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, Payload, TailReceipt, TurnRecords
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.session import ConversationManager, InMemoryStorage, Message, SessionManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import json_payload, message_record
from luminoracore_sdk.utils.exceptions import (
    ConflictError,
    MessageNotFoundError,
    SessionExistsError,
    SessionNotFoundError,
    TurnInterruptedError,
    ValidationError,
)
from tests.support.backends import (
    EMBEDDED,
    FILES,
    MEMORY,
    SERVERS_LATER,
    SQLITE,
    Backend,
    backend_fixture,
    encrypted,
    optimized,
)
from tests.support.exchange import reader
from tests.support.scripted_provider import Script

BACKENDS = [*EMBEDDED, *(optimized(encrypted(backend)) for backend in (FILES, SQLITE)), *SERVERS_LATER]

pytestmark = pytest.mark.usefixtures("script")

DELETED = {"deleted": True}


backend = backend_fixture(BACKENDS)


@pytest.fixture
async def local(services: Services, clock: ManualClock) -> AsyncIterator[SessionManager]:
    """A manager over a storage in memory."""
    async with InMemoryStorage(clock=clock) as storage, SessionManager(storage, services=services) as manager:
        yield manager


async def fill(manager: SessionManager, count: int, **config: Any) -> list[Message]:
    """Create the session ``s`` with messages of the ids m1, m2 …; return them."""
    await manager.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s", **config})
    roles = ("user", "assistant")
    messages = [Message(roles[number % 2], f"secret {number + 1}", id=f"m{number + 1}") for number in range(count)]
    return await manager.conversation_manager.append("s", messages) if count else []


async def ids(messages: Awaitable[list[Message]]) -> list[str | None]:
    return [message.id for message in await messages]


async def stored(manager: SessionManager) -> list[MessageRecord]:
    return await manager.storage.read_messages("s", MessageRange())


# -- what is left ----------------------------------------------------------------------------------


async def test_a_message_in_the_middle_leaves_id_role_time_and_position(
    manager: SessionManager, script: Script
) -> None:
    before = await fill(manager, 4)
    await manager.annotate("s", "m2", {"note": "secret note"})
    records = await stored(manager)
    assert await manager.delete_messages("s", ["m2"]) == 1
    after = await stored(manager)
    assert [attrs.evolve(record, payload=old.payload) for record, old in zip(after, records, strict=True)] == records
    assert [after[place] for place in (0, 2, 3)] == [records[place] for place in (0, 2, 3)]
    assert after[1].payload == json_payload({"v": 2, "content": "", "metadata": DELETED})
    conversations = manager.conversation_manager
    left = [message for message in before if message.id != "m2"]
    assert await conversations.get_messages("s") == left
    assert await conversations.get_message_count("s") == 3
    assert [message async for message in conversations.stream_messages("s")] == left
    conversation = await manager.get_conversation("s")
    assert conversation is not None
    assert conversation.messages == left
    assert await ids(conversations.search_messages("s", "secret")) == ["m1", "m3", "m4"]
    assert await ids(conversations.get_messages_by_role("s", "assistant")) == ["m4"]
    summary, stats = await conversations.get_conversation_summary("s"), await conversations.get_conversation_stats("s")
    assert summary is not None
    assert stats is not None
    assert (summary["total_messages"], summary["assistant_messages"]) == (3, 1)
    assert (stats["total_messages"], stats["total_characters"]) == (3, 3 * len("secret 1"))
    await manager.send_message("s", "And now?")
    assert [word in str(script.prompts) for word in ("secret 2", "secret 3", "note")] == [False, True, False]
    assert (await stored(manager))[-1].position == 6


@pytest.mark.parametrize("unit", ["user", "manager"])
@pytest.mark.parametrize(
    ("deleted", "left"),
    [(["m4"], 3), (["m4", "m3"], 2), (["m1", "m2", "m3", "m4"], 0), (["m3", "m4", "m3"], 2)],
)
async def test_of_the_end_nothing_is_left(manager: SessionManager, deleted: list[str], left: int, unit: str) -> None:
    before = await fill(manager, 4, user_id="u")
    delete = manager.delete_messages if unit == "manager" else manager.for_user("u").delete_messages
    assert await delete("s", deleted) == len(set(deleted))
    assert [record.message_id for record in await stored(manager)] == [message.id for message in before[:left]]
    with pytest.raises(MessageNotFoundError):
        await delete("s", deleted)
    added = await manager.conversation_manager.add_message("s", "user", "next")
    assert added.position == left + 1


async def test_a_repeated_call_changes_nothing(manager: SessionManager) -> None:
    await fill(manager, 4)
    assert await manager.delete_messages("s", ["m1", "m3", "m1"]) == 2
    before, header = await stored(manager), await manager.storage.find_session("s")
    assert await manager.delete_messages("s", ["m3", "m1"]) == 0
    assert await manager.delete_messages("s", []) == 0
    assert (await stored(manager), await manager.storage.find_session("s")) == (before, header)
    assert await manager.delete_messages("s", ["m1", "m2"]) == 1
    assert await ids(manager.conversation_manager.get_messages("s")) == ["m4"]
    assert await manager.delete_messages("s", iter(["m4", "m3", "m2", "m1"])) == 1
    assert await stored(manager) == []


async def test_an_unknown_id_is_refused_before_anything_is_changed(manager: SessionManager) -> None:
    await fill(manager, 4)
    before = await stored(manager)
    with pytest.raises(MessageNotFoundError, match="nope"):
        await manager.delete_messages("s", ["m2", "m4", "nope"])
    with pytest.raises(SessionNotFoundError):
        await manager.delete_messages("t", ["m2"])
    with pytest.raises(SessionNotFoundError):
        await manager.delete_messages("t", [])
    for wrong in ("m2", None, 5, ["m2", 5], [""]):
        with pytest.raises(ValidationError):
            await manager.delete_messages("s", wrong)  # type: ignore[arg-type]
    assert await stored(manager) == before


async def test_many_messages_are_deleted(manager: SessionManager, backend: Backend) -> None:
    count = 1000 if backend == MEMORY else 100  # others write each one
    await fill(manager, 0)
    batches = [[Message("user", "secret", id=f"m{2 * number + half}") for number in range(count)] for half in (0, 1)]
    for batch in batches:
        await manager.conversation_manager.append("s", batch)
    doomed = [str(message.id) for message in batches[0]]
    random.Random(7).shuffle(doomed)  # noqa: S311  # the same in every run
    assert await manager.delete_messages("s", doomed) == count
    conversations = manager.conversation_manager
    left = [message.id for message in batches[1]]
    assert await conversations.get_message_count("s") == count
    assert await ids(conversations.get_messages("s", limit=count)) == left
    assert await ids(conversations.get_messages("s", limit=2, offset=count - 2)) == left[-2:]


async def test_no_file_has_the_content_any_more(tmp_path: Path, clock: ManualClock, services: Services) -> None:
    for backend in (FILES, SQLITE):
        folder = tmp_path / backend.name / "store"
        async with backend.at(folder)(clock) as storage, SessionManager(storage, services=services) as manager:
            await fill(manager, 6)
            await manager.delete_messages("s", ["m2", "m6"])
            await manager.delete_messages("s", ["m6", "m5"])
            await storage.purge_expired()  # empties the write-ahead log
        data = b"".join(path.read_bytes() for path in folder.parent.rglob("*") if path.is_file())
        assert [word for word in ("secret 2", "secret 5", "secret 6") if word.encode() in data] == []
        assert b"secret 3" in data


# -- reads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "seed"),
    [
        *((30, seed) for seed in range(6)),
        *((1300, seed) for seed in range(2)),
        *(pytest.param(1300, seed, marks=pytest.mark.nightly) for seed in range(2, 6)),
    ],
)
async def test_every_page_is_full_if_there_are_enough_messages(local: SessionManager, seed: int, count: int) -> None:
    messages = []
    await fill(local, 0)
    for start in range(0, count, 500):
        batch = [Message("user", str(number), id=f"m{number}") for number in range(start, min(count, start + 500))]
        messages += await local.conversation_manager.append("s", batch)
    chance = random.Random(seed)  # noqa: S311  # the same in every run
    doomed = chance.sample(messages, count // 2) if seed % 2 else messages[count // 10 : -1]
    await local.delete_messages("s", [str(message.id) for message in doomed])
    doomed_ids = {message.id for message in doomed}
    left = [message for message in messages if message.id not in doomed_ids]
    read = local.conversation_manager.get_messages
    for size in (1, 3, len(left), len(left) + 5):
        pages: list[Message] = []
        while page := await read("s", limit=size, offset=len(pages)):
            assert len(page) == min(size, len(left) - len(pages))
            pages += page
            if len(pages) > 60:
                break
        assert pages == left[: len(pages)]
        forward = await read("s", size, after=0)
        assert forward == left[:size]
        assert await read("s", size, after=left[0].position) == left[1 : size + 1]
        assert await read("s", size, before=10**9) == left[-size:]
        assert await read("s", size, before=left[-1].position) == left[:-1][-size:]
        assert await local.conversation_manager.get_recent_messages("s", size) == left[-size:]
        assert await read("s", size, after=left[0].position, before=left[-1].position) == left[1:-1][:size]
    assert await read("s", 0) == []
    assert await read("s", offset=len(left)) == []
    assert await read("s", 9, len(left) + 1) == []
    assert await read("unknown", 9, 1) == []
    assert await read("s") == left[-100:]
    assert await read("s", offset=len(left) - 1) == left[-1:]
    assert await local.conversation_manager.get_message_count("s") == len(left)
    assert await local.conversation_manager.get_last_message("s") == left[-1]


async def test_a_manager_without_a_storage_counts_what_is_left() -> None:
    async with SessionManager(max_history=4) as manager:
        await fill(manager, 9)
        await manager.delete_messages("s", ["m9", "m7", "m4"])
        conversations = manager.conversation_manager
        assert await ids(conversations.get_messages("s")) == ["m3", "m5", "m6", "m8"]
        await manager.delete_messages("s", [f"m{number}" for number in range(1, 8)])
        assert await ids(conversations.get_messages("s")) == ["m8"]


async def test_a_conversation_manager_of_its_own_reads_the_newest_that_are_left() -> None:
    own = ConversationManager(max_history=3)
    for number in range(6):
        await own.add_message("s", Message("user", str(number), id=f"m{number}"))
    async with SessionManager(own.storage) as manager:
        await manager.delete_messages("s", ["m3"])
    assert await ids(own.get_messages("s")) == ["m2", "m4", "m5"]
    assert await ids(own.get_messages("s", 2, 1)) == ["m4", "m5"]
    assert await ids(own.get_messages("s", 9, before=6)) == ["m2", "m4"]
    assert await ids(own.search_messages("s", "2")) == ["m2"]
    assert await own.get_message_count("s") == 3
    assert await own.get_message_count("unknown") == 0


async def test_a_document_of_the_callers_is_no_obstacle(storage: SessionStorage, services: Services) -> None:
    await storage.save_session("s", {"any": "thing"})
    conversations = ConversationManager(storage=storage, services=services)
    await conversations.append("s", [Message("user", str(number)) for number in range(3)])
    assert await conversations.get_message_count("s") == 3
    assert [message.content for message in await conversations.get_messages("s", 2, 1)] == ["1", "2"]


# -- changes ---------------------------------------------------------------------------------------


Call = Callable[[SessionManager], Awaitable[object]]


@pytest.mark.parametrize(
    "call",
    [
        lambda manager: manager.annotate("s", "m2", {"a": 1}),
        lambda manager: manager.redact("s", "m2"),
        lambda manager: manager.alternatives("s", "m2"),
        lambda manager: manager.choose("s", "m2", 0),
        lambda manager: manager.rewind("s", "m2"),
        lambda manager: manager.fork("s", "m2"),
        lambda manager: manager.regenerate("s", "m2"),
        lambda manager: manager.edit_message("s", "m2", "better"),
    ],
    ids=["annotate", "redact", "alternatives", "choose", "rewind", "fork", "regenerate", "edit_message"],
)
async def test_a_deleted_message_counts_as_absent(local: SessionManager, call: Call) -> None:
    await fill(local, 4)
    await local.delete_messages("s", ["m2"])
    before = await stored(local)
    with pytest.raises(MessageNotFoundError):
        await call(local)
    assert await stored(local) == before


async def test_a_large_message_is_deleted_and_forked_as_any_other(local: SessionManager) -> None:
    await fill(local, 0)
    large = [Message("user", number * 200_000, id=f"m{number}") for number in "123"]
    await local.conversation_manager.append("s", large)
    assert await local.delete_messages("s", ["m2"]) == 1
    assert await local.delete_messages("s", ["m2"]) == 0
    new = await local.fork("s", "m3")
    assert await local.conversation_manager.get_messages("s") == await local.conversation_manager.get_messages(new)
    assert await ids(local.conversation_manager.get_messages(new)) == ["m1", "m3"]


async def test_a_deleted_message_is_not_added_again(local: SessionManager, script: Script) -> None:
    await fill(local, 4)
    await local.delete_messages("s", ["m1", "m2"])
    before = await stored(local)
    again = await local.conversation_manager.add_message("s", Message("assistant", "secret 2", id="m2"))
    assert (again.content, again.metadata, again.position) == ("", DELETED, 2)
    for content in ("secret 1", ""):
        with pytest.raises(ConflictError, match="a deleted one"):
            await local.send_message("s", Message("user", content, id="m1"))
    assert script.calls == []
    assert await stored(local) == before


async def test_a_question_whose_answer_was_deleted_is_asked_again(local: SessionManager, script: Script) -> None:
    await fill(local, 0)
    script.answers = ["One", "Two", "Three"]
    question = Message("user", "Hello?", id="q")
    first = await local.send_message("s", question)
    await local.send_message("s", "More")
    assert (await local.send_message("s", question)).id == first.id
    await local.delete_messages("s", [str(first.id)])
    answer = await local.send_message("s", question)
    assert (answer.content, answer.position) == ("Three", 5)
    assert script.prompts[-1] == script.prompts[0]
    assert (await local.send_message("s", question)).id == answer.id


async def test_an_answer_is_regenerated_behind_deleted_messages(local: SessionManager, script: Script) -> None:
    script.answers = ["One", "Two", "Three", "Four"]
    await fill(local, 0)
    for text in ("First", "Second"):
        await local.send_message("s", text)
    question, answer, later, last = await local.conversation_manager.get_messages("s")
    await local.delete_messages("s", [str(answer.id), str(last.id)])
    again = await local.regenerate("s")
    assert (again.content, again.position) == ("Three", 4)
    assert [content for _, content in script.prompts[-1]][1:] in (["First", "Second"], ["First\n\nSecond"])
    assert await local.alternatives("s", str(again.id)) == []
    once_more = await local.regenerate("s", question.id)
    (branch,) = await local.alternatives("s", str(once_more.id))
    assert [message.id for message in branch] == [later.id, again.id]
    assert await ids(local.choose("s", str(once_more.id), 0)) == [later.id, again.id]


async def test_the_removed_messages_of_a_rewind_are_those_that_were_left(local: SessionManager) -> None:
    await fill(local, 6)
    await local.delete_messages("s", ["m2", "m4"])
    assert await ids(local.rewind("s", 2)) == ["m3", "m5", "m6"]
    assert [record.message_id for record in await stored(local)] == ["m1", "m2"]
    assert await ids(local.rewind("s", 0)) == ["m1"]


async def test_a_fork_keeps_its_copy(local: SessionManager) -> None:
    await fill(local, 4)
    early = await local.fork("s")
    await local.delete_messages("s", ["m2"])
    late = await local.fork("s", "m3")
    read = local.conversation_manager.get_messages
    assert await ids(read(early)) == ["m1", "m2", "m3", "m4"]
    assert await ids(read(late)) == ["m1", "m3"]
    assert await read(late, 1, 1) == (await read("s"))[1:2]


# -- prompts ---------------------------------------------------------------------------------------


async def test_the_window_is_filled_from_before_deleted_messages(local: SessionManager, script: Script) -> None:
    await fill(local, 60, max_history_length=10)
    await local.delete_messages("s", [f"m{number}" for number in range(11, 57)])
    await local.send_message("s", "Now")
    texts = "\n\n".join(content for _, content in script.prompts[-1]).split("\n\n")
    assert texts[-11:] == [f"secret {number}" for number in (*range(5, 11), *range(57, 61))] + ["Now"]


async def test_a_short_conversation_is_read_at_once(services: Services, script: Script) -> None:
    class Counted(StorageWrapper):
        reads = 0

        async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
            self.reads += 1
            return await super().read_messages(session_id, span)

        async def read_turn(self, session_id: str, *, newest: int) -> TurnRecords | None:
            return await self.base.read_turn(session_id, newest=newest)

    async with Counted(InMemoryStorage()) as storage, SessionManager(storage, services=services) as manager:
        await fill(manager, 6)
        await manager.delete_messages("s", ["m3", "m4"])
        storage.reads = 0
        await manager.send_message("s", "Now")
        assert storage.reads == 0
        assert "secret 3" not in str(script.prompts)


CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


async def called(manager: SessionManager) -> None:
    """Store a turn with a tool call."""
    await manager.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s"})
    turn = [
        Message("user", "Look.", id="q"),
        Message("assistant", "", metadata={"tool_calls": [CALL]}, id="call"),
        Message("tool", "secret result", metadata={"tool_call_id": "c1", "name": "look"}, id="result"),
        Message("assistant", "Seen.", id="a"),
    ]
    await manager.conversation_manager.append("s", turn)


@pytest.mark.parametrize(
    ("deleted", "roles"),
    [
        (["call"], ["user", "assistant", "user"]),
        (["result"], ["user", "assistant", "tool", "assistant", "user"]),
        (["call", "result"], ["user", "assistant", "user"]),
    ],
)
async def test_tool_groups_stay_valid(
    local: SessionManager, script: Script, deleted: list[str], roles: list[str]
) -> None:
    await called(local)
    await local.delete_messages("s", deleted)
    await local.send_message("s", "Go on.")
    sent = [message for message in script.prompts[-1] if message[0] != "system"]
    assert [role for role, _ in sent] == roles
    assert "secret result" not in str(sent)
    assert ("(No result: the tool call was interrupted.)" in str(sent)) is (deleted == ["result"])


async def test_a_further_result_of_a_deleted_call_is_not_sent(local: SessionManager, script: Script) -> None:
    await called(local)
    await local.delete_messages("s", ["call"])
    await local.send_message("s", Message("tool", "again", metadata={"tool_call_id": "c1"}))
    assert script.prompts[-1][-1] == ("user", "(A tool result has arrived. Go on.)")
    assert "again" not in str(script.prompts)


async def test_a_title_is_of_the_first_messages_that_are_left(local: SessionManager, script: Script) -> None:
    await fill(local, 20)
    await local.delete_messages("s", [f"m{number}" for number in range(1, 11)])
    script.answers = ["A title"]
    assert await local.suggest_title("s") == "A title"
    assert script.prompts[-1][-1][1].splitlines()[0] == "user: secret 11"


# -- others who write ------------------------------------------------------------------------------


async def test_a_turn_in_progress_is_interrupted(local: SessionManager, script: Script) -> None:
    await fill(local, 4)
    script.may_answer.clear()
    turn = asyncio.create_task(local.send_message("s", "Now"))
    await script.asked.wait()
    assert await local.delete_messages("s", ["m2"]) == 1
    with pytest.raises(TurnInterruptedError):
        await turn


class Overtaken(StorageWrapper):
    """Lets another writer write once right before a write."""

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.write: Callable[[], Awaitable[object]] | None = None

    async def _overtake(self) -> None:
        if self.write is not None:
            write, self.write = self.write, None
            await write()

    async def replace_tail(self, session_id: str, **arguments: Any) -> TailReceipt:
        await self._overtake()
        return await super().replace_tail(session_id, **arguments)

    async def update_message(self, session_id: str, position: int, **payloads: Any) -> MessageRecord:
        await self._overtake()
        return await super().update_message(session_id, position, **payloads)


@pytest.fixture
async def overtaken(services: Services, clock: ManualClock) -> AsyncIterator[SessionManager]:
    base = Overtaken(InMemoryStorage(clock=clock))
    async with base, SessionManager(base, services=services) as manager:
        yield manager


def other(manager: SessionManager) -> SessionStorage:
    """Return the storage of another writer."""
    assert isinstance(manager.storage, Overtaken)
    return manager.storage.base


def overtake(manager: SessionManager, write: Callable[[], Awaitable[object]]) -> None:
    assert isinstance(manager.storage, Overtaken)
    manager.storage.write = write


async def test_an_end_behind_which_another_writer_appends_is_the_middle(overtaken: SessionManager) -> None:
    await fill(overtaken, 4)
    overtake(overtaken, lambda: other(overtaken).append_messages("s", [message_record("new", text="new")]))
    assert await overtaken.delete_messages("s", ["m3", "m4"]) == 2
    assert await ids(overtaken.conversation_manager.get_messages("s")) == ["m1", "m2", "new"]


async def test_a_tail_of_the_same_length_is_not_lost(overtaken: SessionManager) -> None:
    await fill(overtaken, 4)
    theirs = [message_record("n1", text="theirs"), message_record("n2", text="theirs")]
    overtake(overtaken, lambda: other(overtaken).replace_tail("s", after=2, messages=theirs))
    assert await overtaken.delete_messages("s", ["m3", "m4"]) == 0  # they are gone
    assert [record.message_id for record in await stored(overtaken)] == ["m1", "m2", "n1", "n2"]


@pytest.mark.parametrize(
    ("write", "count", "left"),
    [
        (lambda manager: manager.annotate("s", "m2", {"a": 1}), 1, ["m1", "m3", "m4"]),
        (lambda manager: manager.rewind("s", 1), 0, ["m1"]),
        (lambda manager: manager.delete_messages("s", ["m2"]), 1, ["m1", "m3", "m4"]),
        (lambda manager: manager.delete_session("s"), 0, []),
    ],
    ids=["annotated", "removed", "deleted", "session deleted"],
)
async def test_a_message_is_deleted_as_it_is_now(
    overtaken: SessionManager, services: Services, write: Call, count: int, left: list[str]
) -> None:
    await fill(overtaken, 4)
    async with SessionManager(other(overtaken), services=services) as another:
        overtake(overtaken, lambda: write(another))
        assert await overtaken.delete_messages("s", ["m2"]) == count
    assert await ids(overtaken.conversation_manager.get_messages("s")) == left


async def test_a_question_deleted_while_it_is_answered_again_is_a_conflict(
    overtaken: SessionManager, services: Services, script: Script
) -> None:
    await fill(overtaken, 2)
    script.may_answer.clear()
    again = asyncio.create_task(overtaken.regenerate("s"))
    await script.asked.wait()
    async with SessionManager(other(overtaken), services=services) as another:
        assert await another.delete_messages("s", ["m1"]) == 1
    script.may_answer.set()
    with pytest.raises(ConflictError):
        await again
    assert await ids(overtaken.conversation_manager.get_messages("s")) == ["m2"]


async def test_two_callers_delete_the_same_messages(manager: SessionManager, services: Services) -> None:
    await fill(manager, 40)
    doomed = [f"m{number}" for number in range(2, 30)]
    async with SessionManager(manager.storage, services=services) as another:
        counts = await asyncio.gather(*(one.delete_messages("s", doomed) for one in (manager, another)))
    assert len(doomed) <= sum(counts) <= 2 * len(doomed)  # each counts what was left when it began
    assert await manager.conversation_manager.get_message_count("s") == 40 - len(doomed)


async def test_an_error_of_the_storage_is_raised_and_the_call_can_be_repeated(
    overtaken: SessionManager,
) -> None:
    await fill(overtaken, 40)
    doomed = [f"m{number}" for number in range(2, 30)]

    async def fail() -> None:
        raise OSError("no route")

    overtake(overtaken, fail)
    with pytest.raises(OSError, match="no route"):
        await overtaken.delete_messages("s", doomed)
    assert 0 < await overtaken.delete_messages("s", doomed) < len(doomed)
    assert await overtaken.conversation_manager.get_message_count("s") == 40 - len(doomed)


async def test_a_damaged_message_can_be_deleted(local: SessionManager) -> None:
    await fill(local, 3)
    before = (await stored(local))[1]
    damaged = Payload("json", b'{"v": 2, "content": ')
    await local.storage.update_message("s", 2, payload=damaged, expected=before.payload)
    assert await local.delete_messages("s", ["m2"]) == 1
    assert await ids(local.conversation_manager.get_messages("s")) == ["m1", "m3"]


async def test_deletions_of_a_session_saved_on_demand_are_written_with_it(
    manager: SessionManager, storage: SessionStorage, services: Services
) -> None:
    await fill(manager, 6, auto_save=False)
    await manager.save_session("s")
    async with SessionManager(storage, services=services) as another:
        assert await another.delete_messages("s", ["m2", "m3"]) == 2
        assert await another.delete_messages("s", ["m6"]) == 1
        assert await ids(another.conversation_manager.get_messages("s")) == ["m1", "m4", "m5"]
        assert [record.message_id for record in await storage.read_messages("s", MessageRange())][-1] == "m6"
        await another.save_session("s")
    conversations = ConversationManager(storage=storage, services=services)
    assert await ids(conversations.get_messages("s", 9, 1)) == ["m4", "m5"]
    assert await conversations.get_message_count("s") == 3


# -- export and import -----------------------------------------------------------------------------


def exchange_of(storage: SessionStorage, services: Services) -> SessionExchange:
    return SessionExchange(storage=storage, services=services, values=JsonCodec())


def parse(text: str) -> ParsedSession:
    return reader().read_line(json.loads(text))


async def exported(storage: SessionStorage, services: Services) -> str:
    return "".join([piece async for piece in exchange_of(storage, services).export_session("s")])


async def test_an_export_omits_deleted_messages_and_is_imported(
    manager: SessionManager, storage: SessionStorage, services: Services, clock: ManualClock
) -> None:
    await fill(manager, 6)
    whole = await exported(storage, services)
    await manager.delete_messages("s", ["m2", "m3", "m5"])
    text = await exported(storage, services)
    assert [word for word in ("m2", "m3", "m5", "secret 2", "deleted") if word in text] == []
    async with InMemoryStorage(clock=clock) as elsewhere:
        receipt = await exchange_of(elsewhere, services).import_session(parse(text))
        assert (receipt.outcome, receipt.messages) == (Outcome.ADDED, 3)
        assert await exported(elsewhere, services) == text
    exchange = exchange_of(storage, services)
    assert (await exchange.import_session(parse(text))).outcome is Outcome.UNCHANGED
    with pytest.raises(SessionExistsError):  # it would bring back what was deleted
        await exchange.import_session(parse(whole))
    before = await stored(manager)
    await manager.rewind("s", 4)
    receipt = await exchange.import_session(parse(text))
    assert (receipt.outcome, receipt.messages) == (Outcome.COMPLETED, 1)
    assert [record.message_id for record in await stored(manager)] == ["m1", "m2", "m3", "m4", "m6"]
    assert (await stored(manager))[:4] == before[:4]
    assert await exported(storage, services) == text


async def test_an_older_export_does_not_bring_back_the_last_message(local: SessionManager, services: Services) -> None:
    await fill(local, 3)
    whole = await exported(local.storage, services)
    await local.conversation_manager.add_message("s", "user", "more")
    await local.delete_messages("s", ["m3"])
    await local.rewind("s", 3)
    with pytest.raises(SessionExistsError):
        await exchange_of(local.storage, services).import_session(parse(whole))
