"""``luminora recall``, ``luminora reindex``, and what ``luminora doctor`` says of both."""

import json
import re
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from shutil import copyfile

import pytest

from luminoracore_sdk.adapters import analysis
from luminoracore_sdk.adapters.embedders import HashingEmbedder
from luminoracore_sdk.cli import doctor
from tests.support.command import Luminora, luminora_over

TEXT = {"LUMINORA_STORAGE_SEARCH": "text"}
SEMANTIC = {"LUMINORA_STORAGE_SEARCH": "semantic"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "s.db"
    made = luminora_over(f"sqlite:///{path}")
    for session_id, user in (("a", "ada"), ("b", "bob")):
        options = ["--create", "--user", user, "--remember", f"boat=Aurora of {user}"]
        made("chat", "--session", session_id, *options, f"the boat of {user} leaves at noon")
        made("chat", "--session", session_id, "and the harbour?")
    return path


@pytest.fixture
def luminora(filled: Path, tmp_path: Path) -> Luminora:
    copyfile(filled, tmp_path / "s.db")
    return luminora_over(f"sqlite:///{tmp_path / 's.db'}")


def found(luminora: Luminora, *arguments: str, **environment: str) -> list[str]:
    done = luminora("recall", *arguments, "--json", **environment)
    assert (done.exit_code, done.stderr) == (0, "")
    return [f"{hit.get('session_id')}:{hit.get('position', hit.get('key'))}" for hit in json.loads(done.stdout)]


def test_what_is_found_is_narrowed_by_options(luminora: Luminora) -> None:
    assert sorted(found(luminora, "boats"))[:2] == ["a:1", "a:2"]
    assert set(found(luminora, "boats", "--user", "bob", "--limit", "2")) == {"b:1", "b:2"}
    assert found(luminora, "boats", "--user", "nobody") == []
    assert found(luminora, "boats", "--user", "ada", "--tenant", "t") == []
    assert {place[0] for place in found(luminora, "boats", "--session", "b")} == {"b"}
    assert found(luminora, "boats", "--session", "a", "--session", "b", "--limit", "100").count("a:boat") == 1
    assert found(luminora, "boats", "--since", "2999-01-01") == found(luminora, "boats", "--until", "1999-01-01") == []
    assert len(found(luminora, "boats", "--since", "1999-01-01", "--limit", "1")) == 1


def test_what_is_found_is_readable(luminora: Luminora) -> None:
    done = luminora("recall", "boat of ada", "--session", "a", "--limit", "1", "--explain")
    assert done.exit_code == 0
    head, row, parts = done.stdout.splitlines()
    assert head.split("\t") == ["score", "where", "role", "time (UTC)", "text"]
    assert re.search(r"^\d+\.\d\d\t(a:1\tuser|a:2\tassistant|a/boat\tmemory)\t\S+ \S+\t.*ada", row)
    assert re.match(r"a[:/](1|2|boat): text \d+\.\d\d, .*importance 1\.00$", parts)
    nothing = luminora("recall", "xyzzy")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "nothing was found\n")


def test_control_characters_of_a_text_are_escaped(luminora: Luminora) -> None:
    luminora("chat", "--session", "a", "--remember", "esc\x1b[31mape=boat", "escape \x1b[31m boat")
    done = luminora("recall", "escape boat", "--session", "a", "--explain")
    assert "esc\\x1b[31mape" in done.stdout
    assert "\x1b" not in done.stdout


BAD = {
    "a tenant without a user": (["boat", "--tenant", "t"], 2, "--tenant and --app need --user"),
    "an empty user": (["boat", "--user", ""], 2, "user"),
    "no hits": (["boat", "--limit", "0"], 2, "--limit"),
    "no time": (["boat", "--since", "noon"], 2, "--since"),
    "an unknown language": (["boat", "--language", "klingon"], 1, "language 'klingon' is not one of: arabic, "),
}


@pytest.mark.parametrize(("arguments", "code", "message"), BAD.values(), ids=BAD)
def test_a_wrong_option_is_refused(luminora: Luminora, arguments: list[str], code: int, message: str) -> None:
    done = luminora("recall", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


def test_a_missing_store_is_not_created(tmp_path: Path) -> None:
    for command in (("recall", "boat"), ("reindex",)):
        done = luminora_over(f"sqlite:///{tmp_path / 'none.db'}")(*command)
        assert done.exit_code == 3
        assert done.stderr.startswith("luminora: no store at")
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_is_closed_is_one_line() -> None:
    for command in (("recall", "boat"), ("reindex",)):
        done = luminora_over("redis://127.0.0.1:1/0")(*command)
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    ("module", "options", "extra"),
    [("snowballstemmer.english_stemmer", [], "search"), ("wordllama", ["--semantic"], "semantic")],
)
def test_a_missing_package_is_named_with_its_extra(
    luminora: Luminora, monkeypatch: pytest.MonkeyPatch, module: str, options: list[str], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    analysis.make_analyzer.cache_clear()
    for command in (["recall", "boat"], ["reindex"]):
        done = luminora(*command, *options)
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
        assert f'pip install "luminoracore-sdk[{extra}]"' in done.stderr
    checks = json.loads(luminora("doctor", "--json", **(SEMANTIC if options else TEXT)).stdout)["checks"]
    assert checks[-1]["ok"] is False
    assert f"luminoracore-sdk[{extra}]" in checks[-1]["detail"]
    analysis.make_analyzer.cache_clear()


def test_reindex_stores_what_is_missing_once(luminora: Luminora) -> None:
    done = luminora("reindex")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "indexed 8 messages of 2 sessions\n")
    again = luminora("reindex", "--json")
    assert json.loads(again.stdout) == {"sessions": 2, "messages": 0, "damaged": 0, "refused": 0}
    other = luminora("reindex", "--json", "--language", "german")
    assert json.loads(other.stdout)["messages"] == 8
    assert set(found(luminora, "boot hafen boat", "--language", "german", "--user", "ada")) > {"a:1"}
    assert json.loads(luminora("reindex", "--semantic", "--json").stdout)["messages"] == 8
    assert json.loads(luminora("reindex", "--semantic", "--json").stdout)["messages"] == 0


def search_of(luminora: Luminora, **environment: str) -> tuple[bool, str]:
    report = json.loads(luminora("doctor", "--json", **environment).stdout)
    (found,) = [check["detail"] for check in report["checks"] if check["name"] == "search"]
    return report["ok"], found


def test_doctor_says_what_is_indexed(luminora: Luminora, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "search" not in luminora("doctor").stdout
    assert search_of(luminora, **TEXT) == (True, "0 indexed, 8 not, 0 bytes; `luminora reindex` completes them")
    luminora("reindex")
    assert re.fullmatch(r"8 indexed, 0 not, \d+ bytes", search_of(luminora, **TEXT)[1])
    without = r"8 indexed, 8 of them without a vector of wordllama/\S+, 0 not, \d+ bytes; `luminora reindex` .*"
    assert re.fullmatch(without, search_of(luminora, **SEMANTIC)[1])
    luminora("reindex", "--semantic")
    assert re.fullmatch(r"8 indexed, 0 of them without .*, 0 not, \d{4} bytes", search_of(luminora, **SEMANTIC)[1])
    monkeypatch.setattr(doctor, "MESSAGE_LIMIT", 1)
    assert search_of(luminora, **TEXT)[1].startswith("of the first 4 messages, 4 indexed, 0 not")


def test_the_embedder_of_the_configuration_is_used(luminora: Luminora) -> None:
    own = {"LUMINORA_STORAGE_SEARCH_EMBEDDER": "luminoracore_sdk.search:HashingEmbedder"}
    assert json.loads(luminora("reindex", "--semantic", "--json", **own).stdout)["messages"] == 8
    assert "8 indexed, 0 of them without a vector of hashing/64" in search_of(luminora, **SEMANTIC, **own)[1]
    done = luminora("recall", "boat", "--semantic", "--explain", "--json", **own)
    assert any(hit["parts"]["similarity"] for hit in json.loads(done.stdout))
    assert json.loads(luminora("reindex", "--semantic", "--json", **own).stdout)["messages"] == 0
    wrong = luminora("reindex", "--semantic", LUMINORA_STORAGE_SEARCH_EMBEDDER="json:nothing")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)


class Refusing(HashingEmbedder):
    """Fails for texts about a harbour."""

    async def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts."""
        if any("harbour" in text for text in texts):
            raise ValueError("no harbours")
        return await super().embed_passages(texts)


def test_what_the_model_refuses_is_named_and_the_rest_embedded(luminora: Luminora) -> None:
    own = {"LUMINORA_STORAGE_SEARCH_EMBEDDER": f"{__name__}:Refusing"}
    done = luminora("reindex", "--semantic", **own)
    assert done.exit_code == 1
    assert done.stderr.count("the model refuses a message of session 'a': no harbours\n") == 2
    assert done.stderr.endswith("4 messages got no vector\n")
    assert "8 indexed, 4 of them without a vector of hashing/64" in search_of(luminora, **SEMANTIC, **own)[1]
    again = json.loads(luminora("reindex", "--semantic", "--json", **own).stdout)
    assert again == {"sessions": 2, "messages": 0, "damaged": 0, "refused": 4}


def test_what_is_written_with_search_on_is_indexed(luminora: Luminora) -> None:
    luminora("chat", "--session", "c", "--create", "a red balloon", **TEXT)
    assert search_of(luminora, **TEXT)[1].startswith("2 indexed, 8 not")
    assert found(luminora, "balloons", "--limit", "1", **TEXT)[0] in {"c:1", "c:2"}


def test_a_damaged_session_is_named_and_the_rest_indexed(luminora: Luminora, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as database:
        ada = "position = 1 AND payload LIKE '%boat of ada%'"
        database.execute(f"UPDATE luminora_messages SET payload = 'damaged' WHERE {ada}")  # noqa: S608
    done = luminora("reindex", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, {"sessions": 2, "messages": 7, "damaged": 1, "refused": 0})
    assert "message 1 of session 'a' is damaged" in done.stderr
    assert done.stderr.endswith("1 session cannot be read as a whole; `luminora doctor` says more\n")
    assert found(luminora, "boats", "--user", "bob", "--limit", "1")[0] in {"b:1", "b:2"}
    assert set(found(luminora, "boats")) == {"a:2", "a:3", "a:4", "b:1", "b:2", "b:3", "b:4"}
