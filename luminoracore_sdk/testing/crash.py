"""Kills: a process that writes is ended by SIGKILL, and what it was told is stored must be there."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from random import Random

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing import _crash_writer
from luminoracore_sdk.testing.crash_check import Acknowledged, CrashReport, check_store

__all__ = ["crash_trial"]

_WRITER = Path(_crash_writer.__file__)
_MOST_LINES_BEFORE_THE_KILL = 24
_LONGEST_DELAY_SECONDS = 0.004


def crash_trial(factory: str, place: str | os.PathLike[str], *, seed: int, writers: int = 2) -> CrashReport:
    """Start a process that appends turns, kill it with SIGKILL at a random moment, and check the store.

    May be repeated on the same place with another seed: each trial then begins on what the last left.

    Args:
        factory: ``module:name`` of what makes a storage of a place, importable by a new process too,
            such as ``luminoracore_sdk.adapters.storage.json_file:JSONFileStorage``.
        place: Handed to the factory as text: a path, or the address of a server.
        seed: Of the moment. Unlike for each trial on a place: it names the run's messages.
        writers: Tasks that write at once, each to a session of its own.
    Returns:
        What was found. A store that cannot be opened or read raises what it raises.
    """
    random = Random(seed)  # noqa: S311  # a moment, no secret
    path, run = os.fspath(place), f"run{seed}"
    with _writing(factory, path, run, writers) as process:
        acknowledged = _kill_at_random(process, random)
    return asyncio.run(_check(factory, path, run, acknowledged))


@contextmanager
def _writing(factory: str, place: str, run: str, writers: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", str(_WRITER), factory, place, run, str(writers)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.curdir, *sys.path]))}
    with subprocess.Popen(  # noqa: S603  # our own interpreter
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _kill_at_random(process: subprocess.Popen[str], random: Random) -> list[list[str]]:
    """Return what the process said was stored or remembered until its end, three words a line."""
    assert process.stdout is not None
    lines: list[str] = []
    enough = random.randint(1, _MOST_LINES_BEFORE_THE_KILL)
    while len(lines) < enough and (line := process.stdout.readline()):
        lines.append(line)
    time.sleep(random.uniform(0, _LONGEST_DELAY_SECONDS))
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    if process.wait() != -signal.SIGKILL:
        raise AssertionError(f"the writer ended by itself:\n{''.join(lines)}")
    # A line is one write of fewer bytes than a pipe takes whole (POSIX PIPE_BUF), so none is torn.
    said = [line.split() for line in lines]
    return [words for words in said if words and words[0] in ("stored", "remembered")]


async def _check(factory: str, place: str, run: str, acknowledged: list[list[str]]) -> CrashReport:
    module, _, name = factory.partition(":")
    storage: SessionStorage = getattr(import_module(module), name)(place)
    told = Acknowledged(
        turns=[(session_id, turn) for what, session_id, turn in acknowledged if what == "stored"],
        memories=[(session_id, key) for what, session_id, key in acknowledged if what == "remembered"],
    )
    async with storage:
        return await check_store(storage, run, told)
