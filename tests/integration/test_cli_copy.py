"""``luminora copy``: from one store to another, stopped and gone on with, told and proved."""

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from luminoracore_sdk.application.ports.records import MAX_BATCH
from luminoracore_sdk.bootstrap.config import storage_config_from_url
from luminoracore_sdk.cli.stores import is_same_store
from luminoracore_sdk.session import SessionStorage, create_storage
from luminoracore_sdk.testing.records import memory_record, message_records, session_record
from tests.support.command import Luminora, luminora_over, process

T = TypeVar("T")

KINDS = ["sqlite:///{}/{}.db", "file://{}/{}"]
HEADINGS = "outcome\tsessions\tmessages\tmemories\tusers\ttheir memories"


@pytest.fixture
def luminora() -> Luminora:
    return luminora_over("memory://")


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A store of two sessions, six messages, a memory of a session, users with and without a session."""
    url = f"sqlite:///{tmp_path}/source.db"
    luminora = luminora_over(url)
    luminora("chat", "--session", "a", "--create", "--user", "u", "--remember", "k=v", stdin="1\n2\n")
    luminora("chat", "hi", "--session", "b", "--create")
    return url


def within(url: str, work: Callable[[SessionStorage], Awaitable[T]]) -> T:
    """Do something to a store, on a loop of its own: the command runs on another one."""

    async def run() -> T:
        async with create_storage(url) as storage:
            return await work(storage)

    return asyncio.run(run())


def remember(url: str, user: str) -> None:
    record = memory_record("name", kind="user", owner=user, value="Ada")
    within(url, lambda storage: storage.put_memory(record))


def copied(luminora: Luminora, *arguments: str) -> tuple[int, Any]:
    done = luminora("copy", *arguments, "--json")
    return done.exit_code, json.loads(done.stdout)


def exported(url: str) -> str:
    return luminora_over(url)("sessions", "export").stdout


def test_encrypted_compressed_copy_is_copied_back_plain(luminora: Luminora, source: str, tmp_path: Path) -> None:
    long, back = "a word that is nowhere to be found " * 9, f"sqlite:///{tmp_path}/back.db"
    luminora_over(source)("chat", long, "--session", "a", "--remember", "hidden-key=hidden-value")
    keys = {"LUMINORA_ENCRYPTION_KEYS": f"2026:{'ab' * 32}"}
    done = luminora("copy", source, f"file://{tmp_path}/secret", "--encrypt", "--compress", "--json", **keys)
    assert (done.exit_code, json.loads(done.stdout)["problems"]) == (0, [])
    raw = b"".join(file.read_bytes() for file in (tmp_path / "secret").rglob("*") if file.is_file())
    assert b"json+zstd:g1+aes256gcm:2026" in raw
    assert [word for word in (b"nowhere", b"hidden-key", b"hidden-value") if word in raw] == []
    without = luminora("copy", f"file://{tmp_path}/secret", back, "--decrypt", LUMINORA_ENCRYPTION_KEYS="")
    assert (without.exit_code, "LUMINORA_ENCRYPTION_KEYS" in without.stderr) == (1, True)
    assert luminora("copy", f"file://{tmp_path}/secret", back, "--decrypt", **keys).exit_code == 0
    assert exported(back) == exported(source)


@pytest.mark.parametrize("kind", KINDS)
def test_copy_is_equal_and_second_copy_finds_it_present(
    luminora: Luminora, source: str, tmp_path: Path, kind: str
) -> None:
    remember(source, "u")
    target = kind.format(tmp_path, "target")
    done = luminora("copy", source, target)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [HEADINGS, "copied\t2\t6\t1\t1\t1"]
    told = re.fullmatch(r"equal in both: 2 sessions; SHA-256 ([0-9a-f]{64})\n", done.stderr)
    assert told is not None
    assert exported(target) == exported(source)
    name = "sqlite" if kind.startswith("sqlite") else "json"
    path = f"{tmp_path}/target" + (".db" if name == "sqlite" else "")
    assert copied(luminora, source, target) == (
        0,
        {
            "from": f"sqlite: {tmp_path}/source.db",
            "to": f"{name}: {path}",
            "dry_run": False,
            "complete": True,
            "problems": [],
            "digest": told[1],
            "sessions": {"already there": 2},
            "messages": {"already there": 6},
            "memories": {"already there": 1},
            "users": {"already there": 1},
            "user_memories": {"already there": 1},
        },
    )


def test_a_copy_goes_on_after_the_source_did(luminora: Luminora, source: str, tmp_path: Path) -> None:
    target = f"file://{tmp_path}/target"
    luminora("copy", source, target)
    luminora_over(source)("chat", "more", "--session", "a")
    done = luminora("copy", source, target)
    assert done.stdout.splitlines() == [HEADINGS, "completed\t1\t6\t1\t\t", "already there\t1\t2\t\t\t"]
    assert exported(target) == exported(source)


def test_differences_stay_without_overwrite(luminora: Luminora, source: str, tmp_path: Path) -> None:
    target = f"file://{tmp_path}/target"
    luminora("copy", source, target)
    luminora_over(target)("chat", "more", "--session", "b")
    kept = exported(target)
    done = luminora("copy", source, target)
    assert (done.exit_code, done.stdout.splitlines()[1:]) == (
        1,
        ["already there\t1\t4\t1\t\t", "different\t1\t\t\t\t"],
    )
    assert done.stderr == "session 'b': has 4 messages, not 2\nnot equal: 1 difference\n"
    assert exported(target) == kept
    code, report = copied(luminora, source, target, "--dry-run", "--overwrite")
    assert (code, report["sessions"], exported(target)) == (0, {"replaced": 1, "already there": 1}, kept)
    code, report = copied(luminora, source, target)
    assert (code, report["digest"], report["problems"]) == (
        1,
        None,
        [{"kind": "session", "id": "b", "reason": "has 4 messages, not 2"}],
    )
    assert copied(luminora, source, target, "--overwrite")[1]["sessions"] == {
        "replaced": 1,
        "already there": 1,
    }
    assert exported(target) == exported(source)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_makes_no_store(luminora: Luminora, source: str, tmp_path: Path, kind: str) -> None:
    done = luminora("copy", source, kind.format(tmp_path, "target"), "--dry-run")
    assert (done.exit_code, done.stdout.splitlines()[1:]) == (0, ["copied\t2\t6\t1\t\t"])
    assert done.stderr == "dry run: nothing was written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["source.db"]


def test_copy_can_be_limited_to_a_user_or_a_tag(luminora: Luminora, source: str, tmp_path: Path) -> None:
    remember(source, "nobody's friend")
    target = f"sqlite:///{tmp_path}/target.db"
    done = luminora("copy", source, target, "--user", "nobody's friend")
    assert done.stdout.splitlines() == [HEADINGS, "copied\t\t\t\t1\t1"]
    assert copied(luminora, source, target, "--user", "u")[1]["sessions"] == {"copied": 1}
    assert copied(luminora, source, target, "--tag", "none")[1]["sessions"] == {}
    assert within(target, lambda storage: storage.list_sessions()) == ["a"]


def test_a_damaged_session_is_named_and_the_others_go_over(luminora: Luminora, source: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "source.db") as damaged:
        damaged.execute("UPDATE luminora_messages SET payload = replace(payload, 'said: 2', 'said: 9')")
    damaged.close()
    target = f"file://{tmp_path}/target"
    code, report = copied(luminora, source, target)
    assert (code, report["sessions"]) == (1, {"copied": 1, "failed": 1})
    assert report["problems"][0]["id"] == "a"
    assert "damaged" in report["problems"][0]["reason"]
    assert within(target, lambda storage: storage.list_sessions()) == ["b"]


def test_a_terminal_shows_how_far_it_is(luminora: Luminora, source: str, tmp_path: Path) -> None:
    done = luminora("copy", source, f"file://{tmp_path}/target", FORCE_COLOR="1")
    assert done.exit_code == 0
    assert "copying" in done.stderr
    assert "2/2" in done.stderr


# -- refused -------------------------------------------------------------------------------------


def test_a_store_is_not_copied_onto_itself(luminora: Luminora, source: str, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "source.db")
    for target in (source, f"sqlite:///{tmp_path}/x/../source.db", f"sqlite:///{tmp_path}/link.db"):
        done = luminora("copy", source, target)
        assert (done.exit_code, "FROM and TO are the same store" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("memory://", "memory://"),
        ("redis://ada:secret@Localhost:6379", "redis://127.0.0.1/0"),
        ("postgres://host/db?schema=a", "postgresql://bob@host:5432/db?schema=a"),
        ("postgres://ada@host/db?application_name=x", "postgres://ada@host/db"),
        ("mongodb://b:27017,a/db", "mongodb://a,b/db?replicaSet=rs0"),
    ],
)
def test_a_server_is_known_by_more_than_one_name(luminora: Luminora, one: str, other: str) -> None:
    done = luminora("copy", one, other)
    assert (done.exit_code, "FROM and TO are the same store" in done.stderr) == (2, True)
    assert "secret" not in done.output


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/1"),
        ("redis://127.0.0.1:1/0?prefix=a", "redis://127.0.0.1:1/0?prefix=b"),
        ("redis://127.0.0.1:1/0", "file://other"),
        ("postgresql://ada@host/db", "postgresql://bob@host/db"),
        ("postgresql://ada@host?schema=a", "postgresql://bob@host?schema=a"),
    ],
)
def test_other_places_are_no_mistake(one: str, other: str) -> None:
    configs = storage_config_from_url(one), storage_config_from_url(other)
    assert is_same_store(*configs) is False


def test_a_source_that_is_not_there_is_not_made(luminora: Luminora, tmp_path: Path) -> None:
    for kind in KINDS:
        done = luminora("copy", kind.format(tmp_path, "none"), kind.format(tmp_path, "target"))
        assert (done.exit_code, "no store at " in done.stderr) == (3, True)
    assert list(tmp_path.iterdir()) == []


def test_an_encrypted_store_is_copied_from_and_to_only_as_one(luminora: Luminora, source: str, tmp_path: Path) -> None:
    keys = {"LUMINORA_ENCRYPTION_KEYS": f"2026:{'ab' * 32}"}
    secret, back = f"sqlite:///{tmp_path}/secret.db", f"sqlite:///{tmp_path}/back.db"
    assert luminora("copy", source, secret, "--encrypt", **keys).exit_code == 0
    before = exported(source)
    luminora_over(source)("chat", "later", "--session", "c", "--create")
    for options in ((), ("--dry-run",), ("--compress",), ("--overwrite",)):
        done = luminora("copy", source, secret, *options, **keys)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.splitlines()[0] == f"luminora: TO (sqlite: {tmp_path}/secret.db) is encrypted: add --encrypt"
    assert luminora("copy", source, secret, "--encrypt", "--dry-run", **keys).exit_code == 0
    done = luminora("copy", secret, back, **keys)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == (f"luminora: FROM (sqlite: {tmp_path}/secret.db) is encrypted: add --decrypt")
    assert luminora("copy", secret, back, "--decrypt", **keys).exit_code == 0
    assert exported(back) == before


def test_the_option_for_one_store_is_refused(luminora: Luminora, source: str, tmp_path: Path) -> None:
    done = luminora("copy", source, f"file://{tmp_path}/target", "--store", source)
    assert (done.exit_code, "FROM and TO name the stores" in done.stderr) == (2, True)
    assert "--store" not in luminora("copy", "--help").stdout
    assert "--store" in luminora("sessions", "list", "--help").stdout


# -- stopped -------------------------------------------------------------------------------------

STOPPING = """
import os, signal
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage as Storage
signal.signal(signal.SIGINT, signal.default_int_handler)
append = Storage.append_messages
count = 0
async def stopping(self, *arguments, **options):
    global count
    receipt = await append(self, *arguments, **options)
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.{name})
    return receipt
Storage.append_messages = stopping
"""


async def fill(storage: SessionStorage, session_id: str) -> None:
    await storage.put_session(session_record(session_id))
    await storage.append_messages(session_id, message_records(MAX_BATCH))
    await storage.put_memory(memory_record("k", owner=session_id))


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGINT", 130)])
def test_a_copy_that_is_stopped_in_a_session_goes_on_in_it(
    luminora: Luminora, tmp_path: Path, name: str, code: int
) -> None:
    source, target = f"sqlite:///{tmp_path}/source.db", f"file://{tmp_path}/target"
    for session_id in ("a", "b"):
        within(source, partial(fill, session_id=session_id))
    done = process(tmp_path, "copy", source, target, code=STOPPING.format(name=name))
    assert done.returncode == code
    if name == "SIGINT":
        assert done.stderr == "not finished; run the same command again to continue\n\nstopped\n"
    half = within(target, lambda storage: storage.find_session("a"))
    assert half is not None
    assert 0 < half.last_position < MAX_BATCH
    code, report = copied(luminora, source, target)
    assert (code, report["sessions"]) == (0, {"completed": 1, "copied": 1})
    assert exported(target) == exported(source)
    assert copied(luminora, source, target)[1]["sessions"] == {"already there": 2}
