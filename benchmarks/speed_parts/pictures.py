"""The two figures that matter most, as pictures."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.report import Rows, who
from benchmarks.speed_parts.results import FLOOR, OURS, Result

__all__ = ["write_pictures"]

_COLORS = {"raw driver": "#9e9e9e", "storage port": "#3f51b5", "ConversationManager": "#7986cb"}


def write_pictures(rows: Rows, folder: Path) -> None:
    """Write ``performance-append.svg`` and ``performance-writers.svg``: the same for the same figures."""
    # text stays text: small files, and the font of whoever looks
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "luminora", "font.family": "sans-serif"}):
        append = _bars(rows, "append", "ms, median", lambda row: row.p50_ms)
        append.savefig(folder / "performance-append.svg", metadata={"Date": None}, transparent=True)
        writers = _bars(rows, "writers-64", "appends a second", lambda row: row.ops_per_s)
        writers.savefig(folder / "performance-writers.svg", metadata={"Date": None}, transparent=True)


def _bars(rows: Rows, work: str, unit: str, value: Callable[[Result], float | None]) -> Figure:
    found = {
        (row.backend, who(row)): value(row) or 0.0
        for row, _ in rows
        if row.work == work and row.system in (FLOOR, OURS)
    }
    names = [name for name in BACKENDS if (name, "raw driver") in found]
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    for index, (side, color) in enumerate(_COLORS.items()):
        places = [place + (index - 1) * 0.27 for place in range(len(names))]
        axes.bar(places, [found.get((name, side), 0.0) for name in names], 0.25, label=side, color=color)
    axes.set_xticks(range(len(names)), [BACKENDS[name].title.replace(", ", "\n") for name in names])
    axes.set_ylabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
