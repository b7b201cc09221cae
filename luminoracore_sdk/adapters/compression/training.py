"""A dictionary for the records of one store, and whether it is worth having."""

from collections.abc import Sequence

import attrs
import zstandard

from luminoracore_sdk.adapters.compression.dictionary import LEVEL, Dictionary
from luminoracore_sdk.domain.errors import ValidationError

__all__ = ["DICTIONARY_BYTES", "Trained", "compressed_bytes", "train"]

DICTIONARY_BYTES = 65_536
"""Largest dictionary by default; the figures are in docs/explanation/optimizer.md."""

SMALLEST_BYTES = 1024
_TRAINING_PER_DICTIONARY = 10
"""Bytes to learn from for each byte of the dictionary; zstandard's manual advises 100, and 10 still gains."""

_HELD_OUT = 5


@attrs.frozen(kw_only=True)
class Trained:
    """A new dictionary, measured on records that it did not learn from.

    Attributes:
        dictionary: It.
        records: How many it learnt from.
        held_out: How many it was measured on.
        plain_bytes: Of those, as JSON.
        bytes_before: Of those, with the dictionary in use so far.
        bytes_after: Of those, with the new one.
    """

    dictionary: Dictionary
    records: int
    held_out: int
    plain_bytes: int
    bytes_before: int
    bytes_after: int

    @property
    def is_better(self) -> bool:
        """Whether it takes at least a hundredth off what the one in use leaves."""
        return self.bytes_after <= 0.99 * self.bytes_before


def train(
    records: Sequence[bytes], *, present: Dictionary, size_bytes: int = DICTIONARY_BYTES, level: int = LEVEL
) -> Trained:
    """Train a dictionary on four of five records and measure it on the fifth ones.

    Args:
        records: Plain payloads, in any order that mixes them well.
        present: The dictionary in use so far.
        size_bytes: Most that the dictionary may take; of little text a smaller one is made.
        level: Of zstandard, that records are written with.

    Raises:
        ValidationError: There is too little to learn from.
    """
    held_out = records[::_HELD_OUT]
    learnt = [record for index, record in enumerate(records) if index % _HELD_OUT]
    dictionary = _learnt(learnt, size_bytes, level)
    if dictionary is None:
        total = sum(map(len, records))
        raise ValidationError(
            f"{len(records)} records of {total:,} bytes are too little to train a dictionary on; "
            f"it takes some dozens of different ones, and {SMALLEST_BYTES * _TRAINING_PER_DICTIONARY:,} bytes"
        )
    return Trained(
        dictionary=dictionary,
        records=len(learnt),
        held_out=len(held_out),
        plain_bytes=sum(map(len, held_out)),
        bytes_before=compressed_bytes(held_out, present, level),
        bytes_after=compressed_bytes(held_out, dictionary, level),
    )


def _learnt(records: Sequence[bytes], size_bytes: int, level: int) -> Dictionary | None:
    available = sum(map(len, records)) // _TRAINING_PER_DICTIONARY
    if available < SMALLEST_BYTES:
        return None
    try:
        data = zstandard.train_dictionary(min(size_bytes, available), [*records], level=level, threads=0)
    except zstandard.ZstdError:  # too few of them, or all the same; it does not say which
        return None
    return Dictionary(data.as_bytes())


def compressed_bytes(records: Sequence[bytes], dictionary: Dictionary, level: int = LEVEL) -> int:
    """Return what records take with a dictionary, each by itself; none takes more than it did."""
    return sum(min(len(record), len(dictionary.compress(record, level))) for record in records)
