"""What arrives is de-identified before it is stored: nothing on the disk says who it was."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydantic import ValidationError
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.serving import DimseSettings
from gateway.config.storing import TenantSettings
from gateway.config.views import DeidentificationSettings
from gateway.context import command_line
from gateway.dimse.server import DimseServer
from gateway.errors import NotDeidentified
from gateway.services.ingest import Identified
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Search, Target
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.viewing.conftest import KEY
from tests.raw_scu import RawScu

MAIN = ids.Tenant("main")
PERSON = {
    "PatientName": "Quimby^Zelda",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19610703",
    "AccessionNumber": "ACC-99",
    "StudyDescription": "CT thorax of Zelda Quimby",
}
# Nothing so short that a random or hashed number could have it in it.
SAID = (b"Quimby", b"Zelda", b"MRN-4711", b"19610703", b"ACC-99", b"RAW_SCU")
OPTIONS = ("clean_descriptors", "clean_pixel_data", "retain_longitudinal_modified_dates")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Everything for the tenant is de-identified, whoever sends it."""
    return settings.model_copy(
        update={
            "views": {},
            "deidentification": {"research": DeidentificationSettings(key=KEY, options=OPTIONS)},
            "tenants": {"main": TenantSettings(deidentify="research")},
        }
    )


def of_person(**attributes: Any) -> Dataset:
    return instances.data_set(**{**PERSON, **attributes})


def left(core: Core, *stored: Dataset) -> list[tuple[str, bytes]]:
    """What is left of somebody anywhere on the disk: in names of files, or in their bytes."""
    core.trail.close()
    uids = [str(each[keyword].value).encode() for each in stored for keyword in
            ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]  # fmt: skip
    found = []
    for path in core.settings.storage.directory.rglob("*"):
        content = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        # The trail names who was on the association, which is not the patient.
        said = SAID[:-1] if "audit" in path.parts else SAID
        found += [(path.name, each) for each in (*said, *uids) if each in content]
    return found


def kept(core: Core) -> list[Dataset]:
    found = []
    for row in core.archive.index.search(Search(MAIN, Level.STUDY)):
        for located in core.archive.index.locate(Target(MAIN, row.study_uid), EVERYTHING):
            found.append(pydicom.dcmread(io.BytesIO(b"".join(core.archive.blocks(located)))))
    return found


def by_command(core: Core, data_set: Dataset, syntax: str = ExplicitVRLittleEndian) -> None:
    spooling = core.spool.begin()
    spooling.write(instances.part10_file(data_set, syntax))
    with spooling.finish() as spooled:
        core.ingest.store(core.ingest.enter_by_command(command_line("test"), MAIN), spooled)


async def test_what_comes_by_stow_is_kept_without_its_patient(client: Client, core: Core) -> None:
    sent = of_person()
    status, answer = await store(client, instances.part10_file(sent), path=f"/dicomweb/studies/{sent.StudyInstanceUID}")
    assert status == 200, answer
    (found,) = kept(core)
    assert answer["00081199"]["Value"][0]["00081155"]["Value"] == [found.SOPInstanceUID]
    assert found.PatientIdentityRemoved == "YES"
    assert found.StudyDescription == "CT thorax of ***"
    assert found.PixelData == sent.PixelData
    # The same again is the same, by whatever way it comes.
    assert (await store(client, instances.part10_file(sent)))[0] == 200
    by_command(core, sent, ImplicitVRLittleEndian)
    assert len(kept(core)) == 1
    assert left(core, sent) == []


def test_what_comes_by_c_store_is_kept_without_its_patient(core: Core, dimse: DimseServer) -> None:
    sent = of_person()
    with RawScu(dimse.address, instances.CT, ExplicitVRLittleEndian) as scu:
        response = scu.store(sent.SOPInstanceUID, instances.encode(sent))
    assert response is not None
    assert response.Status == 0x0000
    (found,) = kept(core)
    assert (found.PatientIdentityRemoved, found.PixelData) == ("YES", sent.PixelData)
    assert left(core, sent) == []


@claim("B16")
async def test_what_may_have_text_burned_in_is_refused_and_leaves_nothing(
    client: Client, core: Core, dimse: DimseServer
) -> None:
    sent = of_person(Modality="US")
    status, answer = await store(client, instances.part10_file(sent), path=f"/dicomweb/studies/{sent.StudyInstanceUID}")
    (failed,) = answer["00081198"]["Value"]
    assert (status, failed["00081197"]["Value"]) == (409, [0xC002])
    assert failed["00000902"]["Value"][0].startswith("text may be burned in: Modality is US")
    with RawScu(dimse.address, instances.CT, ExplicitVRLittleEndian) as scu:
        response = scu.store(sent.SOPInstanceUID, instances.encode(sent))
    assert response is not None
    assert (response.Status, response.ErrorComment[:22]) == (0xC002, "text may be burned in:")
    assert kept(core) == []
    assert left(core, sent) == []
    assert not [path for path in (core.settings.storage.directory / "archive").rglob("*") if path.is_file()]


def test_ultrasound_is_kept_with_nothing_but_its_regions(core: Core) -> None:
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 1, 1
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 2, 2
    pixels = np.arange(1, 17, dtype="<u2")
    by_command(core, of_person(Modality="US", SequenceOfUltrasoundRegions=[region], PixelData=pixels.tobytes()))
    (found,) = kept(core)
    expected = np.zeros((4, 4), "<u2")
    expected[1:3, 1:3] = pixels.reshape(4, 4)[1:3, 1:3]
    assert np.frombuffer(found.PixelData, "<u2").reshape(4, 4).tolist() == expected.tolist()
    assert not list(core.spool.directory.iterdir())


def _rle(data_set: Dataset) -> Dataset:
    planes = np.frombuffer(data_set.PixelData, "<u2")
    segments = [bytes([15]) + bytes(plane) for plane in ((planes >> 8).astype("u1"), (planes & 255).astype("u1"))]
    segments = [each + b"\0" * (len(each) % 2) for each in segments]
    head = np.zeros(16, "<u4")
    head[:3] = (2, 64, 64 + len(segments[0]))
    data_set.PixelData = encapsulate([head.tobytes() + b"".join(segments)])
    data_set["PixelData"].VR = "OB"
    return data_set


@pytest.mark.parametrize(
    ("syntax", "made"),
    [
        (ImplicitVRLittleEndian, of_person),
        (DeflatedExplicitVRLittleEndian, of_person),
        (RLELossless, lambda: _rle(of_person())),
    ],
)
def test_pixels_are_as_they_came_in_each_encoding(core: Core, syntax: str, made: Callable[[], Dataset]) -> None:
    sent = made()
    by_command(core, sent, syntax)
    (found,) = kept(core)
    assert found.PixelData == sent.PixelData
    assert left(core, sent) == []


def test_large_instances_go_through_the_spool_and_leave_nothing_in_it(core: Core) -> None:
    core.spool.memory_bytes = 1 << 10
    sent = of_person(Rows=256, Columns=256, PixelData=bytes(2 * 256 * 256))
    by_command(core, sent)
    assert len(kept(core)) == 1
    assert not list(core.spool.directory.iterdir())
    assert left(core, sent) == []


class TestByTitle:
    """``dimse.deidentify``."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        dimse = settings.dimse.model_copy(update={"deidentify": {"RAW_SCU": "research"}})
        return settings.model_copy(update={"tenants": {}, "dimse": dimse})

    async def test_only_what_comes_from_it_is_de_identified(
        self, core: Core, client: Client, dimse: DimseServer
    ) -> None:
        sent, other = of_person(), of_person(PatientID="T-2")
        with RawScu(dimse.address, instances.CT, ExplicitVRLittleEndian) as scu:
            response = scu.store(sent.SOPInstanceUID, instances.encode(sent))
        assert response is not None
        assert response.Status == 0x0000
        assert left(core, sent) == []
        assert (await store(client, instances.part10_file(other)))[0] == 200
        assert sorted("PatientIdentityRemoved" in each for each in kept(core)) == [False, True]
        # The control: what is stored as it comes is found, by the same search.
        assert {b"Quimby", other.SOPInstanceUID.encode()} <= {each for _, each in left(core, other)}


def test_what_is_read_and_cannot_be_vouched_for_is_told_with_the_uids_that_the_sender_knows(core: Core) -> None:
    sent = of_person(BurnedInAnnotation="YES")
    with pytest.raises(Identified) as raised:
        by_command(core, sent)
    assert isinstance(raised.value.reason, NotDeidentified)
    assert raised.value.sop_uid == sent.SOPInstanceUID


def test_a_name_that_no_section_has_is_refused_at_the_start(tmp_path: Path) -> None:
    for given in ({"tenants": {"main": TenantSettings(deidentify="reserch")}},
                  {"dimse": DimseSettings(deidentify={"CT1": ""})}):  # fmt: skip
        with pytest.raises(ValidationError, match=r"there is no \[deidentification\."):
            Settings.model_validate(given)
