"""The lines that are burned into pictures."""

from __future__ import annotations

import json
from typing import Any

from gateway.imaging.annotation import AnnotationKind
from gateway.services.labels import labels
from tests.instances import data_set

BOTH = (AnnotationKind.PATIENT, AnnotationKind.TECHNIQUE)


def of(kinds: tuple[AnnotationKind, ...] = BOTH, frames: int = 1, **attributes: Any) -> Any:
    found = data_set(PixelData=None, **attributes)
    return labels(json.loads(found.to_json()), kinds, 2, frames)


def test_the_patient_is_name_identifier_sex_age_and_birth_date() -> None:
    found = of(PatientName="Doe^Jane^Q", PatientID="7", PatientSex="F", PatientAge="055Y", PatientBirthDate="19700102")
    assert found.patient == ("Doe, Jane Q", "ID 7", "Sex F", "Age 055Y", "Born 1970-01-02")


def test_the_technique_says_how_and_when_the_picture_was_made() -> None:
    found = of(
        SeriesDescription="BRAIN", KVP="120", SliceThickness="5", AcquisitionDate="20260102", AcquisitionTime="0915"
    )
    assert found.technique[:2] == ("CT BRAIN", "2026-01-02 09:15")
    assert found.technique[2].split("  ")[0].startswith("120")
    assert found.technique[3] == "Series 1  Image 1"
    assert of(frames=3).technique[-1].endswith("Frame 2 of 3")


def test_only_what_is_asked_for_and_there_is_said() -> None:
    assert of((AnnotationKind.PATIENT,)).technique == ()
    assert of((AnnotationKind.TECHNIQUE,)).patient == ()
    empty = of(PatientName=None, PatientID=None, Modality=None, StudyDate=None, StudyTime=None, SeriesNumber=None)
    assert (empty.patient, empty.technique) == ((), ("Image 1",))


def test_dates_out_of_form_stay_as_they_are() -> None:
    found = labels({"00100030": {"vr": "DA", "Value": ["1970"]}}, BOTH, 1, 1)
    assert found.patient == ("Born 1970",)
