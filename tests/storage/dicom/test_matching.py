"""Conditions: the forms of matching, and normal values."""

from __future__ import annotations

import pytest

from storage.dicom import keys, names
from storage.dicom.matching import EVERYTHING, NOTHING, AllOf, AnyOf, Not, matches
from storage.errors import InvalidCondition


@pytest.mark.parametrize(
    ("stored", "pattern"),
    [
        ("Müller^Zoë", "muller^zoe"),
        ("MÜLLER^ZOË", "Mül*"),
        ("Łukasiewicz^Ü", "lukas*"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田*"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada^?arou"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "*たろう"),
        ("van  der Berg^A", "van der berg*"),
        ("Müller", "Mu\u0308ller"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ*"),
    ],
)
def test_names_match_without_case_accents_and_width(stored: str, pattern: str) -> None:
    row = dict(
        zip(
            ("patient_name", "patient_name_i", "patient_name_p"), (g or None for g in names.groups(stored)), strict=True
        )
    )
    assert matches(keys.of_keyword("PatientName", pattern), row)


def test_voicing_marks_of_japanese_tell_names_apart() -> None:
    assert names.fold("かき") != names.fold("がき")


def test_text_other_than_names_is_matched_with_case() -> None:
    row = {"study_description": "Head CT"}
    assert matches(keys.of_keyword("StudyDescription", "Head*"), row)
    assert not matches(keys.of_keyword("StudyDescription", "head*"), row)


@pytest.mark.parametrize(
    ("text", "time", "expected"),
    [
        ("0900-1000", "100000.000000", True),
        ("0900-10", "105959.999999", True),
        ("-0859", "090000.000000", False),
        ("09-", "090000.000000", True),
        ("101500", "101500.000000", True),
    ],
)
def test_time_ranges_reach_to_the_last_moment_of_what_they_name(text: str, time: str, expected: bool) -> None:
    assert matches(keys.of_keyword("StudyTime", text), {"study_time": time}) is expected


@pytest.mark.parametrize(("text", "expected"), [("20260101-20260131", True), ("-20251231", False), ("20260115", True)])
def test_date_ranges_include_their_ends(text: str, expected: bool) -> None:
    assert matches(keys.of_keyword("StudyDate", text), {"study_date": "20260115"}) is expected


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("StudyDate", "yesterday"),
        ("StudyDate", "20260101-soon"),
        ("StudyDate", "-"),
        ("StudyTime", "25 o'clock"),
        ("SeriesNumber", "one"),
    ],
)
def test_a_value_that_is_none_of_its_vr_is_refused(keyword: str, text: str) -> None:
    with pytest.raises(InvalidCondition, match=keyword):
        keys.of_keyword(keyword, text)


def test_an_attribute_that_is_not_indexed_cannot_be_matched() -> None:
    with pytest.raises(InvalidCondition):
        keys.of_keyword("PixelSpacing", "1")


def test_a_star_alone_matches_even_what_is_absent() -> None:
    assert matches(keys.of_keyword("PatientID", "**"), {})


def test_brackets_in_a_pattern_are_plain_characters() -> None:
    condition = keys.of_keyword("StudyDescription", "a[b]*")
    assert matches(condition, {"study_description": "a[b] c"})
    assert not matches(condition, {"study_description": "ab"})


def test_logic() -> None:
    ct = keys.of_keyword("Modality", "CT")
    row = {"modality": "CT"}
    assert matches(EVERYTHING, row)
    assert not matches(NOTHING, row)
    assert matches(AllOf((ct, AnyOf((NOTHING, ct)))), row)
    assert not matches(Not(ct), row)
    assert matches(Not(ct), {})
