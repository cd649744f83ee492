"""What an index promises, whatever engine is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from storage.dicom.frames import Fragments
from storage.dicom.identifiers import InstanceKey, SopUid, StudyUid, Tenant, Version
from storage.dicom.matching import Condition
from storage.index.arrivals import Arrival, Commit, Quarantined
from storage.index.changes import Changes
from storage.index.questions import Ageing, Page, Row, Search, State, Target
from storage.index.stored import (
    AgedStudy,
    Commitment,
    DeletionState,
    Existence,
    Held,
    Holding,
    HoldState,
    Layout,
    Located,
    Placed,
    Recompressible,
    StoredVersion,
    Unsourced,
    Untold,
    Usage,
)


class Index(Protocol):
    """The index. Every method is synchronous and safe to call from several threads, and may raise StorageUnavailable.

    A method that writes returns after its transaction is durable.
    """

    def commit(self, arrival: Arrival) -> Commit:
        """Give an arrival its row, by the rules of sameness and conflict. Raises StaleObject, StorageFull.

        Arrivals that wait at the same time are committed together.
        """
        ...

    def is_young(self, version: Version) -> bool:
        """Whether not half the age has passed at which an arrival of this version is stale."""
        ...

    def holds(self, key: InstanceKey, canonical_digest: str) -> bool:
        """Whether a live version of the instance, at that place, has this content."""
        ...

    def quarantine(self, item: Quarantined) -> None:
        """Keep a row for an arrival that stands in no study."""
        ...

    def quarantined(self, tenant: Tenant, study_uid: StudyUid | None = None) -> Sequence[Quarantined]:
        """All of a tenant's quarantine, or that of one study, oldest first."""
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

    def beside(self, located: Located) -> Located | None:
        """The version that was recompressed from another one and stands beside it, when there is one."""
        ...

    def recompressible(
        self, after: str, before: str, limit: int, *, all_of_them: bool = False
    ) -> tuple[Sequence[Recompressible], str]:
        """Current versions after one and before another, oldest first, not all at once.

        Only those that have none beside them, unless ``all_of_them``.

        With them comes the version to go on after, "" when there is nothing more.
        """
        ...

    def recompression_turn(self, rules: str, holder: str, now_s: float, until_s: float) -> str | None:
        """Have the turn to recompress until a time, unless somebody else has it: the version to go on after, or None.

        It is "", the beginning, when the rules, by whatever text tells them apart, are others than the last time.
        """
        ...

    def recompressed_through(self, holder: str, through: str, until_s: float) -> bool:
        """Note how far recompression has come, and have the turn for longer; False when it is not ours any more."""
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

    def delete(self, tenant: Tenant, record: Version, body: bytes, versions: Sequence[StoredVersion]) -> Sequence[str]:
        """Turn versions into tombstones; ``record`` and ``body`` are those of the record object.

        What was put beside them since has no row then; the keys of its objects come back, which are to go.
        """
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
        """Undo a deletion of some versions, and those before it, as far as nothing stands in the way now.

        Of two deletions at once the later one is undone, and this index may have heard of the earlier one only. Those
        that are live afterwards come back, also when somebody else undid the deletion at the same moment.
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

    def answer_commitment(self, tenant: Tenant, transaction_uid: str, result: bytes, tell_at_s: float = 0.0) -> None:
        """Keep a request's result; a peer that has to be told of it is so from ``tell_at_s`` on."""
        ...

    def commitment(self, tenant: Tenant, transaction_uid: str) -> Commitment | None:
        """A request, answered or not."""
        ...

    def take_untold(self, now_s: float, again_s: float) -> Sequence[Untold]:
        """Results that peers have to be told of by now; nobody else takes them before ``again_s``."""
        ...

    def told(self, tenant: Tenant, transaction_uid: str) -> None:
        """The peer was told, or is given up."""
        ...

    def open_commitments(self, before_s: float) -> Sequence[tuple[Tenant, str]]:
        """Requests asked before a time that have no result."""
        ...

    def erase(self, tenant: Tenant, record: Version, body: bytes, versions: Sequence[Version]) -> Sequence[str]:
        """Remove versions with everything that was known of them, and what they alone stood in; no tombstone stays.

        Quarantined ones too. May be asked for again with the same record, and with versions that are not there. What
        was put beside them since goes as well, and the keys of its objects come back, which are to go.
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

    def aged(self, asked: Ageing) -> Sequence[AgedStudy]:
        """Live studies that may be old enough, in the order of the versions they speak through."""
        ...

    def place(self, tenant: Tenant, study_uid: StudyUid, placed: Placed) -> None:
        """Remember the storage class that a study was moved into; ``aged`` tells it. Not archive: the objects know."""
        ...

    def unsourced(self, limit: int) -> Sequence[Unsourced]:
        """Some versions of which nobody has looked who sent them: an index of an older schema has such."""
        ...

    def note_sources(self, found: Mapping[Version, str]) -> None:
        """Keep the Source Application Entity Titles of versions, "" for one that has none."""
        ...

    def usage(self) -> Mapping[Tenant, Usage]:
        """What each tenant has stored; what is in quarantine is not counted."""
        ...

    def known_objects(self, object_keys: Sequence[str]) -> frozenset[str]:
        """Those of the keys that a row, live or tombstone or quarantined, names."""
        ...

    def kept_versions(self, versions: Sequence[Version]) -> frozenset[Version]:
        """Those of the versions whose objects have not been removed for good: live, deleted or quarantined."""
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
