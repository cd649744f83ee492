"""An export from the studies that are selected to its report."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.context import Caller
from gateway.exporting.items import Item, Kind, NotExported, Put, Target, kind_of
from gateway.exporting.manifest import Manifest
from gateway.exporting.selection import Chosen
from gateway.viewing.definition import Definition
from gateway.viewing.following import Follower
from gateway.viewing.following import Report as Brought
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.matching import EVERYTHING
from storage.errors import ObjectDamaged, ObjectNotFound
from storage.index.questions import Target as Under
from storage.index.stored import Located

_NAMED = 1000
"""Failures that a report names."""
_WAITING = 4
"""Instances for each thread of a target that wait for it."""
_KINDS = 128
"""Kinds that a target is told of before: more are not agreed on with a peer at a time (PS3.8 9.3.2.2)."""


@dataclass(slots=True)
class Report:
    """What became of the export so far. ``instances`` and ``size`` are of what the target has, ``before`` of these
    what an earlier export put there; ``wrong`` are pseudonymous SOP Instance UIDs with reasons.
    """

    studies: int = 0
    instances: int = 0
    before: int = 0
    size: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    withheld: Counter[str] = field(default_factory=Counter)


class Export:
    """One export of a view.

    Parameters
    ----------
    shown
        What the view shows.
    follower
        Brings the studies up first.
    destination
        What the audit trail calls the target.
    """

    def __init__(
        self,
        shown: Archive,
        follower: Follower,
        trail: AuditTrail,
        caller: Caller,
        target: Target,
        destination: str,
        manifest: Manifest,
    ) -> None:
        self._shown = shown
        self._follower = follower
        self._trail = trail
        self._caller = caller
        self._target = target
        self._destination = destination
        self._manifest = manifest
        self._kinds: dict[Kind, None] = {}
        self.report = Report()

    @property
    def _definition(self) -> Definition:
        return self._follower.definition

    def bring_up(self, studies: Sequence[Chosen], progress: Callable[[int], None]) -> None:
        """Bring the studies up with the archive, all of them before the first one goes.

        What a study teaches of its patient is taken out of the texts of the others, and what is exported cannot be
        called back.
        """
        report = Brought()
        for done, study_uid in enumerate(self._follower.bring_up([each.study_uid for each in studies], report), 1):
            for each in self._shown_of(study_uid):
                if len(self._kinds) < _KINDS:
                    self._kinds[kind_of(each)] = None
            progress(done)

    def run(self, studies: Sequence[Chosen], progress: Callable[[Report], None]) -> None:
        """Put everything that the view shows of the studies, and then the manifest.

        Raises
        ------
        ExportError, AuditUnavailable, storage.errors.StorageError, OSError
            The target has what the report says.
        """
        for chosen in studies:
            for each in self._shown.index.quarantined(self._definition.tenant, chosen.study_uid):
                self.report.withheld[each.reason] += 1
        self._target.expect(self._kinds)
        with ThreadPoolExecutor(self._target.at_once, thread_name_prefix="export") as pool:
            try:
                for chosen in studies:
                    self._study(pool, chosen.study_uid, progress)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._manifest.end(self.report.withheld, self.report.failed)
        self._target.finish(self._manifest.document)

    def _study(self, pool: ThreadPoolExecutor, study_uid: ids.StudyUid, progress: Callable[[Report], None]) -> None:
        instances = self._shown_of(study_uid)
        if not instances:
            return
        self._record("allowed", study_uid, f"to {self._destination}")
        before = self.report.instances, self.report.failed.total()
        outcome = "failed"
        try:
            items = self._items(instances)
            self._target.begin(items)
            for item, put in self._put(pool, items):
                self._note(item, put)
                progress(self.report)
            if self.report.failed.total() == before[1]:
                outcome = "completed"
        finally:
            count, failed = self.report.instances - before[0], self.report.failed.total() - before[1]
            self._record(outcome, study_uid, f"to {self._destination}: {count} instances, {failed} failed")
        self.report.studies += 1

    def _shown_of(self, study_uid: ids.StudyUid) -> Sequence[Located]:
        shown = ids.StudyUid(self._definition.uid(study_uid))
        return self._shown.index.locate(Under(self._definition.tenant, shown), EVERYTHING)

    def _record(self, outcome: str, study_uid: ids.StudyUid, detail: str) -> None:
        definition = self._definition
        event = AuditEvent(
            "export", outcome, self._caller, definition.tenant, (study_uid,), detail, view=definition.name
        )
        self._trail.write(event)

    def _items(self, instances: Sequence[Located]) -> Sequence[Item]:
        patient_id = json_model.text_of(self._data_set(instances[0]), "00100020")
        return [
            Item(each, patient_id, partial(self._blocks, each), partial(self._data_set, each)) for each in instances
        ]

    def _put(self, pool: ThreadPoolExecutor, items: Sequence[Item]) -> Iterator[tuple[Item, Put | str]]:
        """What became of each, in their order; a text says why it was not exported."""
        under_way: deque[tuple[Item, Future[Put | str]]] = deque()
        for item in items:
            if len(under_way) >= _WAITING * self._target.at_once:
                first, future = under_way.popleft()
                yield first, future.result()
            under_way.append((item, pool.submit(self._put_one, item)))
        for item, future in under_way:
            yield item, future.result()

    def _put_one(self, item: Item) -> Put | str:
        try:
            return self._target.put(item)
        except NotExported as error:
            return str(error)
        except ObjectNotFound:
            return "it was replaced or removed meanwhile"
        except ObjectDamaged:
            return "its stored bytes are damaged"

    def _note(self, item: Item, put: Put | str) -> None:
        report = self.report
        if isinstance(put, str):
            report.failed[put] += 1
            if len(report.wrong) < _NAMED:
                report.wrong.append((item.located.key.sop_uid, put))
            return
        report.instances += 1
        report.before += put.before
        report.size += item.located.size
        self._manifest.add(item, put)

    def _blocks(self, located: Located) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for block in self._shown.blocks(located):
            digest.update(block)
            yield block
        if digest.hexdigest() != located.sha256:
            raise ObjectDamaged(f"{located.object_key}: not the bytes of its digest")

    def _data_set(self, located: Located) -> json_model.JsonDataSet:
        (text,) = self._shown.index.metadata([located.version_id])
        found: json_model.JsonDataSet = json_model.loads(text)
        return found
