"""One large instance into S3 while its sender is slower than the store: what is left to wait for after its last byte.

python -m benchmarks.large_uploads DIRECTORY [--megabytes N] [--megabytes-per-second N] [--rounds N] [--beside TREE]

The S3 store is a SeaweedFS of its own, with fsync. The instance is sent by STOW-RS at an even pace, as a network would
let it come. "After the last byte" is what the sender waits for the answer, which says that the instance is durable and
findable. ``--beside`` is another checkout, which takes turns with this one.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import servers
from benchmarks.machine import PROCESSORS, processor_s, touch_memory
from benchmarks.object_stores import on_s3
from benchmarks.servers import Running
from tests.instances import data_set, part10_file
from tests.seaweedfs import SeaweedFS, new_bucket

_HERE = Path(__file__).resolve().parent.parent
_FRAME_BYTES = 1 << 20


def instance(megabytes: int) -> bytes:
    """A native 16-bit image of so many frames of 1 MiB, which no two instances share."""
    pixels = os.urandom(_FRAME_BYTES) * megabytes
    return part10_file(data_set(Rows=512, Columns=1024, NumberOfFrames=megabytes, PixelData=pixels))


def paced(body: bytes, bytes_per_s: float, sent: list[float]) -> Iterator[bytes]:
    """The body at an even pace; the time at which its last byte is handed over is noted."""
    begun_s = time.monotonic()
    for start in range(0, len(body), _FRAME_BYTES):
        time.sleep(max(0.0, begun_s + start / bytes_per_s - time.monotonic()))
        block = body[start : start + _FRAME_BYTES]
        if start + len(block) == len(body):
            sent.append(time.monotonic())
        yield block


def stored(at: Running, body: bytes, bytes_per_s: float) -> tuple[float, float, float]:
    """Seconds in all, after the last byte, and of the gateway's processor time."""
    connection = http.client.HTTPConnection("127.0.0.1", at.web_port, timeout=600)
    sent: list[float] = []
    begun_s, spent_s = time.monotonic(), processor_s(at.pid)
    headers = {"Content-Type": "application/dicom", "Content-Length": str(len(body))}
    connection.request("POST", "/dicomweb/studies", paced(body, bytes_per_s, sent), headers)
    answer = connection.getresponse()
    told = answer.read()
    ended_s = time.monotonic()
    connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"not stored: {answer.status} {told[:500]!r}")
    return ended_s - begun_s, ended_s - sent[0], processor_s(at.pid) - spent_s


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", type=Path, help="is there, on the disk that is meant; what is made in it goes away"
    )
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--megabytes-per-second", type=float, default=50.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=Path, help="another checkout")
    given = parser.parse_args()
    touch_memory()
    pace = f"{given.megabytes} MiB at {given.megabytes_per_second:.0f} MiB/s"
    print(f"{PROCESSORS} processors, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds of {pace}\n")
    trees = {"gateway": _HERE, **({f"gateway of {given.beside.name}": given.beside.resolve()} if given.beside else {})}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory(prefix="large-uploads-", dir=given.directory.resolve()) as folder:
        weed = SeaweedFS(Path(folder) / "weed", fsync=True)
        try:
            for number in range(given.rounds):
                for name, tree in trees.items():
                    server = servers.gateway(name, tree, fsync=True, settings=on_s3(new_bucket(weed.url)))
                    with server.running(Path(folder) / f"{number}-{name.replace(' ', '-')}") as running:
                        body = instance(given.megabytes)
                        found[name].append(stored(running, body, given.megabytes_per_second * _FRAME_BYTES))
        finally:
            weed.stop()
    print("| | s in all | after the last byte | processor s |\n|---|---|---|---|")
    for name, runs in found.items():
        columns = [
            f"{statistics.median(each):.2f} ({min(each):.2f}-{max(each):.2f})" for each in zip(*runs, strict=True)
        ]
        print(f"| {name} | {' | '.join(columns)} |")
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
