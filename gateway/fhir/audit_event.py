"""Records of the audit trail as AuditEvent resources of FHIR R4.

Roles of agents and the patient's entity are those of IHE's Basic Audit Log Patterns; types are those of DICOM, as these
are no RESTful operations of FHIR.
"""

from __future__ import annotations

import base64
import ipaddress
from typing import Any

from gateway.audit import codes
from gateway.audit.atna import Patients, Reporter
from gateway.audit.codes import Code
from gateway.audit.reading import Record
from gateway.fhir.elements import DCM, UID_SYSTEM

Resource = dict[str, Any]

INTERACTION = "http://hl7.org/fhir/restful-interaction"
OWN = f"urn:{codes.OWN}"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_LIFE_CYCLE = "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle"
_INTERACTIONS = {
    "search": "search",
    "read": "read",
    "read_deidentified": "read",
    "download": "read",
    "render": "read",
    "store": "create",
    "delete": "delete",
}


def resource(record: Record, reporter: Reporter, patients: Patients) -> Resource:
    """The resource of a record; its id is the record's name."""
    fields = record.fields
    found = codes.event(fields)
    made: Resource = {
        "resourceType": "AuditEvent",
        "id": record.name,
        "type": _coding(found.id),
        "subtype": subtypes(record),
        "action": found.action,
        "recorded": record.time,
        "outcome": outcome(record),
        "outcomeDesc": str(fields["outcome"]),
        "agent": _agents(record, reporter),
        "source": {
            **({"site": reporter.site_id} if reporter.site_id else {}),
            "observer": {"identifier": {"value": reporter.source_id}, "display": reporter.host},
            "type": [{"system": _SOURCE_TYPE, "code": "3", "display": "Web Server"}],
        },
    }
    if fields.get("since"):
        made["period"] = {"start": str(fields["since"]), "end": record.time}
    entities = _entities(record, patients)
    if entities:
        made["entity"] = entities
    return {name: value for name, value in made.items() if value != []}


def outcome(record: Record) -> str:
    """0 for success, 4 for what was denied or failed."""
    return "4" if codes.event(record.fields).failed else "0"


def subtypes(record: Record) -> list[Resource]:
    """What kind of its type an event is, as codings."""
    found = []
    kind = codes.event(record.fields).type
    if kind is not None:
        found.append(_coding(kind))
    interaction = _INTERACTIONS.get(str(record.fields["action"]))
    if interaction is not None:
        found.append({"system": INTERACTION, "code": interaction})
    return found


def _agents(record: Record, reporter: Reporter) -> list[Resource]:
    fields = record.fields
    theirs, ours = codes.roles(fields)
    found: list[Resource] = []
    if fields.get("principal"):
        asking: Resource = {"who": {"identifier": {"value": str(fields["principal"])}}, "requestor": True}
        if theirs is not None:
            asking["type"] = {"coding": [_coding(theirs)]}
        if fields.get("calling"):
            asking["altId"] = str(fields["calling"])
        asking["name"] = str(fields["principal"])
        if fields.get("address"):
            asking["network"] = _network(str(fields["address"]))
        found.append(asking)
    gateway: Resource = {
        "type": {"coding": [_coding(ours)]},
        "who": {"identifier": {"value": reporter.source_id}},
        "altId": str(fields.get("called") or record.chain),
        "requestor": False,
        "network": _network(reporter.host),
    }
    return [*found, gateway]


def _network(address: str) -> Resource:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"address": address, "type": "1"}
    return {"address": address, "type": "2"}


def _entities(record: Record, patients: Patients) -> list[Resource]:
    fields = record.fields
    details = [{"type": name, "valueString": text} for name, text in codes.details(fields).items()]
    found: list[Resource] = []
    if fields.get("query"):
        query = base64.b64encode(str(fields["query"]).encode()).decode("ascii")
        found.append({"type": _entity_type("2"), "role": _role("24"), "query": query})
    studies = codes.studies(fields)
    for study in studies:
        entity: Resource = {
            "what": {"type": "ImagingStudy", "identifier": {"system": UID_SYSTEM, "value": f"urn:oid:{study}"}},
            "type": _entity_type("2"),
            "role": _role("3"),
        }
        if (stage := codes.life_cycle(fields)) is not None:
            entity["lifecycle"] = {"system": _LIFE_CYCLE, "code": stage}
        found.append(entity)
    if details:
        if not found:
            found.append({"type": _entity_type("4"), "name": str(fields["action"])})
        found[0]["detail"] = details
    tenant = str(fields.get("tenant", ""))
    whose = {patient for study in studies if (patient := patients(tenant, study)) is not None}
    for patient in sorted(whose, key=lambda each: (each.issuer, each.patient_id)):
        identifier: Resource = {"value": patient.patient_id}
        if patient.issuer:
            identifier["assigner"] = {"display": patient.issuer}
        found.append(
            {"what": {"type": "Patient", "identifier": identifier}, "type": _entity_type("1"), "role": _role("1")}
        )
    return found


def _entity_type(code: str) -> Resource:
    return {"system": _ENTITY_TYPE, "code": code}


def _role(code: str) -> Resource:
    return {"system": _ENTITY_ROLE, "code": code}


def _coding(code: Code) -> Resource:
    return {"system": DCM if code.system == "DCM" else OWN, "code": code.value, "display": code.meaning}
