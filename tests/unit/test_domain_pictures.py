"""Sizes from the headers of pictures, and what the vendors charge for them."""

import struct
from base64 import b64encode
from typing import Any

import pytest

from luminoracore_sdk.domain.pictures import FLAT_PICTURE_TOKENS, picture_size, picture_tokens

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 1024, 768)
GIF = b"GIF89a" + struct.pack("<HH", 320, 200)
JPEG = (
    b"\xff\xd8\xff\xe0"
    + struct.pack(">H", 16)
    + bytes(14)
    + b"\xff\xc4"
    + struct.pack(">H", 4)
    + bytes(2)
    + b"\xff\xc0"
    + struct.pack(">HBHH", 17, 8, 600, 800)
)
WEBP = b"RIFF\0\0\0\0WEBP"
VP8X = WEBP + b"VP8X" + bytes(8) + (499).to_bytes(3, "little") + (299).to_bytes(3, "little")
VP8L = WEBP + b"VP8L" + bytes(4) + b"\x2f" + struct.pack("<I", 99 | 49 << 14)
VP8 = WEBP + b"VP8 " + bytes(10) + struct.pack("<HH", 640, 480)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(PNG, (1024, 768), id="png"),
        pytest.param(GIF, (320, 200), id="gif"),
        pytest.param(JPEG, (800, 600), id="jpeg"),
        pytest.param(VP8X, (500, 300), id="webp extended"),
        pytest.param(VP8L, (100, 50), id="webp lossless"),
        pytest.param(VP8, (640, 480), id="webp lossy"),
        pytest.param(b"BM not known", None, id="another kind"),
        pytest.param(PNG[:18], None, id="cut png"),
        pytest.param(JPEG[:8], None, id="cut jpeg"),
        pytest.param(b"\xff\xd8\0\0\0\0\0\0", None, id="broken jpeg"),
        pytest.param(PNG[:16] + bytes(8), None, id="no width"),
    ],
)
def test_sizes_are_read_from_headers(data: bytes, size: tuple[int, int] | None) -> None:
    assert picture_size(data) == size


def url(data: bytes, **more: Any) -> dict[str, Any]:
    encoded = b64encode(data).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}", **more}}


@pytest.mark.parametrize(
    ("vendor", "part", "tokens"),
    [
        ("openai", url(PNG), 85 + 170 * 4),
        ("openai", url(PNG, detail="low"), 85),
        ("anthropic", url(PNG), 1049),
        ("anthropic", url(PNG[:16] + struct.pack(">II", 4000, 4000)), FLAT_PICTURE_TOKENS),
        ("gemini", url(PNG), 516),
        ("gemini", url(GIF), 258),
        ("mistral", url(GIF), 85 + 170),
        ("pydantic-ai:google", url(PNG), 516),
        ("pydantic-ai:mistral", url(GIF), 85 + 170),
        ("openai", url(b"unknown"), FLAT_PICTURE_TOKENS),
        ("openai", {"type": "image_url", "image_url": {"url": "https://host/a.png"}}, FLAT_PICTURE_TOKENS),
        ("openai", {"type": "image_url", "image_url": "data:image/png;base64,%%%"}, FLAT_PICTURE_TOKENS),
        ("openai", {"type": "image_url", "image_url": None}, FLAT_PICTURE_TOKENS),
        (
            "anthropic",
            {"type": "image", "source": {"type": "base64", "data": b64encode(GIF).decode()}},
            86,
        ),
    ],
)
def test_a_picture_costs_what_the_vendor_says(vendor: str, part: dict[str, Any], tokens: int) -> None:
    assert picture_tokens(part, vendor) == tokens
