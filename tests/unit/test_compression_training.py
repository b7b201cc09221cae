"""Training a dictionary: what it learns, how it is measured, when there is not enough."""

from random import Random

import pytest

from luminoracore_sdk.adapters.compression.dictionary import Dictionary, general_dictionary
from luminoracore_sdk.adapters.compression.training import Trained, compressed_bytes, train
from luminoracore_sdk.domain.errors import ValidationError

SYLLABLES = ("gra", "mol", "tri", "vex", "nit", "dor", "sal", "pum")
WORDS = [first + second for first in SYLLABLES[:4] for second in SYLLABLES[4:]]


def records(count: int) -> list[bytes]:
    """Return records in a language that no general dictionary knows."""
    random = Random(1)  # noqa: S311  # words, not secrets
    return [b'{"content":"%s"}' % " ".join(random.choices(WORDS, k=40)).encode() for _ in range(count)]


def test_dictionary_is_measured_on_held_out_records() -> None:
    known, unseen = records(1000)[:900], records(1000)[900:]
    trained = train(known, present=general_dictionary())
    assert (trained.records, trained.held_out) == (720, 180)
    assert trained.plain_bytes == sum(map(len, known[::5]))
    assert trained.bytes_after < 0.8 * trained.bytes_before < 0.8 * trained.plain_bytes
    assert trained.is_better
    assert compressed_bytes(unseen, trained.dictionary) < 0.8 * compressed_bytes(unseen, general_dictionary())


def test_the_same_records_give_the_same_dictionary() -> None:
    one, other = (train(records(500), present=general_dictionary()) for _ in range(2))
    assert one.dictionary.id == other.dictionary.id
    again = train(records(500), present=one.dictionary)
    assert (again.bytes_before, again.is_better) == (again.bytes_after, False)


def test_dictionary_respects_its_size_limits() -> None:
    small = train(records(2000), present=general_dictionary(), size_bytes=2048)
    assert 1024 <= len(small.dictionary.data) <= 2048
    few = train(records(100), present=general_dictionary())
    assert len(few.dictionary.data) <= sum(map(len, records(100))) // 10


@pytest.mark.parametrize(
    "given",
    [[], [b"x"] * 10, [b'{"content":"the same"}'] * 2, [b"x" * 20_000] * 3],
    ids=["none", "short", "two", "long and all the same"],
)
def test_too_little_is_refused_with_how_much_it_takes(given: list[bytes]) -> None:
    with pytest.raises(ValidationError, match=f"^{len(given)} records of .* not enough .* 10,240 bytes"):
        train(given, present=general_dictionary())


@pytest.mark.parametrize(("after", "is_better"), [(989, True), (990, True), (991, False), (1100, False)])
def test_less_than_a_hundredth_is_not_better(after: int, is_better: bool) -> None:
    trained = Trained(
        dictionary=Dictionary(b"x"),
        records=4,
        held_out=1,
        plain_bytes=2000,
        bytes_before=1000,
        bytes_after=after,
    )
    assert trained.is_better is is_better
