"""Rendered resources: levels, media types, parameters, what is left out."""

from __future__ import annotations

import base64
import io
import shutil
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientPayloadError
from PIL import ImageCms
from playwright.async_api import async_playwright
from pydicom.dataset import Dataset

from gateway.assembly import Core
from gateway.dicomweb import rendered
from gateway.imaging.picture import RenderedMediaType
from gateway.imaging.placeholder import thumbnail_placeholder
from storage.dicom import file_meta
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.pictures import BROWSER, IMG, JPEGS, code, get, grey, image, parts, path_of, picture
from tests.instances import data_set, encapsulated, encode, part10_file
from tests.programs import need_program

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PDF_BYTES = b"%PDF-1.4\n" + b"x" * 3000 + b"\n%%EOF"


async def send(client: Client, *found: Dataset) -> None:
    for each in found:
        assert (await store(client, part10_file(each)))[0] == 200


def study(*found: Dataset) -> tuple[str, str]:
    """Put instances into one study and series; the paths of both."""
    for each in found:
        each.StudyInstanceUID, each.SeriesInstanceUID = found[0].StudyInstanceUID, found[0].SeriesInstanceUID
    path = path_of(found[0])
    return path.partition("/series/")[0], path.partition("/instances/")[0]


def pdf(**attributes: Any) -> Dataset:
    return data_set(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1",
        Modality="DOC",
        Rows=None,
        Columns=None,
        PixelData=None,
        MIMETypeOfEncapsulatedDocument="application/pdf",
        **({"EncapsulatedDocument": PDF_BYTES + b"\0", "EncapsulatedDocumentLength": len(PDF_BYTES)} | attributes),
    )


def report(text: str = "A <b>finding</b>") -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", text
    item.ConceptNameCodeSequence = [code("121071", "DCM", "Finding")]
    return data_set(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22",
        Modality="SR",
        Rows=None,
        Columns=None,
        PixelData=None,
        ValueType="CONTAINER",
        ConceptNameCodeSequence=[code("18748-4", "LN", "Diagnostic Imaging Report")],
        ContentSequence=[item],
    )


def raw_data() -> Dataset:
    return data_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.66", Modality="OT", Rows=None, Columns=None, PixelData=None)


# Levels and types


async def test_a_study_and_a_series_come_in_parts_that_say_where_they_are_from(client: Client) -> None:
    found = [image(InstanceNumber=number) for number in (1, 2, 3)]
    levels = study(*found)
    await send(client, *found)
    for level in levels:
        status, body, headers = await get(client, f"{level}/rendered", JPEGS)
        assert status == 200
        assert headers["Content-Type"].startswith('multipart/related; type="image/jpeg"; boundary=')
        got = parts(headers, body)
        assert [each["Content-Type"] for each in got] == ["image/jpeg"] * 3
        assert [each["Content-Location"].partition("/dicomweb")[2] for each in got] == [
            f"{path_of(each).removeprefix('/dicomweb')}/rendered" for each in found
        ]
        assert picture(got[0].get_payload(decode=True)).size == (32, 24)  # type: ignore[arg-type]


async def test_a_series_takes_one_animated_file_but_not_one_still_picture(client: Client) -> None:
    found = [image(InstanceNumber=number, CineRate=20) for number in (1, 2, 3)]
    found[1].PixelData = bytes(len(found[1].PixelData))
    _, series = study(*found)
    await send(client, *found)
    status, body, headers = await get(client, f"{series}/rendered", "image/gif")
    assert (status, headers["Content-Type"]) == (200, "image/gif")
    shown = picture(body)
    assert (shown.n_frames, shown.info["duration"], shown.info["loop"]) == (3, 50, 0)  # type: ignore[attr-defined]
    status, body, headers = await get(client, f"{series}/rendered", "image/jpeg")
    assert status == 406
    assert b"multipart/related" in body


@pytest.mark.parametrize(
    ("accept", "media_type", "frames"),
    [
        ("image/jpeg", "image/jpeg", 1),
        ("image/png", "image/png", 1),
        ("image/jp2", "image/jp2", 1),
        ("*/*", "image/jpeg", 1),
        (IMG, "image/jpeg", 1),
        ("image/gif", "image/gif", 4),
    ],
)
async def test_a_multi_frame_instance_is_its_first_frame_or_all_of_them_moving(
    client: Client, accept: str, media_type: str, frames: int
) -> None:
    found = image(frames=4, FrameTime="40", WindowCenter=256, WindowWidth=512)
    await send(client, found)
    status, body, headers = await get(client, f"{path_of(found)}/rendered", accept)
    assert (status, headers["Content-Type"]) == (200, media_type)
    shown = picture(body)
    assert getattr(shown, "n_frames", 1) == frames
    assert np.ptp(grey(body)) > 40
    if frames > 1:
        assert shown.info["duration"] == 40


async def test_frames_come_in_the_order_of_their_list(client: Client) -> None:
    found = image(frames=3)
    await send(client, found)
    status, body, headers = await get(
        client, f"{path_of(found)}/frames/3,1/rendered", 'multipart/related; type="image/png"'
    )
    assert status == 200
    got = parts(headers, body)
    assert [each["Content-Location"].rpartition("/frames/")[2] for each in got] == ["3/rendered", "1/rendered"]
    bright, dark = (grey(each.get_payload(decode=True))[0, -1] for each in got)  # type: ignore[arg-type]
    assert (bright, dark) == (255, 100)
    assert (await get(client, f"{path_of(found)}/frames/2/rendered", "image/png"))[0] == 200
    assert (await get(client, f"{path_of(found)}/frames/1,2/rendered", "image/png"))[0] == 406
    assert (await get(client, f"{path_of(found)}/frames/4/rendered"))[0] == 404
    assert (await get(client, f"{path_of(found)}/frames/0/rendered"))[0] == 400


async def test_the_accept_parameter_comes_before_the_header(client: Client) -> None:
    found = image()
    await send(client, found)
    _, _, headers = await get(client, f"{path_of(found)}/rendered?accept=image%2Fpng", "image/jpeg")
    assert headers["Content-Type"] == "image/png"


async def test_what_cannot_be_rendered_is_left_out_and_said(client: Client) -> None:
    found = [image(InstanceNumber=1), raw_data(), image(InstanceNumber=3)]
    level, series = study(*found)
    await send(client, *found)
    status, body, headers = await get(client, f"{series}/rendered", "*/*")
    assert status == 206
    assert "1 instances" in headers["Warning"]
    assert len(parts(headers, body)) == 2
    status, body, _ = await get(client, f"{path_of(found[1])}/rendered", "*/*")
    assert status == 406
    assert (await get(client, f"{level}/rendered", "text/html"))[0] == 406


async def test_a_damaged_frame_is_left_out_too(client: Client) -> None:
    good, bad = image(InstanceNumber=1), image(InstanceNumber=2)
    _, series = study(good, bad)
    await send(client, good)
    pixels = encapsulated(b"\xff\xd8\xff\xe0 not a JPEG at all ")
    del bad.PixelData
    whole = _with_syntax(bad, "1.2.840.10008.1.2.4.50") + pixels
    assert (await store(client, whole))[0] == 200
    status, body, headers = await get(client, f"{series}/rendered", JPEGS)
    assert status == 206
    assert len(parts(headers, body)) == 1
    assert "1 instances or frames" in headers["Warning"]


def _with_syntax(found: Dataset, syntax: str) -> bytes:
    """A Part 10 file without pixel data that announces a transfer syntax."""

    meta = file_meta.FileMeta(syntax, found.SOPClassUID, found.SOPInstanceUID)
    return file_meta.write(meta) + encode(found)


async def test_errors_after_the_first_parts_break_the_connection(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendered, "AHEAD_PICTURES", 1)
    good, bad = image(InstanceNumber=1), image(InstanceNumber=2)
    _, series = study(good, bad)
    del bad.PixelData
    await send(client, good)
    assert (await store(client, _with_syntax(bad, "1.2.840.10008.1.2.4.50") + encapsulated(b"\xff\xd8\xff no ")))[
        0
    ] == 200

    with pytest.raises(ClientPayloadError):
        await get(client, f"{series}/rendered", JPEGS)


async def test_answers_are_conditional_and_the_same_each_time(client: Client) -> None:
    found = image(frames=3)
    await send(client, found)
    for accept in ("image/png", "image/gif", "video/mp4", JPEGS):
        _, body, headers = await get(client, f"{path_of(found)}/rendered", accept)
        _, again, _ = await get(client, f"{path_of(found)}/rendered", accept)
        assert body == again
        status, _, _ = await get(client, f"{path_of(found)}/rendered", accept, **{"If-None-Match": headers["ETag"]})
        assert status == 304
        _, _, other = await get(client, f"{path_of(found)}/rendered?viewport=28,28", accept)
        assert other["ETag"] != headers["ETag"]
    async with client.head(f"{path_of(found)}/rendered", headers={"Accept": "image/png"}) as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 0


def pictures_made(core: Core) -> float:
    labels = {"engine": "imaging", "operation": "render"}
    return core.metrics.registry.get_sample_value("gateway_engine_operation_seconds_count", labels) or 0.0


@pytest.mark.parametrize("what", ["rendered", "thumbnail"])
async def test_a_picture_is_made_once_as_long_as_it_is_the_same(client: Client, core: Core, what: str) -> None:
    found = image()
    await send(client, found)
    path = f"{path_of(found)}/{what}"
    _, first, headers = await get(client, path, "image/png")
    made = pictures_made(core)
    assert made >= 1
    status, again, other = await get(client, path, "image/png")
    assert (status, again, other["ETag"], other["Content-Type"]) == (200, first, headers["ETag"], "image/png")
    status, part, _ = await get(client, path, "image/png", Range="bytes=1-3")
    assert (status, part) == (206, b"PNG")
    assert pictures_made(core) == made
    await get(client, path, "image/jpeg")
    await get(client, f"{path}?viewport=10,10", "image/png")
    assert pictures_made(core) == made + 2

    # Another version is another picture, and of what is deleted there is none.
    found.PixelData = bytes(len(found.PixelData))
    await send(client, found)
    _, changed, _ = await get(client, path, "image/png")
    assert changed != first
    assert pictures_made(core) == made + 3
    async with client.delete(path_of(found)) as response:
        assert response.status == 204
    assert (await get(client, path, "image/png"))[0] == 410


async def test_a_picture_from_memory_has_the_warnings_of_its_request(client: Client) -> None:
    found = image()
    await send(client, found)
    path = f"{path_of(found)}/rendered"
    for _ in range(2):
        assert "Warning" not in (await get(client, path, "image/png"))[2]
        _, _, headers = await get(client, f"{path}?quality=90", "image/png")
        assert headers["Warning"].endswith('ignored: quality"')


# Video, documents, texts


@need_program("chromium", "chromium")
async def test_a_cine_becomes_a_video_that_a_browser_plays(client: Client) -> None:
    found = image(rows=64, columns=96, frames=5, RecommendedDisplayFrameRate=10)
    await send(client, found)
    status, body, headers = await get(client, f"{path_of(found)}/rendered", "video/mp4")
    assert (status, headers["Content-Type"], body[4:8]) == (200, "video/mp4", b"ftyp")
    script = """async data => {
        const video = document.createElement('video');
        video.muted = true;
        video.src = 'data:video/mp4;base64,' + data;
        await new Promise((yes, no) => { video.onloadeddata = yes; video.onerror = () => no(video.error.message); });
        const seen = [];
        const canvas = document.createElement('canvas');
        canvas.width = video.videoWidth; canvas.height = video.videoHeight;
        const pixel = x => canvas.getContext('2d').getImageData(x, 32, 1, 1).data[0];
        for (const at of [0.05, 0.15]) {
            video.currentTime = at;
            await new Promise(yes => { video.onseeked = yes; });
            // On a busy machine the frame comes to the picture after it was found.
            const before = pixel(85);
            for (let tries = 0; tries < 200 && pixel(85) === before; tries++) {
                await new Promise(yes => setTimeout(yes, 20));
                canvas.getContext('2d').drawImage(video, 0, 0);
            }
            seen.push([pixel(10), pixel(85)]);
        }
        return [video.videoWidth, video.videoHeight, video.duration, seen];
    }"""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = await browser.new_page()
        width, height, duration, seen = await page.evaluate(script, base64.b64encode(body).decode())
        await browser.close()
    assert (width, height, duration) == (96, 64, 0.5)
    assert np.allclose(seen, [[0, 100], [0, 200]], atol=12)


async def test_stored_video_goes_out_as_it_is_and_by_range(client: Client) -> None:
    stream = bytes(range(256)) * 8
    found = data_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.4.1", Modality="XC", NumberOfFrames=50, PixelData=None)
    whole = _with_syntax(found, "1.2.840.10008.1.2.4.102") + encapsulated(stream[:1000], stream[1000:])
    assert (await store(client, whole))[0] == 200
    status, body, headers = await get(client, f"{path_of(found)}/rendered", "video/*")
    assert (status, headers["Content-Type"], body) == (200, "video/mp4", stream)
    status, body, headers = await get(client, f"{path_of(found)}/rendered", "*/*", Range="bytes=990-1009")
    assert (status, body) == (206, stream[990:1010])
    assert headers["Content-Range"] == "bytes 990-1009/2048"
    assert (await get(client, f"{path_of(found)}/rendered", "image/jpeg"))[0] == 406


async def test_an_encapsulated_pdf_opens_in_a_browser_without_its_padding(client: Client) -> None:
    found = pdf()
    await send(client, found)
    status, body, headers = await get(client, f"{path_of(found)}/rendered", BROWSER)
    assert (status, headers["Content-Type"], body) == (200, "application/pdf", PDF_BYTES)
    assert headers["Content-Disposition"].startswith("inline")
    status, body, _ = await get(client, f"{path_of(found)}/rendered", "application/pdf", Range="bytes=0-4")
    assert (status, body) == (206, b"%PDF-")
    assert (await get(client, f"{path_of(found)}/rendered", "text/html"))[0] == 406


async def test_something_else_under_the_name_of_a_pdf_is_refused(client: Client) -> None:
    found = pdf(EncapsulatedDocument=b"<script>alert(1)</script>" * 4, EncapsulatedDocumentLength=100)
    await send(client, found)
    status, body, headers = await get(client, f"{path_of(found)}/rendered", "*/*")
    assert (status, headers["Content-Type"]) == (406, "application/problem+json")
    assert b"script" not in body


async def test_a_report_is_a_page_that_cannot_run_anything(client: Client) -> None:
    found = report()
    await send(client, found)
    status, body, headers = await get(client, f"{path_of(found)}/rendered", BROWSER)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"A &lt;b&gt;finding&lt;/b&gt;" in body
    assert b"Diagnostic Imaging Report" in body
    status, body, headers = await get(client, f"{path_of(found)}/rendered", "text/plain")
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert b"Finding: A <b>finding</b>" in body


async def test_a_mixed_study_gives_each_instance_its_own_type(client: Client) -> None:
    found = [image(), report(), pdf()]
    level, _ = study(*found)
    await send(client, *found)
    status, body, headers = await get(client, f"{level}/rendered", "*/*")
    assert status == 200
    kinds = {each["Content-Type"].partition(";")[0] for each in parts(headers, body)}
    assert kinds == {"image/jpeg", "text/html", "application/pdf"}


# Parameters


@pytest.mark.parametrize(
    "query",
    [
        "window=1",
        "window=no such window",
        "window=,",
        "window=40,0,linear",
        "window=40,400,cubic",
        "window=40,nan,linear",
        "window=1,2,linear,4",
        "window=" + "9" * 40 + ",1,linear",
        "viewport=0,10",
        "viewport=10",
        "viewport=,",
        "viewport=9999,10",
        "viewport=1,1,1,1,1,1,1",
        "viewport=10,10,100,100,5,5",
        "viewport=10,10,0,0,0,5",
        "viewport=10,10,x",
        "viewport=10,10,1e9",
        "quality=0",
        "quality=101",
        "quality=high",
        "annotation=diagnosis",
        "annotation=",
        "iccprofile=cmyk",
    ],
)
async def test_parameters_out_of_form_are_refused(client: Client, query: str) -> None:
    found = image(WindowCenter=None, WindowWidth=None)
    await send(client, found)
    status, body, _ = await get(client, f"{path_of(found)}/rendered?{query}")
    assert status == 400
    assert query.partition("=")[0].encode() in body


@pytest.mark.parametrize(
    ("window", "levels"),
    [
        ("100,1,linear-exact", (0, 128)),
        ("100,201,linear", (0, 128)),
        ("100,200,linear-exact", (0, 128)),
        ("100,100,sigmoid", (round(255 / (1 + np.exp(4))), 128)),
        ("2", (0, 255)),
        ("lung", (0, 255)),
        ("SOFT", (0, 50)),
    ],
)
async def test_windows_by_value_by_name_and_by_number(client: Client, window: str, levels: tuple[int, int]) -> None:
    found = image(WindowCenter=[256, 50], WindowWidth=[512, 10], WindowCenterWidthExplanation=["SOFT", "LUNG"])
    await send(client, found)
    status, body, _ = await get(client, f"{path_of(found)}/rendered?window={window}", "image/png")
    assert status == 200
    shown = grey(body)
    assert np.allclose((shown[0, 0], shown[0, -1]), levels, atol=1)


@pytest.mark.parametrize(
    ("viewport", "size", "corners"),
    [
        ("64,64", (64, 48), (0, 100)),
        ("16,16", (16, 12), (0, 100)),
        ("8,8,12,0,8,8", (8, 8), (0, 100)),
        (",,16", (16, 24), (100, 100)),
        (",,,,-32,24", (32, 24), (100, 0)),
        ("32,24,,,-32,-24", (32, 24), (100, 0)),
        ("8,,0,0,4,8", (4, 8), (0, 0)),
        ("10,10,-4,0,8,8", (10, 10), (0, 0)),
    ],
)
async def test_viewports_scale_crop_and_mirror(
    client: Client, viewport: str, size: tuple[int, int], corners: tuple[int, int]
) -> None:
    found = image()
    await send(client, found)
    status, body, _ = await get(client, f"{path_of(found)}/rendered?viewport={viewport}", "image/png")
    assert status == 200
    shown = grey(body)
    assert picture(body).size == size
    assert (shown[0, 0], shown[-1, -1]) == corners


async def test_a_negative_height_turns_the_picture_upside_down(client: Client) -> None:
    found = image()
    pixels = np.zeros((24, 32), "<u2")
    pixels[:12] = 200
    found.PixelData = pixels.tobytes()
    await send(client, found)
    _, body, _ = await get(client, f"{path_of(found)}/rendered?viewport=32,24,0,0,32,-24", "image/png")
    assert (grey(body)[0, 0], grey(body)[-1, 0]) == (0, 200)


async def test_annotation_burns_in_the_patient_or_the_technique(client: Client) -> None:
    found = image(rows=256, columns=256, PixelData=bytes(256 * 256 * 2), KVP="120", PatientName="Doe^Jane")
    await send(client, found)
    shown = {}
    for kinds in ("patient", "technique", "patient,technique", ""):
        query = f"?annotation={kinds}" if kinds else ""
        status, body, _ = await get(client, f"{path_of(found)}/rendered{query}", "image/png")
        assert status == 200
        pixels = grey(body)
        shown[kinds] = (pixels[:128].max() > 200, pixels[128:].max() > 200)
    assert shown == {
        "patient": (True, False),
        "technique": (False, True),
        "patient,technique": (True, True),
        "": (False, False),
    }


def colour(**attributes: Any) -> Dataset:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    return data_set(
        SOPClassUID=SECONDARY_CAPTURE,
        Rows=16,
        Columns=16,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=pixels.tobytes(),
        **attributes,
    )


@pytest.mark.parametrize("space", ["srgb", "adobergb", "rommrgb", "displayp3"])
async def test_icc_profiles_describe_the_pixels_that_were_converted_to_them(client: Client, space: str) -> None:
    found = colour()
    await send(client, found)
    _, body, _ = await get(client, f"{path_of(found)}/rendered?iccprofile={space}", "image/png")
    shown = picture(body)
    embedded = ImageCms.ImageCmsProfile(io.BytesIO(shown.info["icc_profile"]))
    assert (shown.getpixel((3, 3)) == (200, 100, 50)) == (space == "srgb")
    back = ImageCms.profileToProfile(shown, embedded, ImageCms.createProfile("sRGB"))
    assert back is not None
    assert np.allclose(back.getpixel((3, 3)), (200, 100, 50), atol=1)


async def test_an_instances_own_profile_goes_along_unless_it_is_not_wanted(client: Client) -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = colour(ICCProfile=own)
    await send(client, found)
    for query, expected in (("", True), ("?iccprofile=yes", True), ("?iccprofile=no", False)):
        _, body, _ = await get(client, f"{path_of(found)}/rendered{query}", "image/png")
        assert ("icc_profile" in picture(body).info) == expected


async def test_parameters_without_effect_are_named_in_a_warning(client: Client) -> None:
    tinted, plain, text = colour(), image(), report()
    await send(client, tinted, plain, text)
    for found, query, names in (
        (tinted, "window=40,400,linear", "window"),
        (plain, "iccprofile=srgb", "iccprofile"),
        (plain, "quality=50&accept=image%2Fpng", "quality"),
        (text, "viewport=10,10&quality=5", "quality, viewport"),
    ):
        status, _, headers = await get(client, f"{path_of(found)}/rendered?{query}", "*/*")
        assert status == 200
        assert headers["Warning"].startswith("299 ")
        assert headers["Warning"].endswith(f'ignored: {names}"')
    _, _, headers = await get(client, f"{path_of(plain)}/rendered?window=40,400,linear&quality=5", "*/*")
    assert "Warning" not in headers


async def test_more_frames_than_an_animation_holds_are_refused(client: Client, core: Any) -> None:
    core.projections.stored.render._max_frames = 3
    found = image(frames=4)
    await send(client, found)
    assert (await get(client, f"{path_of(found)}/rendered", "image/gif"))[0] == 413
    assert (await get(client, f"{path_of(found)}/frames/1,2,3/rendered", "image/gif"))[0] == 200


# Thumbnails


async def test_thumbnails_show_no_overlay_and_come_as_gif_too(client: Client) -> None:
    overlay = np.packbits(np.ones(24 * 32, np.uint8)).tobytes()
    found = image(PixelData=bytes(24 * 32 * 2), BurnedInAnnotation="NO")
    for keyword, vr, value in (
        (0x60000010, "US", 24), (0x60000011, "US", 32), (0x60000040, "CS", "G"), (0x60000050, "SS", [1, 1]),
        (0x60000100, "US", 1), (0x60000102, "US", 0), (0x60003000, "OW", overlay),
    ):  # fmt: skip
        found.add_new(keyword, vr, value)
    await send(client, found)
    _, shown, _ = await get(client, f"{path_of(found)}/rendered", "image/png")
    assert grey(shown).min() == 255
    for level in (path_of(found), path_of(found).partition("/series/")[0]):
        status, body, headers = await get(client, f"{level}/thumbnail", "image/gif")
        assert (status, headers["Content-Type"]) == (200, "image/gif")
        assert grey(body).max() == 0


async def test_thumbnails_of_what_has_no_frames_are_neutral(client: Client) -> None:
    found = report()
    await send(client, found)
    status, body, headers = await get(client, f"{path_of(found)}/thumbnail?viewport=64,32", "image/png")
    assert (status, picture(body).size) == (200, (64, 32))
    status, _, _ = await get(
        client, f"{path_of(found)}/thumbnail?viewport=64,32", "image/png", **{"If-None-Match": headers["ETag"]}
    )
    assert status == 304


async def test_a_study_is_shown_by_a_picture_even_when_its_first_series_has_none(client: Client) -> None:
    text, shown = report(), image(BurnedInAnnotation="NO", SeriesNumber=2)
    shown.StudyInstanceUID = text.StudyInstanceUID
    await send(client, text, shown)
    level = path_of(text).partition("/series/")[0]
    status, body, _ = await get(client, f"{level}/thumbnail?viewport=32,24", "image/png")
    assert status == 200
    assert (grey(body)[0, 0], grey(body)[0, -1]) == (0, 100)


@pytest.mark.parametrize(
    ("attributes", "neutral"),
    [
        ({}, False),
        ({"BurnedInAnnotation": "YES"}, True),
        ({"SOPClassUID": SECONDARY_CAPTURE}, True),
        ({"SOPClassUID": f"{SECONDARY_CAPTURE}.2"}, True),
        ({"SOPClassUID": SECONDARY_CAPTURE, "BurnedInAnnotation": "NO"}, False),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, False),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"], "Modality": "SM"}, True),
        ({"ConversionType": "WSD"}, True),
        ({"Modality": "US"}, True),
        ({"Modality": "XA"}, True),
    ],
)
async def test_a_thumbnail_of_what_may_name_somebody_is_neutral(
    client: Client, attributes: dict[str, Any], neutral: bool
) -> None:
    found = image(**attributes)
    await send(client, found)
    _, body, _ = await get(client, f"{path_of(found)}/thumbnail?viewport=64,48", "image/png")
    expected = thumbnail_placeholder(found.Modality, RenderedMediaType.PNG, (64, 48)).data
    assert (body == expected) == neutral
