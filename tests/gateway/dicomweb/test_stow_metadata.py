"""STOW-RS of metadata and bulk data apart."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from gateway.assembly import Core
from gateway.dicomweb.failures import FailureReason
from storage.dicom import xml_model
from tests.gateway.dicomweb.conftest import Client
from tests.instances import data_set, uid

JSON = "application/dicom+json"
XML = "application/dicom+xml"
Part = tuple[str, str, bytes]


def body(*parts: Part, kind: str = JSON) -> dict[str, Any]:
    """Arguments of a request; parts are (content type, location, bytes)."""
    text = b""
    for content_type, location, content in parts:
        head = f"--b\r\nContent-Type: {content_type}\r\n" + (f"Content-Location: {location}\r\n" if location else "")
        text += head.encode() + b"\r\n" + content + b"\r\n"
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary=b', "Accept": JSON}
    return {"data": io.BytesIO(text + b"--b--\r\n"), "headers": headers}


def metadata(**attributes: Any) -> dict[str, Any]:
    """An instance's metadata; its pixels are at "pixels/1"."""
    found: dict[str, Any] = data_set(PixelData=None, **attributes).to_json_dict()
    return {**found, "7FE00010": {"vr": "OW", "BulkDataURI": "pixels/1"}}


async def post(client: Client, *parts: Part, kind: str = JSON) -> tuple[int, dict[str, Any]]:
    async with client.post("/dicomweb/studies", **body(*parts, kind=kind)) as response:
        return response.status, await response.json(content_type=None)


def path_of(source: dict[str, Any]) -> str:
    study, series, instance = (source[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
    return f"/dicomweb/studies/{study}/series/{series}/instances/{instance}"


async def frame(client: Client, source: dict[str, Any], number: int = 1) -> tuple[bytes, str]:
    headers = {"Accept": "application/octet-stream; transfer-syntax=*"}
    async with client.get(f"{path_of(source)}/frames/{number}", headers=headers) as response:
        assert response.status == 200
        return await response.read(), response.headers["Content-Type"]


async def test_json_and_its_pixels_become_an_instance(client: Client) -> None:
    source = metadata()
    status, answer = await post(
        client,
        (JSON, "", json.dumps([source]).encode()),
        ("application/octet-stream", "pixels/1", bytes(range(32))),
    )
    assert (status, answer.keys()) == (200, {"00081190", "00081199"})
    assert await frame(client, source) == (
        bytes(range(32)),
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
    )
    async with client.get(f"{path_of(source)}/metadata") as response:
        (read,) = await response.json(content_type=None)
    assert read["00100010"] == source["00100010"]


async def test_xml_and_its_pixels_become_an_instance(client: Client) -> None:
    one, two = metadata(), metadata()
    two["7FE00010"]["BulkDataURI"] = "pixels/2"
    status, _ = await post(
        client,
        (XML, "", xml_model.dumps(one)),
        (f"{XML}; charset=utf-8", "", xml_model.dumps(two)),
        ("application/octet-stream", "pixels/1", b"\1" * 32),
        ("application/octet-stream", "pixels/2", b"\2" * 32),
        kind=XML,
    )
    assert status == 200
    assert [(await frame(client, each))[0][:1] for each in (one, two)] == [b"\1", b"\2"]


async def test_metadata_alone_is_stored_from_a_body_that_is_no_multipart(client: Client) -> None:
    source = data_set(PixelData=None).to_json_dict()
    for content_type in (JSON, "application/json"):
        async with client.post(
            "/dicomweb/studies", data=json.dumps([source]), headers={"Content-Type": content_type}
        ) as response:
            assert response.status == 200


async def test_an_instance_can_be_put(client: Client) -> None:
    source = metadata()
    arguments = body((JSON, "", json.dumps([source]).encode()), ("application/octet-stream", "pixels/1", bytes(32)))
    study = source["0020000D"]["Value"][0]
    async with client.put(f"/dicomweb/studies/{study}", **arguments) as response:
        assert response.status == 200


async def test_the_answer_comes_in_xml_when_that_is_asked_for(client: Client) -> None:
    source = data_set(PixelData=None).to_json_dict()
    headers = {"Content-Type": JSON, "Accept": XML}
    async with client.post("/dicomweb/studies", data=json.dumps(source), headers=headers) as response:
        assert (response.status, response.content_type) == (200, XML)
        answer = xml_model.loads(await response.read())
    assert answer["00081199"]["Value"][0]["00081155"]["Value"] == source["00080018"]["Value"]


async def test_jpeg_frames_bring_their_own_description(client: Client, tmp_path: Any) -> None:
    picture = tmp_path / "a.jpg"
    Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)).save(picture, quality=90)
    source = data_set(
        PixelData=None, Rows=None, Columns=None, SamplesPerPixel=None, BitsAllocated=None, BitsStored=None,
        HighBit=None, PixelRepresentation=None, PhotometricInterpretation=None,
    ).to_json_dict()  # fmt: skip
    source["7FE00010"] = {"vr": "OB", "BulkDataURI": "frames"}
    part = ("image/jpeg", "frames", picture.read_bytes())
    status, _ = await post(client, (JSON, "", json.dumps([source]).encode()), part, part)
    assert status == 200
    async with client.get(f"{path_of(source)}/metadata") as response:
        (read,) = await response.json(content_type=None)
    described = {tag: read[tag]["Value"][0] for tag in ("00280002", "00280008", "00280010", "00280011", "00280004")}
    assert described == {"00280002": 3, "00280008": 2, "00280010": 48, "00280011": 64, "00280004": "YBR_FULL_422"}
    data, content_type = await frame(client, source, 2)
    assert content_type.endswith("transfer-syntax=1.2.840.10008.1.2.4.50")
    assert data.removesuffix(b"\0") == picture.read_bytes()
    async with client.get(f"{path_of(source)}/rendered", headers={"Accept": "image/png"}) as response:
        assert response.status == 200


async def test_a_compressed_part_names_its_own_transfer_syntax(client: Client) -> None:
    source = metadata()
    codestream = b"\xff\xd8" + bytes(40) + b"\xff\xd9"
    part = ("image/jls; transfer-syntax=1.2.840.10008.1.2.4.81", "pixels/1", codestream)
    assert (await post(client, (JSON, "", json.dumps([source]).encode()), part))[0] == 200
    assert (await frame(client, source))[1].endswith("1.2.840.10008.1.2.4.81")


async def test_a_pdf_comes_as_its_own_part(client: Client) -> None:
    source = data_set(
        PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", MIMETypeOfEncapsulatedDocument="application/pdf"
    ).to_json_dict()
    source["00420011"] = {"vr": "OB", "BulkDataURI": "https://elsewhere.example/document"}
    pdf = b"%PDF-1.4 " + bytes(3000)
    part = ("application/pdf", "https://elsewhere.example/document", pdf)
    assert (await post(client, (JSON, "", json.dumps([source]).encode()), part))[0] == 200
    headers = {"Accept": "application/octet-stream"}
    async with client.get(f"{path_of(source)}/bulkdata/00420011", headers=headers) as response:
        assert (await response.read()).rstrip(b"\0") == pdf.rstrip(b"\0")


async def test_a_bulk_data_uri_without_its_part_is_never_fetched(client: Client, aiohttp_server: Any) -> None:
    asked: list[str] = []

    from aiohttp import web

    async def bait(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=bytes(32))

    app = web.Application()
    app.router.add_get("/pixels", bait)
    server = await aiohttp_server(app)
    lost, whole = metadata(), metadata()
    lost["7FE00010"]["BulkDataURI"] = str(server.make_url("/pixels"))
    status, answer = await post(
        client,
        (JSON, "", json.dumps([lost, whole]).encode()),
        ("application/octet-stream", "pixels/1", bytes(32)),
    )
    assert (status, asked) == (202, [])
    (failed,) = answer["00081198"]["Value"]
    assert failed["00081155"]["Value"] == lost["00080018"]["Value"]
    assert failed["00081197"]["Value"] == [FailureReason.CANNOT_UNDERSTAND]
    assert "BulkDataURI without its part" in failed["00000902"]["Value"][0]


async def test_an_instance_that_is_not_of_the_model_fails_with_the_attribute(client: Client) -> None:
    status, answer = await post(client, (JSON, "", json.dumps([metadata(), {**metadata(), "00280010": 5}]).encode()))
    assert status == 409
    comments = [item["00000902"]["Value"][0] for items in answer.values() for item in items["Value"]]
    assert any(comment.startswith("Rows (0028,0010)") for comment in comments)


@pytest.mark.parametrize(
    ("parts", "kind", "status"),
    [
        ([(JSON, "", b"{no json")], JSON, 400),
        ([(XML, "", b"<NativeDicomModel")], XML, 400),
        ([("application/octet-stream", "pixels/1", b"x")], JSON, 400),
        ([(JSON, "", b"[]"), ("application/octet-stream", "", b"x")], JSON, 400),
        ([(JSON, "", b"[]")], JSON, 400),
        ([(JSON, "", b"[3]")], JSON, 409),
        ([(JSON, "", b" " * (40 << 20))], JSON, 413),
    ],
)
async def test_requests_that_cannot_be_read_are_refused_whole(
    client: Client, core: Core, parts: list[Part], kind: str, status: int
) -> None:
    async with client.post("/dicomweb/studies", **body(*parts, kind=kind)) as response:
        assert response.status == status
    assert list(core.spool.directory.iterdir()) == []


async def test_a_body_that_ends_early_stores_nothing(client: Client, core: Core) -> None:
    arguments = body((JSON, "", json.dumps([metadata()]).encode()), ("application/octet-stream", "pixels/1", bytes(32)))
    arguments["data"] = arguments["data"].getvalue()[:-20]
    async with client.post("/dicomweb/studies", **arguments) as response:
        assert response.status == 400
    assert list(core.archive.objects.list("")) == []
    assert list(core.spool.directory.iterdir()) == []


async def test_what_the_gateway_gives_as_metadata_and_bulk_data_can_be_stored_again(client: Client) -> None:
    """The round trip that a copy between two archives is."""
    name = get_testdata_file("CT_small.dcm")
    with open(name, "rb") as stream:  # noqa: PTH123
        headers = {"Content-Type": "application/dicom"}
        async with client.post("/dicomweb/studies", data=stream.read(), headers=headers) as response:
            answer = await response.json(content_type=None)
    path = answer["00081199"]["Value"][0]["00081190"]["Value"][0].partition("/dicomweb")[2]
    async with client.get(f"/dicomweb{path}/metadata") as response:
        (source,) = await response.json(content_type=None)
    parts: list[Part] = []
    for element in source.values():
        if "BulkDataURI" in element:
            uri = element["BulkDataURI"]
            async with client.get(
                "/dicomweb" + uri.partition("/dicomweb")[2], headers={"Accept": "application/octet-stream"}
            ) as response:
                parts.append(("application/octet-stream", uri, await response.read()))
    copy = {**source, "00080018": {"vr": "UI", "Value": [uid()]}}
    assert parts
    assert (await post(client, (JSON, "", json.dumps([copy]).encode()), *parts))[0] == 200
    assert (await frame(client, copy))[0] == (await frame(client, source))[0]
