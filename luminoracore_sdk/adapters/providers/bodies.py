"""Bounded bodies of answers: decompressed, limited and cleaned while they are read.

The client packages read a body of any size, and OpenAI's takes an event without data for damage. So the HTTP
client is wrapped: the body of each response is decompressed here piece by piece, refused above a limit, and an
event stream is handed on without the lines that carry nothing, and with LF as its only line end.
"""

import codecs
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from luminoracore_sdk.domain.errors import ProviderResponseError

__all__ = ["DEFAULT_MAX_ANSWER_BYTES", "bounded_client"]

DEFAULT_MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Largest answer, after decompression."""

_PIECE = 64 * 1024
_AUTOMATIC_FORMAT = 32 + zlib.MAX_WBITS  # gzip or zlib, by the header
_EMPTY_FIELDS = (b"retry:", b"id:", b":")


def bounded_client(kind: type[Any], *, max_answer_bytes: int, provider: str, **options: Any) -> Any:
    """Return an HTTP client whose responses are bounded.

    Args:
        kind: ``AsyncClient`` of httpx or httpx2, or a subclass.
        max_answer_bytes: Most bytes of a body, after decompression.
        provider: Named in errors.
        **options: Of the HTTP client.
    """

    class BoundedClient(kind):  # type: ignore[misc]
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

    pieces = _limited(_decompressed(stream, encoding, provider), limit, provider)
    pieces = _with_data(pieces) if is_events else pieces

    class Body(kind):  # type: ignore[misc, valid-type]
        def __aiter__(self) -> AsyncIterator[bytes]:
            return pieces  # the same each time: a client that drains the rest iterates again

        async def aclose(self) -> None:
            await stream.aclose()

    return Body()


async def _decompressed(stream: AsyncIterator[bytes], encoding: str, provider: str) -> AsyncIterator[bytes]:
    if encoding in {"identity", ""}:
        async for piece in stream:
            yield piece
        return
    head, inflater = b"", None
    async for piece in stream:
        data = head + piece
        if inflater is None:
            if len(data) < 2:
                head = data
                continue
            head, inflater = b"", zlib.decompressobj(_window_bits(encoding, data))
        while data:
            if inflater.eof:  # a gzip body may have several members, and zeros behind them
                data = data.lstrip(b"\0")
                if not data:
                    break
                inflater = zlib.decompressobj(_AUTOMATIC_FORMAT)
            try:
                yield inflater.decompress(data, _PIECE)
            except zlib.error as exc:
                raise ProviderResponseError(f"{provider} sent a body that cannot be decompressed") from exc
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail


def _window_bits(encoding: str, head: bytes) -> int:
    """Return the format of a body: some servers send "deflate" without the header of zlib (RFC 1950, section 2.2)."""
    has_header = head[0] & 15 == zlib.DEFLATED and int.from_bytes(head[:2]) % 31 == 0
    if encoding == "deflate" and not has_header and not head.startswith(b"\x1f\x8b"):
        return -zlib.MAX_WBITS
    return _AUTOMATIC_FORMAT


async def _limited(pieces: AsyncIterator[bytes], limit: int, provider: str) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise ProviderResponseError(
                f"{provider} sent more than {limit} bytes in one answer", details={"limit": limit}
            )
        yield piece


async def _with_data(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the whole events of a stream that have data, without comments, ``retry``, ``id`` and empty ``data``."""
    event: list[bytes] = []
    async for lines in _lines(pieces):
        whole: list[bytes] = []
        for line in lines:
            if line and _carries(line):
                event.append(line)
            elif not line:
                whole += _written(event)
                event = []
        if whole:
            yield b"".join(whole)


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield the whole lines of a stream, which end with CR, LF or both, without a byte order mark at its start."""
    begun: list[bytes] = []  # of a line whose end has not come
    mark = codecs.BOM_UTF8
    after_cr = False
    async for piece in pieces:
        if not piece:
            continue
        text = piece.removeprefix(b"\n") if after_cr else piece
        after_cr = piece.endswith(b"\r")
        first, *others = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        begun.append(first)
        if others:
            yield [b"".join(begun).removeprefix(mark), *others[:-1]]
            begun, mark = [others[-1]], b""


def _written(event: Sequence[bytes]) -> list[bytes]:
    if not any(line.startswith(b"data:") for line in event):
        return []
    return [*(line + b"\n" for line in event), b"\n"]


def _carries(line: bytes) -> bool:
    return not line.startswith(_EMPTY_FIELDS) and line.strip() != b"data:"
