"""A backend whose server is a process of ours."""

from abc import abstractmethod
from pathlib import Path

import psutil

from benchmarks.speed_parts.backends.base import Backend
from tests.support.servers.process import ServerProcess

__all__ = ["ServerBackend"]


class ServerBackend(Backend):
    """Starts and ends the server, and reads its CPU time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.process = self._make(folder)

    @abstractmethod
    def _make(self, folder: Path) -> ServerProcess: ...

    def start(self) -> None:
        self.process.start()

    def stop(self) -> None:
        self.process.kill()

    def server_cpu(self) -> float:
        """Return the CPU seconds of the server and its children, those that have ended included."""
        parent = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
        ended = times[0].children_user + times[0].children_system
        return ended + sum(one.user + one.system for one in times)
