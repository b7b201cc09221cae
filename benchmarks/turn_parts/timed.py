"""Times of calls."""

import time
from typing import Any

from benchmarks.speed_parts.results import percentile

__all__ = ["Timed"]


class Timed:
    """Times of calls, and the CPU time of all of them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu = 0.0

    async def call(self, work: Any) -> None:
        """Await some work and note what it took."""
        cpu, began = time.process_time(), time.perf_counter()
        await work
        self.seconds.append(time.perf_counter() - began)
        self.cpu += time.process_time() - cpu

    def cells(self) -> list[str]:
        """Return median, 99th percentile and CPU time of a call, in milliseconds."""
        p50, p99 = percentile(self.seconds, 0.5), percentile(self.seconds, 0.99)
        return [f"{1e3 * value:.2f}" for value in (p50, p99, self.cpu / len(self.seconds))]
