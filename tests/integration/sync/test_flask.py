"""Flask: a server with a thread for each request, and gunicorn, which forks after the application was imported."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

MESSAGES = 24
MOST = 20 * MESSAGES
"""Messages after which every worker of the server must have answered one."""


@contextmanager
def serving(environment: dict[str, str], announced: str, *command: str) -> Iterator[httpx.Client]:
    """Run a server, wait until it announces its address, and stop it with SIGTERM."""
    with subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            lines = iter(server.stderr.readline, "")
            address = next((found[1] for line in lines if (found := re.search(announced, line))), None)
            assert address, f"the server ended with {server.wait(10)}"
            threading.Thread(target=server.stderr.read, daemon=True).start()  # so that the pipe does not fill up
            with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
                yield client
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(params=["flask", "gunicorn"])
def client(request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: object) -> Iterator[httpx.Client]:
    variables = {**environment, "LUMINORA_STORE": f"sqlite:///{tmp_path}/store.db"}
    if request.param == "flask":
        code = (
            "from werkzeug.serving import make_server; from tests.support.flask_app import app\n"
            "server = make_server('127.0.0.1', 0, app, threaded=True)\n"
            "import sys; print(f'http://127.0.0.1:{server.port}', file=sys.stderr, flush=True)\n"
            "server.serve_forever()\n"
        )
        command = ["-c", code]
    else:
        application = "tests.support.flask_app:app"
        command = ["-m", "gunicorn", "--preload", "--workers=2", "--bind=127.0.0.1:0", application]
    with serving(variables, r"(http://127\.0\.0\.1:\d+)", *command) as running:
        yield running


def test_many_requests_at_once_lose_nothing(client: httpx.Client, request: pytest.FixtureRequest) -> None:
    session_id = client.post("/sessions").json()["id"]

    def send(number: int) -> dict[str, object]:
        answer: dict[str, object] = client.post(f"/sessions/{session_id}/messages", content=f"{number}").json()
        return answer

    workers = 2 if "gunicorn" in request.node.name else 1
    processes: set[object] = set()
    numbers = range(MESSAGES)
    while len(processes) < workers and numbers.start < MOST:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(send, numbers))
        assert [answer["content"] for answer in answers] == [f"You said: {number}" for number in numbers]
        assert client.get(f"/sessions/{session_id}/messages").json() == {"count": 2 * numbers.stop}
        processes |= {answer["process"] for answer in answers}
        numbers = range(numbers.stop, numbers.stop + MESSAGES)
    assert len(processes) == workers


def test_an_answer_is_streamed_and_a_reader_may_leave(client: httpx.Client) -> None:
    session_id = client.post("/sessions").json()["id"]
    with client.stream("POST", f"/sessions/{session_id}/stream", content="Good day") as response:
        assert "".join(response.iter_text()) == "You said: Good day"
    with client.stream("POST", f"/sessions/{session_id}/stream", content="word " * 200) as response:
        assert next(response.iter_text()).startswith("You")
    answer = client.post(f"/sessions/{session_id}/messages", content="next").json()
    assert answer["content"] == "You said: next"
