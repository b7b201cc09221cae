"""Every code block of the documentation does what it says."""

import gc
from pathlib import Path

import pytest

from tests.docs.page import Page, Project

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.no_cover
@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_code_block_of_the_page_runs(path: Path, home: Path, project: Project) -> None:
    Page(path, home, project).run()
    gc.collect()  # resources that a block left open are reported here, not in the next test
