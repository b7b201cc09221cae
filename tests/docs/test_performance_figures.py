"""The figures of the page about performance are written by the benchmarks."""

import re
from xml.etree import ElementTree as ET

import pytest

from benchmarks.large import PARTS as LARGE
from benchmarks.speed import DOCUMENT
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.report import PARTS


def written(part: str) -> str:
    """Return what a benchmark wrote into the page."""
    found = re.search(rf"<!-- benchmark:{part} -->\n(.*?)<!-- end -->", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert found is not None, f"the page has no place for {part}"
    return found.group(1)


@pytest.mark.parametrize("part", [*PARTS, *(f"large-{part}" for part in LARGE)])
def test_every_part_of_the_page_tells_of_every_backend(part: str) -> None:
    names = {backend.title for backend in BACKENDS.values()}
    if part == "speed-machine":  # which names servers and drivers
        names = {"PostgreSQL", "Valkey", "pymongo", "motor", "file system"}

    text = written(part)

    assert [name for name in names if name not in text] == []


@pytest.mark.parametrize("name", ["append", "writers"])
def test_the_pictures_show_every_backend(name: str) -> None:
    picture = ET.fromstring((DOCUMENT.parent / f"performance-{name}.svg").read_text("utf-8"))  # noqa: S314  # ours

    shown = "".join(picture.itertext())

    assert [one.title for one in BACKENDS.values() if one.title.split(", ")[0] not in shown] == []
