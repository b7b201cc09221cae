"""Training of a dictionary for one store, and the measurement of its benefit."""

from collections.abc import Sequence

import attrs
import zstandard

from luminoracore_sdk.adapters.compression.dictionary import LEVEL, Dictionary
from luminoracore_sdk.domain.errors import ValidationError

__all__ = ["DICTIONARY_BYTES", "Trained", "compressed_bytes", "train"]

DICTIONARY_BYTES = 65_536
"""Default size limit; docs/explanation/optimizer.md has the measurements."""

SMALLEST_BYTES = 1024
_TRAINING_PER_DICTIONARY = 10
"""Training bytes per byte of the dictionary; zstandard's manual advises 100, and 10 still pays."""

_HELD_OUT = 5


@attrs.frozen(kw_only=True)
class Trained:
    """A new dictionary and its measurement on records that were held out of the training.

    Attributes:
        dictionary: The dictionary.
        records: Number of records it was trained on.
        held_out: Number of records it was measured on.
        plain_bytes: Size of the held-out records as JSON.
        bytes_before: Their size with the dictionary in use so far.
        bytes_after: Their size with the new one.
    """

    dictionary: Dictionary
    records: int
    held_out: int
    plain_bytes: int
    bytes_before: int
    bytes_after: int

    @property
    def is_better(self) -> bool:
        """Whether it makes records at least 1 % smaller than the dictionary in use."""
        return self.bytes_after <= 0.99 * self.bytes_before


def train(
    records: Sequence[bytes], *, present: Dictionary, size_bytes: int = DICTIONARY_BYTES, level: int = LEVEL
) -> Trained:
    """Train a dictionary on four of five records and measure it on every fifth one.

    Args:
        records: Plain payloads, well mixed.
        present: The dictionary in use so far.
        size_bytes: Size limit; little text results in a smaller dictionary.
        level: zstandard level that records are written with.

    Raises:
        ValidationError: There is too little data to train on.
    """
    held_out = records[::_HELD_OUT]
    training = [record for index, record in enumerate(records) if index % _HELD_OUT]
    dictionary = _train(training, size_bytes, level)
    if dictionary is None:
        total = sum(map(len, records))
        raise ValidationError(
            f"{len(records)} records of {total:,} bytes are not enough to train a dictionary; "
            f"some dozens of different records and {SMALLEST_BYTES * _TRAINING_PER_DICTIONARY:,} bytes are needed"
        )
    return Trained(
        dictionary=dictionary,
        records=len(training),
        held_out=len(held_out),
        plain_bytes=sum(map(len, held_out)),
        bytes_before=compressed_bytes(held_out, present, level),
        bytes_after=compressed_bytes(held_out, dictionary, level),
    )


def _train(records: Sequence[bytes], size_bytes: int, level: int) -> Dictionary | None:
    available = sum(map(len, records)) // _TRAINING_PER_DICTIONARY
    if available < SMALLEST_BYTES:
        return None
    try:
        data = zstandard.train_dictionary(min(size_bytes, available), [*records], level=level, threads=0)
    except zstandard.ZstdError:  # too few records, or all equal; the error does not say which
        return None
    return Dictionary(data.as_bytes())


def compressed_bytes(records: Sequence[bytes], dictionary: Dictionary, level: int = LEVEL) -> int:
    """Return the total size of records compressed one by one; a record that would grow counts as it is."""
    return sum(min(len(record), len(dictionary.compress(record, level))) for record in records)
