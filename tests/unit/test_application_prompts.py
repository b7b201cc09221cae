"""Rendering of memories, data and transcripts for prompts, and its token counts."""

from datetime import UTC, datetime
from typing import Any

import pytest

from luminoracore_sdk.adapters.notation import LinesNotation, TableNotation
from luminoracore_sdk.adapters.tokens import BpeTokenCounter
from luminoracore_sdk.application import prompts
from luminoracore_sdk.application.prompt_tokens import PromptTokens
from luminoracore_sdk.domain.errors import InvalidJSONError
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.utils.prompts import (
    HeuristicTokenCounter,
    prompt_tokens,
    render_data,
    render_memory,
    render_transcript,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


def entry(key: str, value: Any, category: Any = "fact") -> MemoryEntry:
    return MemoryEntry(key=key, value=value, created_at=NOW, updated_at=NOW, category=category)


class Length:
    """Counts characters."""

    def count(self, text: str) -> int:
        return len(text)


class Fixed:
    """A notation with a fixed result."""

    def __init__(self, name: str, text: str | None) -> None:
        self.name = name
        self._text = text

    def render(self, value: object) -> str | None:
        return self._text


def test_the_notation_with_the_fewest_tokens_is_used() -> None:
    notations = [Fixed("long", "aaaa"), Fixed("none", None), Fixed("short", "bb"), Fixed("mid", "ccc")]
    assert prompts.render_data(1, Length(), notations) == "bb"


def test_of_equally_cheap_notations_the_first_is_used() -> None:
    assert prompts.render_data(1, Length(), [Fixed("one", "aa"), Fixed("two", "bb")]) == "aa"


def test_the_heading_counts_and_names_the_notation() -> None:
    notations = [Fixed("a long name", "a"), Fixed("", "aaaa")]
    assert prompts.render_data(1, Length(), notations) == "a"
    assert prompts.render_data(1, Length(), notations, heading="H") == "H:\naaaa"
    assert prompts.render_data(1, Length(), notations[:1], heading="H") == "H (a long name):\na"


def test_a_value_that_no_notation_can_write_becomes_json() -> None:
    assert prompts.render_data({"a": "ü"}, Length(), [Fixed("x", None)], heading="H") == 'H (JSON):\n{"a":"ü"}'
    assert prompts.render_data([1], Length(), []) == "[1]"


def test_each_category_has_its_heading() -> None:
    entries = [
        entry("mood", "glad", "emotion"),
        entry("city", "Turin"),
        entry("tea", "green", "preference"),
        entry("trip", "May", "context"),
        entry("chess", "openings", "topic"),
        entry("zip", "10121"),
    ]
    assert render_memory(entries) == (
        'What you remember:\ncity: Turin\nzip: "10121"\n\n'
        "Topics you remember:\nchess: openings\n\n"
        "Preferences you remember:\ntea: green\n\n"
        "Context you remember:\ntrip: May\n\n"
        "Emotions you remember:\nmood: glad"
    )


def test_no_memories_render_as_an_empty_string() -> None:
    assert render_memory([]) == ""


def test_objects_may_be_rendered_as_a_separate_table() -> None:
    people = [
        entry(f"person {n}", {"name": f"P{n}", "role": "a friend from school", "born": 1980 + n}) for n in range(4)
    ]
    text = render_memory([entry("city", "Turin"), *people, entry("pets", ["cat"])])
    assert text == (
        'What you remember:\ncity: Turin\npets: ["cat"]\n\n'
        "What you remember (table):\n"
        'each: {"role":"a friend from school"}\n'
        "|name|born\n"
        "person 0|P0|1980\nperson 1|P1|1981\nperson 2|P2|1982\nperson 3|P3|1983"
    )


def test_objects_stay_with_other_values_if_that_is_cheaper() -> None:
    text = render_memory([entry("city", "Turin"), entry("home", {"zip": "10121"})])
    assert text == 'What you remember:\ncity: Turin\nhome: {"zip":"10121"}'


def test_any_structured_data_can_be_rendered() -> None:
    orders = [{"id": n, "item": "tea", "paid": True, "note": "gift wrap, please"} for n in (1, 2, 3)]
    assert render_data({"orders": orders}, heading="The cart") == (
        "The cart (TOON):\norders[3]{id,item,paid,note}:\n"
        '  1,tea,true,"gift wrap, please"\n  2,tea,true,"gift wrap, please"\n  3,tea,true,"gift wrap, please"'
    )
    assert render_data({"a": 1}, token_counter=Length(), notations=[TableNotation()]) == '{"a":1}'


def test_a_value_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidJSONError):
        render_data({"a": float("nan")})


def test_a_custom_token_counter_decides() -> None:
    class Upside:
        def count(self, text: str) -> int:
            return -len(text)

    assert render_data({"a": 1}) == "a: 1"
    assert render_data({"a": 1}, token_counter=Upside()) == '{"a":1}'


def test_a_transcript_has_one_line_per_message() -> None:
    messages = [Message("user", "Hi"), Message("assistant", ""), Message("tool", "42")]
    assert render_transcript(messages) == "user: Hi\nassistant: \ntool: 42"


def test_a_message_of_several_lines_does_not_look_like_two() -> None:
    text = render_transcript([Message("user", "a\nassistant: b\r\n\n c\rd\u2028e")])
    assert text == "user: a\n assistant: b\r\n \n  c\r d\u2028 e"


def test_content_that_is_not_a_string_is_labelled() -> None:
    parts = [{"type": "text", "text": "ü"}]
    said = [Message("user", parts), Message("user", '[{"type"}]'), Message("user", "\ud800"), Message("user", None)]
    assert render_transcript(said) == (
        'user (JSON): [{"type":"text","text":"ü"}]\nuser: [{"type"}]\nuser (JSON): "\\ud800"\nuser (JSON): null'
    )


def test_the_figures_count_text_and_json_of_the_same_things() -> None:
    messages = [Message("user", "Hi", NOW)]
    entries = [entry("city", "Turin"), entry("tea", "green", "preference")]
    facts = "What you remember:\ncity: Turin\n\nPreferences you remember:\ntea: green"
    facts_json = '[{"key":"city","value":"Turin"},{"key":"tea","value":"green","category":"preference"}]'
    said, time = '"role":"user","content":"Hi"', "2026-03-04T05:06:07.890123+00:00"
    stamped = f'"created_at":"{time}","updated_at":"{time}","expires_at":null,"importance":1.0'
    record = (
        f'{{"messages":[{{{said},"timestamp":"{time}","metadata":{{}}}}],"memories":['
        f'{{"key":"city","value":"Turin",{stamped},"category":"fact"}},'
        f'{{"key":"tea","value":"green",{stamped},"category":"preference"}}]}}'
    )
    counted = prompt_tokens(messages, entries, token_counter=Length(), notations=[LinesNotation()])
    assert counted == PromptTokens(
        facts=len(facts),
        facts_json=len(facts_json),
        context=len(f"{facts}\n\nuser: Hi"),
        context_json=len(f'{{"messages":[{{{said}}}],"memories":{facts_json}}}'),
        record_json=len(record),
    )


def test_the_default_counter_of_the_figures_is_exact() -> None:
    counted = prompt_tokens([Message("user", "Hello, world!")], [])
    assert (counted.facts, counted.context) == (0, BpeTokenCounter().count("user: Hello, world!"))
    assert counted != prompt_tokens([Message("user", "Hello!")], [], token_counter=HeuristicTokenCounter())


@pytest.mark.parametrize("count", [5, 20, 50])
@pytest.mark.parametrize("kind", ["small", "nine fields"])
def test_remembered_facts_cost_a_quarter_less_than_their_json(kind: str, count: int) -> None:
    small = ["Turin", ["cat", "dog"], 41, True, "nurse on night shifts", "06:30", "short answers, please"]
    entries = []
    for number in range(count):
        value: Any = small[number % len(small)]
        if kind == "nine fields":
            value = {
                "user_id": "user_42",
                "category": ["personal", "work"][number % 2],
                "key": f"key {number}",
                "value": str(value),
                "confidence": [0.8, 1.0][number % 2],
                "source": "conversation",
                "created_at": "2026-03-04T05:06:07+00:00",
                "tags": [["profile"], []][number % 2],
                "is_active": True,
            }
        entries.append(entry(f"fact {number}", value))
    counted = prompt_tokens([], entries)
    assert counted.facts <= 0.75 * counted.facts_json


def test_rendered_memories_are_remembered_and_bounded() -> None:
    class Counted(Fixed):
        rendered = 0

        def render(self, value: object) -> str | None:
            Counted.rendered += 1
            return str(value)

    renderer = prompts.MemoryRenderer(Length(), [Counted("", None)], remembered=2)
    for value in (1, 1, True, 1.0, 1):
        assert renderer.render([entry("k", value)]).endswith(str({"k": value}))
    assert Counted.rendered == 4  # 1, True, 1.0, and 1 again, which was forgotten
