"""Every backend, and every wrapper over every backend, passes the contract."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from luminoracore_sdk.testing import StorageContract, StorageFactory
from tests.support.backends import CONTRACT_BACKENDS, Backend, marks


class BackendContract(StorageContract):
    """The contract over a backend."""

    backend: ClassVar[Backend]
    rewrites: ClassVar[bool]
    listing_size = int(os.environ.get("LUMINORA_LISTING_SIZE", "1000"))

    @pytest.fixture(autouse=True)
    def no_logging(self, caplog: pytest.LogCaptureFixture) -> None:
        """Capture no log records: their exceptions keep a storage alive that its test has dropped."""
        caplog.set_level(logging.CRITICAL + 1)

    @pytest.fixture(scope="class")
    @classmethod
    def reused(
        cls, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[tuple[StorageFactory, Callable[[], None]] | None]:
        """The factory of a store that all cases use, one after the other, and the function that empties it."""
        if cls.backend.emptied is None:
            yield None
            return
        path = tmp_path_factory.mktemp("reused") / "store"
        with cls.backend.emptied(path) as empty:
            yield cls.backend.at(path), empty
        cls.backend.clear(path)

    @pytest.fixture
    def storage_factory(
        self, tmp_path: Path, reused: tuple[StorageFactory, Callable[[], None]] | None
    ) -> Iterator[StorageFactory]:
        if reused is not None:
            make, empty = reused
            yield make
            empty()
            return
        yield self.backend.at(tmp_path / "store")
        self.backend.clear(tmp_path / "store")

    @pytest.fixture
    def other_storage_factory(self, tmp_path: Path) -> Iterator[StorageFactory]:
        yield self.backend.at(tmp_path / "other")
        self.backend.clear(tmp_path / "other")


def _class(backend: Backend) -> type[BackendContract]:
    """Return the test class of a backend: ``TestPostgres``, ``TestOptimizedSQLite`` …."""
    name = "Test" + "".join(word[0].upper() + word[1:] for word in backend.name.split())
    return type(
        name,
        (BackendContract,),
        {
            "__module__": __name__,
            "backend": backend,
            "rewrites": backend.rewrites,
            "persistent": backend.persistent,
            "shares_between_instances": backend.persistent,
            "pytestmark": marks(backend),
        },
    )


# Collecting the classes of the long run to deselect them would take an ordinary run several seconds.
_chosen = [backend for backend in CONTRACT_BACKENDS if not backend.nightly or os.environ.get("LUMINORA_NIGHTLY") == "1"]
globals().update({case.__name__: case for case in map(_class, _chosen)})
