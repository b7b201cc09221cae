"""One store of a peer and the raw driver, doing the same work in turns, each in a process of its own."""

import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import attrs

from benchmarks.peer_parts.catalogue import Case
from benchmarks.peer_parts.environments import PeerUnavailableError, python_of
from benchmarks.peer_parts.link import Link, started
from benchmarks.peer_parts.pins import system_of, versions_of
from benchmarks.speed_parts.backends import BACKENDS, Backend
from benchmarks.speed_parts.contender import Contender
from benchmarks.speed_parts.measure import random_texts
from benchmarks.speed_parts.results import FLOOR, Result, growth_of, result_of
from benchmarks.speed_parts.timing import rushes
from luminoracore_sdk.adapters.storage.postgres.options import DEFAULT_POOL_SIZE

__all__ = ["NEWEST", "WRITERS", "Sizes", "try_case"]

NEWEST = 20
WRITERS = 64

_TURNS = 10  # of each side, for each work
_SETTLED = "warm"


@attrs.frozen(kw_only=True)
class Sizes:
    """How much is done.

    Attributes:
        messages: The lengths of the sessions.
        newest: Reads of the newest messages.
        everything: Reads of all messages.
        each: Appends of each of many writers, in all.
        seconds: A work ends earlier when the peer has taken so long for it.
    """

    messages: tuple[int, ...] = (300, 2000)
    newest: int = 50
    everything: int = 20
    each: int = 20
    seconds: float = 20.0


@attrs.define
class _Times:
    peer: list[float] = attrs.Factory(list)
    floor: list[float] = attrs.Factory(list)


async def try_case(case: Case, sizes: Sizes) -> list[Result]:
    """Measure a store on a backend that is started for it.

    Raises:
        PeerUnavailableError: It cannot be installed, failed, or does not return what was appended.
    """
    python = python_of(case.peer)
    with tempfile.TemporaryDirectory(prefix="luminora-peers-") as folder:
        backend = BACKENDS[case.backend](Path(folder))
        backend.start()
        try:
            async with AsyncExitStack() as stack:
                floor = backend.floor()
                await floor.open()
                stack.push_async_callback(floor.close)
                place = backend.place
                link = await stack.enter_async_context(started(case, python, place, DEFAULT_POOL_SIZE))
                return await _Trial(case, backend, floor, link, sizes).results()
        finally:
            backend.stop()


class _Trial:
    def __init__(self, case: Case, backend: Backend, floor: Contender, link: Link, sizes: Sizes) -> None:
        self._floor = floor
        self._link = link
        self._sizes = sizes
        self._texts = random_texts(max(sizes.messages))
        peer = Result(
            system=system_of(case.peer),
            backend=case.backend,
            layer=case.store,
            work="",
            n=0,
            versions=versions_of(case.peer),
        )
        self._made = {
            "peer": peer,
            "floor": attrs.evolve(peer, system=FLOOR, layer=FLOOR, versions=backend.versions()),
        }

    async def results(self) -> list[Result]:
        await self._begin([_SETTLED])
        await self._append(_SETTLED, NEWEST, seconds=self._sizes.seconds)
        await self._read(_SETTLED, NEWEST, newest=NEWEST, times=_TURNS)
        found = []
        for count in self._sizes.messages:
            session = f"session-{count}"
            await self._begin([session])
            appended = await self._append(session, count, seconds=self._sizes.seconds)
            length = len(appended.peer)
            newest = await self._read(session, length, newest=NEWEST, times=self._sizes.newest)
            everything = await self._read(session, length, newest=None, times=self._sizes.everything)
            peer, floor = self._results(f"append-{count}", appended)
            found += [
                attrs.evolve(peer, growth=growth_of(appended.peer)),
                attrs.evolve(floor, growth=growth_of(appended.floor)),
            ]
            found += self._results(f"newest-{count}", newest)
            found += self._results(f"all-{count}", everything)
        return found + await self._writers()

    async def _begin(self, sessions: Sequence[str]) -> None:
        for session in sessions:
            await self._floor.begin(session)
        await self._link.order(do="begin", sessions=list(sessions))

    async def _append(self, session: str, count: int, *, seconds: float) -> _Times:
        times = _Times()
        block = max(count // (2 * _TURNS), 1)
        for first in range(0, count, block):
            texts = self._texts[first : min(first + block, count)]
            for text in texts:
                times.floor.append(await _timed(partial(self._floor.append, session, text)))
            answer = await self._link.order(do="append", session=session, texts=texts)
            times.peer += answer["seconds"]
            if sum(times.peer) > seconds:
                break
        return times

    async def _read(self, session: str, length: int, *, newest: int | None, times: int) -> _Times:
        found = _Times()
        expected = self._texts[max(length - (newest or length), 0) : length]
        for _ in range(_TURNS):
            for _ in range(max(times // _TURNS, 1)):
                found.floor.append(await _timed(partial(self._floor_read, session, length, newest)))
            answer = await self._link.order(do="read", session=session, newest=newest, times=max(times // _TURNS, 1))
            found.peer += answer["seconds"]
            if answer["texts"] != expected:
                raise PeerUnavailableError(
                    f"of {length} messages it returns {len(answer['texts'])} that are not the {len(expected)} asked for"
                )
            if sum(found.peer) > self._sizes.seconds:
                break
        return found

    async def _floor_read(self, session: str, length: int, newest: int | None) -> Any:
        if newest is not None:
            return await self._floor.newest(session, newest)
        return await self._floor.page(session, 0, length)

    async def _writers(self) -> list[Result]:
        sessions = [f"writer-{number}" for number in range(WRITERS)]
        # the floor's rushes name a session with the layer
        for session in sessions:
            await self._floor.begin(f"{session}-{self._floor.layer}")
        await self._link.order(do="begin", sessions=sessions)
        await self._rush(sessions, self._texts[:1])  # connections and tables are there after it
        each = max(self._sizes.each // _TURNS, 1)
        times, walls = _Times(), _Times()
        for turn in range(_TURNS):
            floor, answer = await self._rush(sessions, self._texts[turn * each : (turn + 1) * each])
            times.floor += floor.seconds
            times.peer += answer["seconds"]
            walls.floor.append(floor.wall)
            walls.peer.append(answer["wall"])
            if sum(walls.peer) > self._sizes.seconds:
                break
        return self._results(f"writers-{WRITERS}", times, walls)

    async def _rush(self, sessions: Sequence[str], texts: Sequence[str]) -> Any:
        floor = (await rushes([self._floor], sessions, texts, rounds=1))[self._floor.layer]
        answer = await self._link.order(do="writers", sessions=list(sessions), texts=list(texts))
        return floor, answer

    def _results(self, work: str, times: _Times, walls: _Times | None = None) -> list[Result]:
        """Return the peer's result and the floor's; of many writers' turns, each counts as the median one."""
        return [
            result_of(
                attrs.evolve(made, work=work),
                getattr(times, side),
                len(getattr(walls, side)) * median(getattr(walls, side)) if walls else None,
            )
            for side, made in self._made.items()
        ]


async def _timed(call: Callable[[], Awaitable[Any]]) -> float:
    began = perf_counter()
    await call()
    return perf_counter() - began
