"""``luminora optimize rewrite``: the records of a live store into the form that is written now, and back."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.compression.dictionary import general_dictionary
from tests.support.command import Luminora, luminora_over, process, process_environment
from tests.support.optimizing import exported, fill, json_of, payloads, tags
from tests.support.servers import postgres_url
from tests.support.servers.places import clear_postgres, place_name

HEADS = "sessions\trecords\tchanged\tbytes before\tbytes now"
GENERAL = general_dictionary().id
COMPRESSED = f"json+zstd:{GENERAL}"


@pytest.fixture(params=["sqlite", "files", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty place for a store."""
    if request.param != "postgres":
        yield f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else f"file://{tmp_path}/s"
        return
    server, name = postgres_url(), place_name(tmp_path)
    yield f"{server}{'&' if '?' in server else '?'}schema={name}"
    clear_postgres(server, name)


@pytest.fixture
def luminora(url: str) -> Luminora:
    command = luminora_over(url)
    fill(command, 3, turns=2)
    command("chat", "hi", "--session", "a", "--create", "--remember", "likes=" + "hedgehogs and " * 10)
    return command


def test_every_record_is_compressed_and_says_the_same_and_back(url: str, luminora: Luminora) -> None:
    before, said = payloads(url), exported(luminora)
    done = luminora("optimize", "rewrite")
    heads, figures = done.stdout.splitlines()
    sessions, records, changed, old, new = figures.split("\t")
    after = payloads(url)
    assert (done.exit_code, heads, sessions, records) == (0, HEADS, "4", "19")
    assert done.stderr == f"every record has the encoding zstd:{GENERAL} level 3\n"
    assert int(changed) == sum(after[place] != before[place] for place in before) > 12
    assert old == f"{sum(len(data) for _, data in before.values()):,}"
    assert new.split(" ")[0] == f"{sum(len(data) for _, data in after.values()):,}"
    assert {tag for tag, _ in after.values()} <= {COMPRESSED, "json"}
    assert exported(luminora) == said
    undone = json_of(luminora, "rewrite", "--plain")
    assert (undone["encoding"], undone["changed"], undone["complete"]) == ("plain", int(changed), True)
    assert payloads(url) == before


def test_a_second_run_changes_nothing(url: str, luminora: Luminora) -> None:
    first = json_of(luminora, "rewrite")
    assert json_of(luminora, "rewrite") == {
        **first,
        "changed": 0,
        "bytes_before": first["bytes_after"],
    }


def test_what_was_trained_is_used_for_what_is_there(url: str, luminora: Luminora) -> None:
    luminora("optimize", "rewrite")
    fill(luminora, 50)
    trained = json_of(luminora, "train")["dictionary"]
    said = exported(luminora)
    assert json_of(luminora, "rewrite")["encoding"] == f"zstd:{trained} level 3"
    assert f"json+zstd:{trained}" in tags(url) <= {f"json+zstd:{trained}", "json"}
    assert exported(luminora) == said


# -- meanwhile -----------------------------------------------------------------------------------

APPENDING = """
import asyncio, sys
from luminoracore_sdk.session import SessionManager, create_storage

async def main():
    async with create_storage(sys.argv[1]) as storage:
        manager = SessionManager(storage)
        for number in range(60):
            await manager.send_message("a", f"question {number} about hedgehogs in winter")
            await manager.memory_manager.store_memory("a", "count", f"{number} " + "hedgehogs " * 9)
            print(number, flush=True)

asyncio.run(main())
"""


def test_rewrite_loses_nothing_of_a_concurrent_writer(url: str, luminora: Luminora, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", APPENDING, url],
        env=process_environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "0\n"
        rounds = 0
        while other.poll() is None or rounds < 2:
            done = luminora("optimize", "rewrite", *(["--plain"] if rounds % 2 else []), "--json")
            assert (done.exit_code, json.loads(done.stdout)["unreadable"]) == (0, 0)
            rounds += 1
        assert other.stdout.read().split() == [str(number) for number in range(1, 60)]
    assert other.returncode == 0
    shown = json.loads(luminora("sessions", "show", "a", "--json").stdout)
    asked = [one["content"] for one in shown["messages"] if one["role"] == "user"]
    assert asked == ["hi", *(f"question {number} about hedgehogs in winter" for number in range(60))]
    assert [one["position"] for one in shown["messages"]] == list(range(1, 123))
    assert {one["key"]: one["value"] for one in shown["memories"]}["count"] == "59 " + "hedgehogs " * 9
    assert json_of(luminora, "rewrite")["left"] == 0
    assert tags(url) <= {COMPRESSED, "json"}


# -- stopped, damaged ----------------------------------------------------------------------------

STOPPING = """
import os, signal
from luminoracore_sdk.adapters.storage.base import BaseStorage as Storage
signal.signal(signal.SIGINT, signal.default_int_handler)
rewrite = Storage.rewrite_messages
count = 0
async def stopping(self, *arguments, **options):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.{name})
    return await rewrite(self, *arguments, **options)
Storage.rewrite_messages = stopping
"""


def stopped_by(name: str, tmp_path: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a rewrite that gets a signal at its fourth session, and saves its progress after each one."""
    command = ("optimize", "rewrite", "--save-every", "0", *options)
    return process(tmp_path, *command, LUMINORA_STORE=url, code=STOPPING.format(name=name))


def with_names(tmp_path: Path) -> tuple[str, Luminora]:
    """Return a store of six sessions whose order is known."""
    url = f"sqlite:///{tmp_path}/s.db"
    luminora = luminora_over(url)
    for session_id in "abcdef":
        luminora("chat", "What do hedgehogs eat in winter?", "--session", session_id, "--create")
    return url, luminora


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGINT", 130)])
def test_stopped_run_continues_to_the_same_result(tmp_path: Path, name: str, code: int) -> None:
    url, luminora = with_names(tmp_path)
    shutil.copy(tmp_path / "s.db", tmp_path / "whole.db")
    whole = luminora_over(f"sqlite:///{tmp_path}/whole.db")
    in_one_go = json_of(whole, "rewrite")
    stopped = stopped_by(name, tmp_path, url, "--json")
    assert stopped.returncode == code
    if name == "SIGINT":
        report = json.loads(stopped.stdout)
        assert (report["complete"], report["sessions"]) == (False, 3)
        assert stopped.stderr == "not finished; run the same command again to continue\n\nstopped\n"
    half = payloads(url)
    assert [session for session in "abcdef" if half[session, 1][0] == COMPRESSED][:3] == ["a", "b", "c"]
    assert half["f", 1][0] == "json"
    done = luminora("optimize", "rewrite", "--json")
    rest = json.loads(done.stdout)
    assert done.stderr.splitlines()[0] == "continuing after session 'c'; use --from-start to start over"
    assert (rest["sessions"], rest["complete"]) == (3, True)
    assert payloads(url) == payloads(f"sqlite:///{tmp_path}/whole.db")
    assert json_of(luminora, "rewrite") == {  # the mark is gone: all of it is looked at
        **in_one_go,
        "changed": 0,
        "bytes_before": in_one_go["bytes_after"],
    }


def test_progress_counts_only_for_the_same_encoding(tmp_path: Path) -> None:
    url, luminora = with_names(tmp_path)
    stopped_by("SIGINT", tmp_path, url)
    anew = luminora("optimize", "rewrite", "--from-start", "--json")
    assert (json.loads(anew.stdout)["sessions"], "continuing" in anew.stderr) == (6, False)
    stopped_by("SIGINT", tmp_path, url, "--plain")
    other = luminora("optimize", "rewrite", "--json")
    assert (json.loads(other.stdout)["sessions"], "continuing" in other.stderr) == (6, False)
    assert tags(url) == {COMPRESSED}


@pytest.mark.parametrize(("checksum", "stays"), [("checksum = NULL", {("b", 2)}), ("checksum = 1", {("b", 2)})])
def test_damaged_record_is_named_and_the_rest_rewritten(
    tmp_path: Path, checksum: str, stays: set[tuple[str, int]]
) -> None:
    _, luminora = with_names(tmp_path)
    of_b = "sid = (SELECT sid FROM luminora_sessions WHERE session_id = 'b')"
    damage = f"SET encoding = ?, payload = NULL, blob = x'00ff', {checksum} WHERE {of_b} AND position = 2"
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection, connection:
        assert connection.execute(f"UPDATE luminora_messages {damage}", (COMPRESSED,)).rowcount == 1
    done = luminora("optimize", "rewrite", "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["unreadable"], report["complete"]) == (1, 1, True)
    named, last = done.stderr.splitlines()
    assert named.startswith("session 'b': sqlite storage: ")
    assert last == "1 record not readable, left unchanged"
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        found = connection.execute(
            "SELECT session_id, position, encoding, blob FROM luminora_messages JOIN luminora_sessions USING (sid)"
        ).fetchall()
    assert {(row[0], row[1]) for row in found if row[2] == "json" or row[3] == b"\x00\xff"} == stays
    assert len(found) == 12


def test_a_terminal_shows_how_far_it_is(tmp_path: Path) -> None:
    _, luminora = with_names(tmp_path)
    done = luminora("optimize", "rewrite", FORCE_COLOR="1")
    assert (done.exit_code, "rewriting" in done.stderr, "6/6" in done.stderr) == (0, True, True)


def test_rewrite_without_keys_changes_nothing(tmp_path: Path) -> None:
    url, luminora = with_names(tmp_path)
    keys = {
        "LUMINORA_STORAGE_ENCRYPTION_ENABLED": "yes",
        "LUMINORA_ENCRYPTION_KEYS": f"new:{'ab' * 32}",
    }
    assert luminora("optimize", "rewrite", **keys).exit_code == 0
    before = tags(url)
    done = luminora("optimize", "rewrite", "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["changed"], report["unreadable"]) == (1, 0, report["records"] - 1)
    assert tags(url) == before


def test_a_run_that_goes_on_says_from_where_it_speaks(tmp_path: Path) -> None:
    url, luminora = with_names(tmp_path)
    stopped_by("SIGINT", tmp_path, url)
    going_on, last = luminora("optimize", "rewrite").stderr.splitlines()
    behind = going_on.removeprefix("continuing after session ").partition(";")[0]
    assert last == f"every record after session {behind} has the encoding zstd:{GENERAL} level 3"


def test_stopped_run_reads_missed_records_again(tmp_path: Path) -> None:
    url, luminora = with_names(tmp_path)
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection, connection:
        connection.execute(
            "UPDATE luminora_messages SET encoding = 'x'"
            " WHERE sid = (SELECT sid FROM luminora_sessions WHERE session_id = 'a')"
        )
    stopped_by("SIGINT", tmp_path, url)
    done = luminora("optimize", "rewrite", "--json")
    assert (done.exit_code, json.loads(done.stdout)["unreadable"] > 0) == (1, True)
