"""``gateway view`` and ``gateway deid``, given beside a gateway, and the duty that keeps a view up by itself."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from gateway import background
from gateway.context import Caller, Source
from gateway.viewing.following import Follower
from storage.dicom.attributes import Level
from storage.index.questions import Search
from tests.callers import THIS_MACHINE
from tests.gateway.commands.conftest import MAIN, Site
from tests.instances import data_set, part10_file


def test_a_view_is_listed_filled_and_reviewed(site: Site) -> None:
    plain, picture = site.store(), site.store(Modality="US")
    assert site.command("view", "list")[1].splitlines() == [
        "research  tenant main  0 studies, 0 instances, 0 withheld, being filled",
        "teaching  tenant main  0 studies, 0 instances, 0 withheld, being filled",
    ]
    status, out, _ = site.command("view", "fill", "--view", "research")
    assert (status, out) == (0, "2 studies looked at: 1 instances made, 0 gone, 1 withheld\n")
    (listed,) = json.loads(site.command("view", "withheld", "--view", "research", "--json")[1])["withheld"]
    assert listed["instance"] == picture.SOPInstanceUID
    assert listed["reason"].startswith("text may be burned in: Modality is US")
    status, _, err = site.command(
        "view", "release", "--view", "research", plain.SOPInstanceUID, "--reason", "looked at it"
    )
    assert (status, "does not withhold" in err) == (1, True)
    site.command("view", "release", "--view", "research", picture.SOPInstanceUID, "--reason", "looked at it")
    (found, _) = json.loads(site.command("view", "list", "--json")[1])["views"]
    assert (found["studies"], found["instances"], found["withheld"]) == (2, 2, 0)
    assert not found["being_filled"]


def test_whose_a_pseudonym_is_is_told(site: Site) -> None:
    stored = site.store()
    site.command("view", "fill", "--view", "research")
    (row,) = site.core.views["research"].index.search(Search(MAIN, Level.STUDY))
    told = json.loads(site.command("view", "reidentify", "--view", "research", "--study", row.study_uid, "--json")[1])
    (original,) = told["originals"]
    assert (original["PatientID"], original["StudyInstanceUID"]) == ("MRN-4711", stored.StudyInstanceUID)
    status, _, err = site.command("view", "reidentify", "--view", "research", "--patient", "P123")
    assert (status, "no such pseudonym" in err) == (1, True)


def test_a_view_that_is_none_is_told_with_those_there_are(site: Site) -> None:
    status, _, err = site.command("view", "fill", "--view", "reserch")
    assert status == 1
    assert "there is no view 'reserch'; the settings have research, teaching" in err


def test_the_background_work_keeps_every_view_up(site: Site) -> None:
    site.store()
    stop = threading.Event()
    work = threading.Thread(target=background.run, args=(site.core, stop))
    work.start()
    pause = threading.Event()
    try:
        for _ in range(600):
            if site.core.views["research"].index.count(Search(MAIN, Level.STUDY)) == 1:
                break
            pause.wait(0.05)
        else:
            raise AssertionError("the view was not filled")
    finally:
        stop.set()
        work.join(30)
    assert not work.is_alive()
    assert site.core.views["teaching"].index.count(Search(MAIN, Level.STUDY)) == 0


def test_what_would_become_of_a_file_is_explained_without_its_values(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(part10_file(data_set(PatientName="Gray^Ann", StudyDescription="of Gray", Manufacturer="Ann Inc")))
    status, out, _ = site.command("deid", "check", str(path), "--view", "research")
    assert status == 0
    assert "(0010,0010) PatientName: replaced by a pseudonym (Z: basic)" in out
    assert "(0008,1030) StudyDescription: cleaned (C: clean_descriptors)" in out
    assert "(0008,0070) Manufacturer: cleaned" in out
    assert "(0008,0020) StudyDate: shifted (C: retain_longitudinal_modified_dates)" in out
    assert "Gray" not in out
    status, out, _ = site.command("deid", "check", str(path), "--json", "--all")
    found = json.loads(out)["files"][0]["attributes"]
    assert {"attribute": "(0008,0060)", "keyword": "Modality", "action": "K", "done": "kept",
            "why": "not in the table"} in found  # fmt: skip


def test_what_arrives_is_explained_by_its_own_section(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(part10_file(data_set(StudyDate="20240101")))
    monkeypatch.setenv(
        "GATEWAY_DEIDENTIFICATION", json.dumps({"trial": {"options": ["retain_longitudinal_full_dates"]}})
    )
    status, out, _ = site.command("deid", "check", str(path), "--arriving", "trial", "--all")
    assert status == 0
    assert "(0008,0020) StudyDate: kept (K: retain_longitudinal_full_dates)" in out
    status, _, err = site.command("deid", "check", str(path), "--arriving", "trail")
    assert (status, "there is no section deidentification 'trail'; the settings have trial" in err) == (1, True)
    assert not (tmp_path / "data" / "deidentification").exists(), "no key is made for a look"


def test_a_file_that_would_be_withheld_is_told_by_the_exit_status(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(part10_file(data_set(Modality="US")))
    status, out, _ = site.command("deid", "check", str(path))
    assert status == 1
    assert "would be withheld: Modality is US" in out
    status, _, err = site.command("deid", "check", str(tmp_path / "nothing.dcm"))
    assert status == 1
    assert "nothing.dcm" in err


def test_who_saw_a_patients_images_through_a_view_is_in_the_patients_report(site: Site) -> None:
    site.store()
    site.command("view", "fill", "--view", "research")
    shown = site.core.projections.views["research"]
    (row,) = site.core.views["research"].index.search(Search(MAIN, Level.STUDY))
    caller = Caller(THIS_MACHINE, Source("DICOMweb", "127.0.0.1"))
    shown.retrieve.locate(caller, row.study_uid)
    site.core.trail.close()
    (seen,) = json.loads(site.command("audit", "patient", "MRN-4711", "--json")[1])["seen"]
    assert (seen["action"], seen["view"]) == ("read_deidentified", "research")
    assert seen["study"] != row.study_uid
    assert "through research  read_deidentified" in site.command("audit", "patient", "MRN-4711")[1]


def test_a_defect_does_not_end_the_keeping_up_and_the_work_ends_when_a_duty_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that is left behind would keep the process from ending, and its supervisor from starting another."""
    tried = threading.Event()

    def defect(*_: object) -> None:
        tried.set()
        raise ZeroDivisionError

    def failing(*_: object) -> None:
        assert tried.wait(30)
        raise KeyError("a duty's defect")

    monkeypatch.setattr(Follower, "follow", defect)
    monkeypatch.setattr(background, "_complete_studies", failing)
    monkeypatch.setattr(background, "_TICK_S", 0.1)
    with pytest.raises(KeyError):
        background.run(site.core, threading.Event())
    assert "it is tried again in 60 s" in caplog.text
