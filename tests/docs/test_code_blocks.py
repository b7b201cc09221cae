"""Every code block of the documentation does what it says.

A page that begins with ``<!-- needs: module -->`` is skipped where that module is not installed;
``scripts/framework_tests.py`` runs it where it is.
"""

import gc
import re
from pathlib import Path

import pytest

from tests.docs.page import Page, Project

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_code_block_of_the_page_runs(path: Path, home: Path, project: Project) -> None:
    if needed := re.match(r"<!-- needs: ([\w.]+) -->\n", path.read_text()):
        pytest.importorskip(needed[1], reason="the extra of the page is not installed")
    Page(path, home, project).run()
    gc.collect()  # resources that a block left open are reported here, not in the next test
