"""Profiles: one rule for each tag, and a version that names all that decides."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gateway.config import InvalidSettings
from gateway.deid import Option, Profile, Recipe, SafePrivate, markers
from gateway.deid.iods import AttributeTypes
from gateway.deid.safe_private import PrivateKey
from gateway.deid.table import Action, table
from tests.gateway.deid.canaries import TABLE
from tests.instances import SHARED

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
UNKNOWN = "1.2.826.0.1.3680043.9.9999.1"


@pytest.mark.parametrize(
    ("sop_class", "path", "wanted"),
    [
        (CT, (0x00080021,), Action.X),  # Series Date is Type 3 in General Series
        (CT, (0x00080023,), Action.Z),  # Content Date is 2C in General Image
        (CT, (0x00081140,), Action.X),  # Referenced Image Sequence is Type 3 in General Reference
        (CT, (0x00181030,), Action.X),
        (CT, (0x00180010,), Action.Z),  # Contrast/Bolus Agent is Type 2
        (CT, (0x00102203,), Action.Z),
        (CT, (0x0018700A,), Action.X),  # not of this IOD at all
        (ENHANCED_CT, (0x00080023,), Action.D),  # Type 1 in Multi-frame Functional Groups
        (ENHANCED_CT, (0x0008002A,), Action.D),  # 1C in Enhanced CT Image
        (ENHANCED_CT, (0x00181000,), Action.D),  # Type 1 in Enhanced General Equipment
        (ENHANCED_CT, (0x52009230, 0x00089124, 0x00082112), Action.U),  # Type 2, kept with other UIDs
        (SEG, (0x00700084,), Action.Z),  # Content Creator's Name is Type 2
        (RT_PLAN, (0x300A0006,), Action.D),  # RT Plan Date is Type 2: D is the only one that is not X
        (RT_PLAN, (0x300A00B0, 0x300A00B2), Action.Z),  # Treatment Machine Name is Type 2
        (RT_PLAN, (0x00081070,), Action.Z),  # Operators' Name is Type 2 in RT Series
        (DX, (0x0018700A,), Action.X),
        (UNKNOWN, (0x00080021,), Action.D),
        (UNKNOWN, (0x00081140,), Action.U),
        (UNKNOWN, (0x00080022,), Action.Z),
        (CT, (0x00081115, 0x00080021), Action.D),  # a place that the tables do not know
    ],
)
def test_the_iod_decides_on_a_compound_action(sop_class: str, path: tuple[int, ...], wanted: Action) -> None:
    row = table().attributes.get(path[-1])
    action = row.basic if row is not None else Action.K
    assert AttributeTypes(sop_class).decide(action, path) is wanted


@pytest.mark.parametrize(
    ("options", "tag", "action"),
    [
        ((), 0x00080020, Action.Z),
        ((Option.RETAIN_FULL_DATES,), 0x00080020, Action.K),
        ((Option.RETAIN_MODIFIED_DATES,), 0x00080020, Action.C),
        ((Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES), 0x00080020, Action.C),
        ((Option.RETAIN_DEVICE_IDENTITY, Option.RETAIN_MODIFIED_DATES), 0x00181200, Action.C),
        ((Option.RETAIN_UIDS,), 0x0040A124, Action.U),
        ((), 0x0070031B, Action.U),  # a reference that the table does not list
        ((), 0x00081150, Action.K),  # names a kind
        ((), 0x0018FFFE, Action.X),  # in no dictionary
        ((), 0x00080000, Action.X),
        ((), 0x00081190, Action.X),
        ((), 0x60000010, Action.X),
        ((), 0x50FE2500, Action.X),
        ((), 0x00280010, Action.K),
        ((), 0x00201206, Action.K),
    ],
)
def test_one_rule_for_a_tag(options: tuple[Option, ...], tag: int, action: Action) -> None:
    assert Profile(frozenset(options)).rule(tag).action is action


def test_the_version_is_the_same_in_another_process() -> None:
    program = (
        "from gateway.deid import Option, Profile;"
        "print(Profile(frozenset((Option.RETAIN_UIDS, Option.CLEAN_GRAPHICS))).version)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == Profile(frozenset((Option.CLEAN_GRAPHICS, Option.RETAIN_UIDS))).version


def test_whatever_decides_changes_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = {"attribute": "StationName", "action": "keep", "reason": "needed"}
    safe = {PrivateKey("A", 0x11, 1): "DS"}
    versions = {
        Profile().version,
        Profile(frozenset((Option.RETAIN_UIDS,))).version,
        Profile(recipe=Recipe.model_validate({"rule": [rule]})).version,
        Profile(recipe=Recipe.model_validate({"rule": [{**rule, "action": "remove"}]})).version,
        Profile(safe_private=SafePrivate(safe)).version,
        Profile(safe_private=SafePrivate(safe, honour_claims=False)).version,
    }
    monkeypatch.setattr("gateway.deid.profile.ENGINE_VERSION", 0)
    versions.add(Profile().version)
    assert len(versions) == 7


def test_an_unknown_option_is_refused_by_name() -> None:
    assert Profile.of(["retain_uids"]).options == {Option.RETAIN_UIDS}
    with pytest.raises(InvalidSettings, match="retain_everything"):
        Profile.of(["retain_everything"])


@pytest.mark.parametrize("option", [option for option in Option if option is not Option.CLEAN_PIXEL_DATA])
def test_the_code_of_each_option_is_written(option: Option) -> None:
    assert markers.methods(Profile(frozenset((option,)))) == ["basic", option.value]


def test_cleaned_pixels_are_claimed_by_who_cleaned_them() -> None:
    assert markers.methods(Profile(frozenset((Option.CLEAN_PIXEL_DATA,)))) == ["basic"]


@pytest.mark.parametrize(
    ("options", "said", "codes"),
    [
        ((), "REMOVED", ["basic"]),
        ((Option.RETAIN_FULL_DATES,), "UNMODIFIED", ["basic", "retain_longitudinal_full_dates"]),
        ((Option.RETAIN_MODIFIED_DATES,), "MODIFIED", ["basic", "retain_longitudinal_modified_dates"]),
        (
            (Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES),
            "MODIFIED",
            ["basic", "retain_longitudinal_modified_dates"],
        ),
    ],
)
def test_what_became_of_dates_is_said(options: tuple[Option, ...], said: str, codes: list[str]) -> None:
    profile = Profile(frozenset(options))
    assert markers.temporal_information(profile) == said
    assert markers.methods(profile) == codes


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
def test_the_tables_are_those_of_the_standard() -> None:
    source = json.loads((SHARED.parent / "standard" / "confidentiality_profile.json").read_text())
    options = [column for column in source["columns"] if column != "basic"]

    def actions(row: dict[str, str]) -> list[object]:
        return [row["basic"], {option: row[option] for option in options if row.get(option)}]

    rows = {row["tag"].strip("()").replace(",", "").lower(): row for row in source["table_e1_1"]}
    private = next(row for tag, row in rows.items() if tag.startswith("gggg"))
    public = {tag: row for tag, row in rows.items() if not tag.startswith("gggg")}
    assert {tag: row[2:] for tag, row in TABLE["attributes"].items()} == {
        tag: actions(row) for tag, row in public.items()
    }
    assert TABLE["private_attributes"] == actions(private)
    assert {tuple(row[:3]): row[4:] for row in TABLE["content_items"]} == {
        (row["scheme"], row["code"], row["value_type"]): actions(row) for row in source["table_e3_4_1_content_items"]
    }
    assert {code for code, _ in TABLE["methods"].values()} == {
        row["code"] for row in source["cid_7050_deidentification_method"]
    }
    assert len(TABLE["attributes"]) == 656
