"""A payload as one value: the name of its encoding, NUL, its bytes. No encoding contains NUL."""

from luminoracore_sdk.application.ports.records import Payload, stored_payload
from luminoracore_sdk.domain.errors import ValidationError

__all__ = ["encoding_bytes", "packed", "unpacked"]


def encoding_bytes(payload: Payload) -> bytes:
    """Return the name of a payload's encoding as it is stored.

    Raises:
        ValidationError: It contains NUL, which ends it.
    """
    if "\0" in payload.encoding:
        raise ValidationError("a payload's encoding contains no NUL character")
    return payload.encoding.encode()


def packed(payload: Payload) -> bytes:
    """Return a payload as one value."""
    return b"%b\0%b" % (encoding_bytes(payload), payload.data)


def unpacked(value: bytes) -> Payload:
    """Return the payload of a value.

    Raises:
        ValueError: The value is not one that ``packed`` returns.
    """
    encoding, data = value.split(b"\0", 1)
    return stored_payload(encoding.decode(), data)
