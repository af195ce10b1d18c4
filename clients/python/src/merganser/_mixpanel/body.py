"""The body of an answer: decompressed in bounded pieces, and whole, or :class:`BrokenError`."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx

from merganser._mixpanel.attempt import BrokenError
from merganser._mixpanel.limits import INFLATE_BYTES, LINE_BYTES_MAX

_GZIP = zlib.MAX_WBITS | 16


async def pieces_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body in pieces. A body of which it cannot be told whether it is whole is broken."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding == "gzip":
        async with aclosing(_inflated(response)) as pieces:
            async for piece in pieces:
                yield piece
    elif encoding != "identity":
        raise BrokenError(f"the answer is encoded as {encoding[:32]!r}, which was not asked for")
    elif "content-length" in response.headers or "chunked" in response.headers.get("transfer-encoding", "").lower():
        async for piece in response.aiter_raw():
            yield piece
    else:
        # It ends when the connection does, and a broken connection looks the same.
        raise BrokenError("the answer does not say where it ends")


async def lines_of(response: httpx.Response) -> AsyncGenerator[list[bytes], None]:
    """The lines of the body, without their ends, as many as there are in a piece; the last one may be empty."""
    rest = b""
    async with aclosing(pieces_of(response)) as pieces:
        async for piece in pieces:
            # A piece from the socket is a round in the loop, but many may come out of one that is compressed.
            await asyncio.sleep(0)
            lines = (rest + piece).split(b"\n")
            rest = lines.pop()
            if len(rest) > LINE_BYTES_MAX:
                raise BrokenError(f"a line is longer than {LINE_BYTES_MAX >> 20} MiB")
            yield lines
    yield [rest]


async def _inflated(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    inflater = None
    async for data in response.aiter_raw():
        while data:
            # A gzip file may have several members.
            inflater = zlib.decompressobj(_GZIP) if inflater is None or inflater.eof else inflater
            try:
                piece = inflater.decompress(data, INFLATE_BYTES)
            except zlib.error:
                raise BrokenError("the compressed answer is damaged") from None
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if piece:
                yield piece
    is_whole = response.headers.get("content-length") == "0" if inflater is None else inflater.eof
    if not is_whole:
        raise BrokenError("the compressed answer ends too early")
