"""Python's dicomweb-client: store, search and retrieve against running processes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array
from requests.exceptions import HTTPError

from tests.instances import data_set
from tests.serving import Gateway

NAMES = ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm"]


def wheel(name: str) -> pydicom.FileDataset:
    return pydicom.dcmread(Path(str(get_testdata_file(name, download=False))))


@pytest.fixture(scope="module")
def client(running: Gateway) -> DICOMwebClient:
    client = DICOMwebClient(running.web)
    client.store_instances([wheel(name) for name in NAMES if name != "MR_small_RLE.dcm"])
    return client


def uids(found: pydicom.Dataset) -> tuple[str, str, str]:
    return found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID


def test_storing_again_succeeds(client: DICOMwebClient) -> None:
    answer = client.store_instances([wheel("CT_small.dcm")])
    assert len(answer.ReferencedSOPSequence) == 1
    assert "FailedSOPSequence" not in answer


def test_studies_are_found_and_paged(client: DICOMwebClient) -> None:
    ct = wheel("CT_small.dcm")
    (found,) = client.search_for_studies(search_filters={"PatientID": ct.PatientID})
    assert found["0020000D"]["Value"] == [ct.StudyInstanceUID]
    everything = client.search_for_studies(limit=1, get_remaining=True)
    assert len({each["0020000D"]["Value"][0] for each in everything}) == len(everything) >= 4
    assert client.search_for_studies(search_filters={"PatientID": "nobody at all"}) == []


def test_fields_and_fuzzy_names_are_asked_for_as_the_client_does(client: DICOMwebClient) -> None:
    ct = wheel("CT_small.dcm")
    (found,) = client.search_for_studies(
        fuzzymatching=True,
        search_filters={"PatientName": "CT1^KompresedSamples", "StudyDate": f"{ct.StudyDate}-{ct.StudyDate}"},
        fields=["StudyDescription", "PatientBirthDate", "00181030", "Manufacturer"],
    )
    assert pydicom.Dataset.from_json(found).PatientName == ct.PatientName
    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    (instance,) = client.search_for_instances(ct.StudyInstanceUID, fields=["KVP", "PixelSpacing", "ImageType"])
    assert instance["00180060"]["Value"] == [float(ct.KVP)]
    assert instance["00080008"]["Value"] == list(ct.ImageType)
    assert client.search_for_instances(search_filters={"KVP": str(ct.KVP), "Modality": "CT"})


def test_series_and_instances_are_found(client: DICOMwebClient) -> None:
    study, series, instance = uids(wheel("CT_small.dcm"))
    assert [each["0020000E"]["Value"] for each in client.search_for_series(study)] == [[series]]
    assert [each["00080018"]["Value"] for each in client.search_for_instances(study, series)] == [[instance]]


@pytest.mark.parametrize("name", ["CT_small.dcm", "SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm"])
def test_instances_come_back(client: DICOMwebClient, name: str) -> None:
    sent = wheel(name)
    back = client.retrieve_instance(*uids(sent), media_types=(("application/dicom", "*"),))
    assert back.PixelData == sent.PixelData
    (whole,) = client.retrieve_study(sent.StudyInstanceUID, media_types=(("application/dicom", "*"),))
    assert whole.SOPInstanceUID == sent.SOPInstanceUID


def test_the_clients_own_defaults_work(client: DICOMwebClient) -> None:
    sent = wheel("SC_rgb_rle_2frame.dcm")
    back = client.retrieve_instance(*uids(sent))
    assert np.array_equal(back.pixel_array, sent.pixel_array)


def test_metadata_and_its_bulk_data_uris_can_be_followed(client: DICOMwebClient) -> None:
    sent = wheel("CT_small.dcm")
    (metadata,) = client.retrieve_series_metadata(sent.StudyInstanceUID, sent.SeriesInstanceUID)
    assert metadata["00100010"]["Value"][0]["Alphabetic"] == sent.PatientName
    (value,) = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert value == sent.PixelData
    assert client.retrieve_instance_metadata(*uids(sent))["00080018"]["Value"] == [sent.SOPInstanceUID]
    assert len(client.retrieve_study_metadata(sent.StudyInstanceUID)) == 1


def test_frames_come_back(client: DICOMwebClient) -> None:
    sent = wheel("SC_rgb_rle_2frame.dcm")
    one, two = client.retrieve_instance_frames(*uids(sent), frame_numbers=[1, 2])
    assert len(one) == len(two) == sent.Rows * sent.Columns * 3


FRAME_TYPES = [
    ("image/jpeg", "1.2.840.10008.1.2.4.70"),
    ("image/jls", "1.2.840.10008.1.2.4.80"),
    ("image/jp2", "1.2.840.10008.1.2.4.90"),
    ("image/dicom-rle", "1.2.840.10008.1.2.5"),
]


@pytest.mark.parametrize(("media_type", "syntax"), FRAME_TYPES)
def test_frames_come_back_in_the_types_that_the_client_knows(
    client: DICOMwebClient, media_type: str, syntax: str
) -> None:
    sent = wheel("CT_small.dcm")
    (frame,) = client.retrieve_instance_frames(*uids(sent), frame_numbers=[1], media_types=((media_type, syntax),))
    coded = pydicom.dcmread(io.BytesIO(_with_frame(sent, frame, syntax)))
    plugin = {"4.8": "pyjpegls", "4.9": "pylibjpeg", "2.5": "pydicom"}.get(syntax.removeprefix("1.2.840.10008.1.")[2:5])
    assert np.array_equal(pixel_array(coded, **({"decoding_plugin": plugin} if plugin else {})), sent.pixel_array)


def _with_frame(source: pydicom.Dataset, frame: bytes, syntax: str) -> bytes:
    found = pydicom.dcmread(Path(str(source.filename)))
    found.PixelData = pydicom.encaps.encapsulate([frame])
    found["PixelData"].VR, found["PixelData"].is_undefined_length = "OB", True
    found.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    buffer = io.BytesIO()
    found.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"])
def test_instances_come_back_in_the_syntaxes_that_the_client_knows(client: DICOMwebClient, syntax: str) -> None:
    sent = wheel("CT_small.dcm")
    media_types = (("application/dicom", syntax),)
    back = client.retrieve_instance(*uids(sent), media_types=media_types)
    assert back.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(back.pixel_array, sent.pixel_array)
    (series,) = client.retrieve_series(sent.StudyInstanceUID, sent.SeriesInstanceUID, media_types=media_types)
    assert series.PixelData == back.PixelData


def test_iterators_give_what_lists_give(client: DICOMwebClient) -> None:
    sent = wheel("SC_rgb_rle_2frame.dcm")
    study, series, instance = uids(sent)
    whole = (("application/dicom", "*"),)
    for found in (
        client.iter_study(study, media_types=whole),
        client.iter_series(study, series, media_types=whole),
    ):
        assert [each.PixelData for each in found] == [sent.PixelData]
    frames = list(client.iter_instance_frames(study, series, instance, frame_numbers=[2, 1]))
    assert frames == client.retrieve_instance_frames(study, series, instance, frame_numbers=[2, 1])
    assert frames[0] != frames[1]


def test_bulk_data_comes_whole_and_by_range(client: DICOMwebClient) -> None:
    sent = wheel("CT_small.dcm")
    (metadata,) = client.retrieve_series_metadata(sent.StudyInstanceUID, sent.SeriesInstanceUID)
    uri = metadata["7FE00010"]["BulkDataURI"]
    (value,) = client.retrieve_bulkdata(uri, media_types=("application/octet-stream",))
    assert value == sent.PixelData
    assert list(client.iter_bulkdata(uri)) == [value]
    # The client asks for a multipart and reads whatever range of one it gets as a whole one: it has to begin at 0.
    (again,) = client.retrieve_bulkdata(uri, media_types=("application/octet-stream",), byte_range=(0, 10**6))
    assert again == value


def test_rendered_pictures_come_back(client: DICOMwebClient) -> None:
    from PIL import Image

    sent = wheel("CT_small.dcm")
    for media_type in ("image/jpeg", "image/png"):
        picture = client.retrieve_instance_rendered(*uids(sent), media_types=(media_type,))
        assert Image.open(io.BytesIO(picture)).size == (sent.Columns, sent.Rows)
    assert client.retrieve_instance_frames_rendered(*uids(sent), frame_numbers=[1])


def test_a_large_series_is_stored_in_one_request(client: DICOMwebClient) -> None:
    study, series = data_set().StudyInstanceUID, data_set().SeriesInstanceUID
    from tests.instances import part10_file

    sent = [
        pydicom.dcmread(
            io.BytesIO(part10_file(data_set(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=n)))
        )
        for n in range(150)
    ]
    assert len(client.store_instances(sent).ReferencedSOPSequence) == 150
    metadata = client.retrieve_series_metadata(study, series)
    assert [each["00200013"]["Value"][0] for each in metadata] == list(range(150))


def test_a_series_is_rendered(client: DICOMwebClient) -> None:
    study, series, _ = uids(wheel("CT_small.dcm"))
    picture = client.retrieve_series_rendered(study, series, media_types=("image/png",))
    assert Image.open(io.BytesIO(picture)).size == (128, 128)


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_what_is_stored_is_deleted(client: DICOMwebClient, level: str) -> None:
    found = data_set()
    found.file_meta = wheel("CT_small.dcm").file_meta
    client.store_instances([found])
    study, series, instance = uids(found)
    if level == "study":
        client.delete_study(study)
    elif level == "series":
        client.delete_series(study, series)
    else:
        client.delete_instance(study, series, instance)
    with pytest.raises(HTTPError, match="410"):
        client.retrieve_instance_metadata(study, series, instance)
    assert client.search_for_studies(search_filters={"StudyInstanceUID": study}) == []
