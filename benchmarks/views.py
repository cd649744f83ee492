"""What reading through a de-identified view costs, beside the same reads of the archive as it is stored.

::

    python -m benchmarks.views [--seconds 2] [--rounds 5]

A gateway as deployed, one HTTP worker; the same answers are asked for as stored and through the view, in turn in every
round, over kept connections. The figures are the worker's processor time for an answer, and the time until it was
whole. How fast a view is filled is told first.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import pydicom

from benchmarks.retrieval import cpu_s, ct, store
from tests.instances import part10_file, uid
from tests.serving import Gateway

VIEW = "/views/research/dicomweb"
INSTANCES = 100


def get(gateway: Gateway, path: str, accept: str = "application/dicom+json") -> bytes:
    """One answer."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port)
    connection.request("GET", path, headers={"Accept": accept})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (200, 204), (answer.status, body[:300])
    return body


def measured(gateway: Gateway, paths: list[str], accept: str, seconds: float) -> tuple[float, float]:
    """Microseconds of the worker's processor for an answer, and median microseconds until it was whole."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port)
    before_s, times, end_s = cpu_s(gateway), [], time.perf_counter() + seconds
    while (begun_s := time.perf_counter()) < end_s:
        connection.request("GET", paths[len(times) % len(paths)], headers={"Accept": accept, "Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body[:300])
        times.append(time.perf_counter() - begun_s)
    connection.close()
    return (cpu_s(gateway) - before_s) / len(times) * 1e6, statistics.median(times) * 1e6


def paths(root: str, found: list[dict[str, dict[str, list[str]]]]) -> dict[str, list[str]]:
    """What is asked for below a service root, of the instances that it has."""
    uids = [tuple(each[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")) for each in found]
    series = f"{root}/studies/{uids[0][0]}/series/{uids[0][1]}"
    return {
        "QIDO of one study": [f"{root}/studies?limit=1"],
        "metadata of a series": [f"{series}/metadata"],
        "metadata of an instance": [f"{series}/instances/{sop}/metadata" for _, _, sop in uids],
        "frame of 0.5 MB": [f"{series}/instances/{sop}/frames/1" for _, _, sop in uids],
        "whole instance": [f"{series}/instances/{sop}" for _, _, sop in uids],
    }


_ACCEPT = {
    "frame of 0.5 MB": "application/octet-stream; transfer-syntax=*",
    "whole instance": "application/dicom; transfer-syntax=*",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        views = json.dumps({"research": {"key": "ab" * 32}})
        gateway = Gateway(folder / "data", folder / "log", GATEWAY_HTTP__WORKERS="1", GATEWAY_VIEWS=views)
        gateway.start()
        try:
            image = pydicom.dcmread(io.BytesIO(ct(1)))
            begun_s = time.monotonic()
            for number in range(INSTANCES):
                image.SOPInstanceUID, image.InstanceNumber = uid(), number + 1
                store(gateway, part10_file(image))
            stored_s = time.monotonic()
            while len(found := json.loads(get(gateway, f"{VIEW}/instances?limit=1000") or b"[]")) < INSTANCES:
                time.sleep(0.05)
            shown_s = time.monotonic()
            print(
                f"{INSTANCES} instances stored in {stored_s - begun_s:.1f} s, "
                f"and all in the view {shown_s - stored_s:.1f} s later"
            )
            ways = {
                "as stored": paths("/dicomweb", json.loads(get(gateway, "/dicomweb/instances?limit=1000"))),
                "view": paths(VIEW, found),
            }
            times: dict[tuple[str, str], list[tuple[float, float]]] = {}
            for _ in range(arguments.rounds):
                for kind in ways["view"]:
                    for way, asked in ways.items():
                        accept = _ACCEPT.get(kind, "application/dicom+json")
                        times.setdefault((kind, way), []).append(
                            measured(gateway, asked[kind], accept, arguments.seconds)
                        )
        finally:
            gateway.stop()
    print("| what | CPU µs, as stored | view | ratio | time µs, as stored | view | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in ways["view"]:
        plain, shown = (
            [statistics.median(each) for each in zip(*times[kind, way], strict=True)] for way in ("as stored", "view")
        )
        print(
            f"| {kind} | {plain[0]:.0f} | {shown[0]:.0f} | {shown[0] / plain[0]:.2f} "
            f"| {plain[1]:.0f} | {shown[1]:.0f} | {shown[1] / plain[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
