"""WADO-RS: Retrieve Transaction (PS3.18 10.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.access.policy import Action
from gateway.dicomweb import answers, negotiation, urls
from gateway.dicomweb import media_types as types
from gateway.dicomweb.negotiation import Choice
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.errors import InvalidParameter, NotAcceptable
from gateway.http.application import CALLER, CORE, OFFLOAD, Route
from gateway.http.offload import Lane
from gateway.imaging.decode import SUPPORTED_TRANSFER_SYNTAXES
from gateway.services.content import held
from gateway.services.frames import FrameReader
from gateway.services.renderable import VIDEO
from gateway.services.retrieve import Form, Found, RetrieveService
from storage.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN
from storage.dicom.part10 import BulkItem
from storage.index.base import Located

_MAX_FRAME_LIST_CHARACTERS = 65_536


async def locate(request: web.Request, action: Action = Action.READ) -> Found:
    """What the path names, as far as the caller may have it for an action."""
    return await request.app[OFFLOAD].run(
        Lane.INDEX,
        request.app[CORE].retrieve.locate,
        request[CALLER],
        urls.study(request),
        urls.series(request),
        urls.instance(request),
        action=action,
        detail=(request.match_info["frames"][:64],) if "frames" in request.match_info else (),
    )


# Instances


@dataclass(frozen=True, slots=True)
class _Sendable:
    located: Located
    form: Form
    syntax: str

    @property
    def as_stored(self) -> bool:
        """Whether the stored object itself goes out."""
        return self.syntax == self.located.transfer_syntax_uid


def _sendable(service: RetrieveService, instances: Sequence[Located], choice: Choice) -> list[_Sendable]:
    """The instances that can go out as a choice wants them."""
    found = []
    for located in instances:
        stored = service.served_syntax(located, Form.STORED)
        syntax = negotiation.instance_syntax(choice, stored, EXPLICIT_VR_LITTLE_ENDIAN)
        if syntax is not None and (syntax == stored or stored in SUPPORTED_TRANSFER_SYNTAXES):
            found.append(_Sendable(located, Form.STORED if syntax == stored else Form.EXPLICIT, syntax))
    return found


async def retrieve_instances(request: web.Request) -> web.StreamResponse:
    """A study, series or instance as Part 10 files; 206 when some instances do not exist in the syntax asked for."""
    found = await locate(request)
    service = request.app[CORE].retrieve
    for choice in negotiation.instance_choices(request, single=urls.instance(request) is not None):
        chosen = _sendable(service, found.instances, choice)
        if chosen:
            break
    else:
        raise NotAcceptable("no instance exists in an acceptable transfer syntax")
    root = service_root(request) if choice.multipart else ""
    etag = found.etag(root, "instances", choice.media_type, str(choice.multipart), choice.transfer_syntax)
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    if not choice.multipart:
        only = chosen[0]
        head = answers.headers(etag, f"{types.DICOM}; transfer-syntax={only.syntax}")
        if only.as_stored:
            return await answers.ranged(request, only.located.size, service.stored(only.located).read, head)
        return await answers.stream(request, service.part10(only.located, only.form), head)
    answer = answers.MultipartAnswer(types.DICOM, etag)
    head = answers.headers(etag, answer.content_type)
    missing = len(found.instances) - len(chosen)
    if missing:
        head["Warning"] = f'299 gateway "{missing} instances do not exist in an acceptable transfer syntax"'

    def header(number: int) -> tuple[str, str]:
        return f"{types.DICOM}; transfer-syntax={chosen[number].syntax}", _location(root, chosen[number].located)

    if all(each.as_stored for each in chosen):
        sizes = [each.located.size for each in chosen]
        content = answer.content(sizes, header, lambda number: service.stored(chosen[number].located))
        if missing:  # a 206 of its own kind (PS3.18 Table 10.4.3-1), of which no range is given
            return await answers.send(request, content, head, status=206)
        return await answers.ranged(request, content.size, content.read, head)
    parts = ((*header(number), service.part10(each.located, each.form)) for number, each in enumerate(chosen))
    return await answers.stream(request, answer.body(parts), head, status=206 if missing else 200)


def _location(root: str, located: Located) -> str:
    key = located.key
    return f"{root}/studies/{key.study_uid}/series/{key.series_uid}/instances/{key.sop_uid}"


# Metadata


async def retrieve_metadata(request: web.Request) -> web.StreamResponse:
    """Metadata of a study, series or instance in DICOM JSON (PS3.18 Annex F)."""
    media_type = negotiation.json_type(request)
    found = await locate(request)
    root = service_root(request)
    whole_series = urls.series(request) is not None and urls.instance(request) is None
    packed = whole_series and "gzip" in request.headers.get("Accept-Encoding", "").lower()
    etag = found.etag(root, "metadata", media_type, "gzip" if packed else "")
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    service = request.app[CORE].retrieve
    head = answers.headers(etag, media_type)
    head["Vary"] = "Accept, Accept-Encoding, Authorization"
    if packed:
        body = held(await request.app[OFFLOAD].run(Lane.INDEX, service.series_metadata, found, root))
        return await answers.send(request, body, {**head, "Content-Encoding": "gzip"})
    return await answers.stream(request, service.metadata(found.instances, root), head, lane=Lane.INDEX)


# Frames and bulk data


def frame_numbers(text: str) -> list[int]:
    """A frame list, numbered from 1 (PS3.18 10.4.1.1.6); raises InvalidParameter."""
    if len(text) > _MAX_FRAME_LIST_CHARACTERS:
        raise InvalidParameter("the frame list is too long")
    numbers = []
    for part in text.split(","):
        if not part.isascii() or not part.isdigit() or len(part) > 9 or int(part) == 0:
            raise InvalidParameter("frames: numbers from 1, joined by commas")
        numbers.append(int(part))
    return numbers


async def retrieve_frames(request: web.Request) -> web.StreamResponse:
    """Frames, as stored or uncompressed."""
    numbers = frame_numbers(request.match_info["frames"])
    found = await locate(request)
    return await _send_frames(request, found, numbers)


async def _send_frames(request: web.Request, found: Found, numbers: Sequence[int]) -> web.StreamResponse:
    (located,) = found.instances
    run = request.app[OFFLOAD].run
    reader = await run(Lane.INDEX, request.app[CORE].retrieve.frames, located)
    reader.check(numbers)
    choice, syntax = _frame_choice(request, reader, single=len(numbers) == 1)
    root = service_root(request) if choice.multipart else ""
    etag = found.etag(root, "frames", str(numbers), choice.media_type, str(choice.multipart), syntax)
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    as_stored = syntax == reader.stored_syntax
    frames = await run(Lane.INDEX, reader.stored if as_stored else reader.decoded, numbers)
    lane = Lane.OBJECTS if as_stored else Lane.LONG
    content_type = f"{choice.media_type}; transfer-syntax={syntax}"
    if not choice.multipart:
        only = frames.content(0)
        return await answers.ranged(request, only.size, only.read, answers.headers(etag, content_type), lane=lane)
    answer = answers.MultipartAnswer(choice.media_type, etag)
    location = f"{_location(root, located)}/frames"
    content = answer.content(frames.sizes, lambda place: (content_type, f"{location}/{numbers[place]}"), frames.content)
    head = answers.headers(etag, answer.content_type)
    return await answers.ranged(request, content.size, content.read, head, lane=lane)


def _frame_choice(request: web.Request, reader: FrameReader, *, single: bool) -> tuple[Choice, str]:
    for choice in negotiation.frame_choices(request, single=single):
        syntax = negotiation.frame_syntax(choice, reader.stored_syntax, EXPLICIT_VR_LITTLE_ENDIAN)
        if syntax is not None:
            return choice, syntax
    raise NotAcceptable(f"the frames are stored in transfer syntax {reader.stored_syntax}")


async def retrieve_bulk_data(request: web.Request) -> web.StreamResponse:
    """The value behind a BulkDataURI. Compressed pixel data comes frame by frame, without item headers."""
    found = await locate(request)
    (located,) = found.instances
    core, run = request.app[CORE], request.app[OFFLOAD].run
    path = request.match_info["path"]
    item: BulkItem = await run(Lane.INDEX, core.retrieve.bulk_item, located, path)
    if path == "7FE00010":
        reader = await run(Lane.INDEX, core.retrieve.frames, located)
        if reader.stored_syntax != EXPLICIT_VR_LITTLE_ENDIAN:
            video = VIDEO.get(reader.stored_syntax)
            if video is not None:
                return await _send_video(request, found, video)
            return await _send_frames(request, found, range(1, reader.count + 1))
    choice = negotiation.frame_choices(request, single=True)[0]
    if choice.media_type != types.OCTET_STREAM:
        raise NotAcceptable("this value is available as application/octet-stream")
    root = service_root(request) if choice.multipart else ""
    etag = found.etag(root, "bulk", path, str(choice.multipart))
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    content, content_type = core.retrieve.bulk(located, item), types.OCTET_STREAM
    if choice.multipart:
        answer = answers.MultipartAnswer(types.OCTET_STREAM, etag)
        location = f"{_location(root, located)}/bulkdata/{path}"
        value = content
        content = answer.content([value.size], lambda _: (types.OCTET_STREAM, location), lambda _: value)
        content_type = answer.content_type
    return await answers.ranged(request, content.size, content.read, answers.headers(etag, content_type))


async def _send_video(request: web.Request, found: Found, media_type: str) -> web.StreamResponse:
    chosen = negotiation.choose(request, (media_type, types.OCTET_STREAM))
    etag = found.etag("", "video", chosen)
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    run, retrieve = request.app[OFFLOAD].run, request.app[CORE].retrieve
    stream = await run(Lane.INDEX, retrieve.video, found.instances[0])
    return await answers.ranged(request, stream.size, stream.read, answers.headers(etag, chosen))


def routes() -> list[Route]:
    """Paths of PS3.18 Table 10.4.1-1; rendered resources have their own module."""
    study = f"{PREFIX}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    found = []
    for resource in (study, series, instance):
        found.append(Route("GET", resource, retrieve_instances, Action.READ))
        found.append(Route("GET", f"{resource}/metadata", retrieve_metadata, Action.READ))
    found.append(Route("GET", f"{instance}/frames/{{frames}}", retrieve_frames, Action.READ))
    found.append(Route("GET", f"{instance}/bulkdata/{{path}}", retrieve_bulk_data, Action.READ))
    return found
