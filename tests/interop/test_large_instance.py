"""Instances much larger than what a worker may hold: in by the spool, out by frame, by range, in another order, whole.

``make large`` runs the same with 3 GB and prints what each process took.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from storage.dicom import file_meta
from tests.instances import CT, data_set, encapsulated, encode, text, uid
from tests.serving import Gateway, title

pytestmark = [pytest.mark.dealt("local+sqlite", "s3+postgres"), pytest.mark.xdist_group("large")]

PEAK_KIB = 256 << 10
IMAGING_BYTES = 2 << 30
BLOCK_BYTES = 1 << 20
OCTETS = "application/octet-stream; transfer-syntax=*"
MULTIPART = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
PART10 = "application/dicom; transfer-syntax=*"


@dataclass(frozen=True)
class Shape:
    """A 16-bit native image that exists nowhere at once: every block of 1 MiB repeats its own number."""

    frames: int
    rows: int
    columns: int

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.columns * 2

    def blocks(self) -> Iterator[bytes]:
        whole = self.frames * self.frame_bytes
        for number, start in enumerate(range(0, whole, BLOCK_BYTES)):
            yield (struct.pack("<I", number) * (BLOCK_BYTES // 4))[: whole - start]

    def part10(self, sop_uid: str) -> Iterator[bytes]:
        found = data_set(Rows=self.rows, Columns=self.columns, PixelData=None, SOPInstanceUID=sop_uid)
        yield file_meta.write(file_meta.FileMeta(file_meta.EXPLICIT_VR_LITTLE_ENDIAN, CT, sop_uid))
        yield encode(found) + text(0x00280008, "IS", str(self.frames))
        yield struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, self.frames * self.frame_bytes)
        yield from self.blocks()


def peaks(gateway: Gateway) -> dict[str, int]:
    """The largest resident size that each process of the gateway has had, in KiB."""
    found = {}
    for pid in gateway.workers():
        status = Path(f"/proc/{pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        found[f"{title(pid).removeprefix('gateway ')} {pid}"] = int(peak.split()[1])
    return found


def digest_of(answer: requests.Response) -> tuple[str, int]:
    found, size = hashlib.sha256(), 0
    for block in answer.iter_content(BLOCK_BYTES):
        found.update(block)
        size += len(block)
    return found.hexdigest(), size


def read(url: str, accept: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={"Accept": accept, **headers}, stream=True, timeout=600)


def stored_and_read(gateway: Gateway, shape: Shape) -> None:
    """Store an instance and read it in every way."""
    sop_uid = uid()
    headers = {"Content-Type": "application/dicom"}
    answer = requests.post(gateway.web + "/studies", shape.part10(sop_uid), headers=headers, timeout=600)
    assert answer.status_code == 200, answer.text
    url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    assert requests.get(f"{url}/metadata", timeout=60).json()[0]["00280008"]["Value"] == [shape.frames]
    pixels = hashlib.sha256()
    for block in shape.blocks():
        pixels.update(block)
    with read(f"{url}/bulkdata/7FE00010", "application/octet-stream") as whole:
        assert digest_of(whole) == (pixels.hexdigest(), shape.frames * shape.frame_bytes)
    with read(f"{url}/frames/{shape.frames}", OCTETS) as one:
        assert int(one.headers["Content-Length"]) == digest_of(one)[1] == shape.frame_bytes
    with read(f"{url}/frames/{shape.frames}/rendered?viewport=256,256", "image/jpeg") as picture:
        # A frame beyond what a job may use is refused before it is read; this one's worker is no worker of the gateway.
        expected = 200 if 2 * shape.frame_bytes <= IMAGING_BYTES else 406
        assert (picture.status_code, picture.headers["Content-Type"].partition("/")[0]) == (
            expected,
            "image" if expected == 200 else "application",
        )
    with read(f"{url}/frames/1", MULTIPART, Range=f"bytes={BLOCK_BYTES}-{2 * BLOCK_BYTES - 1}") as part:
        assert (part.status_code, digest_of(part)[1]) == (206, BLOCK_BYTES)
    every = ",".join(str(number) for number in range(1, shape.frames + 1))
    with read(f"{url}/frames/{every}", MULTIPART) as frames:
        assert digest_of(frames)[1] == int(frames.headers["Content-Length"])
    with read(url, PART10) as whole:
        digest, _ = digest_of(whole)
    with gateway.objects() as store:
        (stored,) = [info for info in store.list("") if f"/{sop_uid}." in info.key]
        kept = hashlib.sha256()
        with store.open(stored.key) as reader:
            for block in reader.blocks():
                kept.update(block)
        assert kept.hexdigest() == digest
    with read(url, 'multipart/related; type="application/dicom"') as whole:
        assert digest_of(whole)[1] == int(whole.headers["Content-Length"]) > stored.size
    if shape.frames > 1:
        for accept in ("application/dicom; transfer-syntax=1.2.840.10008.1.2.4.201", "application/zip"):
            with read(url, accept) as whole:
                assert whole.status_code == 200
                assert digest_of(whole)[1] > 0
    with gateway.objects() as store:
        store.delete(stored.key)


@pytest.mark.parametrize("shape", [Shape(128, 1024, 1024), Shape(1, 16384, 8192)], ids=["many frames", "one frame"])
def test_no_worker_holds_a_large_instance_in_memory(running: Gateway, shape: Shape) -> None:
    stored_and_read(running, shape)
    found = peaks(running)
    assert {name.partition("-")[0] for name in found} == {"http", "dimse", "background"}
    assert {name: peak for name, peak in found.items() if peak > PEAK_KIB} == {}


def test_a_frame_too_large_to_decode_is_refused_and_stays_retrievable(running: Gateway) -> None:
    rle = "1.2.840.10008.1.2.5"
    found = data_set(Rows=40_000, Columns=40_000, PixelData=None)
    meta = file_meta.write(file_meta.FileMeta(rle, CT, found.SOPInstanceUID))
    body = meta + encode(found) + encapsulated(bytes(64))
    answer = requests.post(running.web + "/studies", body, headers={"Content-Type": "application/dicom"}, timeout=60)
    assert answer.status_code == 200, answer.text
    url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    refused = requests.get(f"{url}/frames/1", headers={"Accept": "application/octet-stream"}, timeout=60)
    assert (refused.status_code, "3200000000 bytes decoded" in refused.json()["detail"]) == (406, True)
    stored = requests.get(f"{url}/frames/1", headers={"Accept": OCTETS}, timeout=60)
    assert (stored.status_code, stored.content) == (200, bytes(64))


@pytest.mark.large
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", [Shape(1536, 1024, 1024), Shape(1, 40_000, 40_000)], ids=["many frames", "one frame"])
def test_three_gigabytes(running: Gateway, shape: Shape, capsys: pytest.CaptureFixture[str]) -> None:
    stored_and_read(running, shape)
    found = peaks(running)
    size = shape.frames * shape.frame_bytes / 1e9
    took = ", ".join(f"{name.split()[0]} {peak >> 10}" for name, peak in found.items())
    with capsys.disabled():
        sys.stdout.write(f"\n{size:.1f} GB in {shape.frames} frames; peak resident MiB: {took}\n")
    assert {name: peak for name, peak in found.items() if peak > PEAK_KIB} == {}
