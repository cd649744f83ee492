"""``gateway worklist``: from files onto the worklist, and what a person sees of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from gateway import cli
from storage.dicom import file_meta
from tests import steps


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """Options that name the settings of a gateway."""
    (tmp_path / "gateway.toml").write_text(f'[storage]\ndirectory = "{tmp_path}/data"\n')
    return ["-c", str(tmp_path / "gateway.toml")]


def listed(place: list[str], capsys: pytest.CaptureFixture[str], *options: str) -> list[tuple[str, str]]:
    capsys.readouterr()
    assert cli.main(["worklist", "list", *place, "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)["steps"]
    return [(each["dataSet"]["00100020"]["Value"][0], each["state"]) for each in found]


def wl(path: Path, found: Dataset) -> Path:
    """A worklist file, as DCMTK's dump2dcm makes them."""
    path.write_bytes(file_meta.write(file_meta.FileMeta(file_meta.EXPLICIT_VR_LITTLE_ENDIAN)) + steps.encoded(found))
    return path


def test_files_of_every_form_are_scheduled_and_come_again(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "orders"
    (folder / "below").mkdir(parents=True)
    first = steps.scheduled()
    wl(folder / "one.wl", first)
    (folder / "below" / "bare.wl").write_bytes(steps.encoded(steps.scheduled(PatientID="W-2", AccessionNumber="A-2")))
    others = [steps.scheduled(PatientID=f"W-{number}", AccessionNumber=f"A-{number}") for number in (3, 4)]
    (folder / "list.json").write_text(json.dumps([each.to_json_dict() for each in others]))
    for _ in range(2):
        assert cli.main(["worklist", "import", *place, str(folder)]) == 0
        assert "4 scheduled, 0 files refused" in capsys.readouterr().out
        every = [(f"W-{number}", "SCHEDULED") for number in (1, 2, 3, 4)]
        assert sorted(listed(place, capsys)) == every
    assert cli.main(["worklist", "list", *place]) == 0
    shown = capsys.readouterr().out
    assert "20261201 0900" in shown
    assert "Gray^Dorian (W-1)" in shown
    assert f"{first.StudyInstanceUID} SPS-1" in shown


def test_what_cannot_be_scheduled_is_named_and_the_rest_goes_on(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = wl(tmp_path / "good.wl", steps.scheduled())
    without = wl(tmp_path / "without.wl", steps.scheduled(PatientID="", ScheduledStationAETitle=""))
    text = tmp_path / "text.json"
    text.write_text("{no JSON")
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({**steps.scheduled().to_json_dict(), "00100010": {"vr": "PN", "Value": [[]]}}))
    assert cli.main(["worklist", "import", *place, *map(str, (without, text, wrong, tmp_path / "absent", good))]) == 1
    shown = capsys.readouterr()
    assert "1 scheduled, 4 files refused" in shown.out
    told = shown.err.replace("\n", " ")
    assert "without PatientID (0010,0020), ScheduledStationAETitle (0040,0001)" in told
    assert "neither a DICOM file nor JSON" in told
    assert "PatientName (0010,0010)" in told
    assert listed(place, capsys) == [("W-1", "SCHEDULED")]


def test_the_list_is_asked_by_day_station_and_modality(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wl(tmp_path / "1.wl", steps.scheduled())
    wl(tmp_path / "2.wl", steps.scheduled(PatientID="W-2", AccessionNumber="A-2", Modality="MR"))
    assert cli.main(["worklist", "import", *place, str(tmp_path / "1.wl"), str(tmp_path / "2.wl")]) == 0
    assert listed(place, capsys, "--modality", "MR") == [("W-2", "SCHEDULED")]
    assert len(listed(place, capsys, "--date", "20261201", "--station", "CT1")) == 2
    assert listed(place, capsys, "--date", "20261202-") == []
    assert cli.main(["worklist", "list", *place, "--date", "20261202-"]) == 0
    assert "nothing is scheduled that matches" in capsys.readouterr().err
    assert cli.main(["worklist", "list", *place, "--date", "soon"]) == 1
    assert "ScheduledProcedureStepStartDate" in capsys.readouterr().err


def test_a_step_is_cancelled_by_its_name_in_the_list(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = steps.scheduled()
    assert cli.main(["worklist", "import", *place, str(wl(tmp_path / "1.wl", order))]) == 0
    assert cli.main(["worklist", "cancel", *place, f"{order.StudyInstanceUID} SPS-1"]) == 0
    assert listed(place, capsys) == []
    assert listed(place, capsys, "--all") == [("W-1", "CANCELLED")]
    assert cli.main(["worklist", "cancel", *place, str(order.StudyInstanceUID), "SPS-1"]) == 1
    assert "is CANCELLED, and cannot be cancelled" in capsys.readouterr().err
    assert cli.main(["worklist", "cancel", *place, "1.2.3 SPS-1"]) == 1
    assert "there is no such step" in capsys.readouterr().err


def test_an_erasure_takes_the_patients_steps_with_it(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        order = steps.scheduled(PatientID=f"W-{number}", AccessionNumber=f"A-{number}")
        assert cli.main(["worklist", "import", *place, str(wl(tmp_path / "1.wl", order))]) == 0
    capsys.readouterr()
    for dry in (["--dry-run"], []):
        assert cli.main(["erase", *place, "--patient-id", "W-1", *dry]) == 0
        assert json.loads(capsys.readouterr().out)["procedure_steps"] == 1
    assert listed(place, capsys) == [("W-2", "SCHEDULED")]
    assert cli.main(["erase", *place, "--patient-id", "W-1"]) == 1
    assert "there is nothing to erase" in capsys.readouterr().err
