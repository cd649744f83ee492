"""The background work, which nobody waits for: complete studies, commitments, deletions, rules, orphans, following."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Generic, TypeVar

from gateway import assembly, stores
from gateway.config import Settings
from gateway.config.notifying import WebhookSettings
from gateway.context import of_the_gateway
from gateway.dicomweb.urls import PREFIX as DICOMWEB
from gateway.dimse import commitment
from gateway.errors import GatewayError
from gateway.fhir.answers import PREFIX as FHIR
from gateway.imaging.pool import ImagingPool
from gateway.services import retention as retaining
from gateway.services import transition as moving
from gateway.services.recompress import Left
from gateway.services.recompress import Step as Recompressed
from gateway.services.rules import Look
from gateway.services.webhooks import Told, Webhook, standing
from gateway.telemetry.metrics import Metrics
from gateway.viewing import following
from storage import reconcile
from storage.dicom.identifiers import StudyUid
from storage.errors import StorageError

_log = logging.getLogger("gateway.background")

_TICK_S = 5.0
_USAGE_EVERY_S = 30.0
_FORGET_EVERY_S = 60.0
_AFTER_DEFECT_S = 60.0
_MOVING_S = 1.0
"""Objects are moved for so long before other work has its turn."""
_LEARNING_PAUSE_S = 0.1
_RECOMPRESS_EVERY_S = 300.0
"""To look for what is old enough costs two questions of the index."""
_LEFT_BEHIND_S = 600.0
"""A commitment request without a result for so long has lost its worker."""

AnyStep = TypeVar("AnyStep")


def run(core: assembly.Core, stop: threading.Event) -> None:
    """Carry the duties out, one after the other, until told to stop."""
    storage, metrics = core.settings.storage, core.metrics
    tick_s = min(_TICK_S, storage.study_quiet_s / 4)
    forget = _Duty("forget what has ended", metrics, _FORGET_EVERY_S, partial(_forget, core))
    forget.due_s = time.monotonic()
    duties = (
        _Duty("complete studies", metrics, tick_s, partial(_complete_studies, core)),
        _Duty("answer commitments", metrics, tick_s, partial(_answer_commitments, core)),
        _Duty("tell of commitments", metrics, tick_s, partial(commitment.tell_all, core)),
        _Duty("measure usage", metrics, _USAGE_EVERY_S, partial(_measure_usage, core)),
        forget,
        *_of_objects(core, stop),
    )
    with _beside(core, stop):
        while not stop.wait(max(0.0, min(duty.due_s for duty in duties) - time.monotonic())):
            for duty in duties:
                duty.run_if_due()


@contextmanager
def _beside(core: assembly.Core, stop: threading.Event) -> Iterator[None]:
    """What may take long has a thread of its own, so that nothing else waits: views, recompression, webhooks."""
    threads = [
        threading.Thread(target=_follow_view, args=(core, name, stop), name=f"view {name}") for name in core.views
    ]
    if core.settings.recompression and not core.settings.storage.read_only:
        threads.append(threading.Thread(target=_recompress, args=(core, stop), name="recompression"))
    if not core.settings.storage.read_only:
        threads += [
            threading.Thread(target=_notify, args=(core, given, stop), name=f"webhook {given.name}")
            for given in core.settings.webhooks
        ]
    begun: list[threading.Thread] = []
    try:
        for each in threads:
            each.start()
            begun.append(each)
        yield
    finally:
        stop.set()  # also when a duty failed and the process ends: nobody would
        for each in begun:
            each.join()


def _follow_view(core: assembly.Core, name: str, stop: threading.Event) -> None:
    follower = assembly.view_follower(core.settings, name, core.archive, core.views[name], core.pool)
    duty = _Duty(
        f"view {name}",
        core.metrics,
        core.settings.views[name].follow_interval_s,
        lambda: _tell_view(core, name, follower.follow(stop.is_set)),
    )
    _again_and_again(duty, f"view {name}", stop)


def _notify(core: assembly.Core, given: WebhookSettings, stop: threading.Event) -> None:
    index, metrics = core.archive.index, core.metrics

    def tell(told: Told) -> None:
        metrics.webhook_messages.labels(given.name, told.outcome).inc()
        if told.outcome == "failed":
            _log.warning("webhook %s: a message was not taken (%s); it is sent again", given.name, told.reason)
        if told.outcome == "lost":
            _log.error("webhook %s: a message is given up (%s)", given.name, told.reason)

    with closing(Webhook(given, index, core.control, core.door.record, partial(study_links, core.settings))) as webhook:

        def call() -> None:
            webhook.round(stop.is_set, tell)
            metrics.webhook_behind.labels(given.name).set(standing(given, index, core.control).behind or 0)

        def cut_at_stop() -> None:
            stop.wait()
            webhook.cut()

        threading.Thread(target=cut_at_stop, name=f"webhook {given.name} stops", daemon=True).start()

        tick_s = min(_TICK_S, core.settings.storage.study_quiet_s / 4)
        _again_and_again(_Duty(f"webhook {given.name}", metrics, tick_s, call), f"webhook {given.name}", stop)


def study_links(settings: Settings, study_uid: StudyUid) -> dict[str, str]:
    """Where a study is found, from where others see the gateway; nothing where the settings do not say that."""
    if settings.http.public_url is None:
        return {}
    root = str(settings.http.public_url).rstrip("/")
    return {
        "dicomweb": f"{root}{DICOMWEB}/studies/{study_uid}",
        "fhir": f"{root}{FHIR}/ImagingStudy?identifier=urn:dicom:uid|urn:oid:{study_uid}",
    }


def _again_and_again(duty: _Duty, name: str, stop: threading.Event) -> None:
    duty.due_s = time.monotonic()
    while not stop.wait(max(0.0, duty.due_s - time.monotonic())):
        try:
            duty.run_if_due()
        except Exception:  # the boundary of the thread: what stands still would go unnoticed
            _log.exception("%s: a defect; it is tried again in %g s", name, _AFTER_DEFECT_S)
            duty.due_s = time.monotonic() + _AFTER_DEFECT_S


def _recompress(core: assembly.Core, stop: threading.Event) -> None:
    with assembly.gentle_pool(core) as pool:
        rounds = _Rounds(assembly.recompression(core, pool).round, partial(_tell_recompression, core.metrics))
        every_s = min(core.settings.lifecycle.interval_s, _RECOMPRESS_EVERY_S)
        duty = _Duty("recompress", core.metrics, every_s, rounds)
        threading.Thread(target=_close_at_stop, args=(pool, stop), name="recompression stops", daemon=True).start()
        _again_and_again(duty, "recompression", stop)


def _close_at_stop(pool: ImagingPool, stop: threading.Event) -> None:
    """End a frame under way: with a large one it would be minutes until the process could."""
    stop.wait()
    pool.close()


def _tell_recompression(metrics: Metrics, step: Recompressed) -> None:
    tenant = step.located.key.tenant
    if step.kept:
        metrics.recompression_replaced.labels(tenant, step.rule).inc()
        metrics.recompressed_bytes.labels(tenant, "replaced").inc(step.size)
        metrics.recompressed_bytes.labels(tenant, "kept").inc(step.kept)
    if step.left is not None:
        metrics.recompression_left.labels(tenant, step.left.value).inc()
        if step.left in (Left.NOT_EQUAL, Left.DAMAGED):
            _log.warning("recompression leaves version %s: %s", step.located.version, step.left.value)
    if not step.made:
        return
    metrics.recompressed.labels(tenant, step.rule).inc()
    metrics.recompressed_bytes.labels(tenant, "originals").inc(step.size)
    metrics.recompressed_bytes.labels(tenant, "recompressed").inc(step.made)


def _tell_view(core: assembly.Core, name: str, report: following.Report) -> None:
    done = report.made, report.gone, report.withheld
    if any(done):
        _log.info("view %s: %d instances made, %d gone, %d withheld", name, *done)
    for result, count in zip(("made", "gone", "withheld"), done, strict=True):
        core.metrics.background_items.labels(f"view {name} {result}").inc(count)


def _of_objects(core: assembly.Core, stop: threading.Event) -> Sequence[_Duty]:
    """What is to be done with the objects: to look after them, or to follow who does."""
    storage, metrics = core.settings.storage, core.metrics
    learn = _Duty("learn sources", metrics, storage.reap_interval_s, partial(_learn_sources, core), _LEARNING_PAUSE_S)
    learn.due_s = time.monotonic()
    if not storage.read_only:
        return (
            learn,
            _Duty("purge deletions", metrics, storage.reap_interval_s, partial(_purge, core)),
            _Duty("adopt orphans", metrics, storage.reap_interval_s, partial(_adopt_orphans, core)),
            *_of_rules(core),
        )
    follower = reconcile.Follower(core.archive, storage.directory)
    follow = _Duty("follow objects", metrics, storage.follow_interval_s, partial(_follow, core, follower, stop))
    follow.due_s = time.monotonic()
    return follow, learn


def _of_rules(core: assembly.Core) -> Sequence[_Duty]:
    """What rules of the settings ask for, where there are some."""
    settings, metrics = core.settings, core.metrics
    interval_s, pause_s = settings.lifecycle.interval_s, settings.lifecycle.pause_s
    duties = []
    if settings.retention:
        duties.append(_Duty("apply retention", metrics, interval_s, retention(core), pause_s))
    if settings.transition:
        duties.append(_Duty("apply transitions", metrics, interval_s, transitions(core), pause_s))
    return duties


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


class _Rounds(Generic[AnyStep]):
    """Rounds of something, some steps at each call; True as long as a round goes on.

    ``steps_s`` is how long a call goes on to another step; 0 makes one.
    """

    def __init__(
        self, begin: Callable[[], Iterator[AnyStep]], tell: Callable[[AnyStep], None], steps_s: float = 0.0
    ) -> None:
        self._begin = begin
        self._tell = tell
        self._steps_s = steps_s
        self._round: Iterator[AnyStep] | None = None

    def __call__(self) -> bool:
        """Make steps. A round that an engine broke off begins anew."""
        under_way, self._round = self._round or self._begin(), None
        until_s = time.monotonic() + self._steps_s
        for step in under_way:
            self._tell(step)
            if time.monotonic() >= until_s:
                self._round = under_way
                return True
        return False


def retention(core: assembly.Core) -> _Rounds[retaining.Step]:
    """Rounds of retention."""
    return _Rounds(lambda: core.retention.round(of_the_gateway("retention")), partial(_tell_retention, core.metrics))


def _tell_retention(metrics: Metrics, step: retaining.Step) -> None:
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


def transitions(core: assembly.Core) -> _Rounds[moving.Step]:
    """Rounds of transitions."""
    classes = stores.storage_classes(core.settings)
    service = moving.TransitionService(core.archive, classes, core.trail, core.settings.transition)
    caller = of_the_gateway("transition")
    return _Rounds(
        lambda: service.round(caller, service.tenants(), Look()), partial(_tell_transition, core.metrics), _MOVING_S
    )


def _tell_transition(metrics: Metrics, step: moving.Step) -> None:
    due = step.due
    if due is None:
        return
    metrics.transition_bytes.labels(due.tenant, due.rule.storage_class).inc(step.size)
    if step.done:
        metrics.transition_moved.labels(due.tenant, due.rule.name).inc()
    if step.failed:
        metrics.transition_failed.labels(due.tenant).inc()
        _log.warning("transition: a study of tenant %s was not moved: %s", due.tenant, step.failed)


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


def _forget(core: assembly.Core) -> None:
    """Of sessions, links, logins and failures; every host does, since each may be the only one."""
    core.metrics.background_items.labels("control state forgotten").inc(core.control.sweep())
    kept_s = core.settings.worklist.kept_days * 86_400
    core.metrics.background_items.labels("procedure steps forgotten").inc(core.worklist.forget(time.time() - kept_s))


def _purge(core: assembly.Core) -> None:
    removed = reconcile.purge(core.archive, core.settings.storage.undo_s)
    if removed:
        _log.info("%d deleted versions were removed for good", removed)
    core.metrics.background_items.labels("versions purged").inc(removed)


def _learn_sources(core: assembly.Core) -> bool:
    learned = reconcile.learn_sources(core.archive)
    core.metrics.background_items.labels("sources learned").inc(learned)
    return learned > 0


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
