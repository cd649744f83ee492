"""Render: instances as pictures, animations, documents and text for people, and thumbnails that show no identity."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.access.actions import Action
from gateway.context import Caller
from gateway.errors import Gone, NotAcceptable, NotFound, PayloadTooLarge
from gateway.imaging import animation
from gateway.imaging.animation import DEFAULT_DURATION_MS, Timing
from gateway.imaging.attributes import BulkReader, real, reals, values
from gateway.imaging.description import PhotometricInterpretation
from gateway.imaging.jobs import RenderJob
from gateway.imaging.picture import RenderedImage
from gateway.imaging.placeholder import thumbnail_placeholder
from gateway.imaging.pool import ImagingPool
from gateway.imaging.presentation import Presentation
from gateway.imaging.render import RenderRequest
from gateway.imaging.softcopy import StateFrame, apply_state, references
from gateway.services import report_html, report_text
from gateway.services.content import Content, held
from gateway.services.labels import labels
from gateway.services.renderable import HTML, Kind, Renderable, kind_of
from gateway.services.report import read_report
from gateway.services.retrieve import Found, RetrieveService
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.json_model import JsonDataSet
from storage.errors import InvalidIdentifier
from storage.index.stored import Located

# Modalities whose pictures commonly carry the patient's name in their pixels.
_BURNS_IN = frozenset(("ES", "GM", "OP", "OT", "PX", "RF", "SC", "US", "XA", "XC", "DOC", "IVUS", "ECG"))

# Secondary Capture of every kind, whatever modality its sender writes: dose reports and saved screens are CT or MR.
_CAPTURES = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.")
# Values of Image Type: saved screens and doses; the label of a slide, and the overview that shows it.
_CAPTURED = frozenset(("SCREEN SAVE", "SCREENSHOT", "DOSE_INFO", "DOSE", "LABEL", "OVERVIEW"))
_CONVERTED = frozenset(("WSD", "DI", "DF", "SI", "SYN", "DRW", "DV"))  # Conversion Type (0008,0064)

_ENCAPSULATED_DOCUMENT, _DOCUMENT_LENGTH = "00420011", "00420015"
_PDF_MARK = b"%PDF-"

MAX_SERIES_LOOKED_AT = 50
"""Series of a study that are looked through for a picture of it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a target comes to: its renderable instances, and how many others it has."""

    renderables: Sequence[Renderable]
    others: int = 0


class RenderService:
    """Pictures and texts of stored instances.

    Parameters
    ----------
    max_frames
        Frames of one animation.
    """

    def __init__(self, retrieve: RetrieveService, pool: ImagingPool, max_frames: int) -> None:
        self._retrieve = retrieve
        self._pool = pool
        self._max_frames = max_frames

    def wanted(self, caller: Caller, found: Found, frames: Sequence[int] | None) -> Wanted:
        """What can be rendered of the instances that were found.

        A presentation state stands for the images that it refers to, as it shows them; among other instances it is
        passed over, because its images are there already.

        Parameters
        ----------
        frames
            Numbers from 1, of the one instance that was asked for; None: all.

        Raises
        ------
        NotFound
            No such frame; or no image of a presentation state is here.
        """
        if frames is not None:
            (located,) = found.instances
            reader = self._retrieve.frames(located)
            reader.check(frames)
            return Wanted([Renderable(located, Kind.CINE, frames, whole=False)])
        kinds = [(each, *self._kind(each)) for each in found.instances]
        states = [located for located, kind, _ in kinds if kind is Kind.STATE]
        if states and len(states) == len(kinds):
            return self._under_states(caller, states)
        renderables = [
            Renderable(located, kind, range(1, count + 1))
            for located, kind, count in kinds
            if kind not in (Kind.NOTHING, Kind.STATE)
        ]
        return Wanted(renderables, len(kinds) - len(states) - len(renderables))

    def alone(self, located: Located) -> Renderable:
        """An instance by itself, whatever it is."""
        kind, count = self._kind(located)
        return Renderable(located, kind, range(1, count + 1) if kind in (Kind.PICTURE, Kind.CINE) else ())

    def _kind(self, located: Located) -> tuple[Kind, int]:
        table = self._retrieve.layout(located).frames
        return kind_of(located, table), table.count

    def _under_states(self, caller: Caller, states: Sequence[Located]) -> Wanted:
        found: list[Renderable] = []
        missing = 0
        for state in states:
            series: dict[str, dict[str, Located]] = {}
            for reference in references(self._retrieve.data_set(state)):
                images = series.get(reference.series_uid)
                if images is None:
                    images = series[reference.series_uid] = self._images(caller, state, reference.series_uid)
                located = images.get(reference.sop_uid)
                kind, count = self._kind(located) if located is not None else (Kind.NOTHING, 0)
                frames: Sequence[int] = range(1, count + 1)
                if reference.frames:
                    frames = [number for number in reference.frames if 1 <= number <= count]
                if located is None or not frames or kind not in (Kind.PICTURE, Kind.CINE):
                    missing += 1
                    continue
                found.append(Renderable(located, kind, frames, state))
        if not found:
            raise NotFound("none of the images that the presentation state refers to is here")
        return Wanted(found, missing)

    def _images(self, caller: Caller, state: Located, series_uid: str) -> dict[str, Located]:
        try:
            series = ids.series_uid(series_uid)
            found = self._retrieve.locate(caller, state.key.study_uid, series, action=Action.RENDER)
        except (NotFound, Gone, InvalidIdentifier):
            return {}
        return {each.key.sop_uid: each for each in found.instances}

    def under_state(self, caller: Caller, image: Located, state: Found) -> Renderable:
        """One image as a presentation state shows it. Raises NotFound when the state does not refer to it."""
        (located,) = state.instances
        for each in self._under_states(caller, [located]).renderables:
            if each.located.key == image.key:
                return each
        raise NotFound("the presentation state does not refer to the image")

    def picture(self, renderable: Renderable, number: int, request: RenderRequest) -> RenderedImage:
        """One frame, numbered from 1, as a picture.

        Raises
        ------
        NotFound, NotAcceptable
            No such frame, or frames that cannot be told apart.
        gateway.imaging.errors.ImagingError
        """
        job = self._prepare(renderable)(number, request)
        return self._pool.render(job.frame, job.presentation, job.request)

    def pictures(
        self, renderable: Renderable, numbers: Sequence[int], request: RenderRequest
    ) -> Iterator[RenderedImage]:
        """Frames as pictures, one by one; raises as ``picture``."""
        prepare = self._prepare(renderable)
        for number in numbers:
            job = prepare(number, request)
            yield self._pool.render(job.frame, job.presentation, job.request)

    def animation(self, renderables: Sequence[Renderable], request: RenderRequest) -> RenderedImage:
        """All frames in one file, each shown as long as the first instance says.

        Raises
        ------
        PayloadTooLarge
            More frames than one animation holds.
        gateway.imaging.errors.ImagingError
        """
        count = sum(len(each.frames) for each in renderables)
        if count > self._max_frames:
            raise PayloadTooLarge(f"{count} frames; an animation holds {self._max_frames}, ask for a list of frames")
        description = self._retrieve.frames(renderables[0].located).description
        # Not beyond the frames' own size unless that is asked for.
        limit = (
            animation.MAX_SIDE
            if request.viewport
            else min(max(description.rows, description.columns), animation.MAX_SIDE)
        )
        width, height = request.viewport or (limit, limit)
        shown = replace(request, viewport=(min(width or limit, limit), min(height or limit, limit)))

        def jobs() -> Iterator[RenderJob]:
            for each in renderables:
                prepare = self._prepare(each)
                for number in each.frames:
                    yield prepare(number, shown)

        timing = _timing(self._retrieve.data_set(renderables[0].located))
        return self._pool.animate(jobs(), count, timing, shown)

    def _prepare(self, renderable: Renderable) -> Callable[[int, RenderRequest], RenderJob]:
        """What makes the jobs of an instance's frames; metadata is read once."""
        located = renderable.located
        data_set = self._retrieve.data_set(located)
        reader = self._retrieve.frames(located, data_set)
        bulk = self._bulk(located)
        state = None if renderable.state is None else self._retrieve.data_set(renderable.state)
        state_bulk = bulk if renderable.state is None else self._bulk(renderable.state)

        def prepare(number: int, request: RenderRequest) -> RenderJob:
            reader.check([number])
            description = reader.description
            presentation = Presentation.from_metadata(data_set, description, number, bulk)
            if state is not None:
                frame = StateFrame(located.key.sop_uid, number, description.is_signed)
                presentation = apply_state(state, presentation, frame, state_bulk)
            if request.annotate:
                lines = labels(data_set, request.annotate, number, reader.count)
                request = replace(request, annotation=lines)
            return RenderJob(reader.encoded(number), presentation, request)

        return prepare

    def _bulk(self, located: Located) -> BulkReader:
        return lambda uri, start, length: self._retrieve.read_bulk(located, uri, start, length)

    def dimensions(self, located: Located) -> tuple[int, int]:
        """Rows and columns of an image's frames. Raises gateway.imaging.errors.ImagingError."""
        description = self._retrieve.frames(located).description
        return description.rows, description.columns

    def ignored(self, renderable: Renderable, request: RenderRequest) -> list[str]:
        """Names of parameters that were given and have no effect on a frame, for a Warning."""
        if not renderable.has_frames or not (request.window or request.preset or request.icc_profile):
            return []
        photometric = self._retrieve.frames(renderable.located).description.photometric_interpretation
        grey = photometric in (PhotometricInterpretation.MONOCHROME1, PhotometricInterpretation.MONOCHROME2)
        found = ["window"] if not grey and (request.window is not None or request.preset) else []
        return [*found, "iccprofile"] if grey and request.icc_profile is not None else found

    def text(self, renderable: Renderable, media_type: str) -> bytes:
        """A structured report as text/html or text/plain, in UTF-8."""
        report = read_report(self._retrieve.data_set(renderable.located))
        return report_html.write(report) if media_type == HTML else report_text.write(report)

    def stored(self, renderable: Renderable) -> Content:
        """The bytes of a stored video, or of an encapsulated PDF.

        Raises
        ------
        NotAcceptable
            What says that it is a PDF holds something else.
        """
        if renderable.kind is Kind.VIDEO:
            return self._retrieve.video(renderable.located)
        content = self._document(renderable.located)
        if not b"".join(content.read(0, min(content.size, 1024))).lstrip().startswith(_PDF_MARK):
            raise NotAcceptable("the encapsulated document is not a PDF")
        return content

    def _document(self, located: Located) -> Content:
        data_set = self._retrieve.data_set(located)
        element = data_set.get(_ENCAPSULATED_DOCUMENT, {})
        if "BulkDataURI" in element:
            path = element["BulkDataURI"].rpartition("/bulkdata/")[2]
            whole = self._retrieve.bulk(located, self._retrieve.bulk_item(located, path))
        else:
            whole = held(base64.b64decode(element.get("InlineBinary", "")))
        # Without the byte that makes its length even.
        length = json_model.number_of(data_set, _DOCUMENT_LENGTH, whole.size)
        return Content(length if 0 < length <= whole.size else whole.size, whole.read)

    def thumbnail(self, located: Located, number: int | None, request: RenderRequest) -> RenderedImage:
        """A small picture without identifying information (PS3.18 10.4.1.1.4); the middle frame unless one is named.

        What may have text burned in, or shows no frame, gets a neutral picture of its kind.
        """
        data_set = self._retrieve.data_set(located)
        kind, count = self._kind(located)
        modality = json_model.text_of(data_set, "00080060")
        if number is not None and kind in (Kind.PICTURE, Kind.CINE):
            self._retrieve.frames(located).check([number])
        if _may_name_somebody(located, data_set) or kind not in (Kind.PICTURE, Kind.CINE):
            assert request.viewport is not None
            width, height = request.viewport
            assert width is not None
            assert height is not None
            return thumbnail_placeholder(modality, request.media_type, (width, height))
        # Overlays hold text as often as drawings.
        plain = replace(request, overlays=False)
        return self.picture(Renderable(located, kind, (1,)), number or count // 2 + 1, plain)

    def representative(self, instances: Sequence[Located]) -> Located:
        """The instance that stands for a series or study: the middle one of its first series that shows pictures."""
        series: dict[str, list[Located]] = {}
        for each in instances:
            series.setdefault(each.key.series_uid, []).append(each)
        middles = [found[len(found) // 2] for found in series.values()]
        for each in middles[:MAX_SERIES_LOOKED_AT]:
            if self._kind(each)[0] in (Kind.PICTURE, Kind.CINE):
                return each
        return middles[0]


def _may_name_somebody(located: Located, data_set: JsonDataSet) -> bool:
    """Whether the pixels may hold text that identifies a person (PS3.3 C.7.6.1.1.3, C.8.6.1 "SC Equipment Module")."""
    burned_in = json_model.text_of(data_set, "00280301")
    if burned_in in ("YES", "NO"):
        return burned_in == "YES"
    sop_class = located.sop_class_uid
    captured = sop_class == _CAPTURES[0] or sop_class.startswith(_CAPTURES[1])
    image_type = _CAPTURED.intersection(str(value) for value in values(data_set, "00080008"))
    captured = captured or json_model.text_of(data_set, "00080064") in _CONVERTED
    return captured or bool(image_type) or json_model.text_of(data_set, "00080060") in _BURNS_IN


def _timing(data_set: JsonDataSet) -> Timing:
    """How fast an instance wants to be shown.

    References
    ----------
    PS3.3 C.7.6.5 "Cine Module": Recommended Display Frame Rate (0008,2144), Cine Rate (0018,0040), both a second,
    Frame Time (0018,1063) and Frame Time Vector (0018,1065), in milliseconds from the frame before
    """
    for tag in ("00082144", "00180040"):
        rate = real(data_set, tag)
        if rate is not None and rate > 0:
            return Timing((round(1000 / max(rate, 0.01)),))
    frame_time = real(data_set, "00181063")
    if frame_time is not None and frame_time > 0:
        return Timing((round(frame_time),))
    vector = [round(number) for number in reals(data_set, "00181065")[1:] if number > 0]
    return Timing(tuple(vector)) if vector else Timing((DEFAULT_DURATION_MS,))
