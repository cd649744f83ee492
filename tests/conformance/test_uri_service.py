"""Conformance statement 4.3: URI service (WADO-URI)."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
import requests
from PIL import Image
from pydicom.dataset import Dataset

from tests.conformance.claims import claim
from tests.conformance.conftest import Web
from tests.conformance.made import BIG_ENDIAN, EXPLICIT, IMPLICIT, RLE
from tests.gateway.dicomweb.pictures import image
from tests.gateway.dicomweb.states import state
from tests.gateway.dicomweb.test_rendered import pdf, report


def wado(web: Web, found: Dataset, types: str = "*/*", **query: str) -> requests.Response:
    uids = {
        "requestType": "WADO",
        "studyUID": found.StudyInstanceUID,
        "seriesUID": found.SeriesInstanceUID,
        "objectUID": found.SOPInstanceUID,
    }
    named = {name: value for name, value in {**uids, **query}.items() if value != "absent"}
    return web.get("/wado", types, None, **named)


def picture(answer: requests.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"))


@pytest.fixture(scope="module")
def one(web: Web) -> Dataset:
    """A picture of 32 x 24, its right half bright."""
    return web.store(image())[0]


@pytest.fixture(scope="module")
def cine(web: Web) -> Dataset:
    """Three frames."""
    return web.store(image(frames=3, WindowCenter=256, WindowWidth=512))[0]


@claim("U1")
@pytest.mark.parametrize("name", ["requestType", "studyUID", "seriesUID", "objectUID"])
def test_four_parameters_are_needed(web: Web, one: Dataset, name: str) -> None:
    assert wado(web, one, **{name: "absent"}).status_code == 400


@claim("U2", "U6")
def test_an_instance_and_its_transfer_syntax(web: Web, one: Dataset) -> None:
    plain = wado(web, one, contentType="application/dicom")
    assert plain.headers["Content-Type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert pydicom.dcmread(io.BytesIO(plain.content)).PixelData == one.PixelData
    packed = wado(web, one, contentType="application/dicom", transferSyntax=RLE)
    assert pydicom.dcmread(io.BytesIO(packed.content)).file_meta.TransferSyntaxUID == RLE
    for never in (IMPLICIT, BIG_ENDIAN):
        assert wado(web, one, contentType="application/dicom", transferSyntax=never).status_code == 406


@claim("U3", "U5")
def test_content_type_decides_and_the_header_does_not(web: Web, one: Dataset) -> None:
    answer = wado(web, one, "image/gif", contentType="image/jpeg;q=0.5,image/png")
    assert answer.headers["Content-Type"] == "image/png"
    assert wado(web, one, "image/gif").headers["Content-Type"] == "image/jpeg"
    assert wado(web, one, contentType="video/x-none").status_code == 406


@claim("U4")
def test_the_defaults_of_each_kind(web: Web, one: Dataset, cine: Dataset) -> None:
    document, text = web.store(pdf(), report())
    kinds = [wado(web, each).headers["Content-Type"].partition(";")[0] for each in (one, text, document, cine)]
    assert kinds == ["image/jpeg", "text/html", "application/pdf", "application/dicom"]


@claim("U7", "U8")
def test_one_frame_the_first_frame_and_all_of_them(web: Web, cine: Dataset) -> None:
    first = wado(web, cine, contentType="image/jpeg")
    assert first.content == wado(web, cine, contentType="image/jpeg", frameNumber="1").content
    assert first.content != wado(web, cine, contentType="image/jpeg", frameNumber="2").content
    assert getattr(Image.open(io.BytesIO(wado(web, cine, contentType="image/gif").content)), "n_frames", 1) == 3


@claim("U9")
def test_rows_and_columns(web: Web, one: Dataset) -> None:
    assert picture(wado(web, one, rows="48", columns="640")).shape == (48, 64)
    assert picture(wado(web, one, columns="64")).shape == (48, 64)


@claim("U10")
def test_a_region(web: Web, one: Dataset) -> None:
    right = picture(wado(web, one, contentType="image/png", region="0.5,0,1,1"))
    assert right.shape == (24, 16)
    assert right.min() > 50


@claim("U11")
def test_a_window(web: Web, one: Dataset) -> None:
    narrow = picture(wado(web, one, contentType="image/png", windowCenter="50", windowWidth="20"))
    assert narrow.max() == 255 > picture(wado(web, one, contentType="image/png")).max()
    assert wado(web, one, windowCenter="50").status_code == 400


@claim("U12")
def test_quality_annotation_and_profile(web: Web, one: Dataset) -> None:
    assert len(wado(web, one, imageQuality="1").content) < len(wado(web, one, imageQuality="100").content)
    plain = wado(web, one).content
    noted = [wado(web, one, **{name: "patient"}).content for name in ("imageAnnotation", "annotation")]
    assert noted[0] == noted[1] != plain
    for query in ({"imageQuality": "0"}, {"imageAnnotation": "x"}, {"iccprofile": "x"}):
        assert wado(web, one, **query).status_code == 400


@claim("U13")
def test_an_image_under_a_presentation_state(web: Web) -> None:
    shown = image()
    inverse = state(shown, PresentationLUTShape="INVERSE")
    web.store(shown, inverse)
    query = {"presentationUID": inverse.SOPInstanceUID, "presentationSeriesUID": inverse.SeriesInstanceUID}
    under = picture(wado(web, shown, contentType="image/png", **query))
    assert np.array_equal(under, 255 - picture(wado(web, shown, contentType="image/png")))


@claim("U14")
def test_texts_are_utf_8(web: Web) -> None:
    (found,) = web.store(report())
    assert wado(web, found, charset="iso-8859-1,utf-8").headers["Content-Type"] == "text/html; charset=utf-8"
    assert wado(web, found, charset="iso-8859-1").status_code == 406


@claim("U15")
def test_nothing_is_anonymized(web: Web, one: Dataset) -> None:
    assert wado(web, one, contentType="application/dicom", anonymize="yes").status_code == 406


@claim("U16")
def test_rendering_parameters_do_not_go_with_instances(web: Web, one: Dataset) -> None:
    assert wado(web, one, contentType="application/dicom", rows="10").status_code == 400
