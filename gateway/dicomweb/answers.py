"""Answers in pieces: conditional requests, streamed bodies and multiparts."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator

from aiohttp import web

from gateway.dicomweb import multipart
from gateway.dicomweb.media_types import MULTIPART
from gateway.errors import GatewayError
from gateway.http.application import OFFLOAD, REQUEST_ID
from gateway.http.offload import Lane
from gateway.imaging.errors import ImagingError
from storage.errors import StorageError

_log = logging.getLogger("gateway.dicomweb")

CACHE_CONTROL = "private, no-cache"
"""Kept by the client, asked for again each time: the answer is 304 while nothing changed and the caller still may."""


def not_modified(request: web.Request, etag: str) -> web.Response | None:
    """304 when the client has the representation already (RFC 9110 13.1.2), else None."""
    wanted = request.headers.get("If-None-Match", "")
    known = [each.strip().removeprefix("W/") for each in wanted.split(",")]
    if etag in known or "*" in known:
        return web.Response(status=304, headers={"ETag": etag, "Cache-Control": CACHE_CONTROL})
    return None


def headers(etag: str, content_type: str) -> dict[str, str]:
    """Headers of a representation."""
    return {"ETag": etag, "Cache-Control": CACHE_CONTROL, "Content-Type": content_type, "Vary": "Accept, Authorization"}


async def stream(
    request: web.Request,
    blocks: Iterator[bytes],
    head: dict[str, str],
    *,
    status: int = 200,
    lane: Lane = Lane.OBJECTS,
) -> web.StreamResponse:
    """Send blocks as they come. The first is taken before the status line goes out, so that an error still can."""
    offload = request.app[OFFLOAD]
    pieces = offload.iterate(lane, blocks)
    first = await anext(pieces, b"")
    response = web.StreamResponse(status=status, headers=head)
    await response.prepare(request)
    try:
        if request.method != "HEAD":
            if first:
                await response.write(first)
            async for block in pieces:
                if block:
                    await response.write(block)
        await response.write_eof()
    except (StorageError, GatewayError, ImagingError):
        # The status line has gone out: only a broken connection tells the client that this is not the whole answer.
        _log.exception("request %s broke off within its body", request[REQUEST_ID])
        if request.transport is not None:
            request.transport.abort()
    finally:
        await pieces.aclose()
    return response


class MultipartAnswer:
    """A multipart/related body of parts with their own types; its boundary is fresh."""

    def __init__(self, part_type: str) -> None:
        self.boundary = secrets.token_hex(16)
        self.content_type = f'{MULTIPART}; type="{part_type}"; boundary={self.boundary}'

    def body(self, parts: Iterable[tuple[str, str | None, Iterable[bytes]]]) -> Iterator[bytes]:
        """The bytes of parts given as (content type, location, blocks)."""
        for content_type, location, blocks in parts:
            # The first block before the part's header: what cannot be made shows while the status still can say so.
            taken = iter(blocks)
            first = next(taken, b"")
            yield multipart.part_header(self.boundary, content_type, location) + first
            yield from taken
            yield multipart.PART_END
        yield multipart.closing(self.boundary)
