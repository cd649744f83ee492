"""Frames and instances in transfer syntaxes other than the stored one."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate_extended, generate_frames, parse_basic_offsets
from pydicom.pixels import get_decoder, pixel_array

from gateway.assembly import Core
from gateway.imaging.encode import ENCODERS, LOSSY_METHODS
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_wado import DICOM, EXPLICIT, STORED, get, path_of, split, wheel
from tests.instances import SHARED, data_set, part10_file

PREFIX = "1.2.840.10008.1.2."
MEDIA_TYPES = {
    "image/jpeg": ("4.70", "4.57"),
    "image/jll": ("4.70",),
    "image/dicom+jpeg": ("4.70",),
    "image/dicom-rle": ("5",),
    "image/x-dicom-rle": ("5",),
    "image/jls": ("4.80", "4.81"),
    "image/x-jls": ("4.80",),
    "image/jp2": ("4.90", "4.91"),
    "image/jpx": ("4.90",),
    "image/jphc": ("4.201", "4.202", "4.203"),
    "image/jhc": ("4.201",),
}
"""Media types that clients name, with the transfer syntaxes we write under them, the default first."""

CT_PIXELS = (np.add.outer(np.arange(40), np.arange(56)) * 9 - 300).astype("<i2")
LOSSLESS = sorted(ENCODERS.keys() - LOSSY_METHODS.keys())


def ct(frames: int = 1, **attributes: object) -> bytes:
    pixels = b"".join((CT_PIXELS + number).tobytes() for number in range(frames))
    return part10_file(
        data_set(
            Rows=40,
            Columns=56,
            BitsStored=12,
            HighBit=11,
            PixelRepresentation=1,
            PixelData=pixels,
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            **({"NumberOfFrames": frames} if frames > 1 else {}),
            **attributes,
        )
    )


def pixels_of(body: bytes) -> np.ndarray:
    found = pydicom.dcmread(io.BytesIO(body))
    plugin = {"4.8": "pyjpegls", "4.9": "pylibjpeg", "4.2": "pylibjpeg", "5": "pydicom"}
    uid = found.file_meta.TransferSyntaxUID
    name = next((plugin[key] for key in plugin if uid.startswith(PREFIX + key)), "")
    return pixel_array(found, raw=True, **({"decoding_plugin": name} if name else {}))


# Frames


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
async def test_a_frame_comes_in_the_default_syntax_of_the_type_under_the_name_asked_for(
    client: Client, media_type: str
) -> None:
    sent = ct()
    await store(client, sent)
    syntax = PREFIX + MEDIA_TYPES[media_type][0]
    path = f"{path_of(sent)}/frames/1"
    status, single, headers = await get(client, path, media_type)
    assert (status, headers["Content-Type"]) == (200, f"{media_type}; transfer-syntax={syntax}")
    assert int(headers["Content-Length"]) == len(single)
    status, body, headers = await get(client, path, f'multipart/related; type="{media_type}"')
    assert (status, int(headers["Content-Length"])) == (200, len(body))
    assert split(headers["Content-Type"], body) == [(f"{media_type}; transfer-syntax={syntax}", single)]
    status, part, headers = await get(client, path, media_type, Range="bytes=10-19")
    assert (status, part) == (206, single[10:20])


@pytest.mark.parametrize(
    ("media_type", "syntax"), [(name, PREFIX + end) for name, ends in MEDIA_TYPES.items() for end in ends]
)
async def test_a_frame_comes_in_the_syntax_that_is_named(client: Client, media_type: str, syntax: str) -> None:
    sent = ct(2)
    await store(client, sent)
    accept = f'multipart/related; type="{media_type}"; transfer-syntax={syntax}'
    status, body, headers = await get(client, f"{path_of(sent)}/frames/2,1", accept)
    assert status == 200
    parts = split(headers["Content-Type"], body)
    assert [kind for kind, _ in parts] == [f"{media_type}; transfer-syntax={syntax}"] * 2
    _, body, _ = await get(client, path_of(sent), f"application/dicom; transfer-syntax={syntax}")
    frames = list(generate_frames(pydicom.dcmread(io.BytesIO(body)).PixelData, number_of_frames=2))
    assert [part + b"\0" * (len(part) % 2) for _, part in parts] == frames[::-1]


async def test_the_octet_stream_carries_any_syntax_that_is_named(client: Client) -> None:
    sent = ct()
    await store(client, sent)
    accept = f"application/octet-stream; transfer-syntax={PREFIX}4.80"
    status, body, headers = await get(client, f"{path_of(sent)}/frames/1", accept)
    assert (status, headers["Content-Type"]) == (200, accept)
    assert body.startswith(b"\xff\xd8\xff")


async def test_lossy_frames_stay_as_they_are_unless_another_syntax_is_named(client: Client) -> None:
    sent = wheel("SC_rgb_jpeg_dcmtk.dcm")
    await store(client, sent)
    path = f"{path_of(sent)}/frames/1"
    for accept in ("image/jpeg", "application/octet-stream", "*/*", "application/octet-stream; transfer-syntax=*"):
        _, _, headers = await get(client, path, accept)
        assert f"transfer-syntax={PREFIX}4.50" in headers["Content-Type"] or accept == "*/*"
    _, body, headers = await get(client, path, "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70")
    assert headers["Content-Type"] == "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70"
    assert b"\xff\xc3" in body


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
@pytest.mark.parametrize("syntax", LOSSLESS)
async def test_compressed_instances_become_others_without_loss(client: Client, name: str, syntax: str) -> None:
    sent = wheel(name)
    await store(client, sent)
    status, body, _ = await get(client, path_of(sent), f"application/dicom; transfer-syntax={syntax}")
    assert status == 200
    assert np.array_equal(pixels_of(body), pixel_array(pydicom.dcmread(io.BytesIO(wheel("MR_small.dcm")))))


@pytest.mark.parametrize(
    ("attributes", "accept"),
    [
        ({}, f"image/jpeg; transfer-syntax={PREFIX}4.50"),
        ({}, f"image/jpeg; transfer-syntax={PREFIX}4.51"),
        ({}, f"image/jls; transfer-syntax={PREFIX}4.90"),
        ({}, "image/jls; transfer-syntax=1.2.3"),
        ({}, "image/jxl"),
        ({}, f"application/octet-stream; transfer-syntax={PREFIX}4.100"),
        ({}, f"application/octet-stream; transfer-syntax={PREFIX}2"),
        ({}, "application/octet-stream; transfer-syntax=1.2.840.10008.1.2"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelRepresentation": 0}, "image/jpeg"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelRepresentation": 0}, "image/dicom-rle"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, f"image/jls; transfer-syntax={PREFIX}4.81"),
    ],
)
async def test_what_cannot_be_is_406(client: Client, attributes: dict[str, object], accept: str) -> None:
    values = {"Rows": 16, "Columns": 16, "PixelData": bytes(512), **attributes}
    sent = part10_file(data_set(**values))
    await store(client, sent)
    status, body, _ = await get(client, f"{path_of(sent)}/frames/1", accept)
    assert (status, json.loads(body)["status"]) == (406, 406)
    for kind in ("application/octet-stream; transfer-syntax=*", "application/octet-stream"):
        assert (await get(client, f"{path_of(sent)}/frames/1", kind))[0] == 200


# Instances


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("frames", [1, 3])
async def test_an_instance_without_loss_is_the_same_instance(client: Client, syntax: str, frames: int) -> None:
    sent = ct(frames)
    await store(client, sent)
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
    status, body, headers = await get(client, path_of(sent), accept)
    assert status == 200
    ((kind, part),) = split(headers["Content-Type"], body)
    assert kind == f"application/dicom; transfer-syntax={syntax}"
    before, after = pydicom.dcmread(io.BytesIO(sent)), pydicom.dcmread(io.BytesIO(part))
    assert after.file_meta.TransferSyntaxUID == syntax
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID == before.SOPInstanceUID
    assert "LossyImageCompression" not in after
    assert parse_basic_offsets(after.PixelData) == []
    assert len(list(generate_frames(after.PixelData, number_of_frames=frames))) == frames
    assert np.array_equal(pixels_of(part).reshape(-1), pixel_array(before).reshape(-1))
    del before.PixelData, after.PixelData
    assert after == before


@pytest.mark.parametrize("syntax", sorted(LOSSY_METHODS))
async def test_a_lossy_version_says_so_and_is_another_instance(client: Client, syntax: str) -> None:
    colour = np.linspace(0, 255, 40 * 56 * 3).reshape(40, 56, 3).astype("u1")
    found = data_set(
        Rows=40,
        Columns=56,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
        ImageType=["ORIGINAL", "PRIMARY"],
        PixelData=colour.tobytes(),
    )
    found["PixelData"].VR = "OB"
    sent = part10_file(found)
    await store(client, sent)
    accept = f"application/dicom; transfer-syntax={syntax}"
    status, body, _ = await get(client, path_of(sent), accept)
    assert status == 200
    after = pydicom.dcmread(io.BytesIO(body))
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID != found.SOPInstanceUID
    assert after.ImageType == ["DERIVED", "PRIMARY"]
    assert after.LossyImageCompression == "01"
    assert after.LossyImageCompressionMethod == LOSSY_METHODS[syntax]
    frame = next(generate_frames(after.PixelData, number_of_frames=1))
    assert float(after.LossyImageCompressionRatio) == pytest.approx(colour.nbytes / len(frame), rel=0.01)
    (source,) = after.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == found.SOPInstanceUID
    assert source.ReferencedSOPClassUID == found.SOPClassUID
    expected = {"4.50": "YBR_FULL_422", "4.81": "RGB", "4.91": "YBR_ICT"}
    assert after.PhotometricInterpretation == expected[syntax.removeprefix(PREFIX)]
    assert (after.PlanarConfiguration, after.BitsStored) == (0, 8)
    assert (await get(client, path_of(sent), accept))[1] == body


async def test_losses_are_added_to_what_an_instance_has_been_through(client: Client) -> None:
    source = pydicom.Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = "1.2.3", "1.2.4"
    sent = ct(
        LossyImageCompression="01",
        LossyImageCompressionRatio=[10, 2.5],
        LossyImageCompressionMethod=["ISO_10918_1", "ISO_14495_1"],
        DerivationDescription="theirs",
        SourceImageSequence=pydicom.Sequence([source]),
    )
    await store(client, sent)
    _, body, _ = await get(client, path_of(sent), f"application/dicom; transfer-syntax={PREFIX}4.91")
    after = pydicom.dcmread(io.BytesIO(body))
    assert [float(ratio) for ratio in after.LossyImageCompressionRatio[:2]] == [10, 2.5]
    assert list(after.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_14495_1", "ISO_15444_1"]
    assert after.DerivationDescription == "theirs"
    original = pydicom.dcmread(io.BytesIO(sent)).SOPInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in after.SourceImageSequence] == [original, "1.2.4"]


async def test_what_was_lossy_is_marked_so_when_it_is_decompressed(client: Client) -> None:
    found = pydicom.dcmread(io.BytesIO(wheel("SC_rgb_jpeg_dcmtk.dcm")))
    del found.LossyImageCompression
    buffer = io.BytesIO()
    found.save_as(buffer)
    sent = buffer.getvalue()
    await store(client, sent)
    for syntax in (EXPLICIT, f"{PREFIX}4.90"):
        _, body, _ = await get(client, path_of(sent), f"application/dicom; transfer-syntax={syntax}")
        assert pydicom.dcmread(io.BytesIO(body)).LossyImageCompression == "01"


async def test_offset_tables_and_encapsulated_icons_go_with_the_fragments_they_belong_to(client: Client) -> None:
    rle = pydicom.dcmread(io.BytesIO(wheel("SC_rgb_rle_2frame.dcm")))
    frames = list(generate_frames(rle.PixelData, number_of_frames=2))
    rle.PixelData, rle.ExtendedOffsetTable, rle.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    icon = pydicom.Dataset()
    icon.Rows = icon.Columns = 1
    icon.PixelData = pydicom.encaps.encapsulate([b"\1\2"])
    icon["PixelData"].VR, icon["PixelData"].is_undefined_length = "OB", True
    rle.IconImageSequence = pydicom.Sequence([icon])
    buffer = io.BytesIO()
    rle.save_as(buffer)
    sent = buffer.getvalue()
    assert (await store(client, sent))[0] == 200
    for syntax in (EXPLICIT, f"{PREFIX}4.80"):
        _, body, _ = await get(client, path_of(sent), f"application/dicom; transfer-syntax={syntax}")
        after = pydicom.dcmread(io.BytesIO(body))
        assert "ExtendedOffsetTable" not in after
        assert "IconImageSequence" not in after
        assert after.PatientName == rle.PatientName
    _, body, _ = await get(client, path_of(sent), "application/dicom; transfer-syntax=*")
    assert "IconImageSequence" in pydicom.dcmread(io.BytesIO(body))


async def test_native_colour_by_plane_and_subsampled_is_encoded_as_what_it_shows(client: Client) -> None:
    sent = wheel("SC_ybr_full_422_uncompressed.dcm")
    await store(client, sent)
    for end in ("4.80", "4.70", "5", "4.90", "4.202"):
        _, body, _ = await get(client, path_of(sent), f"application/dicom; transfer-syntax={PREFIX}{end}")
        after = pydicom.dcmread(io.BytesIO(body))
        assert (after.PhotometricInterpretation, after.PlanarConfiguration) == ("YBR_FULL", 0)
    raw, _ = get_decoder(EXPLICIT).as_array(pydicom.dcmread(io.BytesIO(sent)), raw=True)
    _, body, _ = await get(client, path_of(sent), f"application/dicom; transfer-syntax={PREFIX}4.80")
    assert np.array_equal(pixels_of(body), raw)


async def test_a_study_of_several_kinds_comes_in_one_syntax(client: Client) -> None:
    study = data_set().StudyInstanceUID
    bodies = [ct(StudyInstanceUID=study), ct(2, StudyInstanceUID=study)]
    await store(client, *bodies)
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={PREFIX}4.202'
    status, body, headers = await get(client, f"/dicomweb/studies/{study}", accept)
    assert status == 200
    parts = split(headers["Content-Type"], body)
    assert {kind for kind, _ in parts} == {f"application/dicom; transfer-syntax={PREFIX}4.202"}
    assert len(parts) == 2


async def test_a_damaged_instance_does_not_end_the_others_of_its_study(client: Client) -> None:
    damaged = pydicom.dcmread(io.BytesIO(wheel("MR_small_RLE.dcm")))
    study, patient = damaged.StudyInstanceUID, damaged.PatientID
    damaged.Rows = 128
    buffer = io.BytesIO()
    damaged.save_as(buffer)
    good = [ct(StudyInstanceUID=study, PatientID=patient, SeriesNumber=number) for number in (0, 99)]
    await store(client, good[0], buffer.getvalue(), good[1])
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={EXPLICIT}'
    status, body, headers = await get(client, f"/dicomweb/studies/{study}", accept)
    assert status == 200
    parts = split(headers["Content-Type"], body)
    assert sorted(kind.rpartition("=")[2] for kind, _ in parts) == [EXPLICIT, EXPLICIT, f"{PREFIX}5"]
    status, body, _ = await get(client, f"/dicomweb/studies/{study}", "application/zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert len([name for name in archive.namelist() if name != "DICOMDIR"]) == 3
    assert (await get(client, path_of(buffer.getvalue()), accept))[0] == 406


# Shared files


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
async def test_broken_frames_are_refused_before_decoding_and_stay_retrievable(client: Client, core: Core) -> None:
    core.spool.max_bytes = 64 << 20
    for name in ("corrupt-jpeg-frame", "dimensions-overflow"):
        sent = (SHARED / "malformed" / "generated" / f"{name}.dcm").read_bytes()
        assert (await store(client, sent))[0] == 200
        path = path_of(sent)
        for suffix, accept in (
            ("/frames/1", "image/jp2"),
            ("/frames/1/rendered", "image/png"),
            ("", f"application/dicom; transfer-syntax={PREFIX}4.80"),
        ):
            status, body, _ = await get(client, path + suffix, accept)
            assert 400 <= status < 500, (name, suffix)
            assert "detail" in json.loads(body)
        assert (await get(client, path, DICOM))[0] == 200
        status, _, _ = await get(client, f"{path}/frames/1", STORED)
        assert status == 200 or name == "dimensions-overflow"
        assert (await get(client, f"{path}/bulkdata/7FE00010", STORED))[0] == 200


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
async def test_baseline_of_a_real_picture_shows_it(client: Client, core: Core) -> None:
    core.spool.max_bytes = 64 << 20
    sent = (SHARED / "transfer-syntaxes" / "color-test-pattern" / "testpattern_rgb.dcm").read_bytes()
    await store(client, sent)
    _, body, _ = await get(client, f"{path_of(sent)}/frames/1", f"image/jpeg; transfer-syntax={PREFIX}4.50")
    shown = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)
    assert np.abs(shown - pixel_array(pydicom.dcmread(io.BytesIO(sent)))).mean() < 3
