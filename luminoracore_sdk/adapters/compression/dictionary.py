"""zstandard with a dictionary, which makes records of a few hundred bytes small.

A single message repeats little of itself, but much of what messages in general look like: zstandard alone saves
a third of it, with a dictionary two thirds.

Frames are written without the magic number, the dictionary id and a checksum: the payload's encoding names both,
and every byte counts in a small record. The content size stays in the frame, so that a reader knows it
beforehand.
"""

import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from zstandard import ZstdCompressor, ZstdDecompressor

__all__ = [
    "LEVEL",
    "MAX_CONTENT_BYTES",
    "Dictionary",
    "DictionaryError",
    "general_dictionary",
    "packaged_dictionaries",
]

MAX_CONTENT_BYTES = 256 * 1024 * 1024
"""Largest content that is compressed or expanded: the limit of one payload in a storage."""

LEVEL = 3
"""zstandard's default; on chat, level 9 saves 3 points more at four times the time (benchmarks, PEERS)."""

_GENERAL = "g1"
_ID_DIGITS = 8


class DictionaryError(ValueError):
    """Bytes that were not written with this dictionary, or have changed since."""


class Dictionary:
    """A zstandard dictionary; it may be used from any thread.

    Args:
        data: As ``zstandard.train_dictionary`` returns it.
        name: The id; by default the first 8 hexadecimal digits of the SHA-256 of the data.

    Attributes:
        data: The bytes.
        id: The name that payload encodings use.
    """

    def __init__(self, data: bytes, name: str | None = None) -> None:
        self.data = data
        self.id = name or self.id_of(data)
        self._local = threading.local()  # a zstandard context belongs to one thread

    @staticmethod
    def id_of(data: bytes) -> str:
        """Return the id of a dictionary with these bytes."""
        import hashlib  # noqa: PLC0415  # this and zstandard: not every program compresses

        return hashlib.sha256(data).hexdigest()[:_ID_DIGITS]

    def compress(self, data: bytes, level: int = LEVEL) -> bytes:
        """Return a frame that holds the data.

        Args:
            data: At most ``MAX_CONTENT_BYTES``.
            level: 1 (fast) to 19 (small).
        """
        return self._compressor(level).compress(data)

    def expand(self, frame: bytes, limit: int = MAX_CONTENT_BYTES) -> bytes:
        """Return the content of a frame.

        Raises:
            DictionaryError: It is no complete frame of this dictionary, or holds more than ``limit`` bytes.
        """
        import zstandard  # noqa: PLC0415

        try:
            size = zstandard.get_frame_parameters(frame, format=zstandard.FORMAT_ZSTD1_MAGICLESS).content_size
            if size > limit:  # an unknown size counts as the largest
                raise DictionaryError("it would be larger than a record may be")
            return self._contexts().decompressor.decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as exc:
            raise DictionaryError("not a frame of its dictionary") from exc

    def _compressor(self, level: int) -> "ZstdCompressor":
        import zstandard  # noqa: PLC0415

        compressors = self._contexts().compressors
        if level not in compressors:
            prepared = zstandard.ZstdCompressionDict(self.data)
            prepared.precompute_compress(level=level)
            parameters = zstandard.ZstdCompressionParameters.from_level(
                level,
                format=zstandard.FORMAT_ZSTD1_MAGICLESS,
                write_content_size=True,
                write_dict_id=False,
                write_checksum=False,
            )
            compressors[level] = zstandard.ZstdCompressor(dict_data=prepared, compression_params=parameters)
        return compressors[level]

    def _contexts(self) -> "_Contexts":
        """Return the zstandard contexts of this thread."""
        import zstandard  # noqa: PLC0415

        try:
            contexts: _Contexts = self._local.contexts
        except AttributeError:
            prepared = zstandard.ZstdCompressionDict(self.data)
            decompressor = zstandard.ZstdDecompressor(dict_data=prepared, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
            contexts = self._local.contexts = _Contexts(decompressor)
        return contexts


@attrs.define
class _Contexts:
    decompressor: "ZstdDecompressor"
    compressors: "dict[int, ZstdCompressor]" = attrs.field(factory=dict)


@cache
def packaged_dictionaries() -> dict[str, Dictionary]:
    """Return the dictionaries that the package ships, by id; none is ever removed or changed."""
    found = Path(__file__).parent.glob("*.zdict")  # not importlib.resources, whose import takes 5 ms
    return {file.stem: Dictionary(file.read_bytes(), file.stem) for file in found}


def general_dictionary() -> Dictionary:
    """Return the newest dictionary of the package, trained on chat in general."""
    return packaged_dictionaries()[_GENERAL]
