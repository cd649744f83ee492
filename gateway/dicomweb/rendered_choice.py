"""Which media type each instance is rendered to (PS3.18 8.7.8 "Media Type Selection", 10.4.4 "Retrieve")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.dicomweb.negotiation import MediaRange
from gateway.errors import NotAcceptable
from gateway.imaging.picture import RenderedMediaType
from gateway.services.renderable import Kind, Renderable

_IN_ONE_FILE = frozenset(each.value for each in RenderedMediaType if each.holds_several)


@dataclass(frozen=True, slots=True)
class Representation:
    """A renderable and the frames that go out of it, as ``media_type``."""

    renderable: Renderable
    media_type: str
    frames: Sequence[int] = ()

    @property
    def count(self) -> int:
        """Parts that it takes in a multipart."""
        return 1 if self.media_type in _IN_ONE_FILE and len(self.frames) > 1 else max(len(self.frames), 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a target goes out: in parts, or in one file, which holds the frames of all ``representations``."""

    representations: Sequence[Representation]
    multipart: bool
    left_out: int = 0


def plan(ranges: Sequence[MediaRange], renderables: Sequence[Renderable]) -> Plan:
    """The best form that a client accepts.

    A media type that is not multipart fits one picture, document or video; the animated ones fit all frames of all
    images. A range with a wildcard fits anything, in parts where one does not do. For an instance of several frames
    a still type alone means its first frame, in parts every frame.

    Raises
    ------
    NotAcceptable
        Nothing of it fits.
    """
    for media_range in ranges:
        found = (
            _one(media_range, renderables[0]) if len(renderables) == 1 else _several(media_range, ranges, renderables)
        )
        if found is not None:
            return found
    offered = sorted({name for each in renderables for name in each.media_types})
    if not offered:
        raise NotAcceptable("nothing here can be rendered")
    form = " in parts (multipart/related)" if len(renderables) > 1 else ""
    raise NotAcceptable(f"can be rendered to {', '.join(offered)}{form}")


def fits(media_range: MediaRange, media_type: str) -> bool:
    """Whether a range, or the parts that it asks for, take a media type."""
    wanted, offered = media_range.part_type, media_type.lower()
    return wanted in ("*/*", offered) or (wanted.endswith("/*") and wanted[:-1] == offered[: len(wanted) - 1])


def _is_wild(media_range: MediaRange) -> bool:
    return not media_range.multipart and "*" in media_range.type


def _one(media_range: MediaRange, renderable: Renderable) -> Plan | None:
    for media_type in renderable.media_types:
        if not fits(media_range, media_type):
            continue
        frames = renderable.frames
        if renderable.kind is Kind.CINE and renderable.whole and not media_range.multipart:
            frames = frames if media_type in _IN_ONE_FILE else frames[:1]
        found = Representation(renderable, media_type, frames)
        if media_range.multipart or found.count == 1 or _is_wild(media_range):
            return Plan([found], media_range.multipart or found.count > 1)
    return None


def _several(media_range: MediaRange, ranges: Sequence[MediaRange], renderables: Sequence[Renderable]) -> Plan | None:
    if not media_range.multipart and not _is_wild(media_range):
        return _together(media_range, renderables)
    usable = [each for each in ranges if each.multipart or _is_wild(each)]
    found = []
    for renderable in renderables:
        best = next((name for each in usable for name in renderable.media_types if fits(each, name)), None)
        if best is not None:
            found.append(Representation(renderable, best, renderable.frames))
    return Plan(found, True, len(renderables) - len(found)) if found else None


def _together(media_range: MediaRange, renderables: Sequence[Renderable]) -> Plan | None:
    """All frames in one file, when the type can hold them."""
    media_type = media_range.type
    images = [each for each in renderables if each.has_frames]
    if media_type not in _IN_ONE_FILE or not images:
        return None
    return Plan(
        [Representation(each, media_type, each.frames) for each in images], False, len(renderables) - len(images)
    )
