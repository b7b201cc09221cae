"""The suite itself: no test hides another, all of the port is called, and faults are found."""

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
from luminoracore_sdk.testing.contract.append import AppendRaceContract, AppendsAtOnceContract
from luminoracore_sdk.testing.contract.listing import PageContract
from luminoracore_sdk.testing.contract.messages import MeanwhileContract
from luminoracore_sdk.testing.contract.races import MemoryRaceContract, SessionRaceContract
from luminoracore_sdk.testing.contract.rewriting import RewriteRaceContract
from luminoracore_sdk.testing.contract.tenants import TenantContract
from tests.support.faulty_appends import FAULTY_APPENDS, Faulty
from tests.support.faulty_groups import FAULTY_GROUPS
from tests.support.faulty_memory import FAULTY
from tests.support.faulty_races import FAULTY_RACES
from tests.support.faulty_rewriting import FAULTY_REWRITING
from tests.support.faulty_tenants import FAULTY_TENANTS

PARTS = [part for part in StorageContract.__mro__ if part.__module__.startswith("luminoracore_sdk.testing")]

RACES = (
    AppendRaceContract,
    AppendsAtOnceContract,
    MeanwhileContract,
    MemoryRaceContract,
    PageContract,
    TenantContract,
    RewriteRaceContract,
    SessionRaceContract,
)
FAULTS = (*FAULTY_APPENDS, *FAULTY_GROUPS, *FAULTY_RACES, *FAULTY_REWRITING, *FAULTY_TENANTS)


def test_no_two_parts_have_a_test_or_a_helper_of_the_same_name() -> None:
    names = Counter(name for part in PARTS for name in vars(part) if not name.startswith("_"))
    assert [name for name, count in names.items() if count > 1] == []
    assert len([name for name in names if name.startswith("test_")]) > 150


def test_every_test_is_a_coroutine_so_that_strict_mode_runs_it() -> None:
    tests = {name: value for part in PARTS for name, value in vars(part).items() if name.startswith("test_")}
    assert [name for name, test in tests.items() if not inspect.iscoroutinefunction(test)] == []


def test_every_method_of_the_port_is_called_by_the_suite() -> None:
    folder = Path(contract_module.__file__).parent
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    methods = [name for name in vars(SessionStorage) if not name.startswith("_")]
    assert [name for name in methods if f".{name}" not in sources] == []


@pytest.mark.parametrize("faulty", FAULTY, ids=lambda faulty: faulty.__name__)
def test_the_state_machine_finds_a_fault(faulty: type[InMemoryStorage]) -> None:
    def place() -> AbstractContextManager[StorageFactory]:
        return nullcontext(lambda clock: faulty(clock=clock))

    search = settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate], print_blob=False)
    with pytest.raises(AssertionError):
        run_storage_state_machine(place, persistent=False, settings=search)


def test_the_contract_finds_every_fault_and_none_where_there_is_none() -> None:
    found_by = {(fault.__name__, case) for fault in FAULTS for case in fault.found_by}
    cases = found_by | {(Faulty.__name__, case) for _, case in found_by}
    page = Path(__file__).parents[1] / "support" / "faulty_contract.py"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=no",
        "--assert=plain",  # nobody reads why they fail; with CI set, pytest would compare megabytes for it
        "-rf",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:cov",
    ]
    run = subprocess.run(
        [*command, *(f"{page}::Test{name}::test_{case}" for name, case in sorted(cases))],
        cwd=page.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    failed = re.findall(r"^FAILED .*::Test(\w+)::test_(\w+)", run.stdout, re.MULTILINE)
    assert set(failed) == found_by, run.stdout[-3000:] + run.stderr[-1000:]


def test_every_case_about_others_at_the_same_time_is_shown_to_fail() -> None:
    shown = {f"test_{case}" for fault in FAULTS for case in fault.found_by}
    cases = {name for part in RACES for name in vars(part) if name.startswith("test_")}
    assert sorted(cases - shown) == []


@pytest.mark.parametrize("package", ["hypothesis", "pytest", "pytest_asyncio"])
def test_without_its_packages_the_import_names_the_extra(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None\nimport luminoracore_sdk.testing"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.strip().endswith(
        "MissingDependencyError: luminoracore_sdk.testing needs the 'testing' extra: "
        'pip install "luminoracore-sdk[testing]"'
    )
