"""``luminora doctor``: says what works, and never a key."""

import json
from pathlib import Path

import pytest

from tests.support.command import luminora_over

CHECKS = ["store", "opens", "answers", "schema version", "writes, reads, deletes", "holds"]


@pytest.mark.parametrize("url", ["sqlite:///{}/s.db", "file://{}/files", "memory://"])
def test_a_store_that_works_passes_every_check(tmp_path: Path, url: str) -> None:
    luminora = luminora_over(url.format(tmp_path))
    luminora("chat", "hi")
    done = luminora("doctor", "--json", OPENAI_API_KEY="sk-secret-key")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"]) == (0, True)
    assert [(check["name"], check["ok"]) for check in report["checks"]] == [(name, True) for name in CHECKS]
    held = "0 sessions, 0 messages" if url == "memory://" else "1 session, 2 messages"
    assert report["checks"][-1]["detail"] == held
    (openai,) = [one for one in report["providers"] if one["name"] == "openai"]
    assert (openai["api_key_variable"], openai["api_key_set"]) == ("OPENAI_API_KEY", True)
    assert "sk-secret-key" not in done.output


def test_the_report_is_readable(tmp_path: Path) -> None:
    luminora = luminora_over(f"sqlite:///{tmp_path}/s.db")
    luminora("chat", "--session", "s", "--create", stdin="")
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


def test_a_password_in_the_url_is_not_shown() -> None:
    done = luminora_over("redis://ada:secret@127.0.0.1:1/0")("doctor")
    assert done.exit_code == 1
    assert "✓ store: redis://ada:***@127.0.0.1:1/0\n" in done.stdout
    assert "secret" not in done.output
