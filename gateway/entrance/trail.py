"""The audit trail over HTTP, for who may read it: records in the trail's own words, and whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway.access.actions import Action
from gateway.audit.reading import Record, Wanted
from gateway.entrance.bodies import JSON
from gateway.errors import InvalidParameter
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.openapi import Operation, Parameter
from gateway.http.route import Route
from gateway.services.audit import PatientWanted
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier

_HEADERS = {"Cache-Control": "no-store"}
_TAG, _PATH = "Audit", "/admin/audit"
_MOST, _USUAL = 500, 50
_MOST_DAYS = 366
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{3})?)?)?")
_OF_A_PATIENT = ("patient", "issuer")
_TOLD = ("principal", "kind", "address", "calling", "action", "outcome", "subject", "query", "detail", "view")
_COUNTS = ("requests", "instances", "frames", "bytes")

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", _PATH): Operation(
        _TAG,
        {200: (JSON,)},
        (
            Parameter("since", "From a day or time on, in UTC, such as 2026-01-31 or 2026-01-31T08:00"),
            Parameter("until", "Before a day or time"),
            Parameter("principal", "By a principal; may be given again, as the next three"),
            Parameter("action", "Such as read, search, store, delete"),
            Parameter("outcome", "Such as allowed, denied, refused"),
            Parameter("address", "From an address"),
            Parameter("study", "About a study, by Study Instance UID"),
            Parameter("patient", "About the studies of a patient that the index knows, by Patient ID"),
            Parameter("issuer", "Issuer of Patient ID, where the patient's images have one"),
            Parameter("limit", f"How many at most, up to {_MOST} ({_USUAL})", {"type": "integer"}),
            Parameter("before", "Where to go on, as `next` of the page before has it"),
        ),
        description="Records of the trail of one's own tenant, latest first; `next` leads to the page after.",
    ),
    ("GET", f"{_PATH}/verification"): Operation(
        _TAG,
        {200: (JSON,)},
        (Parameter("days", "How many days, today the last (1)", {"type": "integer"}),),
        (413,),
        description="Checks the files of the trail against chains, signatures and checkpoints.",
    ),
}


async def search(request: web.Request) -> web.StreamResponse:
    """Records, latest first."""
    query = request.query
    wanted = Wanted(
        since=_time(query, "since"),
        until=_time(query, "until"),
        before=_place(query.get("before", "")),
        principals=frozenset(query.getall("principal", [])),
        actions=frozenset(query.getall("action", [])),
        outcomes=frozenset(query.getall("outcome", [])),
        addresses=frozenset(query.getall("address", [])),
        studies=frozenset((_study(query["study"]),)) if "study" in query else None,
    )
    patients = [PatientWanted(query["patient"], query.get("issuer", ""))] if query.get("patient") else []
    told = urlencode([(name, "..." if name in _OF_A_PATIENT else text) for name, text in query.items()])[:2048]
    limit = _number(query, "limit", _USUAL, _MOST)

    def ask() -> dict[str, Any]:
        page = request.app[CORE].audit.search(request[CALLER], wanted, patients, limit=limit, asked=told)
        following = None if page.after is None else " ".join(map(str, page.after))
        return {"records": [_told(each) for each in page.records], "next": following, "gap": page.gap}

    return web.json_response(await request.app[OFFLOAD].run(Lane.LONG, ask), headers=_HEADERS)


async def verify(request: web.Request) -> web.StreamResponse:
    """Whether what was recorded lately is as it was recorded."""
    days = _number(request.query, "days", 1, _MOST_DAYS)
    checked = await request.app[OFFLOAD].run(Lane.LONG, request.app[CORE].audit.verify, request[CALLER], days)
    found = checked.found
    told = {
        "whole": not found.faults,
        "since": f"{checked.since[:4]}-{checked.since[4:6]}-{checked.since[6:]}",
        "chains": found.chains,
        "records": found.records,
        "checkpoints": found.checkpoints,
        "faults": [{"where": each.where, "record": each.seq, "what": each.what} for each in found.faults[:100]],
        "cutOffByACrash": len(found.torn),
        "gap": checked.gap,
    }
    return web.json_response(told, headers=_HEADERS)


def _told(record: Record) -> dict[str, Any]:
    fields = record.fields
    found = {name: fields[name] for name in _TOLD if fields.get(name)}
    counts = {name: fields[name] for name in _COUNTS if fields.get(name)}
    return {"id": record.name, "time": record.time, **found, "counts": counts}


def _time(query: Mapping[str, str], name: str) -> str:
    text = query.get(name, "")
    if text and not _TIME.fullmatch(text):
        raise InvalidParameter(f"{name}: a day or time in UTC, such as 2026-01-31 or 2026-01-31T08:00")
    return text


def _place(text: str) -> tuple[str, str, int] | None:
    if not text:
        return None
    time, _, rest = text.partition(" ")
    chain, _, number = rest.partition(" ")
    if not (_TIME.match(time) and chain and number.isascii() and number.isdigit() and len(number) < 19):
        raise InvalidParameter("before: as `next` of the page before has it")
    return time, chain, int(number)


def _study(text: str) -> str:
    try:
        return ids.study_uid(text)
    except InvalidIdentifier as error:
        raise InvalidParameter("study: a Study Instance UID") from error


def _number(query: Mapping[str, str], name: str, usual: int, most: int) -> int:
    text = query.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
        raise InvalidParameter(f"{name}: 1 to {most}")
    return int(text)


def routes() -> list[Route]:
    """``/admin/audit``."""
    return [
        Route("GET", _PATH, search, Action.AUDIT_READ),
        Route("GET", f"{_PATH}/verification", verify, Action.AUDIT_READ),
    ]
