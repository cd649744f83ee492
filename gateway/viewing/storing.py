"""What is stored into a view: objects made on de-identified data, given back the identity of what they are about.

A segmentation or a report that somebody made of a view's images names these by pseudonyms, and its patient too. In the
archive it has to name the originals; the view then shows it under pseudonyms again, as everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO

import pydicom
from pydicom import config
from pydicom.dataset import Dataset

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.context import Caller
from gateway.deid import markers
from gateway.deid.uids import WELL_KNOWN
from gateway.errors import DuplicateRefused, Forbidden, PayloadTooLarge, StudyMismatch
from gateway.services.ingest import Identified, IngestService, Stored, check_scope
from gateway.services.spool import Spool, Spooled
from gateway.services.underway import UnderWay
from gateway.viewing.definition import Definition
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom import json_model, part10
from storage.dicom.attributes import STORED_TAGS, Level
from storage.dicom.matching import EVERYTHING
from storage.errors import MalformedDataSet
from storage.index.questions import Target
from storage.objects.spliced import SplicedObjectStore

MAX_BYTES = 64 << 20
"""What is stored into a view is looked through as a whole."""

_OF_PATIENT_AND_STUDY = frozenset(
    int(tag, 16) for tag in STORED_TAGS[Level.PATIENT] | STORED_TAGS[Level.STUDY] if tag != "0020000D"
)
_MOST_LOOKED_INTO = 50


class ViewIngest:
    """Stores into one view; the same calls as ``IngestService``.

    Parameters
    ----------
    source, shown
        The archive, and what the view shows.
    ingest
        The archive's, for what is stored as it comes.
    """

    def __init__(
        self,
        source: Archive,
        shown: Archive,
        definition: Definition,
        door: Door,
        ingest: IngestService,
        spool: Spool,
    ) -> None:
        self._source = source
        self._shown = shown
        self._definition = definition
        self._door = door
        self._ingest = ingest
        self._spool = spool

    def enter(self, caller: Caller, subject: tuple[str, ...] = ()) -> Decision:
        """Ask to store into the view; one decision serves a request. Raises Forbidden, AuditUnavailable, ReadOnly."""
        decision = self._door.enter(caller, Action.STORE, subject)
        self._ingest.check()
        return decision

    def under_way(self, caller: Caller, announced: part10.Announced | None = None) -> UnderWay | None:  # noqa: ARG002
        """See Ingest. What is stored through a view gets other names first."""
        return None

    def in_turn(self, decision: Decision) -> bool:
        """See Ingest."""
        return self._ingest.in_turn(decision)

    def new_version(self) -> ids.Version:
        """See Ingest."""
        return self._ingest.new_version()

    def store(
        self,
        decision: Decision,
        spooled: Spooled,
        announced: part10.Announced | None = None,
        study_uid: ids.StudyUid | None = None,
        *,
        version: ids.Version | None = None,
    ) -> Stored:
        """Keep one instance under the identity of what it is about; it comes back by the names that it has in the view.

        It has to belong to a study that the caller sees in the view, and may not take the place of an instance there.

        Raises
        ------
        Identified
            From the error, when the UIDs of the instance could be read; as ``IngestService.store``.
        """
        if spooled.size > MAX_BYTES:
            raise PayloadTooLarge(f"more than {MAX_BYTES} bytes cannot be stored into a view")
        extract = self._ingest.read(spooled, announced).extract
        try:
            if study_uid is not None and extract.study_uid != study_uid:
                raise StudyMismatch("the instance is not of the study that the request names")
            check_scope(decision, extract)
            body = self._under_its_own_name(decision, _read(spooled), extract)
        except Exception as error:
            raise Identified(error, extract.sop_class_uid, extract.sop_uid) from error
        spooling = self._spool.begin()
        spooling.write(body)
        with spooling.finish() as identified:
            stored = self._ingest.store(
                Decision(decision.caller, decision.action, decision.tenant, EVERYTHING, decision.view, decision.access),
                identified,
                announced,
                version=version,
            )
        uid = self._definition.uid
        return Stored(
            ids.StudyUid(uid(stored.study_uid)),
            ids.SeriesUid(uid(stored.series_uid)),
            ids.SopUid(uid(stored.sop_uid)),
            stored.sop_class_uid,
            stored.outcome,
        )

    def _under_its_own_name(self, decision: Decision, data_set: Dataset, extract: part10.Extract) -> bytes:
        uids = set(_uids(data_set))
        known = self._known(decision, extract.study_uid, uids)
        if extract.sop_uid in known:
            raise DuplicateRefused("an instance that the view shows cannot be replaced through it")
        original = self._original(known[extract.study_uid])
        known |= self._others(original, uids - known.keys())
        _rename(data_set, known)
        _identify(data_set, json_model.loads(original[0]))
        out = BytesIO()
        pydicom.dcmwrite(out, data_set, enforce_file_format=False)
        return out.getvalue()

    def _known(self, decision: Decision, named: ids.StudyUid, uids: set[str]) -> dict[str, str]:
        """The originals of the study, and of every series and instance that is named. Raises Forbidden."""
        found: dict[str, str] = {}
        index, tenant = self._shown.index, decision.tenant
        there = list(index.locate(Target(tenant, named), decision.scope))[:1]
        there += index.locate_instances(tenant, [ids.SopUid(uid) for uid in sorted(uids)], decision.scope)
        assert isinstance(self._shown.objects, SplicedObjectStore)
        for each in there:
            key, _ = ids.parse_object_key(self._shown.objects.references(each.object_key)[0].key)
            found |= {
                each.key.study_uid: key.study_uid,
                each.key.series_uid: key.series_uid,
                each.key.sop_uid: key.sop_uid,
            }
        if named not in found:
            raise Forbidden("only what is about a study that is seen in the view can be stored into it")
        return found

    def _original(self, study_uid: str) -> list[bytes]:
        """What the archive says of instances of a study."""
        target = Target(self._definition.tenant, ids.StudyUid(study_uid))
        located = self._source.index.locate(target, EVERYTHING)[:_MOST_LOOKED_INTO]
        return list(self._source.index.metadata([each.version_id for each in located]))

    def _others(self, original: list[bytes], uids: set[str]) -> dict[str, str]:
        """Originals of other UIDs, such as frames of reference: the archive's are tried forwards."""
        found: dict[str, str] = {}
        wanted = {uid for uid in uids if uid not in WELL_KNOWN}
        for text in original:
            if not wanted - found.keys():
                break
            for uid in _uids_of(json_model.loads(text)):
                shown = self._definition.uid(uid)
                if shown in wanted:
                    found[shown] = uid
        return found


def _read(spooled: Spooled) -> Dataset:
    try:
        with spooled.open() as stream, config.disable_value_validation():
            found = pydicom.dcmread(stream)
            found.decode()
    except Exception as error:  # whatever a library makes of what was sent
        raise MalformedDataSet("the instance cannot be read") from error
    return found


def _uids(data_set: Dataset) -> Iterator[str]:
    for element in data_set.iterall():
        if element.VR == "UI" and element.value:
            values = [element.value] if isinstance(element.value, str) else element.value
            yield from (str(value) for value in values)


def _uids_of(data_set: json_model.JsonDataSet) -> Iterator[str]:
    for element in data_set.values():
        if element.get("vr") == "UI":
            yield from (str(value) for value in element.get("Value", ()))
        elif element.get("vr") == "SQ":
            for item in element.get("Value", ()):
                yield from _uids_of(item)


def _rename(data_set: Dataset, known: Mapping[str, str]) -> None:
    """Name originals wherever a pseudonym stands."""
    for element in data_set.iterall():
        if element.VR != "UI" or not element.value:
            continue
        if isinstance(element.value, str):
            element.value = known.get(str(element.value), element.value)
        else:
            element.value = [known.get(str(value), value) for value in element.value]


def _identify(data_set: Dataset, metadata: json_model.JsonDataSet) -> None:
    """Say of patient and study what the archive says, and no more that the identity was removed."""
    said = {tag: each for tag, each in metadata.items() if int(tag, 16) in _OF_PATIENT_AND_STUDY}
    original = Dataset.from_json(said)
    for tag in sorted(_OF_PATIENT_AND_STUDY):
        if tag in original:
            data_set[tag] = original[tag]
        elif tag in data_set:
            del data_set[tag]
    for tag in markers.WRITTEN:
        if tag in data_set:
            del data_set[tag]
    data_set.SpecificCharacterSet = "ISO_IR 192"
