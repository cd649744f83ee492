"""A mark in every attribute of the table, at three depths: in no byte of any answer of a view is one of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gateway.config import Settings
from gateway.config.views import ViewSettings
from gateway.viewing.following import Follower
from tests import instances
from tests.gateway.deid import canaries
from tests.gateway.dicomweb.conftest import Client
from tests.gateway.viewing.conftest import KEY
from tests.gateway.viewing.test_following import VIEW, put, search, value

FHIR = "/views/research/fhir"
_KINDS = ("metadata", "rendered", "thumbnail")
MARK = re.compile(canaries.MARK.pattern + rb"|1\.2\.826\.0\.77")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The Basic Profile, which keeps no text that somebody wrote."""
    return settings.model_copy(update={"views": {"research": ViewSettings(key=KEY, options=())}})


def marked() -> Any:
    """An image with all the marks; what makes it an image is as it has to be."""
    image = instances.data_set(
        Rows=8, Columns=8, PixelData=b"\0\1" * 64, StudyInstanceUID="1.2.826.0.77.1",
        SeriesInstanceUID="1.2.826.0.77.2", SOPInstanceUID="1.2.826.0.77.3",
    )  # fmt: skip
    found = canaries.planted(instances.CT)
    for element in image:
        if element.keyword not in ("PatientName", "PatientID", "StudyDate", "StudyTime"):
            found[element.tag] = element
    return found


async def of_patient(client: Client, study: str) -> str:
    """The path of a study's patient over FHIR."""
    async with client.get(f"{FHIR}/ImagingStudy/{study}") as response:
        found = await response.json(content_type=None)
    return f"{FHIR}/{found['subject']['reference']}"


async def test_no_mark_is_in_any_byte_of_any_answer(client: Client, follower: Follower) -> None:
    await put(client, marked())
    report = follower.follow()
    assert (report.made, report.withheld) == (1, 0)
    (found,) = await search(client, "instances")
    study, series, sop = (value(found, tag) for tag in ("0020000D", "0020000E", "00080018"))
    one_study = f"{VIEW}/studies/{study}"
    one_series = f"{one_study}/series/{series}"
    instance = f"{one_series}/instances/{sop}"
    async with client.get(f"{instance}/metadata") as response:
        (metadata,) = await response.json(content_type=None)
    asked = [
        *(f"{VIEW}/{level}?includefield=all&includefield=00081030" for level in ("studies", "series", "instances")),
        f"{VIEW}/patients", f"{one_study}/series", f"{VIEW}/changefeed",
        *(f"{each}/{what}" for each in (one_study, one_series, instance) for what in _KINDS),
        one_study, one_series, instance, f"{instance}/frames/1", f"{instance}/bulkdata", f"{instance}/pixeldata",
        f"{VIEW}/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={sop}",
        *(uri[uri.index(VIEW) :] for each in metadata.values() if (uri := each.get("BulkDataURI"))),
        *(f"{VIEW}/studies/1.2.826.0.77.{number}" for number in (1, 2, 3)),
        *(f"{FHIR}/{each}" for each in ("ImagingStudy", f"ImagingStudy/{study}", "Patient", "Endpoint", "metadata")),
        f"{FHIR}/ImagingStudy/1.2.826.0.77.1", await of_patient(client, study),
        f"{VIEW}/studies/1.2.826.0.77.1/series/1.2.826.0.77.2/instances/1.2.826.0.77.3/frames/1",
    ]  # fmt: skip
    for path in asked:
        for accept in ("*/*", "application/zip", 'multipart/related; type="application/dicom+xml"'):
            async with client.get(path, headers={"Accept": accept}) as response:
                body = await response.read()
                said = repr(response.headers).encode()
            assert response.status in (200, 404, 406), (path, response.status, body[:200])
            assert MARK.search(body) is None, (path, MARK.search(body))
            assert MARK.search(said.replace(path.encode(), b"")) is None, (path, said)
