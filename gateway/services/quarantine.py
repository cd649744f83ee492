"""The quarantine: what is in it and why, what it contradicts, and how it comes out, stored after all or discarded."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.audit import reading
from gateway.audit.events import AuditEvent
from gateway.audit.reading import Bound, Wanted
from gateway.context import OWN_KINDS, Caller
from gateway.errors import DuplicateRefused, Forbidden, Misplaced, NotFound
from gateway.services import contacts
from gateway.services.hold import refuse_held
from gateway.services.ingest import Arrived
from gateway.services.room import Room
from gateway.services.spool import Spool, Spooled
from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import file_meta, json_model
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.errors import ObjectNotFound, ReadOnly, Unreadable
from storage.index.arrivals import Conflicts, Outcome, Quarantined
from storage.index.questions import Target
from storage.index.stored import Located

_HEAD_BYTES = 1 << 14
_STORED, _REFUSED = frozenset((Action.STORE.value,)), frozenset(("refused",))
_OF_PATIENT = {
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientName": "00100010",
    "PatientBirthDate": "00100030",
    "PatientSex": "00100040",
    "StudyInstanceUID": "0020000D",
    "AccessionNumber": "00080050",
    "StudyDate": "00080020",
    "StudyDescription": "00081030",
}
_OF_INSTANCE = {
    "SeriesInstanceUID": "0020000E",
    "Modality": "00080060",
    "SOPClassUID": "00080016",
    "SOPInstanceUID": "00080018",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One instance in quarantine, and the AE title that it came from, "" where its file names none.

    ``principal`` and ``address`` are of who sent it, as far as the last records of the trail have it; else "".
    """

    quarantined: Quarantined
    source_ae_title: str
    principal: str = ""
    address: str = ""

    @property
    def received_at_s(self) -> float:
        """When it came, in seconds since 1970-01-01 UTC."""
        return ids.version_time_s(self.quarantined.version)

    def fields(self, timespec: str) -> dict[str, str]:
        """What is told of it, by name; ``timespec`` of ISO 8601 says how exactly the time is."""
        found = self.quarantined
        received = datetime.datetime.fromtimestamp(self.received_at_s, datetime.UTC)
        return {
            "version": found.version,
            "received": received.isoformat(timespec=timespec),
            "source": self.source_ae_title,
            "principal": self.principal,
            "address": self.address,
            "reason": found.reason,
            "study": found.key.study_uid,
            "series": found.key.series_uid,
            "instance": found.key.sop_uid,
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """An attribute as the instance in quarantine has it, and as the archive does."""

    keyword: str
    here: str
    archive: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """``against`` says what the instance was compared with; "" where there is nothing any more."""

    item: Item
    against: str
    compared: Sequence[Compared]


class QuarantineService:
    """The quarantine for who administers a tenant, all of it: what stands in no study is in nobody's scope."""

    def __init__(
        self,
        archive: Archive,
        spool: Spool,
        room: Room,
        conflicts: Conflicts,
        door: Door,
        directories: Callable[[], Sequence[Path]],
        *,
        read_only: bool = False,
    ) -> None:
        self._archive = archive
        self._spool = spool
        self._room = room
        self._conflicts = conflicts
        self._door = door
        self._directories = directories
        self._read_only = read_only

    def listed(self, caller: Caller, tenant: ids.Tenant, after: str, limit: int) -> tuple[list[Item], int]:
        """Some of it, oldest first, after a version, and how many there are in all.

        Raises Forbidden, AuditUnavailable, storage.errors.StorageUnavailable.
        """
        self._enter(caller, tenant, Action.ADMIN, ("quarantine",))
        every = self._archive.index.quarantined(tenant)
        return self._items([each for each in every if each.version > after][:limit]), len(every)

    def inspect(self, caller: Caller, tenant: ids.Tenant, version: ids.Version) -> Inspection:
        """Compare one with what the archive has; shows who the patients are, so it takes the right to read as well.

        Raises
        ------
        NotFound
            It is not in quarantine.
        storage.errors.Unreadable
            It cannot be read any more.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        self._enter(caller, tenant, Action.ADMIN, ("quarantine", version))
        item = self._find(tenant, version)
        key = item.key
        self._enter(caller, tenant, Action.READ, (key.study_uid, key.series_uid, key.sop_uid))
        with self._copied(item) as (_, arrived, _meta):
            here = arrived.extract.data_set
        index = self._archive.index
        same = index.locate_instances(tenant, [key.sop_uid], EVERYTHING)
        if same:
            against, attributes = "the instance of the same SOP Instance UID", {**_OF_PATIENT, **_OF_INSTANCE}
        else:
            same = index.locate(Target(tenant, key.study_uid), EVERYTHING)[:1]
            against, attributes = ("the study of the same Study Instance UID" if same else ""), _OF_PATIENT
        there = self._metadata(same[0]) if same else {}
        compared = [Compared(name, _text(here, tag), _text(there, tag)) for name, tag in attributes.items()]
        (told,) = self._items([item])
        return Inspection(told, against, compared)

    def release(self, caller: Caller, tenant: ids.Tenant, version: ids.Version) -> Outcome:
        """Store one as if it were sent again: after the cause was put right it stands where it belongs.

        It keeps the AE titles of its sender, and is not de-identified again where that was done before it was stored.

        Raises
        ------
        NotFound
            It is not in quarantine.
        Misplaced
            It contradicts the archive as before, and stays in quarantine.
        DuplicateRefused
            The tenant keeps the first of two; it stays in quarantine.
        Forbidden, ReadOnly, QuotaExceeded, AuditUnavailable, storage.errors.StorageError
        """
        self._enter(caller, tenant, Action.ADMIN, ("quarantine", version))
        self._check_writes()
        item = self._find(tenant, version)
        self._room.check_disks()
        with self._copied(item) as (spooled, arrived, meta):
            sender = Sender(meta.sending_ae_title, meta.receiving_ae_title, meta.source_ae_title)
            with self._room.arriving(tenant, spooled.size) as admit:
                commit = self._archive.store(
                    tenant,
                    self._archive.new_version(),
                    arrived.extract,
                    spooled.segments(arrived.offset),
                    sender,
                    self._conflicts.of(tenant),
                    admit,
                    keeps_misplaced=False,
                )
        if commit.outcome is Outcome.MISPLACED:
            self._record(caller, item, "release refused", commit.reason)
            raise Misplaced(f"it stays in quarantine: {commit.reason}")
        if commit.outcome is Outcome.REJECTED:
            self._record(caller, item, "release refused", commit.reason)
            raise DuplicateRefused(f"it stays in quarantine: {commit.reason}")
        reconcile.remove(self._archive, item)
        self._record(caller, item, "released from quarantine", commit.outcome.value)
        return commit.outcome

    def discard(self, caller: Caller, tenant: ids.Tenant, version: ids.Version) -> None:
        """Remove one for good: its sender was told that it is not stored, and has its copy.

        Raises
        ------
        NotFound
            It is not in quarantine.
        UnderHold
            A hold is on its study.
        Forbidden, ReadOnly, AuditUnavailable, storage.errors.StorageUnavailable
        """
        self._enter(caller, tenant, Action.ADMIN, ("quarantine", version))
        self._check_writes()
        item = self._find(tenant, version)
        refuse_held(self._archive, tenant, [item.key.study_uid])
        # Before it is done, since afterwards nothing tells what it was.
        self._record(caller, item, "discarded from quarantine", item.reason)
        reconcile.remove(self._archive, item)

    def _enter(self, caller: Caller, tenant: ids.Tenant, action: Action, subject: tuple[str, ...]) -> None:
        if caller.principal.kind in OWN_KINDS:
            self._door.enter_by_itself(caller, action, tenant, subject)
            return
        decision = self._door.enter(caller, action, subject)
        if decision.tenant != tenant:
            raise NotFound("there is no such tenant")
        if decision.scope != EVERYTHING:
            raise Forbidden(f"the quarantine is for who may {action.value} without bounds of scope")

    def _check_writes(self) -> None:
        if self._read_only:
            raise ReadOnly("this gateway only reads; ask the one that writes the archive")

    def _find(self, tenant: ids.Tenant, version: ids.Version) -> Quarantined:
        for each in self._archive.index.quarantined(tenant):
            if each.version == version:
                return each
        raise NotFound("there is no such instance in quarantine")

    def _items(self, found: Sequence[Quarantined]) -> list[Item]:
        senders = self._senders(found)
        return [Item(each, self._source(each), *senders.get(each.version, ("", ""))) for each in found]

    def _source(self, found: Quarantined) -> str:
        try:
            head = self._archive.objects.read_at(found.object_key, 0, _HEAD_BYTES).data
            meta, _, _ = file_meta.read(io.BytesIO(head), self._archive.limits)
        except (ObjectNotFound, Unreadable):
            return ""
        return meta.source_ae_title or meta.sending_ae_title

    def _senders(self, found: Sequence[Quarantined]) -> dict[ids.Version, tuple[str, str]]:
        """Principal and address by version: of the first refusal of the instance since it came."""
        if not found:
            return {}
        came = {each.version: _moment(each.version) for each in found}
        of: dict[str, list[Quarantined]] = {}
        for each in found:
            of.setdefault(each.key.sop_uid, []).append(each)
        tenant = found[0].key.tenant
        wanted = Wanted(min(came.values()), actions=_STORED, outcomes=_REFUSED, tenant=tenant)
        senders: dict[ids.Version, tuple[str, str]] = {}
        with suppress(Bound, FileNotFoundError):
            for record in reading.search(self._directories(), wanted, contacts.MOST_LOOKED_AT):
                fields = record.fields
                for each in (each for uid in fields.get("subject", ()) for each in of.get(uid, ())):
                    if record.time >= came[each.version]:
                        senders[each.version] = str(fields.get("principal", "")), str(fields.get("address", ""))
        return senders

    def _metadata(self, located: Located) -> json_model.JsonDataSet:
        for body in self._archive.index.metadata([located.version_id]):
            found: json_model.JsonDataSet = json_model.loads(body)
            return found
        return {}

    @contextmanager
    def _copied(self, item: Quarantined) -> Iterator[tuple[Spooled, Arrived, file_meta.FileMeta]]:
        """The object as something that arrives, as long as the block lasts."""
        spooling = self._spool.begin()
        try:
            with self._archive.objects.open(item.object_key) as reader:
                for block in reader.blocks():
                    spooling.write(block)
        except BaseException:
            spooling.discard()
            raise
        with spooling.finish() as spooled:
            arrived = Arrived.read(spooled, None, self._archive.limits)
            with spooled.open() as stream:
                meta, _, _ = file_meta.read(stream, self._archive.limits)
            yield spooled, arrived, meta

    def _record(self, caller: Caller, item: Quarantined, outcome: str, detail: str) -> None:
        key = item.key
        subject = (key.study_uid, key.series_uid, key.sop_uid)
        self._door.record(AuditEvent(Action.ADMIN.value, outcome, caller, key.tenant, subject, detail))


def _moment(version: ids.Version) -> str:
    """When a version was given, as the trail writes times."""
    return datetime.datetime.fromtimestamp(ids.version_time_s(version), datetime.UTC).isoformat(timespec="milliseconds")


def _text(data_set: json_model.JsonDataSet, tag: str) -> str:
    """The values of an attribute as a person reads them; "" where there is none."""
    return "\\".join(_one(each) for each in data_set.get(tag, {}).get("Value", ()))


def _one(value: object) -> str:
    if isinstance(value, dict):  # PN: the groups that there are (PS3.18 F.2.2)
        return "=".join(str(value[group]) for group in ("Alphabetic", "Ideographic", "Phonetic") if value.get(group))
    return "" if value is None else str(value)
