"""Metadata in XML beside JSON."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

import pydicom
import pytest

from storage.dicom import xml_model
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_bulkdata import with_values
from tests.gateway.dicomweb.test_wado import get, path_of, split, wheel
from tests.instances import data_set, part10_file

XML = 'multipart/related; type="application/dicom+xml"'


def plain(value: object) -> object:
    """A data set without what XML has no place for: values that are empty."""
    if isinstance(value, dict):
        found = {key: plain(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if not (key == "Value" and each in ([None], [{}]))}
    return [plain(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("level", ["instance", "series", "study"])
async def test_xml_says_what_json_says_one_part_an_instance(client: Client, level: str) -> None:
    one = with_values(PatientName="Buc^Jérôme", SpecificCharacterSet="ISO_IR 192", StudyDescription="<&>\"'")
    two = data_set(
        StudyInstanceUID=one.StudyInstanceUID,
        SeriesInstanceUID=one.SeriesInstanceUID,
        PatientName="Buc^Jérôme",
        SpecificCharacterSet="ISO_IR 192",
    )
    await store(client, part10_file(one), part10_file(two))
    path = path_of(part10_file(one))
    if level != "instance":
        path = path.partition("/instances" if level == "series" else "/series")[0]
    status, body, headers = await get(client, f"{path}/metadata", XML)
    assert status == 200
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom+xml"; boundary=')
    parts = split(headers["Content-Type"], body)
    assert {kind for kind, _ in parts} == {"application/dicom+xml"}
    _, text, _ = await get(client, f"{path}/metadata", "application/dicom+json")
    expected = json.loads(text)
    assert len(parts) == len(expected) == (1 if level == "instance" else 2)
    assert [plain(xml_model.loads(part)) for _, part in parts] == [plain(each) for each in expected]
    root = ElementTree.fromstring(parts[0][1])
    (uri,) = root.findall("./{*}DicomAttribute[@keyword='PixelData']/{*}BulkData")
    assert (await get(client, uri.attrib["uri"].partition(str(client.port))[2], "application/octet-stream"))[0] == 200
    etag = headers["ETag"]
    assert (await get(client, f"{path}/metadata", XML, **{"If-None-Match": etag}))[0] == 304
    async with client.head(f"{path}/metadata", headers={"Accept": XML}) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_pydicoms_own_files_are_xml_that_a_parser_takes(client: Client) -> None:
    for name in ("CT_small.dcm", "examples_palette.dcm", "reportsi.dcm", "rtplan.dcm"):
        sent = wheel(name)
        await store(client, sent)
        status, body, headers = await get(client, f"{path_of(sent)}/metadata", XML)
        assert status == 200
        ((_, part),) = split(headers["Content-Type"], body)
        root = ElementTree.fromstring(part)
        found = pydicom.dcmread(io.BytesIO(sent))
        assert len(root) == len([each for each in found if each.tag.element])


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        (f"{XML};q=0.5, application/dicom+json;q=0.9", 200, "application/dicom+json"),
        (f"{XML}, application/dicom+json;q=0.9", 200, "multipart/related"),
        ("multipart/related; type=application/dicom+xml", 200, "multipart/related"),
        ("application/dicom+xml", 406, "application/problem+json"),
        ("*/*", 200, "application/dicom+json"),
    ],
)
async def test_json_or_xml_as_the_header_prefers(client: Client, accept: str, status: int, kind: str) -> None:
    sent = part10_file(data_set())
    await store(client, sent)
    found, _, headers = await get(client, f"{path_of(sent)}/metadata", accept)
    assert (found, headers["Content-Type"].partition(";")[0]) == (status, kind)
