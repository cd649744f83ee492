"""One connection: its request heads, bodies and answers come in time and in bounds, or it is let go.

aiohttp bounds sizes and not times. Here each connection keeps when it last went on, and one look a second at all of
them (``Listener``) finds those that are late, which costs a request no timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from typing import cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.config.serving import HttpSettings
from gateway.context import new_request_id
from gateway.errors import InvalidRequest
from gateway.http import headers, problem

BODY_BYTES = 1 << 16
"""A client has the body timeout for so much of a body at a time."""

ANSWER_BYTES = 1 << 18
"""A client has the write timeout for so much of an answer at a time."""

_UNSENT_BYTES = 1 << 16
"""Beyond so much that has not gone out, whoever writes waits."""

_AHEAD_BYTES = 1 << 20
"""Of requests ahead of their turn. aiohttp bounds their number and stops to read when a body fills, far below this;
only long heads one after the other come to it."""

_HEAD_END = b"\r\n\r\n"

_log = logging.getLogger("gateway.http")


class Stage(Enum):
    """What a connection waits for."""

    HANDSHAKE = "handshake"
    HEAD = "the head of a request"
    REQUEST = "a request's body or its handler"
    LEFTOVER = "the rest of a body that nobody reads"
    IDLE = "another request"


class Connection(web.RequestHandler):
    """A connection of aiohttp's that is looked after.

    Parameters
    ----------
    source
        The network address that it is counted for.
    lost
        Told once when it is over.
    """

    __slots__ = (
        "_ahead_bytes",
        "_body",
        "_bounds",
        "_head_bytes",
        "_head_tail",
        "_lost",
        "_received",
        "_stalled_at",
        "_tls",
        "_told",
        "_unsent",
        "_waited_s",
        "_wire",
        "since",
        "source",
        "stage",
    )

    def __init__(
        self, server: web.Server, bounds: HttpSettings, source: str, lost: Callable[[Connection], None]
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            # No access log: its lines hold the query, and a query holds patients' names.
            access_log=None,  # type: ignore[arg-type]
            max_line_size=bounds.max_url_bytes,
            max_field_size=bounds.max_header_bytes,
            max_headers=bounds.max_headers,
        )
        self._bounds = bounds
        self._lost = lost
        self._wire: asyncio.Transport | None = None
        self._body: StreamReader | None = None
        self._head_bytes = self._ahead_bytes = self._received = 0
        self._head_tail: bytes | None = b""
        self._waited_s = 0.0
        self._told = self._tls = False
        self._stalled_at: float | None = None
        self._unsent = 0
        self.source = source
        self.stage = Stage.HANDSHAKE
        self.since = self._loop.time()

    @property
    def waits(self) -> bool:
        """Whether it may be let go for another one: nothing that was asked for is under way."""
        return self.stage not in (Stage.REQUEST, Stage.LEFTOVER)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands, with TLS if there is any; the first head has its time from now on."""
        # uvloop's are none by class where there is TLS.
        self._wire = transport = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("sslcontext") is not None
        # As without TLS, where eight times as much would be held.
        transport.set_write_buffer_limits(_UNSENT_BYTES)
        self._enter(Stage.HEAD)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is over."""
        self._lost(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives, for the head or body that it belongs to."""
        if data and not self._within_bounds(data):
            return
        super().data_received(data)

    def pause_writing(self) -> None:
        """The client does not take what is sent as fast as it comes."""
        super().pause_writing()
        assert self._wire is not None
        self._stalled_at = self._loop.time()
        self._unsent = self._wire.get_write_buffer_size()

    def resume_writing(self) -> None:
        """It has taken nearly all."""
        self._stalled_at = None
        super().resume_writing()

    # What the application says

    def begun(self, request: web.BaseRequest) -> None:
        """A request's head is whole, and its handler begins."""
        self._body = request.content
        self._received = self._ahead_bytes = 0
        self._waited_s = 0.0
        self._told = False
        self._enter(Stage.REQUEST)

    def ended(self) -> None:
        """A request's handler is done; its answer may still be going out."""
        assert self._body is not None
        if self._told:
            self._body.feed_eof()  # nobody waits for it any more, and nothing more is taken
        self._enter(Stage.IDLE if self._body.is_eof() else Stage.LEFTOVER)

    @property
    def gives_up(self) -> bool:
        """Whether the connection cannot go on after this answer, since its request never came whole."""
        return self._told

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the client
    ) -> web.StreamResponse:
        """Refuse what is not HTTP, in words of which none is the client's, neither here nor in the log."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was going out")
        if exc is None or isinstance(exc, HttpProcessingError):
            _log.info("a malformed request was refused: %s", type(exc).__name__)
        else:
            _log.error("a request failed outside of the application", exc_info=exc)
        found = HTTPStatus(status)
        refused = found if found >= HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus.BAD_REQUEST
        response = problem.body(refused, refused.description, new_request_id())
        headers.secure(response)
        response.force_close()
        return response

    # What the listener asks

    def look(self, now: float, since_last_s: float, held_up_s: float) -> None:
        """Let it go if it is late; called about once a second with the loop's time.

        The last look was ``since_last_s`` ago, without the ``held_up_s`` for which nothing was done for anybody:
        whoever had sent meanwhile is not to pay for it.
        """
        self.since = min(now, self.since + held_up_s)
        if self._stalled_at is not None:
            self._stalled_at = min(now, self._stalled_at + held_up_s)
        wire = self._wire
        if wire is None:
            return  # a handshake has its own time
        if self._tls and wire.is_closing():
            return  # and so has the end of TLS
        if wire.is_closing() or self._stalled_at is not None:
            self._look_at_answer(wire, now)
            return
        waited_s = now - self.since
        if self.stage is Stage.HEAD and waited_s > self._bounds.head_timeout_s:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        elif self.stage is Stage.IDLE and waited_s > self._bounds.idle_timeout_s:
            # What is still unsent has had its time, and closing would wait for it.
            (wire.abort if wire.get_write_buffer_size() else wire.close)()
        elif self.stage is Stage.LEFTOVER:
            self._look_at_leftover(wire, waited_s)
        elif self.stage is Stage.REQUEST:
            self._look_at_body(wire, since_last_s)

    def let_go(self) -> None:
        """End it at once."""
        if self._wire is not None:
            self._wire.abort()

    def _look_at_body(self, wire: asyncio.Transport, since_last_s: float) -> None:
        """A body has to come on, in the time in which we read."""
        assert self._body is not None
        if self._body.is_eof() or not wire.is_reading():
            return
        self._waited_s += since_last_s
        if self._waited_s <= self._bounds.body_timeout_s:
            return
        if self._told:
            wire.abort()
            return
        # Whoever reads the body can still answer; nobody may.
        self._told, self._waited_s = True, 0.0
        self._body.set_exception(InvalidRequest("the body did not come in time"))

    def _look_at_leftover(self, wire: asyncio.Transport, waited_s: float) -> None:
        assert self._body is not None
        if self._body.is_eof():
            self._enter(Stage.IDLE)
        elif waited_s > self._bounds.head_timeout_s:
            wire.abort()

    def _look_at_answer(self, wire: asyncio.Transport, now: float) -> None:
        unsent = wire.get_write_buffer_size()
        if self._stalled_at is None or unsent <= self._unsent - ANSWER_BYTES:
            self._stalled_at, self._unsent = now, unsent
        self._unsent = max(self._unsent, unsent)
        if now - self._stalled_at > self._bounds.write_timeout_s:
            _log.warning("a client has not read for %g s and is let go", self._bounds.write_timeout_s)
            wire.abort()

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self.since = self._loop.time()
        if stage is Stage.HEAD:
            self._head_bytes, self._head_tail = 0, b""

    def _within_bounds(self, data: bytes) -> bool:
        if self._told and self.stage is not Stage.REQUEST:
            return False
        if self._body is not None and not self._body.is_eof():
            self._received += len(data)
            if self._received >= BODY_BYTES:
                self._received, self._waited_s = 0, 0.0
            return True
        if self.stage is Stage.REQUEST:
            self._ahead_bytes += len(data)
            if self._ahead_bytes > _AHEAD_BYTES:
                self.let_go()
                return False
            return True
        if self.stage is not Stage.HEAD:
            self._enter(Stage.HEAD)
        if self._head_tail is not None:
            self._count_head(data, self._head_tail)
            if self._head_bytes > self._bounds.max_head_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return False
        return True

    def _count_head(self, data: bytes, tail: bytes) -> None:
        """Count up to the head's end, which may lie across two blocks; ``_head_tail`` is None behind it."""
        joint = tail + data[:3]
        if _HEAD_END in joint:
            self._head_tail = None
            return
        place = data.find(_HEAD_END)
        self._head_bytes += len(data) if place < 0 else place
        self._head_tail = (tail + data)[-3:] if place < 0 else None

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, and close; no answer is going out now."""
        wire = self._wire
        assert wire is not None
        if self._head_bytes:
            wire.write(f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        wire.close()
