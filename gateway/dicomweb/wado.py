"""WADO-RS: frames, bulk data and pixel data (PS3.18 10.4 "Retrieve Transaction")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from aiohttp import web

from gateway.access.actions import Action
from gateway.dicomweb import answers, negotiation, urls
from gateway.dicomweb import media_types as types
from gateway.dicomweb.answers import MultipartAnswer
from gateway.dicomweb.negotiation import Choice
from gateway.dicomweb.urls import PREFIX, service_root
from gateway.errors import InvalidParameter, NotAcceptable, NotFound
from gateway.http.keys import CALLER, OFFLOAD, SHOWN
from gateway.http.offload import Lane
from gateway.http.route import Route
from gateway.imaging.encode import REVISION
from gateway.services.content import Content, held
from gateway.services.frames import FrameReader, Frames
from gateway.services.retrieve import Found, RetrieveService
from storage.dicom.attributes import PIXEL_DATA_TAGS
from storage.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN, NATIVE
from storage.dicom.frames import FrameKind
from storage.dicom.part10 import BulkItem
from storage.index.stored import Located

T = TypeVar("T")

_MAX_FRAME_LIST_CHARACTERS = 65_536
_PIXEL_DATA = "7FE00010"


async def locate(request: web.Request, action: Action = Action.READ) -> Found:
    """What the path names, as far as the caller may have it for an action."""
    found, _ = await locate_and(request, lambda _: None, action)
    return found


async def locate_and(
    request: web.Request, then: Callable[[Found], T], action: Action = Action.READ, lane: Lane = Lane.INDEX
) -> tuple[Found, T]:
    """The same, and what is to be known of it besides: in one thread, since each crossing costs as much."""
    retrieve, caller = request[SHOWN].retrieve, request[CALLER]
    target = urls.study(request), urls.series(request), urls.instance(request)
    detail = (request.match_info["frames"][:64],) if "frames" in request.match_info else ()

    def both() -> tuple[Found, T]:
        found = retrieve.locate(caller, *target, action=action, detail=detail)
        return found, then(found)

    found, more = await request.app[OFFLOAD].run(lane, both)
    request[answers.ACCESS] = found.decision.access
    return found, more


def reading_lane(request: web.Request) -> Lane:
    """Where that is done together with reading what is small; see ``at_once``."""
    return Lane.OBJECTS if request[SHOWN].retrieve.near else Lane.INDEX


def at_once(request: web.Request, content: Content) -> Content:
    """Content in memory, if it is small and its object near; for who is in a thread of ``reading_lane``."""
    return answers.small(request, content) if request[SHOWN].retrieve.near else content


def location(root: str, located: Located) -> str:
    """The URL of an instance."""
    key = located.key
    return f"{root}/studies/{key.study_uid}/series/{key.series_uid}/instances/{key.sop_uid}"


# Frames


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
    """Frames, as stored, uncompressed or in another transfer syntax."""
    numbers = frame_numbers(request.match_info["frames"])
    found, ready = await locate_and(request, lambda found: _ready(request, found, numbers), lane=reading_lane(request))
    return await _send_frames(request, found, ready)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How frames go out; ``frames`` is None for those whose size shows only when they are made.

    ``made_by`` is what decides their bytes beside the instance and the transfer syntax.
    """

    reader: FrameReader
    numbers: Sequence[int]
    choice: Choice
    syntax: str
    frames: Frames | None
    made_by: str = ""
    as_stored: bool = False
    """Whether they only have to be read."""

    @property
    def content_type(self) -> str:
        """Of a frame."""
        return f"{self.choice.media_type}; transfer-syntax={self.syntax}"


@dataclass(frozen=True, slots=True)
class _Ready:
    """Frames as they go out: nothing of them where the client has them, no content before their size is known."""

    plan: _Plan
    place: str
    answer: MultipartAnswer
    etag: str
    unchanged: web.Response | None = None
    content: Content | None = None

    def header(self, number: int) -> tuple[str, str]:
        """Content type and location of a frame, by its number counted from 0."""
        return self.plan.content_type, f"{self.place}/{self.plan.numbers[number]}"

    def with_frames(self, frames: Frames) -> _Ready:
        """The same with its content."""
        if self.plan.choice.multipart:
            return replace(self, content=self.answer.content(frames.sizes, self.header, frames.content))
        return replace(self, content=frames.content(0))


def _planned(request: web.Request, found: Found, numbers: Sequence[int] | None) -> _Plan:
    """How the frames of a list, or all of them, go out; looks into the index."""
    (located,) = found.instances
    service = request[SHOWN].retrieve
    reader = service.frames(located)
    wanted = range(1, reader.count + 1) if numbers is None else numbers
    reader.check(wanted)
    choices = negotiation.bulk_choices(request, single=len(wanted) == 1, stored=service.served_syntax(located))
    choice, syntax = _frame_choice(choices, reader)
    if syntax == reader.stored_syntax:
        return _Plan(reader, wanted, choice, syntax, reader.stored(wanted), as_stored=True)
    if (kept := reader.kept(syntax)) is not None:
        return _Plan(reader, wanted, choice, syntax, kept.stored(wanted), kept.version, as_stored=True)
    frames = reader.decoded(wanted) if syntax == EXPLICIT_VR_LITTLE_ENDIAN else None
    return _Plan(reader, wanted, choice, syntax, frames, REVISION)


def _ready(request: web.Request, found: Found, numbers: Sequence[int] | None) -> _Ready:
    """The frames of a list, or all of them; looks into the index, and reads them where that is done at once."""
    plan = _planned(request, found, numbers)
    choice = plan.choice
    root = service_root(request) if choice.multipart else ""
    form = (choice.media_type, str(choice.multipart), plan.syntax, plan.made_by)
    etag = found.etag(root, "frames", str(plan.numbers), *form)
    place = f"{location(root, found.instances[0])}/frames"
    unchanged = answers.not_modified(request, etag)
    ready = _Ready(plan, place, MultipartAnswer(choice.media_type, etag), etag, unchanged)
    if unchanged is not None or plan.frames is None:
        return ready
    ready = ready.with_frames(plan.frames)
    if plan.as_stored and ready.content is not None:
        ready = replace(ready, content=at_once(request, ready.content))
    return ready


async def _send_frames(request: web.Request, found: Found, ready: _Ready) -> web.StreamResponse:
    """Send frames as planned."""
    if ready.unchanged is not None:
        return ready.unchanged
    plan, answer = ready.plan, ready.answer
    found.decision.access.took(frames=len(plan.numbers))
    lane = Lane.OBJECTS if plan.as_stored else Lane.LONG
    if ready.content is None:
        encoded = plan.reader.transcoded(plan.numbers, plan.syntax)
        if len(plan.numbers) > 1:
            parts = ((*ready.header(number), (frame,)) for number, frame in enumerate(encoded))
            head = answers.headers(ready.etag, answer.content_type)
            return await answers.stream(request, answer.body(parts), head, lane=lane)
        only = held(await request.app[OFFLOAD].run(lane, next, encoded))
        ready = ready.with_frames(Frames([only.size], lambda _: only))
        assert ready.content is not None
    content_type = answer.content_type if plan.choice.multipart else plan.content_type
    return await answers.ranged(request, ready.content, answers.headers(ready.etag, content_type), lane=lane)


def _frame_choice(choices: Sequence[Choice], reader: FrameReader) -> tuple[Choice, str]:
    """The best of a client's choices that can be had; raises NotAcceptable."""
    reasons = []
    for choice in choices:
        syntax = negotiation.frame_syntax(choice, reader.stored_syntax, EXPLICIT_VR_LITTLE_ENDIAN)
        if syntax is None:
            reasons.append(f"{choice.media_type} does not carry transfer syntax {choice.transfer_syntax[:64]}")
        elif refusal := reader.refusal(syntax):
            reasons.append(refusal)
        else:
            return choice, syntax
    raise NotAcceptable(f"the frames are stored in transfer syntax {reader.stored_syntax}; {reasons[0]}")


# Bulk data


async def retrieve_bulk_data(request: web.Request) -> web.StreamResponse:
    """The value behind a BulkDataURI. Compressed pixel data comes frame by frame, without item headers."""
    path, retrieve = request.match_info["path"], request[SHOWN].retrieve
    found, item = await locate_and(request, lambda found: retrieve.bulk_item(found.instances[0], path))
    (located,) = found.instances
    video = types.VIDEO.get(located.transfer_syntax_uid)
    if path == _PIXEL_DATA and video is not None:
        return await _send_video(request, found, video)
    choice = negotiation.bulk_choices(request, single=True)[0]
    native = located.transfer_syntax_uid in NATIVE
    if path == _PIXEL_DATA and (not native or _names_another(choice)):
        ready = await request.app[OFFLOAD].run(reading_lane(request), _ready, request, found, None)
        return await _send_frames(request, found, ready)
    if choice.media_type != types.OCTET_STREAM:
        raise NotAcceptable("this value is available as application/octet-stream")
    root = service_root(request) if choice.multipart else ""
    etag = found.etag(root, "bulk", path, str(choice.multipart))
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    content, content_type = retrieve.bulk(located, item), types.OCTET_STREAM
    if choice.multipart:
        answer = MultipartAnswer(types.OCTET_STREAM, etag)
        place = f"{location(root, located)}/bulkdata/{path}"
        value = content
        content = answer.content([value.size], lambda _: (types.OCTET_STREAM, place), lambda _: value)
        content_type = answer.content_type
    return await answers.ranged(request, content, answers.headers(etag, content_type))


def _names_another(choice: Choice) -> bool:
    """Whether native pixels do not satisfy a choice."""
    return choice.media_type != types.OCTET_STREAM or choice.transfer_syntax not in ("", "*", EXPLICIT_VR_LITTLE_ENDIAN)


async def _send_video(request: web.Request, found: Found, media_type: str) -> web.StreamResponse:
    chosen = negotiation.choose(request, (media_type, types.OCTET_STREAM))
    etag = found.etag("", "video", chosen)
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    run, retrieve = request.app[OFFLOAD].run, request[SHOWN].retrieve
    stream = await run(Lane.INDEX, retrieve.video, found.instances[0])
    return await answers.ranged(request, stream, answers.headers(etag, chosen))


# All bulk data, or all pixel data, of a resource


@dataclass(frozen=True, slots=True)
class _Source:
    """An instance whose bulk data goes out: its pixels in a transfer syntax ("" for none), its other values or not."""

    located: Located
    media_type: str
    syntax: str
    values: bool


async def retrieve_all_bulk_data(request: web.Request) -> web.StreamResponse:
    """All bulk data of a study, series or instance, pixel data frame by frame where it is or gets compressed."""
    choices = negotiation.bulk_choices(request, single=False)
    return await send_bulk_data(request, await locate(request), choices)


async def retrieve_pixel_data(request: web.Request) -> web.StreamResponse:
    """The pixel data alone."""
    choices = negotiation.bulk_choices(request, single=False)
    return await send_bulk_data(request, await locate(request), choices, only_pixels=True)


async def send_bulk_data(
    request: web.Request, found: Found, choices: Sequence[Choice], *, only_pixels: bool = False
) -> web.StreamResponse:
    """The bulk data of instances as a multipart; 206 when some of it does not exist as the client wants it.

    Raises
    ------
    NotFound
        There is no bulk data.
    NotAcceptable
        There is none as the client wants it.
    """
    service = request[SHOWN].retrieve
    root = service_root(request)
    etag = found.etag(root, "all bulk", str(only_pixels), repr(choices), REVISION)
    if (unchanged := answers.not_modified(request, etag)) is not None:
        return unchanged
    run = request.app[OFFLOAD].run
    sources, missing = await run(Lane.INDEX, _sources, service, found.instances, choices, only_pixels)
    if not sources:
        raise NotAcceptable("none of the bulk data exists as wanted") if missing else NotFound("there is no bulk data")
    answer = MultipartAnswer(choices[0].media_type, etag)
    parts = (part for source in sources for part in _bulk_parts(service, source, root))
    head = answers.headers(etag, answer.content_type)
    if missing:
        head["Warning"] = f'299 gateway "the bulk data of {missing} instances is not there as wanted, or not all of it"'
    blocks = answer.body((kind, place, content.read(0, content.size)) for kind, place, content in parts)
    return await answers.stream(request, blocks, head, status=206 if missing else 200, lane=Lane.LONG)


def _sources(
    service: RetrieveService, instances: Sequence[Located], choices: Sequence[Choice], only_pixels: bool
) -> tuple[list[_Source], int]:
    """What goes out of each instance, and how many instances something is missing of."""
    plain = any(choice.media_type == types.OCTET_STREAM for choice in choices)
    sources, missing = [], 0
    for located in instances:
        reader = service.frames(located)
        layout = reader.layout
        others = not only_pixels and any(item.path not in PIXEL_DATA_TAGS for item in layout.bulk)
        pixels = layout.frames.kind is not FrameKind.NONE
        media_type, syntax = _pixel_choice(reader, located, choices) if pixels else ("", "")
        missing += (pixels and not syntax) or (others and not plain)
        if syntax or (others and plain):
            sources.append(_Source(located, media_type, syntax, others and plain))
    return sources, missing


def _pixel_choice(reader: FrameReader, located: Located, choices: Sequence[Choice]) -> tuple[str, str]:
    """Media type and transfer syntax for an instance's pixels; "" when none of the choices fits."""
    stored = located.transfer_syntax_uid
    if stored in types.VIDEO:
        wanted = any(each.media_type == types.OCTET_STREAM and each.transfer_syntax in ("", "*") for each in choices)
        return (types.VIDEO[stored], stored) if wanted else ("", "")
    if reader.layout.frames.kind is FrameKind.DECODE and reader.stored_syntax != EXPLICIT_VR_LITTLE_ENDIAN:
        return "", ""
    try:
        choice, syntax = _frame_choice(choices, reader)
    except NotAcceptable:
        return "", ""
    return choice.media_type, syntax


def _bulk_parts(service: RetrieveService, source: _Source, root: str) -> Iterator[tuple[str, str, Content]]:
    """The parts of one instance: content type, location, bytes."""
    located, place = source.located, location(root, source.located)
    reader = service.frames(located)
    for item in reader.layout.bulk:
        if item.path in PIXEL_DATA_TAGS:
            if source.syntax:
                yield from _pixel_parts(service, reader, source, item, place)
        elif source.values:
            yield types.OCTET_STREAM, f"{place}/bulkdata/{item.path}", service.bulk(located, item)


def _pixel_parts(
    service: RetrieveService, reader: FrameReader, source: _Source, item: BulkItem, place: str
) -> Iterator[tuple[str, str, Content]]:
    content_type = f"{source.media_type}; transfer-syntax={source.syntax}"
    value = f"{place}/bulkdata/{item.path}"
    numbers = range(1, reader.count + 1)
    if source.syntax in types.VIDEO:
        yield content_type, value, service.video(source.located)
    elif source.syntax == reader.stored_syntax == EXPLICIT_VR_LITTLE_ENDIAN:
        yield content_type, value, service.bulk(source.located, item)
    elif (frames := _readable(reader, numbers, source.syntax)) is not None:
        for number in numbers:
            yield content_type, f"{place}/frames/{number}", frames.content(number - 1)
    else:
        for number, frame in zip(numbers, reader.transcoded(numbers, source.syntax), strict=True):
            yield content_type, f"{place}/frames/{number}", held(frame)


def _readable(reader: FrameReader, numbers: Sequence[int], syntax: str) -> Frames | None:
    """Frames whose sizes are known before any is read; None for those that have to be encoded."""
    if syntax == reader.stored_syntax:
        return reader.stored(numbers)
    if syntax == EXPLICIT_VR_LITTLE_ENDIAN:
        return reader.decoded(numbers)
    kept = reader.kept(syntax)
    return None if kept is None else kept.stored(numbers)


def routes() -> list[Route]:
    """Paths of PS3.18 10.4.1.1.5 to 10.4.1.1.7; instances and metadata, and rendered resources, have own modules."""
    study = f"{PREFIX}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    found = []
    for resource in (study, series, instance):
        found.append(Route("GET", f"{resource}/bulkdata", retrieve_all_bulk_data, Action.READ))
        found.append(Route("GET", f"{resource}/pixeldata", retrieve_pixel_data, Action.READ))
    found.append(Route("GET", f"{instance}/frames/{{frames}}", retrieve_frames, Action.READ))
    found.append(Route("GET", f"{instance}/bulkdata/{{path}}", retrieve_bulk_data, Action.READ))
    return found
