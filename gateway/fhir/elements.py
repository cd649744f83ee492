"""Elements that resources share, from what a data set says (FHIR R4 "Data Types")."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from typing import Any

from storage.dicom import json_model
from storage.dicom.normal import date, offset_minutes, time_bound

Element = dict[str, Any]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
URI = "urn:ietf:rfc:3986"
UID_SYSTEM = "urn:dicom:uid"
_IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
_OBSERVATION_VALUE = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_GROUPS = {"Alphabetic": "", "Ideographic": "IDE", "Phonetic": "SYL"}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)
_ABSOLUTE = re.compile(r"(urn:|https?://)\S+", re.ASCII)
_SCHEMES = {
    "SCT": "http://snomed.info/sct", "SRT": "http://snomed.info/srt", "DCM": DCM,
    "LN": "http://loinc.org", "RADLEX": "http://radlex.org", "C4": "http://www.ama-assn.org/go/cpt",
}  # fmt: skip
"""Code systems of DICOM's Coding Scheme Designators (PS3.16 8 "Coding Schemes")."""


def values(data_set: json_model.JsonDataSet, tag: str) -> list[Any]:
    """The values of an attribute that are there."""
    return [each for each in data_set.get(tag, {}).get("Value") or () if each not in (None, "", {})]


def text(data_set: json_model.JsonDataSet, tag: str) -> str:
    """The first value of an attribute as text for people; "" when there is none."""
    return printable(json_model.text_of(data_set, tag))


def printable(found: str) -> str:
    """A text without what is not for print, in which FHIR would find a fault."""
    return _UNPRINTABLE.sub(" ", found).strip()


def code(found: str) -> str:
    """A text as a code: no spaces but single ones within."""
    return " ".join(printable(found).split())


def without_empty(found: Element) -> Element:
    """An element without what is not known: FHIR has no empty texts, lists and objects."""
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def meta(*, deidentified: bool, changed_at_s: float | None = None) -> Element:
    """When something changed last; of what is seen through a de-identified view a label, and no such time."""
    if not deidentified:
        return {} if changed_at_s is None else {"lastUpdated": instant(changed_at_s)}
    return {"security": [{"system": _OBSERVATION_VALUE, "code": "PSEUDED", "display": "pseudonymized"}]}


def instant(at_s: float) -> str:
    """A Unix time as FHIR's instant."""
    at = datetime.datetime.fromtimestamp(int(at_s * 1000) / 1000, datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def absent() -> Element:
    """What stands for an element that FHIR needs and the data set does not have."""
    return {"extension": [{"url": _ABSENT, "valueCode": "unknown"}]}


def uid_identifier(uid: str) -> Element:
    """A UID as identifier (FHIR R4 ImagingStudy, 8.17.6.1)."""
    return {"use": "official", "system": UID_SYSTEM, "value": f"urn:oid:{uid}"}


def identifier(kind: str, value: str, issuer: str = "", issuer_name: str = "") -> Element:
    """An identifier of a type of HL7 table 0203, by whom it was given."""
    system = system_of(issuer)
    name = issuer_name or ("" if system else issuer)
    return without_empty(
        {
            "type": {"coding": [{"system": _IDENTIFIER_TYPE, "code": kind}]},
            "system": system,
            "value": printable(value),
            "assigner": {"display": printable(name)} if name else {},
        }
    )


def system_of(issuer: str) -> str:
    """The URI of an issuer that has one; "" for one that is a mere name."""
    if _OID.fullmatch(issuer):
        return f"urn:oid:{issuer}"
    return issuer if _ABSOLUTE.fullmatch(issuer) else ""


def coded(items: Iterable[Any]) -> list[Element]:
    """Items of a code sequence as CodeableConcepts."""
    found = []
    for item in items:
        value, designator, meaning = (text(item, tag) for tag in ("00080100", "00080102", "00080104"))
        value = value or text(item, "00080119")
        coding = without_empty(
            {"system": _SCHEMES.get(designator, ""), "code": code(value), "display": meaning} if value else {}
        )
        concept = without_empty({"coding": [coding] if coding else [], "text": meaning})
        if concept:
            found.append(concept)
    return found


def names(data_set: json_model.JsonDataSet, tag: str) -> list[str]:
    """Names of persons, each as one text."""
    return [said for each in values(data_set, tag) if isinstance(each, dict) and (said := _spoken(each))]


def _spoken(name: dict[str, str]) -> str:
    group = next((name[each] for each in _GROUPS if name.get(each)), "")
    family, given, middle, prefix, suffix = _components(group)
    return " ".join(filter(None, (prefix, given, middle, family, suffix)))


def human_names(data_set: json_model.JsonDataSet, tag: str) -> list[Element]:
    """A person's name, one for each of its component groups."""
    found = []
    for name in values(data_set, tag)[:1]:
        for group, representation in _GROUPS.items():
            if not printable(name.get(group, "")):
                continue
            family, given, middle, prefix, suffix = _components(name[group])
            said = without_empty(
                {
                    "use": "official",
                    "text": _spoken({group: name[group]}),
                    "family": family,
                    "given": [each for each in (given, middle) if each],
                    "prefix": [prefix] if prefix else [],
                    "suffix": [suffix] if suffix else [],
                }
            )
            if representation:
                said["extension"] = [{"url": _REPRESENTATION, "valueCode": representation}]
            found.append(said)
    return found


def _components(group: str) -> Sequence[str]:
    """Family, given and middle name, prefix and suffix (PS3.5 6.2.1)."""
    return [printable(each) for each in [*group.split("^"), "", "", "", ""][:5]]


def day(found: str) -> str:
    """A DA value as FHIR's date; "" for what is no day of the calendar."""
    normal = date(found.strip())
    try:
        return datetime.date.fromisoformat(normal or "").isoformat()
    except ValueError:
        return ""


def moment(data_set: json_model.JsonDataSet, date_tag: str, time_tag: str) -> str:
    """A date, with its time where the data set says its offset from UTC: FHIR has no time without one."""
    on = day(json_model.text_of(data_set, date_tag))
    time = time_bound(json_model.text_of(data_set, time_tag).strip(), high=False)
    offset = offset_minutes(json_model.text_of(data_set, "00080201"))
    if not on or time is None or offset is None:
        return on
    try:
        zone = datetime.timezone(datetime.timedelta(minutes=offset))
        at = datetime.datetime.fromisoformat(f"{on}T{time[:2]}:{time[2:4]}:{time[4:]}").replace(tzinfo=zone)
    except ValueError:
        return on
    return at.isoformat()


def count(data_set: json_model.JsonDataSet, tag: str) -> int | None:
    """A number that FHIR can have as unsignedInt."""
    found = json_model.number_of(data_set, tag, -1)
    return found if 0 <= found < 1 << 31 else None
