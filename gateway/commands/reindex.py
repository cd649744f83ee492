"""``gateway reindex``: rebuild the index from the objects."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import time
from contextlib import ExitStack, closing
from functools import partial

from gateway import assembly, config, stores
from gateway.audit.events import AuditEvent
from gateway.commands import terminal
from gateway.commands.administration import administrator
from gateway.commands.arguments import Commands, with_config, with_json, with_workers
from gateway.rebuilding import rebuilding
from storage import reconcile
from storage.crew import GARBAGE_THRESHOLD


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "reindex",
        help="rebuild the index from the objects",
        description="Rebuild the index from the objects alone, while the gateway is stopped. The old index is kept. "
        "Given again after an interruption, the command goes on where it was.",
    )
    with_workers(parser)
    parser.add_argument("--anew", action="store_true", help="do not go on with what an interrupted reindex left")
    with_json(parser)
    with_config(parser, run, "the old index is where it was; give the command again to go on")


def run(options: argparse.Namespace) -> int:
    """Rebuild."""
    settings = config.load(options.config)
    gc.set_threshold(GARBAGE_THRESHOLD)
    report, started_s = reconcile.Report(), time.monotonic()
    with ExitStack() as held:
        archive = held.enter_context(rebuilding(settings, anew=options.anew))
        trail = held.enter_context(closing(assembly.audit_trail(settings, "command")))
        trail.write(AuditEvent("reindex", "allowed", administrator()))
        held.enter_context(terminal.interruptible())
        worklist = held.enter_context(closing(reconcile.Worklist(settings.storage.directory)))
        with terminal.progress("listing") as meter:
            worklist.fill(archive.objects, report, lambda so_far: meter.update(so_far.objects))
        readers: reconcile.Readers = reconcile.OneReader(archive.objects, archive.limits)
        if options.workers > 1:
            open_objects = partial(stores.object_store, settings, reading_cache=False)
            readers = held.enter_context(reconcile.ReadingProcesses(open_objects, archive.limits, options.workers))
        with terminal.progress("indexing", worklist.instances) as meter:
            reconcile.reindex(
                archive,
                lambda so_far: meter.update(so_far.seen),
                worklist=worklist,
                report=report,
                readers=readers,
                writes=not settings.storage.read_only,
            )
        trail.write(AuditEvent("reindex", "completed", administrator(), detail=f"{report.indexed} instances"))
    _tell(report, time.monotonic() - started_s, as_json=options.json)
    return terminal.FAILED if report.damaged else terminal.OK


def _tell(report: reconcile.Report, seconds: float, *, as_json: bool) -> None:
    if as_json:
        damaged = [{"object": key, "reason": reason} for key, reason in report.damaged]
        terminal.report({**dataclasses.asdict(report), "damaged": damaged, "seconds": round(seconds, 3)})
        return
    for key, reason in report.damaged[: terminal.SHOWN]:
        terminal.note(f"left alone {key}: {reason}")
    if len(report.damaged) > terminal.SHOWN:
        terminal.note(f"and {len(report.damaged) - terminal.SHOWN} more: --json names them all")
    terminal.answer(
        f"{report.indexed} instances indexed, {report.quarantined} in quarantine, {report.records} records applied, "
        f"{report.removed} second copies removed"
        + (f", {report.known} known from the interrupted run" if report.known else "")
    )
