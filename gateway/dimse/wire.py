"""The bytes of one connection, in and out, each wait bounded by a deadline."""

from __future__ import annotations

import select
import socket
import ssl
import time

FIRST_BUFFER_BYTES = 4096
"""Before an association is accepted: what a connection costs that may be nobody's."""
BUFFER_BYTES = 1 << 18
_TICK_S = 1.0
_DISCARDED_BYTES = 1 << 20
_TLS_HANDSHAKE = b"\x16"  # ContentType handshake (RFC 8446 5.1)
# Without it Linux acknowledges after 40 ms, and a sender with Nagle's algorithm waits so long with the rest of a
# message.
_QUICK_ACKNOWLEDGEMENT = getattr(socket, "TCP_QUICKACK", None)


class Lost(Exception):
    """The peer closed the connection, or it broke."""


class Late(Exception):
    """The peer did not do in time what it had to do."""


class Wire:
    """A connected socket, plain or TLS, used by one thread.

    The socket waits for a short while at a time (a tick), after which the deadline is looked at: a deadline costs no
    system call, and what drips does not renew it.

    Parameters
    ----------
    shortest_s
        The shortest time that anybody will wait for.

    Attributes
    ----------
    deadline_s
        Of ``time.monotonic``; reading raises Late after it.
    """

    def __init__(self, connection: socket.socket, shortest_s: float) -> None:
        self._connection = connection
        connection.settimeout(min(_TICK_S, shortest_s))
        self._acknowledges = _QUICK_ACKNOWLEDGEMENT is not None and connection.family in (
            socket.AF_INET,
            socket.AF_INET6,
        )
        self._view = memoryview(bytearray(FIRST_BUFFER_BYTES))
        self._start = self._end = 0
        self.deadline_s = float("inf")
        self.stopped = False

    def secure(self, context: ssl.SSLContext, within_s: float) -> bytes | None:
        """Speak TLS from now on, as the server; the peer's certificate in DER, if it shows one. Raises Lost, Late."""
        tick_s = self._connection.gettimeout()
        try:
            self._connection.settimeout(within_s)  # of the whole handshake
            secured = context.wrap_socket(self._connection, server_side=True, do_handshake_on_connect=False)
            self._connection = secured
            secured.do_handshake()
        except TimeoutError as error:
            raise Late from error
        except (OSError, ValueError) as error:
            raise Lost("no TLS") from error
        self._connection.settimeout(tick_s)
        return secured.getpeercert(binary_form=True)

    def speaks_tls(self, within_s: float) -> bool:
        """Whether the peer's first byte begins a handshake of TLS; it is left where it is. Raises Lost, Late."""
        tick_s = self._connection.gettimeout()
        try:
            self._connection.settimeout(within_s)
            first = self._connection.recv(1, socket.MSG_PEEK)
        except TimeoutError as error:
            raise Late from error
        except OSError as error:
            raise Lost("the connection broke") from error
        self._connection.settimeout(tick_s)
        return first == _TLS_HANDSHAKE

    def widen(self) -> None:
        """Take a buffer for data sets."""
        view = memoryview(bytearray(BUFFER_BYTES))
        count = self._end - self._start
        view[:count] = self._view[self._start : self._end]
        self._view, self._start, self._end = view, 0, count

    def exactly(self, count: int) -> memoryview:
        """The next bytes, good until the next call. ``count`` is less than the buffer. Raises Lost, Late."""
        while self._end - self._start < count:
            self._receive()
        return self._taken(count)

    def some(self, most: int) -> memoryview:
        """At least one of the next bytes and at most so many, good until the next call. Raises Lost, Late."""
        if self._start == self._end:
            self._receive()
        return self._taken(min(most, self._end - self._start))

    def await_first(self) -> None:
        """Wait until there is a byte. Raises Lost, Late."""
        if self._start == self._end:
            self._receive()

    def _taken(self, count: int) -> memoryview:
        start = self._start
        self._start = start + count
        return self._view[start : self._start]

    def _receive(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            count = self._end - self._start
            self._view[:count] = self._view[self._start : self._end]
            self._start, self._end = 0, count
        while True:
            try:
                count = self._connection.recv_into(self._view[self._end :])
            except TimeoutError:
                count = -1
            except OSError as error:
                raise Lost("the connection broke") from error
            if self.stopped:
                raise Lost("the server stops")
            if time.monotonic() > self.deadline_s:
                raise Late
            if count == 0:
                raise Lost("the connection was closed")
            if count > 0:
                self._end += count
                return

    def acknowledge(self) -> None:
        """Let the kernel acknowledge at once what came, and what comes next."""
        if self._acknowledges:
            assert _QUICK_ACKNOWLEDGEMENT is not None
            try:
                self._connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)
            except OSError as error:
                raise Lost("the connection broke") from error

    def has_arrived(self, within_s: float = 0.0) -> bool:
        """Whether reading would not wait: bytes are there, or the end, or come within a time."""
        if self._start != self._end:
            return True
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return True
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if not poll.poll(within_s * 1000):
            return False
        return not isinstance(self._connection, ssl.SSLSocket) or self._has_taken(self._connection)

    def _has_taken(self, connection: ssl.SSLSocket) -> bool:
        """Whether what arrived over TLS is more than TLS's own, such as tickets and keys; then it is in the buffer."""
        self._start = self._end = 0
        tick_s = connection.gettimeout()
        connection.settimeout(0)
        try:
            self._end = connection.recv_into(self._view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            return True  # whoever reads next finds it broken
        finally:
            connection.settimeout(tick_s)
        return True

    def pause(self, pause_s: float) -> None:
        """Leave what comes where it is for a while, or until it is stopped."""
        until_s = time.monotonic() + pause_s
        while not self.stopped and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _TICK_S))

    def send(self, data: bytes | bytearray, within_s: float) -> None:
        """Send all of it. Raises Lost, Late."""
        deadline_s = time.monotonic() + within_s
        view = memoryview(data)
        while view:
            try:
                view = view[self._connection.send(view) :]
            except TimeoutError:
                if time.monotonic() > deadline_s:
                    raise Late from None
            except OSError as error:
                raise Lost("the connection broke") from error

    def stop(self) -> None:
        """Wake the thread that reads, which finds the connection lost. From any thread."""
        self.stopped = True
        try:
            # Not SSLSocket.shutdown, which would take TLS away under the thread that uses it.
            socket.socket.shutdown(self._connection, socket.SHUT_RD)
        except OSError:
            return  # it is over already

    def close(self, linger_s: float) -> None:
        """Let the peer read what was sent last, at most so long, then close.

        Closing at once would reset the connection when something is unread, and with it lose what was sent.
        """
        deadline_s = time.monotonic() + linger_s
        with self._connection:
            try:
                socket.socket.shutdown(self._connection, socket.SHUT_WR)
                left = _DISCARDED_BYTES
                while left > 0 and time.monotonic() < deadline_s:
                    self._connection.settimeout(max(deadline_s - time.monotonic(), 0.001))
                    count = socket.socket.recv_into(self._connection, self._view)
                    if not count:
                        break
                    left -= count
            except OSError:
                return  # it is over already
