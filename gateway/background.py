"""The background work, which nobody waits for: complete studies, commitments, deletions, rules, orphans, following."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from gateway import assembly
from gateway.context import of_the_gateway
from gateway.errors import GatewayError
from gateway.services.retention import Step
from gateway.telemetry.metrics import Metrics
from storage import reconcile
from storage.errors import StorageError

_log = logging.getLogger("gateway.background")

_TICK_S = 5.0
_USAGE_EVERY_S = 30.0
_LEFT_BEHIND_S = 600.0
"""A commitment request without a result for so long has lost its worker."""


def run(core: assembly.Core, stop: threading.Event) -> None:
    """Carry the duties out, one after the other, until told to stop."""
    storage, metrics = core.settings.storage, core.metrics
    tick_s = min(_TICK_S, storage.study_quiet_s / 4)
    duties = (
        _Duty("complete studies", metrics, tick_s, partial(_complete_studies, core)),
        _Duty("answer commitments", metrics, tick_s, partial(_answer_commitments, core)),
        _Duty("measure usage", metrics, _USAGE_EVERY_S, partial(_measure_usage, core)),
        *_of_objects(core, stop),
    )
    while not stop.wait(max(0.0, min(duty.due_s for duty in duties) - time.monotonic())):
        for duty in duties:
            duty.run_if_due()


def _of_objects(core: assembly.Core, stop: threading.Event) -> Sequence[_Duty]:
    """What is to be done with the objects: to look after them, or to follow who does."""
    storage, metrics = core.settings.storage, core.metrics
    if not storage.read_only:
        return (
            _Duty("purge deletions", metrics, storage.reap_interval_s, partial(_purge, core)),
            _Duty("adopt orphans", metrics, storage.reap_interval_s, partial(_adopt_orphans, core)),
            *_of_rules(core),
        )
    follower = reconcile.Follower(core.archive, storage.directory)
    follow = _Duty("follow objects", metrics, storage.follow_interval_s, partial(_follow, core, follower, stop))
    follow.due_s = time.monotonic()
    return (follow,)


def _of_rules(core: assembly.Core) -> Sequence[_Duty]:
    """What rules of the settings ask for, where there are some."""
    lifecycle = core.settings.lifecycle
    if not core.settings.retention:
        return ()
    return (_Duty("apply retention", core.metrics, lifecycle.interval_s, Retention(core), lifecycle.pause_s),)


class _Duty:
    """Something to do from time to time; an engine that does not answer only puts it off.

    ``call`` may answer True: there is more to do, after ``pause_s``, which leaves the other duties their turn.
    """

    def __init__(
        self, name: str, metrics: Metrics, interval_s: float, call: Callable[[], bool | None], pause_s: float = 0.0
    ) -> None:
        self._name = name
        self._metrics = metrics
        self._interval_s = interval_s
        self._pause_s = pause_s
        self._call = call
        self.due_s = time.monotonic() + interval_s

    def run_if_due(self) -> None:
        if time.monotonic() < self.due_s:
            return
        more = None
        try:
            with self._metrics.on_duty(self._name):
                more = self._call()
        except (StorageError, GatewayError):
            _log.warning("background work was interrupted; it will be tried again", exc_info=True)
        self.due_s = time.monotonic() + (self._pause_s if more else self._interval_s)


class Retention:
    """Rounds of retention, a step at each call; True as long as a round goes on."""

    def __init__(self, core: assembly.Core) -> None:
        self._core = core
        self._round: Iterator[Step] | None = None

    def __call__(self) -> bool:
        """Make a step. A round that an engine broke off begins anew."""
        under_way, self._round = self._round or self._core.retention.round(of_the_gateway("retention")), None
        step = next(under_way, None)
        if step is None:
            return False
        self._tell(step)
        self._round = under_way
        return True

    def _tell(self, step: Step) -> None:
        metrics = self._core.metrics
        for due in step.removed:
            metrics.retention_removed.labels(due.tenant, due.kept.rule).inc()
        if step.removed:
            _log.info("retention: %d studies of tenant %s were deleted", len(step.removed), step.tenant)
        if step.waiting:
            _log.warning(
                "retention: %d studies of tenant %s or more are to be deleted, which is more than"
                " lifecycle.max_percent; `gateway retention` shows them",
                step.waiting,
                step.tenant,
            )
        if step.waiting is not None:
            metrics.retention_waiting.labels(step.tenant).set(step.waiting)


def _complete_studies(core: assembly.Core) -> None:
    completed = core.archive.index.complete_quiet(core.settings.storage.study_quiet_s, time.time())
    if completed:
        _log.info("%d studies are complete", completed)
    core.metrics.background_items.labels("studies completed").inc(completed)


def _answer_commitments(core: assembly.Core) -> None:
    answered = core.commitment.fulfil_left(time.time() - _LEFT_BEHIND_S)
    core.metrics.background_items.labels("commitments answered").inc(answered)


def _measure_usage(core: assembly.Core) -> None:
    for tenant, used in core.archive.index.usage().items():
        core.metrics.tenant_objects.labels(tenant).set(used.objects)
        core.metrics.tenant_bytes.labels(tenant).set(used.bytes)
    for name, quota in assembly.quotas(core.settings).items():
        if quota.bytes is not None:
            core.metrics.tenant_quota_bytes.labels(name).set(quota.bytes)


def _purge(core: assembly.Core) -> None:
    removed = reconcile.purge(core.archive, core.settings.storage.undo_s)
    if removed:
        _log.info("%d deleted versions were removed for good", removed)
    core.metrics.background_items.labels("versions purged").inc(removed)


def _follow(core: assembly.Core, follower: reconcile.Follower, stop: threading.Event) -> None:
    report = follower.follow(stop.is_set)
    done = report.indexed, report.quarantined, report.removed, report.records
    if any(done):
        _log.info("followed the objects: %d indexed, %d quarantined, %d removed, %d records", *done)
    for result, count in zip(("indexed", "quarantined", "removed", "records"), done, strict=True):
        core.metrics.background_items.labels(f"followed {result}").inc(count)


def _adopt_orphans(core: assembly.Core) -> None:
    storage = core.settings.storage
    report = reconcile.adopt_orphans(core.archive, storage.grace_s, assembly.conflicts(core.settings))
    done = report.indexed, report.quarantined, report.removed, len(report.damaged)
    _log.info("objects without a row: %d indexed, %d quarantined, %d removed, %d left alone", *done)
    for result, count in zip(("indexed", "quarantined", "removed"), done, strict=False):
        core.metrics.background_items.labels(f"orphans {result}").inc(count)
    core.metrics.orphans_left.set(len(report.damaged))
