"""The built wheel has one import name, is typed, and works with the required dependencies alone."""

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIRED = {
    "attr",
    "attrs",
    "cattr",
    "cattrs",
    "dependency_injector",
    "luminoracore_sdk",
    "orjson",
    "typing_extensions",
    "zstandard",
}

REPORT = """
import json
import luminoracore_sdk.session as facade
modules = sorted(name for name, module in sys.modules.items() if getattr(module, "__file__", None))
print(json.dumps({"file": facade.__file__, "modules": modules}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the backend that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def required_distributions() -> set[str]:
    """Return the names of the required dependencies and of their dependencies on this Python."""
    found: set[str] = set()
    wanted = [Requirement(line).name for line in PYPROJECT["project"]["dependencies"]]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        requirements = map(Requirement, distribution(name).requires or [])
        wanted += [it.name for it in requirements if it.marker is None or it.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def bare_site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel and its required dependencies, and no other package."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in required_distributions():
        for file in distribution(name).files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    return site


def run_bare(site: Path, code: str) -> str:
    """Run code on an interpreter that sees that folder and the standard library alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=site,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_wheel_claims_one_import_name(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"luminoracore_sdk"}


def test_the_wheel_says_that_it_is_typed(names: list[str]) -> None:
    assert "luminoracore_sdk/py.typed" in names


def test_the_wheel_carries_its_licence(names: list[str]) -> None:
    assert [name.split("/")[-1] for name in names if "/licenses/" in name] == ["LICENSE"]


def test_the_wheel_holds_the_package_and_nothing_else(names: list[str]) -> None:
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "luminoracore_sdk").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if ".dist-info/" not in name} == source


def test_the_wheel_installs_the_command(wheel: Path, names: list[str]) -> None:
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(entry_points).decode()
    assert text.split() == ["[console_scripts]", "luminora", "=", "luminoracore_sdk.cli:run"]


def test_the_public_import_loads_no_driver(bare_site: Path) -> None:
    report = json.loads(run_bare(bare_site, REPORT))
    assert Path(report["file"]).is_relative_to(bare_site)
    loaded = {name.split(".")[0] for name in report["modules"]} - sys.stdlib_module_names
    assert {"luminoracore_sdk", "attr"} <= loaded <= REQUIRED


def test_a_session_needs_only_required_dependencies(bare_site: Path) -> None:
    printed = run_bare(
        bare_site,
        """
import asyncio
from luminoracore_sdk.session import SessionManager

async def main() -> None:
    manager = SessionManager()
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
    reply = await manager.send_message(session_id, "Hello")
    print(type(reply).__name__, len(await manager.get_conversation(session_id)))

asyncio.run(main())
""",
    )
    assert printed == "ChatResponse 2\n"


def test_the_container_works_with_no_extra(bare_site: Path) -> None:
    code = "from luminoracore_sdk.container import make_container\nprint(make_container().storage().backend)"
    assert run_bare(bare_site, code) == "memory\n"
