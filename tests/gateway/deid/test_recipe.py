"""A site's own rules: what they do, what they may not, and what the result says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import InvalidSettings
from gateway.deid import Deidentified, Option, Profile, Recipe, deidentify
from tests.gateway.deid.made import PATIENT, PSEUDONYMS, dataset, instance, read, written


def saved(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def rule(attribute: str, action: str, value: str | None = None) -> dict[str, str]:
    found = {"attribute": attribute, "action": action, "reason": "the protocol asks for it"}
    return found if value is None else {**found, "value": value}


def recipe(*rules: dict[str, str]) -> Recipe:
    return Recipe.model_validate({"name": "study 7", "rule": rules})


SOURCE = instance(
    (0x00080020, "DA", "20240101"),
    (0x00080050, "SH", "A1"),
    (0x00080080, "LO", "Clinic"),
    (0x00081010, "SH", "CT1"),
    (0x00080070, "LO", "Maker"),
    (0x00400275, "SQ", [dataset((0x00081010, "SH", "CT1"))]),
)


def by(*rules: dict[str, str], options: frozenset[Option] = frozenset()) -> Deidentified:
    profile = Profile(options, recipe(*rules))
    return deidentify(read(written(SOURCE)), profile, PSEUDONYMS, PATIENT)


def test_a_rule_holds_at_every_depth_before_the_table() -> None:
    found = by(rule("StationName", "hash"), options=frozenset((Option.CLEAN_DESCRIPTORS,))).dataset
    assert found.StationName == found.RequestAttributesSequence[0].StationName == PSEUDONYMS.label("00081010", "CT1")
    assert len(found.StationName) == 16


def test_each_action_does_what_it_says() -> None:
    found = by(
        rule("InstitutionName", "replace", "Site 7"),
        rule("(0008,1010)", "keep"),
        rule("00080070", "remove"),
        rule("StudyDate", "shift"),
    ).dataset
    assert found.InstitutionName == "Site 7"
    assert found.StationName == "CT1"
    assert "Manufacturer" not in found
    assert found.StudyDate not in ("", "20240101")


def test_the_reason_is_told() -> None:
    found = by(rule("InstitutionName", "replace", "Site 7"))
    assert "recipe: the protocol asks for it" in [outcome.why for outcome in found.outcomes]


@pytest.mark.parametrize(
    ("own", "codes"),
    [
        (rule("StationName", "keep"), []),
        (rule("StationName", "hash"), []),
        (rule("StudyDate", "shift"), []),
        (rule("StationName", "replace", "CT"), ["113100"]),
        (rule("Manufacturer", "remove"), ["113100"]),
        (rule("Manufacturer", "keep"), ["113100"]),
        (rule("StudyInstanceUID", "hash"), ["113100"]),
    ],
)
def test_who_leaves_more_than_the_basic_profile_does_not_claim_it(own: dict[str, str], codes: list[str]) -> None:
    found = by(own).dataset
    assert [item.CodeValue for item in found.DeidentificationMethodCodeSequence] == codes
    assert "recipe study 7" in found.DeidentificationMethod
    assert ("departs from the Basic Profile by the recipe" in found.DeidentificationMethod) == (not codes)


def test_what_an_option_keeps_anyway_is_no_departure() -> None:
    options = frozenset((Option.RETAIN_DEVICE_IDENTITY, Option.RETAIN_MODIFIED_DATES))
    found = by(rule("StationName", "keep"), rule("StudyDate", "shift"), options=options).dataset
    assert [item.CodeValue for item in found.DeidentificationMethodCodeSequence] == ["113100", "113107", "113109"]


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ([rule("PatientName", "keep")], "identifies the patient"),
        ([rule("PatientBirthDate", "shift")], "identifies the patient"),
        ([rule("AccessionNumber", "keep")], "identifies the patient"),
        ([rule("NoSuchAttribute", "keep")], "no attribute"),
        ([rule("(0018,FFFE)", "keep")], "no attribute"),
        ([rule("StationName", "erase")], "rule.0.action"),
        ([rule("StationName", "replace")], "a value goes with"),
        ([rule("StationName", "keep", "x")], "a value goes with"),
        ([rule("StationName", "shift")], "for dates"),
        ([rule("StationName", "replace", "longer than sixteen")], "StationName|16"),
        ([rule("StudyDate", "replace", "yesterday")], "DA"),
        ([rule("StudyDate", "hash")], "for text"),
        ([rule("Rows", "replace", "1")], "replace is for text"),
        ([rule("RequestAttributesSequence", "hash")], "for text"),
        ([rule("StudyInstanceUID", "replace", "1.2.3")], "replace is for text"),
        ([rule("SOPInstanceUID", "remove")], "can be without"),
        ([rule("PatientIdentityRemoved", "replace", "NO")], "written by the engine"),
        ([rule("PixelData", "remove")], "written by the engine"),
        ([rule("MediaStorageSOPInstanceUID", "remove")], "written by the engine"),
        ([rule("StationName", "keep"), rule("(0008,1010)", "remove")], "more than one rule"),
        ([{"attribute": "StationName", "action": "keep"}], "reason"),
        ([{**rule("StationName", "keep"), "why": "x"}], "why"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rules: list[dict[str, str]], fault: str, tmp_path: Path) -> None:
    lines = ['name = "x"']
    for each in rules:
        lines += ["[[rule]]", *(f'{key} = "{value}"' for key, value in each.items())]
    path = saved(tmp_path, "\n".join(lines))
    with pytest.raises(InvalidSettings, match=fault) as raised:
        Recipe.read(path)
    assert all(each.startswith(f"{path}: ") for each in raised.value.faults)


@pytest.mark.parametrize("text", ["rule = 1", "name = [", 'name = "a\\\\b"'])
def test_a_file_of_another_form_is_refused(text: str, tmp_path: Path) -> None:
    path = saved(tmp_path, text)
    with pytest.raises(InvalidSettings, match=str(path)):
        Recipe.read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="No such file"):
        Recipe.read(tmp_path / "none.toml")


def test_a_recipe_is_read(tmp_path: Path) -> None:
    text = 'name = "study 7"\n[[rule]]\nattribute = "StationName"\naction = "hash"\nreason = "calibration"\n'
    found = Recipe.read(saved(tmp_path, text))
    assert [(each.tag, each.vr) for each in found.rule] == [(0x00081010, "SH")]
