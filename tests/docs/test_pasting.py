"""Blocks that a page says to paste into ``python -m asyncio`` work there unchanged.

At the prompt, unlike in a file, a blank line ends an indented block, and nothing else does.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13),
    reason="from a terminal the prompt takes a pasted block whole; from a pipe 3.13.0 takes no indented one",
)

PAGES = ["README.md", "docs/index.md", "docs/tutorial/first-conversation.md"]


def pasted(source: str, folder: Path) -> tuple[str, str]:
    """Feed source code to the prompt; return the output and the error messages."""
    done = subprocess.run(
        [sys.executable, "-q", "-X", "utf8", "-m", "asyncio"],
        input=source,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
    )
    return done.stdout, "\n".join(re.findall(r"^[\w.]*(?:Error|Exception)\b.*", done.stderr, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_a_page_can_be_pasted_in_order(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text()
    assert page == "docs/index.md" or "python -m asyncio" in text
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    source = "\n".join(blocks)  # a blank line after each: the reader presses Enter
    printed, problems = pasted(f"{source}\nprint('the', 'end')\n", tmp_path)
    assert problems == ""
    assert "the end" in printed


def test_an_error_at_the_prompt_is_reported(tmp_path: Path) -> None:
    source = "for x in range(2):\n    y = x\n\n    assert y == x\n"
    assert "IndentationError: unexpected indent" in pasted(source, tmp_path)[1]
