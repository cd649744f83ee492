"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest
import uvloop

from storage.index.postgres import PostgresSettings
from storage.objects.s3 import S3Settings
from tests import engines as engine_pairs
from tests import postgres as postgres_server
from tests import requestors
from tests.engines import Engines
from tests.postgres import Postgres, drop_schema, new_schema
from tests.seaweedfs import SeaweedFS, new_bucket

requestors.configure()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the grid, which engines and how many workers; and of pictures to look at."""
    parser.addoption(
        "--engines",
        help="the pairs of engines that the interop suite runs on, with commas between; without it all, but what"
        " is marked `dealt` only those that it is dealt to",
    )
    parser.addoption("--screenshots", type=Path, metavar="DIR", help="where pictures of the console's pages are kept")
    parser.addoption("--face-workers", default="2", help="worker processes of each face in the interop suite (2)")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop of the workers."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What asks for engines runs on every pair, or on those that it is dealt to."""
    chosen = metafunc.config.getoption("--engines")
    dealt = metafunc.definition.get_closest_marker("dealt")
    pairs = chosen.split(",") if chosen else dealt.args if dealt else engine_pairs.PAIRS
    for fixture, scope in (("engines", "module"), ("own_engines", "function")):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, pairs, indirect=True, scope=scope)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes a minute begins first, or one worker would be at it when the others have nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


class Server(Protocol):
    """A server that tests share."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


@contextmanager
def shared_server(factory: pytest.TempPathFactory, name: str, start: Callable[[Path], Server]) -> Iterator[str]:
    """The address of a server that is started when the first test asks; xdist workers share one.

    The worker that starts it stops it again when no other worker uses it any more.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / name
    folder.mkdir(exist_ok=True)
    users = (folder / "users.lock").open("w")
    with users, (folder / "start.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        address = folder / "address"
        server = None
        if not address.exists():
            server = start(base / f"{name}-data")
            address.write_text(server.url)
        url = address.read_text()
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_UN)
        try:
            yield url
        finally:
            if server is not None:
                # The first keeps newcomers away, the second is granted when every other worker is done.
                fcntl.flock(starting, fcntl.LOCK_EX)
                fcntl.flock(users, fcntl.LOCK_EX)
                address.unlink()
                server.stop()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint URL of a SeaweedFS server."""
    with shared_server(tmp_path_factory, "seaweedfs", SeaweedFS) as url:
        yield url


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database on a PostgreSQL server; stays out where no server is installed, but not in CI."""
    if not postgres_server.is_installed() and os.environ.get("CI") != "true":
        pytest.skip("no PostgreSQL server (Debian package postgresql)")
    with shared_server(tmp_path_factory, "postgres", lambda _: Postgres()) as url:
        yield url


@pytest.fixture
def postgres_schema(postgres: str) -> Iterator[PostgresSettings]:
    """Settings for an empty schema of this test's own."""
    settings = new_schema(postgres)
    yield settings
    drop_schema(settings)


@pytest.fixture
def seaweedfs_bucket(seaweedfs: str) -> S3Settings:
    """Settings for a fresh, empty bucket of this test's own."""
    return new_bucket(seaweedfs)


@pytest.fixture(scope="module")
def engines(request: pytest.FixtureRequest) -> Iterator[Engines]:
    """A pair of engines of this module's own."""
    with engine_pairs.made(request.param, request) as found:
        yield found


@pytest.fixture
def own_engines(request: pytest.FixtureRequest) -> Iterator[Engines]:
    """A pair of engines of this test's own."""
    with engine_pairs.made(request.param, request) as found:
        yield found


@pytest.fixture(scope="session")
def face_workers(request: pytest.FixtureRequest) -> dict[str, str]:
    """How many workers each face has, as settings in the environment."""
    count = request.config.getoption("--face-workers")
    return {"GATEWAY_HTTP__WORKERS": count, "GATEWAY_DIMSE__WORKERS": count}
