"""What is stored of a text in order to find it: its terms as hashes and, where there is one, its vector.

The bytes of an entry are::

    2 bytes   code of the analyzer and of this format
    varint    2 × number of terms that occur once, + 1 if others follow
    5 bytes   hash of each term that occurs once, ascending
    varint    number of terms that occur more often; only if announced
    6 bytes   hash of each of them, ascending, and how often it occurs, 2..255

and then any number of sections::

    1 byte    tag
    varint    length of the body in bytes
    body

A reader skips sections whose tag it does not know. Tag 1 is a vector: the code of its model in 4 bytes, then one
signed byte per dimension. Whatever changes the part before the sections changes ``_FORMAT``, and so the code.

A hash has 40 bits: among a million different terms, 0.5 pairs that share one are to be expected.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import isfinite

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.recall.analyzer import Analyzer

__all__ = [
    "MAX_FREQUENCY",
    "Entry",
    "Vector",
    "analyzer_code",
    "decode",
    "encode",
    "entry_of",
    "model_code",
    "term_hash",
]

MAX_FREQUENCY = 255
"""A term that occurs more often counts as often as this."""

_FORMAT = 1
_VECTOR = 1
_HASH = 5


@attrs.frozen(kw_only=True)
class Vector:
    """The direction of an embedding; its length is not kept, since only angles are compared.

    Attributes:
        model: Code of the model: vectors of different models are not comparable.
        values: One signed byte per dimension, the largest of them ±127.
    """

    model: bytes
    values: bytes

    @classmethod
    def of(cls, model_id: str, values: Sequence[float]) -> "Vector":
        """Return the vector of an embedding.

        Args:
            model_id: The embedder's ``model_id``.
            values: The numbers that it returned.

        Raises:
            ValidationError: There are no values, or one of them is not finite.
        """
        if not values or not all(map(isfinite, values)):
            raise ValidationError(f"the embedding of model {model_id!a:.80} is empty or not finite")
        scale = 127 / (max(map(abs, values)) or 1)
        return cls(
            model=model_code(model_id),
            values=array("b", [round(value * scale) for value in values]).tobytes(),
        )


@attrs.frozen(kw_only=True)
class Entry:
    """What an index holds of one text.

    Attributes:
        frequencies: How often each term occurs, by its hash.
        vector: Of the text; None: it has none, or none yet.
    """

    frequencies: Mapping[int, int]
    vector: Vector | None = None


@lru_cache(50_000)
def term_hash(term: str) -> int:
    """Return the hash of a term."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=_HASH).digest())


@lru_cache
def model_code(model_id: str) -> bytes:
    """Return the code by which vectors name the model that made them."""
    return blake2b(model_id.encode("utf-8", "surrogatepass"), digest_size=4).digest()


@lru_cache
def analyzer_code(analyzer: Analyzer) -> bytes:
    """Return the two bytes with which entries of this analyzer begin."""
    return blake2b(f"{_FORMAT}/{analyzer.id}".encode(), digest_size=2).digest()


def entry_of(terms: Iterable[str], vector: Vector | None = None) -> Entry:
    """Return the entry of a text.

    Args:
        terms: As ``Analyzer.terms`` returns them.
        vector: Of the same text.
    """
    counted = Counter(map(term_hash, terms))
    return Entry(frequencies={term: min(count, MAX_FREQUENCY) for term, count in counted.items()}, vector=vector)


def encode(entry: Entry, analyzer: Analyzer) -> bytes:
    """Return the bytes of an entry, the same ones for equal entries.

    Args:
        entry: Made from the terms of ``analyzer``.
        analyzer: The analyzer.
    """
    terms = sorted(entry.frequencies)
    once = [term for term in terms if entry.frequencies[term] == 1]
    parts = [analyzer_code(analyzer), _varint(2 * len(once) + (len(once) < len(terms)))]
    parts += [term.to_bytes(_HASH) for term in once]
    if len(once) < len(terms):
        parts.append(_varint(len(terms) - len(once)))
        for term in terms:
            if (count := entry.frequencies[term]) > 1:
                parts.append(term.to_bytes(_HASH) + bytes([count]))
    if entry.vector is not None:
        body = entry.vector.model + entry.vector.values
        parts += [bytes([_VECTOR]), _varint(len(body)), body]
    return b"".join(parts)


def decode(data: bytes, analyzer: Analyzer) -> Entry | None:
    """Return an entry.

    Args:
        data: As ``encode`` returned it.
        analyzer: The analyzer in use.

    Returns:
        None if another analyzer, or another version of this format, made it: the text must be indexed again.

    Raises:
        ValidationError: The bytes are damaged.
    """
    if data[:2] != analyzer_code(analyzer):
        if len(data) < 3:
            raise _damaged(data)
        return None
    head, at = _read_varint(data, 2)
    end = _end(data, at, (head >> 1) * _HASH)
    number = int.from_bytes
    frequencies = {number(data[start : start + _HASH]): 1 for start in range(at, end, _HASH)}
    if head & 1:
        count, at = _read_varint(data, end)
        end = _end(data, at, count * (_HASH + 1))
        for start in range(at, end, _HASH + 1):
            frequencies[number(data[start : start + _HASH])] = data[start + _HASH]
    vector = None
    while end < len(data):
        tag = data[end]
        length, start = _read_varint(data, end + 1)
        end = _end(data, start, length)
        if tag == _VECTOR:
            vector = Vector(model=data[start : start + 4], values=data[start + 4 : end])
    return Entry(frequencies=frequencies, vector=vector)


def _end(data: bytes, start: int, length: int) -> int:
    """Return the place behind a part."""
    if start + length > len(data):
        raise _damaged(data)
    return start + length


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first; the top bit says that another follows."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and the place behind it."""
    number = shift = 0
    for place in range(at, len(data)):
        number |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return number, place + 1
        shift += 7
    raise _damaged(data)


def _damaged(data: bytes) -> ValidationError:
    return ValidationError(f"an index entry of {len(data)} bytes is damaged")
