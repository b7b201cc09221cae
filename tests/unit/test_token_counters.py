"""Token counters: exact ones by name, the estimate, and counting without a network."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.adapters.tokens import (
    ENCODINGS,
    MODEL_ENCODINGS,
    BpeTokenCounter,
    HeuristicTokenCounter,
    default_token_counter,
    encoding_of,
    token_counter,
)
from luminoracore_sdk.domain.errors import ConfigurationError, MissingDependencyError, ValidationError

ROOT = Path(__file__).parents[2]
COUNTERS = [BpeTokenCounter(), HeuristicTokenCounter()]


@pytest.mark.parametrize(
    ("text", "o200k", "cl100k"),
    [  # as tiktoken 0.14 counts
        ("", 0, 0),
        ("Hello, world!", 4, 4),
        ("The quick brown fox jumps over the lazy dog.", 10, 10),
        ("<|endoftext|>", 7, 7),
        ("私は昨日トリノに行きました。", 10, 14),
        ("a\0b", 3, 3),
    ],
)
def test_exact_counts_equal_those_of_tiktoken(text: str, o200k: int, cl100k: int) -> None:
    assert [BpeTokenCounter(encoding).count(text) for encoding in ENCODINGS] == [o200k, cl100k]


@pytest.mark.parametrize("counter", COUNTERS, ids=lambda counter: type(counter).__name__)
@pytest.mark.parametrize(
    "text", ["\ud800", "a\udfffb", "\ud83d\ude00", "x" * 1_500_000], ids=["high", "low", "pair", "long"]
)
def test_every_string_can_be_counted(counter: Any, text: str) -> None:
    assert counter.count(text) > 0


def test_lone_surrogate_counts_as_replacement_character() -> None:
    counter = BpeTokenCounter()
    assert counter.count("a\ud800b") == counter.count("a\ufffdb")


def test_heuristic_counts_four_bytes_as_one_token() -> None:
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
def test_counter_by_model_name(model: str, encoding: str) -> None:
    assert encoding_of(model) == encoding
    assert token_counter(model).encoding == encoding


def test_counter_by_encoding_name() -> None:
    assert [token_counter(name).encoding for name in ENCODINGS] == ["o200k_base", "cl100k_base"]


@pytest.mark.parametrize("name", ["claude-opus-4", "gpt-4omega", "o12", "", "p50k_base"])
def test_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        token_counter(name)
    assert all(known in str(caught.value) for known in ("o200k_base", "cl100k_base", *MODEL_ENCODINGS))


@pytest.mark.parametrize("name", [None, b"gpt-4o", 4, ["gpt-4o"]])
def test_name_that_is_no_string_is_refused(name: Any) -> None:
    for choose in (token_counter, encoding_of):
        with pytest.raises(ValidationError, match=f"a model, a str, not {type(name).__name__}$"):
            choose(name)


def test_unknown_encoding_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'p50k_base' is not one of: o200k_base, cl100k_base"):
        BpeTokenCounter("p50k_base")


def test_default_is_o200k_with_the_extra() -> None:
    counter = default_token_counter()
    assert isinstance(counter, BpeTokenCounter)
    assert counter.encoding == "o200k_base"


def test_without_the_extra_default_is_the_heuristic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luminoracore_sdk.adapters.tokens.find_spec", lambda name: None)
    assert type(default_token_counter()) is HeuristicTokenCounter
    with pytest.raises(MissingDependencyError, match=r'pip install "luminoracore-sdk\[tokens\]"'):
        token_counter("gpt-4o")


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


def test_counting_uses_no_network_and_loads_late() -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCHED],
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["4 False []", "[13225, 11, 2375, 0]"]


def test_application_may_import_the_package_first() -> None:
    code = (
        "import bpe_openai\n"
        "from luminoracore_sdk.adapters.tokens import BpeTokenCounter\n"
        "print(BpeTokenCounter('cl100k_base').count('Hello, world!'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"
