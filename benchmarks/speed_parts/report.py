"""The results as the tables of the documentation's page."""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.optimizer_parts.tables import machine, table
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.results import DEFAULTS, FLOOR, OURS, Result
from benchmarks.speed_parts.targets import target_table

__all__ = ["PARTS", "Rows", "described_machine", "who"]

Rows = Sequence[tuple[Result, float | None]]
"""Medians, each with its ratio to the floor."""

_LAYERS = {
    "port": "storage port",
    "conversation": "ConversationManager",
    "session": "SessionManager",
}


def described_machine() -> dict[str, str]:
    """Return what the figures are measured on: nothing that names a computer."""
    return {"machine": machine(), "kernel": platform.release().partition("-")[0]}


def who(row: Result) -> str:
    """Name a side."""
    if row.system == FLOOR:
        return "raw driver"
    if row.system == DEFAULTS:
        return "raw driver, its own defaults"
    return _LAYERS[row.layer] if row.system == OURS else f"{row.system}, {row.layer}"


def _described(rows: Rows, where: Mapping[str, str]) -> str:
    runs = [row.run for row, _ in rows if row.system == OURS]
    counted = f"{min(runs, default=0)} runs" if min(runs, default=0) != 1 else "one run"
    lines = [f"{where['machine']}, kernel {where['kernel']}. Medians of {counted}.", ""]
    for name, backend in BACKENDS.items():
        versions = {row.versions for row, _ in rows if row.backend == name and row.system in (FLOOR, OURS)}
        own = f" Its own defaults: {backend.default_durability}."
        lines += [f"- {'; '.join(sorted(versions))}: {backend.durability}.{own}" for _ in versions][:1]
    return "\n".join(lines)


def _times(work: str, *, growth: bool) -> Callable[[Rows, Mapping[str, str]], str]:
    def part(rows: Rows, _: Mapping[str, str]) -> str:
        heads = ["", "", "p50, ms", "p99, ms", "÷ raw driver", *(["growth"] if growth else [])]
        lines = [
            [
                *_names(row),
                _number(row.p50_ms),
                _number(row.p99_ms),
                _number(ratio),
                *([_number(row.growth)] if growth else []),
            ]
            for row, ratio in _of(rows, work)
        ]
        return table(heads, lines, texts=2)

    return part


def _throughput(rows: Rows, _: Mapping[str, str]) -> str:
    works = {"64, on 64 sessions": "writers-64", "256, on 256": "writers-256", "8, on one": "shared-8"}
    lines = [
        [*_names(row), title, _whole(row.ops_per_s), _number(row.p50_ms), _number(row.p99_ms), _number(ratio)]
        for title, work in works.items()
        for row, ratio in _of(rows, work)
    ]
    heads = ["", "", "writers", "appends/s", "p50, ms", "p99, ms", "× raw driver"]
    return table(heads, sorted(lines, key=_by_backend), texts=3)


def _by_backend(line: Sequence[str]) -> int:
    return [backend.title for backend in BACKENDS.values()].index(line[0])


def _cost(rows: Rows, _: Mapping[str, str]) -> str:
    lines = [
        [
            *_names(row),
            _number(row.calls_per_append),
            _whole(row.bytes_per_message),
            _number(row.cpu_s_per_1000),
            _number(row.server_cpu_s_per_1000),
        ]
        for row, _ in _of(rows, "cost")
    ]
    heads = ["", "", "calls", "bytes on disk", "CPU s per 1,000, client", "CPU s per 1,000, server"]
    return table(heads, lines, texts=2)


def _sessions(rows: Rows, _: Mapping[str, str]) -> str:
    lines = [
        [*_names(row), work, _number(row.p50_ms), _number(row.p99_ms)]
        for work in ("create", "list", "delete")
        for row, _ in _of(rows, work)
    ]
    return table(["", "", "work", "p50, ms", "p99, ms"], sorted(lines, key=_by_backend), texts=3)


PARTS: dict[str, Callable[[Rows, Mapping[str, str]], str]] = {
    "speed-machine": _described,
    "speed-targets": lambda rows, _: target_table(rows),
    "speed-append": _times("append", growth=True),
    "speed-newest": _times("newest", growth=False),
    "speed-all": _times("all", growth=False),
    "speed-page": _times("page", growth=True),
    "speed-writers": _throughput,
    "speed-cost": _cost,
    "speed-sessions": _sessions,
}
"""The parts of the page, by the names of their marks."""


def _of(rows: Rows, work: str) -> Iterable[tuple[Result, float | None]]:
    for name in BACKENDS:
        yield from ((row, ratio) for row, ratio in rows if row.backend == name and row.work == work)


def _names(row: Result) -> list[str]:
    return [BACKENDS[row.backend].title, who(row)]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) < 100 else _whole(value)


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
