"""zstandard with a dictionary: what makes a record of a few hundred bytes small.

A dictionary is text that both sides have. A single message repeats little of itself, but much of what
messages in general look like; so plain zstandard takes a third off it, with a dictionary two thirds.

Frames are written without the four magic bytes, the dictionary's number and a checksum: the payload's
tag says what they are and which dictionary they need, and every byte counts in a small record. The
size of the content stays in the frame, so that a reader knows before it begins what it will get.
"""

import hashlib
import threading
from functools import cache
from importlib.resources import files

import attrs
import zstandard

__all__ = [
    "LEVEL",
    "MAX_CONTENT_BYTES",
    "Dictionary",
    "DictionaryError",
    "general_dictionary",
    "packaged_dictionaries",
]

MAX_CONTENT_BYTES = 256 * 1024 * 1024
"""Largest content that is compressed or expanded: what a storage takes as one payload."""

LEVEL = 3
"""zstandard's own default; on chat, level 9 takes 3 points more off at four times the time (PEERS)."""

_GENERAL = "g1"
_ID_DIGITS = 8
_MAGICLESS = zstandard.FORMAT_ZSTD1_MAGICLESS


class DictionaryError(ValueError):
    """Bytes that this dictionary did not make, or that were changed since."""


class Dictionary:
    """A zstandard dictionary, and what it makes small. Usable from every thread.

    Args:
        data: As ``zstandard.train_dictionary`` gives it.
        name: The id; by default the first 8 hexadecimal digits of the SHA-256 of the data.

    Attributes:
        data: The bytes.
        id: What payload tags call it.
    """

    def __init__(self, data: bytes, name: str | None = None) -> None:
        self.data = data
        self.id = name or self.id_of(data)
        self._local = threading.local()  # zstandard's contexts are for one thread each

    @staticmethod
    def id_of(data: bytes) -> str:
        """Return the id that a dictionary of these bytes has."""
        return hashlib.sha256(data).hexdigest()[:_ID_DIGITS]

    def compress(self, data: bytes, level: int = LEVEL) -> bytes:
        """Return a frame that holds the data.

        Args:
            data: At most ``MAX_CONTENT_BYTES``.
            level: 1 (fast) to 19 (small).
        """
        return self._compressor(level).compress(data)

    def expand(self, frame: bytes, limit: int = MAX_CONTENT_BYTES) -> bytes:
        """Return what a frame holds.

        Raises:
            DictionaryError: Not a whole frame of this dictionary, or one with more than ``limit`` bytes.
        """
        try:
            size = zstandard.get_frame_parameters(frame, format=_MAGICLESS).content_size
            if size > limit:  # one that tells no size counts as endless
                raise DictionaryError("it would be larger than a record may be")
            return self._contexts().decompressor.decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as exc:
            raise DictionaryError("not a frame of its dictionary") from exc

    def _compressor(self, level: int) -> zstandard.ZstdCompressor:
        made = self._contexts().compressors
        if level not in made:
            prepared = zstandard.ZstdCompressionDict(self.data)
            prepared.precompute_compress(level=level)
            parameters = zstandard.ZstdCompressionParameters.from_level(
                level, format=_MAGICLESS, write_content_size=True, write_dict_id=False, write_checksum=False
            )
            made[level] = zstandard.ZstdCompressor(dict_data=prepared, compression_params=parameters)
        return made[level]

    def _contexts(self) -> "_Contexts":
        """Return what zstandard needs of this thread's own."""
        try:
            made: _Contexts = self._local.contexts
        except AttributeError:
            made = self._local.contexts = _Contexts(
                zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(self.data), format=_MAGICLESS)
            )
        return made


@attrs.define
class _Contexts:
    decompressor: zstandard.ZstdDecompressor
    compressors: dict[int, zstandard.ZstdCompressor] = attrs.field(factory=dict)


@cache
def packaged_dictionaries() -> dict[str, Dictionary]:
    """Return the dictionaries that come with the package, by id; none is ever taken away or changed."""
    folder = files("luminoracore_sdk.adapters.compression")
    found = (file for file in folder.iterdir() if file.name.endswith(".zdict"))
    names = {file.name.removesuffix(".zdict"): file for file in found}
    return {name: Dictionary(file.read_bytes(), name) for name, file in names.items()}


def general_dictionary() -> Dictionary:
    """Return the newest of the package's own, trained on chat in general."""
    return packaged_dictionaries()[_GENERAL]
