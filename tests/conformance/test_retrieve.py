"""Conformance statement 4.4.1 to 4.4.4: Retrieve (WADO-RS) of instances, metadata, frames and bulk data."""

from __future__ import annotations

import gzip
import io
import zipfile
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from tests.conformance.claims import claim
from tests.conformance.conftest import Web, instance_path, parts
from tests.conformance.made import BASELINE, BIG_ENDIAN, EXPLICIT, IMPLICIT, RLE, lossy, rle
from tests.instances import data_set, part10_file, uid

DICOMS = 'multipart/related; type="application/dicom"'
OCTETS = "application/octet-stream"
BYTES = f'multipart/related; type="{OCTETS}"'
XML = 'multipart/related; type="application/dicom+xml"'
WRITTEN = [f"1.2.840.10008.1.2.4.{end}" for end in (50, 57, 70, 80, 81, 90, 91, 201, 202, 203)] + [RLE, EXPLICIT]
LOSSLESS = [each for each in WRITTEN if each.rpartition(".")[2] not in ("50", "81", "91")]
SEVERAL = {"Rows": 16, "Columns": 16, "NumberOfFrames": 3, "PixelData": np.arange(768, dtype="<u2").tobytes()}
GRAY_8 = {
    **{"Rows": 16, "Columns": 16, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    "PixelData": bytes(range(256)),
}


def read(body: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(body))


def syntax_of(answer: requests.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("application/dicom; transfer-syntax=")
    found = str(read(answer.content).file_meta.TransferSyntaxUID)
    assert answer.headers["Content-Type"].endswith(found)
    return found


@pytest.fixture(scope="module")
def one(web: Web) -> Dataset:
    """An instance of three frames."""
    return web.store(data_set(**SEVERAL))[0]


@pytest.fixture(scope="module")
def compressed(web: Web) -> Dataset:
    """An instance in RLE."""
    return web.store(rle(**GRAY_8))[0]


@claim("R1", "R2", "R3")
def test_what_is_not_there_what_was_deleted_and_what_is_no_uid(web: Web) -> None:
    (found,) = web.store(data_set())
    assert web.get(f"/studies/{uid()}").status_code == 404
    assert web.send("DELETE", instance_path(found, "study")).status_code == 204
    assert web.get(instance_path(found)).status_code == 410
    assert web.get("/studies/1.2.x").status_code == 400


@claim("R4")
def test_a_study_comes_in_parts_with_location_and_syntax(web: Web, one: Dataset) -> None:
    for level in ("study", "series", "instance"):
        ((head, body),) = parts(web.get(instance_path(one, level), DICOMS))
        assert head["Content-Location"] == web.root + instance_path(one)
        assert head["Content-Type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
        assert read(body).SOPInstanceUID == one.SOPInstanceUID


@claim("R5", "R6")
def test_a_single_part_is_of_one_instance_only(web: Web, one: Dataset) -> None:
    assert read(web.get(instance_path(one), "application/dicom").content).PixelData == one.PixelData
    for level in ("study", "series"):
        assert web.get(instance_path(one, level), "application/dicom").status_code == 406


@claim("R7")
def test_lossy_instances_go_out_as_stored(web: Web) -> None:
    (found,) = web.store(lossy())
    answer = web.get(instance_path(found), "application/dicom")
    assert syntax_of(answer) == BASELINE
    assert read(answer.content).PixelData == found.PixelData


@claim("R8", "R9")
def test_others_go_out_explicit_and_as_stored_for_the_asterisk(web: Web, compressed: Dataset) -> None:
    path = instance_path(compressed)
    plain = web.get(path, "application/dicom")
    assert syntax_of(plain) == EXPLICIT
    assert read(plain.content).PixelData == GRAY_8["PixelData"]
    assert syntax_of(web.get(path, "application/dicom; transfer-syntax=*")) == RLE


@claim("R10", "R12")
@pytest.mark.parametrize("stored", [IMPLICIT, BIG_ENDIAN])
def test_implicit_and_big_endian_are_never_served(web: Web, stored: str) -> None:
    made = data_set()
    (found,) = web.store(part10_file(made, stored))
    path = instance_path(found)
    answer = web.get(path, "application/dicom; transfer-syntax=*")
    assert syntax_of(answer) == EXPLICIT
    assert read(answer.content).PixelData == made.PixelData
    for wanted in (IMPLICIT, BIG_ENDIAN):
        for accept in ("application/dicom", DICOMS):
            assert web.get(path, f"{accept}; transfer-syntax={wanted}").status_code == 406
        assert web.get(f"{path}/frames/1", f"{OCTETS}; transfer-syntax={wanted}").status_code == 406
        assert web.get(f"{path}/bulkdata/7FE00010", f"{OCTETS}; transfer-syntax={wanted}").status_code == 406


@claim("R11", "R15", "R16")
@pytest.mark.parametrize("syntax", WRITTEN)
def test_every_syntax_of_the_table_is_written(web: Web, compressed: Dataset, syntax: str) -> None:
    path = instance_path(compressed)
    answer = web.get(path, f"application/dicom; transfer-syntax={syntax}")
    assert syntax_of(answer) == syntax
    written = read(answer.content)
    assert (written.SOPInstanceUID == compressed.SOPInstanceUID) is (syntax in LOSSLESS)
    frame = web.get(f"{path}/frames/1", f"{OCTETS}; transfer-syntax={syntax}").content
    if syntax == EXPLICIT:
        assert frame == written.PixelData == GRAY_8["PixelData"]
    else:
        assert next(generate_frames(written.PixelData, number_of_frames=1)).rstrip(b"\0") == frame.rstrip(b"\0")


@claim("R13", "R14")
def test_instances_that_do_not_exist_in_a_syntax_are_left_out(web: Web) -> None:
    gray = data_set(**GRAY_8)
    study = gray.StudyInstanceUID
    wide = data_set(StudyInstanceUID=study)
    web.store(gray, wide)
    accept = f"{DICOMS}; transfer-syntax={BASELINE}"
    answer = web.get(f"/studies/{study}", accept)
    assert (answer.status_code, len(parts(answer))) == (206, 1)
    assert "1 instances do not exist" in answer.headers["Warning"]
    assert web.get(instance_path(wide), accept).status_code == 406


@claim("R17")
def test_a_lossy_version_is_another_instance_that_names_the_original(web: Web, compressed: Dataset) -> None:
    accept = f"application/dicom; transfer-syntax={BASELINE}"
    first, second = (read(web.get(instance_path(compressed), accept).content) for _ in range(2))
    assert first.SOPInstanceUID == second.SOPInstanceUID != compressed.SOPInstanceUID
    assert first.ImageType[0] == "DERIVED"
    assert first.SourceImageSequence[0].ReferencedSOPInstanceUID == compressed.SOPInstanceUID
    assert (first.LossyImageCompression, first.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert float(first.LossyImageCompressionRatio) > 0


@claim("R18", "R19")
def test_a_zip_is_a_file_set(web: Web, compressed: Dataset) -> None:
    for accept, syntax in (("application/zip", EXPLICIT), ("application/zip; transfer-syntax=*", RLE)):
        answer = web.get(instance_path(compressed, "study"), accept)
        assert compressed.StudyInstanceUID in answer.headers["Content-Disposition"]
        with zipfile.ZipFile(io.BytesIO(answer.content)) as package:
            assert len(package.namelist()) == 2
            directory = read(package.read("DICOMDIR"))
            image = directory.DirectoryRecordSequence[-1]
            inside = read(package.read("/".join(image.ReferencedFileID)))
            assert (inside.SOPInstanceUID, inside.file_meta.TransferSyntaxUID) == (compressed.SOPInstanceUID, syntax)
            assert {each.compress_type for each in package.infolist()} == {zipfile.ZIP_STORED}


@claim("R20", "R36", "R37")
def test_all_bulk_data_of_a_resource(web: Web) -> None:
    document = data_set(
        **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "Rows": None, "Columns": None, "PixelData": None},
        EncapsulatedDocument=b"%PDF-1.4 " + bytes(2000),
        MIMETypeOfEncapsulatedDocument="application/pdf",
    )
    image = data_set(StudyInstanceUID=document.StudyInstanceUID)
    web.store(document, image)
    study = instance_path(document, "study")
    everything = {head["Content-Location"]: body for head, body in parts(web.get(f"{study}/bulkdata"))}
    places = [f"{web.root}{instance_path(image)}", f"{web.root}{instance_path(document)}/bulkdata/00420011"]
    assert len(everything) == 2
    assert everything[places[1]].startswith(b"%PDF-1.4 ")
    assert {head["Content-Location"] for head, _ in parts(web.get(study, BYTES))} == set(everything)
    ((head, body),) = parts(web.get(f"{study}/pixeldata"))
    assert head["Content-Location"].startswith(places[0])
    assert body == image.PixelData


# Metadata


@claim("R21", "R23")
def test_metadata_in_json(web: Web, one: Dataset) -> None:
    for level in ("study", "series", "instance"):
        for name in ("application/dicom+json", "application/json", "application/dicom+json; transfer-syntax=*"):
            answer = web.get(f"{instance_path(one, level)}/metadata", name)
            assert answer.headers["Content-Type"] == name.partition(";")[0]
            (found,) = answer.json()
            assert found["00080018"] == {"vr": "UI", "Value": [one.SOPInstanceUID]}


@claim("R22")
def test_metadata_in_xml(web: Web, one: Dataset) -> None:
    ((head, body),) = parts(web.get(f"{instance_path(one, 'series')}/metadata", XML))
    assert head["Content-Type"] == "application/dicom+xml"
    assert b"<NativeDicomModel" in body
    space = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
    value = ElementTree.fromstring(body).find(f"{space}DicomAttribute[@keyword='SOPInstanceUID']/{space}Value")
    assert value is not None
    assert value.text == one.SOPInstanceUID


@claim("R24", "R34")
def test_long_values_stand_behind_a_bulk_data_uri(web: Web) -> None:
    made = data_set(
        ImageComments="x" * 10_000, RedPaletteColorLookupTableData=bytes(1000), ICCProfile=bytes(range(256)) * 5
    )
    made.TextValue = "y" * 70_000
    (found,) = web.store(made)
    (metadata,) = web.get(f"{instance_path(found)}/metadata").json()
    assert "Value" in metadata["00204000"]
    assert "InlineBinary" in metadata["00281201"]
    for tag, value in (("00282000", made.ICCProfile), ("7FE00010", made.PixelData), ("0040A160", b"y" * 70_000)):
        uri = metadata[tag]["BulkDataURI"]
        assert uri.startswith(web.root)
        assert requests.get(uri, headers={"Accept": OCTETS}, timeout=30).content == value
        ((_, body),) = parts(requests.get(uri, headers={"Accept": BYTES}, timeout=30))
        assert body == value


@claim("R25")
def test_a_series_goes_out_as_gzip_when_it_may(web: Web, one: Dataset) -> None:
    path = f"{web.root}{instance_path(one, 'series')}/metadata"
    with requests.get(path, headers={"Accept-Encoding": "gzip"}, stream=True, timeout=30) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = answer.raw.read(decode_content=False)
    plain = requests.get(path, headers={"Accept-Encoding": "identity"}, timeout=30)
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed) == plain.content


# Frames and bulk data


@claim("R26")
def test_a_list_of_frames_comes_in_its_order(web: Web, one: Dataset) -> None:
    found = parts(web.get(f"{instance_path(one)}/frames/3,1", BYTES))
    assert [head["Content-Location"].rpartition("/")[2] for head, _ in found] == ["3", "1"]
    assert [body for _, body in found] == [one.PixelData[1024:], one.PixelData[:512]]


@claim("R27")
def test_a_single_frame_is_also_a_single_part(web: Web, one: Dataset) -> None:
    assert web.get(f"{instance_path(one)}/frames/2", OCTETS).content == one.PixelData[512:1024]
    assert web.get(f"{instance_path(one)}/frames/1,2", OCTETS).status_code == 406


@claim("R28", "R29", "R31")
def test_frames_as_stored_and_uncompressed(web: Web, compressed: Dataset) -> None:
    path = f"{instance_path(compressed)}/frames/1"
    ((head, stored),) = parts(web.get(path, f"{BYTES}; transfer-syntax=*"))
    assert head["Content-Type"] == f"{OCTETS}; transfer-syntax={RLE}"
    assert stored == next(generate_frames(compressed.PixelData, number_of_frames=1))
    ((head, plain),) = parts(web.get(path, BYTES))
    assert (head["Content-Type"], plain) == (f"{OCTETS}; transfer-syntax={EXPLICIT}", GRAY_8["PixelData"])
    (photo,) = web.store(lossy())
    ((head, body),) = parts(web.get(f"{instance_path(photo)}/frames/1", BYTES))
    assert head["Content-Type"].endswith(BASELINE)
    assert body.startswith(b"\xff\xd8")


@claim("R30")
def test_frames_as_an_image_type(web: Web, compressed: Dataset) -> None:
    (photo,) = web.store(lossy())
    stored = web.get(f"{instance_path(photo)}/frames/1", "image/jpeg").headers["Content-Type"]
    made = web.get(f"{instance_path(compressed)}/frames/1", "image/jpeg").headers["Content-Type"]
    assert (stored, made) == tuple(f"image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.{end}" for end in (50, 70))
    named = "image/jls; transfer-syntax=1.2.840.10008.1.2.4.81"
    assert web.get(f"{instance_path(compressed)}/frames/1", named).headers["Content-Type"] == named


@claim("R32", "R33")
def test_frames_that_are_not_there_and_lists_out_of_form(web: Web, one: Dataset) -> None:
    assert web.get(f"{instance_path(one)}/frames/4").status_code == 404
    for numbers in ("0", "-1", "1,,2", "x"):
        assert web.get(f"{instance_path(one)}/frames/{numbers}").status_code == 400


@claim("R35")
def test_compressed_pixel_data_is_codestreams_alone(web: Web, compressed: Dataset) -> None:
    answer = web.get(f"{instance_path(compressed)}/bulkdata/7FE00010", f"{OCTETS}; transfer-syntax=*")
    assert answer.content == next(generate_frames(compressed.PixelData, number_of_frames=1))
    asked = web.get(f"{instance_path(compressed)}/bulkdata/7FE00010", "image/jls")
    assert asked.content.startswith(b"\xff\xd8")


@claim("R38")
def test_bulk_data_that_is_missing(web: Web) -> None:
    gray = data_set(**GRAY_8)
    wide = data_set(StudyInstanceUID=gray.StudyInstanceUID)
    empty = data_set(PixelData=None, Rows=None, Columns=None)
    web.store(gray, wide, empty)
    accept = f'multipart/related; type="image/jpeg"; transfer-syntax={BASELINE}'
    answer = web.get(f"{instance_path(gray, 'study')}/bulkdata", accept)
    assert answer.status_code == 206
    assert answer.headers["Warning"].startswith("299 ")
    for name in ("bulkdata", "pixeldata"):
        assert web.get(f"{instance_path(empty)}/{name}").status_code == 404
