"""A server for bad days: one or several processes, each behind a proxy, and storages on it."""

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
    """Who uses which place.

    Attributes:
        place: Prefix or database of one test.
        user: ``guarded`` may do everything, ``reader`` reads what it was allowed to, ``powerless`` nothing.
        password: The right one is the same for all of them.
        database: PostgreSQL's database, Redis' number, MongoDB's authSource; None: one that is there.
        options: More for the end of MongoDB's URL.
    """

    place: str
    user: str = "guarded"
    password: str = PASSWORD
    database: str | None = None
    options: str = ""

    @property
    def login(self) -> str:
        """What stands before the host of a URL."""
        return f"{self.user}:{self.password}"


class Rig(ABC):
    """One server of a kind.

    Args:
        nodes: Its processes, durable, not started.
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
        """Return a storage that is not open, with so many connections and these time limits."""

    def prepare(self) -> None:  # noqa: B027  # not every kind needs it
        """Make the accounts, once, on the running server."""

    def allow_reading(self, place: str) -> None:  # noqa: B027
        """Give ``reader`` its right to a place that exists."""

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
            account: Whose.
            ports: Where it finds the server; None: at the proxies.
            pool: How many connections it may have.
            seconds: Its time limits.
        """
        found = ports or [proxy.port for proxy in self.proxies]
        return self.storage_at(found, account, pool=pool, seconds=seconds)

    @property
    def reachable_ports(self) -> list[int]:
        """The nearest ports to the server that clients can do with: its own, if it names no others."""
        return [node.port for node in self.nodes]

    def begin(self) -> None:
        """Start everything."""
        for proxy in self.proxies:
            proxy.open()
        self.start()
        self.prepare()

    def start(self) -> None:
        """Start the processes that do not run; returns when they answer."""
        for node in self.nodes:
            if not node.is_running:
                node.start()

    def kill(self) -> None:
        """End all processes by SIGKILL."""
        for node in self.nodes:
            node.kill()

    def freeze(self) -> None:
        """Stop all processes in mid-work."""
        self._is_frozen = True
        for node in self.nodes:
            node.freeze()

    def thaw(self) -> None:
        """Let frozen processes go on."""
        if self._is_frozen:
            for node in self.nodes:
                node.thaw()
        self._is_frozen = False

    def mend(self) -> None:
        """Undo whatever a test has done to server and proxies."""
        self.start()
        self.thaw()
        self.each_proxy(FaultProxy.pass_on)

    def each_proxy(self, do: Callable[[FaultProxy], None]) -> None:
        """Do something with every proxy: ``FaultProxy.cut``, ``FaultProxy.hang`` …."""
        for proxy in self.proxies:
            do(proxy)

    @property
    def strikes(self) -> int:
        """How many connections an armed fault has ended."""
        return sum(proxy.strikes for proxy in self.proxies)

    def wait_until_unused(self) -> None:
        """Wait until no connection is open through the proxies; fails when one stays."""
        wait_until(lambda: not any(proxy.open_links for proxy in self.proxies), "the end of every connection", 5)
