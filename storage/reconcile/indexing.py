"""Rows for objects that have been read, many in one transaction, and what follows for those that get none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.index.arrivals import Arrival, Commit, Conflicts, Outcome, Quarantined
from storage.reconcile.reading import Unfit
from storage.reconcile.recorded import Recorded
from storage.reconcile.report import Report

_TRANSACTION = 250


@dataclass(frozen=True, slots=True)
class Indexing:
    """Gives objects their rows.

    ``recorded`` holds each tenant's records. The archive's index takes objects of any age. Without ``writes`` the
    bucket is another's: what it would have to decide about is left, and counted as waiting.
    """

    archive: Archive
    recorded: Mapping[ids.Tenant, Recorded]
    conflicts: Conflicts
    report: Report
    writes: bool = True

    def without_known(self, keys: list[str]) -> list[str]:
        """The keys of a batch that have no row and are not in quarantine, in their order; the others are seen to."""
        known = self.archive.index.known_objects(keys)
        left = []
        for object_key in keys:
            key, version = ids.parse_object_key(object_key)
            if self.recorded[key.tenant].is_erased(object_key):
                if self.writes:
                    self.archive.objects.delete(object_key)
                    self.report.removed += 1
                self.report.seen += 1
                continue
            reason = self.recorded[key.tenant].quarantines.get(object_key)
            if reason is not None:
                # Also when it has a row: it may be from before its record.
                self.archive.index.withdraw(key, version, Quarantined(key, version, object_key, reason))
                self.report.quarantined += 1
            elif object_key in known:
                self.report.known += 1
            else:
                left.append(object_key)
                continue
            self.report.seen += 1
        return left

    def take(self, found: Iterable[Arrival | Unfit]) -> Iterable[None]:
        """Give what was read its rows in its order; comes up for air after each transaction."""
        one_by_one = iter(found)
        while chunk := list(islice(one_by_one, _TRANSACTION)):
            arrivals = [self._told(each) for each in chunk if isinstance(each, Arrival)]
            if arrivals:
                for arrival, commit in zip(arrivals, self.archive.index.commit_all(arrivals), strict=True):
                    self._after(arrival, commit)
            # What is gone was removed since it was listed, by whoever may.
            unfit = [each for each in chunk if isinstance(each, Unfit) and not each.gone]
            self.report.damaged += [(each.object_key, each.reason) for each in unfit]
            self.report.seen += len(chunk)
            yield None

    def _told(self, arrival: Arrival) -> Arrival:
        """An arrival with what the records say of it."""
        deletion = self.recorded[arrival.key.tenant].deletion_of(arrival.key.object_key(arrival.version))
        return replace(arrival, conflict=self.conflicts.of(arrival.key.tenant), deletion_record=deletion)

    def _after(self, arrival: Arrival, commit: Commit) -> None:
        object_key = arrival.key.object_key(arrival.version)
        if not self.writes and commit.outcome in (Outcome.MISPLACED, Outcome.REJECTED, Outcome.DUPLICATE):
            self.report.waiting += 1
        elif commit.outcome is Outcome.MISPLACED:
            self.archive.quarantine(Quarantined(arrival.key, arrival.version, object_key, commit.reason))
            self.report.quarantined += 1
        elif arrival.beside in self.recorded[arrival.key.tenant].erased:
            # Recompressed while its source was erased: nothing of it may stay.
            self.archive.objects.delete(object_key)
            self.report.removed += 1
        elif commit.outcome is Outcome.REJECTED:
            self.report.damaged.append((object_key, commit.reason))
        elif commit.outcome is Outcome.DUPLICATE:
            self.archive.objects.delete(object_key)
            self.report.removed += 1
        else:
            self.report.indexed += 1
