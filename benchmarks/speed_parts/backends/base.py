"""A backend to measure on: its server with durable settings, its floor, and what the server counts."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmarks.speed_parts.contender import Contender
from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = ["Backend"]


class Backend(ABC):
    """One backend, empty at first.

    Args:
        folder: For its data, on a disk.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    durability: ClassVar[str]
    """What an acknowledged append of either side has survived, and by which setting."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:  # noqa: B027  # embedded ones need nothing
        """Start the server."""

    def stop(self) -> None:  # noqa: B027
        """End the server."""

    @property
    @abstractmethod
    def place(self) -> str:
        """What ``storage_at`` takes."""

    @staticmethod
    @abstractmethod
    def storage_at(place: str) -> SessionStorage:
        """Return a storage with its defaults, also in another process."""

    @abstractmethod
    def floor(self) -> Contender:
        """Return the raw driver, doing the least that could count."""

    default_durability: ClassVar[str] = "as here"
    """What an append survives with the driver's own defaults."""

    def defaults(self) -> Contender | None:
        """Return the raw driver with its own defaults; None: they are those of the floor."""
        return None

    @abstractmethod
    def versions(self) -> str:
        """Return names and versions of server and driver."""

    @abstractmethod
    def bytes_used(self, of: str) -> int:
        """Return the bytes on disk of the floor (``of="floor"``) or of the storages (``"ours"``)."""

    def settle(self) -> None:  # noqa: B027
        """Have the server do at once the tidying that it does in time."""

    def count_calls(self, *, on: bool) -> None:  # noqa: B027
        """Begin or end to count."""

    def calls(self) -> int | None:
        """Return how many statements or commands the server has counted; None: there is no server."""
        return None

    def server_cpu(self) -> float | None:
        """Return the CPU seconds of the server's processes; None: there is no server."""
        return None
