"""What a page tells its reader to paste into ``python -m asyncio`` works there as it stands.

The prompt is not the compiler: a blank line ends an indented block, and nothing but a blank line does.
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
    """Return what was printed, and what went wrong, when the source is fed to the prompt."""
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
def test_the_blocks_of_a_page_can_be_pasted_one_after_the_other(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text()
    assert page == "docs/index.md" or "python -m asyncio" in text
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    source = "\n".join(blocks)  # a blank line after each: the reader presses Enter
    printed, problems = pasted(f"{source}\nprint('the', 'end')\n", tmp_path)
    assert problems == ""
    assert "the end" in printed


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("for x in range(2):\n    y = x\n\n    assert y == x\n", "IndentationError: unexpected indent"),
        ("for x in range(2):\n    y = x\nprint(y)\n", "SyntaxError: invalid syntax"),
        ("await no_such_name\n", "NameError: name 'no_such_name' is not defined"),
        ("assert 1 == 2\n", "AssertionError"),
        ("import json\njson.loads('{')\n", "json.decoder.JSONDecodeError: Expecting"),
    ],
)
def test_what_the_prompt_refuses_is_seen(source: str, problem: str, tmp_path: Path) -> None:
    assert problem in pasted(source, tmp_path)[1]
