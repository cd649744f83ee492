"""WADO-RS: whole instances and their metadata (PS3.18 10.4 "Retrieve Transaction")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.access.actions import Action
from gateway.dicomweb import answers, negotiation, urls
from gateway.dicomweb import media_types as types
from gateway.dicomweb.answers import MultipartAnswer
from gateway.dicomweb.negotiation import Choice
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.dicomweb.wado import at_once, locate, locate_and, location, reading_lane, send_bulk_data
from gateway.errors import NotAcceptable
from gateway.http.keys import OFFLOAD, SHOWN
from gateway.http.offload import Lane
from gateway.http.route import Route
from gateway.imaging.encode import REVISION
from gateway.services.content import Content, held, unpacked
from gateway.services.retrieve import Found, RetrieveService
from storage.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN
from storage.index.stored import Located


@dataclass(frozen=True, slots=True)
class Sendable:
    """An instance, the transfer syntax in which it goes out, and what is kept beside it for that."""

    located: Located
    syntax: str
    kept: Located | None = None

    @property
    def as_stored(self) -> bool:
        """Whether the stored object itself goes out."""
        return self.syntax == self.located.transfer_syntax_uid


def sendable(service: RetrieveService, instances: Sequence[Located], choice: Choice) -> list[Sendable]:
    """The instances that can go out as a choice wants them."""
    found = []
    for located in instances:
        syntax = negotiation.instance_syntax(choice, service.served_syntax(located), EXPLICIT_VR_LITTLE_ENDIAN)
        if service.offers(located, syntax):
            found.append(Sendable(located, syntax, service.kept(located, syntax)))
    return found


@dataclass(frozen=True, slots=True)
class _Ready:
    """Instances as a choice wants them; ``content`` is None where their size shows only when they are made."""

    choice: Choice
    chosen: Sequence[Sendable] = ()
    etag: str = ""
    content: Content | None = None


async def retrieve_instances(request: web.Request) -> web.StreamResponse:
    """A study, series or instance as Part 10 files; 206 when some instances do not exist in the syntax asked for."""
    choices = negotiation.resource_choices(request, single=urls.instance(request) is not None)
    only_bulk = all(choice.is_bulk for choice in choices)
    action = Action.READ if only_bulk else Action.DOWNLOAD

    def best(found: Found) -> _Ready | None:
        return _best(request, found, choices)

    found, ready = await locate_and(request, best, action, reading_lane(request))
    if ready is None:
        raise NotAcceptable("no instance exists in an acceptable transfer syntax")
    if ready.choice.is_bulk:
        return await send_bulk_data(request, found, [each for each in choices if each.is_bulk])
    if ready.choice.media_type == types.ZIP:
        return await _send_zip(request, found, ready)
    if ready.choice.multipart:
        return await _send_multipart(request, found, ready)
    return await _send_file(request, ready)


def _best(request: web.Request, found: Found, choices: Sequence[Choice]) -> _Ready | None:
    """The first of a client's choices that can be had; looks into the index, and reads what is read at once."""
    for choice in choices:
        if choice.is_bulk:
            return _Ready(choice)
        chosen = sendable(request[SHOWN].retrieve, found.instances, choice)
        if chosen:
            return _ready(request, found, choice, chosen)
    return None


def _ready(request: web.Request, found: Found, choice: Choice, chosen: Sequence[Sendable]) -> _Ready:
    service, made_by = request[SHOWN].retrieve, _made_by(chosen)
    content: Content | None = None
    if choice.media_type == types.ZIP:
        etag = found.etag("", "zip", choice.transfer_syntax, REVISION, made_by)
    elif choice.multipart:
        root = service_root(request)
        etag = found.etag(root, "instances", choice.transfer_syntax, made_by)
        if all(each.as_stored for each in chosen):
            content = MultipartAnswer(types.DICOM, etag).content(
                [each.located.size for each in chosen],
                lambda number: _header(chosen[number], root),
                lambda number: service.stored(chosen[number].located),
            )
    else:
        only = chosen[0]
        etag = found.etag("", "instance", only.syntax, made_by)
        if only.as_stored:
            content = service.stored(only.located)
        elif only.kept is not None:
            content = service.kept_file(only.located, only.kept, only.syntax)
    if content is not None and answers.not_modified(request, etag) is None:
        content = at_once(request, content)
    return _Ready(choice, chosen, etag, content)


def _header(each: Sendable, root: str, syntax: str = "") -> tuple[str, str]:
    """Content type and location of an instance's part."""
    return f"{types.DICOM}; transfer-syntax={syntax or each.syntax}", location(root, each.located)


async def send_file(request: web.Request, found: Found, only: Sendable) -> web.StreamResponse:
    """One instance as a Part 10 file."""
    choice = Choice(types.DICOM, False, only.syntax)
    ready = await request.app[OFFLOAD].run(reading_lane(request), _ready, request, found, choice, [only])
    return await _send_file(request, ready)


async def _send_file(request: web.Request, ready: _Ready) -> web.StreamResponse:
    if (unchanged := answers.not_modified(request, ready.etag)) is not None:
        return unchanged
    only = ready.chosen[0]
    head = answers.headers(ready.etag, f"{types.DICOM}; transfer-syntax={only.syntax}")
    if ready.content is not None:
        return await answers.ranged(request, ready.content, head)
    blocks = request[SHOWN].retrieve.part10(only.located, only.syntax)
    return await answers.stream(request, blocks, head, lane=Lane.LONG)


def _made_by(chosen: Sequence[Sendable]) -> str:
    """What decides the bytes of instances beside themselves and their transfer syntaxes; "" for those as stored."""
    if all(each.as_stored for each in chosen):
        return ""
    return " ".join((REVISION, *(each.kept.version for each in chosen if each.kept is not None)))


async def _send_multipart(request: web.Request, found: Found, ready: _Ready) -> web.StreamResponse:
    if (unchanged := answers.not_modified(request, ready.etag)) is not None:
        return unchanged
    service, root, chosen = request[SHOWN].retrieve, service_root(request), ready.chosen
    answer = MultipartAnswer(types.DICOM, ready.etag)
    head = answers.headers(ready.etag, answer.content_type)
    missing = _missing(found, chosen, head)
    if ready.content is not None:
        if missing:  # a 206 of its own kind (PS3.18 Table 10.4.3-1), of which no range is given
            return await answers.send(request, ready.content, head, status=206)
        return await answers.ranged(request, ready.content, head)

    def parts() -> Iterator[tuple[str, str, Iterator[bytes]]]:
        if len(chosen) == 1:
            yield *_header(chosen[0], root), service.part10(chosen[0].located, chosen[0].syntax)
            return
        for each in chosen:
            syntax, blocks = service.part10_or_stored(each.located, each.syntax)
            yield *_header(each, root, syntax), blocks

    status = 206 if missing else 200
    return await answers.stream(request, answer.body(parts()), head, status=status, lane=Lane.LONG)


async def _send_zip(request: web.Request, found: Found, ready: _Ready) -> web.StreamResponse:
    if (unchanged := answers.not_modified(request, ready.etag)) is not None:
        return unchanged
    head = answers.headers(ready.etag, types.ZIP)
    head["Content-Disposition"] = f'attachment; filename="{_lowest_uid(request)}.zip"'
    missing = _missing(found, ready.chosen, head)
    blocks = request[SHOWN].retrieve.package([(each.located, each.syntax) for each in ready.chosen])
    return await answers.stream(request, blocks, head, status=206 if missing else 200, lane=Lane.LONG)


def _lowest_uid(request: web.Request) -> str:
    """The UID of what the path names: a file name that says nothing about the patient."""
    return str(urls.instance(request) or urls.series(request) or urls.study(request))


def _missing(found: Found, chosen: Sequence[Sendable], head: dict[str, str]) -> int:
    """How many instances are left out; the Warning that says so goes into the headers."""
    missing = len(found.instances) - len(chosen)
    if missing:
        head["Warning"] = f'299 gateway "{missing} instances do not exist in an acceptable transfer syntax"'
    return missing


async def retrieve_metadata(request: web.Request) -> web.StreamResponse:
    """Metadata of a study, series or instance in DICOM JSON (PS3.18 Annex F), or in XML (PS3.19 A.1), a part each."""
    media_type = negotiation.result_type(request)
    found = await locate(request)
    root = service_root(request)
    in_xml = media_type == types.DICOM_XML
    whole_series = not in_xml and urls.series(request) is not None and urls.instance(request) is None
    packed = whole_series and "gzip" in request.headers.get("Accept-Encoding", "").lower()
    etag = found.etag(root, "metadata", media_type, "gzip" if packed else "")
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    service = request[SHOWN].retrieve
    if in_xml:
        answer = MultipartAnswer(types.DICOM_XML, etag)
        documents = zip(found.instances, service.metadata_xml(found.instances, root), strict=True)
        parts = ((types.DICOM_XML, location(root, located), (text,)) for located, text in documents)
        head = answers.headers(etag, answer.content_type)
        return await answers.stream(request, answer.body(parts), head, lane=Lane.LONG)
    head = answers.headers(etag, media_type)
    head["Vary"] = "Accept, Accept-Encoding, Authorization"
    if whole_series:
        body = await request.app[OFFLOAD].run(Lane.INDEX, service.series_metadata, found, root)
        if packed:
            return await answers.send(request, held(body), {**head, "Content-Encoding": "gzip"})
        return await answers.stream(request, unpacked(body), head, lane=Lane.INDEX)
    return await answers.stream(request, service.metadata(found.instances, root), head, lane=Lane.INDEX)


def routes() -> list[Route]:
    """Paths of PS3.18 10.4.1.1.1 and 10.4.1.1.2."""
    study = f"{PREFIX}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    found = []
    for resource in (study, series, instance):
        found.append(Route("GET", resource, retrieve_instances, Action.DOWNLOAD))
        found.append(Route("GET", f"{resource}/metadata", retrieve_metadata, Action.READ))
    return found
