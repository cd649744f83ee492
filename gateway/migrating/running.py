"""A migration from its list of studies to its report."""

from __future__ import annotations

import datetime
import json
import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TextIO

from gateway.dimse.asking import NotAnswered, RemoteArchive
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import NotAssociated
from gateway.importing.items import Fate
from gateway.migrating import listing
from gateway.migrating.journal import Journal, State, Study
from gateway.migrating.listing import Wanted
from gateway.migrating.pulling import Pulled, Puller, is_pullable
from storage.errors import StorageUnavailable

_log = logging.getLogger("gateway.migrating")

_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Between attempts while one of the archives does not answer; then the migration stops."""
_BATCH = 200
_NAMED = 1000
_LOOK_S = 0.2
_FAILED_IN_A_ROW = 20
"""Studies; then it is not for the studies that it fails."""


class Stopped(Exception):
    """The migration cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Hours:
    """When it may work: from one time of the day to another, also over midnight."""

    first: datetime.time
    last: datetime.time

    def hold(self, now: datetime.time) -> bool:
        """Whether a time is within them."""
        if self.first <= self.last:
            return self.first <= now < self.last
        return now >= self.first or now < self.last


class By(StrEnum):
    """How instances come."""

    GET = "get"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Pacing:
    """How hard the old archive is worked: so many associations, a pause after each study, and when."""

    at_once: int = 1
    pause_s: float = 0.0
    hours: Hours | None = None


@dataclass(slots=True)
class Report:
    """What became of the studies so far."""

    listed: int = 0
    told: int = 0
    """Instances that the old archive says these studies have."""
    before: int = 0
    done: int = 0
    failed: int = 0
    instances: int = 0
    """Of the studies that were looked at: how many are in our archive."""
    missing: int = 0
    size: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)
    """Of instances that came by C-GET; what comes by C-MOVE is stored by the running gateway."""
    by: By | None = None
    wrong: list[tuple[str, Pulled]] = field(default_factory=list)


Progress = Callable[[Report], None]


class Migration:
    """One run.

    Parameters
    ----------
    asked
        Makes an archive to ask, for one thread.
    puller
        Makes what fetches studies from it, in one of the ways.
    by
        The way; without it, what the old archive answers.
    report_file
        Takes a JSON line for each study that is not whole, with what is missing.
    """

    def __init__(
        self,
        asked: Callable[[], RemoteArchive],
        puller: Callable[[RemoteArchive, By], Puller],
        by: By | None,
        journal: Journal,
        pacing: Pacing,
        report_file: TextIO | None = None,
    ) -> None:
        self._asked = asked
        self._puller = puller
        self._by = by
        self._journal = journal
        self._pacing = pacing
        self._report_file = report_file
        self._stopping = threading.Event()
        self._failed_in_a_row = 0
        self.report = Report()

    def list(self, wanted: Wanted, today: datetime.date, progress: Callable[[int], None]) -> None:
        """Ask the old archive what it has. Raises NotAssociated, NotAnswered, Stopped."""
        batch: list[Study] = []
        named: set[str] = set()
        unlisted = dict.fromkeys(wanted.study_uids)
        with closing(self._asked()) as archive:
            try:
                self.report.by = self._by or (By.GET if archive.gives_back() else By.MOVE)
                for study in listing.studies(archive, wanted, today):
                    unlisted.pop(study.uid, None)
                    if not is_pullable(study):
                        if study.uid in named:
                            continue
                        named.add(study.uid)
                        self._tell(study.uid, Pulled(reason="the Study Instance UID is none"))
                        continue
                    batch.append(study)
                    if len(batch) == _BATCH:
                        self._journal.listed(batch)
                        batch.clear()
                        progress(self._journal.counts()[0])
            except Ended as error:
                raise Stopped(
                    f"the old archive ended the association while it was asked for studies: {error}"
                ) from error
        self._journal.listed(batch)
        for uid in unlisted:
            self._tell(uid, Pulled(reason="the peer does not list it"))
        self.report.listed, self.report.before, self.report.told = self._journal.counts()
        progress(self.report.listed)

    def run(self, progress: Progress) -> None:
        """Fetch what is not here of what was listed. Raises Stopped."""
        waiting: queue.SimpleQueue[Study] = queue.SimpleQueue()
        for study in self._journal.left():
            waiting.put(study)
        results: queue.SimpleQueue[tuple[Study, Pulled] | BaseException | None] = queue.SimpleQueue()
        archives = [self._asked() for _ in range(min(self._pacing.at_once, max(waiting.qsize(), 1)))]
        threads = [
            threading.Thread(target=self._work, args=(archive, waiting, results), name=f"migrate-{number}")
            for number, archive in enumerate(archives)
        ]
        for thread in threads:
            thread.start()
        try:
            for study, pulled in _results(results, len(threads)):
                self._over(study, pulled)
                progress(self.report)
        finally:
            self._stopping.set()
            for archive in archives:
                archive.stop()
            for thread in threads:
                thread.join()

    def _work(
        self,
        archive: RemoteArchive,
        waiting: queue.SimpleQueue[Study],
        results: queue.SimpleQueue[tuple[Study, Pulled] | BaseException | None],
    ) -> None:
        try:
            assert self.report.by is not None
            puller = self._puller(archive, self.report.by)
            while self._may_go_on(archive):
                try:
                    study = waiting.get_nowait()
                except queue.Empty:
                    break
                results.put((study, self._pulled(puller, study)))
                self._stopping.wait(self._pacing.pause_s)
            archive.close()
            results.put(None)
        except BaseException as error:
            results.put(error)

    def _may_go_on(self, archive: RemoteArchive) -> bool:
        hours = self._pacing.hours
        while hours is not None and not hours.hold(datetime.datetime.now().astimezone().time()):
            archive.close()
            if self._stopping.wait(_LOOK_S):
                return False
        return not self._stopping.is_set()

    def _pulled(self, puller: Puller, study: Study) -> Pulled:
        for pause_s in (*_PAUSES_S, None):
            try:
                return puller.pull(study)
            except NotAnswered as error:
                return Pulled(reason=str(error))
            except (NotAssociated, StorageUnavailable) as error:
                if pause_s is None or self._stopping.wait(pause_s):
                    raise Stopped(str(error)) from error
            except Ended as error:
                # While it was asked what it has; it is asked once more, and then the study is left.
                if pause_s != _PAUSES_S[0] or self._stopping.wait(pause_s):
                    return Pulled(reason=f"the association ended: {error}")
            except Exception as error:  # whatever it is, the studies that follow are not to suffer
                _log.error("a study was not fetched", exc_info=error)
                return Pulled(reason=f"a defect of the gateway, see the log: {type(error).__name__}")
        raise AssertionError("the last pause returns or raises")

    def _over(self, study: Study, pulled: Pulled) -> None:
        report = self.report
        report.instances += pulled.instances
        report.missing += len(pulled.missing)
        report.size += pulled.size
        report.fates += pulled.fates
        had = max(pulled.instances, study.had or 0)
        self._journal.note(study.uid, State.DONE if pulled.is_whole else State.FAILED, had)
        if pulled.is_whole:
            report.done += 1
            self._failed_in_a_row = 0
            return
        self._tell(study.uid, pulled)
        self._failed_in_a_row = 0 if pulled.instances else self._failed_in_a_row + 1
        if self._failed_in_a_row == _FAILED_IN_A_ROW:
            raise Stopped(
                f"nothing came of {_FAILED_IN_A_ROW} studies one after the other; of the last: {pulled.reason}"
            )

    def _tell(self, study_uid: str, pulled: Pulled) -> None:
        self.report.failed += 1
        if len(self.report.wrong) < _NAMED:
            self.report.wrong.append((study_uid, pulled))
        if self._report_file is not None:
            line = {"study": study_uid, "reason": pulled.reason, "missing": list(pulled.missing)}
            self._report_file.write(json.dumps(line) + "\n")
            self._report_file.flush()


def _results(
    results: queue.SimpleQueue[tuple[Study, Pulled] | BaseException | None], workers: int
) -> Iterator[tuple[Study, Pulled]]:
    """What workers have done, until each has ended; what one raises is raised."""
    while workers:
        try:
            found = results.get(timeout=_LOOK_S)
        except queue.Empty:
            continue  # so that an interrupt comes through
        if found is None:
            workers -= 1
        elif isinstance(found, BaseException):
            raise found
        else:
            yield found
