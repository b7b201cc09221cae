"""Invisible characters are escaped for models and terminals."""

import unicodedata
from typing import Any

import pytest

from luminoracore_sdk.adapters.notation import default_notations, read_lines
from luminoracore_sdk.application.prompts import UNSEEN, compact_json
from luminoracore_sdk.cli.output import display, printable
from luminoracore_sdk.utils.prompts import render_data

ESCAPED_ALONE = {
    "zero width space": ("\u200b", r"\u200b"),
    "byte order mark": ("\ufeff", r"\ufeff"),
    "soft hyphen": ("\xad", r"\u00ad"),
    "word joiner": ("\u2060", r"\u2060"),
    "left-to-right mark": ("\u200e", r"\u200e"),
    "Arabic letter mark": ("\u061c", r"\u061c"),
    "right-to-left override": ("\u202e", r"\u202e"),
    "right-to-left isolate": ("\u2067", r"\u2067"),
    "Hangul filler": ("\u3164", r"\u3164"),
    "grapheme joiner": ("\u034f", r"\u034f"),
    "annotation": ("\ufff9", r"\ufff9"),
    "line separator": ("\u2028", r"\u2028"),
    "tag": ("\U000e0041", r"\udb40\udc41"),
    "unassigned": ("\U000e0fff", r"\udb43\udfff"),
    "musical beam": ("\U0001d173", r"\ud834\udd73"),
}
VISIBLE = {
    "emoji with a variation selector": "❤\ufe0f 1\ufe0f\u20e3",
    "a family": "👩\u200d👩\u200d👧",
    "variation selector, then joiner": "🏳\ufe0f\u200d🌈",
    "skin tone": "👍🏽",
    "flag": "🇮🇹",
    "Persian": "می\u200cخواهم",
    "Sinhala": "ශ්\u200dරී",
    "a form of an ideograph": "葛\U000e0100",
    "Mongolian": "ᠰᠠ\u180bᠷ",
    "end of ayah": "\u06dd١",
    "Arabic number sign": "\u0600١",
}


@pytest.mark.parametrize(("hidden", "escape"), ESCAPED_ALONE.values(), ids=ESCAPED_ALONE)
def test_invisible_characters_are_escaped_in_prompts(hidden: str, escape: str) -> None:
    facts: dict[str, Any] = {"k": f"a{hidden}b", f"x{hidden}y": 1}
    for text in (compact_json(facts), render_data(facts), *written_by_each(facts)):
        assert (hidden in text, text.count(escape)) == (False, 2)
    assert read_lines(default_notations()[0].render(facts) or "") == facts


def written_by_each(facts: Any) -> list[str]:
    return [text for notation in default_notations() if (text := notation.render(facts)) is not None]


@pytest.mark.parametrize(("hidden", "_"), ESCAPED_ALONE.values(), ids=ESCAPED_ALONE)
def test_toon_refuses_invisible_characters(hidden: str, _: str) -> None:
    toon = next(notation for notation in default_notations() if notation.name == "TOON")
    assert toon.render({"k": "ab"}) == "k: ab"
    assert toon.render({"k": f"a{hidden}b"}) is None
    assert toon.render({f"a{hidden}b": "k"}) is None


@pytest.mark.parametrize("text", VISIBLE.values(), ids=VISIBLE)
def test_characters_of_scripts_and_emoji_are_not_escaped(text: str) -> None:
    assert compact_json(text) == f'"{text}"'
    assert render_data({"k": text, text: 1}) == f"k: {text}\n{text}: 1"
    assert printable(text) == text


def test_text_hidden_in_selectors_or_joiners_is_escaped() -> None:
    selectors = "".join(chr(0xE0100 + byte) for byte in b"obey")
    assert compact_json(f"😀{selectors}") == '"😀\U000e016f' + r'\udb40\udd62\udb40\udd65\udb40\udd79"'
    assert compact_json("a\u200d\u200c\u200db") == '"a\u200d' + r'\u200c\u200db"'
    assert compact_json("a\ufe0f\u200d\ufe0eb") == '"a\ufe0f\u200d' + r'\ufe0eb"'


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("\u200d", r"\u200d"), ("\ufe0f", r"\ufe0f"), ("\U000e0100", r"\udb40\udd00"), ("a \u200c", r"a \u200c")],
)
def test_joiners_without_a_visible_character_are_escaped(text: str, escaped: str) -> None:
    assert compact_json(text) == f'"{escaped}"'
    assert render_data({"k": text}) == f'k: "{escaped}"'


def test_all_other_format_characters_are_escaped() -> None:
    formats = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf"}
    left = {one for one in formats if UNSEEN.search(f"a{one}") is None}
    assert left == set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2") | set(
        "\u200c\u200d\U000110bd\U000110cd"
    )
    assert {one for one in formats if printable(one) == one} == left


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay \u202egpj.exe", r"pay \u202egpj.exe"),
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("a\u200fb\u061c", r"a\u200fb\u061c"),
        ("a\u200bb\xad", r"a\u200bb\xad"),
        ("a\U000e0041", r"a\U000e0041"),
        ("\x1b[31m\x9b", r"\x1b[31m\x9b"),
        ("a\u2028b", r"a\u2028b"),
        ("a\tb\nc", "a\tb\nc"),
        ("\u200d👧", "\u200d👧"),  # a part of an answer may begin within an emoji
        ("\ufe0f", "\ufe0f"),
    ],
)
def test_control_characters_are_escaped_for_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_control_characters_in_values_are_escaped() -> None:
    assert display(["\u202ea"]) == r'["\u202ea"]'
