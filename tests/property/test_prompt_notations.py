"""Prompt notations can be parsed, so that different memories or messages never look the same."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import toon_format
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.notation import (
    CompactJsonNotation,
    LinesNotation,
    TableNotation,
    ToonNotation,
    default_notations,
    read_lines,
    read_table,
)
from luminoracore_sdk.adapters.tokens import HeuristicTokenCounter
from luminoracore_sdk.application.invisible_characters import HIDDEN
from luminoracore_sdk.application.prompts import render_memory, render_transcript
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.memory import MemoryCategory, MemoryEntry
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.testing.strategies import ids, json_objects, json_values

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ODD_TEXTS = [
    "\x85",
    "\u2028",
    "\ud800",
    "a\n\nb",
    "\nuser: a",
    "a\r\n b",
    "a\u200bb",
    "\u202e",
    "\U000e0041",
    "\u200d\u200d",
    "👩\u200d👧\ufe0f\ufe0f",
    "What you remember:",
    "each: {}",
    "[2]: a,b",
]
LOOKALIKES = st.sampled_from(
    [
        "",
        " ",
        "1",
        "1.0",
        "-1",
        "true",
        "null",
        "NaN",
        '""',
        '"a"',
        "[]",
        "{}",
        "{a",
        "a: b",
        "- a",
        "a|b",
        "|",
        *ODD_TEXTS,
    ]
)
VALUES = LOOKALIKES | json_values(max_leaves=6)
FACTS = st.dictionaries(LOOKALIKES | st.text(max_size=4), VALUES, min_size=1, max_size=5)
ROWS = st.dictionaries(LOOKALIKES, VALUES, min_size=1, max_size=3)
TABLES = st.lists(ROWS, min_size=2, max_size=4) | st.dictionaries(LOOKALIKES, ROWS, min_size=2, max_size=4)


def seen(value: JSONValue) -> Any:
    """Return a value as a reader sees it: numbers by value, objects by items, surrogate pairs joined."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, str):
        return ("text", value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
    if isinstance(value, list):
        return [seen(item) for item in value]
    if isinstance(value, dict):
        return {seen(key): seen(item) for key, item in value.items()}
    return value


def assert_fit_to_be_sent(text: str) -> None:
    assert text.encode()
    assert "" not in text.split("\n")
    assert re.search(f"[{HIDDEN}]", text) is None


@given(FACTS | json_objects())
def test_lines_read_back(facts: JSONObject) -> None:
    text = LinesNotation().render(facts)
    if text is None:
        assert facts == {}
    else:
        assert_fit_to_be_sent(text)
        assert len(text.split("\n")) == len(text.splitlines()) == len(facts)
        assert seen(read_lines(text)) == seen(facts)


@given(TABLES)
def test_a_table_reads_back(table: Any) -> None:
    text = TableNotation().render(table)
    assert text is not None
    assert_fit_to_be_sent(text)
    assert seen(read_table(text)) == seen(table)


@given(FACTS | TABLES | json_values())
def test_toon_reads_back_or_is_not_written(value: Any) -> None:
    text = ToonNotation().render(value)
    if text is not None:
        assert_fit_to_be_sent(text)
        assert seen(toon_format.loads(text)) == seen(value)


@given(VALUES)
def test_json_writes_every_value_on_one_line(value: JSONValue) -> None:
    text = CompactJsonNotation().render(value)
    assert_fit_to_be_sent(text)
    assert len(text.splitlines()) == 1
    assert seen(json.loads(text)) == seen(value)


READERS: dict[str, Callable[[str], Any]] = {
    "": read_lines,
    "table": read_table,
    "TOON": toon_format.loads,
    "JSON": json.loads,
}
HEADING = re.compile(r"(?:(Topic|Preference|Context|Emotion)s?|What) you remember(?: \((\w+)\))?:")


def read_memory(text: str) -> dict[str, JSONObject]:
    facts: dict[str, JSONObject] = {}
    for part in text.split("\n\n"):
        heading, _, body = part.partition("\n")
        found = HEADING.fullmatch(heading)
        assert found is not None
        category = (found[1] or "fact").lower()
        facts.setdefault(category, {}).update(READERS[found[2] or ""](body))
    return facts


class CheapJson:
    """Count a hash as tokens, so that every notation is chosen sometimes."""

    def count(self, text: str) -> int:
        return sum(text.encode()) % 7


@given(
    st.lists(
        st.tuples(ids(), VALUES | ROWS, st.sampled_from(list(MemoryCategory))),
        min_size=1,
        max_size=8,
        unique_by=lambda fact: fact[0],
    ),
    st.sampled_from([CheapJson(), HeuristicTokenCounter()]),
)
def test_memories_read_back(facts: list[tuple[str, JSONValue, MemoryCategory]], tokens: Any) -> None:
    entries = [
        MemoryEntry(key=key, value=value, created_at=NOW, updated_at=NOW, category=category)
        for key, value, category in facts
    ]
    text = render_memory(entries, tokens, default_notations())
    wanted: dict[str, JSONObject] = {}
    for key, value, category in facts:
        wanted.setdefault(category.value, {})[key] = value
    assert text.encode()
    assert seen(read_memory(text)) == seen(wanted)


_SAID = re.compile(r"(user|assistant|system|tool)( \(JSON\))?: ")
_CONTINUED = re.compile("(\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]) ")


def read_transcript(text: str) -> list[tuple[str, JSONValue]]:
    said: list[tuple[str, JSONValue]] = []
    for line in re.split(r"\n(?! )", text):
        found = _SAID.match(line)
        assert found is not None
        content = line[found.end() :]
        said.append((found[1], json.loads(content) if found[2] else _CONTINUED.sub(r"\1", content)))
    return said


@given(st.lists(st.tuples(st.sampled_from(list(MessageRole)), VALUES), min_size=1, max_size=5))
def test_a_transcript_reads_back(said: list[tuple[MessageRole, JSONValue]]) -> None:
    text = render_transcript(Message(role, content) for role, content in said)
    assert text.encode()
    wanted: list[tuple[str, JSONValue]] = [(role.value, content) for role, content in said]
    assert [(role, seen(content)) for role, content in read_transcript(text)] == [
        (role, seen(content)) for role, content in wanted
    ]
