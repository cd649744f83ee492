"""Conformance statement 4.4.5 to 4.4.7: rendered resources, thumbnails, presentation states."""

from __future__ import annotations

import io

import numpy as np
import pytest
import requests
from PIL import Image
from pydicom.dataset import Dataset

from tests.conformance.claims import claim
from tests.conformance.conftest import Web, instance_path, parts
from tests.gateway.dicomweb.pictures import image
from tests.gateway.dicomweb.states import state
from tests.gateway.dicomweb.test_rendered import pdf, raw_data, report
from tests.instances import data_set

JPEGS = 'multipart/related; type="image/jpeg"'
SIGNATURES = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG",
    "image/gif": b"GIF8",
    "image/jp2": b"\0\0\0\x0cjP  ",
}


def opened(answer: requests.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def pixels(answer: requests.Response) -> np.ndarray:
    return np.asarray(opened(answer).convert("L"))


@pytest.fixture(scope="module")
def one(web: Web) -> Dataset:
    """A picture of 32 x 24, its right half bright."""
    made = image(WindowCenter=[128, 50], WindowWidth=[256, 20], WindowCenterWidthExplanation=["SOFT", "BONE"])
    return web.store(made)[0]


@pytest.fixture(scope="module")
def cine(web: Web) -> Dataset:
    """Three frames."""
    return web.store(image(frames=3, WindowCenter=256, WindowWidth=512))[0]


@claim("P1")
@pytest.mark.parametrize("media_type", SIGNATURES)
def test_one_frame_as_every_still_type(web: Web, one: Dataset, media_type: str) -> None:
    path = f"{instance_path(one)}/rendered"
    answer = web.get(path, media_type)
    assert answer.headers["Content-Type"] == media_type
    assert answer.content.startswith(SIGNATURES[media_type])
    assert web.get(path, "*/*").headers["Content-Type"] == "image/jpeg"
    assert web.get(f"{instance_path(one)}/frames/1/rendered", media_type).content == answer.content


@claim("P2", "P8", "P9")
def test_several_frames_as_an_animation_a_video_and_a_first_frame(web: Web, cine: Dataset) -> None:
    path = f"{instance_path(cine)}/rendered"
    assert getattr(opened(web.get(path, "image/gif")), "n_frames", 1) == 3
    video = web.get(path, "video/mp4")
    assert (video.headers["Content-Type"], video.content[4:8]) == ("video/mp4", b"ftyp")
    assert b"av01" in video.content
    first = web.get(f"{instance_path(cine)}/frames/1/rendered", "image/png")
    assert web.get(path, "image/png").content == first.content
    assert getattr(opened(web.get(f"{instance_path(cine)}/frames/1,3/rendered", "image/gif")), "n_frames", 1) == 2


@claim("P3")
def test_a_document_is_its_pdf(web: Web) -> None:
    (found,) = web.store(pdf())
    answer = web.get(f"{instance_path(found)}/rendered", "text/html,application/xhtml+xml,*/*;q=0.8")
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")


@claim("P4", "P13")
def test_a_report_is_a_page_without_script_or_a_text(web: Web) -> None:
    (found,) = web.store(report("A <b>finding</b>"))
    page = web.get(f"{instance_path(found)}/rendered")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "A &lt;b&gt;finding" in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    text = web.get(f"{instance_path(found)}/rendered", "text/plain")
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "A <b>finding</b>" in text.text


@claim("P5")
def test_what_shows_nothing_is_406(web: Web) -> None:
    (found,) = web.store(raw_data())
    assert web.get(f"{instance_path(found)}/rendered").status_code == 406


@claim("P6", "P7", "P10", "P11")
def test_several_pictures_come_in_parts(web: Web, cine: Dataset) -> None:
    (other,) = web.store(image(StudyInstanceUID=cine.StudyInstanceUID))
    study = f"{instance_path(cine, 'study')}/rendered"
    for accept in (JPEGS, "*/*"):
        found = parts(web.get(study, accept))
        places = {head["Content-Location"].removeprefix(web.root) for head, _ in found}
        assert f"{instance_path(other)}/rendered" in places
        assert {head["Content-Type"] for head, _ in found} == {"image/jpeg"}
    assert len(parts(web.get(study, JPEGS))) == 4
    assert web.get(study, "image/jpeg").status_code == 406
    assert web.get(f"{instance_path(cine)}/frames/1,2/rendered", "image/jpeg").status_code == 406


@claim("P12")
def test_what_cannot_be_rendered_is_left_out_with_a_warning(web: Web) -> None:
    shown = image()
    hidden = raw_data()
    hidden.StudyInstanceUID = shown.StudyInstanceUID
    web.store(shown, hidden)
    answer = web.get(f"{instance_path(shown, 'study')}/rendered", JPEGS)
    assert (answer.status_code, len(parts(answer))) == (206, 1)
    assert answer.headers["Warning"].startswith('299 gateway "1 ')


@claim("P14", "P15")
def test_windows_by_value_function_and_name(web: Web, one: Dataset) -> None:
    path = f"{instance_path(one)}/rendered"
    for function in ("linear", "linear-exact", "sigmoid"):
        assert web.get(path, window=f"50,20,{function}").status_code == 200
    narrow = web.get(path, "image/png", window="50,20")
    assert pixels(narrow).max() == 255 > pixels(web.get(path, "image/png")).max()
    for name in ("2", "bone"):
        assert web.get(path, "image/png", window=name).content == narrow.content


@claim("P16", "P17")
def test_the_viewport_sizes_cuts_and_mirrors(web: Web, one: Dataset) -> None:
    path = f"{instance_path(one)}/rendered"
    assert opened(web.get(path, viewport="64,48")).size == (64, 48)
    right = pixels(web.get(path, "image/png", viewport="16,24,16,0,16,24"))
    assert right.shape == (24, 16)
    assert right.min() > 50
    mirrored = pixels(web.get(path, "image/png", viewport="32,24,0,0,-32,24"))
    assert np.array_equal(mirrored, pixels(web.get(path, "image/png"))[:, ::-1])


@claim("P18")
def test_quality(web: Web, one: Dataset) -> None:
    path = f"{instance_path(one)}/rendered"
    assert web.get(path).content == web.get(path, quality="90").content
    assert len(web.get(path, quality="1").content) < len(web.get(path, quality="100").content)
    exact = pixels(web.get(path, "image/jp2", quality="100"))
    assert np.array_equal(exact, pixels(web.get(path, "image/png")))


@claim("P19")
def test_annotation(web: Web) -> None:
    (found,) = web.store(image(rows=200, columns=200))
    path = f"{instance_path(found)}/rendered"
    pictures = {web.get(path, "image/png", annotation=kinds).content for kinds in ("patient", "technique")}
    pictures.add(web.get(path, "image/png", annotation="patient,technique").content)
    pictures.add(web.get(path, "image/png").content)
    assert len(pictures) == 4


@claim("P20")
@pytest.mark.parametrize("name", ["no", "yes", "srgb", "adobergb", "rommrgb", "displayp3"])
def test_icc_profiles(web: Web, name: str) -> None:
    colour = data_set(
        **{"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB", "PixelData": bytes(48)},
        **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    )
    (found,) = web.store(colour)
    profile = opened(web.get(f"{instance_path(found)}/rendered", iccprofile=name)).info.get("icc_profile")
    assert (profile is not None) is (name != "no")


@claim("P21")
@pytest.mark.parametrize(
    "query",
    ["window=1", "window=1,0", "viewport=0,1", "viewport=9000,1", "quality=101", "annotation=x", "iccprofile=x"],
)
def test_a_value_out_of_form_is_400(web: Web, one: Dataset, query: str) -> None:
    # A window of one value is a name, and this image has two windows.
    asked = query if query != "window=1" else "window=9"
    assert web.get(f"{instance_path(one)}/rendered?{asked}").status_code == 400


@claim("P22")
def test_parameters_without_effect_are_named_in_a_warning(web: Web, one: Dataset) -> None:
    answer = web.get(f"{instance_path(one)}/rendered", "image/png", quality="50", iccprofile="srgb")
    assert answer.status_code == 200
    assert answer.headers["Warning"].startswith("299 ")
    assert "quality" in answer.headers["Warning"]
    assert "iccprofile" in answer.headers["Warning"]


# Thumbnails


@claim("P23", "P24")
def test_thumbnails_at_four_levels(web: Web, one: Dataset) -> None:
    resources = [instance_path(one, level) for level in ("study", "series", "instance")]
    for resource in (*resources, f"{instance_path(one)}/frames/1"):
        for media_type in ("image/jpeg", "image/png", "image/gif"):
            answer = web.get(f"{resource}/thumbnail", media_type)
            assert answer.headers["Content-Type"] == media_type
            assert max(opened(answer).size) == 128
    assert max(opened(web.get(f"{instance_path(one)}/thumbnail", viewport="2000,2000")).size) == 512


@claim("P25")
def test_a_thumbnail_of_pixels_that_may_carry_a_name_is_neutral(web: Web) -> None:
    pictures = set()
    for doubtful in ({"BurnedInAnnotation": "YES"}, {"Modality": "US"}):
        pair = web.store(image(**doubtful), image(rows=30, **doubtful))
        same = {web.get(f"{instance_path(each)}/thumbnail", "image/png").content for each in pair}
        assert len(same) == 1
        pictures |= same
    shown = image(BurnedInAnnotation="NO")
    web.store(shown)
    assert web.get(f"{instance_path(shown)}/thumbnail", "image/png").content not in pictures


# Presentation states


@claim("P26", "P27")
def test_a_presentation_state_is_its_images_as_it_shows_them(web: Web) -> None:
    shown, absent = image(), image()
    absent.StudyInstanceUID = shown.StudyInstanceUID
    inverse = state(shown, PresentationLUTShape="INVERSE")
    web.store(shown, inverse)
    plain = pixels(web.get(f"{instance_path(shown)}/rendered", "image/png"))
    under = pixels(web.get(f"{instance_path(inverse)}/rendered", "image/png"))
    assert np.array_equal(under, 255 - plain)
    both, gone = state(shown, absent), state(absent)
    web.store(both, gone)
    answer = web.get(f"{instance_path(both)}/rendered", JPEGS)
    assert answer.status_code == 206
    assert web.get(f"{instance_path(gone)}/rendered").status_code == 404
