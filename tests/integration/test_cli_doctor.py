"""``luminora doctor``: says what works, and never a key."""

import json
import re
from pathlib import Path

import pytest

from luminoracore_sdk.cli import doctor
from luminoracore_sdk.cli.output import public_url
from luminoracore_sdk.domain.errors import (
    StorageAccessError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from luminoracore_sdk.session import InMemoryStorage
from tests.support.command import luminora_over

CHECKS = ["store", "opens", "answers", "schema version", "writes, reads, deletes", "holds", "messages", "memories"]


@pytest.mark.parametrize("url", ["sqlite:///{}/s.db", "file://{}/files", "memory://"])
def test_a_store_that_works_passes_every_check(tmp_path: Path, url: str) -> None:
    luminora = luminora_over(url.format(tmp_path))
    luminora("chat", "hi")
    done = luminora("doctor", "--json", OPENAI_API_KEY="sk-secret-key")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"]) == (0, True)
    assert [(check["name"], check["ok"]) for check in report["checks"]] == [(name, True) for name in CHECKS]
    held = "0 sessions, 0 messages" if url == "memory://" else "1 session, 2 messages"
    assert report["checks"][5]["detail"] == held
    assert re.fullmatch(r"in \d+\.\d ms", report["checks"][2]["detail"])
    (openai,) = [one for one in report["providers"] if one["name"] == "openai"]
    assert (openai["api_key_variable"], openai["api_key_set"]) == ("OPENAI_API_KEY", True)
    assert "sk-secret-key" not in done.output


def test_the_report_is_readable(tmp_path: Path) -> None:
    luminora = luminora_over(f"sqlite:///{tmp_path}/s.db")
    luminora("chat", "--session", "s", "--create", "--remember", "k=v", stdin="")
    done = luminora("doctor", ECHO_API_KEY="sk-secret-key")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"✓ store: sqlite: {tmp_path}/s.db\n" in done.stdout
    assert "✓ holds: 1 session, 0 messages\n" in done.stdout
    assert "sk-secret-key" not in done.output


def test_a_store_that_cannot_be_opened_ends_with_1_at_that_check(tmp_path: Path) -> None:
    done = luminora_over(f"sqlite:///{tmp_path}")("doctor", "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"]) == (1, False)
    assert [(check["name"], check["ok"]) for check in report["checks"]] == [("store", True), ("opens", False)]
    assert "✗ opens: " in luminora_over(f"sqlite:///{tmp_path}")("doctor").stdout


def test_a_store_of_no_known_kind_fails_the_first_check() -> None:
    report = json.loads(luminora_over("foo://ada:secret@host/x")("doctor", "--json").stdout)
    assert [(check["name"], check["ok"]) for check in report["checks"]] == [("store", False)]
    assert "secret" not in json.dumps(report)


SERVERS = {
    "postgresql://ada:se%2Fcret@127.0.0.1:1/x": "postgresql://ada:***@127.0.0.1:1/x",
    "redis://ada:secret@127.0.0.1:1/0": "redis://ada:***@127.0.0.1:1/0",
    "mongodb://ada:secret@127.0.0.1:1/x": "mongodb://ada:***@127.0.0.1:1/x",
}


@pytest.mark.parametrize(("url", "shown"), SERVERS.items())
def test_unreachable_server_is_one_line_without_password(url: str, shown: str) -> None:
    done = luminora_over(url)("doctor")
    assert done.exit_code == 1
    assert f"✓ store: {shown}\n" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("✗ ")]
    assert line.startswith("✗ opens: ")
    assert line.endswith("; check that the server is running, and the host, port and TLS options of the URL")
    assert "cret" not in done.output


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (StorageAccessError, "check the user, its password and permissions, and the name of the database"),
        (StorageBusyError, "raise the server's connection limit, or lower the pool size of its clients"),
        (StorageFullError, "free disk space, or raise the memory limit of the server"),
        (StorageReadOnlyError, "use the URL of the primary, or --read-only to skip the write check"),
        (StorageTimeoutError, "the server does not answer: check its load and its log"),
        (StorageUnavailableError, "check that the server is running, and the host, port and TLS options of the URL"),
    ],
)
def test_each_way_in_which_a_server_fails_has_its_advice(
    error: type[StorageUnavailableError], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(InMemoryStorage):
        async def ping(self) -> None:
            raise error("redis", "no.")

    monkeypatch.setattr("luminoracore_sdk.adapters.storage.redis.RedisStorage", lambda *_, **__: Failing())
    checks = json.loads(luminora_over("redis://host")("doctor", "--json").stdout)["checks"]
    assert checks[-1] == {"name": "answers", "ok": False, "detail": f"redis storage: no; {advice}"}


def test_nothing_is_written_when_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was written to")

    monkeypatch.setattr(InMemoryStorage, "put_session", refuse)
    done = luminora_over("memory://")("doctor", "--read-only", "--json")
    names = [check["name"] for check in json.loads(done.stdout)["checks"]]
    assert (done.exit_code, names) == (0, [name for name in CHECKS if "writes" not in name])


def test_a_store_of_very_many_sessions_is_not_counted_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "COUNT_LIMIT", 2)
    luminora = luminora_over(f"file://{tmp_path}/files")
    for number in range(3):
        luminora("chat", "hi", "--session", str(number), "--create")
    assert "✓ holds: more than 2 sessions\n" in luminora("doctor").stdout


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:se/cret@host/0", "redis://***@host/0"),
        ("redis://ada:se?cr#et@host/0", "redis://***"),
        ("postgresql://host/db?password=se@cret", "postgresql://***"),
        ("mongodb://ada:secret@a:1,b:2/db?replicaSet=x", "mongodb://ada:***@a:1,b:2/db"),
        ("mongodb://ada@host/db", "mongodb://ada@host/db"),
        ("memory://", "memory://"),
        ("postgresql://ada:secret", "postgresql://***"),
        ("postgresql://[::1]:5,host:6/db", "postgresql://[::1]:5,host:6/db"),
        ("redis://secret@host/0", "redis://***@host/0"),
        ("ada:secret@host", "***"),
    ],
)
def test_irregular_url_hides_more_rather_than_less(url: str, shown: str) -> None:
    assert public_url(url) == shown
