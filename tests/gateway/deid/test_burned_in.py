"""Which instances may have identity in their pixels, and what is known to be blanked."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from gateway.deid.burned_in import BurnedIn, Region, assess


def image(**attributes: Any) -> Dataset:
    found = Dataset()
    values = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "Rows": 100, "Columns": 200}
    for keyword, value in {**values, **attributes}.items():
        setattr(found, keyword, value)
    return found


def region(x0: int, y0: int, x1: int, y1: int) -> Dataset:
    found = Dataset()
    found.RegionLocationMinX0, found.RegionLocationMinY0 = x0, y0
    found.RegionLocationMaxX1, found.RegionLocationMaxY1 = x1, y1
    return found


def test_a_plain_image_of_a_scanner_is_not_suspect() -> None:
    assert assess(image()) == BurnedIn()
    assert assess(image(Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M"])) == BurnedIn()


@pytest.mark.parametrize(
    "attributes",
    [
        {"BurnedInAnnotation": "YES"},
        {"Modality": "US"},
        {"Modality": "XA"},
        {"Modality": "OT"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"},
        {"ConversionType": "WSD"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "BurnedInAnnotation": "NO"},
        {"Modality": "SM", "ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]},
        {"SeriesDescription": "Dose Report"},
    ],
)
def test_what_may_carry_text_that_nobody_knows_is_suspect_and_says_why(attributes: dict[str, Any]) -> None:
    found = assess(image(**attributes))
    assert found.suspect
    assert not found.is_changed


@pytest.mark.parametrize("attributes", [{"Modality": "US"}, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}])
def test_what_says_that_nothing_is_burned_in_is_believed(attributes: dict[str, Any]) -> None:
    assert assess(image(BurnedInAnnotation="NO", **attributes)) == BurnedIn()


def test_of_ultrasound_only_its_regions_are_kept() -> None:
    found = assess(image(Modality="US", SequenceOfUltrasoundRegions=[region(10, 20, 109, 89), region(0, 90, 9, 95)]))
    assert found == BurnedIn(keep=(Region(10, 20, 110, 90), Region(0, 90, 10, 96)))


def test_a_region_that_is_the_whole_picture_or_none_says_nothing() -> None:
    for sequence in ([region(0, 0, 199, 99)], [], [region(50, 50, 10, 10)], [Dataset()]):
        assert assess(image(Modality="US", SequenceOfUltrasoundRegions=sequence)).suspect


def test_what_a_device_is_known_to_burn_in_is_blanked() -> None:
    dose = image(Manufacturer="GE MEDICAL SYSTEMS", SeriesDescription="Dose Report", Rows=512, Columns=512)
    assert Region(0, 0, 512, 110) in assess(dose).blank


def test_values_that_cannot_be_read_are_suspect_rather_than_an_error() -> None:
    broken = image(Modality="US", SequenceOfUltrasoundRegions=[region(10, 20, 109, 89)])
    del broken.Rows
    assert assess(broken).suspect
