"""The contract of procedure steps: what is scheduled and what is performed, whichever protocol spoke of it.

A step is a data set in the DICOM JSON Model, with the few of its attributes beside it that steps are looked for by.
PS3.4 Annexes F "Modality Performed Procedure Step" and K "Basic Worklist Management Service".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from storage.dicom import json_model
from storage.dicom.identifiers import Tenant
from storage.dicom.json_model import JsonDataSet
from storage.dicom.normal import date, time_bound

MAX_BODY_BYTES = 8 << 20
"""Longest body, written as JSON: of a report of 20,000 images."""
MAX_SCHEDULED_BYTES = 256 << 10
"""Longest body of what is scheduled: many of these are looked through at once."""
MAX_KEY_LENGTH = 64
"""Most characters of what a step is looked for by."""


class Kind(StrEnum):
    """What a step is."""

    SCHEDULED = "scheduled"
    """A Scheduled Procedure Step with its request and its patient: an item of the Modality Worklist."""
    PERFORMED = "performed"
    """A Modality Performed Procedure Step."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step as somebody wants it to be. ``uid`` names it within its tenant and kind."""

    tenant: Tenant
    kind: Kind
    uid: str
    state: str
    body: JsonDataSet


@dataclass(frozen=True, slots=True)
class Kept:
    """A step as it is kept: ``revision`` is another after each change, which was at ``changed_at_s`` (Unix time)."""

    step: Step
    revision: int
    changed_at_s: float


@dataclass(frozen=True, slots=True)
class Filed:
    """What a step is looked for by; "" is unknown. ``starts`` is YYYYMMDDHHMMSS.FFFFFF, local to who scheduled it."""

    patient_id: str
    issuer: str
    accession_number: str
    study_uid: str
    starts: str


@dataclass(frozen=True, slots=True)
class Sought:
    """Steps of one kind, of which each that is given holds; "" and no states ask for any.

    ``first`` and ``last`` are bounds on when a step starts, in the form of ``Filed.starts``, both included. Those
    after ``after``, the start and UID of the last one of a page, follow in the order of starts.
    """

    tenant: Tenant
    kind: Kind
    states: frozenset[str] = frozenset()
    patient_id: str = ""
    accession_number: str = ""
    study_uid: str = ""
    first: str = ""
    last: str = ""
    after: tuple[str, str] = ("", "")
    limit: int = 500


@dataclass(frozen=True, slots=True)
class Listed:
    """A step that was found, with the place that a page goes on from."""

    kept: Kept
    starts: str

    @property
    def place(self) -> tuple[str, str]:
        """For ``Sought.after``."""
        return self.starts, self.kept.step.uid


class Steps(Protocol):
    """Steps that all processes, on all hosts, see alike. Safe to use from several threads.

    Raises
    ------
    storage.errors.StorageUnavailable, storage.errors.StorageFull
        From every method, when the engine does not answer or has no room.
    """

    def get(self, tenant: Tenant, kind: Kind, uid: str) -> Kept | None:
        """A step."""
        ...

    def put(self, *changes: tuple[Step, int | None]) -> bool:
        """Write steps durably, all or none; False when somebody else came first.

        With each goes the revision that is replaced; None says that there is none. Raises StepTooLarge too.
        """
        ...

    def find(self, sought: Sought) -> Sequence[Listed]:
        """Steps in the order of their starts."""
        ...

    def every(self) -> Iterator[Step]:
        """All steps of all tenants; what comes meanwhile may be missed."""
        ...

    def sweep(self, before_s: float) -> int:
        """Remove steps that nobody has changed since a time (Unix time), and that start before it; how many."""
        ...

    def erase(
        self, tenant: Tenant, studies: Sequence[str], patient: tuple[str, str] | None = None, *, rehearse: bool = False
    ) -> int:
        """Remove every step of some studies, and of a patient by ID and issuer; how many there are.

        A rehearsal only counts.
        """
        ...


def filed(step: Step) -> Filed:
    """What a step is looked for by, out of its data set."""
    if step.kind is Kind.PERFORMED:
        request, starts = item_of(step.body, "00400270"), moment_of(step.body, "00400244", "00400245")
    else:
        request, starts = step.body, moment_of(item_of(step.body, "00400100"), "00400002", "00400003")
    return Filed(
        json_model.text_of(step.body, "00100020"),
        json_model.text_of(step.body, "00100021"),
        json_model.text_of(request, "00080050"),
        json_model.text_of(request, "0020000D"),
        starts,
    )


def item_of(body: JsonDataSet, tag: str) -> JsonDataSet:
    """The first item of a sequence; an empty one when there is none."""
    values = body.get(tag, {}).get("Value") or [{}]
    found = values[0]
    return found if isinstance(found, dict) else {}


def moment_of(body: JsonDataSet, day: str, time: str) -> str:
    """A date and a time as YYYYMMDDHHMMSS.FFFFFF; "" without a date, the beginning of the day without a time."""
    known = date(json_model.text_of(body, day))
    return known + (time_bound(json_model.text_of(body, time), high=False) or "000000.000000") if known else ""
