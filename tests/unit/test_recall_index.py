"""What the index of a scope keeps of added, replaced and removed documents."""

from math import hypot

import pytest

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.recall.index import MEMORY, MESSAGE, Document, ScopeIndex
from luminoracore_sdk.domain.recall.terms import Entry, Vector, entry_of, term_hash

CAT, DOG = term_hash("cat"), term_hash("dog")


def message(session_id: str, position: int, role: str = "user") -> Document:
    return Document(session_id=session_id, position=position, role=role, created_at_us=position, importance=0.5)


def of(*terms: str) -> Entry:
    return entry_of(terms)


def filled() -> ScopeIndex:
    index = ScopeIndex(spare=3)
    for position in range(1, 5):
        index.add(message("a", position), of("cat"))
    index.add(message("b", 7, "assistant"), of("cat", "dog", "dog"))
    index.add(Document(kind=MEMORY, key="k"), of("dog"))
    return index


def kept(index: ScopeIndex) -> list[tuple[str, str, int]]:
    return sorted((item.key, item.session_id, item.position) for item in index.documents())


def test_documents_are_read_back() -> None:
    index = filled()
    assert len(index) == 6
    assert {item for item in index.documents() if item.session_id != "a"} == {
        message("b", 7, "assistant"),
        Document(kind=MEMORY, key="k"),
    }
    assert [list(index.sessions[session_id].positions)[-1] for session_id in ("a", "b")] == [4, 7]


def test_frequencies_count_live_documents_only() -> None:
    index = filled()
    assert [index.document_frequency(term) for term in (CAT, DOG, 1)] == [5, 2, 0]
    index.remove_message("b", 7)
    assert [index.document_frequency(term) for term in (CAT, DOG, 1)] == [4, 1, 0]
    index.remove_message("b", 7)
    index.remove_memory("k")
    index.remove_memory("k")
    assert [index.document_frequency(term) for term in (CAT, DOG)] == [4, 0]
    assert (index.message_terms, index.memory_terms) == (4, 0)


def test_the_frequency_of_a_term_in_a_document_is_found() -> None:
    index = filled()
    slots = {index.document(slot): slot for slot in index.live_slots()}
    slot = slots[message("b", 7, "assistant")]
    assert [index.frequency(term, slot) for term in (CAT, DOG, 1)] == [1, 2, 0]
    assert [index.frequency(term, slots[message("a", 2)]) for term in (CAT, DOG)] == [1, 0]
    assert index.frequency(DOG, slots[Document(kind=MEMORY, key="k")]) == 1


def test_a_session_is_cut_behind_a_position() -> None:
    index = filled()
    index.cut("a", after=2)
    index.cut("none", after=0)
    assert kept(index) == [("", "a", 1), ("", "a", 2), ("", "b", 7), ("k", "", 0)]


def test_a_session_that_is_removed_may_come_again() -> None:
    index = filled()
    index.remove_session("a")
    assert list(index.sessions) == ["b"]
    index.add(message("c", 1), of("cat"))
    assert kept(index) == [("", "b", 7), ("", "c", 1), ("k", "", 0)]
    assert index.sessions["c"].number == 1


def test_a_document_of_the_same_place_replaces_the_one_before() -> None:
    index = filled()
    index.add(message("a", 2, "tool"), of("dog"))
    index.add(Document(kind=MEMORY, key="k", importance=1.0), of())
    assert [index.document_frequency(term) for term in (CAT, DOG)] == [4, 2]
    assert {item.role for item in index.documents() if item.kind == MESSAGE} == {"user", "assistant", "tool"}
    assert list(index.sessions["a"].positions) == [1, 2, 3, 4]


def test_slots_are_numbered_anew_when_many_are_dead() -> None:
    index = filled()
    index.add(message("a", 4), of("cat", "dog", "ant", "bee"))
    index.add(Document(kind=MEMORY, key="k"), of("dog"))
    index.cut("a", after=2)
    assert (index.dead, len(index.lengths), index.known_lengths) == (0, 4, {0, 1, 3})
    index = filled()
    index.cut("a", after=1)
    assert (index.dead, len(index.lengths)) == (3, 6)
    index.remove_memory("k")
    assert (index.dead, list(index.lengths), index.known_lengths) == (0, [1, 3], {0, 1, 3})
    assert kept(index) == [("", "a", 1), ("", "b", 7)]
    assert {term: list(slots) for term, slots in index.once.items()} == {CAT: [0, 1]}
    assert {term: list(postings) for term, postings in index.often.items()} == {DOG: [1 << 8 | 2]}
    index.add(message("a", 2), of("dog"))
    assert [index.document_frequency(term) for term in (CAT, DOG)] == [2, 2]


def test_a_full_index_refuses_documents_but_not_for_dead_ones() -> None:
    index = ScopeIndex(capacity=2)
    for position in (1, 2):
        index.add(message("a", position), of("cat"))
    with pytest.raises(ValidationError, match="takes 2 documents"):
        index.add(message("a", 3), of("cat"))
    index.cut("a", after=1)
    index.add(message("a", 2), of("dog"))
    assert kept(index) == [("", "a", 1), ("", "a", 2)]
    assert [index.document_frequency(term) for term in (CAT, DOG)] == [1, 1]


def test_days_are_those_of_the_documents_that_are_left() -> None:
    index = ScopeIndex()
    for position, day in enumerate((0, 1, 1, 2), 1):
        index.add(Document(session_id="a", position=position, created_at_us=day * 86_400_000_000), of("cat"))
    index.cut("a", after=2)
    assert index.sessions["a"].days == {0: 1, 1: 1}
    index.remove_message("a", 1)
    assert index.sessions["a"].days == {1: 1}


def test_vectors_stay_with_their_documents() -> None:
    index = ScopeIndex(model=Vector.of("m", [1.0]).model, spare=0)
    index.add(message("a", 1), of("cat"))
    for position in (2, 3, 4):
        index.add(message("a", position), entry_of(["cat"], Vector.of("m", [1.0, position / 4])))
    assert (index.dimension, bytes(index.vectors)) == (2, bytes([0, 0, 127, 64, 127, 95, 127, 127]))
    index.remove_message("a", 1)
    index.remove_message("a", 3)
    assert (index.dead, bytes(index.vectors)) == (0, bytes([127, 64, 127, 127]))
    assert list(index.norms) == [hypot(127, 64), hypot(127, 127)]
