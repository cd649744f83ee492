"""What a de-identified instance says of itself (PS3.15 E.1.1, PS3.3 C.7.1.1 and C.12.1, PS3.16 CID 7050)."""

from __future__ import annotations

from pydicom import DataElement, Dataset

from gateway.deid.profile import ENGINE_VERSION, Profile
from gateway.deid.table import Option, table
from gateway.deid.values import element_of, made

PRODUCT = "DICOMweb gateway"

PATIENT_IDENTITY_REMOVED = 0x00120062
METHOD = 0x00120063
METHOD_CODES = 0x00120064
BURNED_IN_ANNOTATION = 0x00280301
TEMPORAL_INFORMATION = 0x00280303

WRITTEN = frozenset((PATIENT_IDENTITY_REMOVED, METHOD, METHOD_CODES, TEMPORAL_INFORMATION))
"""Never taken over from the input: what another de-identification said of itself is not true of this one."""


def elements(profile: Profile) -> list[DataElement]:
    """The markers of a profile. Clean Pixel Data is not among them: ``pixels_cleaned`` says it when it is done."""
    return [
        made(PATIENT_IDENTITY_REMOVED, "CS", "YES"),
        made(METHOD, "LO", method(profile)),
        made(METHOD_CODES, "SQ", [_code(name) for name in methods(profile)]),
        made(TEMPORAL_INFORMATION, "CS", temporal_information(profile)),
    ]


def method(profile: Profile) -> list[str]:
    """The values of De-identification Method: who, by what, exactly which profile, and whose recipe."""
    values = [f"{PRODUCT}, engine {ENGINE_VERSION}", f"PS3.15 Annex E {table().edition}", f"profile {profile.version}"]
    if profile.recipe.rule:
        values.append(f"recipe {profile.recipe.name}")
    if profile.departs:
        values.append("departs from the Basic Profile by the recipe")
    return values


def methods(profile: Profile) -> list[str]:
    """The names of the CID 7050 codes that are true of a profile.

    A recipe that leaves more than the Basic Profile would does not follow it. Where dates were to be kept and to be
    modified, they are modified.
    """
    chosen = set(profile.options) - {Option.CLEAN_PIXEL_DATA}
    if Option.RETAIN_MODIFIED_DATES in chosen:
        chosen.discard(Option.RETAIN_FULL_DATES)
    return [*([] if profile.departs else ["basic"]), *(name for name in table().methods if name in chosen)]


def temporal_information(profile: Profile) -> str:
    """Longitudinal Temporal Information Modified (0028,0303)."""
    if Option.RETAIN_MODIFIED_DATES in profile.options:
        return "MODIFIED"
    return "UNMODIFIED" if Option.RETAIN_FULL_DATES in profile.options else "REMOVED"


def pixels_cleaned(dataset: Dataset) -> None:
    """Say that whatever was burned into the pixels has been taken out, and that this was verified."""
    dataset.add(made(BURNED_IN_ANNOTATION, "CS", "NO"))
    codes = element_of(dataset, METHOD_CODES)
    present = [] if codes is None else list(codes.value or ())
    present.append(_code(Option.CLEAN_PIXEL_DATA.value))
    dataset.add(made(METHOD_CODES, "SQ", sorted(present, key=lambda item: str(item[0x00080100].value))))


def _code(name: str) -> Dataset:
    code, meaning = table().methods[name]
    item = Dataset()
    item.add(made(0x00080100, "SH", code))
    item.add(made(0x00080102, "SH", "DCM"))
    item.add(made(0x00080104, "LO", meaning))
    return item
