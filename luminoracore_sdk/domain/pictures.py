"""What a picture costs in tokens, from the width and height in its header.

Sources, looked up in November 2026: OpenAI, "Images and vision" (scaled into 2,048 pixels, then to 768 on the
shorter side; 85 tokens and 170 for each tile of 512 pixels); Anthropic, "Vision" (scaled to 1,568 pixels on the
longer side; width × height / 750); Gemini, "Image understanding" (258 tokens; above 384 pixels 258 for each tile
of 768 pixels).
"""

import binascii
import math
import struct
from base64 import b64decode
from typing import Any

from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["FLAT_PICTURE_TOKENS", "picture_size", "picture_tokens"]

FLAT_PICTURE_TOKENS = 1_600
"""Cost of a picture whose size cannot be read: the most that Anthropic charges for one."""

_HEADER_CHARACTERS = 400_000
"""Characters of base64 that are decoded: a JPEG may have 64 KB of metadata in each segment before its size."""


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height from the header of a PNG, GIF, WebP or JPEG; None: they cannot be read."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack(">II", data[16:24])
        elif data[:6] in {b"GIF87a", b"GIF89a"}:
            width, height = struct.unpack("<HH", data[6:10])
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            width, height = _webp_size(data)
        elif data.startswith(b"\xff\xd8"):
            width, height = _jpeg_size(data)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(data: bytes) -> tuple[int, int]:
    place = 2
    while True:
        marker, length = struct.unpack(">HH", data[place : place + 4])
        if 0xFFC0 <= marker <= 0xFFCF and marker not in {0xFFC4, 0xFFC8, 0xFFCC}:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        if marker < 0xFF00 or length < 2:
            raise IndexError(place)
        place += 2 + length


def picture_tokens(part: JSONObject, vendor: str) -> int:
    """Return the tokens of a picture part, in OpenAI's or Anthropic's form; a flat sum if its size is unknown."""
    source: Any = part.get("source") if part.get("type") == "image" else part.get("image_url")
    detail = source.get("detail") if isinstance(source, dict) else None
    if vendor == "openai" and detail == "low":
        return 85
    size = picture_size(_data(source))
    if size is None:
        return FLAT_PICTURE_TOKENS
    return _BY_VENDOR.get(vendor.removeprefix("pydantic-ai:"), _openai)(*size)


def _data(source: Any) -> bytes:
    text = source
    if isinstance(source, dict):
        text = source.get("data") if "data" in source else source.get("url")
    if not isinstance(text, str):
        return b""
    encoded = text.partition(";base64,")[2] if text.startswith("data:") else text
    encoded = encoded[: min(len(encoded), _HEADER_CHARACTERS) // 4 * 4]
    try:
        return b64decode(encoded)
    except (binascii.Error, ValueError):
        return b""


def _openai(width: int, height: int) -> int:
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return 85 + 170 * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def _anthropic(width: int, height: int) -> int:
    scale = min(1.0, 1568 / max(width, height))
    return min(FLAT_PICTURE_TOKENS, math.ceil(width * scale * height * scale / 750))


def _gemini(width: int, height: int) -> int:
    if width <= 384 and height <= 384:
        return 258
    return 258 * math.ceil(width / 768) * math.ceil(height / 768)


_BY_VENDOR = {"anthropic": _anthropic, "gemini": _gemini, "google": _gemini, "google-cloud": _gemini}
