"""Syncs of several files at the same time: the disk commits them together."""

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

__all__ = ["Syncs"]

_THREADS = 8


class Syncs:
    """Threads that do nothing but wait for the disk; used by any number of threads at the same time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS - 1, thread_name_prefix="luminora-fsync")

    def run(self, fds: Sequence[int]) -> list[BaseException | None]:
        """Sync files; returns what each of them raised. A lone one is synced here."""
        errors: list[BaseException | None] = [None] * len(fds)
        left = deque(enumerate(fds))

        def work() -> None:
            while left:
                try:
                    number, fd = left.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    os.fsync(fd)
                except BaseException as exc:  # noqa: BLE001 - goes to whose file it is
                    errors[number] = exc

        helpers: list[Future[None]] = []
        with suppress(RuntimeError):  # no more threads to be had: it takes longer
            for _ in range(min(len(fds), _THREADS) - 1):
                helpers.append(self._pool.submit(work))  # noqa: PERF401 - if one fails, those before count
        work()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        return errors

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
