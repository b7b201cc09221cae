"""Whole runs of an agent in processes of their own: resumed, killed, and two at once."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage
from tests.support.command import process_environment

__all__ = ["AgentRuns"]

_WORKER = Path(__file__).with_name("worker.py")
_SECONDS = 120


@pytest.mark.nightly
class AgentRuns:
    """The cases; a subclass names the framework.

    A fake model answers ``after N: TEXT`` to a text that follows N other texts of the user.
    """

    framework: str
    stored_id = "run"
    """The id of the stored session whose messages are those of the framework's session ``run``."""

    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path) -> None:
        self._environment = process_environment(tmp_path)

    def _start(
        self, store: StorageConfig, command: str, argument: str = "", *, session_id: str = "run"
    ) -> subprocess.Popen[str]:
        given = {name: value for name, value in attrs.asdict(store).items() if value is not None}
        return subprocess.Popen(
            [sys.executable, str(_WORKER), self.framework, json.dumps(given), session_id, command, argument],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _finished(self, process: subprocess.Popen[str]) -> list[Any]:
        out, err = process.communicate(timeout=_SECONDS)
        assert process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()]

    def _run(self, store: StorageConfig, command: str, argument: str = "") -> list[Any]:
        return self._finished(self._start(store, command, argument))

    def _texts(self, store: StorageConfig) -> list[str]:
        texts: list[str] = self._run(store, "texts")[0]
        return texts

    def test_another_process_resumes_the_conversation(self, shared_store: StorageConfig) -> None:
        assert self._run(shared_store, "turns", "one two") == [[0, "after 0: one"], [1, "after 1: two"]]
        assert self._run(shared_store, "turns", "three") == [[0, "after 2: three"]]
        assert self._texts(shared_store) == [
            *("one", "after 0: one", "two", "after 1: two"),
            *("three", "after 2: three"),
        ]

    async def test_a_session_manager_reads_the_conversation(self, shared_store: StorageConfig) -> None:
        self._run(shared_store, "turns", "one two")
        async with create_storage(shared_store) as storage, SessionManager(storage) as manager:
            messages = await manager.conversation_manager.get_messages(self.stored_id)
            (listed,) = [
                one for one in (await manager.list_conversations()).conversations if one.session_id == self.stored_id
            ]
        said = [(message.role.value, message.content) for message in messages if message.content]
        assert said == [
            *(("user", "one"), ("assistant", "after 0: one")),
            *(("user", "two"), ("assistant", "after 1: two")),
        ]
        assert (listed.first_text, listed.last_text) == ("one", "after 1: two")

    @pytest.mark.parametrize("seed", range(2))
    def test_a_killed_process_loses_nothing(self, shared_store: StorageConfig, seed: int) -> None:
        process = self._start(shared_store, "forever")
        assert process.stdout is not None
        acknowledged = -1
        for _ in range(random.Random(seed).randrange(2, 9)):  # noqa: S311
            acknowledged = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()  # what communicate() would not find in the buffer
        process.communicate()
        acknowledged = int(rest[-1]) if rest else acknowledged
        asked = [text for text in self._texts(shared_store) if text.startswith("question-")]
        whole = [f"question-{number}" for number in range(acknowledged + 1)]
        assert asked in (whole, [*whole, f"question-{acknowledged + 1}"])
        assert self._run(shared_store, "turns", "resumed") == [[0, f"after {len(asked)}: resumed"]]
        assert self._texts(shared_store)[-2:] == ["resumed", f"after {len(asked)}: resumed"]

    def test_two_processes_at_once_lose_nothing(self, shared_store: StorageConfig) -> None:
        self._run(shared_store, "turns", "first")
        words = [[f"{name}-{number}" for number in range(8)] for name in "ab"]
        processes = [self._start(shared_store, "turns", " ".join(own)) for own in words]
        answers = [str(answer) for process in processes for _, answer in self._finished(process)]
        texts = self._texts(shared_store)
        for own in words:
            assert [text for text in texts if text in own] == own
        assert sorted(text for text in texts if text.startswith("after ")) == sorted(["after 0: first", *answers])
        assert len(texts) == 2 * 17
