"""P4, P5, P6 and P8: instances that lie about their pixels, their elements or their texts, over the web.

What a modality sent is kept where it can be read at all; what cannot be shown is refused when it is asked for.
"""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from storage.dicom import file_meta
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_wado import get, path_of
from tests.instances import CT, data_set, element, identity, part10_file, text

PART10 = "application/dicom; transfer-syntax=*"
JPEG, JPEG_2000, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


def raw_file(body: bytes, syntax: str = file_meta.EXPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    """A Part 10 file of elements that no library would write."""
    return file_meta.write(file_meta.FileMeta(syntax, CT, "1.2.3.4")) + body


def fragments(*frames: bytes) -> bytes:
    """Encapsulated Pixel Data with an empty offset table."""
    items = [b"", *(frame + b"\0" * (len(frame) % 2) for frame in frames)]
    body = b"".join(b"\xfe\xff\x00\xe0" + len(each).to_bytes(4, "little") + each for each in items)
    return element(0x7FE00010, "OB", body + b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF)


def picture(kind: str, width: int, height: int) -> bytes:
    """An encoded gray picture."""
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, kind)
    return buffer.getvalue()


def pixels(rows: int = 4, columns: int = 4, **more: int) -> bytes:
    """Elements of the Image Pixel Module, 8 bits gray unless told otherwise."""
    found = {"frames": 1, "allocated": 8, "stored": 8, "high": 7, "samples": 1} | more
    values = [
        (0x00280002, found["samples"]),
        (0x00280010, rows),
        (0x00280011, columns),
        (0x00280100, found["allocated"]),
    ]
    values += [(0x00280101, found["stored"]), (0x00280102, found["high"]), (0x00280103, 0)]
    shorts = {tag: element(tag, "US", value.to_bytes(2, "little")) for tag, value in values}
    shorts[0x00280004] = text(0x00280004, "CS", "MONOCHROME2")
    shorts[0x00280008] = text(0x00280008, "IS", str(found["frames"]))
    return b"".join(shorts[tag] for tag in sorted(shorts))


def sized(vr: str, value: bytes) -> bytes:
    """Rows and Columns in a VR that is not theirs."""
    return pixels().replace(element(0x00280010, "US", b"\4\0"), element(0x00280010, vr, value))


GRAY = element(0x7FE00010, "OW", bytes(16))
LYING = {
    "P4 a JPEG of another size": (JPEG, pixels() + fragments(picture("JPEG", 64, 64))),
    "P4 a JPEG 2000 of another size": (JPEG_2000, pixels() + fragments(picture("JPEG2000", 64, 64))),
    "P4 a JPEG 2000 of 60,000 x 60,000": (
        JPEG_2000,
        pixels(60_000, 60_000)
        + fragments(picture("JPEG2000", 8, 8).replace(b"\0\0\0\x08\0\0\0\x08", b"\0\0\xea\x60" * 2)),
    ),
    "P4 no JPEG": (JPEG, pixels() + fragments(b"\xff\xd8\xff\xe0 no")),
    "P4 RLE with offsets beyond its end": (RLE, pixels() + fragments(b"\x01\0\0\0" + b"\xff" * 60)),
    "P4 sizes whose product is out of range": (
        "",
        pixels(65535, 65535, frames=2**31 - 1, samples=3, allocated=16, stored=16, high=15) + GRAY,
    ),
    "P4 fewer pixels than said": ("", pixels(100, 100) + GRAY),
    "P5 Rows as UL": ("", sized("UL", b"\4\0\0\0") + GRAY),
    "P5 Rows as text": ("", sized("LO", b"four") + GRAY),
    "P5 Rows of 0": ("", pixels(0, 4) + GRAY),
    "P5 0 bits": ("", pixels(allocated=0, stored=0, high=0) + GRAY),
    "P5 64 bits": ("", pixels(allocated=64, stored=64, high=63) + GRAY),
    "P5 more bits stored than allocated": ("", pixels(stored=16, high=15) + GRAY),
    "P5 a negative number of frames": ("", pixels(frames=-5) + GRAY),
}


@pytest.mark.parametrize("what", LYING)
async def test_p4_p5_what_lies_about_its_pixels_is_kept_and_not_shown(
    client: Client, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    syntax, body = LYING[what]
    sent = raw_file(identity() + body, syntax or file_meta.EXPLICIT_VR_LITTLE_ENDIAN)
    status, _ = await store(client, sent)
    path = "/dicomweb/studies/1.2.3/series/1.2.3.1/instances/1.2.3.4"
    assert status in (200, 409)
    for place, accept in (
        ("/rendered", "image/png"),
        ("/frames/1", "application/octet-stream"),
        ("/thumbnail", "image/*"),
    ):
        answered, shown, _ = await get(client, path + place, accept)
        if what != "P5 Rows as UL" and place == "/rendered":  # a UL of 4 means 4
            assert answered in (400, 404, 406, 409)
        assert answered in (200, 400, 404, 406, 409), place
        assert len(shown) < 10_000
    if status == 200:
        answered, whole, _ = await get(client, path, PART10)
        assert answered == 200
        assert whole.endswith(body)
    assert not [record for record in caplog.records if record.exc_info]
    assert (await get(client, "/health/ready"))[0] == 200


@pytest.mark.parametrize(
    "window", ["40,-5", "40,0", "40,-5,sigmoid", "nan,1", "1e400,1", "40,1e-400", "40,400,cubic", "a,b"]
)
async def test_p5_a_window_without_sense_is_refused(client: Client, window: str) -> None:
    sent = part10_file(data_set())
    await store(client, sent)
    status, _, _ = await get(client, f"{path_of(sent)}/rendered?window={window}", "image/png")
    assert status == 400


@pytest.mark.parametrize("width", [-5, 0])
async def test_p5_a_window_without_sense_in_the_instance_is_passed_over(client: Client, width: int) -> None:
    sent = part10_file(data_set(WindowCenter=40, WindowWidth=width))
    await store(client, sent)
    assert (await get(client, f"{path_of(sent)}/rendered", "image/png"))[0] == 200


ELEMENTS = {
    "an element twice": identity() + text(0x00200010, "SH", "a") * 2,
    "elements out of order": identity() + text(0x00100020, "LO", "x"),
    "group 0002 in the data set": text(0x00020010, "UI", "1.2.840.10008.1.2") + identity(),
    "an odd VR": identity() + element(0x00200010, "ZZ", b"ab"),
}


@pytest.mark.parametrize("what", ELEMENTS)
async def test_p6_elements_against_the_rules_are_refused_or_kept_as_they_are(
    client: Client, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    body = ELEMENTS[what]
    status, _ = await store(client, raw_file(body))
    assert status in (200, 409)
    answered, whole, _ = await get(client, "/dicomweb/studies/1.2.3/series/1.2.3.1/instances/1.2.3.4", PART10)
    assert (answered, whole.endswith(body)) == (200, True) if status == 200 else answered == 404
    assert not [record for record in caplog.records if record.exc_info]


TEXTS = {
    "an escape without an end": ("ISO 2022 IR 87", b"\x1b$B"),
    "half a character": ("ISO 2022 IR 87", b"\x1b$B\x3b"),
    "an unknown escape": ("\\ISO 2022 IR 87", b"\x1b)Zabc"),
    "the wrong character set": ("ISO_IR 144", "山田".encode()),
    "a character set that is none": ("NO SUCH SET", b"\xe9\xe8"),
    "overlong UTF-8": ("ISO_IR 192", b"\xc0\xaf\xe0\x80\xaf"),
    "surrogates in UTF-8": ("ISO_IR 192", b"\xed\xa0\x80\xed\xb0\x80"),
    "NUL": ("ISO_IR 192", b"a\0b"),
    "control characters": ("ISO_IR 192", b"a\x01\x08\x7fb"),
    "a direction override": ("ISO_IR 192", "a\u202eb\u2028c".encode()),
    "GB18030 cut off": ("GB18030", b"\x81\x30\x81"),
}


@pytest.mark.parametrize("what", TEXTS)
async def test_p8_texts_that_are_none_become_valid_json_and_xml(
    client: Client, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    character_set, name = TEXTS[what]
    whole = b"Ab" + name
    named = element(0x00100010, "PN", whole + b" " * (len(whole) % 2))
    uids = identity()
    study = uids.index(text(0x0020000D, "UI", "1.2.3"))
    body = text(0x00080005, "CS", character_set) + uids[:study] + named + uids[study:]
    status, _ = await store(client, raw_file(body))
    assert status == 200
    path = "/dicomweb/studies/1.2.3"
    for place in (f"{path}/metadata", "/dicomweb/studies?StudyInstanceUID=1.2.3&includefield=all", "/dicomweb/studies"):
        answered, found, headers = await get(client, place, "application/dicom+json")
        assert answered == 200
        assert headers["Content-Type"].startswith("application/dicom+json")
        text_of = json.loads(found.decode("utf-8"))[0]["00100010"]["Value"][0]["Alphabetic"]
        assert text_of.startswith("Ab")
        text_of.encode("utf-8")
    answered, found, _ = await get(client, f"{path}/metadata", 'multipart/related; type="application/dicom+xml"')
    assert answered == 200
    assert not [record for record in caplog.records if record.exc_info]
