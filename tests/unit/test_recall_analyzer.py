"""Which terms a text has."""

import time

import pytest

from luminoracore_sdk.adapters.analysis import LANGUAGES, make_analyzer
from luminoracore_sdk.adapters.language_words import MONTHS, STOP_WORDS
from luminoracore_sdk.domain.errors import ConfigurationError
from luminoracore_sdk.domain.recall.analyzer import MAX_TERM_LENGTH, MAX_TEXT_LENGTH, Analyzer, fold

PLAIN = Analyzer(language="none")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("call_abc-123", ["call_abc-123", "call", "abc", "123"]),
        ("foo.bar@x.org", ["foo.bar@x.org", "foo", "bar", "x", "org"]),
        ("snake_case, __init__", ["snake_case", "snake", "case", "init"]),
        ("v1.2.3", ["v1.2.3", "v1", "2", "3"]),
        ("/usr/lib/x.so", ["usr/lib/x.so", "usr", "lib", "x", "so"]),
        (r"C:\temp", [r"c:\temp", "c", "temp"]),
        ("https://a.org/b", ["https://a.org/b", "https", "a", "org", "b"]),
        ("DEADbeef01", ["deadbeef01"]),
        ("End. Next", ["end", "next"]),
        ("1,000,000 or 1,2", ["1000000", "or", "1", "2"]),
    ],
)
def test_identifiers_are_terms_whole_and_split(text: str, terms: list[str]) -> None:
    assert PLAIN.terms(text) == terms


def test_identifiers_beside_letters_that_are_not_ascii() -> None:
    assert PLAIN.terms("é call_abc-123") == ["e", "call_abc-123", "call", "abc", "123"]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("我喜欢猫", ["我喜", "喜欢", "欢猫"]),
        ("猫", ["猫"]),
        ("猫が好き", ["猫が", "が好", "好き"]),
        ("ﾈｺ", ["ネコ"]),
        ("고양이가", ["고양", "양이", "이가"]),
        ("แมว", ["แม", "มว"]),
        ("GPT模型v2", ["gpt", "模型", "v2"]),
    ],
)
def test_unspaced_scripts_become_pairs(text: str, terms: list[str]) -> None:
    assert PLAIN.terms(text) == terms


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("ok 👍🏽", ["ok", "👍"]),
        ("❤️", ["❤"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("👩‍💻", ["👩", "💻"]),
    ],
)
def test_emoji_are_terms_whatever_their_skin_tone(text: str, terms: list[str]) -> None:
    assert PLAIN.terms(text) == terms


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Ｆｕｌｌ　ｗｉｄｔｈ", ["full", "width"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("cafe\u0301 café", ["cafe", "cafe"]),
        ("ﬁne", ["fine"]),
        ("co\u00adop", ["coop"]),
        ("שָׁלוֹם", ["שלום"]),
        ("\u202bسلام\u202c", ["سلام"]),
        ("हिन्दी", ["हिन्दी"]),
        ("İ", ["i"]),
    ],
)
def test_what_looks_alike_is_one_term(text: str, terms: list[str]) -> None:
    assert PLAIN.terms(text) == terms


@pytest.mark.parametrize("text", ["", " ", "\0", "\ud800", "…!?", '"*" -'])
def test_a_text_without_words_has_no_terms(text: str) -> None:
    assert PLAIN.terms(text) == []


def test_lone_surrogates_and_nul_separate_words() -> None:
    assert PLAIN.terms("a\ud800b\0c") == ["a", "b", "c"]


def test_operators_are_plain_text() -> None:
    terms = PLAIN.terms('cats AND "dogs" OR col:val NEAR(x*) -y')
    assert terms == ["cats", "and", "dogs", "or", "col:val", "col", "val", "near", "x", "y"]


@pytest.mark.parametrize("text", ["x" * 100, "é" * 100, "a-" * 50 + "a"])
def test_long_terms_are_cut(text: str) -> None:
    assert max(map(len, PLAIN.terms(text))) == MAX_TERM_LENGTH


def test_only_the_beginning_of_a_long_text_counts() -> None:
    text = "a" + " b" * MAX_TEXT_LENGTH
    assert PLAIN.terms(text) == PLAIN.terms(text[:MAX_TEXT_LENGTH])
    assert PLAIN.terms(" " * MAX_TEXT_LENGTH + "late") == []


def test_a_megabyte_is_analyzed_as_fast_as_its_beginning() -> None:
    texts = ["é x" * 350_000, "a-" * 500_000, "😀" * 250_000, ("\u0301" * 9 + "a") * 100_000]
    begun = time.perf_counter()
    assert [bool(PLAIN.terms(text)) for text in texts] == [True] * 4
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("english", "She is running shoes", "the shoe that runs"),
        ("german", "die Häuser der Städte", "ein Haus, eine Stadt"),
        ("french", "l'amie chantait", "les amies chantaient"),
        ("spanish", "las canciones", "una canción"),
        ("italian", "dell'amico bello", "gli amici belli"),
        ("portuguese", "as meninas bonitas", "uma menina bonita"),
        ("dutch", "de katten", "een kat"),
        ("russian", "красивые кошки", "красивая кошка"),
        ("swedish", "flickorna", "flickor"),
        ("arabic", "الكتاب", "كتاب"),
    ],
)
def test_forms_of_a_word_are_one_term(language: str, one: str, other: str) -> None:
    analyzer = make_analyzer(language)
    assert analyzer.terms(one)
    assert set(analyzer.terms(one)) == set(analyzer.terms(other))


def test_stop_words_are_left_out_also_behind_an_apostrophe() -> None:
    assert make_analyzer().terms("Don't you know what it's like? Caroline’s cat") == ["know", "like", "carolin", "cat"]


def test_stop_words_inside_an_identifier_are_left_out_of_its_parts() -> None:
    assert make_analyzer().terms("rock-and-roll") == ["rock-and-roll", "rock", "roll"]


def test_every_language_has_an_analyzer_of_its_own() -> None:
    analyzers = [make_analyzer(language) for language in LANGUAGES]
    assert len({analyzer.id for analyzer in analyzers}) == len(LANGUAGES)
    assert [analyzer.terms("Zürich 42") != [] for analyzer in analyzers] == [True] * len(LANGUAGES)
    assert make_analyzer("german") is make_analyzer("german")


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'klingon' is not one of: arabic"):
        make_analyzer("klingon")


def test_the_id_names_language_stemmer_and_stop_words() -> None:
    assert PLAIN.id == "1/none/none/1271cf25"
    assert make_analyzer().id.startswith("1/english/snowball3")
    assert Analyzer(language="none", stop_words=frozenset({"x"})).id != PLAIN.id


def test_lists_of_words_are_in_the_form_in_which_words_are_compared() -> None:
    words = [word for listed in (*STOP_WORDS.values(), *MONTHS.values()) for word in listed]
    assert [word for word in words if len(PLAIN.terms(word)) != 1 or fold(word) != word] == []
    assert [language for language, names in MONTHS.items() if sorted(names.values()) != list(range(1, 13))] == []
    assert STOP_WORDS.keys() | MONTHS.keys() <= set(LANGUAGES)
