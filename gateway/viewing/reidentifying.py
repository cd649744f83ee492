"""From what a view shows back to what is stored: for a role of its own, and each time on the trail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.audit.events import AuditEvent
from gateway.context import OWN_KINDS, Caller
from gateway.errors import InvalidParameter, NotFound
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.attributes import BY_KEYWORD, Level
from storage.dicom.keys import single
from storage.dicom.matching import EVERYTHING
from storage.index.base import Index
from storage.index.questions import Search, Target
from storage.objects.spliced import SplicedObjectStore

_PATIENT_ID, _ISSUER, _NAME = "00100020", "00100021", "00100010"
_LEVELS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
KEYS = ("PatientID", *_LEVELS)
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Original:
    """What a study of a view is made of; ``series_uid`` and ``sop_uid`` where one was asked for."""

    study_uid: ids.StudyUid
    series_uid: ids.SeriesUid | None
    sop_uid: ids.SopUid | None
    patient_id: str
    issuer: str
    patient_name: str

    def told(self) -> Mapping[str, str]:
        """As JSON values, by keyword."""
        uids = zip(_LEVELS, (self.study_uid, self.series_uid, self.sop_uid), strict=True)
        return {
            **{keyword: uid for keyword, uid in uids if uid is not None},
            "PatientID": self.patient_id,
            "IssuerOfPatientID": self.issuer,
            "PatientName": self.patient_name,
        }


class Reidentification:
    """Answers whose pseudonyms are.

    Parameters
    ----------
    index
        The archive's.
    views
        What each view shows, by name.
    """

    def __init__(self, index: Index, views: Mapping[str, Archive], door: Door) -> None:
        self._index = index
        self._views = views
        self._door = door

    def find(self, caller: Caller, tenant: str, view: str, key: str, value: str) -> Sequence[Original]:
        """What stands behind a pseudonym: a Patient ID, or the UID of a study, series or instance, of a view.

        Raises
        ------
        InvalidParameter
            It is no such key, or no value of it.
        NotFound
            The view has no such pseudonym, or there is no such view.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        if key not in KEYS:
            raise InvalidParameter(f"one of {', '.join(KEYS)}")
        decision = self._enter(caller, tenant, (view, value))
        shown = self._views.get(view)
        if shown is None:
            raise NotFound("there is no such view")
        level = _LEVELS.index(key) if key in _LEVELS else 0
        found = [
            each
            for study_uid, sop_uid in self._instances(decision.tenant, shown, key, value)
            for each in self._original(decision, shown, study_uid, sop_uid, level)
        ]
        outcome = "found" if found else "not found"
        self._door.record(
            AuditEvent(
                Action.REIDENTIFY.value, outcome, caller, decision.tenant, tuple(each.study_uid for each in found)
            )
        )
        if not found:
            raise NotFound("the view has no such pseudonym")
        return found

    def _enter(self, caller: Caller, tenant: str, subject: tuple[str, ...]) -> Decision:
        if caller.principal.kind in OWN_KINDS:
            return self._door.enter_by_itself(caller, Action.REIDENTIFY, ids.Tenant(tenant), subject)
        decision = self._door.enter(caller, Action.REIDENTIFY, subject)
        if decision.tenant != tenant:
            raise NotFound("there is no such tenant")
        return decision

    def _instances(
        self, tenant: ids.Tenant, shown: Archive, key: str, value: str
    ) -> Iterator[tuple[ids.StudyUid, ids.SopUid | None]]:
        """The studies, or the one instance, of a view that a pseudonym names."""
        # As it stands: a wildcard would tell of everybody at once.
        condition = single(BY_KEYWORD[key], value)
        level = Level.INSTANCE if key in _LEVELS[1:] else Level.STUDY
        limit = 1 if level is Level.INSTANCE else _MOST
        for row in shown.index.search(Search(tenant, level, (condition,), limit=limit, versions=False)):
            yield row.study_uid, row.sop_uid

    def _original(
        self, decision: Decision, shown: Archive, study_uid: ids.StudyUid, sop_uid: ids.SopUid | None, level: int
    ) -> Iterator[Original]:
        located = shown.index.locate(Target(decision.tenant, study_uid, None, sop_uid), EVERYTHING)
        assert isinstance(shown.objects, SplicedObjectStore)
        for each in located[:1]:
            key, _ = ids.parse_object_key(shown.objects.references(each.object_key)[0].key)
            target = Target(key.tenant, key.study_uid, key.series_uid, key.sop_uid)
            stored = self._index.locate(target, decision.scope)
            for text in self._index.metadata([one.version_id for one in stored]):
                data_set = json_model.loads(text)
                yield Original(
                    key.study_uid,
                    key.series_uid if level >= 1 else None,
                    key.sop_uid if level >= 2 else None,
                    json_model.text_of(data_set, _PATIENT_ID) or "",
                    json_model.text_of(data_set, _ISSUER) or "",
                    _name(data_set),
                )


def _name(data_set: json_model.JsonDataSet) -> str:
    values = data_set.get(_NAME, {}).get("Value") or [{}]
    return "=".join(str(values[0][group]) for group in ("Alphabetic", "Ideographic", "Phonetic") if group in values[0])
