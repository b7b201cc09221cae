"""Token counters: exact where the vocabulary is installed, chosen by name, never over a network."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from luminoracore_sdk.adapters.tokens import (
    MODEL_ENCODINGS,
    BpeTokenCounter,
    HeuristicTokenCounter,
    bpe,
    choice,
    default_token_counter,
    encoding_of,
    token_counter,
)
from luminoracore_sdk.domain.errors import ConfigurationError, MissingDependencyError, ValidationError

COUNTERS = [BpeTokenCounter(), HeuristicTokenCounter()]


@pytest.mark.parametrize(
    ("text", "o200k", "cl100k"),
    [  # what tiktoken 0.14 counts
        ("", 0, 0),
        ("Hello, world!", 4, 4),
        ("The quick brown fox jumps over the lazy dog.", 10, 10),
        ("<|endoftext|>", 7, 7),
        ("私は昨日トリノに行きました。", 10, 14),
        ("a\0b", 3, 3),
    ],
)
def test_each_encoding_counts_as_its_makers_do(text: str, o200k: int, cl100k: int) -> None:
    counted = [BpeTokenCounter(encoding).count(text) for encoding in ("o200k_base", "cl100k_base")]
    assert counted == [o200k, cl100k]


@pytest.mark.parametrize("counter", COUNTERS, ids=lambda counter: type(counter).__name__)
@pytest.mark.parametrize(
    "text", ["\ud800", "a\udfffb", "\ud83d\ude00", "x" * 1_500_000], ids=["high", "low", "pair", "long"]
)
def test_no_text_is_refused(counter: Any, text: str) -> None:
    assert counter.count(text) > 0


def test_a_lone_surrogate_counts_as_the_character_that_replaces_it() -> None:
    counter = BpeTokenCounter()
    assert counter.count("a\ud800b") == counter.count("a\ufffdb")


def test_the_heuristic_counts_four_bytes_as_one_token_rounded_up() -> None:
    counter = HeuristicTokenCounter()
    assert [counter.count(text) for text in ("", "a", "abcd", "abcde", "äöü", "\ud800")] == [0, 1, 1, 2, 2, 1]


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-5.1", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("ft:gpt-4o-2024-08-06:us::1", "o200k_base"),
        ("ft:gpt-4o:us", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
    ],
)
def test_a_counter_is_chosen_by_the_name_of_a_model(model: str, encoding: str) -> None:
    assert encoding_of(model) == encoding
    assert token_counter(model).encoding == encoding


def test_a_counter_is_chosen_by_the_name_of_an_encoding() -> None:
    assert [token_counter(name).encoding for name in bpe.ENCODINGS] == ["o200k_base", "cl100k_base"]


@pytest.mark.parametrize("name", ["claude-opus-4", "gpt-4omega", "o12", "", "p50k_base"])
def test_an_unknown_name_is_refused_with_the_names_that_are_known(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        token_counter(name)
    assert all(known in str(caught.value) for known in ("o200k_base", "cl100k_base", *MODEL_ENCODINGS))


@pytest.mark.parametrize("name", [None, b"gpt-4o", 4, ["gpt-4o"]])
def test_what_is_no_name_is_refused_with_what_is_expected(name: Any) -> None:
    for choose in (token_counter, encoding_of):
        with pytest.raises(ValidationError, match=f"a model, a str, not {type(name).__name__}$"):
            choose(name)


def test_an_encoding_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'p50k_base' is not one of: o200k_base, cl100k_base"):
        BpeTokenCounter("p50k_base")


def test_the_exact_counter_is_the_default_where_it_is_installed() -> None:
    counter = default_token_counter()
    assert isinstance(counter, BpeTokenCounter)
    assert counter.encoding == "o200k_base"


def test_without_the_extra_the_heuristic_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert type(default_token_counter()) is HeuristicTokenCounter


def test_without_the_extra_the_exact_counter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "luminoracore-sdk\[tokens\]"'):
        token_counter("gpt-4o")


def test_a_package_that_is_laid_out_otherwise_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bpe_openai._bindings", raising=False)
    monkeypatch.setattr(bpe, "find_spec", lambda name: ModuleSpec(name, None, is_package=True))
    monkeypatch.setattr(bpe, "import_module", lambda name: f"imported {name}")
    assert bpe._bindings() == "imported bpe_openai._bindings"


def test_a_package_that_is_imported_already_is_not_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = ModuleType("bpe_openai._bindings")
    monkeypatch.setitem(sys.modules, imported.__name__, imported)
    assert bpe._bindings() is imported


_WATCHED = """
import sys
seen = []
def watch(event, args):
    if event.startswith("socket.") or event in ("subprocess.Popen", "urllib.Request", "os.exec"):
        seen.append(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append(f"write {args[0]}")
sys.addaudithook(watch)
import luminoracore_sdk.session
assert not any(name.startswith(("bpe_openai", "toon_format")) for name in sys.modules), "imported"
from luminoracore_sdk.adapters.tokens import default_token_counter
counter = default_token_counter()
assert "bpe_openai._bindings" not in sys.modules
print(counter.count("Hello, world!"), "bpe_openai" in sys.modules, seen)
import bpe_openai
print(bpe_openai.get_encoding("o200k_base").encode("Hello, world!"))
"""


def test_counting_reaches_for_nothing_outside_and_loads_nothing_before() -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCHED],
        cwd=Path(__file__).parents[2],
        env={"PATH": "", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["4 False []", "[13225, 11, 2375, 0]"]


def test_it_is_no_matter_who_imports_the_package_first() -> None:
    code = (
        "import bpe_openai\n"
        "from luminoracore_sdk.adapters.tokens import BpeTokenCounter\n"
        "print(BpeTokenCounter('cl100k_base').count('Hello, world!'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "4\n"
