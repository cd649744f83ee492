"""What is made of a view's images and stored into it: it is about the originals, and shown as everything is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.viewing.following import Follower
from tests import instances
from tests.gateway.dicomweb.conftest import Client, multipart
from tests.gateway.viewing.test_access import ANN, POLICY
from tests.gateway.viewing.test_following import VIEW, of_person, put, search, value

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.replace('"render"]', '"render", "store"]').replace('["CT"]', '["CT", "SEG"]'))
    return settings.model_copy(update={"access": AccessSettings(policy_file=policy)})


async def image(client: Client, follower: Follower, **attributes: Any) -> tuple[Dataset, dict[str, Any]]:
    """An image as it is stored, and what the view says of it."""
    stored = of_person(FrameOfReferenceUID=instances.uid(), PatientName="Müller^Ann", **attributes)
    stored.SpecificCharacterSet = "ISO_IR 100"
    await put(client, stored)
    follower.follow()
    (study,) = await search(client, "studies")
    async with client.get(f"{VIEW}/studies/{value(study, '0020000D')}/metadata") as response:
        (metadata,) = await response.json(content_type=None)
    return stored, metadata


def made_of(shown: dict[str, Any], **attributes: Any) -> Dataset:
    """A derived object, as a viewer makes one of what the view shows."""
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
        value(shown, "00080016"),
        value(shown, "00080018"),
    )
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = value(shown, "0020000E"), [reference]
    values: dict[str, Any] = {
        "SOPClassUID": SEGMENTATION, "Modality": "SEG", "StudyInstanceUID": value(shown, "0020000D"),
        "PatientID": value(shown, "00100020"), "PatientName": value(shown, "00100010")["Alphabetic"],
        "StudyDate": value(shown, "00080020"), "PatientIdentityRemoved": "YES", "SeriesDescription": "Lesion",
        "FrameOfReferenceUID": value(shown, "00200052"), "ReferencedSeriesSequence": [series],
    }  # fmt: skip
    return instances.data_set(**{**values, **attributes})


async def sent(client: Client, data_set: Dataset, path: str = f"{VIEW}/studies") -> tuple[int, dict[str, Any]]:
    body, headers = multipart(instances.part10_file(data_set))
    async with client.post(path, data=body, headers={**headers, **ANN}) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("path", [f"{VIEW}/studies", "/dicomweb/studies"])
async def test_it_is_stored_about_the_originals_with_its_references_right(
    client: Client, follower: Follower, path: str
) -> None:
    stored, shown = await image(client, follower)
    derived = made_of(shown)
    status, answer = await sent(client, derived, path)
    assert status == 200, answer
    async with client.get(f"/dicomweb/studies/{stored.StudyInstanceUID}/metadata") as response:
        found = [each for each in await response.json(content_type=None) if value(each, "00080060") == "SEG"]
    (kept,) = found
    assert value(kept, "00080018") == derived.SOPInstanceUID
    assert value(kept, "00100010")["Alphabetic"] == "Müller^Ann"
    assert value(kept, "00100020") == stored.PatientID
    assert value(kept, "00080020") == stored.StudyDate
    assert value(kept, "00080050") == stored.AccessionNumber
    assert value(kept, "00200052") == stored.FrameOfReferenceUID
    (series,) = kept["00081115"]["Value"]
    assert value(series, "0020000E") == stored.SeriesInstanceUID
    assert value(series["0008114A"]["Value"][0], "00081155") == stored.SOPInstanceUID
    assert "00120062" not in kept


async def test_the_view_then_shows_it_under_pseudonyms_where_the_answer_said(
    client: Client, follower: Follower
) -> None:
    stored, shown = await image(client, follower)
    derived = made_of(shown)
    _, answer = await sent(client, derived)
    assert follower.follow().made == 1
    url = answer["00081199"]["Value"][0]["00081190"]["Value"][0]
    async with client.get(f"{url[url.index(VIEW) :]}/metadata", headers=ANN) as response:
        assert response.status == 200
        (found,) = await response.json(content_type=None)
    text = json.dumps(found)
    uids = (stored.SOPInstanceUID, stored.StudyInstanceUID, derived.SOPInstanceUID)
    for each in (*uids, "Müller", str(stored.PatientID)):
        assert each not in text
    assert value(found["00081115"]["Value"][0]["0008114A"]["Value"][0], "00081155") == value(shown, "00080018")
    assert value(found, "00200052") == value(shown, "00200052")


async def test_what_is_about_nothing_that_the_view_shows_is_refused(client: Client, follower: Follower) -> None:
    stored, shown = await image(client, follower)
    for other in (
        {"StudyInstanceUID": stored.StudyInstanceUID},
        {"StudyInstanceUID": instances.uid()},
        {"Modality": "US"},
    ):
        status, answer = await sent(client, made_of(shown, **other))
        assert status == 409
        assert answer["00081198"]["Value"][0]["00081197"]["Value"] == [0x0124]
    status, _ = await sent(client, made_of(shown), f"{VIEW}/studies/{instances.uid()}")
    assert status == 409


async def test_an_instance_of_the_view_is_not_replaced_and_nothing_of_it_is_changed(
    client: Client, follower: Follower
) -> None:
    stored, shown = await image(client, follower)
    status, _ = await sent(client, made_of(shown, SOPInstanceUID=value(shown, "00080018")))
    assert status == 409
    async with client.get(f"/dicomweb/studies/{stored.StudyInstanceUID}/metadata") as response:
        (kept,) = await response.json(content_type=None)
    assert value(kept, "00080060") == "CT"
    assert follower.follow().made == 0


async def test_what_cannot_be_read_is_refused_for_itself(client: Client, follower: Follower) -> None:
    _, shown = await image(client, follower)
    body, headers = multipart(instances.part10_file(made_of(shown)), b"\0" * 200 + b"nothing")
    async with client.post(f"{VIEW}/studies", data=body, headers={**headers, **ANN}) as response:
        assert response.status == 202
