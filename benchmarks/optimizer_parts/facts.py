"""What an assistant remembers of people: memory entries for the benchmark, out of two public test suites."""

import gzip
import re
import zipfile
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

import orjson

from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry
from scripts.corpora import INSPECT_EVALS, lines_of_json

__all__ = ["customers", "key_values", "nine_fields", "told"]

_AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
_SUBJECT = re.compile(r"^(The )?[Uu]ser('s)? (is |has |was |will )?(a |an |the |their )?")
_KEY_VALUE = re.compile(r"(?:The )?[Uu]ser's ([\w ]{3,40}?) (?:is|are|was) (?:an? |the )?(.{2,60}?)\.?")
_DOES = re.compile(r"(?:The )?[Uu]ser (works as|lives in|prefers|enjoys|likes|plays|speaks|owns) (.{2,60}?)\.?")
_SAMPLES = ("beneficial_samples", "cross_domain")


def told() -> list[list[MemoryEntry]]:
    """Return people, each with some sentences remembered of them: "User runs three miles …"."""
    return [_entries({_key(fact): fact for fact in facts}) for facts in _memories()]


def key_values() -> list[list[MemoryEntry]]:
    """Return people with what the plainest of these sentences say as key and value: favorite_color, pink."""
    people = [[_KEY_VALUE.fullmatch(fact) or _DOES.fullmatch(fact) for fact in facts] for facts in _memories()]
    found = [{re.sub(r"\W+", "_", said[1].lower()): said[2] for said in person if said} for person in people]
    return [_entries({**facts}) for facts in found if len(facts) > 1]


def nine_fields() -> list[list[MemoryEntry]]:
    """Return people with what is known of them as facts of nine fields, as an extractor's table has them.

    Sentence and key are those of ``told``; the seven others are made up, evenly over their values.
    """
    categories, confidences = cycle(("preference", "personal", "work", "health")), cycle((0.9, 0.75, 1.0))
    return [
        _entries(
            {
                f"fact_{number}": {
                    "category": next(categories),
                    "key": _key(fact),
                    "value": fact,
                    "confidence": next(confidences),
                    "source": "conversation",
                    "first_mentioned": f"2026-02-{1 + number % 28:02}",
                    "last_mentioned": f"2026-03-{1 + number % 28:02}",
                    "times_mentioned": 1 + number % 4,
                    "is_active": True,
                }
                for number, fact in enumerate(facts)
            }
        )
        for facts in _memories()
    ]


def customers() -> list[list[MemoryEntry]]:
    """Return people, each with the fields of a customer's record (tau2-bench, airline): name, address …."""
    with zipfile.ZipFile(INSPECT_EVALS.path()) as archive:
        data = archive.read("inspect_evals/tau2/data/domains/airline/db.json.gz")
    users: dict[str, dict[str, Any]] = orjson.loads(gzip.decompress(data))["users"]
    return [_entries({**user, "payment_methods": [*user["payment_methods"].values()]}) for user in users.values()]


def _memories() -> list[list[str]]:
    """Read PersistBench."""
    names = [f"persistbench/benchmark_samples/{name}.jsonl" for name in _SAMPLES]
    return [sample["memories"] for text in INSPECT_EVALS.texts(*names) for sample in lines_of_json(text)]


def _key(fact: str) -> str:
    """A name as an extractor would give it: the first words that say something."""
    words = re.findall(r"[a-z]+", _SUBJECT.sub("", fact).lower())
    return "_".join(words[:3]) or "fact"


def _entries(facts: dict[str, JSONValue]) -> list[MemoryEntry]:
    kinds = cycle((MemoryCategory.FACT, MemoryCategory.FACT, MemoryCategory.PREFERENCE))
    return [
        MemoryEntry(key=key, value=value, created_at=_AT, updated_at=_AT, category=kind)
        for (key, value), kind in zip(facts.items(), kinds, strict=False)
    ]
