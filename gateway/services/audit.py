"""The audit trail for who may read it: records of its tenant, by what they are about."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.audit import chain, reading
from gateway.audit.coverage import LiveCoverage
from gateway.audit.reading import Bound, Record, Wanted
from gateway.audit.verifying import Verification
from gateway.context import Caller
from gateway.errors import NotFound, PayloadTooLarge
from storage.index.base import Index

MOST_VERIFIED_BYTES = 256 << 20
"""Files that are verified for who waits at a page: some seconds' work. The command has no bound."""

MOST_LOOKED_AT = 100_000
"""Records that one search looks at, before it gives what it has found and where to go on."""


@dataclass(frozen=True, slots=True)
class PatientWanted:
    """A patient by Patient ID and Issuer of Patient ID ("" for none)."""

    patient_id: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Records, latest first; ``after`` is the place to go on from, None at the end.

    ``gap`` says what may be missing, as its hosts' files are not read here; "" for nothing.
    """

    records: Sequence[Record]
    after: tuple[str, str, int] | None
    gap: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What verifying the files from a day on (YYYYMMDD) found; ``gap`` as of a page."""

    since: str
    found: Verification
    gap: str


class AuditService:
    """Reads the trails in this gateway's directories. Records of no tenant are for commands on the host alone."""

    def __init__(
        self,
        directories: Callable[[], Sequence[Path]],
        index: Index,
        door: Door,
        coverage: LiveCoverage,
        verify: Callable[[str], Verification],
    ) -> None:
        self._directories = directories
        self._index = index
        self._door = door
        self._coverage = coverage
        self._verify = verify

    def search(
        self,
        caller: Caller,
        wanted: Wanted,
        patients: Sequence[PatientWanted] = (),
        admits: Callable[[Record], bool] = lambda _: True,
        limit: int = 100,
        asked: str = "",
    ) -> Page:
        """A page of records.

        Parameters
        ----------
        patients
            Of whose studies a record has to be: those that the index knows of one of them.
        admits
            What more is asked of a record.
        asked
            The question as the trail shall have it.

        Raises
        ------
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        decision = self._door.enter(caller, Action.AUDIT_READ, (), asked)
        if patients:
            of_them: set[str] = set()
            for each in patients:
                of_them.update(self._index.studies_of(decision.tenant, each.issuer, each.patient_id))
            studies = of_them if wanted.studies is None else of_them & wanted.studies
            wanted = replace(wanted, studies=frozenset(studies))
        gap = self._coverage.current().of(wanted.since, wanted.until).gap
        found: list[Record] = []
        try:
            for record in reading.search(self._directories(), replace(wanted, tenant=decision.tenant), MOST_LOOKED_AT):
                if not admits(record):
                    continue
                if len(found) == limit:
                    return Page(found, found[-1].place if found else record.place, gap)
                found.append(record)
        except Bound as bound:
            return Page(found, bound.place, gap)
        return Page(found, None, gap)

    def get(self, caller: Caller, name: str) -> Record:
        """One record. Raises NotFound, Forbidden, AuditUnavailable."""
        decision = self._door.enter(caller, Action.AUDIT_READ, (name,))
        record = reading.find(self._directories(), name)
        if record is None or record.fields.get("tenant", "") != decision.tenant:
            raise NotFound("no such record")
        return record

    def verify(self, caller: Caller, days: int) -> Checked:
        """Check the files of so many days, today the last, against their chains, signatures and checkpoints.

        They are those of all tenants: a chain is broken or whole for everybody, and nothing in it is told.

        Raises
        ------
        PayloadTooLarge
            That is more than somebody waits for.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable, OSError
        """
        self._door.enter(caller, Action.AUDIT_READ, (), f"verify={days}")
        first = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days - 1)
        since = first.strftime("%Y%m%d")
        files = (each for directory in self._directories() for each in chain.files(directory) if each.day >= since)
        if sum(each.path.stat().st_size for each in files) > MOST_VERIFIED_BYTES:
            raise PayloadTooLarge("these are more records than a page waits for: `gateway audit verify` checks them")
        return Checked(since, self._verify(since), self._coverage.current().of(first.isoformat()[:10], "").gap)
