"""The gateway on S3 beside the gateway on a local disk, and a frame through it beside the same bytes from S3 itself.

python -m benchmarks.object_stores DIRECTORY [--rounds N] [--count N]

The S3 store is a SeaweedFS of its own, with fsync. C-STORE is that of ``benchmarks.storing``, over 8 associations. A
frame is asked for once with nothing of it in the gateway's read cache, and again when it is there; the same client asks
S3 for the same range of the same object, by a signed URL. Every frame is compared with what S3 has. "Server ms" is the
processor time of who is asked; that of S3 while the gateway is asked is told below each row. It works on the same
processors, and counts neither as the gateway's nor as "others".
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import light_http, servers, storing
from benchmarks.comparing import HEADING, OCTETS, Candidate, Meter, Result, compare, wait_until_quiet
from benchmarks.light_http import Connection
from benchmarks.machine import PROCESSORS, new_file_us, processor_s, touch_memory
from benchmarks.servers import Running, Server
from benchmarks.storing import Row
from benchmarks.web_corpus import Study
from storage.objects.s3 import S3ObjectStore, S3Settings
from storage.objects.s3_clients import control_client, new_session
from tests.seaweedfs import SeaweedFS, new_bucket

_HERE = Path(__file__).resolve().parent.parent
_ROW = Row("CT 526 KB, 8 assoc., fsync", 512, 8, fsync=True)
_STUDIES, _INSTANCES, _PIXELS = 12, 20, 512
_FRAME_BYTES = 2 * _PIXELS * _PIXELS
_URL_S = 3600


def on_s3(bucket: S3Settings) -> dict[str, str]:
    """The settings of a gateway that keeps its objects in a bucket, below a prefix of this run."""
    return {
        "GATEWAY_STORAGE__OBJECTS": "s3",
        "GATEWAY_S3__ENDPOINT_URL": str(bucket.endpoint_url),
        "GATEWAY_S3__BUCKET": bucket.bucket,
        "GATEWAY_S3__ACCESS_KEY_ID": str(bucket.access_key_id),
        "GATEWAY_S3__SECRET_ACCESS_KEY": str(bucket.secret_access_key),
        "GATEWAY_S3__PREFIX": "run-{port}-{web_port}",
    }


def gateway(name: str, settings: Mapping[str, str]) -> Server:
    """This checkout's, with fsync."""
    return servers.gateway(name, _HERE, fsync=True, settings=settings)


class Frames:
    """The first frame of every instance, as the gateway is asked for it and as S3 is."""

    def __init__(self, at: Candidate, bucket: S3Settings) -> None:
        store, client = S3ObjectStore(bucket), control_client(new_session(bucket), bucket)
        keys = {each.key.rsplit("/", 1)[1].rsplit(".", 2)[0]: each for each in store.list("")}
        host = urlsplit(str(bucket.endpoint_url)).netloc
        self.through, self.direct = [], []
        for study in at.studies:
            for number, sop_uid in enumerate(study.sop_uids):
                found = keys[sop_uid]
                self.through.append(at.get(f"{study.path(number)}/frames/1", OCTETS))
                url = client.generate_presigned_url(
                    "get_object", {"Bucket": bucket.bucket, "Key": found.key}, ExpiresIn=_URL_S
                )
                # Pixel Data comes last, and as it is.
                span = f"Range: bytes={found.size - _FRAME_BYTES}-{found.size - 1}"
                self.direct.append(light_http.request(url.split(host, 1)[1], "*/*", span, host=host))
        store.close()


def frame_rows(candidates: list[Candidate], frames: Frames, rounds: int) -> None:
    """Latency of frames, each for the first time and then again."""
    through, direct = candidates
    asked = {through.name: frames.through, direct.name: frames.direct}
    share = len(frames.through) // rounds
    turns = dict.fromkeys(asked, 0)
    behind: list[float] = []

    def measured(at: Candidate) -> Result:
        # The first rounds ask for what nobody asked for before, the others for the same.
        start = turns[at.name] % rounds * share
        turns[at.name] += 1
        connection, taken_s = Connection(at.running.web_port), []
        meter, before_s = Meter(at.running.pid), processor_s(direct.running.pid)
        for each in asked[at.name][start : start + share]:
            started_s = time.monotonic()
            answer = connection.ask(each)
            taken_s.append(time.monotonic() - started_s)
            if answer.status not in (200, 206) or answer.length < _FRAME_BYTES:
                raise RuntimeError(f"{at.name}: a frame was answered {answer.status}, {answer.length} bytes")
        connection.close()
        if at is through:
            behind.append((processor_s(direct.running.pid) - before_s) / share)
        return meter.result(statistics.median(taken_s) * 1000, share)

    for name in ("frame 526 KB from S3, read cache empty", "frame 526 KB from S3, read cache full"):
        behind.clear()
        compare(name, "ms", measured, candidates, rounds)
        tell_behind(statistics.median(behind))
    check(candidates, frames)


def tell_behind(spent_s: float) -> None:
    """Tell what S3 spent for what the gateway was asked."""
    print(f"| | S3, behind the gateway | | | {spent_s * 1000:.2f} | |", flush=True)


def store_row(weed: SeaweedFS, given: argparse.Namespace, directory: Path) -> None:
    """C-STORE on S3 and on a local disk."""
    compete = [gateway("gateway on S3", on_s3(new_bucket(weed.url))), gateway("gateway on local disk", {})]
    before_s = processor_s(weed.pid)
    storing.compared(_ROW, compete, given, directory)
    # Each association stores one more when it begins.
    sent = given.rounds * (given.count // _ROW.associations + 1) * _ROW.associations
    tell_behind((processor_s(weed.pid) - before_s) / sent)


def check(candidates: list[Candidate], frames: Frames) -> None:
    """Raise RuntimeError unless both give the same pixels."""
    ours, theirs = (Connection(each.running.web_port) for each in candidates)
    for through, direct in zip(frames.through, frames.direct, strict=True):
        if theirs.ask(direct, keep=True).body not in ours.ask(through, keep=True).body:
            raise RuntimeError("a frame is not what S3 has")
    ours.close()
    theirs.close()


def frames(weed: SeaweedFS, directory: Path, rounds: int) -> None:
    """The rows of frames."""
    bucket = new_bucket(weed.url)
    server = gateway("gateway", on_s3(bucket))
    with server.running(directory / "frames") as running:
        at = Candidate(server.name, server.web_root, running)
        at.studies = [Study.of(number, _INSTANCES, _PIXELS) for number in range(_STUDIES)]
        at.store(at.studies)
        wait_until_quiet(at)
        port = urlsplit(weed.url).port
        assert port is not None
        direct = Candidate("S3 itself", "", Running(weed.pid, 0, port))
        frame_rows([at, direct], Frames(at, bucket), rounds)


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", type=Path, help="is there, on the disk that is meant; what is made in it goes away"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=400, help="instances of each run of C-STORE")
    given = parser.parse_args()
    # The store is no stranger: a run in which it worked is not to be made again.
    given.again = 0
    touch_memory()
    print(f"{PROCESSORS} processors, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds of {given.count} instances")
    with tempfile.TemporaryDirectory(prefix="object-stores-", dir=given.directory.resolve()) as folder:
        directory = Path(folder)
        print(f"a new file takes {new_file_us(directory):.0f} us to make\n")
        weed = SeaweedFS(directory / "weed", fsync=True)
        try:
            print(storing.HEADING)
            store_row(weed, given, directory)
            print(f"\n{HEADING}")
            frames(weed, directory, given.rounds)
        finally:
            weed.stop()
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
