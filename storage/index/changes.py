"""The change feed of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from storage.dicom.identifiers import SeriesUid, SopClassUid, SopUid, StudyUid, Version


class Action(StrEnum):
    """What a change did."""

    CREATED = "created"
    UPDATED = "updated"  # a newer version became current
    ALTERNATIVE = "alternative"  # the current data came in another transfer syntax
    DELETED = "deleted"
    RESTORED = "restored"
    COMPLETED = "completed"  # of a study: nothing more is expected


class VersionState(StrEnum):
    """What has become of a change's version since."""

    CURRENT = "current"
    REPLACED = "replaced"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the change feed. A completed study has no series, instance or version; ``at_s`` is Unix time."""

    sequence: int
    at_s: float
    action: Action
    study_uid: StudyUid
    series_uid: SeriesUid | None
    sop_uid: SopUid | None
    sop_class_uid: SopClassUid | None
    version: Version | None
    state: VersionState | None
    detail: str


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of the feed: what the caller may see after a cursor, and the cursor to go on from.

    ``next_cursor`` may pass changes outside of the caller's scope; ``head`` is the last sequence number there is.
    """

    epoch: str
    rows: Sequence[Change]
    next_cursor: int
    head: int
