"""Crash trials: kill a writer process or a server with SIGKILL, and check that every acknowledged write exists."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
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
    """The result of one crash trial.

    Attributes:
        acknowledged: Number of turns that were acknowledged to the writers.
        stored: Number of turns in the store, of this trial and of earlier ones on the same store.
        refused: Number of calls that failed because the server was down; 0 if the writer was killed.
        problems: What is wrong, one line each; empty if nothing was lost, duplicated or damaged.
    """

    acknowledged: int
    stored: int
    refused: int = 0
    problems: tuple[str, ...]


@attrs.frozen
class Acknowledged:
    """The writes that were acknowledged to the writers.

    Attributes:
        turns: Session and name of each turn, in the order of the acknowledgements.
        memories: Session and key of each memory, in that order; a change of memories has its name too.
        finished: Whether every write was acknowledged or failed; if False, the last write of each writer
            may have been done without an acknowledgement.
    """

    turns: Sequence[tuple[str, str]]
    memories: Sequence[tuple[str, str]]
    finished: bool = False


async def check_store(storage: SessionStorage, run: str, known: Acknowledged) -> CrashReport:
    """Read everything, continue to write, and report what is wrong.

    Args:
        storage: A storage on the store of the writers, which is not in use.
        run: The prefix of the names of this trial's turns, before a dash.
        known: The acknowledged writes.
    """
    problems: list[str] = []
    stored = 0
    sessions = await storage.list_sessions()
    lost = {session_id for session_id, _ in known.turns} - set(sessions)
    problems += [f"{session_id} is lost" for session_id in sorted(lost)]
    for session_id in sessions:
        first = await storage.read_messages(session_id, MessageRange())
        problems += await _problems_of_continuing(storage, session_id, run, first)
        # Read again: a server may complete the last append of a killed writer with a delay.
        messages = await storage.read_messages(session_id, MessageRange())
        stored += sum(message.role == "user" for message in messages) - 1  # without the turn just appended
        if messages[: len(first)] != first:
            problems.append(f"{session_id}: messages changed after the kill")
        problems += _problems_in(session_id, messages)
        problems += _problems_of_turns(session_id, messages, run, known)
        problems += await _problems_of_memories(storage, session_id, known)
        problems += await _problems_of_changes(storage, session_id, known)
        problems += await _problems_of_summary(storage, session_id, messages)
        problems += await _problems_of_indexes(storage, session_id)
    return CrashReport(acknowledged=len(known.turns), stored=stored, problems=tuple(problems))


async def _problems_of_continuing(
    storage: SessionStorage, session_id: str, run: str, messages: list[MessageRecord]
) -> list[str]:
    """Append the last turn again, which must be a replay, and a new turn."""
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


async def _problems_of_summary(storage: SessionStorage, session_id: str, messages: list[MessageRecord]) -> list[str]:
    """Compare the summary of a session with its messages."""
    header = await storage.find_session(session_id)
    if header is None:
        return [f"{session_id} is gone"]
    summary, roles = header.summary, Counter(message.role for message in messages)
    told = [json.loads(brief.payload.data) for brief in (summary.first, summary.last) if brief is not None]
    wanted = [messages[0].message_id, messages[-1].message_id] if messages else []
    counters = {**roles, **({"tokens": 3 * len(messages)} if messages else {})}
    if told == wanted and dict(summary.counters) == counters:
        return []
    return [f"{session_id} is summed up as {told}, {dict(summary.counters)}, not {wanted}, {counters}"]


async def _problems_of_indexes(storage: SessionStorage, session_id: str) -> list[str]:
    """Compare the index of each message with the one that it was appended with."""
    return [
        f"{session_id}: message {record.position} has another index than its own"
        for record in await storage.read_index(session_id, MessageRange())
        if record.index != json_payload({"terms": record.message_id})
    ]


def _problems_in(session_id: str, messages: list[MessageRecord]) -> list[str]:
    problems = []
    if [message.position for message in messages] != list(range(1, len(messages) + 1)):
        problems.append(f"{session_id}: positions have gaps")
    if len({message.message_id for message in messages}) != len(messages):
        problems.append(f"{session_id}: a message is stored twice")
    for start in range(0, len(messages), 2):
        pair = messages[start : start + 2]
        name = pair[0].message_id.rpartition("-")[0]
        wanted = [(m.message_id, m.role, m.payload) for m in _crash_writer.turn(session_id, name)]
        if [(m.message_id, m.role, m.payload) for m in pair] != wanted:
            problems.append(f"{session_id}: the turn at position {start + 1} is incomplete")
    return problems


def _problems_of_turns(session_id: str, messages: list[MessageRecord], run: str, known: Acknowledged) -> list[str]:
    """Compare the stored turns with the acknowledged ones."""
    turns = _of(session_id, known.turns)
    found = list(dict.fromkeys(message.message_id.rpartition("-")[0] for message in messages))
    problems = [f"{session_id}: {turn} was acknowledged and is lost" for turn in turns if turn not in found]
    if [turn for turn in found if turn in turns] != [turn for turn in turns if turn in found]:
        problems.append(f"{session_id}: turns are not in the order of their acknowledgements")
    extra = [turn for turn in found if turn.startswith(f"{run}-") and turn not in turns]
    if len(extra) > (0 if known.finished else 1):
        problems.append(f"{session_id}: {len(extra)} turns are stored that were not acknowledged")
    return problems


async def _problems_of_memories(storage: SessionStorage, session_id: str, known: Acknowledged) -> list[str]:
    keys = _of(session_id, known.memories)
    scope = MemoryScope("session", session_id)
    found = [memory.key for memory in await storage.list_memories(scope)]
    problems = []
    if keys and keys[-1] not in found:  # of equal retention, the newest are kept
        problems.append(f"{session_id}: the memory {keys[-1]} was acknowledged and is lost")
    # A killed put may have left one too many; the next put must evict it.
    await _crash_writer.remember(storage, session_id, "after the kill")
    count = len(await storage.list_memories(scope))
    if count > _crash_writer.MOST_MEMORIES:
        problems.append(f"{session_id}: {count} memories, at most {_crash_writer.MOST_MEMORIES} were allowed")
    return problems


async def _problems_of_changes(storage: SessionStorage, session_id: str, known: Acknowledged) -> list[str]:
    """Compare the memories of a user, which are always changed together."""
    scope, names = MemoryScope("user", session_id), _of(session_id, known.memories)
    problems = []
    for attempt in ("after the kill", ""):
        found = {memory.key: json.loads(memory.payload.data) for memory in await storage.list_memories(scope)}
        name = found.get("first", "")
        if found and found != dict.fromkeys(_crash_writer.changed(name), name):
            problems.append(f"{session_id}: a change of memories is incomplete: {found}")
        if names and (name in names[:-1] or not name.startswith(names[-1].rpartition("-")[0])):
            problems.append(f"{session_id}: the change {names[-1]} was acknowledged and is lost")
        if attempt:
            await _crash_writer.change(storage, session_id, attempt)
            names = [attempt]
    return problems


def _of(session_id: str, known: Iterable[tuple[str, str]]) -> list[str]:
    return [name for of, name in known if of == session_id]


_WRITER = Path(_crash_writer.__file__)
_MOST_LINES_BEFORE_THE_KILL = 24
_LONGEST_DELAY_SECONDS = 0.004


def crash_trial(factory: str, place: str | os.PathLike[str], *, seed: int, writers: int = 2) -> CrashReport:
    """Start a process that appends turns, kill it with SIGKILL at a random time, and check the store.

    It may be repeated on the same store with another seed; each trial then continues with what the previous
    one left.

    Args:
        factory: ``module:name`` of a callable that creates a storage on a location, importable in a new
            process, such as ``luminoracore_sdk.adapters.storage.json_file:JSONFileStorage``.
        place: The location, passed to the factory as a string: a path, or the URL of a server.
        seed: Determines the time of the kill, and names the messages of the run. It must be different in
            each trial on the same store.
        writers: Number of tasks that write concurrently, each to a session of its own.

    Returns:
        The result. If the store cannot be opened or read, the error is raised.
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
    """Return the acknowledgements that the process printed until its end, each split into three words."""
    assert process.stdout is not None
    lines: list[str] = []
    enough = random.randint(1, _MOST_LINES_BEFORE_THE_KILL)
    while len(lines) < enough and (line := process.stdout.readline()):
        lines.append(line)
    time.sleep(random.uniform(0, _LONGEST_DELAY_SECONDS))
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    if process.wait() != -signal.SIGKILL:
        raise AssertionError(f"the writer ended without a kill:\n{''.join(lines)}")
    # A line is one write of less than PIPE_BUF bytes, which POSIX guarantees to be atomic.
    said = [line.split() for line in lines]
    return [words for words in said if words and words[0] in ("stored", "remembered")]


async def _check(factory: str, place: str, run: str, acknowledged: list[list[str]]) -> CrashReport:
    module, _, name = factory.partition(":")
    storage: SessionStorage = getattr(import_module(module), name)(place)
    known = Acknowledged(
        turns=[(session_id, turn) for what, session_id, turn in acknowledged if what == "stored"],
        memories=[(session_id, key) for what, session_id, key in acknowledged if what == "remembered"],
    )
    async with storage:
        return await check_store(storage, run, known)


T = TypeVar("T")

_MOST_TURNS_BEFORE_THE_KILL = 60
_LONGEST_SERVER_DELAY_SECONDS = 0.02
_TURNS_AFTER_THE_RESTART = 5
_PAUSE_SECONDS = 0.02
# Errors that a server which is only down must not cause.
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
    """Kill a server while tasks append turns to it, restart it, let the tasks continue, and check the store.

    The tasks share one storage, which must reconnect by itself. A call that fails with
    ``StorageUnavailableError`` is repeated until it succeeds; its turn must then be stored once. It may be
    repeated on the same server with another seed; each trial then continues with what the previous one left.

    Args:
        make: Creates a storage on the server, not yet open; it is called twice.
        kill: Kills the server with SIGKILL and returns when it has ended. Runs in a thread, like ``start``.
        start: Starts the server with the same data and address, and returns when it responds.
        seed: Determines the time of the kill, and names the messages of the run. It must be different in
            each trial on the same server.
        writers: Number of tasks that write concurrently, each to a session of its own.
        patience: Seconds within which every writer must continue after the restart.

    Returns:
        The result. Any other error of the storage is raised.
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
                await self._continue(tasks, sessions)
                self.stopping = True
                await asyncio.wait_for(asyncio.gather(*tasks), self.patience)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            again = await storage.list_sessions()
        async with self.make() as storage:
            if await storage.list_sessions() != again:
                self.problems.append("a second storage sees other sessions than the first one")
            known = Acknowledged(self.turns, self.memories, finished=True)
            report = await check_store(storage, self.name, known)
        problems = (*dict.fromkeys(self.problems), *report.problems)
        return attrs.evolve(report, refused=self.refused, problems=problems)

    # -- the server --------------------------------------------------------------------------------

    async def _kill_and_start(self, tasks: list[asyncio.Task[None]]) -> None:
        enough = self.random.randint(1, _MOST_TURNS_BEFORE_THE_KILL)
        await self._until(lambda: len(self.turns) >= enough, tasks, f"{enough} turns")
        await asyncio.sleep(self.random.uniform(0, _LONGEST_SERVER_DELAY_SECONDS))
        await asyncio.to_thread(self.kill)
        # Some trials restart the server at once, others wait until every client has noticed.
        if self.random.random() < 0.5:
            refused = self.refused
            await self._until(lambda: self.refused >= refused + len(tasks), tasks, "failures")
        await asyncio.to_thread(self.start)

    async def _continue(self, tasks: list[asyncio.Task[None]], sessions: list[str]) -> None:
        before = len(self.turns)

        def all_continue() -> bool:
            since = [session_id for session_id, _ in self.turns[before:]]
            return all(since.count(session_id) >= _TURNS_AFTER_THE_RESTART for session_id in sessions)

        await self._until(all_continue, tasks, "turns of every writer after the restart")

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
        await self._retry(partial(storage.put_session, record))
        number = 0
        while not self.stopping:
            number += 1
            name = f"{self.name}-{number}"
            turn = _crash_writer.turn(session_id, name)
            receipt = await self._retry(partial(storage.append_messages, session_id, turn))
            self.turns.append((session_id, name))
            if receipt.last_position != receipt.first_position + 1:
                self.problems.append(f"{session_id}: {name} got the receipt {receipt}")
            if number % 5 == 0:
                await self._retry(partial(storage.put_session, record))
                await self._retry(partial(_crash_writer.remember, storage, session_id, name))
                await self._retry(partial(_crash_writer.change, storage, session_id, name))
                self.memories.append((session_id, name))

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call until it succeeds."""
        while True:
            try:
                return await call()
            except StorageUnavailableError as exc:
                self.refused += 1
                if isinstance(exc, _WRONG_ERRORS):
                    self.problems.append(f"a killed server was reported as {type(exc).__name__}: {exc}")
                await asyncio.sleep(_PAUSE_SECONDS)
