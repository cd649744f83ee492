"""What the S3 store, its cache, its encryption and reading ahead cost and give, against a SeaweedFS of its own.

::

    python -m benchmarks.s3 [--seconds 2] [--instances 200] [--delay-ms 0 5]

First PUT, GET and ranged GET through our store beside obstore alone, which is the least that a request can cost here.
Then a series of 512 x 512 instances, read as WADO-RS reads it: one after the other, ahead, and from the cache; with
``--delay-ms`` also as from a store so far away.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore

from gateway.services.ahead import ReadAhead
from gateway.services.content import Content, joined
from storage.objects.base import ByteRange, ObjectReader, ObjectStore
from storage.objects.cached import CachedObjectStore
from storage.objects.encrypted import EncryptedObjectStore, MasterKeys
from storage.objects.memory import MemoryObjectStore
from storage.objects.read_cache import ReadCache
from storage.objects.s3 import S3ObjectStore
from tests.seaweedfs import SeaweedFS, new_bucket

SIZES = {"16 KB": 16 << 10, "526 KB": 526 << 10, "12 MB": 12 << 20}
INSTANCE_BYTES = 526 << 10
KEYS = MasterKeys("1", {"1": bytes(32)})


def rate(call: Callable[[str], object], threads: int, seconds: float) -> tuple[float, float]:
    """Calls a second, and milliseconds of this process's CPU for each; the call is given a name of its own."""
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def work(worker: int) -> None:
        while time.perf_counter() < until:
            call(f"{threads}-{worker}-{counts[worker]}")
            counts[worker] += 1

    begun, cpu = time.perf_counter(), time.process_time()
    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(threads)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    done = sum(counts)
    return done / (time.perf_counter() - begun), (time.process_time() - cpu) / done * 1000


def requests(store: S3ObjectStore, seconds: float) -> None:
    """PUT, GET and ranged GET."""
    raw = store._store
    for label, size in SIZES.items():
        data = os.urandom(size)
        store.put(f"read/{size}", [data])
        middle = size // 2
        part = ByteRange(middle, middle + min(8 << 10, middle))
        calls: dict[str, Callable[[str], Any]] = {
            "PUT": lambda name, size=size, data=data: store.put(f"put/{size}/{name}", [data]),
            "PUT obstore": lambda name, size=size, data=data: obstore.put(
                raw, f"raw/{size}/{name}", data, mode="create", use_multipart=False
            ),
            "GET": lambda _, size=size: store.get(f"read/{size}", ByteRange(0, size)),
            "GET whole, with digest": lambda _, size=size: store.get(f"read/{size}"),
            "GET obstore": lambda _, size=size: obstore.get(raw, f"read/{size}").bytes(),
            "GET 8 KB": lambda _, size=size, part=part: store.get(f"read/{size}", part),
            "GET 8 KB obstore": lambda _, size=size, part=part: obstore.get_range(
                raw, f"read/{size}", start=part.start, end=part.end
            ),
        }
        for name, call in calls.items():
            found = [rate(call, threads, seconds) for threads in (1, 8)]
            text = "".join(f"{per_second:9.0f}/s {cpu:7.2f} ms CPU" for per_second, cpu in found)
            print(f"{label:>7} {name:24}{text}")


class Far:
    """A store whose every read begins so much later."""

    def __init__(self, store: ObjectStore, delay_s: float) -> None:
        self._store = store
        self._delay_s = delay_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read_at(self, key: str, start: int, length: int) -> Any:
        time.sleep(self._delay_s)
        return self._store.read_at(key, start, length)

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        time.sleep(self._delay_s)
        with self._store.open(key, byte_range) as reader:
            yield reader


def series(store: S3ObjectStore, instances: int, delay_s: float, folder: Path) -> None:
    """A whole series, as its parts stand in a multipart."""
    far = Far(store, delay_s)
    cached = CachedObjectStore(far, ReadCache(folder / f"cache-{delay_s}", 1 << 30))
    encrypted = EncryptedObjectStore(far, KEYS, mixed=True)
    keys = [f"series/{number:04}" for number in range(instances)]
    sealed = [f"sealed/{number:04}" for number in range(instances)]
    if next(store.list("series/"), None) is None:
        data = os.urandom(INSTANCE_BYTES)
        for key, other in zip(keys, sealed, strict=True):
            store.put(key, [data])
            encrypted.put(other, [data])
    ways: list[tuple[str, ObjectStore, int, list[str]]] = [
        ("one after the other", far, 0, keys),
        *((f"{at_once} ahead", far, at_once, keys) for at_once in (4, 8, 16)),
        ("8 ahead, encrypted", encrypted, 8, sealed),
        ("8 ahead, cache empty", cached, 8, keys),
        ("8 ahead, from the cache", cached, 8, keys),
        ("from the cache", cached, 0, keys),
    ]
    for name, chosen, at_once, wanted in ways:
        ahead = ReadAhead(at_once) if at_once else None

        def piece(
            number: int, chosen: ObjectStore = chosen, wanted: list[str] = wanted, ahead: ReadAhead | None = ahead
        ) -> Content:
            def read(start: int, length: int) -> Iterator[bytes]:
                with chosen.open(wanted[number], ByteRange(start, start + length)) as reader:
                    yield from reader.blocks()

            return Content(INSTANCE_BYTES, read, ahead)

        whole = joined([INSTANCE_BYTES] * instances, piece)
        begun, cpu = time.perf_counter(), time.process_time()
        first_s, size = 0.0, 0
        for block in whole.read(0, whole.size):
            first_s = first_s or time.perf_counter() - begun
            size += len(block)
        took = time.perf_counter() - begun
        assert size == instances * INSTANCE_BYTES
        cpu_ms = (time.process_time() - cpu) / instances * 1000
        print(
            f"{delay_s * 1000:4.0f} ms away {name:24}{instances / took:8.0f} instances/s {size / took / 1e6:7.0f} MB/s"
            f"  first block after {first_s * 1000:5.1f} ms  {cpu_ms:6.2f} ms CPU"
        )
        if ahead:
            ahead.close()


def encryption() -> None:
    """What encryption alone costs, on 64 MB in memory."""
    store = EncryptedObjectStore(MemoryObjectStore(), KEYS, mixed=False)
    data = os.urandom(64 << 20)
    begun = time.perf_counter()
    store.put("object", [data])
    written = time.perf_counter()
    store.get("object")
    read = time.perf_counter()
    put, get = (len(data) / seconds / 1e6 for seconds in (written - begun, read - written))
    print(f"encryption: {put:.0f} MB/s put, {get:.0f} MB/s get")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement of requests")
    parser.add_argument("--instances", type=int, default=200, help="instances of the series")
    parser.add_argument("--delay-ms", type=float, nargs="*", default=[0, 5], help="how far away the store is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = SeaweedFS(Path(folder) / "weed")
        try:
            store = S3ObjectStore(new_bucket(server.url))
            encryption()
            requests(store, options.seconds)
            for delay_ms in options.delay_ms:
                series(store, options.instances, delay_ms / 1000, Path(folder))
            store.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
