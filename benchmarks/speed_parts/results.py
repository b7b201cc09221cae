"""One measurement, its arithmetic, and the file of all of them; benchmarks.peers adds its own."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import attrs

__all__ = [
    "DEFAULTS",
    "FLOOR",
    "OURS",
    "Result",
    "growth_of",
    "joined",
    "percentile",
    "ratio",
    "read_results",
    "result_of",
    "summary",
    "write_results",
]

FLOOR = "floor"
"""``system`` and ``layer`` of the raw driver."""

DEFAULTS = "defaults"
"""``system`` and ``layer`` of the raw driver with its own defaults."""

OURS = "ours"
"""``system`` of this package; its layers are ``port``, ``conversation`` and ``session``."""

_FORMAT = 1


@attrs.frozen(kw_only=True)
class Result:
    """One kind of work, done by one system on one backend, in one run. None: not measured.

    Attributes:
        system: ``floor``, ``ours`` or a peer with its version, such as ``openai-agents 0.6.1``.
        backend: ``postgres``, ``redis``, ``mongodb`` (PyMongo), ``mongodb-motor``, ``sqlite`` or ``files``.
        layer: ``floor``, ``port``, ``conversation``, ``session``; of a peer, its class.
        work: ``append`` (one message a call), ``newest`` (20 of 10,000), ``all`` (1,000), ``page`` (100 of
            10,000), ``create``, ``list`` (100), ``delete``, ``writers-64`` and ``writers-256`` (each on a
            session of its own), ``shared-8`` (eight on one session), ``cost`` (appends that only the four
            last fields are taken of). A peer leaves out what it cannot do.
        n: Calls that were measured.
        run: 1, 2, 3 …; a ratio is to the floor of the same run, so every file has floors of its own.
        p50_ms: Median of a call.
        p99_ms: 99th percentile.
        ops_per_s: Calls a second, of all writers together.
        growth: Of ``append``: the last tenth of a session of 10,000 messages ÷ the first tenth; of ``page``:
            the last tenth of the pages ÷ the first tenth; medians.
        calls_per_append: Statements or commands, by the server's own count.
        bytes_per_message: On disk.
        cpu_s_per_1000: CPU seconds of the client process for 1,000 appends.
        server_cpu_s_per_1000: Of the server's processes.
        versions: Of server and driver, or of the peer and what it stands on.
    """

    system: str
    backend: str
    layer: str
    work: str
    n: int
    run: int = 1
    p50_ms: float | None = None
    p99_ms: float | None = None
    ops_per_s: float | None = None
    growth: float | None = None
    calls_per_append: float | None = None
    bytes_per_message: float | None = None
    cpu_s_per_1000: float | None = None
    server_cpu_s_per_1000: float | None = None
    versions: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What was measured, whichever run it was."""
        return self.backend, self.system, self.layer, self.work


_FIGURES = (
    "p50_ms",
    "p99_ms",
    "ops_per_s",
    "growth",
    "calls_per_append",
    "bytes_per_message",
    "cpu_s_per_1000",
    "server_cpu_s_per_1000",
)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` (0 to 1) of all values do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def growth_of(values: Sequence[float]) -> float:
    """Return the median of the last tenth ÷ the median of the first tenth, each at least one value."""
    tenth = max(len(values) // 10, 1)
    return median(values[-tenth:]) / median(values[:tenth])


def result_of(made: Result, seconds: Sequence[float], wall: float | None = None) -> Result:
    """Return the result with the times of its calls.

    Args:
        made: Says what was measured.
        seconds: Of each call.
        wall: Seconds of all together, where several were under way at once; None: one after the other.
    """
    return attrs.evolve(
        made,
        n=len(seconds),
        p50_ms=1000 * median(seconds),
        p99_ms=1000 * percentile(seconds, 0.99),
        ops_per_s=len(seconds) / (sum(seconds) if wall is None else wall),
    )


def ratio(result: Result, floor: Result) -> float | None:
    """Return how a result compares with the floor: times as ours ÷ floor, of many writers throughputs."""
    by_throughput = result.work.startswith(("writers-", "shared-"))
    ours, floors = (one.ops_per_s if by_throughput else one.p50_ms for one in (result, floor))
    return None if ours is None or not floors else ours / floors


def summary(results: Iterable[Result]) -> list[tuple[Result, float | None]]:
    """Return the medians of each measurement, and of its ratios to the floor of the same run.

    ``run`` is then how many runs there were.
    """
    runs: dict[tuple[str, str, str, str], list[Result]] = {}
    for result in results:
        runs.setdefault(result.key, []).append(result)
    floors = {(one.backend, one.work, one.run): one for found in runs.values() for one in found if one.system == FLOOR}
    rows = []
    for found in runs.values():
        pairs = [(one, floors.get((one.backend, one.work, one.run))) for one in found]
        ratios = [ratio(one, floor) for one, floor in pairs if floor is not None]
        medians: dict[str, Any] = {name: _median(getattr(one, name) for one in found) for name in _FIGURES}
        rows.append((attrs.evolve(found[0], run=len(found), **medians), _median(ratios)))
    return rows


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def write_results(path: Path, results: Iterable[Result], machine: Mapping[str, str]) -> None:
    """Write a file that ``read_results`` reads."""
    rows = [attrs.asdict(result) for result in results]
    document = {"format": _FORMAT, "machine": dict(machine), "results": rows}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def joined(files: Iterable[Sequence[Result]]) -> list[Result]:
    """Return the results of several files as one; runs of different files stay different runs."""
    found: list[Result] = []
    for results in files:
        runs_before = max((one.run for one in found), default=0)
        found += [attrs.evolve(one, run=runs_before + one.run) for one in results]
    return found


def read_results(path: Path) -> tuple[list[Result], dict[str, str]]:
    """Return the results of a file, and the machine that they are from.

    Raises:
        ValueError: The file is of another format.
    """
    document = json.loads(path.read_text("utf-8"))
    if document.get("format") != _FORMAT:
        raise ValueError(f"{path} has format {document.get('format')!r}, not {_FORMAT}")
    return [Result(**row) for row in document["results"]], document["machine"]
