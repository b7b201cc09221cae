"""The example of a chat product, served by uvicorn over HTTP on the loopback address, on SQLite."""

import importlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from fastapi.routing import APIRoute

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

# Answers come slowly enough to be stopped, keep-alives soon enough to be seen (FastAPI has the interval for tests to
# change), and a locked file is no long wait.
_SERVE = """
import os, socket, fastapi.routing, fastapi_app, uvicorn
from fastapi_chat_product import app
from luminoracore_sdk.container import make_container
from luminoracore_sdk.session import SQLiteStorage

def container(settings):
    made = make_container(settings)
    made.storage.override(SQLiteStorage(os.environ["CHAT_FILE"], busy_timeout=0.3))
    return made

fastapi_app.make_container = container
fastapi_app.PROVIDER["extra"] = {"delay": 0.01}
fastapi.routing._PING_INTERVAL = 0.3
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
uvicorn.Server(config).run(sockets=[listener])
"""

LONG = " ".join(["word"] * 400)
"""A question whose answer takes 4 seconds."""


@attrs.frozen
class Server:
    """A process that serves the example."""

    process: "subprocess.Popen[str]"
    url: str

    @contextmanager
    def browser(self, user: str | None) -> Iterator[httpx.Client]:
        """Return a client of a user."""
        headers = {} if user is None else {"X-User": user}
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=20) as client:
            yield client


@contextmanager
def serving(file: Path) -> Iterator[Server]:
    """Serve conversations in a file within the block."""
    others = ("LUMINORA_", "CHAT_", "OPENAI_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", _SERVE],
        env={**environment, "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{ROOT}", "CHAT_FILE": str(file)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Server(process, f"http://127.0.0.1:{process.stdout.readline().strip()}")
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chat") / "chat.db"


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[Server]:
    with serving(file) as running:
        yield running


@pytest.fixture
def ada(server: Server, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """Return the client of a user that no other test has."""
    with server.browser(f"ada-{request.node.name}") as client:
        yield client


def created(client: httpx.Client) -> str:
    """Create a conversation and return its path."""
    answer = client.post("/conversations")
    assert answer.status_code == 201
    return f"/conversations/{answer.json()}"


def events(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """Yield server-sent events as dictionaries of their fields; comments as ``{"": text}``."""
    event: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": " if not line.startswith(":") else ":")
            event[name] = value
        elif event:
            yield event
            event = {}


def changes(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """Yield events without the keep-alives between them, 20 of which say that none comes."""
    idle = 0
    for event in events(answer):
        idle = idle + 1 if "" in event else 0
        assert idle < 20
        if not idle:
            yield event


def streamed(client: httpx.Client, path: str, content: str | None = None, **body: Any) -> str:
    """Return the answer to a question, which is stored by the end of the stream."""
    method = "PUT" if "/messages/" in path and content is not None else "POST"
    sent = None if content is None else {"content": content, **body}
    with client.stream(method, path, json=sent) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        *deltas, end = events(answer)
    assert end == {"event": "end", "data": "{}"}
    told = [json.loads(delta["data"]) for delta in deltas]
    assert told[-1]["id"]
    return "".join(delta["content"] for delta in told)


def ask(client: httpx.Client, path: str, content: str, **body: Any) -> str:
    return streamed(client, f"{path}/messages", content, **body)


def said(client: httpx.Client, path: str, **query: int) -> list[dict[str, Any]]:
    answer = client.get(f"{path}/messages", params=query)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()
    return found


def contents(client: httpx.Client, path: str, **query: int) -> list[str]:
    return [message["content"] for message in said(client, path, **query)]


def done(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.content) == (204, b"")


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


# -- every endpoint does its work ------------------------------------------------------------------


def test_the_sidebar_shows_titles_and_last_words(ada: httpx.Client) -> None:
    first, second, third = (created(ada) for _ in range(3))
    ask(ada, first, "Where is Ghent?")
    done(ada.patch(first, json={"title": "Ghent", "pinned": True}))
    done(ada.patch(second, json={"archived": True}))
    rows = ada.get("/conversations").json()["conversations"]
    assert [f"/conversations/{row['session_id']}" for row in rows] == [first, third]
    shown = {name: rows[0][name] for name in ("title", "first_text", "last_text", "message_count", "pinned")}
    assert shown == {
        "title": "Ghent",
        "first_text": "Where is Ghent?",
        "last_text": "You said: Where is Ghent?",
        "message_count": 2,
        "pinned": True,
    }
    listed = {
        query: [row["session_id"] for row in ada.get(f"/conversations?{query}").json()["conversations"]]
        for query in ("pinned=true", "archived=true")
    }
    assert listed == {"pinned=true": [first[15:]], "archived=true": [second[15:]]}
    done(ada.patch(first, json={"title": None, "pinned": False}))
    assert ada.get("/conversations").json()["conversations"][0]["title"] is None
    done(ada.delete(third))
    assert refused(ada.get(f"{third}/messages")) == (404, "SessionNotFoundError")


def test_the_sidebar_has_pages(ada: httpx.Client) -> None:
    paths = [created(ada) for _ in range(53)]
    first = ada.get("/conversations").json()
    rest = ada.get("/conversations", params={"cursor": first["next_cursor"]}).json()
    found = [f"/conversations/{row['session_id']}" for page in (first, rest) for row in page["conversations"]]
    assert (found, rest["next_cursor"]) == (paths[::-1], None)


def test_a_conversation_has_pages(ada: httpx.Client) -> None:
    path = created(ada)
    for number in range(3):
        assert ask(ada, path, f"{number}") == f"You said: {number}"
    newest = said(ada, path, limit=3)
    assert [message["position"] for message in newest] == [4, 5, 6]
    assert contents(ada, path, before=4) == ["0", "You said: 0", "1"]


def test_a_repeated_question_is_answered_from_the_store(ada: httpx.Client) -> None:
    path = created(ada)
    assert ask(ada, path, "Once", id="q1") == ask(ada, path, "Once", id="q1")
    assert len(said(ada, path)) == 2
    other = ada.post(f"{path}/messages", json={"content": "Another", "id": "q1"})
    assert refused(other) == (409, "ConflictError")


def test_the_past_is_edited_regenerated_and_chosen(ada: httpx.Client) -> None:
    path = created(ada)
    ask(ada, path, "Where is Pariss?")
    question, _ = said(ada, path)
    assert streamed(ada, f"{path}/messages/{question['id']}", "Where is Paris?") == "You said: Where is Paris?"
    assert contents(ada, path) == ["Where is Paris?", "You said: Where is Paris?"]
    question, before = said(ada, path)
    alternatives = ada.get(f"{path}/messages/{question['id']}/alternatives").json()
    assert [[message["content"] for message in branch] for branch in alternatives] == [
        ["Where is Pariss?", "You said: Where is Pariss?"]
    ]
    streamed(ada, f"{path}/messages/{before['id']}/regenerate")
    _, after = said(ada, path)
    assert after["id"] != before["id"]
    done(ada.post(f"{path}/messages/{after['id']}/choose", json={"number": 0}))
    assert [message["id"] for message in said(ada, path)] == [question["id"], before["id"]]


def test_a_fork_and_a_rewind(ada: httpx.Client) -> None:
    path = created(ada)
    for content in ("One", "Two"):
        ask(ada, path, content)
    answer = said(ada, path)[1]
    forked = ada.post(f"{path}/fork", json={"at": answer["id"]})
    assert forked.status_code == 201
    ask(ada, f"/conversations/{forked.json()}", "Three")
    done(ada.post(f"{path}/rewind", json={"to": 2}))
    assert contents(ada, path) == ["One", "You said: One"]
    assert contents(ada, f"/conversations/{forked.json()}") == ["One", "You said: One", "Three", "You said: Three"]


def test_feedback_is_kept_and_a_redacted_message_is_empty(ada: httpx.Client) -> None:
    path = created(ada)
    ask(ada, path, "My secret")
    question, answer = said(ada, path)
    done(ada.patch(f"{path}/messages/{answer['id']}/feedback", json={"rating": 1, "why": "short"}))
    done(ada.patch(f"{path}/messages/{answer['id']}/feedback", json={"why": None}))
    assert said(ada, path)[1]["metadata"]["annotations"] == {"rating": 1}
    done(ada.delete(f"{path}/messages/{question['id']}"))
    done(ada.delete(f"{path}/messages/{answer['id']}"))
    assert contents(ada, path) == ["", ""]
    assert "secret" not in ada.get("/conversations").text


def test_usage_memory_export_and_erasure(ada: httpx.Client) -> None:
    path = created(ada)
    ask(ada, path, "Hello there")
    usage = ada.get("/me/usage").json()
    assert (usage["input_tokens"], usage["output_tokens"]) == (5, 4)
    assert ada.get("/me/usage", params={"until": "2001-01-01"}).json()["output_tokens"] == 0
    for key, value in {"city": "Ghent", "pets": ["cat"]}.items():
        done(ada.put(f"/me/memories/{key}", json={"value": value}))
    done(ada.delete("/me/memories/pets"))
    assert ada.get("/me/memories").json() == {"city": "Ghent"}
    exported = ada.get("/me/export")
    assert exported.headers["content-type"] == "application/x-ndjson"
    session, memories = map(json.loads, exported.text.splitlines())
    assert [message["content"] for message in session["messages"]] == ["Hello there", "You said: Hello there"]
    assert [memory["key"] for memory in memories["memories"]] == ["city"]
    receipt = ada.delete("/me").json()
    assert (receipt["sessions"], receipt["messages"], receipt["memories"], receipt["verified"]) == (1, 2, 1, True)
    assert refused(ada.get(f"{path}/messages")) == (404, "SessionNotFoundError")
    assert (ada.get("/me/memories").json(), ada.get("/me/export").text) == ({}, "")


# -- users apart from each other -------------------------------------------------------------------

CASES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/conversations"): {},
    ("GET", "/conversations"): {},
    ("PATCH", "/conversations/{conversation_id}"): {"json": {"title": "Taken"}},
    ("DELETE", "/conversations/{conversation_id}"): {},
    ("GET", "/conversations/{conversation_id}/messages"): {},
    ("POST", "/conversations/{conversation_id}/messages"): {"json": {"content": "Hello"}},
    ("PUT", "/conversations/{conversation_id}/messages/{message_id}"): {"json": {"content": "Hello"}},
    ("POST", "/conversations/{conversation_id}/messages/{message_id}/regenerate"): {},
    ("POST", "/conversations/{conversation_id}/stop"): {},
    ("GET", "/conversations/{conversation_id}/events"): {},
    ("GET", "/conversations/{conversation_id}/messages/{message_id}/alternatives"): {},
    ("POST", "/conversations/{conversation_id}/messages/{message_id}/choose"): {"json": {"number": 0}},
    ("POST", "/conversations/{conversation_id}/rewind"): {"json": {"to": 0}},
    ("POST", "/conversations/{conversation_id}/fork"): {"json": {"at": 1}},
    ("PATCH", "/conversations/{conversation_id}/messages/{message_id}/feedback"): {"json": {"rating": 1}},
    ("DELETE", "/conversations/{conversation_id}/messages/{message_id}"): {},
    ("GET", "/me/usage"): {},
    ("GET", "/me/memories"): {},
    ("PUT", "/me/memories/{key}"): {"json": {"value": "Lyon"}},
    ("DELETE", "/me/memories/{key}"): {},
    ("GET", "/me/export"): {},
    ("DELETE", "/me"): {},
}
"""Every endpoint, and what is sent to it; the erasure is the last one."""

OF_A_CONVERSATION = [case for case in CASES if "{conversation_id}" in case[1]]
OF_A_USER = [case for case in CASES if "{conversation_id}" not in case[1]]


def test_every_endpoint_has_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    app = importlib.import_module("fastapi_chat_product").app
    routes = [
        (method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods or ()
    ]
    assert sorted(routes) == sorted(CASES)
    assert len(routes) == 22  # as the guide says
    assert len((EXAMPLES / "fastapi_chat_product.py").read_text().splitlines()) < 200
    assert len({type(route) for route in app.routes if route.path.startswith(("/conversations", "/me"))}) == 1


def test_no_endpoint_reaches_another_user(server: Server, ada: httpx.Client) -> None:
    path = created(ada)
    for content in ("A canary", "Sings"):
        ask(ada, path, content)
    streamed(ada, f"{path}/messages/{said(ada, path)[1]['id']}/regenerate")  # there is an alternative
    message = said(ada, path)[1]["id"]
    done(ada.put("/me/memories/city", json={"value": "A canary"}))
    reads = [f"{path}/messages", "/conversations", "/me/memories", "/me/usage", "/me/export"]
    before = [ada.get(url).text for url in reads]
    names = {"conversation_id": path[15:], "message_id": message, "key": "city"}
    with server.browser("bob") as bob:
        for method, route in OF_A_CONVERSATION:
            sent = CASES[method, route]
            found = bob.request(method, route.format_map(names), **sent)
            missing = bob.request(method, route.format_map({**names, "conversation_id": "unknown"}), **sent)
            assert refused(found) == (404, "SessionNotFoundError")
            assert found.text.replace(path[15:], "unknown") == missing.text
        for method, route in OF_A_USER:
            found = bob.request(method, route.format_map(names), **CASES[method, route])
            assert found.is_success
            assert not re.search(f"canary|{message}|{path[15:]}", found.text)
    assert [ada.get(url).text for url in reads] == before


@pytest.mark.parametrize(("method", "route"), CASES)
def test_without_a_user_nothing_is_answered(server: Server, method: str, route: str) -> None:
    with server.browser(None) as anonymous:
        answer = anonymous.request(method, route.format(conversation_id="c", message_id="m", key="k"))
        assert refused(answer) == (422, "RequestValidationError")


# -- answers under way -----------------------------------------------------------------------------


@contextmanager
def answering(client: httpx.Client, path: str, content: str = LONG) -> Iterator[Iterator[dict[str, str]]]:
    """Ask a question, and return the events of its answer once the first has come."""
    with client.stream("POST", f"{path}/messages", json={"content": content}) as answer:
        assert answer.status_code == 200
        stream = events(answer)
        assert json.loads(next(stream)["data"])["content"] == "You "
        yield stream


def test_a_stopped_answer_is_kept_as_far_as_it_came(ada: httpx.Client) -> None:
    path = created(ada)
    assert ada.post(f"{path}/stop").json() is False
    with answering(ada, path) as stream:
        assert ada.post(f"{path}/stop").json() is True
        assert contents(ada, path)[0] == LONG  # it is stored when the stop returns
        *_, last = stream
        assert last == {"event": "end", "data": "{}"}
    _, partial = said(ada, path)
    assert partial["metadata"]["finish_reason"] == "stopped"
    assert f"You said: {LONG}".startswith(partial["content"])
    assert len(partial["content"]) < len(LONG)
    assert ask(ada, path, "And now?") == "You said: And now?"


def test_an_answer_goes_on_when_its_client_leaves(ada: httpx.Client) -> None:
    path = created(ada)
    with ada.stream("GET", f"{path}/events") as follower:
        with answering(ada, path, LONG[:250]):
            pass
        stream = changes(follower)
        assert [json.loads(next(stream)["data"])["message"]["content"] for _ in range(2)] == [
            LONG[:250],
            f"You said: {LONG[:250]}",
        ]


def test_a_busy_conversation_takes_no_second_turn(server: Server, ada: httpx.Client, file: Path) -> None:
    path, free = created(ada), created(ada)
    ask(ada, path, "First")
    question, answer = said(ada, path)
    turns: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", f"{path}/messages", {"content": "Hello"}),
        ("PUT", f"{path}/messages/{question['id']}", {"content": "Hello"}),
        ("POST", f"{path}/messages/{answer['id']}/regenerate", {}),
    ]
    with answering(ada, path), serving(file) as other, other.browser(ada.headers["X-User"]) as elsewhere:
        for client in (ada, elsewhere):
            found = [refused(client.request(method, url, json=body)) for method, url, body in turns]
            assert found == [(409, "SessionBusyError")] * 3
            assert ask(client, free, "Hello") == "You said: Hello"
        assert elsewhere.post(f"{path}/stop").json() is True  # the answer is another process's
        assert ada.post(f"{path}/stop").json() is False
        assert ask(elsewhere, path, "Hello") == "You said: Hello"
    assert contents(ada, path)[-2:] == ["Hello", "You said: Hello"]


def test_a_turn_that_is_interrupted_says_so(ada: httpx.Client) -> None:
    path = created(ada)
    with answering(ada, path) as stream:
        done(ada.delete(path))
        *_, last = stream
    assert (last["event"], json.loads(last["data"])["error"]) == ("error", "TurnInterruptedError")


# -- following -------------------------------------------------------------------------------------


class Copy:
    """A browser's copy of a conversation; it refuses what is missing and what comes twice."""

    def __init__(self, path: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.kinds: list[str] = []
        self._path = path
        self._last: str | None = None

    def follow(self, client: httpx.Client, count: int) -> None:
        """Connect, as a browser does, follow so many changes, and drop the connection."""
        headers = {} if self._last is None else {"Last-Event-ID": self._last}
        with client.stream("GET", f"{self._path}/events", headers=headers) as answer:
            assert answer.status_code == 200
            stream = changes(answer)
            for _ in range(count):
                self._apply(next(stream))

    def _apply(self, event: dict[str, str]) -> None:
        change = json.loads(event["data"])
        self._last = event["id"]
        self.kinds.append(event["event"])
        if event["event"] == "cut":
            assert change["position"] < len(self.messages)
            del self.messages[change["position"] :]
        elif event["event"] == "updated":
            assert self.messages[change["position"] - 1] != change["message"]
            self.messages[change["position"] - 1] = change["message"]
        else:
            assert (event["event"], change["position"]) == ("appended", len(self.messages) + 1)
            self.messages.append(change["message"])


def test_a_follower_whose_connection_breaks_misses_nothing(server: Server, ada: httpx.Client) -> None:
    path = created(ada)

    def talk() -> None:
        with server.browser(ada.headers["X-User"]) as other:
            for number in range(12):
                ask(other, path, f"Question {number}")

    copy = Copy(path)
    talking = threading.Thread(target=talk)
    talking.start()
    for _ in range(8):
        copy.follow(ada, 3)
    talking.join()
    assert copy.kinds == ["appended"] * 24
    assert copy.messages == said(ada, path)


def test_a_follower_that_comes_back_learns_what_changed(ada: httpx.Client) -> None:
    path = created(ada)
    for number in range(3):
        ask(ada, path, f"Question {number}")
    copy = Copy(path)
    copy.follow(ada, 6)
    first, answer, *_ = said(ada, path)
    done(ada.patch(f"{path}/messages/{answer['id']}/feedback", json={"rating": 1}))
    streamed(ada, f"{path}/messages/{said(ada, path)[-1]['id']}/regenerate")
    done(ada.delete(f"{path}/messages/{first['id']}"))
    copy.follow(ada, 2)  # and the connection breaks again
    copy.follow(ada, 2)
    assert copy.kinds[6:] == ["updated", "cut", "updated", "appended"]
    assert copy.messages == said(ada, path)


def test_a_follower_hears_that_the_connection_lives_and_of_a_deletion(ada: httpx.Client) -> None:
    path = created(ada)
    with ada.stream("GET", f"{path}/events") as answer:
        stream = events(answer)
        assert next(stream) == {"": " ping"}
        done(ada.delete(path))
        *_, last = (event for event in stream if "" not in event)
    assert last["event"] == "deleted"
    assert refused(ada.get(f"{path}/events")) == (404, "SessionNotFoundError")


# -- a server that dies ----------------------------------------------------------------------------


def test_a_killed_server_loses_no_turn(tmp_path: Path) -> None:
    with serving(tmp_path / "chat.db") as first, first.browser("ada") as ada:
        path = created(ada)
        copy = Copy(path)
        for number in range(3):
            ask(ada, path, f"Question {number}")
        copy.follow(ada, 4)
        before = said(ada, path)
        with answering(ada, path):
            first.process.send_signal(signal.SIGKILL)
            assert first.process.wait(10) == -signal.SIGKILL
    with serving(tmp_path / "chat.db") as second, second.browser("ada") as ada:
        assert said(ada, path) == before
        copy.follow(ada, 2)
        assert copy.messages == before
        # The lease of the killed turn ends by itself, after 30 seconds.
        assert refused(ada.post(f"{path}/messages", json={"content": "Hello"})) == (409, "SessionBusyError")
        fork = f"/conversations/{ada.post(f'{path}/fork', json={'at': 6}).json()}"
        assert ask(ada, fork, "Hello") == "You said: Hello"
        assert contents(ada, fork)[-3:] == ["You said: Question 2", "Hello", "You said: Hello"]


def test_a_server_that_ends_keeps_what_came(tmp_path: Path) -> None:
    with serving(tmp_path / "chat.db") as first, first.browser("ada") as ada:
        path = created(ada)
        with answering(ada, path) as stream:
            next(stream)
    with serving(tmp_path / "chat.db") as second, second.browser("ada") as ada:
        question, partial = said(ada, path)
        assert (question["content"], partial["metadata"]["finish_reason"]) == (LONG, "stopped")
        assert ask(ada, path, "And now?") == "You said: And now?"


# -- hostile input ---------------------------------------------------------------------------------


HOSTILE: list[tuple[str, str, bytes, int]] = [
    ("GET", "/conversations?cursor=x", b"", 422),
    ("GET", "/conversations?archived=x", b"", 422),
    ("PATCH", "{path}", b'{"title": "two\\nlines"}', 422),
    ("PATCH", "{path}", b'{"title": "%s"}' % (b"x" * 201), 422),
    ("PATCH", "{path}", b"[" * 100_000, 400),
    ("PATCH", "{path}", b"9" * 10_000, 400),
    ("GET", "{path}/messages?limit=0", b"", 422),
    ("GET", "{path}/messages?limit=201", b"", 422),
    ("GET", "{path}/messages?before=-1", b"", 200),
    ("GET", "{path}/messages?before=" + "9" * 40, b"", 200),
    ("GET", "{path}/messages?before=" + "9" * 5000, b"", 422),
    ("POST", "{path}/messages", b"{}", 422),
    ("POST", "{path}/messages", b'{"content": ["x"]}', 422),
    ("POST", "{path}/messages", b'{"content": "x", "role": "tool"}', 422),
    ("POST", "{path}/messages", b'{"content": "x", "id": ""}', 422),
    ("POST", "{path}/messages", b'{"content": "x", "id": "\\u0000"}', 422),
    ("PUT", "{path}/messages/unknown", b'{"content": "x"}', 404),
    ("PUT", "{path}/messages/{answer}", b'{"content": "x"}', 422),
    ("POST", "{path}/messages/unknown/regenerate", b"", 404),
    ("GET", "{path}/messages/unknown/alternatives", b"", 404),
    ("POST", "{path}/messages/unknown/choose", b'{"number": 0}', 404),
    ("POST", "{path}/messages/{answer}/choose", b'{"number": 0}', 422),
    ("POST", "{path}/rewind", b'{"to": "unknown"}', 404),
    ("POST", "{path}/rewind", b'{"to": 9}', 404),
    ("POST", "{path}/rewind", b'{"to": -1}', 422),
    ("POST", "{path}/rewind", b'{"to": %s}' % (b"9" * 30), 404),
    ("POST", "{path}/fork", b'{"at": "unknown"}', 404),
    ("POST", "{path}/fork", b'{"at": -1}', 404),
    ("POST", "{path}/fork", b'{"at": %s}' % (b"9" * 30), 404),
    ("PATCH", "{path}/messages/unknown/feedback", b'{"rating": 1}', 404),
    ("PATCH", "{path}/messages/{answer}/feedback", b'{"rating": NaN}', 422),
    ("PATCH", "{path}/messages/{answer}/feedback", b"[]", 422),
    ("DELETE", "{path}/messages/unknown", b"", 404),
    ("GET", "{path}/events?after=-1", b"", 422),
    ("GET", "{path}/events?after=x", b"", 422),
    ("GET", "/conversations/" + "x" * 600 + "/messages", b"", 422),
    ("PUT", "/me/memories/city", b'{"value": NaN}', 422),
    ("PUT", "/me/memories/" + "x" * 600, b'{"value": 1}', 422),
    ("GET", "/me/usage?since=yesterday", b"", 422),
]


@pytest.fixture(scope="module")
def victim(server: Server) -> Iterator[tuple[httpx.Client, str, str]]:
    """Return a client, the path of its conversation and the id of an answer in it."""
    with server.browser("victim") as client:
        path = created(client)
        ask(client, path, "Hello")
        yield client, path, said(client, path)[1]["id"]


@pytest.mark.parametrize(("method", "url", "body", "status"), HOSTILE)
def test_hostile_input_has_its_status(
    victim: tuple[httpx.Client, str, str], method: str, url: str, body: bytes, status: int
) -> None:
    client, path, answer = victim
    url = url.replace("{path}", path).replace("{answer}", answer)
    found = client.request(method, url, content=body, headers={"Content-Type": "application/json"})
    assert found.status_code == status
    assert contents(client, path) == ["Hello", "You said: Hello"]


@pytest.mark.parametrize("last", ["x", "-1", "1.", "1.1.1", "9" * 40])
def test_an_invalid_last_event_id_is_refused(victim: tuple[httpx.Client, str, str], last: str) -> None:
    client, path, _ = victim
    assert client.get(f"{path}/events", headers={"Last-Event-ID": last}).status_code == 422


@pytest.mark.parametrize("user", ["", "x" * 600])
def test_an_invalid_user_is_refused(server: Server, user: str) -> None:
    with server.browser(user) as client:
        assert client.get("/conversations").status_code == 422


def test_a_lone_surrogate_survives(ada: httpx.Client) -> None:
    path = created(ada)
    ada.headers["Content-Type"] = "application/json"
    with ada.stream("POST", f"{path}/messages", content=rb'{"content": "a\ud800"}') as answer:
        *_, end = events(answer)
    assert end["event"] == "end"
    assert contents(ada, path) == ["a\ud800", "You said: a\ud800"]
    copy = Copy(path)
    copy.follow(ada, 2)
    assert copy.messages == said(ada, path)
    done(ada.put("/me/memories/odd", content=rb'{"value": "\ud800"}'))
    assert ada.get("/me/memories").json() == {"odd": "\ud800"}
    assert rb"\ud800" in ada.get("/me/export").content
    done(ada.patch(path, content=rb'{"title": "\ud800"}'))
    assert ada.get("/conversations").json()["conversations"][0]["title"] == "\ud800"


def test_a_store_that_cannot_be_written_is_503(ada: httpx.Client, file: Path) -> None:
    path = created(ada)
    lock = sqlite3.connect(file, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        answer = ada.patch(path, json={"title": "Ghent"})
        assert refused(answer) == (503, "ServiceError")
        assert str(file) not in answer.text
    finally:
        lock.close()
    done(ada.patch(path, json={"title": "Ghent"}))
