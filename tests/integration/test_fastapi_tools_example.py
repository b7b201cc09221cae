"""The example with tools, as a process that answers HTTP, in front of a model server."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx
import pytest

from tests.support.model_server import KEY, ModelServer, fail, hang, say
from tests.support.tool_answers import call_on_wire

ROOT = Path(__file__).parents[2]

# Bound and listening before it prints its port, so that no client connects too early.
_SERVE = """
import socket, uvicorn
from fastapi_tools import app

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""


@attrs.frozen
class Service:
    process: subprocess.Popen[str]
    client: httpx.AsyncClient

    async def ask(self, session_id: str, message_id: str, content: str) -> httpx.Response:
        body = {"id": message_id, "content": content}
        return await self.client.post(f"/sessions/{session_id}/messages", json=body)

    async def create(self) -> str:
        answer = await self.client.post("/sessions")
        session_id: str = answer.json()["session_id"]
        return session_id


def start(place: Path, model: ModelServer) -> subprocess.Popen[str]:
    settings = {
        "CHAT_BASE_URL": f"{model.url}/v1",
        "CHAT_PROVIDER": "openai",
        "LUMINORA_STORE": f"sqlite:///{place}",
        "OPENAI_API_KEY": KEY,
        "PYTHONPATH": f"{ROOT / 'examples'}{os.pathsep}{ROOT}",
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("LUMINORA_")}
    return subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        env={**others, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@asynccontextmanager
async def serving(place: Path, model: ModelServer) -> AsyncIterator[Service]:
    process = start(place, model)
    assert process.stdout is not None
    try:
        port = (await asyncio.to_thread(process.stdout.readline)).strip()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            yield Service(process, client)
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate, timeout=20)
    assert errors == ""


async def test_a_question_that_was_cut_off_by_a_kill_continues(tmp_path: Path) -> None:
    script = [call_on_wire("find_order", {"number": 17}), hang(), say("It is in Ghent.")]
    async with ModelServer(*script) as model:
        async with serving(tmp_path / "support.db", model) as service:
            session_id = await service.create()

            async def kill_it() -> None:
                while len(model.requests) < 2:
                    model.asked.clear()
                    await model.asked.wait()
                service.process.kill()

            killing = asyncio.create_task(kill_it())
            with pytest.raises(httpx.TransportError):
                await service.ask(session_id, "q1", "Where is order 17?")
            await killing
        async with serving(tmp_path / "support.db", model) as service:
            for _ in range(2):
                answer = await service.ask(session_id, "q1", "Where is order 17?")
                assert (answer.status_code, answer.json()) == (200, {"content": "It is in Ghent.", "position": 4})
    assert len(model.requests) == 3
    assert model.requests[2].body["messages"] == model.requests[1].body["messages"]
    assert model.requests[2].body["messages"][-1]["content"] == '{"item":"tea","place":"Ghent"}'


async def test_the_mood_is_an_object(tmp_path: Path) -> None:
    glad = say('{"mood": "glad", "needs_a_person": false}')
    async with ModelServer(glad) as model, serving(tmp_path / "support.db", model) as service:
        answer = await service.client.post(f"/sessions/{await service.create()}/mood")
    assert answer.json() == {"mood": "glad", "needs_a_person": False}
    assert model.requests[0].body["response_format"]["json_schema"]["name"] == "Mood"


async def test_failures_have_a_status_and_a_name(tmp_path: Path) -> None:
    script = [say("Hm."), say("Hm."), fail(400)]
    async with ModelServer(*script) as model, serving(tmp_path / "support.db", model) as service:
        session_id = await service.create()
        answers = [
            await service.client.post(f"/sessions/{session_id}/mood"),
            await service.ask(session_id, "q1", "Hello?"),
            await service.ask("nobody", "q1", "Hello?"),
        ]
    assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [
        (502, "StructuredOutputError"),
        (502, "ProviderError"),
        (404, "SessionNotFoundError"),
    ]
