"""A large instance is on its way into the object store while it still arrives."""

from __future__ import annotations

from pathlib import Path

from storage.archive import Archive, Begun, Sender
from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.errors import StorageError

WORTH_BYTES = 16 << 20
"""Of which there are fewer, those go up in a moment once they are here."""


class UnderWay:
    """Follows one arrival in the spool.

    What an instance is stands at its beginning; whether it may be stored, and is what it seemed, is seen when it is
    whole. Until then nobody finds it, and what is refused is never an object.

    Parameters
    ----------
    announced
        What a command set said of it; without it, what its File Meta Information says.
    """

    def __init__(
        self,
        archive: Archive,
        tenant: ids.Tenant,
        sender: Sender,
        limits: Limits,
        announced: part10.Announced | None = None,
    ) -> None:
        self._archive = archive
        self._tenant = tenant
        self._sender = sender
        self._limits = limits
        self._announced = announced
        self._is_asked = False
        self.begun: Begun | None = None

    def grown(self, file: Path, size: int) -> None:
        """So many bytes are in the file. Never raises: what is wrong is told when the instance is stored."""
        if not self._is_asked and size >= WORTH_BYTES:
            self._is_asked = True
            try:
                self.begun = self._begin(file)
            except (StorageError, OSError):
                return
        if self.begun is not None:
            self.begun.draft.grown(size - self.begun.start)

    def abandon(self) -> None:
        """It is not stored, or not by this. Returns at once; idempotent, and nothing after it was stored."""
        if self.begun is not None:
            self.begun.draft.abandon()

    def _begin(self, file: Path) -> Begun | None:
        with file.open("rb", buffering=0) as stream:
            meta, start, _ = file_meta.read(stream, self._limits)
            stream.seek(start)
            announced = self._announced or part10.Announced(meta.sop_class_uid, meta.sop_uid)
            study_uid, series_uid, sop_uid, sop_class_uid = part10.identity(
                stream, meta.transfer_syntax_uid, self._limits, announced
            )
        key = ids.InstanceKey(self._tenant, study_uid, series_uid, sop_uid)
        seen = file_meta.FileMeta(meta.transfer_syntax_uid, sop_class_uid, sop_uid)
        return self._archive.begin(key, seen, file, start, self._sender)
