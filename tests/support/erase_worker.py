"""Processes that erase a user and are killed at one moment each: ``erase_worker.py factory user``.

For each line of its input, JSON with the place of a store and the number of a moment, it forks a process that erases
the user there and kills itself at that moment. Lines on its output say what happens: ``reached MOMENT``, ``ended
STATUS``.

Moments are the beginning and the end of each call of the storage, and what the backends do within a call: each
change of a name in the file system, and each command to MongoDB and its answer.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from importlib import import_module
from threading import Lock
from typing import Any

from luminoracore_sdk.session import InMemoryStorage, SessionManager, SessionStorage
from tests.support.unreliable import Unreliable

_RENAMES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}


class Moments:
    """Counts moments, and kills the process at one.

    Args:
        kill_at: The number of the moment, from 1.
        folder: The path of the store.
    """

    def __init__(self, kill_at: int, folder: str) -> None:
        self._left = kill_at
        self._folder = folder
        self._lock = Lock()

    def reach(self, moment: str) -> None:
        """Say that a moment has come; the process may be killed here."""
        with self._lock:
            self._left -= 1
            if self._left >= 0:
                os.write(1, f"reached {moment}\n".encode())
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Reach a moment before a name in the store is changed; a hook of ``sys.addaudithook``."""
        if event in _RENAMES and (self._folder in str(arguments[0]) or "/" not in str(arguments[0])):
            self.reach(event)  # shutil.rmtree names what is in a folder relative to it

    def watch_mongodb(self) -> None:
        """Reach a moment before each command that a client sends, and after its answer."""
        from pymongo import monitoring

        reach = self.reach

        class Listener(monitoring.CommandListener):
            def started(self, event: monitoring.CommandStartedEvent) -> None:
                reach(f"{event.command_name} begins")

            def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
                reach(f"{event.command_name} ends")

            def failed(self, event: monitoring.CommandFailedEvent) -> None:
                reach(f"{event.command_name} fails")

        monitoring.register(Listener())


class Watched(Unreliable):
    """Reaches a moment before and after each call."""

    moments: Moments

    async def meet(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call."""
        self.moments.reach(f"{name} begins")
        result = await super().meet(name, call)
        self.moments.reach(f"{name} ends")
        return result


async def erase(storage: SessionStorage, user_id: str, moments: Moments) -> None:
    watched = Watched(storage)
    watched.moments = moments
    async with watched, SessionManager(watched) as manager:
        assert (await manager.erase_user(user_id)).verified


def main(factory: str, user_id: str) -> None:
    module, _, name = factory.partition(":")
    make = getattr(import_module(module), name)
    asyncio.run(erase(InMemoryStorage(), user_id, Moments(0, "")))  # imports all that it needs
    gc.freeze()  # a collection in a forked process would copy every page
    for line in sys.stdin:
        place, kill_at = json.loads(line)
        process = os.fork()
        if process == 0:
            status = 1
            try:
                moments = Moments(kill_at, place)
                sys.addaudithook(moments.audit)
                if name == "mongodb":
                    moments.watch_mongodb()
                asyncio.run(erase(make(place), user_id, moments))
                status = 0
            except BaseException:  # noqa: BLE001  # the process must not go on in this loop
                traceback.print_exc()
            finally:
                os._exit(status)
        os.write(1, f"ended {os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
