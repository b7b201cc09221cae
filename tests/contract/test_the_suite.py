"""The contract itself: no case hides another, the whole port is called, and faults are found."""

import inspect
import re
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing import StorageContract, StorageFactory, run_storage_state_machine
from luminoracore_sdk.testing import contract as contract_module
from tests.support import faulty_contract
from tests.support.faulty import FAULTS, STATE_FAULTS

PARTS = [part for part in StorageContract.__mro__ if part.__module__.startswith("luminoracore_sdk.testing")]


def test_no_part_hides_a_case_or_helper_of_another() -> None:
    names = Counter(name for part in PARTS for name in vars(part) if not name.startswith("_"))
    assert [name for name, count in names.items() if count > 1] == []
    assert len([name for name in names if name.startswith("test_")]) > 150


def test_every_case_is_a_coroutine() -> None:
    tests = {name: value for part in PARTS for name, value in vars(part).items() if name.startswith("test_")}
    assert [name for name, test in tests.items() if not inspect.iscoroutinefunction(test)] == []


def test_every_method_of_the_port_is_called() -> None:
    folder = Path(contract_module.__file__).parent
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    methods = [name for name in vars(SessionStorage) if not name.startswith("_") and name != "search"]
    assert [name for name in methods if f".{name}" not in sources] == []


@pytest.mark.parametrize("faulty", STATE_FAULTS, ids=lambda faulty: faulty.__name__)
def test_the_state_machine_finds_a_fault(faulty: type[InMemoryStorage]) -> None:
    def place() -> AbstractContextManager[StorageFactory]:
        return nullcontext(lambda clock: faulty(clock=clock))

    search = settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate], print_blob=False)
    with pytest.raises(AssertionError):
        run_storage_state_machine(place, persistent=False, settings=search)


def test_every_part_of_the_contract_finds_its_fault() -> None:
    parts = {part.__name__ for part in StorageContract.__bases__}
    assert {part.__name__ for part in FAULTS} == parts
    page = Path(faulty_contract.__file__)
    # Without --assert=plain, pytest would compare megabytes for messages that are not read.
    options = ["-q", "--tb=no", "--assert=plain", "-rf", "-p", "no:cacheprovider", "-p", "no:cov"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(page)],
        cwd=page.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    failed = re.findall(r"^FAILED .*::Test(\w+)::", run.stdout, re.MULTILINE)
    assert set(failed) == parts, run.stdout[-3000:] + run.stderr[-1000:]


@pytest.mark.parametrize("package", ["hypothesis", "pytest", "pytest_asyncio"])
def test_a_missing_package_names_the_extra(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None\nimport luminoracore_sdk.testing"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.strip().endswith(
        "MissingDependencyError: luminoracore_sdk.testing needs the 'testing' extra: "
        'pip install "luminoracore-sdk[testing]"'
    )
