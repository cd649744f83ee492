"""From a stored instance to the one that a view shows: the same pixels behind a de-identified header."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.deid.identifiers import DictionaryCleaner
from gateway.deid.pseudonyms import PseudonymousPatient
from gateway.errors import NotDeidentified
from gateway.viewing.definition import Definition, made_of
from gateway.viewing.notes import Notes
from gateway.viewing.opening import Opened
from gateway.viewing.pixels import Piece
from gateway.viewing.writing import InstanceWriter
from storage.dicom import identifiers as ids
from storage.errors import ObjectExists
from storage.index.arrivals import Arrival, Outcome
from storage.index.base import Index
from storage.index.stored import Located
from storage.objects.base import ObjectInfo
from storage.objects.spliced import Reference, SplicedObjectStore


def released(made: str) -> str:
    """The note that somebody answers for the pixels of an instance, by what it is made of in the view."""
    return f"released/{made}"


class Deriver:
    """Makes a view's instances of an archive's.

    Parameters
    ----------
    writer
        De-identifies what is read from the archive.
    index, objects
        The rows and objects of what the view shows; these can refer to the archive's.
    """

    def __init__(
        self, writer: InstanceWriter, index: Index, objects: SplicedObjectStore, definition: Definition, notes: Notes
    ) -> None:
        self._writer = writer
        self._index = index
        self._objects = objects
        self._definition = definition
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
        version = self._definition.version_of(located.version, revision)

        def answered_for() -> bool:
            return bool(self._notes.read(released(made_of(version)))[1])

        with self._writer.written(located, opened, patient, cleaner, answered_for) as made:
            extract = made.extract
            key = ids.InstanceKey(self._definition.tenant, extract.study_uid, extract.series_uid, extract.sop_uid)
            # The first piece has no bytes: it says of what instance this one is made.
            info = self._put(key.object_key(version), [Reference(located.object_key, 0, 0), *made.pieces])
            commit = self._index.commit(Arrival(key, version, extract, made.data_offset, info.size, made.sha256))
        if commit.outcome is Outcome.MISPLACED:
            self._objects.delete(key.object_key(version))
            raise NotDeidentified(f"it would stand in no study: {commit.reason}")

    def _put(self, key: str, body: Sequence[Piece]) -> ObjectInfo:
        """Put an object whose content follows from its key: one that was left without a row is the same, and goes."""
        try:
            return self._objects.put(key, body)
        except ObjectExists:
            self._objects.delete(key)
            return self._objects.put(key, body)
