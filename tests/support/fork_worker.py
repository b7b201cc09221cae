"""A process that forks: ``fork_worker.py place``, with a URL, for Redis with the prefix of the keys behind ``#``.

For each way to use a storage it creates a session, forks three times, sends a message in each child and in itself, and
prints as JSON what became of the children, and how many messages each process has found then.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

import attrs

from luminoracore_sdk import sync
from luminoracore_sdk.bootstrap.config import storage_config_from_url
from luminoracore_sdk.session import SessionManager, SessionStorage, create_storage, shared_storage
from luminoracore_sdk.types.session import StorageConfig
from luminoracore_sdk.utils.exceptions import LuminoraCoreSDKError

CHILDREN = 3
LIMIT_SECONDS = 30


class Sender(Protocol):
    """How a process sends messages to one session.

    Attributes:
        may_exit: Whether a child may end as any interpreter does. It may not with an event loop of the parent's, which
            its destructor would damage: that is why ``multiprocessing`` ends a child with ``os._exit``.
    """

    may_exit: bool

    def create(self, session_id: str) -> None:
        """Create the session."""

    def send(self, session_id: str, text: str) -> int:
        """Send a message; return how many are stored."""
        raise NotImplementedError  # each class below has its own


class Synchronous:
    """By ``luminoracore_sdk.sync``, with a manager that is made before the fork."""

    may_exit = True

    def __init__(self, config: StorageConfig) -> None:
        self.manager = sync.SessionManager(sync.create_storage(config))

    def create(self, session_id: str) -> None:
        self.manager.create_session({}, {"name": "echo"}, {"session_id": session_id})

    def send(self, session_id: str, text: str) -> int:
        self.manager.send_message(session_id, text)
        return self.manager.conversation_manager.get_message_count(session_id)


class Asynchronous:
    """By a storage that is made before the fork, on one event loop for each process."""

    may_exit = False

    def __init__(self, storage: SessionStorage) -> None:
        self.storage = storage
        self.runners: dict[int, asyncio.Runner] = {}

    def run(self, call: Coroutine[Any, Any, int]) -> int:
        if os.getpid() not in self.runners:
            self.runners[os.getpid()] = asyncio.Runner()
        return self.runners[os.getpid()].run(call)

    def create(self, session_id: str) -> None:
        async def create() -> int:
            await SessionManager(self.storage).create_session({}, {"name": "echo"}, {"session_id": session_id})
            return 0

        self.run(create())

    def send(self, session_id: str, text: str) -> int:
        async def send() -> int:
            manager = SessionManager(self.storage)
            await manager.send_message(session_id, text)
            return await manager.conversation_manager.get_message_count(session_id)

        return self.run(send())


def forked(sender: Sender, name: str, outcome: Path) -> int:
    """Fork; return the id of the child, which sends a message, writes how many there are, and ends."""
    child = os.fork()
    if child:
        return child
    signal.alarm(LIMIT_SECONDS)
    try:
        outcome.write_text(str(sender.send(name, "from a child")))
    except LuminoraCoreSDKError as exc:
        outcome.write_text(type(exc).__name__)
    if not sender.may_exit:
        os._exit(0)
    sys.exit()


def report(name: str, sender: Sender) -> dict[str, Any]:
    sender.create(name)
    sender.send(name, "before")
    outcomes = [Path(f"{name}-{number}") for number in range(CHILDREN)]
    children = [forked(sender, name, outcome) for outcome in outcomes]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    found = [outcome.read_text() if outcome.exists() else "" for outcome in outcomes]
    return {"codes": codes, "children": found, "parent": sender.send(name, "after")}


def main(place: str) -> None:
    signal.alarm(2 * LIMIT_SECONDS)
    url, _, prefix = place.partition("#")
    config = storage_config_from_url(url)
    if prefix:
        config = attrs.evolve(config, redis_prefix=f"{prefix}:")
    reports = {
        "sync": report("sync", Synchronous(config)),
        "shared": report("shared", Asynchronous(shared_storage(config))),
        "plain": report("plain", Asynchronous(create_storage(config))),
    }
    print(json.dumps(reports))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
