"""``luminora optimize train`` and ``report``: a dictionary of a store's own, and the figures of a store."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from luminoracore_sdk.adapters.compression.dictionary import general_dictionary
from tests.support.command import Luminora, luminora_over
from tests.support.optimizing import exported, fill, json_of, payloads, tags
from tests.support.servers import mongodb_url, postgres_url, redis_url
from tests.support.servers.places import clear_mongodb, clear_postgres, clear_redis, place_name

COMPRESSED = {"LUMINORA_STORAGE_COMPRESSION_ENABLED": "true"}
KEYS = {
    "LUMINORA_STORAGE_ENCRYPTION_ENABLED": "true",
    "LUMINORA_ENCRYPTION_KEYS": f"2026:{bytes(range(32)).hex()}",
}
BYTES = ["session", "msgs", "bytes as JSON", "bytes stored"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


@pytest.fixture
def luminora(url: str) -> Luminora:
    return luminora_over(url)


def rows(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


# -- train ---------------------------------------------------------------------------------------


def test_trained_dictionary_is_used_by_the_next_writer(url: str, luminora: Luminora) -> None:
    fill(luminora, 60)
    done = luminora("optimize", "train")
    assert (done.exit_code, tags(url)) == (0, {"json"})
    heads, figures = rows(done.stdout)
    trained = heads[3].removeprefix("with ")
    assert heads == [
        "records held out",
        "as JSON",
        f"with {general_dictionary().id}",
        f"with {trained}",
    ]
    plain, general, own = (int(cell.partition(" ")[0].replace(",", "")) for cell in figures[1:])
    assert (figures[0], own < 0.8 * general < 0.8 * plain) == ("84", True)  # a fifth of 60 * (1 + 6)
    assert re.fullmatch(
        rf"the dictionary {trained} of [\d,]+ bytes was stored; storages that are opened from now on write with it.*\n",
        done.stderr,
    )
    luminora("chat", "The user of the hedgehog says: frost", "--session", "new", "--create", **COMPRESSED)
    assert {tag for (session, _), (tag, _) in payloads(url).items() if session == "new"} == {f"json+zstd:{trained}"}
    shown = luminora("sessions", "show", "new", "--json").stdout  # read without compression, and it is there
    assert json.loads(shown)["messages"][0]["content"] == "The user of the hedgehog says: frost"


def test_a_dry_run_measures_and_stores_nothing(url: str, luminora: Luminora) -> None:
    fill(luminora, 60)
    first = json_of(luminora, "train", "--dry-run")
    assert (first["is_used"], first["before"]) == (False, general_dictionary().id)
    assert luminora("optimize", "train", "--dry-run").stderr.endswith("would be used; dry run: nothing was stored\n")
    second = json_of(luminora, "train")
    assert second == {**first, "is_used": True}
    assert second["records"] + second["held_out"] == 60 * 7
    assert second["bytes_after"] < second["bytes_before"] < second["plain_bytes"]


def test_a_dictionary_that_is_no_better_changes_nothing(url: str, luminora: Luminora) -> None:
    fill(luminora, 60)
    first = json_of(luminora, "train")
    done = luminora("optimize", "train")
    assert (done.exit_code, done.stderr) == (
        0,
        f"the dictionary {first['dictionary']} is as good; nothing was changed\n",
    )
    worse = json_of(luminora, "train", "--size", "1024")
    assert (worse["is_used"], worse["dictionary_bytes"] <= 1024) == (False, True)
    assert json_of(luminora, "train")["before"] == first["dictionary"] != worse["dictionary"]


def test_too_little_to_learn_from_is_one_line(luminora: Luminora) -> None:
    fill(luminora, 2)
    done = luminora("optimize", "train")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(r"luminora: 14 records of [\d,]+ bytes are not enough to train .*\n", done.stderr)


@pytest.mark.parametrize("command", ["train", "rewrite", "report"])
@pytest.mark.parametrize("kind", ["sqlite:///{}/none.db", "file://{}/none"])
def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, kind: str, command: str) -> None:
    done = luminora_over(kind.format(tmp_path))("optimize", command)
    assert (done.exit_code, done.stdout, "no store at " in done.stderr) == (3, "", True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["files", "postgres", "redis", "mongodb"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Luminora]:
    """The command over an empty store of each other kind."""
    name = place_name(tmp_path)
    if request.param == "postgres":
        server = postgres_url()
        yield luminora_over(f"{server}{'&' if '?' in server else '?'}schema={name}")
        clear_postgres(server, name)
    elif request.param == "redis":
        yield partial(luminora_over(redis_url()), LUMINORA_STORAGE_REDIS_PREFIX=name)
        clear_redis(redis_url(), name)
    elif request.param == "mongodb":
        yield luminora_over(urlsplit(mongodb_url())._replace(path=f"/{name}").geturl())
        clear_mongodb(mongodb_url(), name)
    else:
        yield luminora_over(f"file://{tmp_path}/s")


def test_every_backend_is_trained_rewritten_and_measured(anywhere: Luminora) -> None:
    fill(anywhere, 30)
    before, said = json_of(anywhere, "report"), exported(anywhere)
    trained = json_of(anywhere, "train")
    rewritten = json_of(anywhere, "rewrite")
    after = json_of(anywhere, "report")
    assert (trained["is_used"], rewritten["encoding"]) == (True, f"zstd:{trained['dictionary']} level 3")
    assert after["total"]["json_bytes"] == before["total"]["json_bytes"]
    assert after["total"]["stored_bytes"] - after["own_bytes"] < 0.4 * before["total"]["stored_bytes"]
    assert after["total"]["tokens"] == before["total"]["tokens"]
    assert exported(anywhere) == said


# -- report --------------------------------------------------------------------------------------


def sizes(url: str, session_id: str) -> int:
    return sum(len(tag) + len(data) for (session, _), (tag, data) in payloads(url).items() if session == session_id)


def test_the_largest_sessions_come_first_and_the_total_last(url: str, luminora: Luminora) -> None:
    for session_id, turns in (("small", 1), ("large", 9), ("middle", 4)):
        luminora("chat", "--session", session_id, "--create", stdin="What do hedgehogs eat?\n" * turns)
    done = luminora("optimize", "report", "--limit", "2")
    heads, large, middle, total = rows(done.stdout)
    assert heads == [*BYTES, "tokens as JSON", "tokens in the prompt"]
    assert [large[:2], middle[:2], total[:2]] == [
        ["large", "18"],
        ["middle", "8"],
        ["total: 3 sessions", "28"],
    ]
    assert [int(row[3].partition(" ")[0].replace(",", "")) for row in (large, middle)] == [
        sizes(url, "large"),
        sizes(url, "middle"),
    ]
    assert done.stderr == "there are more than 2 sessions; use --limit to show more\ntokens: o200k_base\n"
    whole = json_of(luminora, "report")
    assert [one["session_id"] for one in whole["sessions"]] == ["large", "middle", "small"]
    for name in ("messages", "memories", "json_bytes", "stored_bytes"):
        assert whole["total"][name] == sum(one[name] for one in whole["sessions"])
    for name in ("context", "context_json", "record_json", "facts", "facts_json"):
        assert whole["total"]["tokens"][name] == sum(one["tokens"][name] for one in whole["sessions"])
    assert large[2:] == cells(whole["sessions"][0])


def cells(one: dict[str, Any]) -> list[str]:
    tokens = one["tokens"]
    return [
        f"{one['json_bytes']:,}",
        f"{one['stored_bytes']:,} ({one['stored_bytes'] / one['json_bytes']:.0%})",
        f"{tokens['context_json']:,}",
        f"{tokens['context']:,} ({tokens['context'] / tokens['context_json']:.0%})",
    ]


def test_report_shows_compression_and_own_records(url: str, luminora: Luminora) -> None:
    fill(luminora, 60)
    before = json_of(luminora, "report")
    luminora("optimize", "train")
    luminora("optimize", "rewrite")
    after = json_of(luminora, "report")
    assert (before["own_bytes"], after["own_bytes"] > 1024) == (0, True)
    assert after["total"]["json_bytes"] == before["total"]["json_bytes"]
    assert after["total"]["tokens"] == before["total"]["tokens"]
    assert after["total"]["stored_bytes"] < 0.6 * before["total"]["stored_bytes"]
    of_sessions = sum(one["stored_bytes"] for one in after["sessions"])
    assert after["total"]["stored_bytes"] == of_sessions + after["own_bytes"]
    *_, own, total = rows(luminora("optimize", "report", "--no-tokens").stdout)
    assert own == ["(the store's own records)", "", "", f"{after['own_bytes']:,}"]
    assert total[0] == "total: 60 sessions"


def test_filters_exclude_other_sessions_and_own_records(luminora: Luminora) -> None:
    fill(luminora, 40)
    luminora("optimize", "train")
    luminora("chat", "hi", "--session", "a", "--create", "--user", "u")
    found = json_of(luminora, "report", "--user", "u", "--no-tokens")
    assert ([one["session_id"] for one in found["sessions"]], found["own_bytes"]) == (["a"], 0)
    assert (found["token_counter"], found["total"]["tokens"]) == (None, None)
    assert luminora("optimize", "report", "--tag", "none").stderr == "no sessions\n"


def test_ids_cannot_steer_a_terminal(luminora: Luminora) -> None:
    luminora("chat", "hi", "--session", "a\x1b[31m\tb", "--create")
    assert rows(luminora("optimize", "report").stdout)[1][0] == r"a\x1b[31m\tb"


def test_an_empty_store_has_no_figures_and_no_picture(tmp_path: Path) -> None:
    luminora = luminora_over("memory://")
    done = luminora("optimize", "report", "--picture", tmp_path / "p.svg")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "no sessions\n")
    assert list(tmp_path.iterdir()) == []
    assert json_of(luminora, "report")["total"] == {
        "sessions": 0,
        "messages": 0,
        "memories": 0,
        "json_bytes": 0,
        "stored_bytes": 0,
        "tokens": None,
    }


def test_encrypted_store_is_measured_only_with_its_keys(url: str, luminora: Luminora) -> None:
    luminora("chat", "hi", "--session", "a", "--create", **KEYS, **COMPRESSED)
    found = json_of(luminora, "report", **KEYS)
    assert found["sessions"][0]["stored_bytes"] == sizes(url, "a")
    assert found["total"]["tokens"]["context"] > 0
    done = luminora("optimize", "report", "--json")
    assert (done.exit_code, json.loads(done.stdout)["sessions"]) == (1, [])
    assert [one["session_id"] for one in json.loads(done.stdout)["unreadable"]] == ["a"]
    assert "session 'a': " in done.stderr
    assert done.stderr.endswith("1 session not readable, not counted\n")


def test_a_damaged_session_is_named_and_the_others_are_counted(tmp_path: Path, luminora: Luminora) -> None:
    for session_id in "abc":
        luminora("chat", "hi", "--session", session_id, "--create")
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection, connection:
        connection.execute(
            "UPDATE luminora_messages SET payload = '{' WHERE position = 2"
            " AND sid = (SELECT sid FROM luminora_sessions WHERE session_id = 'b')"
        )
    done = luminora("optimize", "report")
    assert (done.exit_code, [row[0] for row in rows(done.stdout)[1:]]) == (
        1,
        ["a", "c", "total: 2 sessions"],
    )
    assert done.stderr.startswith("session 'b': sqlite storage: ")


def test_a_report_changes_nothing(url: str, luminora: Luminora) -> None:
    fill(luminora, 3)
    before = payloads(url), exported(luminora)
    luminora("optimize", "report")
    assert (payloads(url), exported(luminora)) == before
