"""Killing a rewriting process leaves every record whole, in the old or the new encoding."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import attrs
import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing.records import memory_record, message_record, session_record
from tests.support.rewriter import other_form

_KILLS = 6
_MESSAGES = 400
_SCOPE = MemoryScope("session", "s")
_ROOT = Path(__file__).parents[2]


def long_messages(prefix: str) -> list[MessageRecord]:
    """Return two messages, long enough that a kill often interrupts their write."""
    return [message_record(f"{prefix}{number}", text=prefix * 4000) for number in (1, 2)]


def rewrite_and_kill(kind: type[SessionStorage], place: Path, random: Random) -> None:
    """Let a process rewrite at least once, and kill it within the next rounds."""
    command = [
        sys.executable,
        "-m",
        "tests.support.rewriter",
        f"{kind.__module__}:{kind.__name__}",
        str(place),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=_ROOT) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"rewritten\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0, 0.2))
        finally:
            process.send_signal(signal.SIGKILL)
        said = process.stdout.read()
    assert process.returncode == -signal.SIGKILL, said


@pytest.mark.parametrize("kind", [JSONFileStorage, SQLiteStorage])
async def test_killing_a_rewriter_leaves_every_record_whole(
    tmp_path: Path, kind: type[JSONFileStorage | SQLiteStorage]
) -> None:
    place, random = tmp_path / "store", Random(7)  # noqa: S311 - a moment, no secret
    async with kind(place) as storage:
        await storage.put_session(session_record())
        for start in range(0, _MESSAGES, 2):
            await storage.append_messages("s", long_messages(f"{start}-"))
        memory = await storage.put_memory(memory_record("k"))
        header = await storage.find_session("s")
        messages = await storage.read_messages("s", MessageRange())
    assert header is not None
    assert header.payload is not None
    for _ in range(_KILLS):
        rewrite_and_kill(kind, place, random)
        async with kind(place) as storage:
            found = await storage.read_messages("s", MessageRange())
            changed = [message.payload.encoding != "json" for message in found]
            assert len(set(changed)) == 1  # a batch is one step: the old log or the new one
            assert found == [
                attrs.evolve(message, payload=other_form(message.payload)) if changed[0] else message
                for message in messages
            ]
            kept = await storage.find_session("s")
            assert kept in (header, attrs.evolve(header, payload=other_form(header.payload)))
            (remembered,) = await storage.list_memories(_SCOPE)
            assert remembered in (memory, attrs.evolve(memory, payload=other_form(memory.payload)))
            receipt = await storage.append_messages("s", long_messages("0-"))
            assert (receipt.first_position, receipt.replayed) == (1, True)
