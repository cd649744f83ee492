"""What an index promises, whatever engine is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from storage.dicom.attributes import Computed, Level
from storage.dicom.frames import Fragments, FrameTable
from storage.dicom.identifiers import (
    InstanceKey,
    SeriesUid,
    SopClassUid,
    SopUid,
    StudyUid,
    Tenant,
    TransferSyntaxUid,
    Version,
)
from storage.dicom.matching import EVERYTHING, Condition
from storage.dicom.metadata import Key
from storage.dicom.part10 import BulkItem, Extract


class Conflict(StrEnum):
    """What happens when an instance arrives again with other content."""

    VERSION = "version"  # the newer becomes current, the older is kept
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Conflicts:
    """The tenants' policies: ``common``, and those that have one of their own."""

    common: Conflict = Conflict.VERSION
    own: Mapping[str, Conflict] = field(default_factory=dict)

    def of(self, tenant: Tenant) -> Conflict:
        """A tenant's policy."""
        return self.own.get(tenant, self.common)


class Role(StrEnum):
    """What a version is to its instance."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    ALTERNATIVE = "alternative"  # the current data in another transfer syntax


class Outcome(StrEnum):
    """What became of an arrival."""

    STORED = "stored"
    NEW_VERSION = "new version"
    ALTERNATIVE = "alternative"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"  # no row was written
    MISPLACED = "misplaced"  # no row was written: to be quarantined


@dataclass(frozen=True, slots=True)
class Arrival:
    """A durable object that asks for its row. ``data_offset`` is where the data set begins in the object."""

    key: InstanceKey
    version: Version
    extract: Extract
    data_offset: int
    size: int
    sha256: str
    conflict: Conflict = Conflict.VERSION
    deletion_record: str = ""
    """During a reindex: the record that deleted this version."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The outcome of an arrival; ``reason`` says why one was rejected or misplaced, without patient data."""

    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A study, series or instance of a tenant."""

    tenant: Tenant
    study_uid: StudyUid
    series_uid: SeriesUid | None = None
    sop_uid: SopUid | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What one search may cost.

    ``max_inspected`` instances may be looked into for attributes without a column; a total is counted up to
    ``max_counted`` rows; after ``timeout_s`` the search ends in SearchTooBroad.
    """

    max_inspected: int = 20_000
    max_counted: int = 2_000
    timeout_s: float = 10.0


Position = tuple[str | int, ...]
"""Where a row stands in the order of its level, for the rows after it to be asked for."""


@dataclass(frozen=True, slots=True)
class Search:
    """A question to the index.

    ``conditions`` may be of any level; those below ``level`` ask that one series or instance satisfies them all.
    ``in_study`` ask, each for itself, that the study has a series or instance that satisfies it. ``metadata`` are
    looked for in the stored metadata of instances, one of which has to satisfy them and all that is below ``level``.
    ``scope`` limits what exists for the caller.

    ``limit`` rows come after ``offset`` in a stable order, or after ``offset`` more beyond ``after``. With
    ``snapshot`` the rows are those that were there at that change, whatever came or went since.

    ``versions`` asks which version speaks for each row; it costs two look-ups a row.
    """

    tenant: Tenant
    level: Level
    conditions: tuple[Condition, ...] = ()
    in_study: tuple[Condition, ...] = ()
    metadata: tuple[Key, ...] = ()
    scope: Condition = EVERYTHING
    limit: int = 1000
    offset: int = 0
    after: Position | None = None
    snapshot: int | None = None
    computed: frozenset[Computed] = frozenset()
    versions: bool = True
    cost: Cost = Cost()


@dataclass(frozen=True, slots=True)
class Row:
    """One result. ``attributes`` are JSON texts (DICOM JSON Model), one each level down to the question's.

    ``version_id`` is that of the version that speaks for the row, for more of its metadata; None when these are purged,
    or were not asked for.
    """

    study_uid: StudyUid
    series_uid: SeriesUid | None
    sop_uid: SopUid | None
    attributes: tuple[bytes, ...]
    computed: dict[Computed, int | tuple[str, ...]]
    version_id: int | None = field(compare=False)
    position: Position


@dataclass(frozen=True, slots=True)
class State:
    """Which state of the index answers: ``epoch`` is renewed by a reindex, ``change`` is the last one seen."""

    epoch: str
    change: int


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a search, all read from one state. ``total`` is what there is without limit, offset and after.

    ``exact`` is False where counting stopped at ``Cost.max_counted``.
    """

    rows: tuple[Row, ...]
    total: int
    exact: bool
    state: State


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version and the key of its object."""

    version: Version
    object_key: str


@dataclass(frozen=True, slots=True)
class Located:
    """The current version of an instance, as retrieval needs it."""

    key: InstanceKey
    sop_class_uid: SopClassUid
    version_id: int
    version: Version
    object_key: str
    data_offset: int
    size: int
    sha256: str
    transfer_syntax_uid: TransferSyntaxUid
    instance_number: int | None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where pixel data, frames and bulk values lie in the data set."""

    frames: FrameTable
    bulk: tuple[BulkItem, ...]


class Existence(StrEnum):
    """Whether a target is there for a caller."""

    LIVE = "live"
    DELETED = "deleted"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An arrival that is kept but stands in no study."""

    key: InstanceKey
    version: Version
    object_key: str
    reason: str


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


@dataclass(frozen=True, slots=True)
class DeletionState:
    """A deletion that may be undone or not: the record's version, what it named, and what is left of it."""

    record: Version
    body: bytes
    instances: int
    undoable: bool


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request for storage commitment; ``result`` is None until it is known."""

    principal: str
    asked_at_s: float
    request: bytes
    result: bytes | None


@dataclass(frozen=True, slots=True)
class Holding:
    """A version and what its row says of its object. ``deleted`` is a tombstone whose object has not been removed."""

    key: InstanceKey
    version: Version
    object_key: str
    size: int
    sha256: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Objects of a tenant, and their bytes: all versions, deleted ones too until they are removed for good."""

    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a hold is on: a study, or a patient with every study present and to come; the other is empty."""

    study_uid: str
    issuer: str
    patient_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class HoldState:
    """A hold in force, by its record."""

    record: Version
    held: Held


class Index(Protocol):
    """The index. Every method is synchronous and safe to call from several threads, and may raise StorageUnavailable.

    A method that writes returns after its transaction is durable.
    """

    def commit(self, arrival: Arrival) -> Commit:
        """Give an arrival its row, by the rules of sameness and conflict. Raises StaleObject, StorageFull.

        Arrivals that wait at the same time are committed together.
        """
        ...

    def holds(self, key: InstanceKey, canonical_digest: str) -> bool:
        """Whether a live version of the instance, at that place, has this content."""
        ...

    def quarantine(self, item: Quarantined) -> None:
        """Keep a row for an arrival that stands in no study."""
        ...

    def quarantined(self, tenant: Tenant) -> Sequence[Quarantined]:
        """All of a tenant's quarantine, oldest first."""
        ...

    def state(self) -> State:
        """The state that a search would be answered from now."""
        ...

    def page(self, search: Search, total: int | None = None) -> Page:
        """The rows that satisfy a search and how many there are; ``total`` is taken for that number when given.

        Raises InvalidCondition, SearchTooBroad.
        """
        ...

    def search(self, search: Search) -> Sequence[Row]:
        """The rows of a page alone. Raises as ``page``."""
        ...

    def count(self, search: Search) -> int:
        """How many rows a search would give without limit and offset, however many. Raises as ``page``."""
        ...

    def locate(self, target: Target, scope: Condition) -> Sequence[Located]:
        """Current versions under a target, in series and instance number order."""
        ...

    def locate_instances(self, tenant: Tenant, sop_uids: Sequence[SopUid], scope: Condition) -> Sequence[Located]:
        """Current versions of instances by their UIDs, wherever they stand, in no order."""
        ...

    def existence(self, target: Target, scope: Condition) -> Existence:
        """Whether anything is, or was, under a target within the scope."""
        ...

    def metadata(self, version_ids: Sequence[int]) -> Iterator[bytes]:
        """JSON metadata of versions in the order asked, BulkDataURIs relative."""
        ...

    def layout(self, version_id: int) -> Layout:
        """Layout of a version's data set."""
        ...

    def fragments(self, version_id: int, frames: Iterable[int]) -> Iterator[Fragments]:
        """Fragments of encapsulated frames, numbered from 1, in the order asked. Raises FramesNotLocatable."""
        ...

    def generation(self, target: Target) -> int:
        """Generation of a series: the highest change sequence number over its instances, deleted ones included."""
        ...

    def series_metadata(self, target: Target, base: str) -> tuple[int, bytes] | None:
        """The consolidated metadata of a series for a service root and the generation it was made of."""
        ...

    def keep_series_metadata(self, target: Target, base: str, generation: int, body: bytes) -> None:
        """Keep a consolidated body; the caller read ``generation`` before it read the instances."""
        ...

    def versions(self, target: Target, scope: Condition) -> Sequence[StoredVersion]:
        """Every version under a target that is not deleted, whatever its role."""
        ...

    def delete(self, tenant: Tenant, record: Version, body: bytes, versions: Sequence[StoredVersion]) -> None:
        """Turn versions into tombstones; ``record`` and ``body`` are those of the record object."""
        ...

    def deletions(self, tenant: Tenant, scope: Condition, record: Version | None = None) -> Sequence[DeletionState]:
        """Deletions not undone whose instances are all within the scope, latest first.

        Those whose objects are gone are left out, unless one is asked for by its record.
        """
        ...

    def restorable(self, tenant: Tenant, deletion: Version) -> Sequence[StoredVersion]:
        """What an undoing of a deletion would bring back: neither due to be purged, nor is its place taken.

        A place is taken by another patient's study, by the UID elsewhere or with another SOP class, or by the same
        content.
        """
        ...

    def restore(
        self, tenant: Tenant, record: Version, body: bytes, deletion: Version, versions: Sequence[StoredVersion]
    ) -> Sequence[Version]:
        """Undo a deletion of some versions, as far as they are restorable now.

        Those that are live afterwards come back, also when somebody else undid the deletion at the same moment.
        """
        ...

    def purge_due(self, before_s: float) -> Sequence[StoredVersion]:
        """Versions deleted before a time, unless a hold is on them: from here on their deletion cannot be undone."""
        ...

    def purged(self, versions: Sequence[StoredVersion]) -> None:
        """Note that objects are gone; metadata and attributes of what they held go too."""
        ...

    def bury(self, key: InstanceKey, version: Version, record: Version) -> None:
        """During a reindex: a tombstone for a version whose object is gone already."""
        ...

    def changes(self, tenant: Tenant, scope: Condition, cursor: int, limit: int) -> Changes:
        """What happened after a cursor, in commit order. 0 is before everything."""
        ...

    def complete_quiet(self, quiet_s: float, now_s: float) -> int:
        """Complete every live study in which nothing happened for so long; how many."""
        ...

    def complete(self, tenant: Tenant, study_uids: Sequence[StudyUid], detail: str) -> None:
        """Complete live studies, unless that is the last that happened to them."""
        ...

    def ask_commitment(self, tenant: Tenant, transaction_uid: str, asked: Commitment) -> bool:
        """Keep a request; False when the transaction UID is taken."""
        ...

    def answer_commitment(self, tenant: Tenant, transaction_uid: str, result: bytes) -> None:
        """Keep a request's result."""
        ...

    def commitment(self, tenant: Tenant, transaction_uid: str) -> Commitment | None:
        """A request, answered or not."""
        ...

    def open_commitments(self, before_s: float) -> Sequence[tuple[Tenant, str]]:
        """Requests asked before a time that have no result."""
        ...

    def erase(self, tenant: Tenant, record: Version, body: bytes, versions: Sequence[Version]) -> None:
        """Remove versions with everything that was known of them, and what they alone stood in; no tombstone stays.

        Quarantined ones too. May be asked for again with the same record, and with versions that are not there.
        """
        ...

    def forget_records(self, names: Sequence[Version]) -> None:
        """Remove the rows of records whose objects are removed."""
        ...

    def studies_of(self, tenant: Tenant, issuer: str, patient_id: str) -> Sequence[StudyUid]:
        """Studies of a patient, deleted ones too as long as it is known whose they were."""
        ...

    def everything_of(self, tenant: Tenant, study_uid: StudyUid) -> Sequence[Holding]:
        """Every version that stands in a study, superseded and deleted ones and those removed for good too."""
        ...

    def hold(self, tenant: Tenant, record: Version, body: bytes, held: Held) -> None:
        """Keep what a hold names from being removed. Asked again it changes nothing."""
        ...

    def release(self, tenant: Tenant, record: Version, body: bytes, hold: Version) -> None:
        """End a hold, by its record."""
        ...

    def in_force(self, tenant: Tenant | None = None) -> Sequence[tuple[Tenant, HoldState]]:
        """Holds that have not ended, oldest first; of one tenant or of all."""
        ...

    def held(self, tenant: Tenant, study_uids: Sequence[StudyUid]) -> frozenset[StudyUid]:
        """Those of the studies that a hold is on, or on their patient."""
        ...

    def usage(self) -> Mapping[Tenant, Usage]:
        """What each tenant has stored; what is in quarantine is not counted."""
        ...

    def known_objects(self, object_keys: Sequence[str]) -> frozenset[str]:
        """Those of the keys that a row, live or tombstone or quarantined, names."""
        ...

    def ping(self) -> None:
        """Return when the index answers; raise StorageUnavailable when not."""
        ...

    def close(self) -> None:
        """Let go of connections and threads. Idempotent."""
        ...

    def commit_all(self, arrivals: Sequence[Arrival]) -> Sequence[Commit]:
        """Give arrivals their rows in one transaction, in their order. Raises StaleObject (none has a row then)."""
        ...

    def withdraw(self, key: InstanceKey, version: Version, quarantined: Quarantined | None = None) -> None:
        """Take a version's row back, as if it had never been committed, and keep it in quarantine when given so.

        For a reindex, and for an index that follows a bucket: what was taken for an arrival proved to be none. A
        version without a row is only put in quarantine.
        """
        ...

    def holdings(self, after: str, limit: int, tenant: Tenant | None = None) -> Sequence[Holding]:
        """Versions whose objects should be there, quarantined ones left out, in the order of versions.

        ``after`` is the version to go on from, "" at the beginning.
        """
        ...

    def known_records(self, names: Sequence[str]) -> frozenset[str]:
        """Those of the records, by their versions, that were applied."""
        ...

    def commitments(self) -> Iterator[tuple[Tenant, str, Commitment]]:
        """Every request for storage commitment, with its transaction UID, answered or not."""
        ...
