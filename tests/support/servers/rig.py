"""A server that can fail: one or several processes, each behind a proxy, and storages on it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import attrs

from luminoracore_sdk.application.ports.storage import SessionStorage
from tests.support.servers.process import ServerProcess, wait_until
from tests.support.servers.proxy import FaultProxy

__all__ = ["HOST", "PASSWORD", "SECONDS", "Account", "Rig"]

HOST = "127.0.0.1"
PASSWORD = "s3cret-of-the-tests"
SECONDS = 1.0
"""Time limit of the storages, for connecting and for each call."""


@attrs.frozen
class Account:
    """A login and a store.

    Attributes:
        place: Prefix or database of one test.
        user: ``guarded`` has all permissions, ``reader`` may read what it was granted, ``powerless`` nothing.
        password: The correct one is the same for all users.
        database: PostgreSQL's database, Redis' number, MongoDB's authSource; None: an existing one.
        options: More parameters of MongoDB's URL.
    """

    place: str
    user: str = "guarded"
    password: str = PASSWORD
    database: str | None = None
    options: str = ""

    @property
    def login(self) -> str:
        """User and password as a URL has them."""
        return f"{self.user}:{self.password}"


class Rig(ABC):
    """One server of a kind.

    Args:
        nodes: Its processes, durable and not started.
    """

    name: ClassVar[str]

    missing_database: ClassVar[str | None] = None
    """An ``Account.database`` that is not there."""

    short_wait: ClassVar[str] = ""
    """``Account.options`` for those whose limit for an answer would not end after that for a connection."""

    def __init__(self, nodes: Sequence[ServerProcess]) -> None:
        self.nodes = nodes
        self.proxies = [FaultProxy(node.port) for node in nodes]
        self._is_frozen = False

    # -- for kinds -------------------------------------------------------------------------------

    @abstractmethod
    def storage_at(self, ports: Sequence[int], account: Account, *, pool: int, seconds: float) -> SessionStorage:
        """Return a storage that is not open, with a pool size and time limits."""

    def prepare(self) -> None:  # noqa: B027  # optional
        """Create the accounts on the running server."""

    def allow_reading(self, place: str) -> None:  # noqa: B027
        """Let ``reader`` read an existing store."""

    # -- for tests -------------------------------------------------------------------------------

    def storage(
        self,
        account: Account,
        *,
        ports: Sequence[int] | None = None,
        pool: int = 4,
        seconds: float = SECONDS,
    ) -> SessionStorage:
        """Return a storage that is not open.

        Args:
            account: The account.
            ports: Ports of the server; None: those of the proxies.
            pool: The pool size.
            seconds: The time limits.
        """
        found = ports or [proxy.port for proxy in self.proxies]
        return self.storage_at(found, account, pool=pool, seconds=seconds)

    @property
    def reachable_ports(self) -> list[int]:
        """The ports of the server itself, where clients can use them."""
        return [node.port for node in self.nodes]

    def begin(self) -> None:
        """Start proxies and server, and create the accounts."""
        for proxy in self.proxies:
            proxy.open()
        self.start()
        self.prepare()

    def start(self) -> None:
        """Start the processes that do not run; return when they answer."""
        for node in self.nodes:
            if not node.is_running:
                node.start()

    def kill(self) -> None:
        """Kill all processes with SIGKILL."""
        for node in self.nodes:
            node.kill()

    def freeze(self) -> None:
        """Suspend all processes."""
        self._is_frozen = True
        for node in self.nodes:
            node.freeze()

    def thaw(self) -> None:
        """Resume frozen processes."""
        if self._is_frozen:
            for node in self.nodes:
                node.thaw()
        self._is_frozen = False

    def mend(self) -> None:
        """Undo the faults of server and proxies."""
        self.start()
        self.thaw()
        self.each_proxy(FaultProxy.pass_on)

    def each_proxy(self, do: Callable[[FaultProxy], None]) -> None:
        """Call a method of every proxy: ``FaultProxy.cut``, ``FaultProxy.hang`` …."""
        for proxy in self.proxies:
            do(proxy)

    @property
    def strikes(self) -> int:
        """The number of connections that a fault has cut."""
        return sum(proxy.strikes for proxy in self.proxies)

    def wait_until_unused(self) -> None:
        """Wait until no connection is open through the proxies; fails when one stays."""
        wait_until(lambda: not any(proxy.open_links for proxy in self.proxies), "the end of every connection", 5)
