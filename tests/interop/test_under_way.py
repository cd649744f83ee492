"""A large instance goes up to the bucket while it still arrives, whichever way it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from pydicom.uid import ExplicitVRLittleEndian

from storage.objects.s3 import S3Settings
from tests.instances import CT, data_set, encode, part10_file
from tests.raw_scu import RawScu
from tests.serving import Gateway
from tests.storage.objects.test_s3 import raw_client

pytestmark = pytest.mark.dealt("s3+postgres")

FRAME_BYTES = 1 << 21
FRAMES = 20


@pytest.fixture(autouse=True)
def on_s3(running: Gateway) -> None:
    """A local directory takes objects once they are whole."""
    if "s3" not in running.engines.sections:
        pytest.skip("only S3 takes parts of objects")


def large() -> Any:
    pixels = b"".join(bytes([number]) * FRAME_BYTES for number in range(FRAMES))
    return data_set(Rows=1024, Columns=1024, NumberOfFrames=FRAMES, PixelData=pixels)


def parts(gateway: Gateway) -> int:
    """So many parts has the server of what is not an object yet."""
    bucket = gateway.engines.sections["s3"]
    client = raw_client(
        S3Settings(bucket["endpoint_url"], bucket["bucket"], access_key_id=bucket["access_key_id"],
                   secret_access_key=bucket["secret_access_key"])
    )  # fmt: skip
    count = 0
    for upload in client.list_multipart_uploads(Bucket=bucket["bucket"]).get("Uploads", ()):
        answer = client.list_parts(Bucket=bucket["bucket"], Key=upload["Key"], UploadId=upload["UploadId"])
        count += len(answer.get("Parts", ()))
    return count


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def found(gateway: Gateway, sop_uid: str) -> bytes | None:
    """The instance, as it is searched for and retrieved."""
    instances = requests.get(f"{gateway.web}/instances?SOPInstanceUID={sop_uid}", timeout=60)
    if instances.status_code == 204 or not instances.json():
        return None
    url = instances.json()[0]["00081190"]["Value"][0]
    return requests.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60).content


def test_by_stow(running: Gateway) -> None:
    sent = large()
    body = part10_file(sent)

    def blocks() -> Iterator[bytes]:
        yield body[: 30 << 20]
        until(lambda: parts(running) >= 3)
        assert found(running, sent.SOPInstanceUID) is None
        yield body[30 << 20 :]

    answer = requests.post(
        f"{running.web}/studies", blocks(), headers={"Content-Type": "application/dicom"}, timeout=120
    )
    assert answer.status_code == 200, answer.text
    kept = found(running, sent.SOPInstanceUID)
    assert kept is not None
    assert kept.endswith(encode(sent))
    assert parts(running) == 0


@pytest.mark.parametrize("end", ["whole", "broken off"])
def test_by_c_store(running: Gateway, end: str) -> None:
    sent = large()
    with RawScu(("127.0.0.1", running.dimse_port), CT, ExplicitVRLittleEndian) as scu:
        fragments = list(scu.fragments(sent.SOPInstanceUID, encode(sent)))
        middle = len(fragments) * 3 // 4
        for each in fragments[:middle]:
            scu.association.dul.send_pdu(each)
        until(lambda: parts(running) >= 3)
        assert found(running, sent.SOPInstanceUID) is None
        if end == "broken off":
            scu.association.abort()
        else:
            with scu.answering():
                for each in fragments[middle:]:
                    scu.association.dul.send_pdu(each)
                answer = scu.answer()
            assert answer is not None
            assert answer.Status == 0
    until(lambda: parts(running) == 0)
    kept = found(running, sent.SOPInstanceUID)
    assert (kept is not None and kept.endswith(encode(sent))) == (end == "whole")
