"""WADO-RS."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array

from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.context import Caller, Source
from gateway.imaging.placeholder import thumbnail_placeholder
from storage.dicom import identifiers as ids
from tests.callers import THIS_MACHINE
from tests.gateway.dicomweb.conftest import Client, store
from tests.instances import SHARED, data_set, encode, extract, part10_file

EXPLICIT = "1.2.840.10008.1.2.1"
STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def wheel(name: str) -> bytes:
    found = get_testdata_file(name)
    assert isinstance(found, str)
    return Path(found).read_bytes()


def path_of(body: bytes) -> str:
    found = pydicom.dcmread(io.BytesIO(body), stop_before_pixels=True)
    return (
        f"/dicomweb/studies/{found.StudyInstanceUID}/series/{found.SeriesInstanceUID}/instances/{found.SOPInstanceUID}"
    )


def split(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Parts of a multipart body, by the standard library's own parser."""
    message = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    assert message.is_multipart()
    found = []
    for part in message.get_payload():  # type: ignore[union-attr]
        found.append((part["Content-Type"], part.get_payload(decode=True)))  # type: ignore[index,union-attr]
    return found


async def get(
    client: Client, path: str, accept: str | None = None, **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    if accept is not None:
        headers["Accept"] = accept
    async with client.get(path, headers=headers) as response:
        return response.status, await response.read(), response.headers


# Instances


async def test_an_instance_comes_back_as_it_was_stored(client: Client) -> None:
    found = data_set()
    await store(client, part10_file(found))
    status, body, headers = await get(client, path_of(part10_file(found)), "application/dicom; transfer-syntax=*")
    assert (status, headers["Content-Type"]) == (200, f"application/dicom; transfer-syntax={EXPLICIT}")
    assert body.endswith(encode(found))
    assert pydicom.dcmread(io.BytesIO(body)).PatientID == "T-1"


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
async def test_implicit_and_big_endian_go_out_explicit_and_equal_in_content(client: Client, name: str) -> None:
    sent = wheel(name)
    assert (await store(client, sent))[0] == 200
    status, body, headers = await get(client, path_of(sent), "application/dicom; transfer-syntax=*")
    assert (status, headers["Content-Type"]) == (200, f"application/dicom; transfer-syntax={EXPLICIT}")
    before, after = pydicom.dcmread(io.BytesIO(sent)), pydicom.dcmread(io.BytesIO(body))
    assert after.file_meta.TransferSyntaxUID == EXPLICIT
    assert np.array_equal(before.pixel_array, after.pixel_array)
    assert after.PatientName == before.PatientName


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small.dcm"])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
async def test_implicit_and_big_endian_are_never_served(client: Client, name: str, syntax: str) -> None:
    sent = wheel(name)
    await store(client, sent)
    resources = {path_of(sent): "application/dicom", f"{path_of(sent)}/frames/1": "application/octet-stream"}
    for path, asked in resources.items():
        for form in (asked, f'multipart/related; type="{asked}"'):
            assert (await get(client, path, f"{form}; transfer-syntax={syntax}"))[0] == 406


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_rle_2frame.dcm"]
)
async def test_compressed_instances_are_decompressed_when_no_syntax_is_named(client: Client, name: str) -> None:
    sent = wheel(name)
    await store(client, sent)
    status, body, headers = await get(client, path_of(sent), 'multipart/related; type="application/dicom"')
    assert status == 200
    ((content_type, part),) = split(headers["Content-Type"], body)
    assert content_type == f"application/dicom; transfer-syntax={EXPLICIT}"
    after = pydicom.dcmread(io.BytesIO(part))
    before = pydicom.dcmread(io.BytesIO(sent))
    reference = wheel("MR_small.dcm") if name.startswith("MR") else sent
    assert np.array_equal(pixel_array(pydicom.dcmread(io.BytesIO(reference))), after.pixel_array)
    status, body, _ = await get(client, path_of(sent), "application/dicom; transfer-syntax=*")
    assert pydicom.dcmread(io.BytesIO(body)).PixelData == before.PixelData


async def test_a_study_is_a_multipart_of_its_instances_with_locations(client: Client) -> None:
    one = data_set()
    two = data_set(StudyInstanceUID=one.StudyInstanceUID)
    await store(client, part10_file(one), part10_file(two))
    status, body, headers = await get(client, f"/dicomweb/studies/{one.StudyInstanceUID}", DICOM)
    assert status == 200
    parts = [pydicom.dcmread(io.BytesIO(part)).SOPInstanceUID for _, part in split(headers["Content-Type"], body)]
    assert sorted(parts) == sorted([one.SOPInstanceUID, two.SOPInstanceUID])


async def test_a_syntax_that_no_instance_has_is_406_and_one_that_some_have_is_206(client: Client) -> None:
    sent = wheel("MR_small_RLE.dcm")
    study = pydicom.dcmread(io.BytesIO(sent)).StudyInstanceUID
    patient = pydicom.dcmread(io.BytesIO(sent)).PatientID
    other = data_set(StudyInstanceUID=study, PatientID=patient)
    await store(client, sent, part10_file(other))
    base = f"/dicomweb/studies/{study}"
    syntax = 'multipart/related; type="application/dicom"; transfer-syntax={}'
    assert (await get(client, base, syntax.format("1.2.840.10008.1.2.4.50")))[0] == 406
    colour = wheel("SC_rgb_small_odd.dcm")
    await store(client, _moved(colour, study, patient))
    status, body, headers = await get(client, base, syntax.format("1.2.840.10008.1.2.4.50"))
    assert status == 206
    assert headers["Warning"].startswith("299")
    assert len(split(headers["Content-Type"], body)) == 1


def _moved(body: bytes, study: str, patient: str) -> bytes:
    found = pydicom.dcmread(io.BytesIO(body))
    found.StudyInstanceUID, found.PatientID = study, patient
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


# Metadata


async def test_metadata_has_absolute_bulk_data_uris_that_can_be_followed(client: Client) -> None:
    found = data_set()
    await store(client, part10_file(found))
    path = path_of(part10_file(found))
    _, body, _ = await get(client, f"{path}/metadata", "application/dicom+json")
    (metadata,) = json.loads(body)
    uri = metadata["7FE00010"]["BulkDataURI"]
    assert uri == f"http://127.0.0.1:{client.port}{path}/bulkdata/7FE00010"
    status, value, _ = await get(client, uri.partition(str(client.port))[2], "application/octet-stream")
    assert (status, value) == (200, bytes(range(32)))


async def test_series_metadata_is_one_gzip_body_that_follows_every_change(client: Client, core: Core) -> None:
    one = data_set(InstanceNumber=1)
    await store(client, part10_file(one))
    series = path_of(part10_file(one)).partition("/instances")[0]
    _, body, headers = await get(client, f"{series}/metadata", "application/dicom+json")
    first = headers["ETag"]
    assert len(json.loads(body)) == 1
    assert (await get(client, f"{series}/metadata", **{"If-None-Match": first}))[0] == 304
    two = data_set(StudyInstanceUID=one.StudyInstanceUID, SeriesInstanceUID=one.SeriesInstanceUID, InstanceNumber=2)
    await store(client, part10_file(two))
    _, body, headers = await get(client, f"{series}/metadata", "application/dicom+json")
    assert [each["00200013"]["Value"] for each in json.loads(body)] == [[1], [2]]
    assert headers["ETag"] != first
    _, plain, headers = await get(client, f"{series}/metadata", **{"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers
    assert json.loads(plain) == json.loads(body)


async def test_a_late_write_of_an_old_consolidated_body_is_not_served(client: Client, core: Core) -> None:
    one = data_set()
    await store(client, part10_file(one))
    series = path_of(part10_file(one)).partition("/instances")[0]
    caller = Caller(THIS_MACHINE, Source("test", "127.0.0.1"))
    stale = core.projections.stored.retrieve.locate(
        caller, ids.study_uid(one.StudyInstanceUID), ids.series_uid(one.SeriesInstanceUID), action=Action.READ
    )
    two = data_set(StudyInstanceUID=one.StudyInstanceUID, SeriesInstanceUID=one.SeriesInstanceUID, InstanceNumber=2)
    await store(client, part10_file(two))
    root = f"http://127.0.0.1:{client.port}/dicomweb"
    assert len(json.loads(zlib.decompress(core.projections.stored.retrieve.series_metadata(stale, root), 31))) == 2
    _, body, _ = await get(client, f"{series}/metadata")
    assert len(json.loads(body)) == 2


# Frames


async def test_frames_come_as_stored_or_uncompressed(client: Client) -> None:
    sent = wheel("SC_rgb_rle_2frame.dcm")
    await store(client, sent)
    path = path_of(sent)
    status, body, headers = await get(client, f"{path}/frames/2,1", STORED)
    assert status == 200
    parts = split(headers["Content-Type"], body)
    assert [content_type for content_type, _ in parts] == [
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.5"
    ] * 2
    from pydicom.encaps import generate_frames

    stored = list(generate_frames(pydicom.dcmread(io.BytesIO(sent)).PixelData, number_of_frames=2))
    assert [part for _, part in parts] == stored[::-1]
    status, body, headers = await get(client, f"{path}/frames/1", "application/octet-stream")
    assert headers["Content-Type"] == f"application/octet-stream; transfer-syntax={EXPLICIT}"
    pixels = pixel_array(pydicom.dcmread(io.BytesIO(sent)), index=0)
    planar = pydicom.dcmread(io.BytesIO(sent)).PlanarConfiguration
    assert body == (pixels.transpose(2, 0, 1) if planar else pixels).tobytes()


@pytest.mark.parametrize("name", ["MR_small_bigendian.dcm", "MR_small.dcm", "MR_small_implicit.dcm"])
async def test_native_frames_are_little_endian_whatever_the_stored_order(client: Client, name: str) -> None:
    sent = wheel(name)
    await store(client, sent)
    _, body, _ = await get(client, f"{path_of(sent)}/frames/1", "application/octet-stream")
    assert body == pydicom.dcmread(io.BytesIO(sent)).pixel_array.astype("<i2").tobytes()


async def test_a_deflated_instance_gives_its_frames(client: Client) -> None:
    found = data_set()
    sent = part10_file(found, "1.2.840.10008.1.2.1.99")
    await store(client, sent)
    _, body, _ = await get(client, f"{path_of(sent)}/frames/1", "application/octet-stream")
    assert body == bytes(range(32))


async def test_one_bit_frames_that_begin_within_a_byte_are_cut_out(client: Client) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (5, 9)).astype(np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    found = data_set(
        Rows=3,
        Columns=3,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        NumberOfFrames=5,
        PixelData=packed + b"\0" * (len(packed) % 2),
    )
    found["PixelData"].VR = "OB"
    await store(client, part10_file(found))
    for number in range(5):
        _, body, _ = await get(client, f"{path_of(part10_file(found))}/frames/{number + 1}", "application/octet-stream")
        assert np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")[:9].tolist() == bits[number].tolist()


@pytest.mark.parametrize(
    ("frames", "status"),
    [("0", 400), ("-1", 400), ("a", 400), ("1,", 400), ("2", 404), ("1,9", 404), ("1", 200), ("1,1", 200)],
)
async def test_frame_lists(client: Client, frames: str, status: int) -> None:
    body = part10_file(data_set())
    await store(client, body)
    assert (await get(client, f"{path_of(body)}/frames/{frames}", STORED))[0] == status


async def test_an_instance_without_pixels_has_no_frames(client: Client) -> None:
    body = part10_file(data_set(PixelData=None))
    await store(client, body)
    assert (await get(client, f"{path_of(body)}/frames/1", STORED))[0] == 404


# Rendered


async def test_a_rendered_frame_follows_the_window(client: Client) -> None:
    pixels = np.arange(16, dtype="<u2") * 100
    body = part10_file(data_set(PixelData=pixels.tobytes()))
    await store(client, body)
    status, picture, headers = await get(client, f"{path_of(body)}/rendered?window=750,1,linear-exact", "image/png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    shown = np.asarray(Image.open(io.BytesIO(picture)).convert("L")).ravel()
    assert shown.tolist() == [0] * 8 + [255] * 8
    status, picture, _ = await get(client, f"{path_of(body)}/frames/1/rendered?quality=50&viewport=8,8", "image/jpeg")
    assert Image.open(io.BytesIO(picture)).size == (8, 8)


@pytest.mark.parametrize(
    "query",
    [
        "window=1",
        "window=a,b",
        "window=1,0",
        "window=1,2,cubic",
        "quality=0",
        "quality=x",
        "viewport=1",
        "viewport=-1,5",
        "viewport=0,0",
    ],
)
async def test_rendering_parameters_out_of_form_are_400(client: Client, query: str) -> None:
    body = part10_file(data_set())
    await store(client, body)
    assert (await get(client, f"{path_of(body)}/rendered?{query}"))[0] == 400


async def test_a_frame_that_cannot_be_decoded_is_406_and_stays_retrievable(client: Client) -> None:
    sent = wheel("MR_small_RLE.dcm").replace(
        b"\x28\x00\x10\x00US\x02\x00\x40\x00", b"\x28\x00\x10\x00US\x02\x00\x80\x00"
    )
    assert (await store(client, sent))[0] == 200
    assert (await get(client, f"{path_of(sent)}/rendered"))[0] == 406
    assert (await get(client, f"{path_of(sent)}/frames/1", STORED))[0] == 200
    assert (await get(client, path_of(sent), DICOM))[0] == 200


async def test_thumbnails_exist_at_four_levels_and_hide_what_may_be_burned_in(client: Client) -> None:
    clear = part10_file(data_set())
    burned = part10_file(data_set(BurnedInAnnotation="YES"))
    await store(client, clear, burned)
    path = path_of(clear)
    for level in (path.partition("/series")[0], path.partition("/instances")[0], path, f"{path}/frames/1"):
        status, picture, _ = await get(client, f"{level}/thumbnail?accept=image%2Fjpeg", "*/*")
        assert status == 200
        assert max(Image.open(io.BytesIO(picture)).size) <= 128
    _, shown, _ = await get(client, f"{path_of(burned)}/thumbnail")
    assert shown == thumbnail_placeholder("CT").data


# All of it


@pytest.mark.parametrize("suffix", ["", "/metadata", "/rendered", "/thumbnail", "/frames/1", "/bulkdata/7FE00010"])
async def test_what_is_not_there_is_404_and_what_was_deleted_is_410(client: Client, core: Core, suffix: str) -> None:
    body = part10_file(data_set())
    path = path_of(body)
    assert (await get(client, path + suffix))[0] == 404
    await store(client, body)
    assert (await get(client, path + suffix))[0] == 200
    caller = Caller(THIS_MACHINE, Source("test", "127.0.0.1"))
    core.delete.delete(caller, extract(body[_offset(body) :]).study_uid)
    assert (await get(client, path + suffix))[0] == 410


def _offset(body: bytes) -> int:
    from storage.dicom import file_meta
    from storage.dicom.limits import Limits

    return file_meta.read(io.BytesIO(body), Limits())[1]


@pytest.mark.parametrize("suffix", ["", "/metadata", "/rendered", "/thumbnail", "/frames/1", "/bulkdata/7FE00010"])
async def test_a_known_etag_is_answered_with_304_and_head_with_no_body(client: Client, suffix: str) -> None:
    body = part10_file(data_set())
    await store(client, body)
    path = path_of(body) + suffix
    _, _, headers = await get(client, path)
    etag = headers["ETag"]
    status, empty, headers = await get(client, path, **{"If-None-Match": f'"x", W/{etag}'})
    assert (status, empty, headers["ETag"]) == (304, b"", etag)
    async with client.head(path) as response:
        assert response.status == 200
        assert await response.read() == b""


@pytest.mark.parametrize(
    "path", ["/studies/1.2/series/x", "/studies/a/metadata", "/studies/1.2/series/1.3/instances/../../x%00"]
)
async def test_identifiers_out_of_form_are_400_or_404(client: Client, path: str) -> None:
    assert (await get(client, "/dicomweb" + path))[0] in (400, 404)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
async def test_every_shared_file_that_is_stored_is_served_byte_for_byte_or_equal_in_content(
    client: Client, core: Core
) -> None:
    core.spool.max_bytes = 64 << 20
    seen: dict[str, Any] = {}
    for path in sorted(SHARED.rglob("*.dcm")):
        if {"malformed", "studies"} & set(path.parts):
            continue
        sent = path.read_bytes()
        status, answer = await store(client, sent)
        if status != 200:
            assert "StudyInstanceUID" in json.dumps(answer), path
            continue
        url = answer["00081199"]["Value"][0]["00081190"]["Value"][0].partition(str(client.port))[2]
        if url in seen:
            continue  # the same instance in another transfer syntax
        seen[url] = path
        status, body, _ = await get(client, url, "application/dicom; transfer-syntax=*")
        assert status == 200, path
        stored = pydicom.dcmread(path, force=True, stop_before_pixels=True).file_meta.get("TransferSyntaxUID", "")
        before, after = sent[_offset(sent) :], body[_offset(body) :]
        if stored in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2"):
            assert extract(before, stored).canonical_digest == extract(after).canonical_digest, path
        else:
            assert before == after, path
    assert len(seen) > 60
