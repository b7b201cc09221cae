import os
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from luminoracore_sdk.providers import ProviderFactory
from tests.docs.page import Project
from tests.docs.servers import SERVERS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project() -> Project:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = (line for line in makefile.splitlines() if line.startswith(".PHONY:"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return Project(make_targets=frozenset(phony.split()[1:]), extras=frozenset(extras))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, the home and working directory of Python blocks."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("LUMINORA_STORE", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def servers(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the variables that the page names to addresses of real servers that only this page uses."""
    with ExitStack() as places:
        for variable, place in SERVERS.items():
            if variable in path.read_text():
                monkeypatch.setenv(variable, places.enter_context(place(path)))
        yield


@pytest.fixture(autouse=True)
def variables_of_the_page_go_with_it() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def providers_of_the_page_go_with_it() -> Iterator[None]:
    """Remove the providers that a page registers, as the registry belongs to the process."""
    before = set(ProviderFactory.get_available_providers())
    yield
    for name in set(ProviderFactory.get_available_providers()) - before:
        ProviderFactory.unregister_provider(name)
