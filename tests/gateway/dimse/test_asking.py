"""Questions to a peer that has an archive: how they end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.assembly import Core
from gateway.dimse.asking import Conditions, RemoteArchive
from gateway.dimse.ending import Aborted
from gateway.dimse.requesting import Address
from gateway.dimse.server import DimseServer
from gateway.services.spool import Spool


@contextmanager
def held_up(address: tuple[str, int], until: threading.Event) -> Iterator[int]:
    """A port that leads to a server, from when an event happens on."""

    def lead(near: socket.socket) -> None:
        until.wait(30)
        with near, socket.create_connection(address) as far:
            threading.Thread(target=through, args=(far, near), daemon=True).start()
            through(near, far)

    def through(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        leading = threading.Thread(target=lambda: lead(listening.accept()[0]), daemon=True)
        leading.start()
        yield int(listening.getsockname()[1])
        leading.join(30)


def test_what_is_stopped_while_it_asks_for_an_association_asks_nothing(
    server: DimseServer, core: Core, tmp_path: Path
) -> None:
    goes_on = threading.Event()
    with held_up(server.address, goes_on) as port:
        spool = Spool(tmp_path / "own", 1 << 20, 1 << 20)
        conditions = Conditions(core.settings.dimse, core.limits)
        archive = RemoteArchive(Address("GATEWAY", "127.0.0.1", port), conditions, spool)
        timer = threading.Timer(0.3, lambda: (archive.stop(), goes_on.set()))
        timer.start()
        with pytest.raises(Aborted, match="stopped"):
            list(archive.find("STUDY", {"StudyInstanceUID": ""}))
        timer.join()
        with pytest.raises(Aborted, match="stopped"):
            archive.gives_back()
