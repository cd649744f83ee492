"""STOW-RS: Store Transaction (PS3.18 10.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from gateway.access.actions import Action
from gateway.dicomweb import media_types as types
from gateway.dicomweb import multipart, negotiation, urls
from gateway.dicomweb.negotiation import MediaRange
from gateway.dicomweb.storing import Keeper, Report
from gateway.dicomweb.stow_metadata import MetadataReceiver
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from gateway.http.keys import CALLER, CORE, OFFLOAD, SHOWN
from gateway.http.offload import Lane
from gateway.http.route import Route
from gateway.services.spool import Spooling
from storage.dicom import json_model, xml_model

_STORABLE = frozenset((types.DICOM, types.OCTET_STREAM, ""))
"""Types of parts that are taken: some senders leave the type out, or say octet stream."""
_RETRY_AFTER_S = 5
_LEAST_FILE_BYTES = 132
"""Preamble and prefix of a Part 10 file (PS3.10 7.1)."""


async def store(request: web.Request) -> web.StreamResponse:
    """Store the instances of a request."""
    study_uid = urls.study(request) if "study" in request.match_info else None
    answer_type = negotiation.choose(request, (types.DICOM_JSON, types.JSON, types.DICOM_XML))
    core = request.app[CORE]
    settings = core.settings.http
    if (request.content_length or 0) > settings.max_request_bytes:
        raise PayloadTooLarge(f"a request of more than {settings.max_request_bytes} bytes")
    content_type = _content_type(request)
    decision = await request.app[OFFLOAD].run(
        Lane.INDEX, request[SHOWN].ingest.enter, request[CALLER], (study_uid,) if study_uid else ()
    )
    keeper = Keeper(request, decision, study_uid)
    blocks = _blocks(request, settings.max_request_bytes)
    if content_type.part_type in types.METADATA:
        report = await _metadata(request, keeper, content_type, blocks)
    elif content_type.multipart:
        report = await _parts(keeper, _reader(content_type, _LEAST_FILE_BYTES), blocks)
    else:
        report = await _single(keeper, blocks)
    if not report.stored and not report.failed:
        raise InvalidRequest("the request holds no instance")
    found = report.body(service_root(request))
    body = xml_model.dumps(found) if answer_type == types.DICOM_XML else json_model.dumps(found)
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if report.status == 503 else {}
    return web.Response(status=report.status, body=body, content_type=answer_type, headers=headers)


def _content_type(request: web.Request) -> MediaRange:
    content_type = negotiation.content_type(request)
    if content_type is None or content_type.part_type not in (types.DICOM, *types.METADATA, "*/*"):
        raise UnsupportedMediaType(
            f'store {types.DICOM}, {types.DICOM_JSON} or {types.DICOM_XML}, as multipart/related; type="..." or alone'
        )
    return content_type


def _reader(content_type: MediaRange, least_bytes: int = 1) -> multipart.MultipartReader:
    return multipart.MultipartReader(multipart.boundary_of(content_type.parameter("boundary")), least_bytes)


async def _blocks(request: web.Request, max_bytes: int) -> AsyncIterator[bytes]:
    """The body in blocks, with a bound on all; their time is bounded by the connection."""
    total = 0
    async for block in request.content.iter_any():
        total += len(block)
        if total > max_bytes:
            raise PayloadTooLarge(f"a request of more than {max_bytes} bytes")
        yield block


async def _metadata(
    request: web.Request, keeper: Keeper, content_type: MediaRange, blocks: AsyncIterator[bytes]
) -> Report:
    core = request.app[CORE]
    receiver = MetadataReceiver(
        keeper,
        request.app[OFFLOAD],
        core.composer,
        core.limits,
        core.settings.http.max_metadata_part_bytes,
        service_root(request),
    )
    if content_type.multipart:
        return await receiver.parts(_reader(content_type), blocks)
    return await receiver.single(blocks, content_type.type)


async def _single(keeper: Keeper, blocks: AsyncIterator[bytes]) -> Report:
    """A body that is one Part 10 file."""
    spooling = keeper.begin()
    try:
        async for block in blocks:
            await keeper.write(spooling, block)
        await keeper.keep(spooling.finish())
    finally:
        spooling.discard()
    return await keeper.report()


async def _parts(keeper: Keeper, reader: multipart.MultipartReader, blocks: AsyncIterator[bytes]) -> Report:
    """Part 10 files, each stored as soon as its part is whole; one of another type, or too long, fails for itself."""
    spooling: Spooling | None = None
    try:
        async for block in blocks:
            for event in reader.feed(block):
                if isinstance(event, multipart.PartBegin):
                    spooling = _begin(keeper, event.headers)
                elif isinstance(event, multipart.PartData):
                    if spooling is not None:
                        spooling = await keeper.take(spooling, event.data)
                elif spooling is not None:
                    finished, spooling = spooling.finish(), None
                    await keeper.keep(finished)
        reader.close()
    except InvalidRequest as error:
        # What was stored before the body broke is stored, and the sender is told so.
        if not (await keeper.report()).stored:
            raise
        keeper.fail(error)
    finally:
        if spooling is not None:
            spooling.discard()
    return await keeper.report()


def _begin(keeper: Keeper, headers: dict[str, str]) -> Spooling | None:
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in _STORABLE:
        return keeper.begin()
    keeper.fail(UnsupportedMediaType(f"a part of type {content_type[:32]}"))
    return None


def routes() -> list[Route]:
    """POST, and PUT which means the same here, to all studies or to one (PS3.18 Table 10.5.1-1)."""
    return [
        Route(method, path, store, Action.STORE, for_views=True)
        for method in ("POST", "PUT")
        for path in (f"{PREFIX}/studies", f"{PREFIX}/studies/{{study}}")
    ]
