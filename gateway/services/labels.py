"""The text that is burned into a picture on request: who is shown, and how the picture was made."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.imaging.annotation import Annotation, AnnotationKind
from storage.dicom import json_model
from storage.dicom.json_model import JsonDataSet

_DATE_CHARACTERS = 8


def labels(data_set: JsonDataSet, kinds: Iterable[AnnotationKind], frame_number: int, frames: int) -> Annotation:
    """The lines of a frame; attributes that are absent give no line.

    References
    ----------
    PS3.18 8.3.5.1.2 "Annotation": patient and technique information; what they are is the implementation's choice
    """
    wanted = set(kinds)
    return Annotation(
        patient=tuple(_patient(data_set)) if AnnotationKind.PATIENT in wanted else (),
        technique=tuple(_technique(data_set, frame_number, frames)) if AnnotationKind.TECHNIQUE in wanted else (),
    )


def _patient(data_set: JsonDataSet) -> Iterable[str]:
    name = json_model.text_of(data_set, "00100010")
    family, _, rest = name.partition("^")
    given = " ".join(part for part in rest.split("^") if part)
    yield from filter(None, [", ".join(part for part in (family, given) if part)])
    for label, tag in (("ID", "00100020"), ("Sex", "00100040"), ("Age", "00101010")):
        if found := json_model.text_of(data_set, tag):
            yield f"{label} {found}"
    if born := json_model.text_of(data_set, "00100030"):
        yield f"Born {date(born)}"


def _technique(data_set: JsonDataSet, frame_number: int, frames: int) -> Iterable[str]:
    modality = json_model.text_of(data_set, "00080060")
    description = json_model.text_of(data_set, "0008103E") or json_model.text_of(data_set, "00081030")
    yield from filter(None, [" ".join(part for part in (modality, description) if part)])
    taken = json_model.text_of(data_set, "00080022") or json_model.text_of(data_set, "00080020")
    at = json_model.text_of(data_set, "00080032") or json_model.text_of(data_set, "00080030")
    yield from filter(None, [" ".join(part for part in (date(taken), time(at)) if part)])
    values = [
        f"{label}{json_model.text_of(data_set, tag)}{unit}"
        for label, tag, unit in (
            ("", "00180060", " kV"),
            ("", "00181151", " mA"),
            ("TR ", "00180080", " ms"),
            ("TE ", "00180081", " ms"),
            ("", "00180050", " mm"),
        )
        if json_model.text_of(data_set, tag)
    ]
    if values:
        yield "  ".join(values)
    place = [
        f"{label} {json_model.text_of(data_set, tag)}"
        for label, tag in (("Series", "00200011"), ("Image", "00200013"))
        if json_model.text_of(data_set, tag)
    ]
    if frames > 1:
        place.append(f"Frame {frame_number} of {frames}")
    if place:
        yield "  ".join(place)


def date(text: str) -> str:
    """A DA value as people write it; anything else as it is."""
    if len(text) == _DATE_CHARACTERS and text.isdigit():
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return text


def time(text: str) -> str:
    """The hours and minutes of a TM value; anything else as it is."""
    return f"{text[:2]}:{text[2:4]}" if text[:4].isdigit() and len(text) >= 4 else text
