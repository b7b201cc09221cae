"""Pages state the right number of contract cases."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import faulty_contract

ROOT = Path(__file__).parents[2]


def test_pages_state_the_number_of_contract_cases() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cov", faulty_contract.__file__]
    plain = {**os.environ, "PYTEST_ADDOPTS": ""}
    run = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    (number,) = re.findall(r"^(\d+) tests collected", run.stdout, re.MULTILINE)
    stated = {
        path.name: found.group(1)
        for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        for found in re.finditer(r"(\d+)\s+(?:contract\s+)?cases\b", path.read_text("utf-8"))
    }
    assert "README.md" in stated
    assert stated == dict.fromkeys(stated, number)
