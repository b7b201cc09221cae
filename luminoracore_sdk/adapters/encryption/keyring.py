"""The keys of an encrypted store. They are never stored, shown or logged."""

import base64
import binascii
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["INDEX_KEY_VARIABLE", "KEYS_VARIABLE", "KeySource", "Keyring", "load_keyring"]

KEYS_VARIABLE = "LUMINORA_ENCRYPTION_KEYS"
INDEX_KEY_VARIABLE = "LUMINORA_ENCRYPTION_INDEX_KEY"

KEY_BYTES = 32

_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_HEX = re.compile(r"[0-9A-Fa-f]{64}")


class Keyring:
    """Hold keys by id: the current one encrypts new records, all of them decrypt.

    Names (tags of sessions, keys of memories) are encrypted with the index key, which cannot be changed later.
    By default it is derived from the *last* key of the ring, the oldest one, which must then stay in the ring as
    long as the store exists, even when no record needs it any more. Add new keys in front.

    Neither ``repr`` nor an error shows a key, and a keyring cannot be pickled.

    Args:
        keys: 32 random bytes each (``os.urandom(32)``), by an id of 1..32 letters, digits, ``_.-``.
        current: Id of the key for new records; None: the first.
        index_key: 32 bytes for names; None: derived from the last key.

    Raises:
        ConfigurationError: There is no key, an id is wrong, or a key is not 32 bytes long.
    """

    __slots__ = ("_index_key", "_keys", "current")

    def __init__(self, keys: Mapping[str, bytes], current: str | None = None, index_key: bytes | None = None) -> None:
        if not isinstance(keys, Mapping) or not keys:
            raise ConfigurationError("a keyring takes a mapping of key ids to keys, with at least one key")
        for key_id, key in keys.items():
            if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
                raise ConfigurationError(f"a key id is 1 to 32 of A-Z a-z 0-9 _ . -, not {key_id!a:.40}")
            _check_key(key, f"key {key_id!a}")
        if current is not None and current not in keys:
            raise ConfigurationError(f"the current key {current!a:.40} is not in the keyring")
        if index_key is not None:
            _check_key(index_key, "the index key")
        self._keys = {key_id: bytes(key) for key_id, key in keys.items()}
        self._index_key = None if index_key is None else bytes(index_key)
        self.current = next(iter(self._keys)) if current is None else current

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Keyring":
        """Return a keyring from environment variables.

        ``LUMINORA_ENCRYPTION_KEYS`` holds comma-separated ``id:key`` parts, the current key first;
        ``LUMINORA_ENCRYPTION_INDEX_KEY``, which is optional, holds one key. A key is written in base64 or as 64
        hexadecimal digits.

        Args:
            environ: The variables; None: those of this process.

        Raises:
            ConfigurationError: A variable is missing or wrong; the error names it and does not show its value.
        """
        environ = os.environ if environ is None else environ
        text = environ.get(KEYS_VARIABLE, "").strip()
        if not text:
            raise ConfigurationError(
                f"encryption needs keys: set the environment variable {KEYS_VARIABLE} to "
                "<id>:<32 bytes in base64 or hex>[,…], or pass keys="
            )
        keys: dict[str, bytes] = {}
        for number, part in enumerate(text.split(","), start=1):
            key_id, colon, encoded = part.strip().partition(":")
            if not colon or not _KEY_ID.fullmatch(key_id) or key_id in keys:
                raise ConfigurationError(
                    f"part {number} of {KEYS_VARIABLE} is not <id>:<key> with a unique id of "
                    "1 to 32 of A-Z a-z 0-9 _ . -"
                )
            keys[key_id] = _decoded(encoded, f"part {number} of {KEYS_VARIABLE}")
        index_key = environ.get(INDEX_KEY_VARIABLE, "").strip()
        return cls(keys, index_key=_decoded(index_key, INDEX_KEY_VARIABLE) if index_key else None)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, in the order of the ring."""
        return tuple(self._keys)

    def key(self, key_id: str) -> bytes:
        """Return the key of an id; an unknown id is a KeyError."""
        return self._keys[key_id]

    @property
    def index_secret(self) -> tuple[bytes, bool]:
        """The secret for names, and whether it is an index key rather than the last key."""
        if self._index_key is not None:
            return self._index_key, True
        return self._keys[next(reversed(self._keys))], False

    def __repr__(self) -> str:
        return f"Keyring(ids={self.ids!r}, current={self.current!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is not pickled or copied: keys must not leave the process")


KeySource = Keyring | Callable[[], Keyring | Mapping[str, bytes] | Awaitable[Keyring | Mapping[str, bytes]]]
"""A keyring, or a callable that fetches one (or a mapping of keys) at opening, for example from a KMS."""


async def load_keyring(source: KeySource) -> Keyring:
    """Return the keyring of a source; errors that a callable raises are not translated.

    Raises:
        ConfigurationError: The callable returned something else, or keys that cannot be used.
    """
    if isinstance(source, Keyring):
        return source
    found = source()
    if inspect.isawaitable(found):
        found = await found
    if isinstance(found, Keyring):
        return found
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"keys() must return a Keyring or a mapping of keys, not {type(found).__name__}")
    return Keyring(found)


def _check_key(key: object, what: str) -> None:
    if not isinstance(key, bytes | bytearray):
        raise ConfigurationError(f"{what} must be bytes, not {type(key).__name__}")
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{what} must be {KEY_BYTES} bytes long, not {len(key)}")


def _decoded(text: str, what: str) -> bytes:
    """Return the bytes of a key written as hexadecimal digits or in base64, in either alphabet."""
    try:
        if _HEX.fullmatch(text):
            return bytes.fromhex(text)
        padded = text + "=" * (-len(text) % 4)
        key = base64.b64decode(padded.translate(_STANDARD_ALPHABET), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"{what} is neither base64 nor 64 hexadecimal digits") from None
    _check_key(key, what)
    return key


_STANDARD_ALPHABET = str.maketrans("-_", "+/")
