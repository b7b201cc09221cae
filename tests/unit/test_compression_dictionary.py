"""One dictionary: what it makes small comes back, and what is damaged is told."""

import threading

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.compression.dictionary import (
    Dictionary,
    DictionaryError,
    general_dictionary,
    packaged_dictionaries,
)

RECORD = b'{"v":2,"content":"Could you tell me what the weather is like, and what I should do about it?"}'
WORDS = Dictionary(b"what the weather is like, and what I should do about it")


@given(st.binary(max_size=2000), st.sampled_from([1, 3, 19]))
def test_whatever_is_compressed_at_any_level_comes_back(data: bytes, level: int) -> None:
    assert general_dictionary().expand(general_dictionary().compress(data, level)) == data


def test_small_record_is_smaller_than_with_plain_zstandard() -> None:
    alone = len(zstandard.compress(RECORD))
    assert len(general_dictionary().compress(RECORD)) < 0.75 * alone


def test_dictionary_id_is_a_hash_unless_packaged() -> None:
    assert WORDS.id == Dictionary.id_of(WORDS.data) == "2ee955c8"
    assert {name: dictionary.id for name, dictionary in packaged_dictionaries().items()} == {"g1": "g1"}


DAMAGED = {
    "nothing": b"",
    "something else": RECORD,
    "cut": WORDS.compress(RECORD)[:-1],
    "with more behind it": WORDS.compress(RECORD) + b"\0",
    "made with another dictionary": Dictionary(RECORD).compress(RECORD * 2),
}


@pytest.mark.parametrize("frame", DAMAGED.values(), ids=DAMAGED)
def test_what_it_did_not_make_is_refused(frame: bytes) -> None:
    with pytest.raises(DictionaryError, match="not a frame"):
        WORDS.expand(frame)


def test_decompression_bomb_is_refused_beforehand() -> None:
    bomb = WORDS.compress(bytes(10_000_000))
    assert len(bomb) < 1000
    with pytest.raises(DictionaryError, match="larger than a record"):
        WORDS.expand(bomb, limit=9_999_999)
    assert len(WORDS.expand(bomb, limit=10_000_000)) == 10_000_000


def test_a_frame_that_does_not_tell_its_size_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
    )
    with pytest.raises(DictionaryError, match="larger than a record"):
        WORDS.expand(zstandard.ZstdCompressor(compression_params=parameters).compress(RECORD))


def test_threads_share_a_dictionary_and_not_its_contexts() -> None:
    texts = [f"the weather of day {number} ".encode() * 50 for number in range(8)]
    results: dict[int, bool] = {}

    def work(number: int) -> None:
        results[number] = all(WORDS.expand(WORDS.compress(texts[number])) == texts[number] for _ in range(200))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(8), True)
