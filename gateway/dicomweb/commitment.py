"""Storage Commitment over the web (PS3.18 13 "Storage Commitment Service and Resources")."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web

from gateway.access.actions import Action
from gateway.dicomweb import media_types as types
from gateway.dicomweb import negotiation
from gateway.dicomweb.urls import PREFIX
from gateway.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import Route
from gateway.services.commitment import Reference, Result
from storage.dicom import compose, json_model, xml_model
from storage.dicom import identifiers as ids
from storage.dicom.json_model import JsonDataSet
from storage.errors import Unreadable

_log = logging.getLogger("gateway.dicomweb")

_WAIT_S = 5.0
"""How long a request waits for its result before it is told to come back."""
_RETRY_AFTER_S = 2
MAX_BODY_BYTES = 64 << 20


async def ask(request: web.Request) -> web.StreamResponse:
    """Ask for commitment: 200 with the result when it is there soon, else 202."""
    transaction_uid = _transaction(request)
    answer_type = _answer_type(request)
    references = await _references(request)
    commitment, run = request.app[CORE].commitment, request.app[OFFLOAD].run
    tenant = await run(Lane.INDEX, commitment.ask, request[CALLER], transaction_uid, references)
    working = asyncio.ensure_future(run(Lane.LONG, commitment.fulfil, tenant, transaction_uid))
    # What is not done in time goes on without the request; the background work takes over from a worker that dies.
    working.add_done_callback(_note_failure)
    done, _ = await asyncio.wait([working], timeout=_WAIT_S)
    return _answer(transaction_uid, working.result() if done else None, answer_type)


def _note_failure(working: asyncio.Future[Result]) -> None:
    if not working.cancelled() and working.exception() is not None:
        _log.error("a commitment request was left to the background work", exc_info=working.exception())


async def result(request: web.Request) -> web.StreamResponse:
    """The result of a request, or 202 while there is none."""
    transaction_uid = _transaction(request)
    answer_type = _answer_type(request)
    found = await request.app[OFFLOAD].run(
        Lane.INDEX, request.app[CORE].commitment.result, request[CALLER], transaction_uid
    )
    return _answer(transaction_uid, found, answer_type)


def _transaction(request: web.Request) -> str:
    return ids.checked_uid(request.match_info["transaction"], "Transaction UID (0008,1195)")


def _answer_type(request: web.Request) -> str:
    return negotiation.choose(request, (types.DICOM_JSON, types.JSON, types.DICOM_XML))


async def _references(request: web.Request) -> list[Reference]:
    content_type = negotiation.content_type(request)
    if content_type is None or content_type.part_type not in types.METADATA:
        raise UnsupportedMediaType(f"send {types.DICOM_JSON} or {types.DICOM_XML}")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise PayloadTooLarge(f"a request of more than {MAX_BODY_BYTES} bytes")
    body = bytearray()
    async for block in request.content.iter_any():
        body += block
        if len(body) > MAX_BODY_BYTES:
            raise PayloadTooLarge(f"a request of more than {MAX_BODY_BYTES} bytes")
    xml = content_type.part_type == types.DICOM_XML
    # Off the event loop: a body of full size takes seconds to read.
    return await request.app[OFFLOAD].run(Lane.LONG, _read, bytes(body), xml)


def _read(body: bytes, xml: bool) -> list[Reference]:
    try:
        read = xml_model.loads(body) if xml else json_model.received(body)
        source = compose.checked(read[0] if isinstance(read, list) and len(read) == 1 else read)
        return [_reference(compose.checked(item)) for item in source.get("00081199", {}).get("Value") or ()]
    except (Unreadable, ValueError) as error:
        raise InvalidRequest("the body is no data set with a Referenced SOP Sequence (0008,1199)") from error


def _reference(item: JsonDataSet) -> Reference:
    return Reference(
        ids.checked_uid(json_model.text_of(item, "00081150"), "Referenced SOP Class UID (0008,1150)"),
        ids.checked_uid(json_model.text_of(item, "00081155"), "Referenced SOP Instance UID (0008,1155)"),
    )


def _answer(transaction_uid: str, found: Result | None, answer_type: str) -> web.Response:
    if found is None:
        return web.Response(status=202, headers={"Retry-After": str(_RETRY_AFTER_S)})
    data_set: dict[str, Any] = {"00081195": {"vr": "UI", "Value": [transaction_uid]}}
    failed = [
        {**_item(reference), "00081197": {"vr": "US", "Value": [int(reason)]}} for reference, reason in found.failed
    ]
    for tag, items in (("00081198", failed), ("00081199", [_item(each) for each in found.committed])):
        if items:
            data_set[tag] = {"vr": "SQ", "Value": items}
    body = xml_model.dumps(data_set) if answer_type == types.DICOM_XML else json_model.dumps(data_set)
    return web.Response(body=body, content_type=answer_type, headers={"Cache-Control": "no-store"})


def _item(reference: Reference) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [reference.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [reference.sop_uid]},
    }


def routes() -> list[Route]:
    """Request and result check (PS3.18 Table 13.1-1)."""
    path = f"{PREFIX}/commitment-requests/{{transaction}}"
    return [Route("POST", path, ask, Action.STORE), Route("GET", path, result, Action.STORE)]
