"""Claims of the Store Transaction (PS3.18 10.5); they store the kit's study, which other claims then ask for."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from gateway.conformance import material, parts
from gateway.conformance.claims import Broken, NotAsked, Service, claim
from gateway.conformance.client import DICOM, JSON, OCTETS, XML, Answer
from gateway.conformance.visit import Visit, files, first, of

_STORED, _FAILED, _UNREAD = "00081199", "00081198", "0008119A"
_REASON, _SOP = "00081197", "00081155"
_PIXELS = "pixels"
_NATIVE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_REASONS = ((0xA700, 0xA7FF), (0xA900, 0xA9FF), (0xC000, 0xCFFF), (0x0110, 0x0110), (0x0122, 0x0122))
"""PS3.18 Table I.2-2; others may be used when a conformance statement has them."""


def items(found: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """The items of a sequence."""
    return list(found.get(tag, {}).get("Value", []))


def stored(answer: Answer, *uids: str) -> dict[str, Any]:
    """The response of a request of which these instances, and no others, were stored."""
    found = answer.typed(JSON, "application/json").document()
    told = {first(each, _SOP) for each in items(found, _STORED)}
    if told != set(uids):
        raise Broken(f"Referenced SOP Sequence has {len(told)} items, not those of the {len(uids)} instances stored")
    return found


@claim(Service.STORE, "10.5.1, 10.5.3.1", "Part 10 files in a multipart request are stored: 200", stores=True)
def store_dicom(visit: Visit) -> str | None:
    made = visit.made
    assert made is not None
    answer = visit.store(*files(made)).has(200)
    visit.stored = True
    stored(answer, *(str(each.SOPInstanceUID) for each in (*made.plain, made.frames)))
    return None


@claim(Service.STORE, "10.5.3.3, I.2", "each stored instance has its SOP Class UID and Retrieve URL", stores=True)
def store_retrieve_urls(visit: Visit) -> str | None:
    more = material.another(visit.own())
    answer = visit.store(material.written(more)).has(200)
    (item,) = items(stored(answer, str(more.SOPInstanceUID)), _STORED)
    if first(item, "00081150") != more.SOPClassUID:
        raise Broken("Referenced SOP Class UID (0008,1150) is that of the instance")
    if not first(item, "00081190").endswith(of(more).instance):
        raise Broken(
            f"Retrieve URL (0008,1190) of the item is {visit.client.shown(first(item, '00081190')) or 'empty'}"
        )
    return None


@claim(Service.STORE, "10.5.3.3, I.2", "nothing is said of failures when there are none", stores=True)
def store_without_failures(visit: Visit) -> str | None:
    found = visit.store(material.written(material.another(visit.own()))).has(200).document()
    for tag, name in ((_FAILED, "Failed SOP Sequence (0008,1198)"), (_UNREAD, "Other Failures Sequence (0008,119A)")):
        if items(found, tag):
            raise Broken(f"{name} has items")
        if tag in found:
            raise Broken(f"{name} is there, without an item")
    return None


@claim(Service.STORE, "10.5.1.1", "an instance is stored into the study that the path names", stores=True)
def store_to_a_study(visit: Visit) -> str | None:
    made = visit.own()
    more = material.another(made)
    stored(visit.store(material.written(more), path=f"/studies/{made.study_uid}").has(200), str(more.SOPInstanceUID))
    return None


@claim(
    Service.STORE, "10.5.1.1, 10.5.3.1", "an instance of another study than the path's: 409, with a Failure Reason",
    stores=True,
)  # fmt: skip
def store_mismatch(visit: Visit) -> str | None:
    more = material.another(visit.own())
    answer = visit.store(material.written(more), path=f"/studies/{material.uid()}").has(409)
    return _one_failure(answer, str(more.SOPInstanceUID))


@claim(Service.STORE, "10.5.3.1", "a request of which a part is stored: 202, with both sequences", stores=True)
def store_partly(visit: Visit) -> str | None:
    made = visit.own()
    good = material.another(made)
    bad = material.another(made, StudyInstanceUID=material.uid(), SeriesInstanceUID=material.uid())
    answer = visit.store(*map(material.written, (good, bad)), path=f"/studies/{made.study_uid}").has(202)
    note = _one_failure(answer, str(bad.SOPInstanceUID))
    stored(answer, str(good.SOPInstanceUID))
    return note


@claim(
    Service.STORE, "10.5.3.1", "a good part beside one that is no DICOM: 202, and the good one is stored", stores=True
)
def store_beside_garbage(visit: Visit) -> str | None:
    good = material.another(visit.own())
    answer = visit.store(material.written(good), b"this is no DICOM file" * 20).has(202)
    found = stored(answer, str(good.SOPInstanceUID))
    if not items(found, _FAILED) and not items(found, _UNREAD):
        raise Broken("neither Failed SOP Sequence nor Other Failures Sequence tells of the part that was not stored")
    return None


@claim(Service.STORE, "10.5.3.1", "a request without anything that is DICOM is refused: 400 or 409", stores=True)
def store_garbage(visit: Visit) -> str | None:
    visit.store(b"this is no DICOM file" * 20).has(400, 409)
    return None


@claim(Service.STORE, "10.5.3.1", "a multipart body without its boundary is refused: 400", stores=True)
def store_broken(visit: Visit) -> str | None:
    headers = {"Content-Type": f'multipart/related; type="{DICOM}"; boundary=nowhere'}
    visit.client.ask("POST", "/studies", JSON, headers=headers, body=b"there is no boundary in this").has(400)
    return None


@claim(Service.STORE, "10.5.3.1, 8.5", "another media type is refused: 415", stores=True)
def store_media_type(visit: Visit) -> str | None:
    visit.client.ask("POST", "/studies", JSON, headers={"Content-Type": "image/png"}, body=b"\x89PNG").has(415)
    return None


@claim(Service.STORE, "10.5.1, 8.7.3", "one Part 10 file as a single part", required=False, stores=True)
def store_single_part(visit: Visit) -> str | None:
    more = material.another(visit.own())
    headers = {"Content-Type": DICOM}
    answer = visit.client.ask("POST", "/studies", JSON, headers=headers, body=material.written(more))
    stored(answer.offered().has(200), str(more.SOPInstanceUID))
    return None


@claim(
    Service.STORE, "10.5.3.3, Annex F", "the response in the Native DICOM Model where that is asked for", stores=True
)
def store_response_in_xml(visit: Visit) -> str | None:
    answer = visit.store(material.written(material.another(visit.own())), accept=XML).has(200).typed(XML)
    if _STORED not in {each.get("tag") for each in answer.xml()}:
        raise Broken("the document has no Referenced SOP Sequence (0008,1199)")
    return None


@claim(Service.STORE, "10.5.2, 8.7.3.3", "metadata in JSON and bulk data apart", required=False, stores=True)
def store_json(visit: Visit) -> str | None:
    more = material.another(visit.own())
    metadata = json.dumps([of(more).metadata]).encode()
    _apart(visit, more, JSON, metadata)
    return None


@claim(Service.STORE, "10.5.2, 8.7.3.3", "metadata in XML and bulk data apart", required=False, stores=True)
def store_xml(visit: Visit) -> str | None:
    more = material.another(visit.own())
    _apart(visit, more, XML, _native(of(more).metadata))
    return None


@claim(Service.STORE, "10.5.1, 8.7.3", "compressed instances are stored as they are", required=False, stores=True)
def store_compressed(visit: Visit) -> str | None:
    made = visit.own()
    answer = visit.store(material.written(made.compressed)).offered()
    if answer.status == 409 and _reason(answer) in (0x0122, 0xC122):
        raise NotAsked("the server takes no RLE: Failure Reason says so")
    stored(answer.has(200), str(made.compressed.SOPInstanceUID))
    return None


def _apart(visit: Visit, made: Dataset, kind: str, metadata: bytes) -> None:
    """Store an instance as metadata and pixels, and see that the pixels come back."""
    bulk = {"Content-Type": f"{OCTETS}; transfer-syntax={material.EXPLICIT}", "Content-Location": _PIXELS}
    text = {"Content-Type": f"{kind}; transfer-syntax={material.EXPLICIT}"}
    headers, body = parts.joined(kind, [(text, metadata), (bulk, made.PixelData)])
    answer = visit.client.ask("POST", "/studies", JSON, headers=headers, body=body).offered().has(200)
    stored(answer, str(made.SOPInstanceUID))
    visit.client.name(str(made.SOPInstanceUID), "stored instance")
    back = visit.client.get(f"{of(made).instance}/frames/1", f'multipart/related; type="{OCTETS}"').has(200)
    if [each.body for each in back.parts(OCTETS)] != [made.PixelData]:
        raise Broken("the pixels that come back are not those that were stored")


def _one_failure(answer: Answer, sop_uid: str) -> str | None:
    found = answer.typed(JSON, "application/json").document()
    failed = items(found, _FAILED)
    if [first(each, _SOP) for each in failed] != [sop_uid]:
        raise Broken("Failed SOP Sequence (0008,1198) is to have the one instance that failed")
    reason = _reason(answer)
    if reason is None:
        raise Broken("the item has no Failure Reason (0008,1197)")
    inside = any(low <= reason <= high for low, high in _REASONS)
    return (
        None
        if inside
        else f"Failure Reason 0x{reason:04X} is not of Table I.2-2; the conformance statement has to say it"
    )


def _reason(answer: Answer) -> int | None:
    for each in items(answer.document(), _FAILED):
        if (text := first(each, _REASON)).isdigit():
            return int(text)
    return None


def _native(metadata: dict[str, Any]) -> bytes:
    """Metadata as a Native DICOM Model document (PS3.19 A.1)."""
    return f'<NativeDicomModel xmlns="{_NATIVE}">{_elements(metadata)}</NativeDicomModel>'.encode()


def _elements(metadata: dict[str, Any]) -> str:
    lines = []
    for tag, each in metadata.items():
        if "BulkDataURI" in each:
            inner = f"<BulkData uri={quoteattr(each['BulkDataURI'])}/>"
        else:
            values = enumerate(each.get("Value", []), start=1)
            inner = "".join(_value(each["vr"], number, value) for number, value in values)
        named = f'tag="{tag}" vr="{each["vr"]}" keyword="{keyword_for_tag(int(tag, 16))}"'
        lines.append(f"<DicomAttribute {named}>{inner}</DicomAttribute>")
    return "".join(lines)


def _value(vr: str, number: int, value: Any) -> str:
    if vr == "SQ":
        return f'<Item number="{number}">{_elements(value)}</Item>'
    if vr == "PN":
        family, _, given = value["Alphabetic"].partition("^")
        name = f"<FamilyName>{escape(family)}</FamilyName><GivenName>{escape(given)}</GivenName>"
        return f'<PersonName number="{number}"><Alphabetic>{name}</Alphabetic></PersonName>'
    return f'<Value number="{number}">{escape(str(value))}</Value>'
