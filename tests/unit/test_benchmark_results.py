"""The arithmetic of the speed benchmark: medians, ratios, growth, and the file of results."""

from pathlib import Path

import attrs
import pytest

from benchmarks.speed_parts.results import (
    Result,
    growth_of,
    joined,
    percentile,
    ratio,
    read_results,
    result_of,
    summary,
    write_results,
)

FLOOR = Result(system="floor", backend="sqlite", layer="floor", work="append", n=1)
PORT = Result(system="ours", backend="sqlite", layer="port", work="append", n=1)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert percentile(values, 0.99) == 99
    assert percentile(values, 1) == 100
    assert percentile(values, 0) == 1
    assert percentile([7.0], 0.99) == 7


def test_growth_is_the_median_of_the_last_tenth_over_that_of_the_first() -> None:
    first, middle, last = [1.0, 2.0, 90.0], [1000.0] * 24, [3.0, 4.0, 90.0]

    assert growth_of([*first, *middle, *last]) == 2


def test_growth_of_few_values_compares_the_last_with_the_first() -> None:
    assert growth_of([2.0, 9.0, 3.0]) == 1.5


def test_times_of_one_writer_become_milliseconds_and_calls_a_second() -> None:
    found = result_of(PORT, [0.001, 0.002, 0.005])

    assert (found.n, found.p50_ms, found.p99_ms, found.ops_per_s) == (3, 2, 5, 375)


def test_the_throughput_of_many_writers_is_by_the_time_of_all_together() -> None:
    found = result_of(PORT, [0.25, 0.5], wall=0.5)

    assert (found.p50_ms, found.ops_per_s) == (375, 4)


def test_a_ratio_is_of_medians_and_of_many_writers_of_throughputs() -> None:
    floor, port = result_of(FLOOR, [0.25], wall=0.5), result_of(PORT, [0.5], wall=0.25)

    assert ratio(port, floor) == 2
    assert ratio(attrs.evolve(port, work="writers-64"), attrs.evolve(floor, work="writers-64")) == 2
    assert ratio(attrs.evolve(port, p50_ms=1500, work="shared-8"), attrs.evolve(floor, work="shared-8")) == 2


def test_a_summary_has_medians_of_the_runs_and_of_the_ratios_within_each_and_counts_them() -> None:
    floors, ports = (10.0, 1.0, 4.0), (30.0, 2.0, 4.0)  # ratios 3, 2 and 1
    results = [
        *(attrs.evolve(FLOOR, run=run, p50_ms=value) for run, value in enumerate(floors)),
        *(attrs.evolve(PORT, run=run, p50_ms=value, growth=value) for run, value in enumerate(ports)),
    ]

    assert summary(results) == [
        (attrs.evolve(FLOOR, run=3, p50_ms=4), 1),
        (attrs.evolve(PORT, run=3, p50_ms=4, growth=4), 2),
    ]


def test_without_a_floor_in_its_run_a_result_has_no_ratio() -> None:
    results = [attrs.evolve(FLOOR, run=1, p50_ms=1), attrs.evolve(PORT, run=2, p50_ms=3)]

    assert [found for _, found in summary(results)] == [1, None]


def test_what_no_run_has_measured_stays_unknown() -> None:
    assert summary([PORT]) == [(PORT, None)]


def test_runs_of_different_files_stay_different() -> None:
    runs = [[attrs.evolve(PORT, run=run) for run in (1, 2)], [attrs.evolve(FLOOR, run=1)]]

    assert [one.run for one in joined(runs)] == [1, 2, 3]


def test_a_file_of_results_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results = [result_of(PORT, [0.1]), attrs.evolve(FLOOR, versions="SQLite 3.40")]

    write_results(path, results, {"machine": "2 cores"})

    assert read_results(path) == (results, {"machine": "2 cores"})


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"format": 2}')

    with pytest.raises(ValueError, match="has format 2, not 1"):
        read_results(path)
