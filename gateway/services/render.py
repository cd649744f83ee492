"""Render: frames as pictures for people, and thumbnails that show no identity."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.imaging.decode import EncodedFrame
from gateway.imaging.placeholder import thumbnail_placeholder
from gateway.imaging.pool import ImagingPool
from gateway.imaging.presentation import Presentation
from gateway.imaging.render import RenderedImage, RenderRequest
from gateway.services.retrieve import RetrieveService
from storage.dicom import json_model
from storage.dicom.file_meta import NATIVE
from storage.dicom.frames import FrameKind
from storage.index.base import Located

# Modalities whose pictures commonly carry the patient's name in their pixels.
_BURNS_IN = frozenset(("ES", "OP", "OT", "PX", "RF", "SC", "US", "XA", "XC", "DOC", "IVUS", "ECG"))


class RenderService:
    """Pictures of stored instances."""

    def __init__(self, retrieve: RetrieveService, pool: ImagingPool) -> None:
        self._retrieve = retrieve
        self._pool = pool

    def frame(self, located: Located, number: int, request: RenderRequest) -> RenderedImage:
        """One frame, numbered from 1, as a picture.

        Raises
        ------
        NotFound, NotAcceptable
            No such frame, or frames that cannot be told apart.
        gateway.imaging.errors.ImagingError
        """
        reader = self._retrieve.frames(located)
        reader.check([number])
        stored = reader.held(number)
        data_set = self._retrieve.data_set(located)
        description = reader.description
        presentation = Presentation.from_metadata(
            data_set, description, number, lambda uri: self._retrieve.read_bulk(located, uri)
        )
        encoded = EncodedFrame(stored.data, stored.transfer_syntax_uid, description)
        return self._pool.render(encoded, presentation, request)

    def thumbnail(self, located: Located, number: int | None, request: RenderRequest) -> RenderedImage:
        """A small picture without identifying information (PS3.18 10.4.1.1.4); the middle frame unless one is named.

        What may have text burned in, or shows no frame, gets a neutral picture of its kind.
        """
        data_set = self._retrieve.data_set(located)
        layout = self._retrieve.frames(located).layout
        modality = json_model.text_of(data_set, "00080060")
        burned_in = json_model.text_of(data_set, "00280301")
        suspect = burned_in == "YES" or (burned_in != "NO" and modality in _BURNS_IN)
        unreachable = layout.frames.kind is FrameKind.DECODE and located.transfer_syntax_uid not in NATIVE
        if suspect or unreachable or layout.frames.count == 0:
            assert request.viewport is not None
            return thumbnail_placeholder(modality, request.media_type, request.viewport)
        return self.frame(located, number or layout.frames.count // 2 + 1, request)

    @staticmethod
    def middle(instances: Sequence[Located]) -> Located:
        """The instance that stands for a series or study: the middle one of its first series."""
        first = [each for each in instances if each.key.series_uid == instances[0].key.series_uid]
        return first[len(first) // 2]
