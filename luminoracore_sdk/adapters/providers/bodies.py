"""Bounded bodies of answers: decompressed, limited and cleaned while they are read.

The client packages read a body of any size, and OpenAI's takes an event without data for damage. So the HTTP
client is wrapped: the body of each response is decompressed here piece by piece, refused above a limit, and an
event stream is handed on without the lines that carry nothing.
"""

import zlib
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

from luminoracore_sdk.domain.errors import ProviderResponseError

__all__ = ["DEFAULT_MAX_ANSWER_BYTES", "bounded_client"]

DEFAULT_MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Largest answer, after decompression."""

_PIECE = 64 * 1024
_AUTOMATIC_FORMAT = 32 + zlib.MAX_WBITS  # gzip or zlib, by the header
_EMPTY_FIELDS = (b"retry:", b"id:", b":")


def bounded_client(driver: ModuleType, *, max_answer_bytes: int, provider: str, **options: Any) -> Any:
    """Return an HTTP client of a driver package whose responses are bounded.

    Args:
        driver: The client package, which brings ``DefaultAsyncHttpxClient``.
        max_answer_bytes: Most bytes of a body, after decompression.
        provider: Named in errors.
        **options: Of the HTTP client.
    """

    class BoundedClient(driver.DefaultAsyncHttpxClient):  # type: ignore[misc, name-defined]
        async def send(self, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
            # only what is decompressed below is asked for
            request.headers["accept-encoding"] = "gzip, deflate"
            response = await super().send(request, stream=True, **kwargs)
            response.stream = _body_of(response, max_answer_bytes, provider)
            if not stream:
                try:
                    await response.aread()
                finally:
                    await response.aclose()
            return response

    return BoundedClient(**options)


def _body_of(response: Any, limit: int, provider: str) -> Any:
    encoding = response.headers.pop("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "", "gzip", "x-gzip", "deflate"}:
        raise ProviderResponseError(
            f"{provider} sent a body in the encoding {encoding[:20]!a}, which was not asked for"
        )
    response.headers.pop("content-length", None)
    is_events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
    kind = next(base for base in type(response.stream).__mro__ if base.__name__ == "AsyncByteStream")
    stream = response.stream

    class Body(kind):  # type: ignore[misc, valid-type]
        def __aiter__(self) -> AsyncIterator[bytes]:
            pieces = _limited(_decompressed(stream, encoding, provider), limit, provider)
            return _without_empty_fields(pieces) if is_events else pieces

        async def aclose(self) -> None:
            await stream.aclose()

    return Body()


async def _decompressed(stream: AsyncIterator[bytes], encoding: str, provider: str) -> AsyncIterator[bytes]:
    if encoding in {"identity", ""}:
        async for piece in stream:
            yield piece
        return
    inflater = zlib.decompressobj(_AUTOMATIC_FORMAT)
    async for piece in stream:
        data = piece
        while data:
            try:
                yield inflater.decompress(data, _PIECE)
            except zlib.error as exc:
                raise ProviderResponseError(f"{provider} sent a body that cannot be decompressed") from exc
            data = inflater.unconsumed_tail


async def _limited(pieces: AsyncIterator[bytes], limit: int, provider: str) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise ProviderResponseError(
                f"{provider} sent more than {limit} bytes in one answer", details={"limit": limit}
            )
        yield piece


async def _without_empty_fields(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield whole lines of an event stream, without comments, ``retry``, ``id`` and empty ``data``."""
    begun: list[bytes] = []  # of a line whose end has not come
    async for piece in pieces:
        first, end, others = piece.partition(b"\n")
        begun.append(first)
        if not end:
            continue
        *lines, rest = others.split(b"\n")
        kept = b"".join(line + b"\n" for line in (b"".join(begun), *lines) if _carries(line))
        begun = [rest]
        if kept:
            yield kept
    rest = b"".join(begun)
    if rest and _carries(rest):
        yield rest


def _carries(line: bytes) -> bool:
    return not line.startswith(_EMPTY_FIELDS) and line.strip() != b"data:"
