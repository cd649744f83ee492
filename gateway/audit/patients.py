"""Whose a study is, for messages and resources: asked of the index, since the trail does not say."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from gateway.audit.atna import Patient
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.attributes import Level
from storage.dicom.matching import OneOf
from storage.errors import InvalidIdentifier, StorageError
from storage.index.base import Index
from storage.index.questions import Search

_KEPT = 4096
_PATIENT_ID, _ISSUER = "00100020", "00100021"


class IndexPatients:
    """Asks the index, which is opened at the first question; an answer is kept for a while. Safe from several threads.

    A study that the index does not know, or an index that does not answer, is nobody's.
    """

    def __init__(self, open_index: Callable[[], Index]) -> None:
        self._open_index = open_index
        self._index: Index | None = None
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Patient] = OrderedDict()

    def __call__(self, tenant: str, study: str) -> Patient | None:
        """The patient of a study."""
        with self._lock:
            found = self._kept.get((tenant, study))
            if found is not None:
                return found
            try:
                found = self._asked(tenant, study)
            except (StorageError, InvalidIdentifier):
                return None
            if found is not None:
                self._kept[tenant, study] = found
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return found

    def _asked(self, tenant: str, study: str) -> Patient | None:
        self._index = self._index or self._open_index()
        wanted = OneOf("StudyInstanceUID", (ids.study_uid(study),))
        rows = self._index.search(Search(ids.tenant(tenant), Level.STUDY, (wanted,), limit=1, versions=False))
        if not rows:
            return None
        found = json_model.loads(rows[0].attributes[0])
        patient_id, issuer = (_value(found, tag) for tag in (_PATIENT_ID, _ISSUER))
        return Patient(patient_id, issuer) if patient_id else None

    def close(self) -> None:
        """Let go of the index. Idempotent."""
        with self._lock:
            if self._index is not None:
                self._index.close()
                self._index = None


def _value(data_set: json_model.JsonDataSet, tag: str) -> str:
    values = data_set.get(tag, {}).get("Value") or [""]
    return str(values[0])
