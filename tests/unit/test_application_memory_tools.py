"""Tools with which a model searches and keeps what is stored of a user."""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.memory_tools import (
    ERROR,
    MAX_RESULT_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    MAX_VALUE_CHARACTERS,
)
from luminoracore_sdk.application.ports.records import (
    MemoryPut,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    SessionQuery,
)
from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.domain.errors import ConfigurationError, StorageUnavailableError, ValidationError
from luminoracore_sdk.domain.memory import MemorySource
from luminoracore_sdk.domain.settings import MemoryConfig
from luminoracore_sdk.session import Message, SessionManager, UserSessions, create_storage
from luminoracore_sdk.tools import Tool, memory_tools, run_tools
from luminoracore_sdk.types.provider import ChatResponse
from tests.support.backends import MEMORY_OR_SERVERS, marks
from tests.support.recall import searched
from tests.support.scripted_provider import scripted
from tests.support.users import canary, digest_of, fill_user, session_of

Tools = dict[str, Tool]


@pytest.fixture(params=[pytest.param(backend, id=backend.name, marks=marks(backend)) for backend in MEMORY_OR_SERVERS])
async def manager(request: pytest.FixtureRequest) -> AsyncIterator[SessionManager]:
    with request.param.place() as make:
        async with searched(make(SystemClock())) as storage, SessionManager(storage) as manager:
            yield manager


@pytest.fixture
async def ada(manager: SessionManager) -> UserSessions:
    user = manager.for_user("ada")
    await user.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s"})
    texts = ("My dog is called Rex.", "What a name!", "He is afraid of thunder.", "Poor dog.", "And of the vet.")
    await manager.conversation_manager.append(
        "s",
        [
            Message(
                "user" if number % 2 == 0 else "assistant",
                text,
                timestamp=datetime(2026, 3, number + 1, 12, tzinfo=UTC),
            )
            for number, text in enumerate(texts)
        ],
    )
    await user.store_memory("favourite_colour", "blue")
    return user


@pytest.fixture
def tools(ada: UserSessions) -> Tools:
    return {tool.name: tool for tool in memory_tools(ada)}


def texts_of(result: Any) -> list[str]:
    return [hit["text"] for hit in result["hits"]]


# -- recall ------------------------------------------------------------------------------------------


async def test_recall_returns_messages_and_memories(tools: Tools) -> None:
    found: Any = await tools["recall"].call({"query": "Which dog is called Rex?", "limit": 1})
    assert found == {
        "hits": [
            {
                "kind": "message",
                "session_id": "s",
                "position": 1,
                "role": "user",
                "time": "2026-03-01T12:00:00+00:00",
                "text": "My dog is called Rex.",
            }
        ]
    }
    found = await tools["recall"].call({"query": "colour"})
    assert [(hit["kind"], hit["key"], hit["text"]) for hit in found["hits"]] == [("memory", "favourite_colour", "blue")]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"kinds": ["memory"]}, ["blue"]),
        ({"kinds": ["message"], "roles": ["assistant"]}, ["Poor dog.", "What a name!"]),
        ({"kinds": ["message"], "since": "2026-03-03", "until": "2026-03-04"}, ["He is afraid of thunder."]),
        ({"kinds": ["message"], "since": "2026-03-05T13:00:00+01:00", "roles": None}, ["And of the vet."]),
        ({"kinds": ["message"], "until": "2026-03-01T12:00:01", "limit": 5.0}, ["My dog is called Rex."]),
    ],
    ids=str,
)
async def test_recall_narrows(tools: Tools, arguments: dict[str, Any], found: list[str]) -> None:
    result = await tools["recall"].call({"query": "dog thunder vet colour", **arguments})
    assert sorted(texts_of(result)) == sorted(found)


async def test_recall_says_if_nothing_was_found(tools: Tools) -> None:
    assert await tools["recall"].call({"query": "submarine"}) == {
        "hits": [],
        "note": "nothing was found; try other words",
    }


async def test_results_are_cut_to_their_size(manager: SessionManager, ada: UserSessions, tools: Tools) -> None:
    session_id = await ada.create_session({"name": "A"}, {"name": "echo"})
    texts = [f"submarine {number} \0" + "\x01x" * 2_000 + " end" for number in range(20)]
    await manager.conversation_manager.append(session_id, [Message("user", text) for text in texts])
    found: Any = await tools["recall"].call({"query": "submarine", "limit": 20})
    assert len(compact_json(found)) <= MAX_RESULT_CHARACTERS
    left_out = 20 - len(found["hits"])
    assert found["note"] == f"the result is too long: {left_out} more hits were left out; ask for less"
    assert 0 < left_out < 20
    assert all(text.startswith("submarine") and text.endswith(" end") for text in texts_of(found))
    assert all(MAX_TEXT_CHARACTERS <= len(text) <= MAX_TEXT_CHARACTERS + 50 for text in texts_of(found))

    read: Any = await tools["read_around"].call({"session_id": session_id, "position": 9, "before": 20, "after": 20})
    assert len(compact_json(read)) <= MAX_RESULT_CHARACTERS
    positions = [one["position"] for one in read["messages"]]
    assert 9 in positions
    assert positions == list(range(positions[0], positions[-1] + 1))
    left_out = 20 - len(positions)
    assert read["note"] == f"the result is too long: {left_out} of the messages were left out; ask for fewer"


# -- read around -------------------------------------------------------------------------------------


async def test_read_around_returns_the_neighbours(tools: Tools) -> None:
    read: Any = await tools["read_around"].call({"session_id": "s", "position": 3, "before": 1, "after": 20})
    assert [(one["position"], one["role"], one["text"]) for one in read["messages"]] == [
        (2, "assistant", "What a name!"),
        (3, "user", "He is afraid of thunder."),
        (4, "assistant", "Poor dog."),
        (5, "user", "And of the vet."),
    ]
    assert read["messages"][0]["time"] == "2026-03-02T12:00:00+00:00"
    alone: Any = await tools["read_around"].call({"session_id": "s", "position": 1, "before": 0, "after": 0})
    assert [one["position"] for one in alone["messages"]] == [1]


@pytest.mark.parametrize(("session_id", "position"), [("s", 6), ("s", 2**53), ("unknown", 1), ("a\0b", 1)])
async def test_a_message_that_there_is_not(tools: Tools, session_id: str, position: int) -> None:
    text = await tools["read_around"].call({"session_id": session_id, "position": position})
    assert str(text).startswith(ERROR)
    assert "as recall returns them" in str(text) or "NUL" in str(text)


# -- remember, forget --------------------------------------------------------------------------------


async def test_what_is_remembered_is_found_and_forgotten(ada: UserSessions, tools: Tools) -> None:
    assert await tools["remember"].call({"key": "dog", "value": {"name": "Rex"}, "importance": 0.7}) == {
        "remembered": "dog"
    }
    (entry,) = [one for one in await ada.list_entries() if one.key == "dog"]
    assert (entry.value, entry.importance) == ({"name": "Rex"}, 0.7)
    assert texts_of(await tools["recall"].call({"query": "Rex", "kinds": ["memory"]})) == ['{"name": "Rex"}']
    assert await tools["forget"].call({"key": "dog"}) == {"forgotten": "dog"}
    assert await ada.list_memories() == ["favourite_colour"]
    assert await tools["forget"].call({"key": "dog"}) == (
        "Error: nothing is remembered under this key; recall returns the keys"
    )


async def test_null_can_be_remembered(ada: UserSessions, tools: Tools) -> None:
    assert await tools["remember"].call({"key": "none", "value": None}) == {"remembered": "none"}
    assert "none" in await ada.list_memories()


async def test_a_value_has_a_largest_size(ada: UserSessions, tools: Tools) -> None:
    longest = "x" * (MAX_VALUE_CHARACTERS - 2)
    assert await tools["remember"].call({"key": "k", "value": longest}) == {"remembered": "k"}
    refused = await tools["remember"].call({"key": "k", "value": longest + "y"})
    assert refused == "Error: the value has more than 4000 characters; remember less"
    assert await ada.get_memory("k") == longest


async def test_memory_that_is_switched_off_remembers_nothing() -> None:
    storage = create_storage("memory://", search="text")
    async with SessionManager(storage, memory_config=MemoryConfig(enabled=False)) as manager:
        tools = {tool.name: tool for tool in memory_tools(manager.for_user("ada"))}
        text = await tools["remember"].call({"key": "k", "value": 1})
    assert text == "Error: nothing was remembered: memory is switched off"


# -- arguments ---------------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("recall", {}, "the argument 'query' is missing"),
    ("recall", {"query": None}, "query must be a string that is not blank"),
    ("recall", {"query": " \n"}, "query must be a string that is not blank"),
    ("recall", {"query": ["dog"]}, "query must be a string that is not blank"),
    ("recall", {"query": "dog", "limit": 21}, "limit must be a whole number from 1 to 20"),
    ("recall", {"query": "dog", "limit": 0}, "limit must be a whole number from 1 to 20"),
    ("recall", {"query": "dog", "limit": True}, "limit must be a whole number from 1 to 20"),
    ("recall", {"query": "dog", "limit": "5"}, "limit must be a whole number from 1 to 20"),
    ("recall", {"query": "dog", "limit": 1.5}, "limit must be a whole number from 1 to 20"),
    ("recall", {"query": "dog", "kinds": "memory"}, "kinds must be a list of: message, memory"),
    ("recall", {"query": "dog", "kinds": []}, "kinds must be a list of: message, memory"),
    ("recall", {"query": "dog", "kinds": [[]]}, "kinds must be a list of: message, memory"),
    ("recall", {"query": "dog", "roles": ["root"]}, "roles must be a list of: user, assistant, system, tool"),
    ("recall", {"query": "dog", "since": "yesterday"}, "since must be an ISO 8601 date or time, such as 2026-03-05"),
    ("recall", {"query": "dog", "until": 5}, "until must be an ISO 8601 date or time, such as 2026-03-05"),
    ("recall", {"query": "dog", "since": "0001-01-01T00:00+14:00"}, "since must be an ISO 8601 date or time"),
    ("recall", {"query": "dog", "user_id": "bob"}, "there is no argument 'user_id'; there are: query, limit, kinds"),
    ("recall", {"query": "dog", "self": 1, "name": "x"}, "there is no argument 'self'"),
    ("recall", {"query": "dog", "\ud800" * 200: 1}, "there is no argument '\\ud800"),
    ("read_around", {"session_id": "s"}, "the argument 'position' is missing"),
    ("read_around", {"session_id": "s", "position": 0}, "position must be a whole number from 1 to"),
    ("read_around", {"session_id": "s", "position": 10**30}, "position must be a whole number from 1 to"),
    ("read_around", {"session_id": "s", "position": 1, "before": 21}, "before must be a whole number from 0 to 20"),
    ("read_around", {"session_id": "s", "position": 1, "after": -1}, "after must be a whole number from 0 to 20"),
    ("read_around", {"session_id": "x" * 600, "position": 1}, "600 characters"),
    ("remember", {"key": "k"}, "the argument 'value' is missing"),
    ("remember", {"key": "", "value": 1}, "key must be a string that is not blank"),
    ("remember", {"key": "k\0", "value": 1}, "NUL"),
    ("remember", {"key": "k", "value": 1, "importance": 2}, "importance must be a number from 0 to 1"),
    ("remember", {"key": "k", "value": 1, "importance": True}, "importance must be a number from 0 to 1"),
    ("remember", {"key": "k", "value": 1, "importance": float("nan")}, "importance must be a number from 0 to 1"),
    ("remember", {"key": "k", "value": float("nan")}, "nan has no JSON form"),
    ("forget", {"key": 5}, "key must be a string that is not blank"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "text"), WRONG, ids=lambda value: str(value)[:40].encode("ascii", "replace").decode()
)
async def test_wrong_arguments_are_named(
    tools: Tools, ada: UserSessions, name: str, arguments: dict[str, Any], text: str
) -> None:
    result = await tools[name].call(arguments)
    assert isinstance(result, str)
    assert result.startswith(ERROR)
    assert text in result
    assert len(result) < 300
    assert await ada.list_memories() == ["favourite_colour"]


def test_schemas_name_required_and_known_arguments(tools: Tools) -> None:
    facts = {
        name: (tool.schema["required"], list(tool.schema["properties"]), tool.schema["additionalProperties"])
        for name, tool in tools.items()
    }
    assert facts == {
        "recall": (["query"], ["query", "limit", "kinds", "roles", "since", "until"], False),
        "read_around": (["session_id", "position"], ["session_id", "position", "before", "after"], False),
        "remember": (["key", "value"], ["key", "value", "importance"], False),
        "forget": (["key"], ["key"], False),
    }
    assert all(tool.description and json.dumps(tool.declaration()) for tool in tools.values())


def test_read_only_tools_neither_store_nor_delete(ada: UserSessions) -> None:
    assert [tool.name for tool in memory_tools(ada, read_only=True)] == ["recall", "read_around"]


async def test_without_search_there_are_no_tools() -> None:
    async with create_storage("memory://") as storage, SessionManager(storage) as manager:
        with pytest.raises(ConfigurationError, match="memory tools need search"):
            memory_tools(manager.for_user("ada"))


def test_only_a_handle_of_a_user_has_tools(manager: SessionManager) -> None:
    with pytest.raises(ValidationError, match="not for SessionManager"):
        memory_tools(manager)  # type: ignore[arg-type]


# -- other users, failures ---------------------------------------------------------------------------


async def test_no_argument_reaches_another_user(manager: SessionManager) -> None:
    for user in ("ada", "bob"):
        await fill_user(manager, user, sessions=2)
    await fill_user(manager, None)
    before = await digest_of(manager.storage, "bob")
    tools = {tool.name: tool for tool in memory_tools(manager.for_user("ada"))}
    word = canary("bob")
    foreign = (session_of("bob"), session_of("bob", 1), session_of(None), "bob", "user:bob")
    calls: list[tuple[str, dict[str, Any]]] = [
        *(("recall", {"query": query, "limit": 20}) for query in (word, "bob", "asks canary of bob", foreign[0])),
        *(("read_around", {"session_id": one, "position": place}) for one in foreign for place in (1, 2, 3)),
        *(("read_around", {"session_id": one, "position": 1, "user_id": "bob"}) for one in foreign),
        *(("forget", {"key": key}) for key in (f"own 0 {word}", f"key {word}", "bob", "user:bob")),
        ("remember", {"key": f"own 0 {word}", "value": 1, "scope": "bob"}),
    ]
    results = [await tools[name].call(arguments) for name, arguments in calls]
    assert all(str(result).startswith(ERROR) for result in results[4:])
    assert canary("ada") in json.dumps(results)  # what is one's own is found
    assert word not in json.dumps(results)
    assert canary(None) not in json.dumps(results)
    await tools["remember"].call({"key": f"own 0 {word}", "value": "mine"})
    assert await digest_of(manager.storage, "bob") == before


@attrs.define
class Switch:
    """Whether a storage fails."""

    error: Exception | None = None


class Failing(StorageWrapper):
    """A storage that fails with an error that names a secret, as drivers do."""

    switch = Switch()

    async def query_sessions(self, query: SessionQuery) -> Page:
        self._fail()
        return await super().query_sessions(query)

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        self._fail()
        return await super().read_messages(session_id, span)

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        self._fail()
        return await super().delete_memory(scope, key)

    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        self._fail()
        return await super().change_memories(scope, puts, deletes=deletes, max_entries=max_entries)

    def _fail(self) -> None:
        if self.switch.error is not None:
            raise self.switch.error


@pytest.mark.parametrize(
    "error",
    [
        StorageUnavailableError(backend="postgres", reason="postgresql://app:sesame@db/prod"),
        RuntimeError("password sesame"),
        OSError("sesame"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_failing_store_is_a_text_without_secrets(
    manager: SessionManager, ada: UserSessions, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(manager.storage)
    async with SessionManager(failing) as over:
        tools = {tool.name: tool for tool in memory_tools(over.for_user("ada"))}
        failing.switch.error = error
        try:
            with caplog.at_level(logging.WARNING):
                results = [
                    await tools["recall"].call({"query": "dog"}),
                    await tools["read_around"].call({"session_id": "s", "position": 1}),
                    await tools["remember"].call({"key": "k", "value": 1}),
                    await tools["forget"].call({"key": "favourite_colour"}),
                ]
        finally:
            failing.switch.error = None
    assert results == ["Error: the memory cannot be reached now; go on without it, or try again later"] * 4
    assert "sesame" not in caplog.text
    assert f"the tool forget failed with {type(error).__name__}" in caplog.text


async def test_a_model_uses_the_tools(manager: SessionManager, ada: UserSessions) -> None:
    with scripted() as script:
        session_id = await ada.create_session({"name": "A"}, {"name": "scripted"})

        def calling(name: str, **arguments: Any) -> ChatResponse:
            call = {"id": name, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            return ChatResponse("", finish_reason="tool_calls", tool_calls=[call])

        script.answers = [
            calling("recall", query="What is the dog called?"),
            calling("remember", key="dog", value="Rex"),
            calling("forget", key="cat"),
            "Rex.",
        ]
        response = await run_tools(manager, session_id, "What is my dog called?", memory_tools(ada))
    assert response.content == "Rex."
    results = [str(one.content) for one in await ada.get_messages(session_id) if one.role == "tool"]
    assert "My dog is called Rex." in results[0]
    assert results[1] == '{"remembered":"dog"}'
    assert results[2].startswith(ERROR)
    [stored] = await ada.history("dog")
    assert stored.source == MemorySource(session_id=session_id, position=4)  # the answer that called the tool
    remember = next(tool for tool in memory_tools(ada) if tool.name == "remember")
    await remember.call({"key": "dog", "value": "Max"})
    assert [version.source for version in await ada.history("dog")] == [stored.source, None]
