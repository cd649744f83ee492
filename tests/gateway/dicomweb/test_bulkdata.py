"""Bulk data: single values, and all of a study, series or instance."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from gateway.assembly import Core
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_transcoding import ct
from tests.gateway.dicomweb.test_wado import EXPLICIT, STORED, get, path_of, split, wheel
from tests.instances import SHARED, data_set, part10_file

OCTETS = 'multipart/related; type="application/octet-stream"'
RLE = "1.2.840.10008.1.2.5"


def with_values(**attributes: object) -> pydicom.Dataset:
    """An instance with a long value of its own, one in a nested item, and pixels."""
    found = data_set(**attributes)
    found.add_new(0x00420011, "OB", bytes(range(256)) * 8)
    inner, outer = pydicom.Dataset(), pydicom.Dataset()
    inner.add_new(0x54001010, "OW", bytes(range(256)) * 16)
    outer.WaveformSequence = pydicom.Sequence([pydicom.Dataset(), inner])
    found.add_new(0x00400555, "SQ", pydicom.Sequence([outer]))
    return found


def locations(body: bytes) -> list[str]:
    found = re.findall(rb"Content-Location: (\S+)", body)
    return [each.decode().partition("/instances/")[2].partition("/")[2] for each in found]


@pytest.mark.parametrize("syntax", [EXPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"])
async def test_values_in_nested_items_are_found_by_their_uri_and_little_endian(client: Client, syntax: str) -> None:
    found = with_values()
    sent = part10_file(found, syntax)
    if syntax == "1.2.840.10008.1.2.2":
        found = pydicom.dcmread(io.BytesIO(sent))
    assert (await store(client, sent))[0] == 200
    _, body, _ = await get(client, f"{path_of(sent)}/metadata")
    (metadata,) = json.loads(body)
    nested = metadata["00400555"]["Value"][0]["54000100"]["Value"][1]["54001010"]["BulkDataURI"]
    path = nested.partition(str(client.port))[2]
    assert path.endswith("/bulkdata/00400555.1.54000100.2.54001010")
    raw = found[0x00400555].value[0].WaveformSequence[1].WaveformData
    expected = np.frombuffer(raw, "<u2").byteswap().tobytes() if syntax == "1.2.840.10008.1.2.2" else raw
    _, single, headers = await get(client, path, "application/octet-stream")
    assert (single, headers["Content-Type"]) == (expected, "application/octet-stream")
    _, multi, headers = await get(client, path, OCTETS)
    assert [part for _, part in split(headers["Content-Type"], multi)] == [expected]
    status, piece, _ = await get(client, path, "application/octet-stream", Range="bytes=101-2000")
    assert (status, piece) == (206, expected[101:2001])
    status, piece, _ = await get(client, path, OCTETS, Range="bytes=101-2000")
    assert (status, piece) == (206, multi[101:2001])


@pytest.mark.parametrize("level", ["instance", "series", "study"])
async def test_all_bulk_data_of_a_resource(client: Client, level: str) -> None:
    one = with_values()
    uids = {"StudyInstanceUID": one.StudyInstanceUID, "SeriesInstanceUID": one.SeriesInstanceUID}
    two = pydicom.dcmread(io.BytesIO(wheel("SC_rgb_rle_2frame.dcm")))
    two.update(uids)
    two.PatientID = one.PatientID
    buffer = io.BytesIO()
    two.save_as(buffer)
    await store(client, part10_file(one), buffer.getvalue())
    path = path_of(part10_file(one))
    if level != "instance":
        path = path.partition("/instances" if level == "series" else "/series")[0]
    frames = list(generate_frames(two.PixelData, number_of_frames=2))
    native = [f"bulkdata/{each}" for each in ("00400555.1.54000100.2.54001010", "00420011", "7FE00010")]
    for suffix in ("/bulkdata", ""):
        status, body, headers = await get(client, path + suffix, STORED)
        assert status == 200
        parts = split(headers["Content-Type"], body)
        assert [part for _, part in parts[-5 if level != "instance" else 0 :] if part in frames] == (
            [] if level == "instance" else frames
        )
        assert sorted(locations(body)) == sorted(native + ([] if level == "instance" else ["frames/1", "frames/2"]))
        kinds = {kind for kind, _ in parts}
        assert f"application/octet-stream; transfer-syntax={EXPLICIT}" in kinds
    _, body, headers = await get(client, f"{path}/pixeldata", STORED)
    assert sorted(locations(body)) == sorted(native[2:] + ([] if level == "instance" else ["frames/1", "frames/2"]))
    etag = headers["ETag"]
    assert (await get(client, f"{path}/pixeldata", STORED, **{"If-None-Match": etag}))[0] == 304
    async with client.head(f"{path}/bulkdata", headers={"Accept": STORED}) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_pixel_data_comes_in_the_syntax_that_is_asked_for(client: Client) -> None:
    sent = ct(2)
    await store(client, sent)
    path = path_of(sent)
    for suffix in ("/pixeldata", "/bulkdata", "/bulkdata/7FE00010"):
        _, body, headers = await get(client, path + suffix, 'multipart/related; type="image/jls"')
        kinds = [kind for kind, _ in split(headers["Content-Type"], body)]
        assert kinds == ["image/jls; transfer-syntax=1.2.840.10008.1.2.4.80"] * 2
        assert locations(body) == ["frames/1", "frames/2"]


async def test_what_is_not_there_as_wanted_is_left_out_and_told(client: Client) -> None:
    sent = part10_file(with_values())
    await store(client, sent)
    path = path_of(sent)
    status, body, headers = await get(client, f"{path}/bulkdata", 'multipart/related; type="image/jls"')
    assert (status, headers["Warning"][:3]) == (206, "299")
    assert locations(body) == ["frames/1"]
    baseline = 'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50'
    assert (await get(client, f"{path}/bulkdata", baseline))[0] == 406
    assert (await get(client, f"{path}/bulkdata", "application/octet-stream"))[0] == 406
    without = part10_file(data_set(PixelData=None))
    await store(client, without)
    assert (await get(client, f"{path_of(without)}/bulkdata", STORED))[0] == 404
    assert (await get(client, f"{path_of(without)}/pixeldata", STORED))[0] == 404
    assert (await get(client, f"{path_of(without)}/bulkdata/7FE00010", STORED))[0] == 404


async def test_compressed_bulk_data_is_the_codestreams_alone(client: Client) -> None:
    sent = wheel("SC_rgb_rle_2frame.dcm")
    await store(client, sent)
    _, body, headers = await get(client, f"{path_of(sent)}/bulkdata/7FE00010", STORED)
    stored = list(generate_frames(pydicom.dcmread(io.BytesIO(sent)).PixelData, number_of_frames=2))
    assert split(headers["Content-Type"], body) == [
        (f"application/octet-stream; transfer-syntax={RLE}", frame) for frame in stored
    ]


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
async def test_fragmented_frames_and_video_are_joined(client: Client, core: Core) -> None:
    core.spool.max_bytes = 64 << 20
    sent = (SHARED / "transfer-syntaxes" / "jpeg-extended-12bit-fragmented-no-bot.dcm").read_bytes()
    assert (await store(client, sent))[0] == 200
    found = pydicom.dcmread(io.BytesIO(sent))
    count = int(found.get("NumberOfFrames") or 1)
    expected = list(generate_frames(found.PixelData, number_of_frames=count))
    _, body, headers = await get(client, f"{path_of(sent)}/pixeldata", STORED)
    assert [part for _, part in split(headers["Content-Type"], body)] == expected
    for start in (0, 1000):
        _, piece, _ = await get(
            client, f"{path_of(sent)}/frames/1", "application/octet-stream; transfer-syntax=*", Range=f"bytes={start}-"
        )
        assert piece == expected[0][start:]
    for file in sorted((SHARED / "objects" / "video").glob("*.dcm")):
        sent = file.read_bytes()
        await store(client, sent)
        _, body, headers = await get(client, f"{path_of(sent)}/bulkdata", STORED)
        ((kind, part),) = split(headers["Content-Type"], body)
        assert kind.startswith("video/")
        assert part == (await get(client, f"{path_of(sent)}/bulkdata/7FE00010", "*/*"))[1]
