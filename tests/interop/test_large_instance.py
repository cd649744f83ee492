"""An instance much larger than what a worker may hold: in by both protocols' spool, out by frame and whole."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from storage.dicom import file_meta
from tests.instances import CT, data_set, encode, text
from tests.serving import Gateway

pytestmark = pytest.mark.xdist_group("large")

FRAMES, ROWS, COLUMNS = 256, 1024, 1024
FRAME_BYTES = ROWS * COLUMNS
ALLOWED_GROWTH_KIB = 160 << 10


def frame(number: int) -> bytes:
    return struct.pack("<I", number) * (FRAME_BYTES // 4)


def part10_blocks(header: bytes) -> Iterator[bytes]:
    """A Part 10 file of 256 MiB that exists nowhere at once."""
    yield file_meta.write(file_meta.FileMeta(file_meta.EXPLICIT_VR_LITTLE_ENDIAN, CT, "1.2.3.4"))
    yield header
    yield struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, FRAMES * FRAME_BYTES)
    for number in range(FRAMES):
        yield frame(number)


def peaks(gateway: Gateway) -> dict[int, int]:
    """The largest resident size that each worker has had, in KiB."""
    found = {}
    for pid in gateway.workers():
        status = Path(f"/proc/{pid}/status").read_text()
        found[pid] = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    return found


def test_no_worker_holds_a_large_instance_in_memory(running: Gateway) -> None:
    found = data_set(
        Rows=ROWS, Columns=COLUMNS, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=None, SOPInstanceUID="1.2.3.4"
    )
    header = encode(found) + text(0x00280008, "IS", str(FRAMES))
    headers = {"Content-Type": "application/dicom"}
    requests.get(running.web + "/studies", timeout=30)
    before = peaks(running)
    answer = requests.post(running.web + "/studies", part10_blocks(header), headers=headers, timeout=300)
    assert answer.status_code == 200, answer.text
    url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    one = requests.get(f"{url}/frames/200", headers={"Accept": "application/octet-stream"}, timeout=60)
    assert one.content == frame(199)
    assert requests.get(f"{url}/metadata", timeout=60).json()[0]["00280008"]["Value"] == [FRAMES]
    digest = hashlib.sha256()
    with requests.get(
        url, headers={"Accept": "application/dicom; transfer-syntax=*"}, stream=True, timeout=300
    ) as whole:
        for block in whole.iter_content(1 << 20):
            digest.update(block)
    stored = next((running.directory / "archive" / "objects").rglob("1.2.3.4.*.dcm"))
    with stored.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == digest.hexdigest()
    after = peaks(running)
    assert before.keys() == after.keys()
    assert {pid: after[pid] - before[pid] for pid in before if after[pid] - before[pid] > ALLOWED_GROWTH_KIB} == {}
