"""The tables of the speed benchmark."""

import attrs

from benchmarks.speed_parts.report import PARTS, who
from benchmarks.speed_parts.results import Result, summary
from benchmarks.speed_parts.targets import target_table
from benchmarks.speed_parts.timing import in_turns

FLOOR = Result(system="floor", backend="redis", layer="floor", work="append", n=1, p50_ms=0.5, p99_ms=1)
PORT = attrs.evolve(FLOOR, system="ours", layer="port", p50_ms=0.55, growth=1.2)
CONVERSATION = attrs.evolve(PORT, layer="conversation", p50_ms=1.0)
PEER = attrs.evolve(FLOOR, system="slowpoke 1.0", layer="Chat", p50_ms=250, p99_ms=1234.5)
MACHINE = {"machine": "2 cores of a processor", "kernel": "6.1"}


def test_the_targets_stand_beside_what_was_measured() -> None:
    writers = [
        attrs.evolve(FLOOR, work="writers-64", ops_per_s=100),
        attrs.evolve(PORT, work="writers-64", ops_per_s=250),
    ]

    table = target_table(summary([FLOOR, PORT, CONVERSATION, PEER, *writers]))

    assert table.splitlines()[2:] == [
        "| Redis | 1.10 ✓ (≤ 1.2) | 2.00 ✗ (≤ 1.5) | – | – | 2.50 ✓ (≥ 2) | 1.20 ✗ (≤ 1.1) |"
    ]


def test_both_drivers_of_mongodb_have_the_same_targets() -> None:
    results = [attrs.evolve(one, backend=backend) for backend in ("mongodb", "mongodb-motor") for one in (FLOOR, PORT)]

    rows = target_table(summary(results)).splitlines()[2:]

    assert [row.split(" | ")[1] for row in rows] == ["1.10 ✓ (≤ 1.15)"] * 2


def test_a_table_has_the_floor_our_layers_and_the_peers() -> None:
    table = PARTS["speed-append"](summary([FLOOR, PORT, PEER]), MACHINE)

    assert table.splitlines()[2:] == [
        "| Redis | raw driver | 0.50 | 1.00 | 1.00 | – |",
        "| Redis | storage port | 0.55 | 1.00 | 1.10 | 1.20 |",
        "| Redis | slowpoke 1.0, Chat | 250 | 1,234 | 500 | – |",
    ]


def test_the_costs_are_a_table_without_ratios() -> None:
    cost = attrs.evolve(PORT, work="cost", calls_per_append=1, bytes_per_message=1234.4, cpu_s_per_1000=0.25)

    table = PARTS["speed-cost"](summary([cost]), MACHINE)

    assert table.splitlines()[2:] == ["| Redis | storage port | 1.00 | 1,234 | 0.25 | – |"]


def test_many_writers_are_listed_backend_by_backend() -> None:
    results = [
        attrs.evolve(PORT, backend=backend, work=work, ops_per_s=1000)
        for work in ("writers-64", "shared-8")
        for backend in ("redis", "files")
    ]

    rows = PARTS["speed-writers"](summary(results), MACHINE).splitlines()[2:]

    assert [row.split(" | ")[0] + ", " + row.split(" | ")[2] for row in rows] == [
        "| Redis, 64, on 64 sessions",
        "| Redis, 8, on one",
        "| files, 64, on 64 sessions",
        "| files, 8, on one",
    ]


def test_machine_versions_and_durability_are_told() -> None:
    results = [attrs.evolve(one, run=run, versions="Valkey 9") for one in (FLOOR, PORT) for run in (1, 2, 3)]

    told = PARTS["speed-machine"](summary(results), MACHINE)

    assert told == (
        "2 cores of a processor, kernel 6.1. Medians of 3 runs.\n\n"
        "- Valkey 9: appendonly yes, appendfsync everysec: the last second is not yet on the disk."
    )


def test_a_peer_is_named_with_its_class() -> None:
    assert [who(row) for row in (FLOOR, CONVERSATION, PEER)] == [
        "raw driver",
        "ConversationManager",
        "slowpoke 1.0, Chat",
    ]


async def test_sides_work_in_alternating_blocks_and_begin_in_turn() -> None:
    done: list[str] = []

    async def left(number: int) -> None:
        done.append(f"left {number}")

    async def right(number: int) -> None:
        done.append(f"right {number}")

    seconds = await in_turns({"l": left, "r": right}, 4, block=2, steps={"r": 2})

    assert done == ["left 0", "left 1", "right 0", "right 2", "left 2", "left 3"]
    assert {side: len(times) for side, times in seconds.items()} == {"l": 4, "r": 2}
