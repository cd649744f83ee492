"""Ingest: what C-STORE and STOW-RS do with an instance that has arrived whole."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.audit.events import AuditEvent
from gateway.context import Caller
from gateway.errors import DuplicateRefused, Forbidden, Misplaced, StudyMismatch
from gateway.services.room import Room
from gateway.services.spool import Spooled
from gateway.services.underway import UnderWay
from storage.archive import Archive, Sender
from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING, matches
from storage.errors import MissingAttribute, ReadOnly
from storage.index import rows
from storage.index.arrivals import Conflict, Conflicts, Outcome
from storage.index.questions import Target
from storage.index.stored import Existence


@dataclass(frozen=True, slots=True)
class Stored:
    """An instance that is durable and findable. ``outcome`` is STORED, NEW_VERSION, ALTERNATIVE or DUPLICATE."""

    study_uid: ids.StudyUid
    series_uid: ids.SeriesUid
    sop_uid: ids.SopUid
    sop_class_uid: ids.SopClassUid
    outcome: Outcome


class Identified(Exception):
    """A failure to store an instance whose UIDs could be read; ``reason`` is the error."""

    def __init__(self, reason: Exception, sop_class_uid: str, sop_uid: str) -> None:
        super().__init__("the instance was not stored")
        self.reason = reason
        self.sop_class_uid = sop_class_uid
        self.sop_uid = sop_uid


@dataclass(frozen=True, slots=True)
class Arrived:
    """An instance that has arrived whole; ``offset`` bytes stand before its data set.

    ``names_sender`` is whether the AE titles that it came from and to may be kept with it.
    """

    spooled: Spooled
    extract: part10.Extract
    offset: int
    names_sender: bool = True

    @classmethod
    def read(cls, spooled: Spooled, announced: part10.Announced | None, limits: Limits) -> Arrived:
        """Read it once. Raises storage.errors.Unreadable."""
        with spooled.open() as stream:
            meta, offset, _ = file_meta.read(stream, limits)
            stream.seek(offset)
            extract = part10.extract(
                stream,
                meta.transfer_syntax_uid,
                limits,
                announced or part10.Announced(meta.sop_class_uid, meta.sop_uid),
            )
        return cls(spooled, extract, offset)


class Arriving(Protocol):
    """What becomes of an instance before it is stored."""

    def told(self, caller: Caller, tenant: ids.Tenant, uids: Sequence[str]) -> tuple[str, ...]:
        """What may be kept of the UIDs of something that arrives."""
        ...

    def changes(self, caller: Caller, tenant: ids.Tenant) -> bool:
        """Whether something else is stored than arrives."""
        ...

    def becoming(self, caller: Caller, tenant: ids.Tenant, arrived: Arrived) -> AbstractContextManager[Arrived]:
        """What is to be stored, as long as the context lasts. Raises NotDeidentified."""
        ...


class AsItComes:
    """Stored as it comes."""

    def told(self, _caller: Caller, _tenant: ids.Tenant, uids: Sequence[str]) -> tuple[str, ...]:
        """See Arriving."""
        return tuple(uids)

    def changes(self, _caller: Caller, _tenant: ids.Tenant) -> bool:
        """See Arriving."""
        return False

    def becoming(self, _caller: Caller, _tenant: ids.Tenant, arrived: Arrived) -> AbstractContextManager[Arrived]:
        """See Arriving."""
        return nullcontext(arrived)


class IngestService:
    """Reads, checks and keeps instances.

    Parameters
    ----------
    arriving
        What becomes of them before.
    """

    def __init__(
        self,
        archive: Archive,
        door: Door,
        limits: Limits,
        conflicts: Conflicts,
        room: Room,
        *,
        read_only: bool = False,
        arriving: Arriving | None = None,
    ) -> None:
        self._arriving = arriving or AsItComes()
        self._archive = archive
        self._door = door
        self._limits = limits
        self._conflicts = conflicts
        self._room = room
        self._read_only = read_only

    def enter(self, caller: Caller, subject: tuple[str, ...] = ()) -> Decision:
        """Ask to store; one decision serves all instances of a request or association. Raises ReadOnly, StorageFull."""
        told = self._arriving.told(caller, ids.Tenant(caller.principal.tenant), subject)
        decision = self._door.enter(caller, Action.STORE, told)
        self.check()
        return decision

    def check(self) -> None:
        """Whether anything can be stored now. Raises ReadOnly, StorageFull."""
        if self._read_only:
            raise ReadOnly("this gateway only reads; send to the one that writes the archive")
        self._room.check_disks()

    def under_way(self, caller: Caller, announced: part10.Announced | None = None) -> UnderWay | None:
        """Who sends an instance of the caller's into the archive while it arrives; None when it has to wait.

        Nothing that is changed before it is stored gets there as it came.
        """
        tenant = ids.Tenant(caller.principal.tenant)
        if self._read_only or not self._door.is_open(caller, Action.STORE) or self._arriving.changes(caller, tenant):
            return None
        return UnderWay(self._archive, tenant, _sender(caller), self._limits, announced)

    def enter_by_command(self, caller: Caller, tenant: ids.Tenant) -> Decision:
        """Store into a tenant by a command of the command line. Raises ReadOnly."""
        decision = self._door.enter_by_itself(caller, Action.STORE, tenant)
        if self._read_only:
            raise ReadOnly("this gateway only reads; import where the one that writes the archive is")
        return decision

    def holds(self, decision: Decision, spooled: Spooled) -> bool:
        """Whether an instance that has arrived is known already; keeps nothing.

        Raises storage.errors.Unreadable, NotDeidentified.
        """
        arrived = self.read(spooled, None)
        with self._arriving.becoming(decision.caller, decision.tenant, arrived) as kept:
            extract = kept.extract
            key = ids.InstanceKey(decision.tenant, extract.study_uid, extract.series_uid, extract.sop_uid)
            return self._archive.index.holds(key, extract.canonical_digest)

    def store(
        self,
        decision: Decision,
        spooled: Spooled,
        announced: part10.Announced | None = None,
        study_uid: ids.StudyUid | None = None,
        *,
        conflict: Conflict | None = None,
        version: ids.Version | None = None,
    ) -> Stored:
        """Keep one instance; on return it is durable and findable.

        Parameters
        ----------
        spooled
            A Part 10 file, or a bare data set.
        announced
            What a command set said of it; without it, what its File Meta Information says.
        study_uid
            The study that the request named, if it did.
        conflict
            In place of what the tenant has for instances that are known with other content.
        version
            Given when it came, where instances that came one after the other are stored side by side.

        Raises
        ------
        Identified
            From the error, when the UIDs of the instance could be read.
        storage.errors.Unreadable
            When they could not.
        """
        try:
            self._room.check_disks()
            arrived = self.read(spooled, announced)
        except MissingAttribute as error:
            self._refused(decision, error, (error.sop_uid,) if error.sop_uid else ())
            if not error.sop_uid:
                raise
            raise Identified(error, error.sop_class_uid, error.sop_uid) from error
        except Exception as error:
            self._refused(decision, error, ())
            raise
        extract = arrived.extract
        try:
            if study_uid is not None and extract.study_uid != study_uid:
                raise StudyMismatch("the instance is not of the study that the request names")
            with self._arriving.becoming(decision.caller, decision.tenant, arrived) as kept:
                return self._keep(
                    decision, kept, conflict or self._conflicts.of(decision.tenant), version or self.new_version()
                )
        except Exception as error:
            self._refused(decision, error, (extract.study_uid, extract.series_uid, extract.sop_uid))
            raise Identified(error, extract.sop_class_uid, extract.sop_uid) from error

    def _refused(self, decision: Decision, error: Exception, subject: tuple[str, ...]) -> None:
        """Leave a line about an instance that was not stored; which error it was, never what was in it."""
        told = self._arriving.told(decision.caller, decision.tenant, subject)
        event = AuditEvent(Action.STORE.value, "refused", decision.caller, decision.tenant, told, type(error).__name__)
        self._door.record(event)

    def _check_place(self, decision: Decision, extract: part10.Extract) -> None:
        """Refuse what would add to, or replace within, a study or series that the caller's scope does not hold.

        Else one instance with a fitting Modality would open another's study to a caller who knows its UID.
        """
        index = self._archive.index
        study = Target(decision.tenant, extract.study_uid)
        for target in (study, Target(decision.tenant, extract.study_uid, extract.series_uid)):
            there = index.existence(target, EVERYTHING) is not Existence.ABSENT
            if there and index.existence(target, decision.scope) is Existence.ABSENT:
                raise Forbidden("the instance is outside of what the caller may store")

    def in_turn(self, decision: Decision) -> bool:
        """Whether what comes later has to wait for what came before it: which of two is refused is told by that."""
        return self._conflicts.of(decision.tenant) is Conflict.REJECT

    def new_version(self) -> ids.Version:
        """A version for an instance that has come now."""
        return self._archive.new_version()

    def read(self, spooled: Spooled, announced: part10.Announced | None) -> Arrived:
        """What arrived. Raises Unreadable."""
        return Arrived.read(spooled, announced, self._limits)

    def _keep(self, decision: Decision, kept: Arrived, conflict: Conflict, version: ids.Version) -> Stored:
        extract = kept.extract
        sender = _sender(decision.caller) if kept.names_sender else Sender()
        check_scope(decision, extract, sender.sending_ae_title)
        if decision.scope != EVERYTHING:
            self._check_place(decision, extract)
        with self._room.arriving(decision.tenant, kept.spooled.size) as admit:
            commit = self._archive.store(
                decision.tenant,
                version,
                extract,
                kept.spooled.segments(kept.offset),
                sender,
                conflict,
                admit,
                begun=kept.spooled.begun,
            )
        subject = (extract.study_uid, extract.series_uid, extract.sop_uid)
        if commit.outcome is Outcome.REJECTED:
            raise DuplicateRefused(commit.reason)
        if commit.outcome is Outcome.MISPLACED:
            raise Misplaced(commit.reason)
        self._door.record(
            AuditEvent(Action.STORE.value, commit.outcome.value, decision.caller, decision.tenant, subject)
        )
        return Stored(*subject, extract.sop_class_uid, commit.outcome)


def _sender(caller: Caller) -> Sender:
    return Sender(caller.source.calling_ae_title, caller.source.called_ae_title)


def check_scope(decision: Decision, extract: part10.Extract, source_ae_title: str = "") -> None:
    """Raise Forbidden for an instance that would not be seen within the scope of who stores it."""
    if decision.scope == EVERYTHING:
        return
    record = rows.record(extract.data_set, Level.PATIENT, Level.STUDY, Level.SERIES)
    uids = {"study_uid": extract.study_uid, "series_uid": extract.series_uid}
    if not matches(decision.scope, {**record, **uids, **rows.sources(source_ae_title)}):
        raise Forbidden("the instance is outside of what the caller may store")
