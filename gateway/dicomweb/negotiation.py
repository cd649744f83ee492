"""Content negotiation (PS3.18 8.7.8 "Media Type Selection", RFC 9110 12.5.1 "Accept")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web

from gateway.dicomweb import media_types as types
from gateway.errors import InvalidParameter, NotAcceptable

MAX_ACCEPT_CHARACTERS = 4096
_KEPT_HEADERS = 256
_MAX_KEPT_CHARACTERS = 512
"""A viewer asks for everything with the same few headers, and to read one takes as long as to find an image."""


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header; ``type`` in lower case, parameters with lower-case names."""

    type: str
    parameters: tuple[tuple[str, str], ...]
    q: float
    position: int

    def parameter(self, name: str) -> str | None:
        """A parameter's first value; a client may send one twice."""
        return next((value for found, value in self.parameters if found == name), None)

    @property
    def part_type(self) -> str:
        """What the parts of a multipart are to be, or the type itself; wildcards stay."""
        if self.type == types.MULTIPART:
            return (self.parameter("type") or "*/*").lower()
        return self.type

    @property
    def multipart(self) -> bool:
        """Whether a multipart answer is asked for."""
        return self.type == types.MULTIPART


def parse(header: str) -> list[MediaRange]:
    """Read an Accept header tolerantly, best first; what is no media range is passed over.

    Quotes around parameter values may be missing, even around values with a slash, and parameters may repeat.
    """
    if len(header) > MAX_ACCEPT_CHARACTERS:
        raise InvalidParameter("the Accept header is too long")
    return list(_kept(header) if len(header) <= _MAX_KEPT_CHARACTERS else _parsed(header))


def _parsed(header: str) -> tuple[MediaRange, ...]:
    found = []
    for position, element in enumerate(_split(header, ",")):
        media_type, *pieces = _split(element, ";")
        name = media_type.strip().lower()
        if "/" not in name:
            continue
        parameters, q = [], 1.0
        for piece in pieces:
            key, _, value = piece.partition("=")
            text = value.strip().strip('"').strip()
            if key.strip().lower() == "q":
                q = _q(text)
            elif text:
                parameters.append((key.strip().lower(), text))
        found.append(MediaRange(name, tuple(parameters), q, position))
    usable = [each for each in found if each.q > 0]
    return tuple(sorted(usable, key=lambda each: (-each.q, _vagueness(each), each.position)))


_kept = lru_cache(_KEPT_HEADERS)(_parsed)


def _split(text: str, separator: str) -> list[str]:
    """Split outside of quotes."""
    if '"' not in text:
        return text.split(separator)
    parts, quoted, start = [], False, 0
    for place, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    return parts


def _q(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 1.0


def _vagueness(media_range: MediaRange) -> int:
    return 2 if media_range.type == "*/*" else 1 if media_range.type.endswith("/*") else 0


def accepted(request: web.Request) -> list[MediaRange]:
    """What a request accepts, best first: the ``accept`` query parameter, then the header, then anything."""
    ranges = parse(",".join(request.query.getall("accept", [])))
    header = ",".join(request.headers.getall("Accept", []))
    ranges += parse(header)
    return ranges if ranges or header.strip() else parse("*/*")


def content_type(request: web.Request) -> MediaRange | None:
    """The type of a request's body, read as tolerantly; None when there is none."""
    return next(iter(parse(request.headers.get("Content-Type", ""))), None)


def choose(request: web.Request, offered: Iterable[str]) -> str:
    """The first acceptable one of some single-part media types, given in order of preference."""
    offers = list(offered)
    for media_range in accepted(request):
        for offer in offers:
            if media_range.type in ("*/*", offer) or media_range.type == offer.partition("/")[0] + "/*":
                return offer
    raise NotAcceptable(f"available as {', '.join(offers)}")


def json_type(request: web.Request) -> str:
    """DICOM JSON under the name that was asked for; ``transfer-syntax`` on it means nothing and is ignored."""
    return choose(request, (types.DICOM_JSON, types.JSON))


def result_type(request: web.Request) -> str:
    """The type of search results: DICOM JSON under one of its names, or DICOM XML for a multipart of it."""
    for media_range in accepted(request):
        if media_range.multipart and media_range.part_type == types.DICOM_XML:
            return types.DICOM_XML
        if media_range.type in (types.DICOM_JSON, types.JSON):
            return media_range.type
        if media_range.type in ("*/*", "application/*"):
            return types.DICOM_JSON
    raise NotAcceptable(f'available as {types.DICOM_JSON}, or multipart/related; type="{types.DICOM_XML}"')


@dataclass(frozen=True, slots=True)
class Choice:
    """How a resource is to go out.

    ``transfer_syntax`` is a UID, "*" for as stored, or "" for the default of the type. ``media_type`` is the name
    that the client used for the parts; ``is_bulk`` tells frames and bulk data from whole instances.
    """

    media_type: str
    multipart: bool
    transfer_syntax: str

    @property
    def is_bulk(self) -> bool:
        """Whether it asks for bulk data."""
        return types.ALIASES.get(self.media_type, self.media_type) in types.BULK


def resource_choices(request: web.Request, *, single: bool) -> list[Choice]:
    """Acceptable forms of a study, series or instance, best first: Part 10 files, a ZIP of them, or its bulk data.

    Single-part Part 10 needs a resource that is one instance (PS3.18 10.4.4). Bulk data in a multipart is an older
    way to ask for the ``/bulkdata`` below.
    """
    found = []
    for media_range in accepted(request):
        syntax = media_range.parameter("transfer-syntax") or ""
        part = media_range.part_type
        if part in (types.DICOM, "*/*", "application/*"):
            if media_range.multipart or media_range.type in ("*/*", "application/*"):
                found.append(Choice(types.DICOM, True, syntax))
            elif single:
                found.append(Choice(types.DICOM, False, syntax))
        elif media_range.type == types.ZIP:
            found.append(Choice(types.ZIP, False, syntax))
        elif media_range.multipart:
            found.extend(_bulk(part, True, syntax, ""))
    if not found:
        raise NotAcceptable('available as multipart/related; type="application/dicom", or application/zip')
    return found


def bulk_choices(request: web.Request, *, single: bool, stored: str = "") -> list[Choice]:
    """Acceptable forms of frames and bulk data, best first.

    Parameters
    ----------
    single
        Whether it is one item, so that a single part can hold it.
    stored
        The transfer syntax that a wildcard prefers.
    """
    found: list[Choice] = []
    for media_range in accepted(request):
        multipart = media_range.multipart or "*" in media_range.type
        if multipart or single:
            syntax = media_range.parameter("transfer-syntax") or ""
            found.extend(_bulk(media_range.part_type, multipart, syntax, stored))
    if not found:
        raise NotAcceptable('frames and bulk data are available as multipart/related; type="application/octet-stream"')
    return found


def _bulk(part: str, multipart: bool, syntax: str, stored: str) -> list[Choice]:
    if part in ("*/*", "application/*"):
        return [Choice(types.OCTET_STREAM, multipart, syntax)]
    if types.ALIASES.get(part, part) in types.BULK:
        return [Choice(part, multipart, syntax)]
    if part == "image/*":
        images = [name for name in types.BULK if name != types.OCTET_STREAM]
        return [
            Choice(name, multipart, syntax) for name in sorted(images, key=lambda name: stored not in types.BULK[name])
        ]
    return []


def frame_syntax(choice: Choice, stored: str, explicit: str) -> str | None:
    """The transfer syntax that a choice asks for frames in; None when its media type does not carry it.

    An octet stream carries any syntax; an image type carries its own ones. Without a transfer syntax, lossy pixels go
    out as they are where the type carries them, others in the type's default (PS3.18 8.7.3).
    """
    if choice.media_type == types.OCTET_STREAM:
        return instance_syntax(choice, stored, explicit)
    carried = types.BULK[types.ALIASES.get(choice.media_type, choice.media_type)]
    wanted = choice.transfer_syntax
    if stored in carried and (wanted == "*" or (wanted == "" and stored in types.LOSSY)):
        return stored
    if wanted in ("", "*"):
        return carried[0]
    return wanted if wanted in carried else None


def instance_syntax(choice: Choice, stored: str, explicit: str) -> str:
    """The transfer syntax that a choice asks for an instance in."""
    wanted = choice.transfer_syntax
    if wanted == "":
        return stored if stored in types.LOSSY else explicit
    return stored if wanted == "*" else wanted
