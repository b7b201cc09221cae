"""The adapter of the how-to guide passes the contract in pytest-asyncio's strict mode."""

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "how-to" / "certify-a-storage-adapter.md"


def test_the_adapter_of_the_guide_passes_the_contract(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    adapter, contract = (
        next(block for block in blocks if f"class {name}(" in block) for name in ("ShelfStorage", "TestShelfStorage")
    )
    (tmp_path / "test_shelf_storage.py").write_text(f"{adapter}\n\n{contract}")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:cov"]
    run = subprocess.run(
        [*command, "test_shelf_storage.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]
    summary = run.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r"5\d\d passed, 85 skipped in .*", summary)
