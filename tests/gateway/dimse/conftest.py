"""A DIMSE server on the loopback, in this process."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from gateway.assembly import Core
from gateway.dimse.server import DimseServer
from gateway.services.ingest import IngestService
from gateway.services.projection import Projections
from gateway.services.query import QueryService
from storage.archive import Archive
from storage.index.arrivals import Conflicts
from storage.index.base import Index
from storage.objects.base import ObjectStore

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"

Serve = Callable[[Core], AbstractContextManager[DimseServer]]


@pytest.fixture
def serve() -> Serve:
    """Starts servers for a test's own core."""

    @contextmanager
    def start(core: Core) -> Iterator[DimseServer]:
        server = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
        server.start()
        try:
            yield server
        finally:
            server.stop(2.0)
        assert server.active == 0

    return start


@pytest.fixture
def server(core: Core, serve: Serve) -> Iterator[DimseServer]:
    """A server of ``core``; its spool is empty when the test is over."""
    with serve(core) as started:
        yield started
    assert list(core.spool.directory.iterdir()) == []


def with_engines(core: Core, *, objects: ObjectStore | None = None, index: Index | None = None) -> Core:
    """The same core on other engines."""
    query = QueryService(index or core.archive.index, core.door, core.settings.search)
    stored = dataclasses.replace(core.projections.stored, query=query)
    archive = Archive(objects or core.archive.objects, index or core.archive.index, core.limits)
    return dataclasses.replace(
        core,
        archive=archive,
        ingest=IngestService(archive, core.door, core.limits, Conflicts(), core.room),
        projections=Projections(core.door, stored, {}),
    )


class Engine:
    """Any engine, with some of its methods replaced."""

    def __init__(self, engine: Any, **replaced: Callable[..., Any]) -> None:
        self._engine = engine
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._engine, name)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does soon; there is no event of it to wait for."""
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come to it")


def find(
    server: DimseServer, model: str = STUDY_ROOT_FIND, *, calling: str = "FINDSCU", **keys: Any
) -> list[tuple[Dataset, Dataset | None]]:
    """Ask; every response with its identifier."""
    application_entity = AE(ae_title=calling)
    application_entity.add_requested_context(model)
    association = application_entity.associate(*server.address, ae_title="GATEWAY")
    assert association.is_established
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    found = list(association.send_c_find(identifier, model))
    association.release()
    return found
