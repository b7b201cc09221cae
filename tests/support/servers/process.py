"""A server that a test owns, and can kill, freeze and restart on the same port."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil

__all__ = ["OWNER", "ServerProcess", "end_all", "free_port", "wait_until"]

OWNER = "LUMINORA_TEST_OWNER"
"""Variable that names the process without which no server may go on: the one that started the tests."""

_PORTS = range(18_000, 32_000)  # below the ephemeral ports, which clients get from the system
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
# Ends the server when the process that started the tests has ended.
_WATCH = 'while kill -0 "$1" && kill -0 "$2"; do sleep 1; done 2>/dev/null; kill -9 "$2" 2>/dev/null'


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311  # a port, no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(holds: Callable[[], bool], what: str, seconds: float = _START_SECONDS) -> None:
    """Wait for a condition, checking it fifty times a second."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


class ServerProcess(ABC):
    """One server on 127.0.0.1 with its data in a folder; the port is kept over restarts.

    Args:
        folder: For data and log; created if it is missing.
        port: None: any free port.
    """

    name: ClassVar[str]

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """What a storage takes."""

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _prepare(self) -> None:  # noqa: B027  # most need nothing
        """Create what the first start needs."""

    def _user(self) -> str | None:
        """Return the account that the server runs under; None: the current one."""
        return None

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.folder / "server.log"

    @property
    def is_running(self) -> bool:
        """Whether it was started and neither stopped nor killed since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The server's process id, while it runs."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def start(self) -> Self:
        """Start, and return when the server answers."""
        assert self._process is None, f"{self.name} is running"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                user=self._user(),
                start_new_session=True,
            )
        (self.folder / "server.pid").write_text(str(self.pid))
        owner = os.environ.get(OWNER, str(os.getpid()))
        subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "watch", owner, str(self.pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ).returncode = 0  # it ends by itself
        wait_until(self._is_ready, f"an answer of {self.name}")
        return self

    def _is_ready(self) -> bool:
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            self._process = None
            end = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} ended with status {status} at its start:\n{end}")
        return self._answers()

    def stop(self) -> None:
        """Shut the server down."""
        if self._process is not None:
            self._process.send_signal(self._stop_signal())
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    def kill(self) -> None:
        """Kill the server and its children with SIGKILL; its data stay."""
        if self._process is not None:
            family = self._family()
            _each(family, psutil.Process.kill)
            psutil.wait_procs(family, _STOP_SECONDS)
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """Suspend the server: connections stay open, nothing answers."""
        family = self._family()
        _each(family, psutil.Process.suspend)
        # The signal stops the threads of a process one by one.
        wait_until(lambda: all(map(_is_stopped, family)), f"{self.name} to stop")

    def thaw(self) -> None:
        """Resume a frozen server."""
        _each(self._family(), psutil.Process.resume)

    def _family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


def _is_stopped(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_STOPPED
    return True


def _each(processes: Iterable[psutil.Process], do: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            do(process)


def end_all(folder: Path) -> None:
    """Stop every server whose data are in a folder."""
    running = []
    for pid_file in folder.rglob("server.pid"):
        with contextlib.suppress(psutil.NoSuchProcess, ValueError):
            process = psutil.Process(int(pid_file.read_text()))
            if Path(process.cwd()).is_relative_to(folder):  # and not another process with the same id
                process.send_signal(signal.SIGINT)  # all servers shut down on it, and leave no shared memory
                running.append(process)
    for process in psutil.wait_procs(running, _STOP_SECONDS)[1]:
        process.kill()
