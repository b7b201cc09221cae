"""Kills of a server: ended by SIGKILL while clients write to it, started again, and asked for everything."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import TypeVar

import attrs

from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    StorageAccessError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing import _crash_writer
from luminoracore_sdk.testing.builders import json_payload
from luminoracore_sdk.testing.crash_check import Acknowledged, CrashReport, check_store

__all__ = ["server_crash_trial"]

T = TypeVar("T")

_MOST_TURNS_BEFORE_THE_KILL = 60
_LONGEST_DELAY_SECONDS = 0.02
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
        await asyncio.sleep(self.random.uniform(0, _LONGEST_DELAY_SECONDS))
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
