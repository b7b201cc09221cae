import tomllib
from pathlib import Path

import pytest

from tests.docs.page import Project

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project() -> Project:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = (line for line in makefile.splitlines() if line.startswith(".PHONY:"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return Project(make_targets=frozenset(phony.split()[1:]), extras=frozenset(extras))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that Python blocks see as their home and working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("LUMINORA_STORE", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
