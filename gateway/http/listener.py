"""Takes connections from a listening socket: with TLS or without, only so many, and none that stands still."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections import Counter

from aiohttp import web

from gateway.access.throttle import source_of
from gateway.certificates import Certificates
from gateway.config.serving import HttpSettings
from gateway.http import proxies
from gateway.http.connections import Connection, Stage
from gateway.telemetry.metrics import Metrics

_BURST = 32
"""Connections taken in one turn of the event loop."""

_LONGEST_BETWEEN_LOOKS_S = 1.0
_BETWEEN_WARNINGS_S = 60.0
_OTHER_HANDLES = 1024
"""File handles that a process needs besides connections."""

_log = logging.getLogger("gateway.http")


class Listener:
    """The connections of one HTTP process.

    Other processes take from the same socket. When there are as many connections as there may be, the one that has
    waited longest for a head, a handshake or another request makes room; a new one is refused only where all of its
    source have a request under way, and left to other processes where all of this one have.

    Parameters
    ----------
    server
        aiohttp's, of a runner that is set up.
    listening
        Bound and listening; closed by ``close``.
    """

    def __init__(
        self,
        server: web.Server,
        listening: socket.socket,
        http: HttpSettings,
        certificates: Certificates | None,
        metrics: Metrics,
    ) -> None:
        self._server = server
        self._listening = listening
        self._http = http
        self._certificates = certificates
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._open: dict[Connection, socket.socket] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._of_source: Counter[str] = Counter()
        self._accepting = False
        self._closed = False
        self._turned_away = 0
        self._warned_at = float("-inf")
        deadlines = (http.head_timeout_s, http.idle_timeout_s, http.body_timeout_s, http.write_timeout_s)
        self._between_looks_s = min(_LONGEST_BETWEEN_LOOKS_S, min(deadlines) / 4)
        self._looked_at = self._loop.time()
        self._next_look: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to take connections."""
        _allow_handles(self._http.max_connections + _OTHER_HANDLES)
        self._listening.setblocking(False)
        self._accept_more()
        self._next_look = self._loop.call_later(self._between_looks_s, self._look)

    def close(self) -> None:
        """Take no more; those that are open go on, and are still looked at, until ``end``."""
        self._accept_no_more()
        self._closed = True
        self._listening.close()

    def end(self) -> None:
        """Let go of what is still open."""
        if self._next_look is not None:
            self._next_look.cancel()
        for connection in list(self._open):
            self._let_go(connection)

    def __len__(self) -> int:
        return len(self._open)

    def _accept_more(self) -> None:
        if not self._accepting and not self._closed:
            self._loop.add_reader(self._listening, self._accept)
            self._accepting = True

    def _accept_no_more(self) -> None:
        if self._accepting:
            self._loop.remove_reader(self._listening)
            self._accepting = False

    def _accept(self) -> None:
        for _ in range(_BURST):
            if len(self._open) >= self._http.max_connections and not self._make_room():
                self._turn_away("all have a request under way")
                self._accept_no_more()  # until the next look
                return
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no handles or no memory: trying again at once would not help
                _log.error("no connection can be taken: %s", error.strerror)
                self._accept_no_more()
                return
            self._take(accepted, address[0])

    def _take(self, accepted: socket.socket, address: str) -> None:
        source = source_of(address)
        if (
            self._of_source[source] >= self._http.max_connections_per_source
            and not proxies.trusted(address, self._http)
            and not self._make_room(source)
        ):
            self._turn_away("all of its address have a request under way")
            accepted.close()
            return
        accepted.setblocking(False)
        connection = Connection(self._server, self._http, source, self._forget)
        self._of_source[source] += 1
        self._open[connection] = accepted
        self._metrics.http_connections_active.inc()
        task = self._loop.create_task(self._connect(connection, accepted))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            if self._certificates is None:
                await self._loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=self._certificates.context(),
                    ssl_handshake_timeout=self._http.tls_handshake_timeout_s,
                    ssl_shutdown_timeout=self._http.write_timeout_s,
                )
        except OSError as error:
            _log.info("a connection came to nothing: %s", type(error).__name__)
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        if self._open.pop(connection, None) is not None:
            self._metrics.http_connections_active.dec()
            self._of_source[connection.source] -= 1
            if not self._of_source[connection.source]:
                del self._of_source[connection.source]

    def _make_room(self, source: str | None = None) -> bool:
        """Let the one go that has waited longest, of a source or of all."""
        waiting = [each for each in self._open if each.waits and source in (None, each.source)]
        if not waiting:
            return False
        self._turn_away("it had waited longest")
        self._let_go(min(waiting, key=lambda each: each.since))
        return True

    def _let_go(self, connection: Connection) -> None:
        if connection.stage is Stage.HANDSHAKE:
            with contextlib.suppress(OSError):  # the client has gone by itself
                self._open[connection].shutdown(socket.SHUT_RDWR)
        connection.let_go()
        self._forget(connection)

    def _turn_away(self, why: str) -> None:
        self._turned_away += 1
        self._metrics.http_connections_turned_away.inc()
        now = self._loop.time()
        if now - self._warned_at > _BETWEEN_WARNINGS_S:
            self._warned_at = now
            _log.warning(
                "%d connections were turned away or let go for others, the last since %s; there are %d",
                self._turned_away,
                why,
                len(self._open),
            )
            self._turned_away = 0

    def _look(self) -> None:
        now = self._loop.time()
        since_last_s, self._looked_at = now - self._looked_at, now
        held_up_s = max(0.0, since_last_s - self._between_looks_s)
        for connection in list(self._open):
            connection.look(now, since_last_s - held_up_s, held_up_s)
        self._accept_more()
        self._next_look = self._loop.call_later(self._between_looks_s, self._look)


def _allow_handles(wanted: int) -> None:
    """Have the process open so many files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
