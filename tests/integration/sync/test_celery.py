"""Celery: a worker that forks its processes after the application was imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.sync.conftest import Worker

TASKS = 10

SEND = f"""
import json
from tests.support.celery_app import manager, send

session_id = manager.create_session({{}}, {{"name": "echo"}})
sent = [send.delay(session_id, str(number)) for number in range({TASKS})]
answers = [task.get(timeout=60, interval=0.02) for task in sent]
print(json.dumps([answers, manager.conversation_manager.get_message_count(session_id)]))
"""


@pytest.mark.nightly
def test_tasks_of_two_processes_write_one_session(
    run_python: Worker, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["CELERY_FOLDER"] = str(tmp_path)
    command = ["-m", "celery", "--app", "tests.support.celery_app", "worker", "--pool", "prefork", "--concurrency", "2"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    with subprocess.Popen(
        [sys.executable, *command], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as worker:
        try:
            done = run_python("-c", SEND)
        finally:
            worker.terminate()
            output, _ = worker.communicate(timeout=30)
    assert done.returncode == 0, done.stderr + output.decode()
    answers, count = json.loads(done.stdout)
    assert [answer["content"] for answer in answers] == [f"You said: {number}" for number in range(TASKS)]
    assert len({answer["process"] for answer in answers}) == 2
    assert count == 2 * TASKS
    assert worker.returncode == 0
