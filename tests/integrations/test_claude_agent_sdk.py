# pyright: reportMissingImports=false

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage
from luminoracore_sdk.storage import SessionRecord, StorageWrapper
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.conftest import ALL, Place
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES, same

pytest.importorskip("claude_agent_sdk", reason="the extra claude-agent-sdk is not installed")

from claude_agent_sdk import (
    InMemorySessionStore,
    fork_session_via_store,
    get_session_messages_from_store,
    list_sessions_from_store,
    project_key_for_directory,
)
from claude_agent_sdk.testing import run_session_store_conformance

from luminoracore_sdk.integrations.claude_agent_sdk import LuminoraSessionStore

KEY: Any = {"project_key": "project", "session_id": "session"}


def entry(number: int, **fields: Any) -> Any:
    return {
        "type": "user",
        "uuid": str(uuid5(NAMESPACE_URL, str(number))),
        "timestamp": f"2026-11-30T00:00:{number % 60:02}.000Z",
        "message": {"role": "user", "content": f"text {number}"},
        **fields,
    }


ENTRIES: list[Any] = [
    {"type": "summary", "summary": "A talk", "leafUuid": "x"},
    {"type": "summary", "summary": "A talk", "leafUuid": "x"},
    entry(1),
    {"uuid": "a", "message": {"content": [{"type": "text", "text": "Hello", "citations": None}]}, "type": "assistant"},
    {
        "type": "assistant",
        "uuid": "b",
        "message": {"content": [{"type": "tool_use", "id": "t", "name": "add", "input": {"b": 1, "a": 2}}]},
    },
    {"type": "user", "uuid": "c", "message": {"content": [{"type": "tool_result", "tool_use_id": "t", "content": []}]}},
    {"type": "system", "uuid": "d", "content": "Conversation compacted", "isMeta": True},
    {"type": "tag", "tag": "x"},
    *(entry(100 + number, message={"content": text}) for number, text in enumerate(HOSTILE_TEXTS)),
    *(entry(200 + number, value=value) for number, value in enumerate(HOSTILE_VALUES)),
]


@pytest.fixture
async def sessions(store: StorageConfig) -> AsyncIterator[LuminoraSessionStore]:
    sessions = LuminoraSessionStore(store)
    yield sessions
    await sessions.close()


@pytest.fixture
async def quick() -> AsyncIterator[LuminoraSessionStore]:
    sessions = LuminoraSessionStore("memory://")
    yield sessions
    await sessions.close()


class TestRuns(AgentRuns):
    framework = "claude_agent_sdk"
    stored_id = f"{project_key_for_directory('/')}/{uuid5(NAMESPACE_URL, 'run')}"


@pytest.fixture(params=list(ALL.values()), ids=list(ALL))
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    place: Place = request.param
    with ExitStack() as places:

        def make() -> LuminoraSessionStore:
            folder = tmp_path / str(len(made))
            folder.mkdir()
            made.append(LuminoraSessionStore(places.enter_context(place.at(folder))))
            return made[-1]

        made: list[LuminoraSessionStore] = []
        yield make
        for sessions in made:
            asyncio.run(sessions.close())


def test_it_passes_the_suite_of_the_sdk(new_store: Any) -> None:
    asyncio.run(run_session_store_conformance(new_store))


async def test_entries_come_back_equal(sessions: LuminoraSessionStore) -> None:
    await sessions.append(KEY, ENTRIES)
    assert same(await sessions.load(KEY), ENTRIES)


async def test_an_entry_with_a_uuid_is_stored_once(sessions: LuminoraSessionStore) -> None:
    await sessions.append(KEY, [entry(1), entry(2), entry(1)])
    await sessions.append(KEY, [entry(2), entry(3), {"type": "tag", "tag": "x"}])
    await sessions.append(KEY, [entry(1), entry(2)])
    assert await sessions.load(KEY) == [entry(1), entry(2), entry(3), {"type": "tag", "tag": "x"}]


async def test_summaries_of_appends_at_once_fold_each_entry_once(sessions: LuminoraSessionStore) -> None:
    writers = [sessions, LuminoraSessionStore(sessions._items.storage)]  # noqa: SLF001  # of another process
    await asyncio.gather(
        *(writers[number % 2].append(KEY, [entry(number, customTitle=f"title {number}")]) for number in range(12))
    )
    entries: list[Any] = await sessions.load(KEY) or []
    (summary,) = await sessions.list_session_summaries("project")
    expected = InMemorySessionStore()
    await expected.append(KEY, entries)
    assert summary["data"] == (await expected.list_session_summaries("project"))[0]["data"]
    assert len(entries) == 12


class FailsAfterAppends(StorageWrapper):
    """Refuses to change headers, as a process does that was killed after an append."""

    refuses = False

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        if self.refuses:
            raise ConnectionError
        return await super().put_session(record, expected_version=expected_version)


async def test_a_summary_left_behind_is_completed_when_listed() -> None:
    storage = FailsAfterAppends(create_storage("memory://"))
    sessions = LuminoraSessionStore(storage)
    await sessions.append(KEY, [entry(1)])
    storage.refuses = True
    with pytest.raises(ConnectionError):
        await sessions.append(KEY, [entry(2, customTitle="new")])
    storage.refuses = False
    (summary,) = await sessions.list_session_summaries("project")
    assert summary["data"]["custom_title"] == "new"
    assert summary["mtime"] == (await sessions.list_sessions("project"))[0]["mtime"]


async def test_a_large_summary_is_listed(sessions: LuminoraSessionStore) -> None:
    await sessions.append(KEY, [entry(1, customTitle="long " * 3000)])
    await sessions.append(KEY, [entry(2)])
    (summary,) = await sessions.list_session_summaries("project")
    assert summary["data"]["custom_title"] == "long " * 3000
    assert [listed["session_id"] for listed in await sessions.list_sessions("project")] == ["session"]


@pytest.mark.parametrize("name", HOSTILE_IDS, ids=ascii)
async def test_any_string_is_a_part_of_a_key(name: str, sessions: LuminoraSessionStore) -> None:
    keys: list[Any] = [
        {"project_key": name, "session_id": name},
        {"project_key": name, "session_id": name, "subpath": name},
        {"project_key": name, "session_id": f"{name}/{name}"},
    ]
    for number, key in enumerate(keys):
        await sessions.append(key, [entry(number)])
    for number, key in enumerate(keys):
        assert await sessions.load(key) == [entry(number)]
    listed = [one["session_id"] for one in await sessions.list_sessions(name)]
    assert sorted(listed) == sorted([name, f"{name}/{name}"])
    assert await sessions.list_subkeys(keys[0]) == [name]
    assert {one["session_id"] for one in await sessions.list_session_summaries(name)} == set(listed)
    await sessions.delete(keys[0])
    assert [await sessions.load(key) for key in keys] == [None, None, [entry(2)]]


async def test_the_functions_of_the_sdk_read_it(quick: LuminoraSessionStore) -> None:
    project: Any = {"project_key": project_key_for_directory("/"), "session_id": str(uuid5(NAMESPACE_URL, "s"))}
    await quick.append(project, [entry(1, parentUuid=None, sessionId=project["session_id"])])
    (info,) = await list_sessions_from_store(quick, directory="/")
    assert info.first_prompt == "text 1"
    messages = await get_session_messages_from_store(quick, project["session_id"], directory="/")
    assert [message.message["content"] for message in messages] == ["text 1"]
    forked = await fork_session_via_store(quick, project["session_id"], directory="/")
    assert len(await list_sessions_from_store(quick, directory="/")) == 2
    assert await quick.load({**project, "session_id": forked.session_id}) is not None


async def test_sessions_of_one_millisecond_are_listed_newest_first(quick: LuminoraSessionStore) -> None:
    names = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(20)]
    for name in names:
        await quick.append({**KEY, "session_id": name}, [entry(1)])
    assert [one["session_id"] for one in await quick.list_sessions("project")] == names[::-1]
    assert [one["session_id"] for one in await quick.list_session_summaries("project")] == names[::-1]


async def test_entries_can_be_read_as_messages() -> None:
    storage = create_storage("memory://")
    sessions = LuminoraSessionStore(storage)
    await sessions.append(KEY, ENTRIES[:7])
    manager = SessionManager(storage)
    messages = await manager.conversation_manager.get_messages("project/session")
    assert [(message.role.value, message.content) for message in messages if isinstance(message.content, str)] == [
        *(("system", ""), ("system", "")),
        *(("user", "text 1"), ("assistant", "Hello"), ("system", "Conversation compacted")),
    ]
    assert messages[2].id == entry(1)["uuid"]
    await manager.close()


async def test_an_erased_session_stays_erased(sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage, SessionManager(storage) as manager:
        sessions = LuminoraSessionStore(storage)
        await sessions.append(KEY, [entry(1)])
        await manager.delete_session("project/session")
        await sessions.append(KEY, [entry(2)])  # deleted, not erased
        assert await sessions.load(KEY) == [entry(2)]
