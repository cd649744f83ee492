"""What is kept in HTJ2K beside what was sent: served without encoding, and by ranges a picture that gets sharper."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
from collections.abc import Callable
from itertools import accumulate

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from gateway import assembly
from gateway.assembly import Core
from gateway.config.keeping import RecompressionRule
from gateway.services.recompress import RecompressionService
from storage import reconcile
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_wado import get, path_of, split
from tests.instances import data_set, part10_file

HTJ2K = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203))
RPCL = HTJ2K[1]


def pixels(number: int = 0) -> np.ndarray:
    y, x = np.mgrid[:320, :320]
    return np.round(900 * np.sin((x + 40 * number) / 37) * np.cos(y / 29) + (x * y % 7)).astype("<i2")


def instance(frames: int = 2) -> bytes:
    return part10_file(
        data_set(
            Rows=320,
            Columns=320,
            PixelRepresentation=1,
            NumberOfFrames=frames,
            PixelData=b"".join(pixels(number).tobytes() for number in range(frames)),
        )
    )


@pytest.fixture
def recompress(core: Core) -> Callable[[], int]:
    """Makes what is to be made now; how many."""

    def made() -> int:
        with assembly.gentle_pool(core) as pool:
            service = RecompressionService(
                core.archive, pool, core.spool, core.room, [RecompressionRule(name="all")],
                condenser=assembly.condenser(core, pool), after_s=0.0, holder="test", now=lambda: time.time() + 60,
            )  # fmt: skip
            return sum(step.left is None for step in service.round())

    return made


def tile_parts(codestream: bytes) -> list[int]:
    """Where each tile part of a codestream ends, one a resolution, as its TLM tells (ISO/IEC 15444-1 A.7.1)."""
    place, lengths = 2, b""
    while (marker := struct.unpack_from(">H", codestream, place)[0]) != 0xFF90:
        (length,) = struct.unpack_from(">H", codestream, place + 2)
        if marker == 0xFF55:
            lengths = codestream[place + 6 : place + 2 + length]
        place += 2 + length
    sizes = [struct.unpack_from(">I", lengths, start + 2)[0] for start in range(0, len(lengths), 6)]
    return list(accumulate([place, *sizes]))[1:]


@pytest.mark.parametrize("syntax", HTJ2K)
async def test_frames_and_instances_are_served_without_encoding(
    client: Client, core: Core, recompress: Callable[[], int], syntax: str
) -> None:
    sent = instance()
    await store(client, sent)
    before = await get(client, path_of(sent), "application/dicom; transfer-syntax=*")
    assert recompress() == 1
    core.pool.close()  # whoever needs a worker from here on is answered 503
    single = f"application/octet-stream; transfer-syntax={syntax}"
    status, first, headers = await get(client, f"{path_of(sent)}/frames/1", single)
    assert (status, headers["Content-Type"], int(headers["Content-Length"])) == (200, single, len(first))
    assert np.array_equal(imagecodecs.jpeg2k_decode(first), pixels(0))
    both = f'multipart/related; type="application/octet-stream"; transfer-syntax={syntax}'
    for path in ("frames/1,2", "pixeldata", "bulkdata", "bulkdata/7FE00010"):
        status, body, headers = await get(client, f"{path_of(sent)}/{path}", both)
        assert status == 200
        parts = split(headers["Content-Type"], body)
        assert [content_type for content_type, _ in parts] == [single] * 2
        for number, (_, frame) in enumerate(parts):
            assert np.array_equal(imagecodecs.jpeg2k_decode(frame), pixels(number))
    asked = f"application/dicom; transfer-syntax={syntax}"
    status, whole, headers = await get(client, path_of(sent), asked)
    assert (status, headers["Content-Type"]) == (200, asked)
    multipart = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
    status, body, headers = await get(client, path_of(sent), multipart)
    assert status == 200
    ((_, part),) = split(headers["Content-Type"], body)
    status, archive, _ = await get(client, path_of(sent), f"application/zip; transfer-syntax={syntax}")
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        (packed,) = (zipped.read(name) for name in zipped.namelist() if "DICOMDIR" not in name)
    for made in (whole, part, packed):
        found = pydicom.dcmread(io.BytesIO(made))
        assert found.file_meta.TransferSyntaxUID == syntax
        assert "PrivateInformation" not in found.file_meta, "what the archive notes for itself stays there"
        frames = list(generate_frames(found.PixelData, number_of_frames=2))
        assert np.array_equal(imagecodecs.jpeg2k_decode(frames[1]), pixels(1))
    # What was sent is what everybody else gets, and under the same entity tag.
    after = await get(client, path_of(sent), "application/dicom; transfer-syntax=*")
    assert (after[1], after[2]["ETag"]) == (before[1], before[2]["ETag"])
    status, _, headers = await get(client, path_of(sent), asked, Range="bytes=100-299")
    assert (status, headers["Content-Range"]) == (206, f"bytes 100-299/{len(whole)}")


async def test_a_range_of_a_frame_is_a_smaller_picture_of_it(
    client: Client, core: Core, recompress: Callable[[], int]
) -> None:
    sent = instance()
    await store(client, sent)
    recompress()
    core.pool.close()
    path, asked = f"{path_of(sent)}/frames/2", f"application/octet-stream; transfer-syntax={RPCL}"
    status, head, headers = await get(client, path, asked, Range="bytes=0-511")
    assert status == 206
    size, etag = int(headers["Content-Range"].rpartition("/")[2]), headers["ETag"]
    ends = tile_parts(head)
    assert len(ends) == 6
    assert size - ends[-1] in (2, 3)  # EOC, and a byte that makes the length of the fragment even
    got, last = head, 0
    for resolution, end in enumerate(ends):
        if end > len(got):
            more = {"Range": f"bytes={len(got)}-{end - 1}", "If-Range": etag}
            status, body, headers = await get(client, path, asked, **more)
            assert (status, headers["ETag"]) == (206, etag)
            got += body
        skipped = len(ends) - 1 - resolution
        picture = imagecodecs.htj2k_decode(got[:end], skipres=skipped)
        assert picture.shape == (320 >> skipped, 320 >> skipped)
        assert end > last
        last = end
        if skipped == 2:
            assert len(got) < size / 4
            # It is the picture: what every fourth sample of a smoothed one says, but for the wavelet's own filter.
            blocks = pixels(1).reshape(80, 4, 80, 4).mean((1, 3))
            assert np.corrcoef(blocks.ravel(), picture.ravel())[0, 1] > 0.98
            # A decoder that has the whole gives the same: nothing else decides what is seen meanwhile.
            whole = (await get(client, path, asked))[1]
            assert np.array_equal(imagecodecs.htj2k_decode(whole, skipres=2), picture)
    assert np.array_equal(imagecodecs.jpeg2k_decode(got + b"\xff\xd9"), pixels(1))


async def test_ranges_of_a_multipart_of_frames_fit_together(
    client: Client, core: Core, recompress: Callable[[], int]
) -> None:
    sent = instance()
    await store(client, sent)
    recompress()
    core.pool.close()
    path, asked = f"{path_of(sent)}/frames/1,2", f'multipart/related; type="image/jphc"; transfer-syntax={RPCL}'
    status, whole, headers = await get(client, path, asked)
    assert status == 200
    middle = len(whole) // 2
    pieces = [
        (await get(client, path, asked, **{"Range": span, "If-Range": headers["ETag"]}))[1]
        for span in (f"bytes=0-{middle - 1}", f"bytes={middle}-")
    ]
    assert b"".join(pieces) == whole


async def test_the_entity_tag_says_which_bytes_they_are(client: Client, recompress: Callable[[], int]) -> None:
    sent = instance(1)
    await store(client, sent)
    asked = {
        f"{path_of(sent)}/frames/1": f"application/octet-stream; transfer-syntax={RPCL}",
        path_of(sent): f"application/dicom; transfer-syntax={RPCL}",
    }
    before = {path: (await get(client, path, accept))[2]["ETag"] for path, accept in asked.items()}
    recompress()
    for path, accept in asked.items():
        _, _, headers = await get(client, path, accept)
        assert headers["ETag"] != before[path]
        assert (await get(client, path, accept, **{"If-None-Match": headers["ETag"]}))[0] == 304


async def test_a_search_names_both_transfer_syntaxes_and_a_deletion_takes_both(
    client: Client, core: Core, recompress: Callable[[], int]
) -> None:
    sent = instance(1)
    await store(client, sent)
    recompress()
    study = path_of(sent).split("/series/")[0]
    _, body, _ = await get(client, f"{study}/instances?includefield=AvailableTransferSyntaxUID")
    ((found,),) = ([each["00083002"]["Value"] for each in json.loads(body)],)
    assert sorted(found) == ["1.2.840.10008.1.2.1", RPCL]
    assert len(list(core.archive.objects.list("main/"))) == 2
    async with client.delete(study) as response:
        assert response.status == 204
        undo = response.headers["Location"]
    asked = f"application/octet-stream; transfer-syntax={RPCL}"
    assert (await get(client, f"{path_of(sent)}/frames/1", asked))[0] == 410
    # Whoever deletes one instance, of which two objects go, is told of one.
    async with client.get("/dicomweb/deletions") as response:
        assert [each["versions"] for each in await response.json()] == [1]
    async with client.post(f"{undo.partition('/dicomweb')[1]}{undo.partition('/dicomweb')[2]}/undo") as response:
        assert (response.status, await response.json()) == (200, {"restored": 1})
    core.pool.close()
    assert (await get(client, f"{path_of(sent)}/frames/1", asked))[0] == 200
    async with client.delete(study) as response:
        assert response.status == 204
    reconcile.purge(core.archive, 0.0, time.time() + 60)
    assert [info.key for info in core.archive.objects.list("main/") if info.key.endswith(".dcm")] == []


async def test_a_newer_version_is_never_served_with_what_was_made_of_the_older(
    client: Client, recompress: Callable[[], int]
) -> None:
    older = pydicom.dcmread(io.BytesIO(instance(1)))
    await store(client, part10_file(older))
    recompress()
    newer = pydicom.dcmread(io.BytesIO(part10_file(older)))
    newer.PixelData, newer.StudyDescription = pixels(5).tobytes(), "corrected"
    await store(client, part10_file(newer))
    path, asked = f"{path_of(part10_file(older))}/frames/1", f"application/octet-stream; transfer-syntax={RPCL}"
    for _ in range(2):
        assert np.array_equal(imagecodecs.jpeg2k_decode((await get(client, path, asked))[1]), pixels(5))
        assert recompress() in (0, 1)
