"""The Accept headers that real clients send, each with what it gets: status, content type, type of the parts."""

from __future__ import annotations

import re

import numpy as np
import pydicom
import pytest

from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_transcoding import ct
from tests.gateway.dicomweb.test_wado import get, path_of, split, wheel

EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
P = "1.2.840.10008.1.2.4."
MULTI, PROBLEM = "multipart/related", "application/problem+json"
OCTETS, DICOM, JSON, XML = (
    "application/octet-stream",
    "application/dicom",
    "application/dicom+json",
    "application/dicom+xml",
)


def part(kind: str, syntax: str) -> str:
    return f"{kind}; transfer-syntax={syntax}"


def multi(kind: str, syntax: str = "") -> tuple[int, str, str]:
    return 200, MULTI, part(kind, syntax) if syntax else kind


def single(kind: str, syntax: str = "") -> tuple[int, str, str]:
    return 200, part(kind, syntax) if syntax else kind, ""


NO = 406, PROBLEM, ""
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

# (client, header, what an uncompressed instance gives, what one stored in RLE gives)
FRAMES = [
    (
        "cornerstone3D",
        f"multipart/related; type={OCTETS}; transfer-syntax=*",
        multi(OCTETS, EXPLICIT),
        multi(OCTETS, RLE),
    ),
    ("OHIF", f'multipart/related; type="{OCTETS}"; transfer-syntax="*"', multi(OCTETS, EXPLICIT), multi(OCTETS, RLE)),
    (
        "OHIF, transfer-syntax twice",
        f'multipart/related; type="{OCTETS}"; transfer-syntax=*; transfer-syntax={P}90',
        multi(OCTETS, EXPLICIT),
        multi(OCTETS, RLE),
    ),
    (
        "OHIF, for .51",
        "multipart/related; type=image/dicom+jpeg; transfer-syntax=*",
        multi("image/dicom+jpeg", P + "70"),
        multi("image/dicom+jpeg", P + "70"),
    ),
    (
        "OHIF, requestTransferSyntaxUID",
        f"multipart/related; type=image/jphc; transfer-syntax={P}202",
        multi("image/jphc", P + "202"),
        multi("image/jphc", P + "202"),
    ),
    (
        "OHIF, several",
        f'multipart/related; type="image/jls"; transfer-syntax={P}80, '
        f'multipart/related; type="{OCTETS}"; transfer-syntax=*',
        multi("image/jls", P + "80"),
        multi("image/jls", P + "80"),
    ),
    ("dcmjs, none", None, multi(OCTETS, EXPLICIT), multi(OCTETS, EXPLICIT)),
    ("dcmjs, single", f"{OCTETS}; transfer-syntax=*", single(OCTETS, EXPLICIT), single(OCTETS, RLE)),
    (
        "dcmjs, jls",
        'multipart/related; type="image/x-jls"',
        multi("image/x-jls", P + "80"),
        multi("image/x-jls", P + "80"),
    ),
    (
        "dcmjs, rle",
        'multipart/related; type="image/x-dicom-rle"',
        multi("image/x-dicom-rle", RLE),
        multi("image/x-dicom-rle", RLE),
    ),
    ("dcmjs, jhc", 'multipart/related; type="image/jhc"', multi("image/jhc", P + "201"), multi("image/jhc", P + "201")),
    ("dcmjs, jll", 'multipart/related; type="image/jll"', multi("image/jll", P + "70"), multi("image/jll", P + "70")),
    (
        "dicomweb-client",
        f'multipart/related; type="{OCTETS}"; transfer-syntax="{EXPLICIT}"',
        multi(OCTETS, EXPLICIT),
        multi(OCTETS, EXPLICIT),
    ),
    (
        "dicomweb-client, several",
        f'multipart/related; type="image/jpeg"; transfer-syntax="{P}50", '
        f'multipart/related; type="image/jp2"; transfer-syntax="{P}90"',
        multi("image/jp2", P + "90"),
        multi("image/jp2", P + "90"),
    ),
    ("Weasis", "*/*", multi(OCTETS, EXPLICIT), multi(OCTETS, EXPLICIT)),
    ("curl", "image/jpeg", single("image/jpeg", P + "70"), single("image/jpeg", P + "70")),
    ("browser", BROWSER, multi(OCTETS, EXPLICIT), multi(OCTETS, EXPLICIT)),
    ("any image", "multipart/related; type=image/*", multi("image/jpeg", P + "70"), multi("image/dicom-rle", RLE)),
    ("quality", f"image/jls;q=0.2, {OCTETS};q=0.7", single(OCTETS, EXPLICIT), single(OCTETS, EXPLICIT)),
    ("refused by q", f"{OCTETS};q=0", NO, NO),
    ("16 bit as baseline", f"image/jpeg; transfer-syntax={P}50", NO, NO),
    ("what nobody has", "image/jxl", NO, NO),
    ("not of frames", JSON, NO, NO),
    ("nonsense", ";;,=/", NO, NO),
]
INSTANCES = [
    ("standard", 'multipart/related; type="application/dicom"', multi(DICOM, EXPLICIT), multi(DICOM, EXPLICIT)),
    (
        "any syntax",
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        multi(DICOM, EXPLICIT),
        multi(DICOM, RLE),
    ),
    (
        "unquoted",
        "multipart/related; type=application/dicom; transfer-syntax=*",
        multi(DICOM, EXPLICIT),
        multi(DICOM, RLE),
    ),
    (
        "dicomweb-client",
        f'multipart/related; type="application/dicom"; transfer-syntax="{EXPLICIT}", '
        'multipart/related; type="application/dicom"; transfer-syntax="*"',
        multi(DICOM, EXPLICIT),
        multi(DICOM, EXPLICIT),
    ),
    (
        "Weasis",
        f"multipart/related; type=application/dicom; transfer-syntax={P}70, "
        "multipart/related; type=application/dicom; transfer-syntax=*",
        multi(DICOM, P + "70"),
        multi(DICOM, P + "70"),
    ),
    ("single", DICOM, single(DICOM, EXPLICIT), single(DICOM, EXPLICIT)),
    ("single, any syntax", "application/dicom; transfer-syntax=*", single(DICOM, EXPLICIT), single(DICOM, RLE)),
    ("zip", "application/zip", single("application/zip"), single("application/zip")),
    (
        "older name of /bulkdata",
        f'multipart/related; type="{OCTETS}"; transfer-syntax=*',
        multi(OCTETS, EXPLICIT),
        multi(OCTETS, RLE),
    ),
    ("none", None, multi(DICOM, EXPLICIT), multi(DICOM, EXPLICIT)),
    ("anything", "*/*", multi(DICOM, EXPLICIT), multi(DICOM, EXPLICIT)),
    ("browser", BROWSER, multi(DICOM, EXPLICIT), multi(DICOM, EXPLICIT)),
    ("implicit", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2', NO, NO),
    ("big endian", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.2', NO, NO),
    ("unknown syntax", "application/dicom; transfer-syntax=1.2.3", NO, NO),
    ("metadata's", JSON, NO, NO),
]
METADATA = [
    ("OHIF", JSON, single(JSON), single(JSON)),
    (
        "OHIF, with frames' type",
        f"{JSON}, multipart/related; type={OCTETS}; transfer-syntax=*",
        single(JSON),
        single(JSON),
    ),
    ("dicomweb-client", f"{JSON}, application/json", single(JSON), single(JSON)),
    ("plain", "application/json", single("application/json"), single("application/json")),
    ("with a syntax", f"{JSON}; transfer-syntax=*", single(JSON), single(JSON)),
    ("XML", f'multipart/related; type="{XML}"', multi(XML), multi(XML)),
    ("none", None, single(JSON), single(JSON)),
    ("browser", BROWSER, single(JSON), single(JSON)),
    ("frames' type alone", f'multipart/related; type="{OCTETS}"', NO, NO),
]
CASES = [
    *(("/frames/1", *case) for case in FRAMES),
    *(("", *case) for case in INSTANCES),
    *(("/metadata", *case) for case in METADATA),
]

Expected = tuple[int, str, str]


def rle() -> bytes:
    return wheel("MR_small_RLE.dcm")


@pytest.mark.parametrize(
    ("suffix", "client_name", "accept", "native", "compressed"),
    CASES,
    ids=[f"{case[0] or '/'} {case[1]}" for case in CASES],
)
async def test_what_each_header_gets(
    client: Client, suffix: str, client_name: str, accept: str | None, native: Expected, compressed: Expected
) -> None:
    for sent, expected in ((ct(), native), (rle(), compressed)):
        assert (await store(client, sent))[0] == 200
        # aiohttp would send Accept: */* by itself.
        async with client.get(
            path_of(sent) + suffix, headers={"Accept": accept} if accept else {}, skip_auto_headers=["Accept"]
        ) as response:
            body = await response.read()
            status, kind = response.status, response.headers["Content-Type"]
        assert status == expected[0], body[:300]
        if expected[1] != MULTI:
            assert (kind if ";" in expected[1] else kind.partition(";")[0]) == expected[1]
            continue
        assert kind.startswith(f'{MULTI}; type="{expected[2].partition(";")[0]}"; boundary=')
        # As cornerstone3D reads it: the boundary first, "Content-Type:" so written, an empty line, a final boundary.
        boundary = kind.rpartition("boundary=")[2].encode()
        assert body.startswith(b"--" + boundary + b"\r\nContent-Type: ")
        assert b"\r\n\r\n" in body
        assert body.rstrip().endswith(b"--" + boundary + b"--")
        assert {found for found, _ in split(kind, body)} == {expected[2]}


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ("?accept=image%2Fjls", "*/*", part("image/jls", P + "80")),
        (f"?accept=application%2Foctet-stream%3Btransfer-syntax%3D{RLE}", BROWSER, part(OCTETS, RLE)),
        ("?accept=image%2Fjxl", "image/jls", part("image/jls", P + "80")),
    ],
)
async def test_the_accept_parameter_comes_first(client: Client, query: str, accept: str, expected: str) -> None:
    sent = ct()
    await store(client, sent)
    status, _, headers = await get(client, f"{path_of(sent)}/frames/1{query}", accept)
    assert (status, headers["Content-Type"]) == (200, expected)


async def test_a_lossy_instance_stays_as_it_is_for_every_header_that_names_no_syntax(client: Client) -> None:
    sent = wheel("SC_rgb_jpeg_dcmtk.dcm")
    await store(client, sent)
    for accept in (f'multipart/related; type="{OCTETS}"', 'multipart/related; type="image/jpeg"', "*/*"):
        _, body, headers = await get(client, f"{path_of(sent)}/frames/1", accept)
        ((kind, _),) = split(headers["Content-Type"], body)
        assert kind.endswith(f"transfer-syntax={P}50")
    _, body, headers = await get(client, path_of(sent), 'multipart/related; type="application/dicom"')
    ((kind, _),) = split(headers["Content-Type"], body)
    assert kind == f"application/dicom; transfer-syntax={P}50"


async def test_the_type_of_a_multipart_names_its_parts(client: Client) -> None:
    sent = ct()
    await store(client, sent)
    _, _, headers = await get(client, f"{path_of(sent)}/frames/1", 'multipart/related; type="image/jls"')
    assert re.fullmatch(r'multipart/related; type="image/jls"; boundary=[0-9a-f]{32}', headers["Content-Type"])


def test_the_compressed_instance_is_what_the_table_says() -> None:
    found = pydicom.dcmread(pydicom.filebase.DicomBytesIO(rle()))
    assert found.file_meta.TransferSyntaxUID == RLE
    assert found.BitsAllocated == 16
    assert np.prod((found.Rows, found.Columns)) == 64 * 64
