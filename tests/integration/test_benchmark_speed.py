"""The speed benchmark does all of its work, on few messages; how long that takes is not looked at."""

from pathlib import Path

import pytest

from benchmarks.large import work
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.measure import Sizes, measure, random_texts

SMALL = Sizes(messages=20, reads=5, sessions=2, costs=10, writers=(4,), burst=16, rounds=1)

LAYERS = {"floor", "port", "conversation", "session"}
READERS = LAYERS - {"session"}


@pytest.mark.parametrize("name", ["sqlite", "files"])
async def test_every_side_does_all_the_work(name: str, tmp_path: Path) -> None:
    backend = BACKENDS[name](tmp_path)

    results = await measure(backend, SMALL, run=3)

    done: dict[str, set[str]] = {}
    for one in results:
        assert (one.backend, one.run, one.system) == (name, 3, "floor" if one.layer == "floor" else "ours")
        done.setdefault(one.work, set()).add(one.layer)
    assert done == {
        "cost": LAYERS,
        "append": LAYERS,
        "newest": READERS,
        "all": READERS,
        "page": READERS,
        "writers-4": READERS,
        "shared-8": READERS,
        "create": LAYERS - {"floor"},
        "list": {"port"},
        "delete": LAYERS - {"floor"},
    }
    assert [one.n for one in results if one.work == "writers-4"] == [16, 16, 16]
    floor, port, *_ = [one for one in results if one.work == "cost"]
    assert floor.bytes_per_message is not None
    assert port.bytes_per_message is not None
    assert port.calls_per_append is None


async def test_the_floor_reads_what_it_wrote(tmp_path: Path) -> None:
    for name in ("sqlite", "files"):
        (tmp_path / name).mkdir()
        floor = BACKENDS[name](tmp_path / name).floor()
        await floor.open()
        await floor.begin("s")
        await floor.fill("s", ["1", "2"])
        for text in ("3", "4"):
            await floor.append("s", text)
        assert list(await floor.newest("s", 3))[0 if name == "files" else -1] == "2"
        assert list(await floor.page("s", 1, 2)) == ["2", "3"]
        await floor.close()


def test_texts_have_200_characters_and_are_the_same_each_time() -> None:
    texts = random_texts(50)

    assert {len(text) for text in texts} == {200}
    assert len(set(texts)) == 50
    assert random_texts(50) == texts


async def test_a_long_session_is_written_and_streamed(tmp_path: Path) -> None:
    place = BACKENDS["sqlite"](tmp_path).place

    written = await work("write", "sqlite", place, 2000)
    streamed = await work("stream", "sqlite", place, 2000)

    assert written.keys() == streamed.keys() == {"seconds", "grown"}


async def test_a_stream_of_another_length_fails(tmp_path: Path) -> None:
    place = BACKENDS["sqlite"](tmp_path).place
    await work("write", "sqlite", place, 1000)

    with pytest.raises(AssertionError):
        await work("stream", "sqlite", place, 2000)


async def test_all_sessions_are_listed(tmp_path: Path) -> None:
    found = await work("list", "sqlite", BACKENDS["sqlite"](tmp_path).place, 150)

    assert found["walked"] == 150


async def test_what_a_store_is_filled_with_is_counted(tmp_path: Path) -> None:
    found = await work("room", "sqlite", BACKENDS["sqlite"](tmp_path).place, 2)

    payload = len('{"v":2,"content":""}') + 200
    assert (found["payload"], found["messages"]) == (200 * payload, 200)
    assert found["payload"] + 200 * 100 < found["whole"] < found["payload"] + 200 * 140
