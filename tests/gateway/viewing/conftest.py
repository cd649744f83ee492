"""A gateway with a de-identified view, which is brought up to date by hand."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.views import ViewSettings
from gateway.dicomweb.routes import routes
from gateway.dimse.server import DimseServer
from gateway.fhir.routes import routes as fhir_routes
from gateway.http import application, health
from gateway.viewing.following import Follower
from tests.gateway.dicomweb.conftest import Client

KEY = "ab" * 32


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"views": {"research": ViewSettings(key=KEY)}})


@pytest.fixture
def follower(core: Core) -> Follower:
    return assembly.view_follower(core.settings, "research", core.archive, core.views["research"], core.pool)


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, [*routes(), *fhir_routes(), *health.routes()]))


@pytest.fixture
def dimse(core: Core) -> Iterator[DimseServer]:
    server = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
    server.start()
    yield server
    server.stop(2.0)
