"""WADO-URI, as Weasis, OHIF and links in reports ask."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.pictures import IMG, get, grey, image, picture
from tests.gateway.dicomweb.states import item, state
from tests.gateway.dicomweb.test_rendered import PDF_BYTES, colour, pdf, report
from tests.instances import part10_file, uid

EXPLICIT = "1.2.840.10008.1.2.1"


def url(found: Dataset, **parameters: Any) -> str:
    query = {
        "requestType": "WADO",
        "studyUID": found.StudyInstanceUID,
        "seriesUID": found.SeriesInstanceUID,
        "objectUID": found.SOPInstanceUID,
        **parameters,
    }
    return "/dicomweb/wado?" + urlencode({name: value for name, value in query.items() if value is not None})


async def send(client: Client, *found: Dataset) -> None:
    for each in found:
        assert (await store(client, part10_file(each)))[0] == 200


@pytest.mark.parametrize(
    ("parameters", "media_type"),
    [
        ({}, "image/jpeg"),
        ({"contentType": "image/jpeg"}, "image/jpeg"),
        ({"contentType": "image/png"}, "image/png"),
        ({"contentType": "image/gif"}, "image/gif"),
        ({"contentType": "image/jp2"}, "image/jp2"),
        ({"contentType": "image/tiff, image/png;q=0.5"}, "image/png"),
        ({"contentType": "image/*"}, "image/jpeg"),
        ({"contentType": "image/png", "charset": "UTF-8"}, "image/png"),
    ],
)
async def test_an_image_comes_in_the_type_that_is_asked_for(
    client: Client, parameters: dict[str, str], media_type: str
) -> None:
    found = image()
    await send(client, found)
    status, body, headers = await get(client, url(found, **parameters), IMG)
    assert (status, headers["Content-Type"]) == (200, media_type)
    assert picture(body).size == (32, 24)
    assert (await get(client, url(found, **parameters), **{"If-None-Match": headers["ETag"]}))[0] == 304


async def test_weasis_gets_the_instance_for_itself_and_a_thumbnail(client: Client) -> None:
    found = image()
    await send(client, found)
    weasis = url(found, contentType="application/dicom", transferSyntax=EXPLICIT)
    status, body, headers = await get(client, weasis, "*/*")
    assert (status, headers["Content-Type"]) == (200, f"application/dicom; transfer-syntax={EXPLICIT}")
    assert pydicom.dcmread(io.BytesIO(body)) == found
    status, _, headers = await get(client, weasis, Range="bytes=0-131")
    assert (status, headers["Content-Length"]) == (206, "132")
    thumbnail = url(found, contentType="image/jpeg", imageQuality=70, rows=256, columns=256)
    status, body, _ = await get(client, thumbnail, "image/png, image/jpeg, */*")
    assert (status, picture(body).size) == (200, (256, 192))


async def test_ohif_gets_the_instance_in_its_own_syntax_or_another(client: Client) -> None:
    found = image()
    assert (await store(client, part10_file(found, "1.2.840.10008.1.2")))[0] == 200
    for syntax in (None, "*", EXPLICIT, "1.2.840.10008.1.2.4.80"):
        status, body, _ = await get(client, url(found, contentType="application/dicom", transferSyntax=syntax))
        assert status == 200
        assert np.array_equal(pydicom.dcmread(io.BytesIO(body)).pixel_array, found.pixel_array)
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.3"):
        answered = await get(client, url(found, contentType="application/dicom", transferSyntax=syntax))
        assert answered[0] == 406, (syntax, answered[2])


async def test_several_frames_are_an_instance_a_film_or_one_of_them(client: Client) -> None:
    found = image(rows=32, frames=3, WindowCenter=256, WindowWidth=512)
    await send(client, found)
    assert (await get(client, url(found)))[2]["Content-Type"].startswith("application/dicom;")
    _, body, headers = await get(client, url(found, frameNumber=2))
    assert headers["Content-Type"] == "image/jpeg"
    assert abs(grey(body)[0, -1] - 100) < 4
    _, body, _ = await get(client, url(found, contentType="image/gif"))
    assert picture(body).n_frames == 3  # type: ignore[attr-defined]
    assert (await get(client, url(found, contentType="video/mp4")))[1][4:8] == b"ftyp"
    assert (await get(client, url(found, frameNumber=4)))[0] == 404


async def test_documents_and_reports(client: Client) -> None:
    document, text = pdf(), report()
    await send(client, document, text)
    assert (await get(client, url(document)))[1] == PDF_BYTES
    assert (await get(client, url(document, contentType="application/pdf")))[1] == PDF_BYTES
    _, _, headers = await get(client, url(text))
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Content-Security-Policy" in headers
    assert (await get(client, url(text, contentType="text/plain", charset="iso-8859-1,utf-8")))[0] == 200
    assert (await get(client, url(text, contentType="text/plain", charset="shift_jis")))[0] == 406
    assert (await get(client, url(text, contentType="image/jpeg")))[0] == 406


@pytest.mark.parametrize(
    ("parameters", "size", "corners"),
    [
        ({"rows": 48}, (64, 48), (0, 100)),
        ({"columns": 16}, (16, 12), (0, 100)),
        ({"rows": 12, "columns": 32}, (16, 12), (0, 100)),
        ({"region": "0.5,0,1,1"}, (16, 24), (100, 100)),
        ({"region": "0.25,0.5,0.75,1.0", "rows": 24}, (32, 24), (0, 100)),
        ({"windowCenter": 100, "windowWidth": 201}, (32, 24), (1, 128)),
        ({"windowCenter": 50, "windowWidth": 2}, (32, 24), (0, 255)),
    ],
)
async def test_rows_columns_region_and_window(
    client: Client, parameters: dict[str, Any], size: tuple[int, int], corners: tuple[int, int]
) -> None:
    found = image()
    await send(client, found)
    status, body, _ = await get(client, url(found, contentType="image/png", **parameters))
    assert status == 200
    shown = grey(body)
    assert picture(body).size == size
    assert (shown[0, 0], shown[-1, -1]) == corners


async def test_image_annotation_is_burned_in(client: Client) -> None:
    found = image(rows=200, columns=200, PixelData=bytes(200 * 200 * 2))
    await send(client, found)
    for name in ("imageAnnotation", "annotation"):
        _, body, _ = await get(client, url(found, contentType="image/png", **{name: "patient,technique"}))
        assert grey(body)[:100].max() > 200
        assert grey(body)[100:].max() > 200


async def test_a_presentation_state_is_applied_to_the_one_image(client: Client) -> None:
    found, other = image(), image()
    other.StudyInstanceUID = found.StudyInstanceUID
    applied = state(
        found, SoftcopyVOILUTSequence=[item(WindowCenter=50, WindowWidth=1)], PresentationLUTShape="INVERSE"
    )
    await send(client, found, other, applied)
    names = {"presentationUID": applied.SOPInstanceUID, "presentationSeriesUID": applied.SeriesInstanceUID}
    _, body, _ = await get(client, url(found, contentType="image/png", **names))
    assert (grey(body)[0, 0], grey(body)[0, -1]) == (255, 0)
    assert (await get(client, url(other, contentType="image/png", **names)))[0] == 404
    assert (await get(client, url(found, presentationUID=applied.SOPInstanceUID)))[0] == 400
    assert (await get(client, url(found, presentationUID=uid(), presentationSeriesUID=uid())))[0] == 404
    assert (await get(client, url(found, contentType="image/png", region="0,0,1,0.5", **names)))[0] == 400


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"requestType": "DICOM"}, 400),
        ({"requestType": None}, 400),
        ({"studyUID": None}, 400),
        ({"objectUID": "1.2.x"}, 400),
        ({"objectUID": "1.2.3"}, 404),
        ({"seriesUID": "1.2.3"}, 404),
        ({"contentType": "nothing"}, 400),
        ({"contentType": "text/html"}, 406),
        ({"anonymize": "yes"}, 406),
        ({"windowCenter": "40"}, 400),
        ({"windowCenter": "x", "windowWidth": "1"}, 400),
        ({"rows": "0"}, 400),
        ({"columns": "99999"}, 400),
        ({"region": "0,0,2,1"}, 400),
        ({"region": "0.5,0,0.4,1"}, 400),
        ({"region": "0,0,1"}, 400),
        ({"imageQuality": "101"}, 400),
        ({"frameNumber": "0"}, 400),
        ({"frameNumber": "2"}, 404),
        ({"imageAnnotation": "all"}, 400),
        ({"contentType": "application/dicom", "rows": "10"}, 400),
        ({"contentType": "application/dicom", "frameNumber": "1"}, 400),
    ],
)
async def test_what_does_not_fit_is_refused_with_the_name_of_the_parameter(
    client: Client, parameters: dict[str, Any], status: int
) -> None:
    found = image()
    await send(client, found)
    answered, body, headers = await get(client, url(found, **parameters))
    assert (answered, headers["Content-Type"]) == (status, "application/problem+json")
    if status == 400 and "objectUID" not in parameters:
        assert any(name.encode() in body for name in (*parameters, "window", "quality", "annotation"))


async def test_parameters_without_effect_are_named(client: Client) -> None:
    found = colour()
    await send(client, found)
    _, _, headers = await get(client, url(found, windowCenter=1, windowWidth=2))
    assert headers["Warning"].endswith('ignored: window"')
