"""All the work, done once on one backend by the raw driver and by each layer of this package."""

import random
import string
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from statistics import median
from typing import Any

import attrs

from benchmarks.speed_parts.backends import Backend
from benchmarks.speed_parts.contender import Contender
from benchmarks.speed_parts.ours import Conversations, Ours, Port, Sessions
from benchmarks.speed_parts.results import Result, result_of
from benchmarks.speed_parts.timing import Call, in_turns, rushes

__all__ = ["Sizes", "measure", "random_texts"]

_SELDOM = 5
"""SessionManager, which does many things besides, makes one of so many calls."""

_CHARACTERS = string.ascii_letters + string.digits + " "


@attrs.frozen(kw_only=True)
class Sizes:
    """How much is done.

    Attributes:
        messages: Of the long session; a tenth of them is appended one by one.
        reads: Of the newest messages.
        sessions: Created and deleted.
        costs: Appends whose calls, bytes and CPU time are counted.
        writers: How many at once, each on a session of its own.
        burst: Appends of all of them in a round; eight writers on one session make half of it.
        rounds: So many bursts.
    """

    messages: int = 10_000
    reads: int = 200
    sessions: int = 50
    costs: int = 1000
    writers: tuple[int, ...] = (64, 256)
    burst: int = 640
    rounds: int = 6

    @property
    def appends(self) -> int:
        """What is appended one by one, and the length of the short session."""
        return self.messages // 10


def random_texts(count: int, *, seed: int = 7) -> list[str]:
    """Return texts of 200 random characters, which do not compress well."""
    words = random.Random(seed)
    return ["".join(words.choices(_CHARACTERS, k=200)) for _ in range(count)]


async def measure(backend: Backend, sizes: Sizes, run: int) -> list[Result]:
    """Do all the work on a backend that was just started."""
    stores = [backend.storage_at(backend.place) for _ in range(3)]
    sides = [backend.floor(), Port(stores[0]), Conversations(stores[1]), Sessions(stores[2])]
    defaults = backend.defaults()
    async with AsyncExitStack() as stack:
        for side in [*sides, *([defaults] if defaults else [])]:
            await side.open()
            stack.push_async_callback(side.close)
        return await _Bench(backend, sides, defaults, sizes, run).results()


class _Bench:
    def __init__(
        self, backend: Backend, sides: Sequence[Contender], defaults: Contender | None, sizes: Sizes, run: int
    ) -> None:
        self._backend = backend
        self._sides = sides
        self._defaults = defaults
        self._readers = sides[:3]  # SessionManager reads as ConversationManager does
        self._sizes = sizes
        self._run = run
        self._versions = backend.versions()
        self._texts = random_texts(sizes.messages)

    async def results(self) -> list[Result]:
        return [
            *await self._cost(),  # first, while the store is small and has no holes to fill
            *await self._append(),
            *await self._newest(),
            *await self._all(),
            *await self._pages(),
            *await self._writers(),
            *await self._shared(8),
            *await self._sessions(),
        ]

    async def _cost(self) -> list[Result]:
        """Count what appends take; nothing is timed, so the sides come one after the other."""
        found = []
        for side in self._sides:
            session, is_manager = f"cost-{side.layer}", isinstance(side, Conversations)
            count = self._sizes.costs // (_SELDOM if is_manager else 1)
            await side.begin(session)
            calls = await self._calls(side, session, max(count // 10, 1))
            before = self._spent(side)
            for number in range(count):
                await side.append(session, self._texts[number % len(self._texts)])
            written, client, server = (
                None if one is None or other is None else one - other
                for one, other in zip(self._spent(side), before, strict=True)
            )
            found.append(
                attrs.evolve(
                    self._made(side, "cost"),
                    n=count,
                    calls_per_append=calls,
                    bytes_per_message=None if is_manager else (written or 0) / count,
                    cpu_s_per_1000=1000 * (client or 0) / count,
                    server_cpu_s_per_1000=None if server is None else 1000 * server / count,
                )
            )
        return found

    async def _calls(self, side: Contender, session: str, count: int) -> float | None:
        await side.append(session, self._texts[0])  # what is prepared at the first time
        self._backend.count_calls(on=True)
        before = self._backend.calls()
        for number in range(count):
            await side.append(session, self._texts[number])
        after = self._backend.calls()
        self._backend.count_calls(on=False)
        return None if before is None or after is None else (after - before) / count

    def _spent(self, side: Contender) -> tuple[float | None, float | None, float | None]:
        written = self._backend.bytes_used("floor" if side.system == "floor" else "ours")
        return written, time.process_time(), self._backend.server_cpu()

    async def _append(self) -> list[Result]:
        """Append to a session that is empty at first, and to one that has nine tenths already.

        The first tenth of one and the last tenth of another are written in turns: what differs is
        the history alone.
        """
        count = self._sizes.appends
        for side in self._sides:
            await side.begin(f"short-{side.layer}")
            await side.begin(f"long-{side.layer}")
            await side.fill(f"long-{side.layer}", self._texts[:-count])

        async def append(side: Contender, name: str, number: int) -> None:
            await side.append(f"{name}-{side.layer}", self._texts[number])

        # a side is quicker when it follows on itself: so none comes twice in a row
        calls = {(side, name): partial(append, side, name) for name in ("short", "long") for side in self._sides}
        if self._defaults is not None:
            await self._defaults.begin(f"short-{self._defaults.layer}")
            calls[self._defaults, "short"] = partial(append, self._defaults, "short")
        slow = {key: _SELDOM for key in calls if isinstance(key[0], Sessions)}
        seconds = await in_turns(calls, count, steps=slow)
        found = []
        if self._defaults is not None:
            found.append(result_of(self._made(self._defaults, "append"), seconds[self._defaults, "short"]))
        for side in self._sides:
            short, long = seconds[side, "short"], seconds[side, "long"]
            result = result_of(self._made(side, "append"), short + long)
            found.append(attrs.evolve(result, growth=median(long) / median(short)))
        return found

    async def _newest(self) -> list[Result]:
        async def read(side: Contender, _: int) -> None:
            await side.newest(f"long-{side.layer}", 20)

        return self._results("newest", await in_turns(self._readers_do(read), self._sizes.reads))

    async def _all(self) -> list[Result]:
        async def read(side: Contender, _: int) -> None:
            await side.page(f"short-{side.layer}", 0, self._sizes.appends)

        count = max(self._sizes.reads // 5, 1)
        return self._results("all", await in_turns(self._readers_do(read), count, block=2))

    async def _pages(self) -> list[Result]:
        """Read every page once: the first, the last, the second, the last but one and so on."""
        size = max(self._sizes.messages // 100, 1)
        pages = self._sizes.messages // size

        async def read(side: Contender, number: int) -> None:
            page = pages - 1 - number // 2 if number % 2 else number // 2
            found = await side.page(f"long-{side.layer}", page * size, size)
            assert len(found) == size

        await in_turns(self._readers_do(read), 6)  # what is slower at the first time is not growth
        seconds = await in_turns(self._readers_do(read), pages, block=1)
        tenths = 2 * max(pages // 10, 1)
        return [
            attrs.evolve(result, growth=median(times[1:tenths:2]) / median(times[0:tenths:2]))
            for result, times in zip(self._results("page", seconds), seconds.values(), strict=True)
        ]

    def _readers_do(self, do: Callable[[Contender, int], Awaitable[None]]) -> dict[Contender, Call]:
        return {side: partial(do, side) for side in self._readers}

    async def _writers(self) -> list[Result]:
        found = []
        for count in self._sizes.writers:
            names = [f"writers-{count}-{number}" for number in range(count)]
            found += await self._rush(f"writers-{count}", names, self._sizes.burst // count)
        return found

    async def _shared(self, count: int) -> list[Result]:
        return await self._rush(f"shared-{count}", ["shared"] * count, self._sizes.burst // 2 // count)

    async def _rush(self, work: str, names: Sequence[str], each: int) -> list[Result]:
        for side in self._readers:
            for name in dict.fromkeys(names):
                await side.begin(f"{name}-{side.layer}")
        texts = self._texts[: max(each, 1)]
        found = await rushes(self._readers, names, texts, rounds=self._sizes.rounds)
        return [
            result_of(self._made(side, work), found[side.layer].seconds, found[side.layer].wall)
            for side in self._readers
        ]

    async def _sessions(self) -> list[Result]:
        """Create, list and delete sessions; the floors have nothing that compares with it."""
        ours = [side for side in self._sides if isinstance(side, Ours)]
        count = self._sizes.sessions

        async def create(side: Ours, number: int) -> None:
            await side.begin(f"made-{number}-{side.layer}")

        async def list_page(side: Ours, _: int) -> None:
            await side.list_page()

        async def delete(side: Ours, number: int) -> None:
            await side.delete(f"made-{number}-{side.layer}")

        found = []
        for work, do, which in (
            ("create", create, ours),
            ("list", list_page, ours[:1]),
            ("delete", delete, ours),
        ):
            seconds = await in_turns({side: partial(do, side) for side in which}, count)
            found += self._results(work, seconds)
        return found

    def _results(self, work: str, seconds: Mapping[Any, Sequence[float]]) -> list[Result]:
        return [result_of(self._made(side, work), times) for side, times in seconds.items()]

    def _made(self, side: Contender, work: str) -> Result:
        return Result(
            system=side.system,
            backend=self._backend.name,
            layer=side.layer,
            work=work,
            n=0,
            run=self._run,
            versions=self._versions,
        )
