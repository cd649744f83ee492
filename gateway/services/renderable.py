"""What of an instance can be rendered, and to which media types (PS3.18 8.7.4 "Rendered Media Types")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.imaging.picture import RenderedMediaType
from gateway.imaging.softcopy import StateClass
from storage.dicom.file_meta import NATIVE
from storage.dicom.frames import FrameKind, FrameTable
from storage.dicom.part10 import VIDEO as VIDEO_SYNTAXES
from storage.index.stored import Located

PDF = "application/pdf"
HTML = "text/html"
PLAIN = "text/plain"

_STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_STATES = frozenset(each.value for each in StateClass)

_MPEG2 = ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101")
_HEVC = ("1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108")
VIDEO = {
    syntax: "video/mpeg" if syntax.startswith(_MPEG2) else "video/H265" if syntax.startswith(_HEVC) else "video/mp4"
    for syntax in VIDEO_SYNTAXES
}
"""Media type of a stored video stream, by its transfer syntax."""

_STILL = tuple(
    each.value for each in (RenderedMediaType.JPEG, RenderedMediaType.PNG, RenderedMediaType.GIF, RenderedMediaType.JP2)
)


class Kind(Enum):
    """What an instance is to somebody who looks at it."""

    PICTURE = "one frame"
    CINE = "several frames"
    VIDEO = "a stored video stream"
    DOCUMENT = "an encapsulated PDF"
    REPORT = "a structured report"
    STATE = "a presentation state"
    NOTHING = "nothing that can be rendered"


@dataclass(frozen=True, slots=True)
class Renderable:
    """An instance, the frames of it that are wanted (numbered from 1), and the presentation state to apply."""

    located: Located
    kind: Kind
    frames: Sequence[int] = ()
    state: Located | None = None
    whole: bool = True
    """Whether ``frames`` are all that the instance has, rather than a list that was asked for."""

    @property
    def media_types(self) -> tuple[str, ...]:
        """What it can be rendered to, the default first."""
        match self.kind:
            case Kind.PICTURE:
                return _STILL
            case Kind.CINE:
                return (*_STILL, RenderedMediaType.MP4.value)
            case Kind.VIDEO:
                return (VIDEO[self.located.transfer_syntax_uid],)
            case Kind.DOCUMENT:
                return (PDF,)
            case Kind.REPORT:
                return (HTML, PLAIN)
            case _:
                return ()

    @property
    def has_frames(self) -> bool:
        """Whether it is rendered frame by frame."""
        return self.kind in (Kind.PICTURE, Kind.CINE)


def kind_of(located: Located, frames: FrameTable) -> Kind:
    """The kind of an instance, from its SOP class, its transfer syntax and its frame table alone."""
    sop_class = located.sop_class_uid
    if sop_class in _STATES:
        return Kind.STATE
    if sop_class == _ENCAPSULATED_PDF:
        return Kind.DOCUMENT
    if sop_class.startswith(_STRUCTURED_REPORTS):
        return Kind.REPORT
    if located.transfer_syntax_uid in VIDEO:
        return Kind.VIDEO
    if frames.count == 0 or (frames.kind is FrameKind.DECODE and located.transfer_syntax_uid not in NATIVE):
        return Kind.NOTHING
    return Kind.PICTURE if frames.count == 1 else Kind.CINE
