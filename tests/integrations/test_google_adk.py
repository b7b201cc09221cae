# pyright: reportMissingImports=false

import asyncio
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest

from luminoracore_sdk.application.ports.records import MemoryPut, MemoryRecord, MemoryScope
from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.domain.errors import StorageUnavailableError
from luminoracore_sdk.domain.scopes import Owner
from luminoracore_sdk.session import MemoryManager, SessionManager, create_storage
from luminoracore_sdk.storage import SessionStorage, StorageWrapper
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.import_runs import ImportRuns, ServerImportRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES, same
from tests.support.servers import postgres_url
from tests.support.servers.places import execute_postgres

pytest.importorskip("google.adk", reason="the extra google-adk is not installed")

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.adk.sessions.schemas import v0
from google.adk.sessions.session import Session
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from luminoracore_sdk.integrations.google_adk import LuminoraMemoryService, LuminoraSessionService
from tests.integrations.workers.google_adk_agent import ask, runner_of

NAMES: Any = {"app_name": "app", "user_id": "user", "session_id": "s"}


def said(text: str, author: str = "user", **fields: Any) -> Event:
    role = "user" if author == "user" else "model"
    return Event(author=author, content=types.Content(role=role, parts=[types.Part(text=text)]), **fields)


def changing(delta: dict[str, Any], **fields: Any) -> Event:
    return Event(author="agent", actions=EventActions(state_delta=delta), **fields)


def texts(session: Session) -> list[str]:
    return [event.content.parts[0].text for event in session.events if event.content]


class TestImports(ImportRuns):
    framework = "google-adk"
    sessions = (("ann", "a"), ("bob", "b/1"))

    @asynccontextmanager
    async def own(self, file: Path) -> AsyncIterator[Any]:
        """Yield the framework's own service."""
        yield SqliteSessionService(str(file))

    async def write(self, file: Path) -> Any:
        async with self.own(file) as own:
            for user, session_id in self.sessions:
                names: Any = {"app_name": "app", "user_id": user, "session_id": session_id}
                await own.create_session(**names, state={"plan": "free", "user:name": user, "app:open": True})
            for user, session_id in self.sessions:
                await self._ask(own, user, session_id, "one")
                await self._ask(own, user, session_id, "two")
            return await self._read(own)

    async def more(self, file: Path) -> Any:
        async with self.own(file) as own:
            await self._ask(own, *self.sessions[0], "later")
            return await self._read(own)

    async def change(self, file: Path) -> None:
        """Do nothing: other runs have other events."""

    async def read(self, store: StorageConfig) -> Any:
        async with LuminoraSessionService(store) as service:
            return await self._read(service)

    async def _ask(self, service: Any, user: str, session_id: str, text: str) -> None:
        new = types.Content(role="user", parts=[types.Part(text=text)])
        async for _ in runner_of(service).run_async(user_id=user, session_id=session_id, new_message=new):
            pass

    async def _read(self, service: Any) -> Any:
        found = []
        for user, session_id in self.sessions:
            session = await service.get_session(app_name="app", user_id=user, session_id=session_id)
            assert session is not None
            found.append((session.events, session.state))
        return found

    async def test_a_run_goes_on(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        await self.write(file)
        await asyncio.to_thread(self._import, file, target)
        async with LuminoraSessionService(target) as service:
            await self._ask(service, "ann", "a", "three")
            session = await service.get_session(app_name="app", user_id="ann", session_id="a")
        assert session is not None
        assert (session.state["answer"], session.state["app:turns"]) == ("after 2: three", 5)


class TestImportsOfDatabases(TestImports):
    @asynccontextmanager
    async def own(self, file: Path) -> AsyncIterator[Any]:
        async with DatabaseSessionService(f"sqlite+aiosqlite:///{file}") as own:
            yield own


class TestImportsFromServers(ServerImportRuns, TestImports):
    @asynccontextmanager
    async def own(self, file: Path) -> AsyncIterator[Any]:
        url, options = self.sqlalchemy(file)
        async with DatabaseSessionService(url, **options) as own:
            yield own

    async def test_the_older_tables_with_pickled_actions(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        async with self.own(file) as own, own.db_engine.begin() as connection:
            await connection.run_sync(v0.Base.metadata.create_all)
        written = await self.write(file)
        statements = ("SELECT actions FROM {}.events LIMIT 0", "DROP INDEX {}.idx_events_app_user_session_ts_id")
        execute_postgres(postgres_url(), *(statement.format(self.schema(file)) for statement in statements))
        before = await self.content(file)
        done = await asyncio.to_thread(self._import, file, target)
        assert done.exit_code == 0, done.output
        assert await self.read(target) == written
        assert await self.content(file) == before


@pytest.fixture
async def service(store: StorageConfig) -> AsyncIterator[LuminoraSessionService]:
    async with LuminoraSessionService(store) as service:
        yield service


@pytest.fixture
async def quick() -> AsyncIterator[LuminoraSessionService]:
    async with LuminoraSessionService("memory://") as service:
        yield service


async def stored(service: LuminoraSessionService, names: Any = NAMES, **config: Any) -> Session:
    session = await service.get_session(**names, config=GetSessionConfig(**config) if config else None)
    assert session is not None
    return session


class TestRuns(AgentRuns):
    framework = "google_adk"
    stored_id = "app/user/run"

    def test_two_processes_at_once_lose_nothing(self, shared_store: StorageConfig) -> None:
        """A turn that loses a race is run again, so that its question is stored twice."""
        self._run(shared_store, "turns", "first")
        words = [[f"{name}-{number}" for number in range(6)] for name in "ab"]
        processes = [self._start(shared_store, "turns", " ".join(own)) for own in words]
        answers = [str(answer) for process in processes for _, answer in self._finished(process)]
        said = self._texts(shared_store)
        for own in words:
            assert list(dict.fromkeys(text for text in said if text in own)) == own
        assert len(answers) == 12
        for answer in answers:
            assert said.count(answer) == 1
        asyncio.run(self._states_are_those_of_the_events(shared_store))

    @pytest.mark.parametrize("seed", range(3))
    def test_a_killed_process_leaves_no_state_behind(self, shared_store: StorageConfig, seed: int) -> None:
        process = self._start(shared_store, "forever")
        assert process.stdout is not None
        for _ in range(random.Random(seed).randrange(1, 7)):  # noqa: S311
            process.stdout.readline()
        threading.Event().wait(random.Random(seed).random() / 50)  # noqa: S311
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        asyncio.run(self._states_are_those_of_the_events(shared_store))
        self._run(shared_store, "turns", "resumed")
        asyncio.run(self._states_are_those_of_the_events(shared_store))

    async def _states_are_those_of_the_events(self, store: StorageConfig) -> None:
        async with LuminoraSessionService(store) as service:
            session = await stored(service, {**NAMES, "session_id": "run"})
            shared = await service.get_user_state(app_name="app", user_id="user")
        expected: dict[str, Any] = {}
        for event in session.events:
            expected |= event.actions.state_delta
        assert expected["turns"] >= 1
        assert session.state == expected
        assert shared == {"turns": expected["user:turns"]}


# -- sessions --------------------------------------------------------------------------------------


async def test_what_was_created_comes_back_equal(service: LuminoraSessionService) -> None:
    assert await service.get_session(**NAMES) is None
    state = {"a": 1, "none": None, "user:b": [None], "app:c": {"z": 1, "a": 2}, "temp:d": 1}
    created = await service.create_session(**NAMES, state=state)
    assert created.state == {key: value for key, value in state.items() if key != "temp:d"}
    assert (created.app_name, created.user_id, created.id, created.events) == ("app", "user", "s", [])
    assert await stored(service) == created
    with pytest.raises(AlreadyExistsError, match="s already exists"):
        await service.create_session(**NAMES, state={"app:c": "not written"})
    assert await stored(service) == created


async def test_ids_are_generated_and_stripped(quick: LuminoraSessionService) -> None:
    first, second = [await quick.create_session(app_name="app", user_id="user") for _ in range(2)]
    assert len({first.id, second.id, ""}) == 3
    padded = await quick.create_session(app_name="app", user_id="user", session_id=" s ")
    assert padded.id == "s"
    with pytest.raises(AlreadyExistsError):
        await quick.create_session(app_name="app", user_id="user", session_id="s")
    assert await quick.get_session(app_name="app", user_id="user", session_id=" s ") == padded
    await quick.delete_session(app_name="app", user_id="user", session_id=" s ")
    assert await quick.get_session(**NAMES) is None


async def test_states_are_shared_by_user_and_app(service: LuminoraSessionService) -> None:
    first = await service.create_session(**NAMES, state={"app:a": 1, "user:u": 1, "own": 1})
    await service.append_event(first, changing({"app:a2": 2, "user:u2": 2, "own2": 2}))
    same_user = await service.create_session(app_name="app", user_id="user", session_id="s2")
    assert same_user.state == {"app:a": 1, "app:a2": 2, "user:u": 1, "user:u2": 2}
    other_user = await service.create_session(app_name="app", user_id="other", session_id="s")
    assert other_user.state == {"app:a": 1, "app:a2": 2}
    other_app = await service.create_session(app_name="app2", user_id="user", session_id="s")
    assert other_app.state == {}
    assert (await stored(service)).state == {**same_user.state, "own": 1, "own2": 2}
    assert await service.get_user_state(app_name="app", user_id="user") == {"u": 1, "u2": 2}
    assert await service.get_user_state(app_name="app", user_id="other") == {}


async def test_sessions_are_listed_by_their_last_event(service: LuminoraSessionService) -> None:
    assert (await service.list_sessions(app_name="app")).sessions == []
    sessions = [
        await service.create_session(app_name="app", user_id=user, session_id=name, state={"own": name})
        for name, user in (("a", "u1"), ("b", "u2"), ("c", "u1"))
    ]
    await service.create_session(app_name="app2", user_id="u1", session_id="d")
    times = {"a": 3.3, "b": 1.1 + 2.2, "c": 0.1 + 0.2}
    for session in sessions:
        event = changing({"user:seen": session.id, "app:seen": True}, timestamp=times[session.id])
        await service.append_event(session, event)
        assert session.last_update_time == times[session.id]
    listed = (await service.list_sessions(app_name="app")).sessions
    assert [(one.id, one.user_id, one.last_update_time) for one in listed] == [
        *(("c", "u1", 0.1 + 0.2), ("a", "u1", 3.3), ("b", "u2", 1.1 + 2.2)),
    ]
    assert [one.events for one in listed] == [[], [], []]
    seen = {"u1": "c", "u2": "b"}
    for one in listed:
        assert one.state == {"own": one.id, "user:seen": seen[one.user_id], "app:seen": True}
    of_user = (await service.list_sessions(app_name="app", user_id="u1")).sessions
    assert [one.id for one in of_user] == ["c", "a"]
    assert (await service.list_sessions(app_name="app", user_id="")).sessions == []


async def test_a_deleted_session_is_gone(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES, state={"own": 1, "user:kept": 2})
    await service.append_event(session, said("Hi"))
    await service.delete_session(**NAMES)
    await service.delete_session(**NAMES)
    assert await service.get_session(**NAMES) is None
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, said("Hi again"))
    assert (await service.create_session(**NAMES)).state == {"user:kept": 2}
    assert texts(await stored(service)) == []


@pytest.mark.parametrize("name", HOSTILE_IDS, ids=ascii)
async def test_any_name_is_an_app_a_user_an_id_and_a_key(name: str, sqlite: StorageConfig) -> None:
    async with LuminoraSessionService(sqlite) as service:
        state = {name: 1, f"app:{name}": 2, f"user:{name}": 3, "": 4, "luminora:item": 5, "sha256:x": 6}
        created = await service.create_session(app_name=name, user_id=name, session_id=name, state=state)
        assert created.id == name.strip()
        assert created.state == state
        await service.append_event(created, changing({name: 7}))
        found = await service.get_session(app_name=name, user_id=name, session_id=name)
        assert found == created
        assert (await service.list_sessions(app_name=name, user_id=name)).sessions[0].state == {**state, name: 7}


# -- events ----------------------------------------------------------------------------------------

EVENTS = [
    said("Hi"),
    said("Hello", "agent", turn_complete=True, partial=False, timestamp=1700000000.123),
    Event(
        author="agent",
        invocation_id="i",
        content=types.Content(
            role="model",
            parts=[types.Part(function_call=types.FunctionCall(id="1", name="add", args={"b": 1, "a": None}))],
        ),
        long_running_tool_ids={"1"},
        usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=1, total_token_count=2),
    ),
    Event(
        author="agent",
        content=types.Content(
            role="user",
            parts=[types.Part(function_response=types.FunctionResponse(id="1", name="add", response={"x": [1, {}]}))],
        ),
        actions=EventActions(artifact_delta={"file": 0}, transfer_to_agent="b", escalate=True),
    ),
    Event(
        author="user",
        content=types.Content(
            role="user",
            parts=[types.Part(text="See"), types.Part.from_bytes(data=b"\x00\xff>?", mime_type="image/png")],
        ),
        grounding_metadata=types.GroundingMetadata(search_entry_point=types.SearchEntryPoint(sdk_blob=b"blob")),
        custom_metadata={"z": 1, "a": [None, True, {}]},
        branch="a.b",
    ),
    Event(author="agent", error_code="code", error_message="message", interrupted=True),
]


async def test_events_come_back_equal(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    for event in [*EVENTS, *(said(text) for text in HOSTILE_TEXTS)]:
        assert await service.append_event(session, event) is event
    found = await stored(service)
    assert found == session
    assert [event.timestamp for event in found.events] == [event.timestamp for event in session.events]
    assert texts(found)[-len(HOSTILE_TEXTS) :] == HOSTILE_TEXTS


async def test_values_that_are_no_strict_json_come_back_equal(service: LuminoraSessionService) -> None:
    values = {"float": HOSTILE_VALUES, "nul \0 \ud800": HOSTILE_TEXTS[1], "blob": [None, {}, 1.0, True]}
    answer = types.FunctionResponse(id="1", name="measure", response=values)
    content = types.Content(role="user", parts=[types.Part(function_response=answer)])
    session = await service.create_session(**NAMES)
    await service.append_event(session, Event(author="agent", content=content, custom_metadata=values))
    (event,) = (await stored(service)).events
    assert event.content is not None
    assert event.content.parts is not None
    assert event.content.parts[0].function_response is not None
    assert same(event.content.parts[0].function_response.response, values)
    assert same(event.custom_metadata, values)


async def test_values_of_states_come_back_equal(service: LuminoraSessionService) -> None:
    values = {
        f"{prefix}{number}": value for prefix in ("", "app:", "user:") for number, value in enumerate(HOSTILE_VALUES)
    }
    values |= {
        "text": "nul \0, lone surrogate \ud800",
        "like": {"luminora:item": {"framework": "google-adk", "value": 1}},
    }
    session = await service.create_session(**NAMES, state=values)
    assert same(dict(sorted(session.state.items())), dict(sorted(values.items())))
    await service.append_event(session, changing({"inf": float("-inf"), "a": {"b": None}}))
    found = await stored(service)
    assert same(found.state["inf"], float("-inf"))
    assert found.state["a"] == {"b": None}
    assert same(found.events[0].actions.state_delta, {"inf": float("-inf"), "a": {"b": None}})


async def test_a_value_that_is_not_json_is_stored_as_json(quick: LuminoraSessionService) -> None:
    session = await quick.create_session(**NAMES, state={"set": {1}, "bytes": b"\xff", "call": len, "in": {1: (2,)}})
    assert session.state == {"set": [1], "bytes": "_w==", "call": "<built-in function len>", "in": {"1": [2]}}
    assert await stored(quick) == session


async def test_temporary_state_is_on_the_session_only(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    event = changing({"temp:a": 1, "b": 2})
    await service.append_event(session, event)
    assert session.state == {"temp:a": 1, "b": 2}
    assert event.actions.state_delta == {"b": 2}
    found = await stored(service)
    assert found.state == {"b": 2}
    assert found.events[0].actions.state_delta == {"b": 2}


async def test_partial_events_are_not_stored(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    await service.append_event(session, said("Hi", partial=True))
    assert session.events == []
    assert await stored(service) == session


async def test_a_part_of_the_events_is_read(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    for number in range(1, 31):
        await service.append_event(session, said(str(number), timestamp=number))
    whole = [str(number) for number in range(1, 31)]
    assert texts(await stored(service)) == whole
    for newest in (0, 1, 3, 20, 30, 99):
        assert texts(await stored(service, num_recent_events=newest)) == whole[30 - min(newest, 30) :]
    assert texts(await stored(service, after_timestamp=28.0)) == ["28", "29", "30"]
    assert texts(await stored(service, after_timestamp=29.5, num_recent_events=3)) == ["30"]
    assert texts(await stored(service, after_timestamp=0.0, num_recent_events=2)) == ["29", "30"]
    probe = await stored(service, num_recent_events=0)
    assert probe.last_update_time == 30
    await service.append_event(probe, said("31"))
    assert texts(await stored(service))[-2:] == ["30", "31"]


async def test_event_ids_need_not_be_unique(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    for text in ("one", "two"):
        await service.append_event(session, said(text, id="same", timestamp=1.0))
    assert texts(await stored(service)) == ["one", "two"]


async def test_an_event_that_is_delivered_again_is_stored_once(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    before = session.model_copy(deep=True)
    event = changing({"n": 1, "app:n": 1})
    copy = event.model_copy(deep=True)
    await service.append_event(session, event)
    await service.append_event(session, event)
    await service.append_event(before, copy)  # as after a lost answer
    assert len((await stored(service)).events) == 1
    assert before == session == await stored(service)
    await service.append_event(before, said("next"))


async def test_a_stale_session_is_refused(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    stale = session.model_copy(deep=True)
    await service.append_event(session, changing({"a": 1}, timestamp=5.0))
    with pytest.raises(StaleSessionError, match="modified in storage"):
        await service.append_event(stale, changing({"b": 1, "app:b": 1, "temp:c": 1}, timestamp=9.0))
    assert stale.events == []
    assert await stored(service) == session
    assert (await stored(service)).state == {"a": 1}


async def test_of_two_writers_at_once_one_is_refused(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    for number in range(6):
        copies = [(await stored(service)).model_copy(deep=True) for _ in range(2)]
        results = await asyncio.gather(
            *(service.append_event(one, changing({f"{number}{n}": n})) for n, one in enumerate(copies)),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["Event", "StaleSessionError"]
    found = await stored(service)
    assert len(found.events) == 6
    assert len(found.state) == 6
    assert session.events == []


async def test_appends_to_one_object_at_once_are_kept(service: LuminoraSessionService) -> None:
    session = await service.create_session(**NAMES)
    await asyncio.gather(*(service.append_event(session, changing({str(n): n, "app:n": n})) for n in range(12)))
    found = await stored(service)
    assert found == session
    assert {key: value for key, value in found.state.items() if key != "app:n"} == {str(n): n for n in range(12)}


async def test_sessions_at_once_keep_all_keys_of_shared_states(service: LuminoraSessionService) -> None:
    sessions = [await service.create_session(app_name="app", user_id="user", session_id=str(n)) for n in range(6)]
    await asyncio.gather(
        *(
            service.append_event(session, changing({f"app:{session.id}{n}": n, f"user:{session.id}{n}": None}))
            for session in sessions
            for n in range(3)
        )
    )
    state = (await stored(service, {**NAMES, "session_id": "0"})).state
    names = [f"{session.id}{n}" for session in sessions for n in range(3)]
    assert {name: state[f"app:{name}"] for name in names} == {name: int(name[1]) for name in names}
    assert {name: state[f"user:{name}"] for name in names} == dict.fromkeys(names)


async def test_a_session_of_the_callers_own_making(quick: LuminoraSessionService) -> None:
    await quick.append_event(await quick.create_session(**NAMES), said("one", timestamp=1.0, id="1"))
    own = Session(app_name="app", user_id="user", id="s", events=(await stored(quick)).events)
    await quick.append_event(own, said("two", timestamp=2.0))
    assert texts(await stored(quick)) == texts(own) == ["one", "two"]
    outdated = Session(app_name="app", user_id="user", id="s", last_update_time=1.0)
    with pytest.raises(StaleSessionError):
        await quick.append_event(outdated, said("three"))
    with pytest.raises(SessionNotFoundError):
        await quick.append_event(Session(app_name="app", user_id="user", id="t"), said("one"))


async def test_a_state_of_more_keys_than_one_change_has(quick: LuminoraSessionService) -> None:
    state = {str(number): number for number in range(2500)}
    session = await quick.create_session(**NAMES, state=state)
    assert session.state == state
    await quick.append_event(session, changing({f"app:{key}": value for key, value in state.items()}))
    assert await stored(quick) == session


class Failing(StorageWrapper):
    """Fails once instead of changing memories of one kind, as a killed process does."""

    kind: str | None = None

    async def change_memories(
        self, scope: MemoryScope, puts: Sequence[MemoryPut] = (), **options: Any
    ) -> list[MemoryRecord]:
        if self.kind == scope.kind:
            self.kind = None
            raise StorageUnavailableError(backend=self.backend, reason="killed")
        return await super().change_memories(scope, puts, **options)


@pytest.mark.parametrize("kind", ["user", "session"])
async def test_states_are_completed_from_the_event(kind: str) -> None:
    async with create_storage("memory://") as kept:
        storage = Failing(kept)
        service = LuminoraSessionService(storage)
        storage.kind = kind
        with pytest.raises(StorageUnavailableError):
            await service.create_session(**NAMES, state={"a": 0, "user:a": 0})
        assert (await stored(service)).state == {"a": 0, "user:a": 0}
        session = await stored(service)
        for number in range(20):
            await service.append_event(session, said(str(number)))
        storage.kind = kind
        with pytest.raises(StorageUnavailableError):
            await service.append_event(session, changing({"a": 1, "user:a": 1, "user:b": 1, "app:c": None}))
        other = await service.create_session(app_name="app", user_id="user", session_id="s2")
        await service.append_event(other, changing({"user:b": 2}))
        listed = (await service.list_sessions(app_name="app", user_id="user")).sessions
        assert {one.id: one.state.get("a") for one in listed} == {"s": 1, "s2": None}
        found = await stored(service, num_recent_events=1)
        assert found.state == {"a": 1, "user:a": 1, "user:b": 2, "app:c": None}
        await service.append_event(found, changing({"a": 2}))
        assert (await stored(service)).state["a"] == 2
        with pytest.raises(StaleSessionError):
            await service.append_event(session, said("lost"))


async def test_states_are_completed_behind_many_messages() -> None:
    async with create_storage("memory://") as kept, SessionManager(kept) as manager:
        storage = Failing(kept)
        service = LuminoraSessionService(storage)
        session = await service.create_session(**NAMES)
        storage.kind = "session"
        with pytest.raises(StorageUnavailableError):
            await service.append_event(session, changing({"a": 1, "user:a": None}))
        for number in range(40):
            await manager.conversation_manager.add_message("app/user/s", "user", str(number))
        assert (await stored(service, num_recent_events=1)).state == {"a": 1, "user:a": None}


async def test_few_events_are_read_again_to_list_a_session() -> None:
    async with create_storage("memory://") as storage:
        service = LuminoraSessionService(storage)
        session = await service.create_session(**NAMES)
        for number in range(40):
            await service.append_event(session, said(str(number)))
        mark = await storage.find_memory(MemoryScope("session", "app/user/s"), "luminora:item")
    assert mark is not None
    assert mark.version == 2  # written with every 16th event that changes no state


@pytest.mark.parametrize("kind", ["user", "session"])
async def test_an_append_that_failed_can_be_repeated(kind: str) -> None:
    async with create_storage("memory://") as kept:
        storage = Failing(kept)
        service = LuminoraSessionService(storage)
        session = await service.create_session(**NAMES)
        event = changing({"a": 1, "user:a": 1, "temp:a": 1})
        storage.kind = kind
        with pytest.raises(StorageUnavailableError):
            await service.append_event(session, event)
        await service.append_event(session, event)
        assert session.state.pop("temp:a") == 1
        assert await stored(service) == session
        assert (len(session.events), session.state) == (1, {"a": 1, "user:a": 1})


async def test_a_runner_resumes_a_session(service: LuminoraSessionService) -> None:
    await service.create_session(app_name="app", user_id="user", session_id="s")
    assert await ask(runner_of(service), "s", "one") == "after 0: one"
    assert await ask(runner_of(service), "s", "two") == "after 1: two"
    found = await stored(service)
    assert [text for text in (event.content and event.content.parts[0].text for event in found.events) if text] == [
        *("one", "after 0: one", "two", "after 1: two"),
    ]
    assert found.state == {"answer": "after 1: two", "turns": 2, "user:turns": 2, "app:turns": 2}


async def test_the_same_as_the_services_of_the_framework(quick: LuminoraSessionService) -> None:
    results = []
    for service in (InMemorySessionService(), quick):
        session = await service.create_session(**NAMES, state={"app:a": 1, "b": 2})
        for number, event in enumerate(EVENTS):
            copy = event.model_copy(deep=True)
            copy.actions.state_delta = {"n": number, "user:n": None, "temp:n": 1}
            await service.append_event(session, copy)
        found = await service.get_session(**NAMES, config=GetSessionConfig(num_recent_events=4))
        assert found is not None
        results.append([session.model_dump(exclude={"last_update_time"}), found.model_dump()])
    assert results[0] == results[1]


async def test_events_and_states_can_be_read_by_the_managers(sqlite: StorageConfig) -> None:
    async with LuminoraSessionService(sqlite) as service:
        session = await service.create_session(**NAMES, state={"topic": "x"})
        for event in EVENTS:
            await service.append_event(session, event)
        await service.append_event(session, changing({"user:name": "Ann", "app:tone": None}))
        async with create_storage(sqlite) as storage, SessionManager(storage) as manager:
            found = await manager.conversation_manager.get_messages("app/user/s")
            assert [one.role.value for one in found] == [
                *("user", "assistant", "assistant", "tool", "user", "system", "system"),
            ]
            assert (found[0].content, found[1].content) == ("Hi", "Hello")
            assert found[2].metadata["tool_calls"][0]["function"]["name"] == "add"
            assert found[3].metadata["tool_call_id"] == "1"
            memories = MemoryManager(storage=storage)
            assert await memories.get_memory("app/user/s", "topic") == "x"
            assert await memories.get_memory("app/user/s", "name", scope="user") == "Ann"
            conversations = await manager.list_conversations(user_id=Owner(app="app", user="user").id)
            assert [one.session_id for one in conversations.conversations] == ["app/user/s"]
            await manager.conversation_manager.add_message("app/user/s", "user", "From elsewhere")
            assert texts(await stored(service, num_recent_events=1)) == ["From elsewhere"]
            assert await manager.delete_messages("app/user/s", [found[0].id or ""]) == 1
        assert texts(await stored(service))[0] == "Hello"


async def test_a_storage_that_was_given_stays_open() -> None:
    async with create_storage("memory://") as storage:
        async with LuminoraSessionService(storage) as service:
            await service.create_session(**NAMES)
        async with LuminoraMemoryService(storage):
            pass
        assert await storage.list_sessions() == ["app/user/s"]


# -- memory ----------------------------------------------------------------------------------------


@pytest.fixture(params=["text", None], ids=["search", "no search"])
async def storage(request: pytest.FixtureRequest, store: StorageConfig) -> AsyncIterator[SessionStorage]:
    async with create_storage(store, search=request.param) as storage:
        yield storage


async def found(memory: LuminoraMemoryService, query: str, user: str = "user") -> list[str]:
    response = await memory.search_memory(app_name="app", user_id=user, query=query)
    return [entry.content.parts[0].text for entry in response.memories]


async def test_a_session_is_found_once_it_was_added(storage: SessionStorage) -> None:
    service, memory = LuminoraSessionService(storage), LuminoraMemoryService(storage)
    session = await service.create_session(**NAMES)
    for event in (said("My dog is called Rex"), said("A fine name", "agent"), said("The weather is bad"), *EVENTS):
        await service.append_event(session, event)
    assert await found(memory, "dog") == []
    await memory.add_session_to_memory(session)
    await memory.add_session_to_memory(session)
    response = await memory.search_memory(app_name="app", user_id="user", query="dog")
    (first, *_) = response.memories
    event = session.events[0]
    assert (first.id, first.content, first.author) == (event.id, event.content, "user")
    assert first.timestamp is not None
    assert (await found(memory, "dog"))[0] == "My dog is called Rex"
    assert await found(memory, "unheard") == []
    assert await found(memory, "dog", "other") == []
    assert await stored(service) == session


async def test_events_of_other_services_are_copied_once(storage: SessionStorage) -> None:
    service, memory = InMemorySessionService(), LuminoraMemoryService(storage)
    session = await service.create_session(**NAMES)
    await service.append_event(session, said("My dog is called Rex"))
    await memory.add_session_to_memory(session)
    await service.append_event(session, said("My cat is called Tom"))
    await memory.add_session_to_memory(session)
    assert sorted(await found(memory, "called")) == ["My cat is called Tom", "My dog is called Rex"]
    bird = said("My bird is called Tweety")
    for _ in range(2):
        await memory.add_events_to_memory(app_name="app", user_id="user", events=[bird, bird, changing({"a": 1})])
    assert (await found(memory, "bird"))[0] == "My bird is called Tweety"
    assert len(await found(memory, "called")) == 3
    assert (await LuminoraSessionService(storage).list_sessions(app_name="app")).sessions == []


@pytest.mark.parametrize(
    ("text", "query", "is_found"),
    [
        ("私はPythonでADKを使っています", "Python", True),
        ("私はPythonでADKを使っています", "adk", True),
        ("私はPythonでADKを使っています", "thon", False),
        ("私はCaféでADKを使っています", normalize("NFD", "café"), True),
        (normalize("NFD", "Meet at the Café"), "Café", True),
        (normalize("NFD", "プログラミングを学ぶ"), "プログラミング", True),
        ("Меня зовут Алексей", "алексей", True),
    ],
)
async def test_words_of_every_script_are_found(text: str, query: str, is_found: bool) -> None:
    async with LuminoraMemoryService("memory://") as memory:
        await memory.add_events_to_memory(app_name="app", user_id="user", events=[said(text)])
        assert await found(memory, query) == ([text] if is_found else [])


async def test_at_most_ten_are_found(storage: SessionStorage) -> None:
    memory = LuminoraMemoryService(storage)
    events = [said(f"number {number}") for number in range(15)] + [said("number one 数字は")]
    await memory.add_events_to_memory(app_name="app", user_id="user", events=events)
    assert len(await found(memory, "number")) == 10
    assert (await found(memory, "数字"))[0] == "number one 数字は"
