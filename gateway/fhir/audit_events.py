"""Search and read of AuditEvent (https://hl7.org/fhir/R4/auditevent.html#search)."""

from __future__ import annotations

from urllib.parse import urlencode

import orjson
from aiohttp import web
from multidict import MultiDict

from gateway import assembly
from gateway.audit.atna import Patients
from gateway.audit.patients import IndexPatients
from gateway.fhir import answers, asked, audit_event, media_types, outcome, parameters
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane

KIND = "AuditEvent"
_COMMON = ("_count", "_format", "_pretty", asked.PAGE)
_MAX_QUERY = 2048


async def search(request: web.Request) -> web.StreamResponse:
    """Records of the caller's tenant, latest first, as a Bundle; ``link`` leads to the next page."""
    core = request.app[CORE]
    given = await asked.given(request)
    media_type = media_types.chosen(request, given)
    found = asked.parsed(request, given, parameters.NAMES, _COMMON)
    question = parameters.parse(MultiDict(found.understood))
    told = urlencode([(name, "..." if "patient" in name else text) for name, text in found.understood])

    def ask() -> bytes:
        page = core.audit.search(
            request[CALLER], question.wanted, question.patients, question.admits, question.count, told[:_MAX_QUERY]
        )
        following = None if page.after is None else f"{KIND}?{found.query(parameters.page(page.after))}"
        total = len(page.records) if page.after is None and found.page is None else None
        reporter, whose = assembly.reporter(core.settings), _patients(request)
        resources = [audit_event.resource(record, reporter, whose) for record in page.records]
        this = f"{KIND}?{found.query()}" if found.understood else KIND
        outcomes = [outcome.incomplete(page.gap)] if page.gap else []
        bundle = answers.searchset(answers.base(request), this, following, total, resources, outcomes=outcomes)
        return orjson.dumps(bundle)

    return answers.answer(await request.app[OFFLOAD].run(Lane.LONG, ask), media_type)


async def read(request: web.Request) -> web.StreamResponse:
    """One record of the caller's tenant."""
    core, media_type, name = request.app[CORE], media_types.chosen(request), answers.logical_id(request)

    def ask() -> bytes:
        record = core.audit.get(request[CALLER], name[:128])
        return orjson.dumps(audit_event.resource(record, assembly.reporter(core.settings), _patients(request)))

    return answers.answer(await request.app[OFFLOAD].run(Lane.LONG, ask), media_type)


def _patients(request: web.Request) -> Patients:
    return IndexPatients(lambda: request.app[CORE].archive.index)
