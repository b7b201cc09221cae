"""An index finds the same as one built anew, in any order of additions and removals."""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.vectors import numpy_cosines
from luminoracore_sdk.domain.recall.index import MEMORY, Document, ScopeIndex
from luminoracore_sdk.domain.recall.ranking import Filter, Query, Weights, rank
from luminoracore_sdk.domain.recall.terms import Entry, Vector, entry_of, term_hash

MODEL = Vector.of("model", [1.0]).model
WORDS = ["ant", "bee", "cat", "dog"]
MICROSECONDS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000

Model = dict[tuple[str, int], tuple[Document, Entry]]
Step = Callable[[ScopeIndex, Model], None]

entries = st.builds(
    entry_of,
    st.lists(st.sampled_from(WORDS), max_size=6),
    st.none()
    | st.builds(Vector.of, st.sampled_from(["model", "other"]), st.lists(st.floats(-1, 1), min_size=3, max_size=3)),
)
sessions = st.sampled_from("abc")
positions = st.integers(1, 6)
times = st.integers(MICROSECONDS, MICROSECONDS + 40 * 86_400_000_000)
messages = st.builds(
    Document,
    session_id=sessions,
    position=positions,
    role=st.sampled_from(["user", "assistant"]),
    created_at_us=times,
)
memories = st.builds(
    Document, kind=st.just(MEMORY), key=st.sampled_from("xyz"), created_at_us=times, importance=st.floats(0, 1)
)


def put(document: Document, entry: Entry) -> Step:
    def step(index: ScopeIndex, model: Model) -> None:
        index.add(document, entry)
        model[document.session_id or f"key {document.key}", document.position] = (document, entry)

    return step


def remove(session_id: str, first: int, last: int, call: Callable[[ScopeIndex], None]) -> Step:
    def step(index: ScopeIndex, model: Model) -> None:
        call(index)
        for place in [place for place in model if place[0] == session_id and first <= place[1] <= last]:
            del model[place]

    return step


steps = st.lists(
    st.one_of(
        st.builds(put, messages | memories, entries),
        st.builds(put, messages | memories, entries),
        st.builds(lambda s, p: remove(s, p + 1, 9, lambda index: index.cut(s, after=p)), sessions, positions),
        st.builds(lambda s, p: remove(s, p, p, lambda index: index.remove_message(s, p)), sessions, positions),
        st.builds(lambda s: remove(s, 0, 9, lambda index: index.remove_session(s)), sessions),
        st.builds(lambda k: remove(f"key {k}", 0, 0, lambda index: index.remove_memory(k)), st.sampled_from("xyz")),
    ),
    max_size=40,
)
queries = st.builds(
    Query,
    terms=st.lists(st.sampled_from([*WORDS, "elk"]), max_size=4, unique=True).map(
        lambda words: {term_hash(word): word for word in words}
    ),
    dates=st.lists(st.sampled_from([("month", 1), ("month", 2), ("year", 2026), ("day", 5)]), unique=True),
    vector=st.none() | st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(lambda row: Vector.of("model", row)),
)
filters = st.builds(
    Filter,
    kinds=st.none() | st.sets(st.sampled_from(["message", "memory"])),
    session_ids=st.none() | st.sets(sessions),
    roles=st.none() | st.sets(st.sampled_from(["user", "assistant", "tool"])),
    since_us=st.none() | times,
    until_us=st.none() | times,
)


@given(steps, queries, filters, st.randoms(use_true_random=False), st.integers(0, 2))
def test_an_index_finds_what_a_new_one_finds(
    made: list[Step], query: Query, only: Filter, random: Random, spare: int
) -> None:
    index = ScopeIndex(model=MODEL, spare=spare)
    model: Model = {}
    for step in made:
        step(index, model)
    kept = list(model.values())
    random.shuffle(kept)
    new = ScopeIndex(model=MODEL)
    for document, entry in kept:
        new.add(document, entry)
    assert len(index) == len(new) == len(kept)
    weights = Weights(recency=0.3, importance=0.3)
    limit = len(kept) + 1
    expected = rank(new, query, limit=limit, weights=weights, only=only, now_us=MICROSECONDS, explain=True)
    found = rank(
        index,
        query,
        limit=limit,
        weights=weights,
        only=only,
        now_us=MICROSECONDS,
        compare=numpy_cosines,
        explain=True,
    )
    assert found == expected
    assert rank(index, query, limit=2, weights=weights, only=only, now_us=MICROSECONDS) == [
        type(hit)(document=hit.document, score=hit.score) for hit in expected[:2]
    ]


@pytest.mark.parametrize("seed", [0, 7, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 7))])
def test_frequent_terms_change_nothing_where_few_documents_are_looked_at(seed: int) -> None:
    """A filter has them added to all documents; this one lets all of them through."""
    random = Random(seed)  # noqa: S311  # not a secret
    words = [f"w{number}" for number in range(60)]
    weights = [1 / (number + 1) for number in range(60)]
    index, model = ScopeIndex(), dict[tuple[str, int, str], tuple[Document, Entry]]()
    for step in range(3):  # what is counted for the queries of one step follows the documents of the next one
        new = ScopeIndex()
        for number in range(1500):
            entry = entry_of(random.choices(words, weights, k=random.randrange(1, 30)))
            created_at_us = MICROSECONDS + number
            document = Document(session_id=f"s{number // 40}", position=40 * step + number, created_at_us=created_at_us)
            if number < 100 * seed:
                document = Document(kind=MEMORY, key=f"k{step}{number}", created_at_us=created_at_us)
            model[document.session_id, document.position, document.key] = (document, entry)
            index.add(document, entry)
        if step == 2:
            index.cut("s30", after=1220)
            index.remove_memory("k00")
            model = {
                place: held
                for place, held in model.items()
                if place[2] != "k00" and (place[0] != "s30" or place[1] <= 1220)
            }
        for document, entry in model.values():
            new.add(document, entry)
        for _ in range(20):
            query = Query(terms={term_hash(word): word for word in ["w0", *random.sample(words[10:], 5)]})
            assert rank(index, query, limit=200) == rank(new, query, limit=200, only=Filter(since_us=0))


def test_counts_of_many_frequent_terms_stay_right() -> None:
    words = [f"w{number}" for number in range(40)]
    index = ScopeIndex()
    for position in range(1, 1002):
        document = Document(session_id=f"s{position % 3}", position=position, created_at_us=MICROSECONDS)
        index.add(document, entry_of([*words, "w0"]))
    for _ in range(2):  # the second time, those of the first words were dropped to make room
        for word in words:
            counts = index.counts(term_hash(word))
            times = 2 if word == "w0" else 1
            assert list(counts.documents) == [times] * 1001
            assert sorted(counts.sessions.values()) == [333 * times, 334 * times, 334 * times]
