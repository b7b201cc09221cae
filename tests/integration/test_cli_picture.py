"""The picture of ``luminora optimize report``: two panels, the same bytes each time, any id."""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.command import Luminora, luminora_over, process

pytest.importorskip("matplotlib")


@pytest.fixture
def luminora(tmp_path: Path) -> Luminora:
    command = luminora_over(f"sqlite:///{tmp_path}/s.db")
    for session_id in ("first", "a$x$ & <b>\x1b[31m\tc", "日本語" * 20):
        command("chat", "What do hedgehogs eat?", "--session", session_id, "--create")
    return command


def texts(picture: Path) -> list[str]:
    root = ET.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314 - our own
    return [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_both_panels_name_what_they_show(luminora: Luminora, tmp_path: Path) -> None:
    picture = tmp_path / "p.svg"
    done = luminora("optimize", "report", "--picture", picture)
    assert (done.exit_code, done.stderr) == (0, f"tokens: o200k_base\nwrote {picture}\n")
    drawn = texts(picture)
    assert {
        "Bytes in the store",
        "as compact JSON",
        "as stored",
        "Tokens (o200k_base)",
        "as the prompt writes it",
        "total",
        "by session",
        "first",
        r"a$x$ & <b>\x1b[31m\tc",
        "日本語" * 6 + "日本…" + "日本語" * 3,
    } <= set(drawn)
    lines = [line.split("\t") for line in done.stdout.splitlines()[1:]]
    assert {cell for line in lines for cell in line[2:]} <= set(drawn)


def test_the_same_store_makes_the_same_bytes(luminora: Luminora, tmp_path: Path) -> None:
    for ending in ("svg", "PNG"):
        one, other = tmp_path / f"one.{ending}", tmp_path / f"other.{ending}"
        for picture in (one, other):
            luminora("optimize", "report", "--picture", picture)
        assert one.read_bytes() == other.read_bytes()
    assert other.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_large_store_is_drawn_by_its_largest_sessions(tmp_path: Path) -> None:
    luminora = luminora_over(f"sqlite:///{tmp_path}/s.db")
    for number in range(14):
        luminora("chat", "x" * (20 - number) * 10, "--session", f"n{number}", "--create")
    luminora("optimize", "report", "--no-tokens", "--picture", tmp_path / "p.svg")
    drawn = texts(tmp_path / "p.svg")
    assert "the 12 largest of 14 sessions" in drawn
    assert [text for text in drawn if text.startswith("n")] == [f"n{number}" for number in range(12)]
    assert not any("Tokens" in text for text in drawn)
    luminora("optimize", "report", "--limit", "3", "--picture", tmp_path / "p.svg")
    assert "the 3 largest of 14 sessions" in texts(tmp_path / "p.svg")


def test_another_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    luminora = luminora_over(f"sqlite:///{tmp_path}/none.db")
    done = luminora("optimize", "report", "--picture", "p.gif")
    assert (done.exit_code, "the name of a picture must end with .svg or .png" in done.stderr) == (2, True)


def test_a_folder_that_is_not_there_is_one_line(luminora: Luminora, tmp_path: Path) -> None:
    done = luminora("optimize", "report", "--picture", tmp_path / "none" / "p.svg")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"luminora: {tmp_path}/none: no such folder\n"


def test_without_the_extra_it_says_what_to_install(
    luminora: Luminora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = luminora("optimize", "report", "--picture", tmp_path / "p.svg")
    assert (done.exit_code, done.stdout, "luminoracore-sdk[report]" in done.stderr) == (1, "", True)
    assert luminora("optimize", "report").exit_code == 0


def test_a_user_s_own_matplotlibrc_and_display_do_not_matter(luminora: Luminora, tmp_path: Path) -> None:
    luminora("optimize", "report", "--picture", tmp_path / "one.svg")
    (tmp_path / "matplotlibrc").write_text("backend: tkagg\nfont.size: 30\naxes.facecolor: black\nsvg.hashsalt: mine\n")
    done = process(
        tmp_path,
        *("optimize", "report", "--picture", str(tmp_path / "other.svg")),
        LUMINORA_STORE=f"sqlite:///{tmp_path}/s.db",
        MATPLOTLIBRC=str(tmp_path / "matplotlibrc"),
        DISPLAY=":99",
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, f"wrote {tmp_path}/other.svg")
    assert (tmp_path / "other.svg").read_bytes() == (tmp_path / "one.svg").read_bytes()
