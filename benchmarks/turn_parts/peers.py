"""Whole turns of other frameworks beside ours and the raw driver, on the same server and in the same run."""

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import attrs

from benchmarks.peer_parts.catalogue import Case
from benchmarks.peer_parts.environments import OURS, PeerUnavailableError, python_of
from benchmarks.peer_parts.link import Link, started
from benchmarks.peer_parts.pins import system_of
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.contender import Contender
from benchmarks.speed_parts.measure import random_texts
from benchmarks.speed_parts.results import percentile
from benchmarks.turn_parts.timed import Timed
from benchmarks.turn_parts.workers.taker import NEWEST
from luminoracore_sdk.adapters.storage.postgres.options import DEFAULT_POOL_SIZE

__all__ = ["TURN_CASES", "TurnCase", "take_all"]

_BLOCK = 10
"""Turns that one side takes before the next.

Each block has a session of its own, which begins with 50 messages. Its first turn is not counted: in it, a side
fills what it remembers of a session.
"""

_LEAST_SEEN = 30
"""Messages that a model must be shown at least; our window is cut to 60 % of its 50 messages when it is full."""


class TurnCase(Case):
    """One way to take turns; ``store`` is the class that keeps the sessions."""

    @property
    def worker(self) -> str:
        """The module to run."""
        return f"benchmarks.turn_parts.workers.{self.peer.replace('-', '_')}"


_RUNNER = "Runner.run"
_GRAPH = "StateGraph, one node"
_ADK = "Runner.run_async"

TURN_CASES = (
    TurnCase(peer=OURS, store="PostgreSQLStorage", backend="postgres", note="send_message"),
    TurnCase(peer="openai-agents", store="SQLAlchemySession", backend="postgres", note=_RUNNER),
    TurnCase(peer="langgraph", store="AsyncPostgresSaver", backend="postgres", note=_GRAPH),
    TurnCase(peer="google-adk", store="DatabaseSessionService", backend="postgres", note=_ADK),
    TurnCase(peer=OURS, store="RedisStorage", backend="redis", note="send_message"),
    TurnCase(peer="openai-agents", store="RedisSession", backend="redis", note=_RUNNER),
    TurnCase(peer=OURS, store="MongoDBStorage", backend="mongodb", note="send_message"),
    TurnCase(peer="openai-agents", store="MongoDBSession", backend="mongodb", note=_RUNNER),
    TurnCase(peer="langgraph", store="MongoDBSaver", backend="mongodb", note=_GRAPH),
    TurnCase(peer=OURS, store="SQLiteStorage", backend="sqlite", note="send_message"),
    TurnCase(peer="openai-agents", store="SQLiteSession", backend="sqlite", note=_RUNNER),
    TurnCase(peer="openai-agents", store="SQLAlchemySession", backend="sqlite", note=_RUNNER),
    TurnCase(peer="langgraph", store="AsyncSqliteSaver", backend="sqlite", note=_GRAPH),
    TurnCase(peer="google-adk", store="DatabaseSessionService", backend="sqlite", note=_ADK),
)


@attrs.define
class _Side:
    """One worker and its times, or the reason why there are none."""

    case: TurnCase
    link: Link | None = None
    times: Timed = attrs.Factory(Timed)
    reason: str = ""

    async def take(self, session: str, history: list[str], texts: list[str], *, kept: bool) -> None:
        if self.link is None:
            return
        try:
            await self.link.order(do="begin", session=session, texts=history)
            await self.link.order(do="turn", session=session, texts=texts[:1])
            answer = await self.link.order(do="turn", session=session, texts=texts[1:])
        except PeerUnavailableError as exc:
            self.link, self.reason = None, str(exc)
            return
        if answer["seen"] < _LEAST_SEEN:
            self.link, self.reason = None, f"its model was shown {answer['seen']} messages"
        elif kept:
            self.times.seconds += answer["seconds"]
            self.times.cpu += answer["cpu"]


def take_all(backend: str, turns: int) -> list[list[str]]:
    """Return the lines of one backend's table: the raw driver, this package, the peers."""
    cases = [case for case in TURN_CASES if case.backend == backend]
    return asyncio.run(_take_all(backend, cases, turns)) if cases else []


async def _take_all(name: str, cases: list[TurnCase], turns: int) -> list[list[str]]:
    floor_times = Timed()
    with tempfile.TemporaryDirectory(prefix="luminora-turns-") as folder:
        backend = BACKENDS[name](Path(folder))
        backend.start()
        try:
            async with AsyncExitStack() as stack:
                floor = backend.floor()
                await floor.open()
                stack.push_async_callback(floor.close)
                sides = [await _begun(stack, case, backend.place) for case in cases]
                texts = random_texts(NEWEST + 1 + _BLOCK)
                history, asked = texts[:NEWEST], texts[NEWEST:]
                for number in range(max(1, turns // _BLOCK) + 1):
                    session, kept = f"turns-{number}", number > 0  # the first block warms up
                    await _take_floor(floor, session, history, asked[1:], floor_times if kept else Timed())
                    for side in sides:
                        await side.take(session, history, asked, kept=kept)
        finally:
            backend.stop()
    raw = percentile(floor_times.seconds, 0.5)
    lines = [[backend.title, "raw driver: read 50, write once", *floor_times.cells(), "1.00"]]
    for side in sides:
        title = f"{system_of(side.case.peer)} {side.case.note}, {side.case.store}"
        if side.reason:
            print(f"{title}: {side.reason}", file=sys.stderr, flush=True)
            lines.append([backend.title, f"{title}: not measured, {side.reason}", *["–"] * 4])
        else:
            ratio = percentile(side.times.seconds, 0.5) / raw
            lines.append([backend.title, title, *side.times.cells(), f"{ratio:.2f}"])
    return lines


async def _begun(stack: AsyncExitStack, case: TurnCase, place: str) -> _Side:
    own = place if "://" in place else f"{place}-{case.peer}-{case.store}"  # a file for each
    try:
        python = python_of(case.peer)
        return _Side(case, await stack.enter_async_context(started(case, python, own, DEFAULT_POOL_SIZE)))
    except PeerUnavailableError as exc:
        return _Side(case, reason=str(exc))


async def _take_floor(floor: Contender, session: str, history: list[str], texts: list[str], times: Timed) -> None:
    await floor.begin(session)
    await floor.fill(session, history)
    for text in texts:
        await times.call(floor_turn(floor, session, text))


async def floor_turn(floor: Contender, session: str, text: str) -> None:
    """Do a turn's reading and writing with the raw driver."""
    await floor.newest(session, NEWEST)
    await floor.append(session, text + text)
