"""TLS for programs that have none: what they send in clear to a port of this machine goes on over TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def tunnel(address: tuple[str, int], context: ssl.SSLContext) -> Iterator[tuple[str, int]]:
    """Where to send to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, address, context), daemon=True).start()
        yield listening.getsockname()[:2]
        # Closing alone would not wake the thread that accepts.
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, address: tuple[str, int], context: ssl.SSLContext) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return
        secured = context.wrap_socket(socket.create_connection(address), server_hostname="localhost")
        secured.settimeout(60)
        threading.Thread(target=_through, args=(plain, secured), daemon=True).start()
        threading.Thread(target=_through, args=(secured, plain), daemon=True).start()


def _through(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        socket.socket.shutdown(sink, socket.SHUT_RDWR)
