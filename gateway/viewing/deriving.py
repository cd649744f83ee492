"""From a stored instance to the one that a view shows: the same pixels behind a de-identified header."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.deid.burned_in import BurnedIn, assess
from gateway.deid.engine import Deidentified, deidentify
from gateway.deid.identifiers import DictionaryCleaner
from gateway.deid.profile import Option
from gateway.deid.pseudonyms import PseudonymousPatient
from gateway.deid.verification import residues
from gateway.errors import NotDeidentified
from gateway.viewing.definition import Definition, made_of
from gateway.viewing.notes import Notes
from gateway.viewing.opening import Opened
from gateway.viewing.pixels import Piece, PixelWriter, Written, plain
from storage.archive import Archive
from storage.dicom import file_meta, json_model, part10
from storage.dicom import identifiers as ids
from storage.dicom.elements import Blocks
from storage.errors import ObjectExists, Unreadable
from storage.index.arrivals import Arrival, Outcome
from storage.index.base import Index
from storage.index.stored import Located
from storage.objects.base import ByteRange, ObjectInfo, body_blocks
from storage.objects.spliced import Reference, SplicedObjectStore

_log = logging.getLogger("gateway.viewing")

_BLOCK_BYTES = 1 << 20

SUSPECT = "text may be burned in"
"""Begins the reason for which an instance is withheld until somebody has looked at it."""


def released(made: str) -> str:
    """The note that somebody answers for the pixels of an instance, by what it is made of in the view."""
    return f"released/{made}"


class Deriver:
    """Makes a view's instances of an archive's.

    Parameters
    ----------
    source, index, objects
        The archive, and the rows and objects of what the view shows; these can refer to the archive's.
    pixels
        Writes their pixel data.
    """

    def __init__(
        self,
        source: Archive,
        index: Index,
        objects: SplicedObjectStore,
        definition: Definition,
        pixels: PixelWriter,
        notes: Notes,
    ) -> None:
        self._source = source
        self._index = index
        self._objects = objects
        self._definition = definition
        self._pixels = pixels
        self._notes = notes

    def derive(
        self, located: Located, opened: Opened, patient: PseudonymousPatient, cleaner: DictionaryCleaner, revision: int
    ) -> None:
        """Put an instance into the view; on return it is durable and findable there.

        Raises
        ------
        NotDeidentified
            It cannot be vouched for.
        storage.errors.StorageUnavailable
        """
        definition = self._definition
        burned = self._burned(located, opened)
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
        if opened.pixels is None:
            self._keep(located, found, Written(plain(located.transfer_syntax_uid), []), cleaner, revision)
            return
        with self._pixels.written(located, opened.pixels, found, burned) as pixels:
            self._keep(located, found, pixels, cleaner, revision)

    def _burned(self, located: Located, opened: Opened) -> BurnedIn:
        """What is to be done with the pixels. Raises NotDeidentified where nobody knows."""
        burned = assess(opened.data_set) if opened.pixels is not None else BurnedIn()
        if burned.suspect:
            made = made_of(self._definition.version_of(located.version, 0))
            if not self._notes.read(released(made))[1]:
                raise NotDeidentified(f"{SUSPECT}: {burned.suspect}")
        if burned.is_changed and Option.CLEAN_PIXEL_DATA not in self._definition.profile.options:
            raise NotDeidentified("text is known to be burned in, and the view does not clean pixel data")
        return burned

    def _keep(
        self, located: Located, found: Deidentified, pixels: Written, cleaner: DictionaryCleaner, revision: int
    ) -> None:
        header = _encoded(found.dataset, pixels.syntax)
        prefix = file_meta.write(
            file_meta.FileMeta(pixels.syntax, str(found.dataset.SOPClassUID), str(found.dataset.SOPInstanceUID))
        )
        pieces: list[Piece] = [header, *pixels.pieces]
        digest = hashlib.sha256(prefix)
        try:
            extract = part10.extract(
                Blocks(self._blocks(pieces, digest)), pixels.syntax, self._source.limits, part10.Announced()
            )
        except Unreadable as error:
            raise NotDeidentified(f"what came of it cannot be read: {type(error).__name__}") from error
        left = sorted(residues(json_model.loads(extract.metadata), cleaner.identifiers))
        if left:
            # What the engine should have found: somebody has to look into it.
            _log.error("view %s: an instance still named its patient in %s", self._definition.name, ", ".join(left))
            raise NotDeidentified(f"it still named its patient in {left[0]}")
        version = self._definition.version_of(located.version, revision)
        key = ids.InstanceKey(self._definition.tenant, extract.study_uid, extract.series_uid, extract.sop_uid)
        # The first piece has no bytes: it says of what instance this one is made.
        info = self._put(key.object_key(version), [Reference(located.object_key, 0, 0), prefix, *pieces])
        commit = self._index.commit(Arrival(key, version, extract, len(prefix), info.size, digest.hexdigest()))
        if commit.outcome is Outcome.MISPLACED:
            self._objects.delete(key.object_key(version))
            raise NotDeidentified(f"it would stand in no study: {commit.reason}")

    def _blocks(self, pieces: Sequence[Piece], digest: hashlib._Hash) -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Reference):
                span = ByteRange(piece.start, piece.start + piece.length)
                with self._source.objects.open(piece.key, span) as reader:
                    for block in reader.blocks():
                        digest.update(block)
                        yield block
                continue
            for made in body_blocks([piece], _BLOCK_BYTES):
                data = bytes(made)
                digest.update(data)
                yield data

    def _put(self, key: str, body: Sequence[Piece]) -> ObjectInfo:
        """Put an object whose content follows from its key: one that was left without a row is the same, and goes."""
        try:
            return self._objects.put(key, body)
        except ObjectExists:
            self._objects.delete(key)
            return self._objects.put(key, body)


def _encoded(data_set: Dataset, syntax: str) -> bytes:
    """A data set without its pixels, as bytes. Raises NotDeidentified."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, syntax == file_meta.IMPLICIT_VR_LITTLE_ENDIAN
    try:
        write_dataset(out, data_set)
    except Exception as error:  # whatever a library makes of what was let in: it is not shown
        raise NotDeidentified(f"its data set cannot be written: {type(error).__name__}") from error
    return bytes(out.getvalue())
