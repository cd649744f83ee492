"""Answers: conditional requests, ranges, streamed bodies and multiparts, and clients that stop reading."""

from __future__ import annotations

import logging
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from http import HTTPStatus

from aiohttp import web

from gateway.audit.accesses import UNCOUNTED, Access
from gateway.dicomweb import multipart, ranges
from gateway.dicomweb.media_types import MULTIPART, OCTET_STREAM
from gateway.http import problem
from gateway.http.application import PIECE_BYTES
from gateway.http.keys import OFFLOAD, REQUEST_ID
from gateway.http.offload import Lane
from gateway.services.content import Content, grouped, held, joined, taken
from storage.errors import ObjectDamaged

_log = logging.getLogger("gateway.dicomweb")

ACCESS = web.RequestKey("access", Access)
"""Counts what a request takes."""

CACHE_CONTROL = "private, no-cache"
"""Kept by the client, asked for again each time: the answer is 304 while nothing changed and the caller still may."""

GROUP_BYTES = 1 << 20
"""Smaller blocks cross into the event loop together."""

SMALL_BYTES = 1 << 20
"""What is no longer than this is read in one step."""


def not_modified(request: web.Request, etag: str) -> web.Response | None:
    """304 when the client has the representation already (RFC 9110 13.1.2), else None."""
    wanted = request.headers.get("If-None-Match", "")
    known = [each.strip().removeprefix("W/") for each in wanted.split(",")]
    if etag in known or "*" in known:
        return web.Response(status=304, headers={"ETag": etag, "Cache-Control": CACHE_CONTROL})
    return None


def headers(etag: str, content_type: str) -> dict[str, str]:
    """Headers of a representation."""
    found = {
        "ETag": etag,
        "Cache-Control": CACHE_CONTROL,
        "Content-Type": content_type,
        "Vary": "Accept, Authorization",
    }
    if content_type.startswith(OCTET_STREAM):
        # Whatever the bytes are, such as a document with scripts: to be saved and never to be shown.
        found["Content-Disposition"] = "attachment"
    return found


def small(request: web.Request, content: Content) -> Content:
    """The same, in memory if that is how it will go out: for who is in a thread that may read it now."""
    if content.size > SMALL_BYTES or request.method != "GET" or "Range" in request.headers:
        return content
    return taken(content)


async def ranged(
    request: web.Request,
    content: Content,
    head: dict[str, str],
    *,
    lane: Lane = Lane.OBJECTS,
) -> web.StreamResponse:
    """Send a representation of known size, or the one range of it that is asked for.

    Parameters
    ----------
    content
        The whole representation; what is not in memory is read in a thread of the lane.
    head
        As ``headers`` makes it. A range needs the ETag there: it says what the client combines.

    Raises
    ------
    GatewayError, StorageError, ImagingError
        Before the status line, when the first block cannot be had.

    References
    ----------
    RFC 9110 14 "Range Requests", 15.3.7 "206 Partial Content", 15.5.17 "416 Range Not Satisfiable"
    """
    try:
        # RFC 9110 14.2: a range means something for GET alone.
        asked = request.headers.get("Range") if request.method == "GET" else None
        span = ranges.wanted(asked, request.headers.get("If-Range"), head.get("ETag", ""), content.size)
    except ranges.Unsatisfiable:
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        refused = problem.body(status, f"the representation has {content.size} bytes", request[REQUEST_ID])
        refused.headers["Content-Range"] = f"bytes */{content.size}"
        return refused
    head = {**head, "Accept-Ranges": "bytes"}
    if span is None:
        return await send(request, content, head, lane=lane)
    head["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{content.size}"

    def read(start: int, length: int) -> Iterator[bytes]:
        return content.read(span.start + start, length)

    part = Content(span.end - span.start, read)
    return await send(request, part if content.blocks is None else taken(part), head, status=206, lane=lane)


async def send(
    request: web.Request,
    content: Content,
    head: dict[str, str],
    *,
    status: int = 200,
    lane: Lane = Lane.OBJECTS,
) -> web.StreamResponse:
    """Send bytes of known size, whatever range is asked for; as ``ranged`` otherwise."""
    if request.method == "HEAD":
        return await _deliver(request, _sized(status, head, content.size), _nothing())
    if content.blocks is None and content.size <= SMALL_BYTES:
        content = await request.app[OFFLOAD].run(lane, taken, content)
    if content.blocks is not None:
        return await _deliver(request, _sized(status, head, content.size), _after(content.blocks, _nothing()))
    groups = grouped(content.read(0, content.size), GROUP_BYTES)
    async with aclosing(request.app[OFFLOAD].iterate(lane, groups)) as following:
        first = await anext(following, ())
        return await _deliver(request, _sized(status, head, content.size), _exactly(first, following, content.size))


async def stream(
    request: web.Request,
    blocks: Iterator[bytes],
    head: dict[str, str],
    *,
    status: int = 200,
    lane: Lane = Lane.OBJECTS,
) -> web.StreamResponse:
    """Send blocks as they come, their number unknown.

    The first is taken before the status line goes out, so that an error still can.
    """
    async with aclosing(request.app[OFFLOAD].iterate(lane, grouped(blocks, 1))) as following:
        first = await anext(following, ())
        after = _nothing() if request.method == "HEAD" else _after(first, following)
        return await _deliver(request, web.StreamResponse(status=status, headers=head), after)


def _sized(status: int, head: dict[str, str], size: int) -> web.StreamResponse:
    return web.StreamResponse(status=status, headers={**head, "Content-Length": str(size)})


async def _nothing() -> AsyncIterator[Sequence[bytes]]:
    nothing: tuple[Sequence[bytes], ...] = ()
    for group in nothing:
        yield group


async def _after(first: Sequence[bytes], following: AsyncIterator[Sequence[bytes]]) -> AsyncIterator[Sequence[bytes]]:
    yield first
    async for group in following:
        yield group


async def _exactly(
    first: Sequence[bytes], following: AsyncIterator[Sequence[bytes]], size: int
) -> AsyncIterator[Sequence[bytes]]:
    """The groups, without asking for one after the last."""
    yield first
    size -= sum(map(len, first))
    while size > 0 and (group := await anext(following, None)) is not None:
        yield group
        size -= sum(map(len, group))
    if size:
        raise ObjectDamaged(f"the body differs from its announced size by {size} bytes")


async def _deliver(
    request: web.Request, response: web.StreamResponse, groups: AsyncIterator[Sequence[bytes]]
) -> web.StreamResponse:
    """Write an answer. Once its status line has gone out, only a broken connection says that it is not whole."""
    sent = 0
    try:
        await response.prepare(request)
        async for group in groups:
            for block in group:
                view = memoryview(block)
                for start in range(0, len(block), PIECE_BYTES):
                    part = view[start : start + PIECE_BYTES]
                    await response.write(part)
                    sent += len(part)
        await response.write_eof()
        if isinstance(response, web.Response):
            sent += response.content_length or 0
    except ConnectionError:
        _log.info("request %s: the client has gone", request[REQUEST_ID])
    except Exception:  # the boundary: what fails here fails within a body
        _log.exception("request %s broke off within its body", request[REQUEST_ID])
        _break_off(request)
    finally:
        request.get(ACCESS, UNCOUNTED).took(size=sent)
    return response


def _break_off(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


class MultipartAnswer:
    """A multipart/related body of parts with their own types.

    Its boundary follows from the entity tag: the same representation has the same bytes each time, so that ranges of
    it can be put together (RFC 9110 14.3).
    """

    def __init__(self, part_type: str, etag: str) -> None:
        self.boundary = etag.strip('"')
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

    def content(
        self, sizes: Sequence[int], header: Callable[[int], tuple[str, str | None]], part: Callable[[int], Content]
    ) -> Content:
        """The same of parts whose sizes are known.

        Parameters
        ----------
        sizes
            Bytes of each part.
        header
            Content type and location of a part, by its number counted from 0.
        part
            The part itself, made when its bytes are read.
        """

        def between(number: int) -> bytes:
            end = multipart.PART_END if number else b""
            if number == len(sizes):
                return end + multipart.closing(self.boundary)
            return end + multipart.part_header(self.boundary, *header(number))

        def piece(number: int) -> Content:
            return part(number // 2) if number % 2 else held(between(number // 2))

        lengths = array("Q", bytes(8 * (2 * len(sizes) + 1)))
        lengths[1::2] = array("Q", sizes)
        lengths[0::2] = array("Q", (len(between(number)) for number in range(len(sizes) + 1)))
        return joined(lengths, piece)
