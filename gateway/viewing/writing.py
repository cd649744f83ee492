"""An instance without its patient: a new header before the same pixels, or before others where they had to change."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.deid.burned_in import BurnedIn, Region, assess
from gateway.deid.engine import deidentify
from gateway.deid.identifiers import DictionaryCleaner
from gateway.deid.profile import Option
from gateway.deid.pseudonyms import PseudonymousPatient
from gateway.deid.verification import residues
from gateway.errors import NotDeidentified
from gateway.viewing.definition import Definition, Lettering
from gateway.viewing.opening import Opened
from gateway.viewing.pixels import Piece, PixelWriter, Written, plain
from storage.archive import InstanceReader
from storage.dicom import file_meta, json_model, part10
from storage.dicom.elements import Blocks
from storage.errors import Unreadable
from storage.index.stored import Located
from storage.objects.base import ByteRange, body_blocks
from storage.objects.spliced import Reference

_log = logging.getLogger("gateway.viewing")

_BLOCK_BYTES = 1 << 20

SUSPECT = "text may be burned in"
"""Begins the reason for which an instance is not let through until somebody has looked at it."""


@dataclass(frozen=True, slots=True)
class Made:
    """A Part 10 file in pieces, what it says, and its digest."""

    pieces: Sequence[Piece]
    data_offset: int
    extract: part10.Extract
    sha256: str


class InstanceWriter:
    """De-identifies instances as a definition says.

    Parameters
    ----------
    source
        Where their bytes are.
    pixels
        Writes their pixel data.
    """

    def __init__(self, source: InstanceReader, definition: Definition, pixels: PixelWriter) -> None:
        self._source = source
        self._definition = definition
        self._pixels = pixels

    @contextmanager
    def written(
        self,
        located: Located,
        opened: Opened,
        patient: PseudonymousPatient,
        cleaner: DictionaryCleaner,
        answered_for: Callable[[], bool] = lambda: False,
    ) -> Iterator[Made]:
        """The de-identified instance, as long as the context lasts.

        Parameters
        ----------
        answered_for
            Whether somebody has looked at the pixels; asked where text may be burned in.

        Raises
        ------
        NotDeidentified
            It cannot be vouched for.
        storage.errors.StorageUnavailable
        """
        definition = self._definition
        burned = self._burned(located, opened, answered_for)
        found = deidentify(
            opened.data_set,
            definition.profile,
            definition.pseudonyms,
            patient,
            cleaner,
            kept_text=cleaner,
            transfer_syntax_uid=located.transfer_syntax_uid,
            limits=self._source.limits,
        )
        element = (
            nullcontext(Written(plain(located.transfer_syntax_uid), []))
            if opened.pixels is None
            else self._pixels.written(located, opened.pixels, found, burned)
        )
        with element as pixels:
            yield self._verified(found.dataset, pixels, cleaner)

    def _burned(self, located: Located, opened: Opened, answered_for: Callable[[], bool]) -> BurnedIn:
        """What is to be done with the pixels. Raises NotDeidentified where nobody knows."""
        if opened.pixels is None:
            return BurnedIn()
        burned = assess(opened.data_set)
        if burned.suspect and not answered_for():
            raise NotDeidentified(f"{SUSPECT}: {burned.suspect}")
        if self._definition.lettering is Lettering.BLANKED:
            found = (Region(*each) for _, each in self._pixels.lettering(located))
            burned = replace(burned, blank=tuple(dict.fromkeys((*burned.blank, *found))))
        elif self._definition.lettering is Lettering.WITHHELD and not answered_for():
            for number, _ in self._pixels.lettering(located):
                raise NotDeidentified(f"{SUSPECT}: something looks like writing in frame {number}")
        if burned.is_changed and Option.CLEAN_PIXEL_DATA not in self._definition.profile.options:
            raise NotDeidentified("text is known to be burned in, and clean_pixel_data is not among the options")
        return burned

    def _verified(self, data_set: Dataset, pixels: Written, cleaner: DictionaryCleaner) -> Made:
        """What came of it, read again from its bytes and looked through once more."""
        prefix = file_meta.write(
            file_meta.FileMeta(pixels.syntax, str(data_set.SOPClassUID), str(data_set.SOPInstanceUID))
        )
        pieces: list[Piece] = [_encoded(data_set, pixels.syntax), *pixels.pieces]
        digest = hashlib.sha256(prefix)

        def noted() -> Iterator[bytes]:
            for block in self.blocks(pieces):
                digest.update(block)
                yield block

        try:
            extract = part10.extract(Blocks(noted()), pixels.syntax, self._source.limits, part10.Announced())
        except Unreadable as error:
            raise NotDeidentified(f"what came of it cannot be read: {type(error).__name__}") from error
        left = sorted(residues(json_model.loads(extract.metadata), cleaner.identifiers))
        if left:
            # What the engine should have found: somebody has to look into it.
            _log.error("%s: an instance still named its patient in %s", self._definition.name, ", ".join(left))
            raise NotDeidentified(f"it still named its patient in {left[0]}")
        return Made([prefix, *pieces], len(prefix), extract, digest.hexdigest())

    def blocks(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """The bytes of pieces."""
        for piece in pieces:
            if isinstance(piece, Reference):
                span = ByteRange(piece.start, piece.start + piece.length)
                with self._source.objects.open(piece.key, span) as reader:
                    yield from reader.blocks()
                continue
            for made in body_blocks([piece], _BLOCK_BYTES):
                yield bytes(made)


def _encoded(data_set: Dataset, syntax: str) -> bytes:
    """A data set without its pixels, as bytes. Raises NotDeidentified."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, syntax == file_meta.IMPLICIT_VR_LITTLE_ENDIAN
    try:
        write_dataset(out, data_set)
    except Exception as error:  # whatever a library makes of what was let in: it is not shown
        raise NotDeidentified(f"its data set cannot be written: {type(error).__name__}") from error
    return bytes(out.getvalue())
