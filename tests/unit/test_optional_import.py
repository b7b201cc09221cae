import sys
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.domain.errors import MissingDependencyError


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(packages: Path, name: str, code: str) -> None:
    (packages / name).mkdir()
    (packages / name / "__init__.py").write_text(code)


def test_a_module_that_is_there_is_returned() -> None:
    assert import_extra("os.path", needed_by="Thing", extra="thing") is sys.modules["os.path"]


@pytest.mark.parametrize("module", ["zz_none", "zz_none.inner.deep"])
def test_missing_package_names_the_install_command(module: str) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        import_extra(module, needed_by="Thing", extra="thing")
    assert str(caught.value) == "Thing needs the 'thing' extra: pip install \"luminoracore-sdk[thing]\""
    assert type(caught.value.__cause__) is ModuleNotFoundError


def test_a_part_of_a_package_that_is_not_there_is_missing(packages: Path) -> None:
    install(packages, "zz_space", "")
    with pytest.raises(MissingDependencyError):
        import_extra("zz_space.part", needed_by="Thing", extra="thing")


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("import zz_needed", "zz_needed"),
        ("import zz_broken.lost", "zz_broken.lost"),
        ("import zz_brok", "zz_brok"),
        ("from os import zz_gone", "os"),
        ("from zz_broken import zz_gone", "zz_broken"),
        ("raise ImportError('of another kind')", None),
        ("raise ModuleNotFoundError('of another kind')", None),
    ],
)
def test_broken_package_is_not_called_missing(packages: Path, code: str, missing: str | None) -> None:
    install(packages, "zz_broken", code)
    with pytest.raises(ImportError) as caught:
        import_extra("zz_broken", needed_by="Thing", extra="thing")
    assert not isinstance(caught.value, MissingDependencyError)
    assert caught.value.name == missing
