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

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing import _crash_writer

__all__ = ["CrashReport", "crash_trial"]

_WRITER = Path(_crash_writer.__file__)
_MOST_LINES_BEFORE_THE_KILL = 24
_LONGEST_DELAY_SECONDS = 0.004


@attrs.frozen(kw_only=True)
class CrashReport:
    """What one kill showed.

    Attributes:
        acknowledged: Turns that the killed process knew to be stored.
        stored: Turns found in the store, of this trial and of those before it on the same place.
        problems: What is wrong, one line each; empty: nothing lost, nothing double, nothing unreadable.
    """

    acknowledged: int
    stored: int
    problems: tuple[str, ...]


def crash_trial(factory: str, place: str | os.PathLike[str], *, seed: int, writers: int = 2) -> CrashReport:
    """Start a process that appends turns, kill it with SIGKILL at a random moment, and check the store.

    May be repeated on the same place with another seed: each trial then begins on what the last left.

    Args:
        factory: ``module:name`` of what makes a storage of a place, importable by a new process too,
            such as ``luminoracore_sdk.adapters.storage.json_file:JSONFileStorage``.
        place: Handed to the factory as text.
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
    problems: list[str] = []
    stored = 0
    async with storage:
        sessions = await storage.list_sessions()
        told = {of for what, of, _ in acknowledged if what == "stored"}
        problems += [f"{session_id} is lost" for session_id in sorted(told - set(sessions))]
        for session_id in sessions:
            messages = await storage.read_messages(session_id, MessageRange())
            stored += len(messages) // 2
            problems += _wrong_in(session_id, messages)
            problems += _wrong_against(session_id, messages, run, acknowledged)
            problems += await _wrong_memories(storage, session_id, acknowledged)
            problems += await _wrong_going_on(storage, session_id, run, messages)
    turns = sum(what == "stored" for what, _, _ in acknowledged)
    return CrashReport(acknowledged=turns, stored=stored, problems=tuple(problems))


def _wrong_against(
    session_id: str, messages: list[MessageRecord], run: str, acknowledged: list[list[str]]
) -> list[str]:
    """Compare what is stored with what the writer was told."""
    told = [turn for what, of, turn in acknowledged if (what, of) == ("stored", session_id)]
    found = {message.message_id.rpartition("-")[0] for message in messages}
    problems = [f"{session_id}: {turn} was acknowledged and is lost" for turn in told if turn not in found]
    untold = [turn for turn in found if turn.startswith(f"{run}-") and turn not in told]
    if len(untold) > 1:  # only the turn under way may be there without its writer knowing
        problems.append(f"{session_id}: {len(untold)} turns are stored of which none was told")
    return problems


def _wrong_in(session_id: str, messages: list[MessageRecord]) -> list[str]:
    problems = []
    if [message.position for message in messages] != list(range(1, len(messages) + 1)):
        problems.append(f"{session_id}: positions have gaps")
    if len({message.message_id for message in messages}) != len(messages):
        problems.append(f"{session_id}: a message is there twice")
    for start in range(0, len(messages), 2):
        pair = messages[start : start + 2]
        name = pair[0].message_id.rpartition("-")[0]
        wanted = [(m.message_id, m.role, m.payload) for m in _crash_writer.turn(session_id, name)]
        if [(m.message_id, m.role, m.payload) for m in pair] != wanted:
            problems.append(f"{session_id}: the turn at position {start + 1} is not whole")
    return problems


async def _wrong_memories(
    storage: SessionStorage, session_id: str, acknowledged: list[list[str]]
) -> list[str]:
    told = [turn for what, of, turn in acknowledged if (what, of) == ("remembered", session_id)]
    scope = MemoryScope("session", session_id)
    found = [memory.key for memory in await storage.list_memories(scope)]
    problems = []
    if told and told[-1] not in found:  # of equal retention the newest stay
        problems.append(f"{session_id}: the memory {told[-1]} was acknowledged and is lost")
    # A put that was killed never returned, so it may have left one too many; the next one may not.
    await _crash_writer.remember(storage, session_id, "after the kill")
    count = len(await storage.list_memories(scope))
    if count > _crash_writer.MOST_MEMORIES:
        problems.append(f"{session_id}: {count} memories, at most {_crash_writer.MOST_MEMORIES} were allowed")
    return problems


async def _wrong_going_on(
    storage: SessionStorage, session_id: str, run: str, messages: list[MessageRecord]
) -> list[str]:
    """Append one more turn, and the last one again: both must do what they do on any other day."""
    problems = []
    if messages and not (await storage.append_messages(session_id, messages[-2:])).replayed:
        problems.append(f"{session_id}: the last turn was stored again")
    receipt = await storage.append_messages(session_id, _crash_writer.turn(session_id, f"after-{run}"))
    if receipt.first_position != len(messages) + 1:
        problems.append(f"{session_id}: the next turn came to position {receipt.first_position}")
    return problems
