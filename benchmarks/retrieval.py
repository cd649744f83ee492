"""Frames a second, transcoded frames a second and megabytes a second of WADO-RS, from a gateway of its own.

::

    python -m benchmarks.retrieval [--seconds 5] [--connections 4]

The gateway runs as deployed (two HTTP workers) on a directory that goes away; the data is noise on a gradient, as hard
for a codec as a CT of 512 x 512 is.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tests.instances import data_set, part10_file
from tests.serving import Gateway

ROWS = COLUMNS = 512
FRAMES = 64
OCTETS = "application/octet-stream; transfer-syntax={}"
MULTIPART = 'multipart/related; type="application/octet-stream"; transfer-syntax={}'
EXPLICIT = "1.2.840.10008.1.2.1"
TRANSCODED = {
    "RLE .5": "image/dicom-rle",
    "JPEG lossless .70": "image/jpeg",
    "JPEG-LS .80": "image/jls",
    "JPEG-LS near-lossless .81": "image/jls; transfer-syntax=1.2.840.10008.1.2.4.81",
    "JPEG 2000 .90": "image/jp2",
    "JPEG 2000 .91": "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91",
    "HTJ2K .201": "image/jphc",
    "HTJ2K .202": "image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202",
    "HTJ2K .203": "image/jphc; transfer-syntax=1.2.840.10008.1.2.4.203",
}


def ct(frames: int) -> bytes:
    """A signed 12-bit CT of some frames."""
    noise = np.random.default_rng(1)
    gradient = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) - 500
    pixels = [(gradient + noise.normal(0, 12, (ROWS, COLUMNS))).astype("<i2").tobytes() for _ in range(frames)]
    attributes = {"NumberOfFrames": frames} if frames > 1 else {}
    return part10_file(
        data_set(
            Rows=ROWS,
            Columns=COLUMNS,
            BitsStored=12,
            HighBit=11,
            PixelRepresentation=1,
            PixelData=b"".join(pixels),
            **attributes,
        )
    )


def store(gateway: Gateway, body: bytes) -> str:
    """Store an instance; its path."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port)
    connection.request("POST", "/dicomweb/studies", body, {"Content-Type": "application/dicom"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    assert answer.status == 200, found
    connection.close()
    url = found["00081199"]["Value"][0]["00081190"]["Value"][0]
    return "/" + url.split("/", 3)[3]


class Meter:
    """Counts answers and bytes of several connections for a while."""

    def __init__(self, port: int, connections: int, seconds: float) -> None:
        self._port, self._connections, self._seconds = port, connections, seconds

    def run(self, paths: list[str], accept: str) -> tuple[float, float]:
        """Answers a second and MB a second."""
        counts: list[tuple[int, int]] = []
        end_s = time.perf_counter() + self._seconds
        threads = [
            threading.Thread(target=self._one, args=(paths, accept, number, end_s, counts))
            for number in range(self._connections)
        ]
        started_s = time.perf_counter()
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        took_s = time.perf_counter() - started_s
        assert len(counts) == self._connections, "a connection failed"
        return sum(number for number, _ in counts) / took_s, sum(size for _, size in counts) / took_s / 1e6

    def _one(self, paths: list[str], accept: str, number: int, end_s: float, counts: list[tuple[int, int]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        answers = size = 0
        while time.perf_counter() < end_s:
            path = paths[(number + answers) % len(paths)]
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            assert answer.status == 200, (path, accept, answer.status, answer.read(300))
            while block := answer.read(1 << 20):
                size += len(block)
            answers += 1
        connection.close()
        counts.append((answers, size))


def cpu_s(gateway: Gateway) -> float:
    """User and system time of the workers and of the imaging processes below them."""
    pids, found = list(gateway.workers()), 0.0
    while pids:
        process = Path(f"/proc/{pids.pop()}")
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for task in (process / "task").iterdir():
            pids += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--only-stored", action="store_true", help="leave the transcoding out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(Path(folder) / "data", Path(folder) / "log")
        gateway.start()
        try:
            singles = [store(gateway, ct(1)) for _ in range(50)]
            multi = store(gateway, ct(FRAMES))
            meter = Meter(gateway.http_port, arguments.connections, arguments.seconds)
            print(
                f"{os.cpu_count()} CPUs, {arguments.connections} connections, {arguments.seconds:g} s each, 512 x 512"
            )
            print("| what | answers/s | MB/s | CPU ms an answer |\n| --- | ---: | ---: | ---: |")

            def row(label: str, paths: list[str], accept: str) -> None:
                before_s, started_s = cpu_s(gateway), time.perf_counter()
                rate, size = meter.run(paths, accept)
                answers = rate * (time.perf_counter() - started_s)
                print(
                    f"| {label} | {rate:.1f} | {size:.1f} | {(cpu_s(gateway) - before_s) / answers * 1e3:.2f} |",
                    flush=True,
                )

            frames = [f"{path}/frames/1" for path in singles]
            row("stored frame, single part", frames, OCTETS.format("*"))
            row("stored frame, multipart", frames, MULTIPART.format("*"))
            row(
                "64 stored frames, multipart",
                [f"{multi}/frames/" + ",".join(map(str, range(1, 65)))],
                MULTIPART.format("*"),
            )
            row("one frame of a multi-frame", [f"{multi}/frames/{n}" for n in range(1, 65)], OCTETS.format("*"))
            row("whole instance of 0.5 MB", singles, "application/dicom; transfer-syntax=*")
            row("whole instance of 33 MB", [multi], "application/dicom; transfer-syntax=*")
            if not arguments.only_stored:
                for label, accept in TRANSCODED.items():
                    row(f"frame as {label}", frames, accept)
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
