"""``gateway quarantine`` beside a gateway."""

from __future__ import annotations

import json

import pytest

from gateway.errors import Misplaced
from gateway.services.ingest import Identified
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Target
from tests.gateway.commands.conftest import MAIN, Site


def misplace(site: Site) -> tuple[str, str]:
    """The study that is in the archive, and the version of what contradicts it."""
    first = site.store()
    with pytest.raises(Identified) as refused:
        site.store(SOPInstanceUID=first.SOPInstanceUID, PatientName="Wrong^Bob")
    assert isinstance(refused.value.reason, Misplaced)
    (listed,) = json.loads(site.command("quarantine", "list", "--json")[1])["instances"]
    return first.StudyInstanceUID, listed["version"]


def delete(site: Site, study: str) -> None:
    target = Target(MAIN, ids.StudyUid(study))
    site.core.archive.delete(target, site.core.archive.index.versions(target, EVERYTHING))


def test_it_is_listed_shown_and_released(site: Site) -> None:
    study, version = misplace(site)
    status, out, _ = site.command("quarantine", "list")
    assert (status, out.startswith(version), "from command line, localhost" in out) == (0, True, True)
    shown = site.command("quarantine", "show", version)[1]
    assert "'Wrong^Bob'" in shown
    assert "'Gray^Ann'" in shown
    status, _, err = site.command("quarantine", "release", version)
    assert (status, "it stays in quarantine" in err) == (1, True)
    delete(site, study)
    assert site.command("quarantine", "release", version)[:2] == (0, "released: stored\n")
    assert site.command("quarantine", "list")[:2] == (0, "")


def test_it_is_discarded(site: Site) -> None:
    _, version = misplace(site)
    assert site.command("quarantine", "discard", version)[:2] == (0, "discarded\n")
    status, _, err = site.command("quarantine", "discard", version)
    assert (status, "no such instance" in err) == (1, True)
