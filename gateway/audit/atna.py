"""Records as audit messages of PS3.15 A.5, and as syslog messages that carry them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from gateway.audit import codes
from gateway.audit.codes import Code, Fields
from gateway.audit.events import SEARCHES
from gateway.audit.reading import Record

MSGID = "DICOM+RFC3881"
_FACILITY, _NOTICE, _WARNING = 10, 5, 4
_BOM = b"\xef\xbb\xbf"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_IN_HEADER = re.compile(r"[^\x21-\x7e]")
_WEB_SERVER = "3"
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose a study is, as the index has it now."""

    patient_id: str
    issuer: str = ""


Patients = Callable[[str, str], Patient | None]
"""The patient of a study, by tenant and Study Instance UID; None where nobody can tell."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who sends the messages: host, Audit Source ID and Audit Enterprise Site ID ("" for none)."""

    host: str
    source_id: str
    site_id: str = ""


def nobody(_tenant: str, _study: str) -> Patient | None:
    """No patient is known."""
    return None


def syslog(record: Record, reporter: Reporter, patients: Patients = nobody) -> bytes:
    """A record as one frame of RFC 5425: its length, then a message of RFC 5424 with an audit message in UTF-8.

    Facility 10 (security), severity 5, or 4 for what was denied or failed.
    """
    severity = _WARNING if codes.event(record.fields).failed else _NOTICE
    time = record.time.replace("+00:00", "Z")
    worker = record.chain.rpartition("-")[0]
    names = (_header(reporter.host, 255), "gateway", _header(worker, 128), MSGID)
    head = f"<{_FACILITY * 8 + severity}>1 {time} {' '.join(names)} - ".encode("ascii")
    text = head + _BOM + message(record, reporter, patients)
    return b"%d %s" % (len(text), text)


def _header(text: str, length: int) -> str:
    return _NOT_IN_HEADER.sub("_", text)[:length] or "-"


def message(record: Record, reporter: Reporter, patients: Patients = nobody) -> bytes:
    """A record as an AuditMessage (PS3.15 A.5.1 "Audit Message Schema"), in UTF-8."""
    fields = record.fields
    found = codes.event(fields)
    root = Element("AuditMessage")
    event = SubElement(
        root,
        "EventIdentification",
        EventActionCode=found.action,
        EventDateTime=record.time,
        EventOutcomeIndicator="4" if found.failed else "0",
    )
    _coded(event, "EventID", found.id)
    if found.type is not None:
        _coded(event, "EventTypeCode", found.type)
    SubElement(event, "EventOutcomeDescription").text = _text(str(fields["outcome"]))
    _participants(root, record, reporter)
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=reporter.source_id)
    if reporter.site_id:
        source.set("AuditEnterpriseSiteID", reporter.site_id)
    SubElement(source, "AuditSourceTypeCode", {"csd-code": _WEB_SERVER})
    _objects(root, record, patients)
    # On one line: rsyslog, for one, writes control characters as something else.
    return _DECLARATION + tostring(root, encoding="unicode").encode()


def _participants(root: Element, record: Record, reporter: Reporter) -> None:
    fields = record.fields
    theirs, ours = codes.roles(fields)
    if fields.get("principal"):
        asking = SubElement(root, "ActiveParticipant", UserID=_text(str(fields["principal"])), UserIsRequestor="true")
        if fields.get("calling"):
            asking.set("AlternativeUserID", _text(f"AETITLES={fields['calling']}"))
        asking.set("UserName", _text(str(fields.get("kind", ""))))
        address = str(fields.get("address", ""))
        if address:
            asking.set("NetworkAccessPointID", _text(address))
            asking.set("NetworkAccessPointTypeCode", "2" if _is_ip(address) else "1")
        if theirs is not None:
            _coded(asking, "RoleIDCode", theirs)
    gateway = SubElement(root, "ActiveParticipant", UserID=reporter.source_id, UserIsRequestor="false")
    called = fields.get("called")
    gateway.set("AlternativeUserID", _text(f"AETITLES={called}" if called else record.chain))
    gateway.set("NetworkAccessPointID", reporter.host)
    gateway.set("NetworkAccessPointTypeCode", "2" if _is_ip(reporter.host) else "1")
    _coded(gateway, "RoleIDCode", ours)


def _objects(root: Element, record: Record, patients: Patients) -> None:
    fields = record.fields
    studies = codes.studies(fields)
    details = {"record": record.name, **codes.details(fields)}
    if fields["action"] in SEARCHES:
        level = str(next(iter(fields.get("subject", ())), ""))
        searched = _object(root, codes.SEARCH, level or str(fields["action"]), "2", "24")
        query = str(fields.get("query", ""))
        SubElement(searched, "ParticipantObjectQuery").text = codes.encoded(query)
        _details(searched, details)
    elif fields["action"] == "audit_read":
        log = _object(root, codes.URI, "audit", "2", "13")
        SubElement(log, "ParticipantObjectName").text = "Security Audit Log"
        _details(log, details)
    for study in studies if fields["action"] != "audit_read" else ():
        found = _object(root, codes.STUDY, study, "2", "3")
        if (stage := codes.life_cycle(fields)) is not None:
            found.set("ParticipantObjectDataLifeCycle", stage)
        SubElement(found, "ParticipantObjectName").text = study
        _details(found, details)
        _described(found, fields)
    tenant = str(fields.get("tenant", ""))
    whose = {patient for study in studies if (patient := patients(tenant, study)) is not None}
    for patient in sorted(whose, key=lambda each: (each.issuer, each.patient_id)):
        name = f"{patient.patient_id}^^^{patient.issuer}" if patient.issuer else patient.patient_id
        person = _object(root, codes.PATIENT, _text(name), "1", "1")
        SubElement(person, "ParticipantObjectName").text = _text(patient.patient_id)


def _described(found: Element, fields: Fields) -> None:
    """How many instances, and which one. Their SOP classes are not in the record."""
    instance, count = codes.instance(fields), int(fields.get("instances", 0))
    if instance is None and not count:
        return
    description = SubElement(found, "ParticipantObjectDescription")
    of_class = SubElement(description, "SOPClass", NumberOfInstances=str(count or 1))
    if instance is not None:
        SubElement(of_class, "Instance", UID=instance)


def _object(root: Element, kind: Code, identifier: str, type_code: str, role: str) -> Element:
    found = SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=identifier,
        ParticipantObjectTypeCode=type_code,
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(found, "ParticipantObjectIDTypeCode", kind)
    return found


def _details(found: Element, details: dict[str, str]) -> None:
    for name, value in details.items():
        SubElement(found, "ParticipantObjectDetail", type=name, value=codes.encoded(value))


def _coded(parent: Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    SubElement(parent, name, attributes)


def _text(text: str) -> str:
    """What XML can carry: AE titles come from a peer as they are."""
    return _NOT_IN_XML.sub("\ufffd", text)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def frames(records: Sequence[Record], reporter: Reporter, patients: Patients = nobody) -> bytes:
    """Several frames, one after the other."""
    return b"".join(syslog(each, reporter, patients) for each in records)
