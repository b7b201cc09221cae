"""Lines that install the package: until a release is published, from a clone only."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
INSTALLS = re.compile(r"(?:pip|uv|poetry|pipx)\b[^\n`]*\b(?:install|add)\b[^\n`]*")


def test_the_pages_have_install_lines() -> None:
    found = [line for page in PAGES for line in INSTALLS.findall(page.read_text())]
    assert len(found) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_installs_what_is_not_published(page: Path) -> None:
    text = page.read_text()
    lines = INSTALLS.findall(text)
    assert [line for line in lines if "luminoracore-sdk" in line] == []
    if any('".[' in line for line in lines):
        assert "clone" in text, "it does not say where the line is run"
