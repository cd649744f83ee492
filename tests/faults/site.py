"""A gateway with engines of its own, and everything that can be done to them while it works."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.engines import Engines
from tests.faults.disk import Disk
from tests.faulty_proxy import Fault, FaultyProxy, Passed
from tests.postgres import Postgres
from tests.seaweedfs import ACCESS_KEY_ID, SECRET_ACCESS_KEY, SeaweedFS, new_bucket
from tests.serving import Gateway

_ENVIRONMENT = {"GATEWAY_STORAGE__MIN_FREE_BYTES": "0"}
"""A disk is to become really full."""
_TROUBLE = (
    Fault(status=500, code="InternalError"),
    Fault(status=503, code="SlowDown"),
    Fault(request_bytes=1000),
    Fault(lose_answer=True),
    Fault(response_bytes=1000),
    Fault(alter_request=True),
    Fault(shorten_response=100),
)


class Site:
    """A gateway on a pair of engines (tests.engines.PAIRS), and ``faults``: name, weight and deed of each.

    A deed hurts something and mends it again, all but the workers, which the supervisor replaces.
    """

    def __init__(self, directory: Path, pair: str, chance: random.Random, ends: ExitStack, *, disk_bytes: int) -> None:
        self._chance = chance
        self._ends = ends
        objects, index = pair.split("+")
        self.faults: dict[str, tuple[int, Callable[[], None]]] = {
            "a worker": (16, self._kill_worker),
            "what forks the workers": (2, self._kill_nursery),
            "the supervisor": (2, self._kill_supervisor),
            "everything": (2, self._kill_everything),
        }
        data = self._disk(directory, disk_bytes) if disk_bytes else directory
        sections: dict[str, dict[str, str]] = {}
        if objects == "s3":
            sections |= self._object_store(directory / "weed")
        if index == "postgres":
            sections |= self._database()
        self.gateway = Gateway(data / "data", directory / "gateway.log", Engines(sections), **_ENVIRONMENT)
        self.gateway.start()
        ends.callback(self.gateway.kill_all)

    # What there is

    def _disk(self, directory: Path, size: int) -> Path:
        disk = Disk(directory, size)
        disk.mount()
        self._ends.callback(disk.detach)

        def fill() -> None:
            disk.fill()
            time.sleep(self._chance.uniform(0.2, 1.5))
            disk.clear()

        self.faults["a full disk"] = (4, fill)
        return disk.mount_point

    def _object_store(self, folder: Path) -> dict[str, dict[str, str]]:
        server = SeaweedFS(folder)
        self._ends.callback(server.stop)
        proxy = FaultyProxy(server.url)
        self._ends.callback(proxy.stop)

        def kill() -> None:
            server.stop()
            time.sleep(self._chance.uniform(0.0, 1.0))
            server.start()

        def trouble() -> None:
            until_s = time.monotonic() + self._chance.uniform(0.3, 2.0)

            def plan(_: Passed) -> Fault | None:
                with proxy.lock:
                    proxy.passed.clear()
                    spoilt = time.monotonic() < until_s and self._chance.random() < 0.5
                    return self._chance.choice(_TROUBLE) if spoilt else None

            proxy.plan = plan
            time.sleep(max(0.0, until_s - time.monotonic()))

        self.faults["the object store"] = (1, kill)
        self.faults["trouble on the way to the object store"] = (4, trouble)
        bucket = new_bucket(server.url).bucket
        credentials = {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY}
        return {"storage": {"objects": "s3"}, "s3": {"endpoint_url": proxy.url, "bucket": bucket, **credentials}}

    def _database(self) -> dict[str, dict[str, str]]:
        server = Postgres()
        self._ends.callback(server.stop)

        def kill() -> None:
            server.kill()
            time.sleep(self._chance.uniform(0.0, 2.0))
            server.start()

        def halt() -> None:
            server.halt(self._chance.choice((signal.SIGINT, signal.SIGQUIT)))
            time.sleep(self._chance.uniform(0.0, 2.0))
            server.start()

        self.faults["the database"] = (3, kill)
        self.faults["the database, restarted"] = (2, halt)
        return {"index": {"engine": "postgres", "url": server.url}}

    # What is done to the gateway

    def _kill_worker(self) -> None:
        workers = self.gateway.workers()
        if workers:
            self.gateway.kill(self._chance.choice(workers))

    def _kill_nursery(self) -> None:
        self.gateway.kill(self.gateway.nursery())

    def _kill_supervisor(self) -> None:
        self.gateway.kill_supervisor()
        self.gateway.start()

    def _kill_everything(self) -> None:
        self.gateway.kill_all()
        self.gateway.start()


@contextmanager
def started(directory: Path, pair: str, chance: random.Random, *, disk_bytes: int = 0) -> Iterator[Site]:
    """A site that is taken down again; ``disk_bytes`` puts the gateway's files on a file system of their own."""
    with ExitStack() as ends:
        yield Site(directory, pair, chance, ends, disk_bytes=disk_bytes)
