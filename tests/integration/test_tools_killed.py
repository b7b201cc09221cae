"""A run of tools is killed at every moment: the next one with the same message finishes it and repeats nothing."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.session import Message, SessionManager
from tests.support import tool_run_worker
from tests.support.killed_clients import CLIENTS, Client
from tests.support.model_server import KEY, WIRES, ModelServer, Reply, Request, event
from tests.support.strict_vendors import refusals
from tests.support.tool_run_worker import PICTURE, QUESTION

ROOT = Path(__file__).parents[2]
VENDORS = {"openai": "vllm", "anthropic": "anthropic"}
"""vLLM takes pictures, and its ``reasoning_content`` back as DeepSeek does."""

CALLS = [
    [("call_1", "locate", {"country": "IT"}), ("call_2", "forecast", {"city": "Turin"})],
    [("call_3", "look", {"at": "sky"})],
    [],
]
TEXTS = ["Let me see.", "", "It is sunny in Turin."]
THOUGHTS = ["A picture: where is it?", "No forecast. There is a camera.", "Sunny, then."]


# -- the model -----------------------------------------------------------------------------------


def step_of(request: Request) -> int:
    """Return which question of the conversation a request asks: 0, 1 or 2, by the results that it holds."""
    text = json.dumps(request.body)
    return {0: 0, 2: 1, 3: 2}[text.count('"tool_use_id"' if request.wire == "anthropic" else '"tool_call_id"')]


def answer_of(wire: str, step: int) -> dict[str, Any]:
    if wire == "anthropic":
        content: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": THOUGHTS[step], "signature": f"c2lnbmVk{step}=="},
            {"type": "redacted_thinking", "data": f"aGlkZGVu{step}"},
        ]
        content += [{"type": "text", "text": TEXTS[step]}] if TEXTS[step] else []
        content += [{"type": "tool_use", "id": i, "name": name, "input": given} for i, name, given in CALLS[step]]
        whole: dict[str, Any] = {
            "id": f"answer-{step}",
            "type": "message",
            "role": "assistant",
            "model": "model-x",
            "content": content,
            "stop_reason": "tool_use" if CALLS[step] else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 50, "output_tokens": 9},
        }
    else:
        calls = [
            {"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
            for i, name, given in CALLS[step]
        ]
        message = {
            "role": "assistant",
            "content": TEXTS[step] or None,
            "reasoning_content": THOUGHTS[step],
            "tool_calls": calls or None,
        }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        whole = {
            "id": f"answer-{step}",
            "object": "chat.completion",
            "created": 1,
            "model": "model-x",
            "choices": [choice],
            "usage": {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59},
        }
    return whole


def frames(wire: str, answer: dict[str, Any]) -> list[bytes]:
    """Return an answer as a stream."""
    if wire == "anthropic":
        return [event(one) for one in anthropic_events(answer)]
    choice = answer["choices"][0]
    message = choice["message"]
    thought = message["reasoning_content"]
    deltas: list[dict[str, Any]] = [{"reasoning_content": thought[:7]}, {"reasoning_content": thought[7:]}]
    deltas += [{"content": message["content"]}] if message["content"] else []
    for index, call in enumerate(message["tool_calls"] or []):
        arguments = call["function"]["arguments"]
        begun = {**call, "index": index, "function": {**call["function"], "arguments": arguments[:4]}}
        deltas += [
            {"tool_calls": [begun]},
            {"tool_calls": [{"index": index, "function": {"arguments": arguments[4:]}}]},
        ]
    ends = [*((delta, None) for delta in deltas), ({}, choice["finish_reason"])]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in ends]
    return [*(event({"id": answer["id"], **chunk}) for chunk in chunks), b"data: [DONE]\n\n"]


def anthropic_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": {**answer, "content": [], "stop_reason": None}}
    for index, block in enumerate(answer["content"]):
        begun, deltas = block, []
        match block["type"]:
            case "thinking":
                begun = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [("thinking", block["thinking"][:7]), ("thinking", block["thinking"][7:])]
                deltas.append(("signature", block["signature"]))
            case "text":
                begun, deltas = {"type": "text", "text": ""}, [("text", block["text"])]
            case "tool_use":
                arguments = json.dumps(block["input"])
                begun = {**block, "input": {}}
                deltas = [("partial_json", arguments[:4]), ("partial_json", arguments[4:])]
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for name, piece in deltas:
            kind = "input_json_delta" if name == "partial_json" else f"{name}_delta"
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: piece}}
        yield {"type": "content_block_stop", "index": index}
    end = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


# -- the processes -------------------------------------------------------------------------------


@attrs.define
class Stage:
    """The process that runs the conversation, and the model server that it asks; both reach moments.

    Attributes:
        wire: The wire format.
        worker: Forks the processes.
        server: The model.
        kill_at: Number of the moment at which the process is killed; None: it is not.
        moments: The moments that the running process has reached, and the server on its behalf.
        process: Its id.
        is_killed: Whether it was killed.
    """

    wire: str
    worker: asyncio.subprocess.Process
    server: ModelServer = attrs.field(factory=ModelServer)
    kill_at: int | None = None
    moments: list[str] = attrs.field(factory=list)
    process: int = 0
    is_killed: bool = False

    def reached(self, moment: str, process: int) -> bool:
        """Note a moment of a process; kill it if it is the one; return whether the process goes on."""
        if process != self.process or self.is_killed:  # what was under way when it was killed
            return False
        self.moments.append(moment)
        if len(self.moments) == self.kill_at:
            os.kill(process, signal.SIGKILL)
            self.is_killed = True
        return not self.is_killed

    def answer(self, request: Request) -> Reply:
        step, process = step_of(request), self.process
        self.reached(f"request {step} came", process)
        answer = answer_of(self.wire, step)
        sent = frames(self.wire, answer) if request.streaming else [json.dumps(answer).encode()]
        body = b"".join(sent)
        half = len(b"".join(sent[: len(sent) // 2])) or len(body) // 2

        def pieces() -> Iterator[bytes]:
            yield body[:half]
            self.reached(f"half of answer {step} was sent", process)
            yield body[half:]
            self.reached(f"answer {step} was sent", process)

        kind = "text/event-stream" if request.streaming else "application/json"
        return Reply(content_type=kind, pieces=pieces())

    async def run(self, place: str | None, *, kill_at: int | None = None) -> int:
        """Run the conversation in a new process; return its exit status."""
        self.kill_at, self.is_killed, self.moments, self.server.requests = kill_at, False, [], []
        base_url = self.server.url if self.wire == "anthropic" else f"{self.server.url}/v1"
        extra = {"max_retries": 0}
        provider = {"name": VENDORS[self.wire], "base_url": base_url, "model": "model-x", "extra": extra}
        assert self.worker.stdin is not None
        assert self.worker.stdout is not None
        self.worker.stdin.write(json.dumps([provider, place]).encode() + b"\n")
        async for line in self.worker.stdout:
            word, _, rest = line.decode().strip().partition(" ")
            if word == "began":
                self.process = int(rest)
            elif word == "ended":
                return int(rest)
            elif self.reached(rest, self.process):
                self.worker.stdin.write(b".")
        raise AssertionError("the worker ended")


@asynccontextmanager
async def stage_of(client: Client, wire: str, mode: str, folder: Path) -> AsyncIterator[Stage]:
    command = [sys.executable, tool_run_worker.__file__, client.factory, wire, mode]
    # reading the certificates would take a sixth of the time of a process
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ANTHROPIC_API_KEY": KEY, "SSL_CERT_DIR": str(folder)}
    errors = folder / "errors.txt"
    with errors.open("wb") as file:
        worker = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            env=environment,
        )
        stage = Stage(wire, worker)
        stage.server.script = [stage.answer]
        try:
            async with stage.server:
                yield stage
        finally:
            worker.stdin.close()  # type: ignore[union-attr]
            await worker.wait()
    assert errors.read_text() == ""


# -- the store -----------------------------------------------------------------------------------


async def stored(client: Client, place: str) -> list[Message]:
    module, _, name = client.factory.partition(":")
    async with getattr(import_module(module), name)(place) as storage, SessionManager(storage) as manager:
        return await manager.conversation_manager.get_messages("s", limit=100)


def facts(messages: list[Message]) -> list[tuple[Any, ...]]:
    """Return all that is stored but times, and the ids of answers, which are generated."""
    return [
        (one.position, one.role, one.content, one.metadata, None if one.role == "assistant" else one.id)
        for one in messages
    ]


def given_back(wire: str, body: dict[str, Any]) -> list[Any]:
    """Return the reasoning of the answers in a request."""
    answers = [message for message in body["messages"] if message["role"] == "assistant"]
    if wire == "openai":
        return [answer["reasoning_content"] for answer in answers]
    return [[block for block in answer["content"] if "thinking" in block["type"]] for answer in answers]


# -- the tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("mode", ["whole", pytest.param("streamed", marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    "client",
    [
        pytest.param(client, id=name, marks=() if name == "sqlite" else pytest.mark.nightly)
        for name, client in CLIENTS.items()
    ],
)
async def test_a_run_killed_at_any_moment_is_finished(tmp_path: Path, client: Client, mode: str, wire: str) -> None:
    async with stage_of(client, wire, mode, tmp_path) as stage:
        assert await stage.run(None) == 0
        whole = await uninterrupted(stage, client, tmp_path / "whole")
        moment = 0
        while True:
            moment += 1
            path = tmp_path / f"moment-{moment}"
            place = client.place(path)
            status = await stage.run(place, kill_at=moment)
            if status == 0:
                break
            assert status == -signal.SIGKILL
            await finished(stage, client, place, whole)
            client.clear(path)
        client.clear(path)
    assert moment == whole.moments + 1


@attrs.frozen
class Whole:
    """The conversation without an interruption: its moments, what is stored and what was asked."""

    moments: int
    stored: list[Message]
    bodies: list[dict[str, Any]]


async def uninterrupted(stage: Stage, client: Client, path: Path) -> Whole:
    place = client.place(path)
    assert await stage.run(place) == 0
    bodies = [request.body for request in stage.server.requests]
    messages = await stored(client, place)
    client.clear(path)
    assert [message.role.value for message in messages] == [
        *("user", "assistant", "tool", "tool", "assistant", "tool", "assistant")
    ]
    look = [{"type": "text", "text": "The sky:"}, PICTURE] if stage.wire == "anthropic" else '{"at":"sky","clouds":3}'
    assert [message.content for message in messages if message.role == "tool"] == [
        *("Turin, IT", "LookupError: no station in Turin", look)
    ]
    assert messages[0].content == QUESTION.content
    reasoning: list[Any] = THOUGHTS[:2]
    if stage.wire == "anthropic":
        answers = [answer_of("anthropic", step)["content"] for step in (0, 1)]
        reasoning = [[block for block in answer if "thinking" in block["type"]] for answer in answers]
        last = bodies[2]["messages"][-1]["content"][0]
        assert (last["tool_use_id"], [part["type"] for part in last["content"]]) == ("call_3", ["text", "image"])
    assert [given_back(stage.wire, body) for body in bodies] == [reasoning[:step] for step in range(3)]
    assert [refusals(VENDORS[stage.wire], body) for body in bodies] == [[], [], []]
    return Whole(len(stage.moments), messages, bodies)


async def finished(stage: Stage, client: Client, place: str, whole: Whole) -> None:
    """Run the conversation of a process that was killed again; assert that it ends as if nothing had happened."""
    where = stage.moments[-1]
    killed = [request.body for request in stage.server.requests]
    kept = await stored(client, place)
    assert facts(kept) == facts(whole.stored)[: len(kept)], where
    answers = sum(message.role == "assistant" for message in kept)
    results = {message.metadata["name"] for message in kept if message.role == "tool"}

    assert await stage.run(place) == 0, where
    bodies = [request.body for request in stage.server.requests]
    assert killed == whole.bodies[: len(killed)], where
    assert len(killed) - answers in {0, 1}, where  # the one whose answer was lost
    assert bodies == whole.bodies[answers:], where
    begun = {name for name in ("locate", "forecast", "look") if f"{name} begins" in stage.moments}
    assert begun == {"locate", "forecast", "look"} - results, where
    assert facts(await stored(client, place)) == facts(whole.stored), where
    assert [message.id for message in await stored(client, place)][: len(kept)] == [message.id for message in kept]
