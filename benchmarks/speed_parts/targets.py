"""What was aimed at, as ratios to the raw driver."""

from collections.abc import Sequence

import attrs

from benchmarks.optimizer_parts.tables import table
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.results import OURS, Result

__all__ = ["TARGETS", "Target", "target_table"]


@attrs.frozen
class Target:
    """One column: a figure of a measurement, and its bound on each backend.

    Attributes:
        title: The head of the column.
        layer: Whose figure it is.
        work: Of which work.
        bounds: For PostgreSQL, Redis, MongoDB, SQLite and files.
        at_least: Whether the figure must be as high as the bound, not as low.
        of_growth: Whether it is the growth and not the ratio to the floor.
    """

    title: str
    layer: str
    work: str
    bounds: tuple[float, float, float, float, float]
    at_least: bool = False
    of_growth: bool = False

    def bound(self, backend: str) -> float:
        """Return the bound of a backend."""
        names = ("postgres", "redis", "mongodb", "sqlite", "files")
        return self.bounds[names.index(backend.partition("-")[0])]

    def cell(self, row: Result, ratio: float | None) -> str:
        """Return what was measured, beside what was asked for."""
        value = row.growth if self.of_growth else ratio
        bound = self.bound(row.backend)
        asked = f"{'≥' if self.at_least else '≤'} {bound:g}"
        if value is None:
            return f"– ({asked})"
        reached = value >= bound if self.at_least else value <= bound
        return f"{value:.2f} {'✓' if reached else '✗'} ({asked})"


TARGETS = (
    Target("one append, ConversationManager", "conversation", "append", (1.3, 1.6, 2.0, 1.5, 1.6)),
    Target("newest 20", "port", "newest", (1.4, 1.5, 1.5, 1.6, 0.1)),
    Target("all 1,000", "port", "all", (2.5, 1.8, 2.2, 2.5, 3)),
    Target("64 writers, throughput", "port", "writers-64", (2, 1.2, 2, 1.5, 0.3), at_least=True),
    Target("growth", "port", "append", (1.1, 1.1, 1.1, 1.1, 1.1), of_growth=True),
)


def target_table(rows: Sequence[tuple[Result, float | None]]) -> str:
    """Return the table of the issue, filled in."""
    found = {(row.backend, row.layer, row.work): (row, ratio) for row, ratio in rows if row.system == OURS}
    lines = []
    for name, backend in BACKENDS.items():
        cells = [found.get((name, target.layer, target.work)) for target in TARGETS]
        if any(cells):
            texts = ["–" if cell is None else target.cell(*cell) for target, cell in zip(TARGETS, cells, strict=True)]
            lines.append([backend.title, *texts])
    return table(["", *(target.title for target in TARGETS)], lines)
