"""Which documents answer a query, in which order, and why."""

import math
from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import attrs
import pytest

from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.adapters.vectors import numpy_cosines
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.recall.dates import parts_of_day, parts_of_text
from luminoracore_sdk.domain.recall.index import MEMORY, MESSAGE, Document, ScopeIndex
from luminoracore_sdk.domain.recall.ranking import (
    COSINE_UNIT,
    DEFAULT_WEIGHTS,
    MAX_QUERY_TERMS,
    SEEDS,
    Filter,
    Query,
    Ranked,
    Weights,
    cosines,
    rank,
)
from luminoracore_sdk.domain.recall.terms import Vector, entry_of

ANALYZER = make_analyzer()
MODEL = Vector.of("model", [1.0]).model
ALONE = Weights(neighbours=(), session=0.0, dates=0.0)
"""The text alone decides."""

CHAT = [
    ("user", "My sister adopted a greyhound."),
    ("assistant", "What is its name?"),
    ("user", "Biscuit. It sleeps all day."),
    ("assistant", "Greyhounds are lazy dogs, and greyhounds are fast."),
    ("user", "Now about taxes."),
]


def day_us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def add(index: ScopeIndex, session_id: str, texts: Sequence[str | tuple[str, str]], *, on: str = "2026-01-01") -> None:
    held = index.sessions.get(session_id)
    for position, item in enumerate(texts, held.positions[-1] + 1 if held else 1):
        role, text = ("user", item) if isinstance(item, str) else item
        document = Document(session_id=session_id, position=position, role=role, created_at_us=day_us(on))
        index.add(document, entry_of(ANALYZER.terms(text)))


def remember(index: ScopeIndex, key: str, text: str, *, importance: float = 0.0, on: str = "2026-01-01") -> None:
    document = Document(kind=MEMORY, key=key, created_at_us=day_us(on), importance=importance)
    index.add(document, entry_of(ANALYZER.terms(text)))


def ask(
    index: ScopeIndex, text: str, *, weights: Weights = ALONE, only: Filter | None = None, limit: int = 10
) -> list[Ranked]:
    return rank(index, Query.of(text, ANALYZER), limit=limit, weights=weights, only=only or Filter(), explain=True)


def places(found: Sequence[Ranked]) -> list[str]:
    return [hit.document.key or f"{hit.document.session_id}{hit.document.position}" for hit in found]


@pytest.fixture
def chat() -> ScopeIndex:
    index = ScopeIndex()
    add(index, "a", CHAT)
    return index


def test_the_text_of_a_message_scores_by_bm25() -> None:
    index = ScopeIndex()
    add(index, "a", ["cat cat dog", "dog", "bird bird"])
    first, second = ask(index, "cat dog")
    # k1 1.2, b 0.75; lengths 3, 1, 2, on average 2
    norm = 1.2 * (0.25 + 0.75 * 3 / 2)
    cat = math.log(1 + 2.5 / 1.5) * (2 * 2.2 / (2 + norm))
    dog = math.log(1 + 1.5 / 2.5) * (2.2 / (1 + norm))
    assert (first.score, places([first])) == (cat + dog, ["a1"])
    assert second.score == math.log(1 + 1.5 / 2.5) * (2.2 / (1 + 1.2 * (0.25 + 0.75 / 2)))


def test_a_repeated_word_of_the_query_counts_once(chat: ScopeIndex) -> None:
    assert ask(chat, "greyhound greyhound") == ask(chat, "greyhound")


def test_neighbours_lend_their_score_with_falling_weight(chat: ScopeIndex) -> None:
    scores = {
        hit.document.position: hit for hit in ask(chat, "sister", weights=attrs.evolve(ALONE, neighbours=(0.5, 0.25)))
    }
    own = scores[1].score
    assert {position: hit.score for position, hit in scores.items()} == {1: own, 2: own / 2, 3: own / 4}
    parts = scores[3].parts
    assert parts is not None
    assert (parts.text, parts.neighbours, parts.around) == (0.0, own / 4, {2: 0.0, 1: own / 4, 4: 0.0, 5: 0.0})


def test_neighbours_are_of_the_same_session() -> None:
    index = ScopeIndex()
    add(index, "a", ["cat"])
    add(index, "b", ["dog"])
    assert places(ask(index, "cat", weights=DEFAULT_WEIGHTS)) == ["a1"]


def test_a_session_that_fits_comes_before_one_that_does_not() -> None:
    index = ScopeIndex()
    add(index, "a", ["greyhound", "x", "y", "taxes"])
    add(index, "b", ["greyhound", "x", "y", "biscuit sister"])
    assert places(ask(index, "greyhound biscuit sister", limit=2)) == ["b4", "a1"]
    assert places(ask(index, "greyhound biscuit sister", weights=attrs.evolve(ALONE, session=1.0), limit=2)) == [
        "b4",
        "b1",
    ]


def test_a_date_in_the_query_prefers_the_sessions_of_that_date() -> None:
    index = ScopeIndex()
    add(index, "a", ["race"], on="2023-04-08")
    add(index, "b", ["race"], on="2023-05-08")
    add(index, "c", ["race"], on="2022-05-09")
    weights = attrs.evolve(ALONE, dates=1.0)
    assert places(ask(index, "race")) == ["a1", "b1", "c1"]
    assert places(ask(index, "race in May 2023", weights=weights)) == ["b1", "a1", "c1"]
    assert places(ask(index, "race, 2022-05-09", weights=weights)) == ["c1", "b1", "a1"]
    (first, *_) = ask(index, "race 8 May", weights=weights)
    assert first.parts is not None
    assert (first.document.session_id, first.parts.dates) == ("b", 2 * math.log(1 + 1.5 / 2.5))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("on 8 May 2023", [("day", 8), ("month", 5), ("year", 2023)]),
        ("May 8th", [("day", 8), ("month", 5)]),
        ("2023-05-08", [("day", 8), ("month", 5), ("year", 2023)]),
        ("in 2023-05", [("month", 5), ("year", 2023)]),
        ("8 dogs, 2500 cats", []),
        ("", []),
    ],
)
def test_parts_of_dates_are_read(text: str, parts: list[tuple[str, int]]) -> None:
    assert parts_of_text(text, ANALYZER.months) == parts


def test_months_are_of_the_language() -> None:
    assert parts_of_text("am 3. März", make_analyzer("german").months) == [("day", 3), ("month", 3)]
    assert parts_of_day(-1) == {("year", 1969), ("month", 12), ("day", 31)}


def test_equal_scores_are_ordered_by_position_and_session() -> None:
    index = ScopeIndex()
    for session_id in ("b", "a"):
        add(index, session_id, ["cat", "cat"])
    for key in ("z", "y"):
        remember(index, key, "cat")
    weights = attrs.evolve(ALONE, memory=1.0)
    assert places(ask(index, "cat", weights=weights)) == ["y", "z", "a1", "b1", "a2", "b2"]


def test_many_equal_documents_are_cut_by_the_same_order() -> None:
    index = ScopeIndex()
    add(index, "a", ["cat"] * (SEEDS + 50) + ["cat mouse"])
    found = ask(index, "cat mouse", limit=SEEDS)
    assert places(found) == [f"a{SEEDS + 51}", *(f"a{position}" for position in range(1, SEEDS))]


@pytest.mark.parametrize(
    ("only", "found"),
    [
        (Filter(), ["m", "a1", "b1", "a2"]),
        (Filter(kinds=[MEMORY]), ["m"]),
        (Filter(kinds={MESSAGE}), ["a1", "b1", "a2"]),
        (Filter(kinds=[]), []),
        (Filter(session_ids=["b", "none"]), ["b1"]),
        (Filter(session_ids=[]), []),
        (Filter(roles=["assistant"]), ["m", "a2"]),
        (Filter(since_us=day_us("2026-01-02")), ["m", "b1"]),
        (Filter(until_us=day_us("2026-01-02")), ["a1", "a2"]),
        (Filter(since_us=day_us("2026-01-02"), until_us=day_us("2026-01-02") + 1), ["b1"]),
    ],
    ids=str,
)
def test_filters_leave_out_documents(only: Filter, found: list[str]) -> None:
    index = ScopeIndex()
    add(index, "a", [("user", "cat cat"), ("assistant", "cat")])
    add(index, "b", ["cat"], on="2026-01-02")
    remember(index, "m", "cat", on="2026-01-03")
    everything = {hit.document: hit.score for hit in ask(index, "cat")}
    hits = ask(index, "cat", only=only)
    assert sorted(places(hits)) == sorted(found)
    assert {hit.document: hit.score for hit in hits} == {
        document: score
        for document, score in everything.items()
        if places([Ranked(document=document, score=0)])[0] in found
    }


def test_a_message_that_is_filtered_out_is_still_a_neighbour(chat: ScopeIndex) -> None:
    only = Filter(roles=["assistant"])
    assert places(ask(chat, "sister", weights=DEFAULT_WEIGHTS, only=only)) == ["a2"]
    add(chat, "a", [("assistant", "sister my sister")] * (2 * SEEDS))
    assert "a2" in places(ask(chat, "sister adopted", weights=DEFAULT_WEIGHTS, only=only))


def test_recent_and_important_documents_count_more() -> None:
    index = ScopeIndex()
    for key, on, importance in (("a", "2026-01-01", 0.5), ("b", "2025-12-02", 0.0), ("c", "2026-02-01", 1.0)):
        remember(index, key, "cat", on=on, importance=importance)
    query, now_us = Query.of("cat", ANALYZER), day_us("2026-01-01")
    plain = ask(index, "cat")[0].score
    weights = attrs.evolve(ALONE, recency=0.5, importance=0.2)
    found = rank(index, query, limit=3, weights=weights, now_us=now_us, explain=True)
    factors = {hit.document.key: (hit.parts.recency, hit.parts.importance) for hit in found if hit.parts}
    assert factors == {"c": (1.5, 1.2), "a": (1.5, 1.1), "b": (1.25, 1.0)}
    assert [hit.score for hit in found] == [plain * recency * importance for recency, importance in factors.values()]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("recency", lambda: Weights(recency=1.5)),
        ("importance", lambda: Weights(importance=-0.1)),
        ("half_life_days", lambda: Weights(half_life_days=0.0)),
    ],
)
def test_factors_are_bounded(name: str, make: Callable[[], Weights]) -> None:
    with pytest.raises(ValueError, match=name.replace("recency", "recency")):
        make()


def test_removed_documents_neither_score_nor_count() -> None:
    index = ScopeIndex()
    add(index, "a", ["cat cat dog", "cat", "dog", "cat"])
    add(index, "b", ["cat"])
    index.cut("a", after=2)
    index.remove_message("a", 1)
    left = ScopeIndex()
    left.add(Document(session_id="a", position=2, role="user", created_at_us=day_us("2026-01-01")), entry_of(["cat"]))
    add(left, "b", ["cat"])
    assert ask(index, "cat dog", weights=DEFAULT_WEIGHTS) == ask(left, "cat dog", weights=DEFAULT_WEIGHTS)
    assert places(ask(index, "cat dog")) == ["b1", "a2"]


@pytest.mark.parametrize("text", ["", "the of", "unheard", "\ud800", "*"])
def test_a_query_without_known_words_finds_nothing(chat: ScopeIndex, text: str) -> None:
    assert ask(chat, text, weights=DEFAULT_WEIGHTS) == []


def test_an_empty_index_and_a_limit_of_zero_find_nothing(chat: ScopeIndex) -> None:
    assert ask(ScopeIndex(), "cat") == []
    assert ask(chat, "greyhound", limit=0) == []


def test_documents_without_terms_find_nothing_and_are_no_obstacle() -> None:
    index = ScopeIndex()
    add(index, "a", ["", "!"])
    assert ask(index, "cat") == []


def test_operators_are_words(chat: ScopeIndex) -> None:
    add(chat, "b", ["the AND gate"])
    assert places(ask(chat, '"greyhounds" AND -lazy*')) == places(ask(chat, "greyhounds and lazy"))


def test_a_long_query_counts_by_its_rarest_terms() -> None:
    index = ScopeIndex()
    words = [f"w{number}" for number in range(2 * MAX_QUERY_TERMS)]
    add(index, "a", ["common " + " ".join(words[: MAX_QUERY_TERMS + 1]), "common"])
    found = ask(index, " ".join(["common", *words]) + " filler" * 2000)
    assert places(found) == ["a1"]
    assert found[0].parts is not None
    assert len(found[0].parts.terms) == MAX_QUERY_TERMS


def test_every_part_of_a_score_is_explained() -> None:
    index = ScopeIndex(model=MODEL)
    texts = ["cat cat", "dog in May", "cat", "bird", "cats and dogs"]
    for position, text in enumerate(texts, 1):
        vector = Vector.of("model", [float(position), 1.0, -position / 3])
        document = Document(session_id="s", position=position, created_at_us=day_us("2023-05-01"), importance=0.3)
        index.add(document, entry_of(ANALYZER.terms(text), vector))
    index.add(Document(kind=MEMORY, key="m"), entry_of(ANALYZER.terms("cat"), Vector.of("model", [1, 2, 3])))
    weights = attrs.evolve(DEFAULT_WEIGHTS, recency=0.1, importance=0.5)
    query = Query.of("cats and dogs in May 2023", ANALYZER, Vector.of("model", [1.0, 1.0, 0.0]))
    found = rank(index, query, limit=10, weights=weights, now_us=day_us("2023-06-01"), explain=True)
    assert len(found) == 6
    for hit in found:
        parts = hit.parts
        assert parts is not None
        total = (parts.text + parts.similarity) * parts.memory + parts.neighbours + parts.session + parts.dates
        assert hit.score == (total * parts.recency * parts.importance if total > 0 else total)
        assert sum(parts.terms.values()) == parts.text
        assert sum(parts.around.values()) == parts.neighbours
    assert all(hit.parts is None for hit in rank(index, query, limit=10))


def vectored(vectors: Sequence[Sequence[float] | None]) -> ScopeIndex:
    index = ScopeIndex(model=MODEL)
    for position, values in enumerate(vectors, 1):
        vector = Vector.of("model", values) if values else None
        index.add(Document(session_id="s", position=position), entry_of(["word"] if position == 1 else [], vector))
    return index


def test_vectors_find_what_has_no_word_in_common() -> None:
    index = vectored([None, [1.0, 0.1], [-1.0, 0.2], None])
    query = Query.of("unheard", ANALYZER, Vector.of("model", [1.0, 0.0]))
    assert places(rank(index, query, limit=4, weights=ALONE)) == ["s2", "s3"]
    both = Query.of("word", ANALYZER, query.vector)
    found = rank(index, both, limit=4, weights=ALONE, explain=True)
    assert places(found) == ["s1", "s2", "s3"]
    assert [hit.parts.similarity == 0.0 for hit in found if hit.parts] == [True, False, False]


def test_similarity_is_in_standard_deviations_of_the_texts() -> None:
    index = vectored([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    query = Query.of("word", ANALYZER, Vector.of("model", [1.0, 0.0]))
    found = rank(index, query, limit=1, weights=ALONE, explain=True)
    parts = found[0].parts
    assert parts is not None
    # of four values three are 0 and one is x: the deviation is x √3 / 4, and the fourth lies √3 of it above the mean
    assert parts.similarity == pytest.approx(parts.text * math.sqrt(3) / 4 * math.sqrt(3))


def test_removed_vectors_are_not_compared() -> None:
    index, left = vectored([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]]), vectored([[1.0, 0.0], [0.0, 1.0]])
    index.remove_message("s", 3)
    query = Query.of("word", ANALYZER, Vector.of("model", [1.0, 0.0]))
    assert rank(index, query, limit=3, explain=True) == rank(left, query, limit=3, explain=True)


def test_a_score_below_0_is_not_multiplied() -> None:
    index = vectored([[1.0, 0.0], [-1.0, 0.0]])
    query = Query.of("unheard", ANALYZER, Vector.of("model", [1.0, 0.0]))
    weights = attrs.evolve(ALONE, recency=1.0)
    assert [hit.score for hit in rank(index, query, limit=2, weights=weights)] == [2.0, -1.0]


def test_vectors_of_equal_angles_decide_nothing() -> None:
    index = vectored([[1.0, 0.0], [2.0, 0.0]])
    query = Query.of("word", ANALYZER, Vector.of("model", [1.0, 0.0]))
    assert [hit.score for hit in rank(index, query, limit=2, weights=ALONE)][1] == 0.0


def test_vectors_of_another_model_are_not_compared() -> None:
    index = vectored([[1.0, 0.0], [-1.0, 0.0]])
    other = Vector.of("other", [1.0, 0.0])
    index.add(Document(session_id="s", position=3), entry_of(["x"], other))
    assert rank(index, Query.of("unheard", ANALYZER, other), limit=3) == []
    own = Query.of("unheard", ANALYZER, Vector.of("model", [1.0, 0.0]))
    assert places(rank(index, own, limit=3, weights=ALONE)) == ["s1", "s2"]
    assert rank(ScopeIndex(model=MODEL), own, limit=3) == []


def test_a_vector_of_another_dimension_is_refused() -> None:
    index = vectored([[1.0, 0.0]])
    query = Query.of("word", ANALYZER, Vector.of("model", [1.0, 0.0, 0.0]))
    with pytest.raises(ValidationError, match="the query's vector has 3 dimensions, not 2"):
        rank(index, query, limit=1)
    wrong = entry_of(["word"], Vector.of("model", [1.0]))
    with pytest.raises(ValidationError, match="a vector has 1 dimensions; those before have 2"):
        index.add(Document(session_id="s", position=1), wrong)
    assert len(index) == 1


@pytest.mark.parametrize("dimension", [1, 256, 1024, 1536])
def test_numpy_gives_the_same_cosines(dimension: int) -> None:
    vector = bytes((7 * place) % 256 for place in range(dimension))
    rows = [bytes((place * place * row) % 256 for place in range(dimension)) for row in range(600)]
    rows += [b"\x80" * dimension, bytes(dimension), vector]
    lengths = [math.hypot(*memoryview(row).cast("b")) for row in rows]
    norms = array("d", lengths)
    found = cosines(bytearray().join(rows), norms, vector)
    assert numpy_cosines(bytearray().join(rows), norms, vector) == found
    assert found[-2:] == [0, COSINE_UNIT if any(vector) else 0]
    assert numpy_cosines(bytearray().join(rows), norms, bytes(dimension)) == [0] * 603
    assert cosines(bytearray(b"\x80" * dimension), norms[600:601], b"\x7f" * dimension) == [-COSINE_UNIT]
