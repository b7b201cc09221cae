"""Crash trials: a writer process or a server is ended by SIGKILL, and every acknowledged write must exist."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from typing import TypeVar

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, MessageRecord, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    StorageAccessError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing import _crash_writer
from luminoracore_sdk.testing.records import json_payload

__all__ = ["Acknowledged", "CrashReport", "check_store", "crash_trial", "server_crash_trial"]


@attrs.frozen(kw_only=True)
class CrashReport:
    """What one kill showed.

    Attributes:
        acknowledged: Turns that the writer knew to be stored.
        stored: Turns found in the store, of this trial and of those before it on the same place.
        refused: Calls that failed because the server was away; 0 where the writer was killed.
        problems: What is wrong, one line each; empty: nothing lost, nothing double, nothing unreadable.
    """

    acknowledged: int
    stored: int
    refused: int = 0
    problems: tuple[str, ...]


@attrs.frozen
class Acknowledged:
    """What a writer was told.

    Attributes:
        turns: Session and name of each turn that is stored, in the order of the acknowledgements.
        memories: Session and key of each memory that is stored, in that order.
        finished: Whether every writer knows of each of its turns whether it is stored; False: each
            may have left one of which it was told nothing.
    """

    turns: Sequence[tuple[str, str]]
    memories: Sequence[tuple[str, str]]
    finished: bool = False


async def check_store(storage: SessionStorage, run: str, told: Acknowledged) -> CrashReport:
    """Read everything, then go on writing, and say what is wrong.

    Args:
        storage: On the place where the writers wrote; nobody else writes to it now.
        run: What the names of this trial's turns begin with, before a dash.
        told: What the writers know.
    """
    problems: list[str] = []
    stored = 0
    sessions = await storage.list_sessions()
    lost = {session_id for session_id, _ in told.turns} - set(sessions)
    problems += [f"{session_id} is lost" for session_id in sorted(lost)]
    for session_id in sessions:
        first = await storage.read_messages(session_id, MessageRange())
        problems += await _wrong_going_on(storage, session_id, run, first)
        # Read again: a server may have done a killed writer's last append only now.
        messages = await storage.read_messages(session_id, MessageRange())
        stored += sum(message.role == "user" for message in messages) - 1  # without the one just appended
        if messages[: len(first)] != first:
            problems.append(f"{session_id}: messages changed after the kill")
        problems += _wrong_in(session_id, messages)
        problems += _wrong_against(session_id, messages, run, told)
        problems += await _wrong_memories(storage, session_id, told)
    return CrashReport(acknowledged=len(told.turns), stored=stored, problems=tuple(problems))


async def _wrong_going_on(
    storage: SessionStorage, session_id: str, run: str, messages: list[MessageRecord]
) -> list[str]:
    """Append one more turn, and the last one again: both must do what they do on any other day."""
    problems = []
    if messages and not (await storage.append_messages(session_id, messages[-2:])).replayed:
        problems.append(f"{session_id}: the last turn was stored again")
    name = f"after-{run}"
    receipt = await storage.append_messages(session_id, _crash_writer.turn(session_id, name))
    span = MessageRange(after=receipt.first_position - 1, before=receipt.last_position + 1)
    there = [message.message_id for message in await storage.read_messages(session_id, span)]
    if there != [message.message_id for message in _crash_writer.turn(session_id, name)]:
        problems.append(f"{session_id}: the next turn is not at position {receipt.first_position}")
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


def _wrong_against(session_id: str, messages: list[MessageRecord], run: str, told: Acknowledged) -> list[str]:
    """Compare what is stored with what the writer was told."""
    turns = _of(session_id, told.turns)
    found = list(dict.fromkeys(message.message_id.rpartition("-")[0] for message in messages))
    problems = [f"{session_id}: {turn} was acknowledged and is lost" for turn in turns if turn not in found]
    if [turn for turn in found if turn in turns] != [turn for turn in turns if turn in found]:
        problems.append(f"{session_id}: turns are not in the order of their acknowledgements")
    untold = [turn for turn in found if turn.startswith(f"{run}-") and turn not in turns]
    if len(untold) > (0 if told.finished else 1):
        problems.append(f"{session_id}: {len(untold)} turns are stored of which none was told")
    return problems


async def _wrong_memories(storage: SessionStorage, session_id: str, told: Acknowledged) -> list[str]:
    keys = _of(session_id, told.memories)
    scope = MemoryScope("session", session_id)
    found = [memory.key for memory in await storage.list_memories(scope)]
    problems = []
    if keys and keys[-1] not in found:  # of equal retention the newest stay
        problems.append(f"{session_id}: the memory {keys[-1]} was acknowledged and is lost")
    # A put that was killed never returned, so it may have left one too many; the next one may not.
    await _crash_writer.remember(storage, session_id, "after the kill")
    count = len(await storage.list_memories(scope))
    if count > _crash_writer.MOST_MEMORIES:
        problems.append(f"{session_id}: {count} memories, at most {_crash_writer.MOST_MEMORIES} were allowed")
    return problems


def _of(session_id: str, told: Iterable[tuple[str, str]]) -> list[str]:
    return [name for of, name in told if of == session_id]


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


T = TypeVar("T")

_MOST_TURNS_BEFORE_THE_KILL = 60
_LONGEST_SERVER_DELAY_SECONDS = 0.02
_TURNS_AFTER_THE_RESTART = 5
_PAUSE_SECONDS = 0.02
# What a server that is only away does not say.
_WRONG_ERRORS = (StorageAccessError, StorageFullError, StorageReadOnlyError)


def server_crash_trial(
    make: Callable[[], SessionStorage],
    *,
    kill: Callable[[], object],
    start: Callable[[], object],
    seed: int,
    writers: int = 4,
    patience: float = 60.0,
) -> CrashReport:
    """Kill a server while tasks append turns to it, start it again, let them go on, and check the store.

    The tasks share one storage, which must find the server again by itself. A call that fails with
    ``StorageUnavailableError`` is made again until it succeeds; then its turn must be there once. May be
    repeated on the same server with another seed: each trial then begins on what the last left.

    Args:
        make: Makes a storage on the server's place, not yet open; is called twice.
        kill: Ends the server by SIGKILL and returns when it is gone. Called in a thread, like ``start``.
        start: Starts the server on the same data and the same address, and returns when it answers.
        seed: Of the moment. Unlike for each trial on a place: it names the run's messages.
        writers: Tasks that write at once, each to a session of its own.
        patience: Seconds within which every writer must be going on after the restart.

    Returns:
        What was found. Any other error of the storage is raised.
    """
    return asyncio.run(_Trial(make, kill, start, Random(seed), f"run{seed}", patience).run(writers))  # noqa: S311


@attrs.define
class _Trial:
    make: Callable[[], SessionStorage]
    kill: Callable[[], object]
    start: Callable[[], object]
    random: Random
    name: str
    patience: float
    turns: list[tuple[str, str]] = attrs.field(factory=list)
    memories: list[tuple[str, str]] = attrs.field(factory=list)
    problems: list[str] = attrs.field(factory=list)
    refused: int = 0
    stopping: bool = False

    async def run(self, writers: int) -> CrashReport:
        sessions = [f"session-{number}" for number in range(writers)]
        async with self.make() as storage:
            tasks = [asyncio.ensure_future(self._write(storage, session_id)) for session_id in sessions]
            try:
                await self._kill_and_start(tasks)
                await self._going_on(tasks, sessions)
                self.stopping = True
                await asyncio.wait_for(asyncio.gather(*tasks), self.patience)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            again = await storage.list_sessions()
        async with self.make() as storage:
            if await storage.list_sessions() != again:
                self.problems.append("a second storage sees other sessions than the one that was there")
            told = Acknowledged(self.turns, self.memories, finished=True)
            report = await check_store(storage, self.name, told)
        problems = (*dict.fromkeys(self.problems), *report.problems)
        return attrs.evolve(report, refused=self.refused, problems=problems)

    # -- the server --------------------------------------------------------------------------------

    async def _kill_and_start(self, tasks: list[asyncio.Task[None]]) -> None:
        enough = self.random.randint(1, _MOST_TURNS_BEFORE_THE_KILL)
        await self._until(lambda: len(self.turns) >= enough, tasks, f"{enough} turns")
        await asyncio.sleep(self.random.uniform(0, _LONGEST_SERVER_DELAY_SECONDS))
        await asyncio.to_thread(self.kill)
        # Some trials start the server at once, some let every client find out that it is away.
        if self.random.random() < 0.5:
            refused = self.refused
            await self._until(lambda: self.refused >= refused + len(tasks), tasks, "failures")
        await asyncio.to_thread(self.start)

    async def _going_on(self, tasks: list[asyncio.Task[None]], sessions: list[str]) -> None:
        before = len(self.turns)

        def all_are() -> bool:
            since = [session_id for session_id, _ in self.turns[before:]]
            return all(since.count(session_id) >= _TURNS_AFTER_THE_RESTART for session_id in sessions)

        await self._until(all_are, tasks, "turns of every writer after the restart")

    async def _until(self, holds: Callable[[], bool], tasks: list[asyncio.Task[None]], what: str) -> None:
        end = time.monotonic() + self.patience
        while not holds():
            for task in tasks:
                if task.done():
                    task.result()  # a writer ends early only by an error
            if time.monotonic() > end:
                raise AssertionError(f"waited {self.patience} s for {what}; last: {self.problems[-1:]}")
            await asyncio.sleep(0.001)

    # -- the writers -------------------------------------------------------------------------------

    async def _write(self, storage: SessionStorage, session_id: str) -> None:
        record = SessionRecord(session_id=session_id, payload=json_payload({"session": session_id}))
        await self._insist(partial(storage.put_session, record))
        number = 0
        while not self.stopping:
            number += 1
            name = f"{self.name}-{number}"
            turn = _crash_writer.turn(session_id, name)
            receipt = await self._insist(partial(storage.append_messages, session_id, turn))
            self.turns.append((session_id, name))
            if receipt.last_position != receipt.first_position + 1:
                self.problems.append(f"{session_id}: {name} got the receipt {receipt}")
            if number % 5 == 0:
                await self._insist(partial(storage.put_session, record))
                await self._insist(partial(_crash_writer.remember, storage, session_id, name))
                self.memories.append((session_id, name))

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call until it succeeds."""
        while True:
            try:
                return await call()
            except StorageUnavailableError as exc:
                self.refused += 1
                if isinstance(exc, _WRONG_ERRORS):
                    self.problems.append(f"a killed server was reported as {type(exc).__name__}: {exc}")
                await asyncio.sleep(_PAUSE_SECONDS)
