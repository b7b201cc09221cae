"""The repository names no package index and no local path."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Written in pieces, so that this file does not find itself.
INDEX_HOST = re.compile("py" + r"pi\.org|python" + r"hosted\.org|--(?:extra-)?index" + "-url")
LOCAL_PATH = re.compile(r"(?<![\w.~])/(?:home|Users|root|work)" + r"/[\w.-]+")


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607 - git is found on PATH
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def lines_that_match(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_package_index() -> None:
    assert lines_that_match(INDEX_HOST) == []


def test_no_file_names_a_local_path() -> None:
    assert lines_that_match(LOCAL_PATH) == []


def test_constraints_pin_one_version_a_line() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    pinned = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+(?: ; .+)?")
    assert [line for line in pins if not pinned.fullmatch(line)] == []
    assert len({line.split("==")[0].lower() for line in pins}) == len(pins)


def test_stores_that_the_first_pages_create_are_ignored() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs/tutorial").glob("*.md")]
    names = {name for page in pages for name in re.findall(r"sqlite:///([\w-]+\.db)", page.read_text())}
    assert "conversations.db" in names
    for name in names | {f"{name}-wal" for name in names}:
        ignored = subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, check=False)  # noqa: S607
        assert ignored.returncode == 0, name
