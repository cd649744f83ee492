"""``gateway import``: take instances from directories, DICOMDIRs, ZIPs and buckets into the archive."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from gateway import assembly, config, stores
from gateway.commands import terminal
from gateway.commands.arguments import Commands, checked, with_bucket, with_config, with_json, with_workers
from gateway.config import InvalidSettings, Settings
from gateway.importing import journal as journals
from gateway.importing import on_disk, storing
from gateway.importing.buckets import Bucket
from gateway.importing.items import Fate, Source
from gateway.importing.running import Amount, Import, Report, measure
from gateway.importing.storing import Order
from gateway.rebuilding import not_meanwhile
from storage.crew import Crew
from storage.dicom import identifiers as ids

_S3 = "s3://"
_THREADS = 16
_MB = 1e6
_END_S = 30.0


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "import",
        help="take instances from files or a bucket",
        description="Store every DICOM instance of the sources, by the same rules as if it were sent. May run beside "
        "the gateway. Given again after an interruption, the command goes on where it was. Exit status 1 when a file "
        "was refused, put in quarantine, or could not be read.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a directory, a file, a DICOMDIR (the files that it names), a ZIP, or s3://BUCKET/PREFIX",
    )
    with_workers(parser, "processes that store at the same time")
    parser.add_argument("--in-order", action="store_true", help="one file after the other, by one process")
    parser.add_argument("--tenant", type=checked(ids.tenant), default="main", help="into this tenant (main)")
    parser.add_argument("--dry-run", action="store_true", help="read and report, store nothing")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="note here what is done, and keep it")
    parser.add_argument("--anew", action="store_true", help="do not go on with what an interrupted import left")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON line for each file not stored")
    with_bucket(parser)
    with_json(parser)
    with_config(parser, run, "give the command again to go on")


def run(options: argparse.Namespace) -> int:
    """Import."""
    settings = config.load(options.config)
    if settings.storage.read_only:
        raise InvalidSettings(["storage.read_only: this gateway only reads; import where the archive is written"])
    assembly.check(settings)
    assembly.check_index(settings)
    sources = tuple(_source(given, settings, options) for given in options.sources)
    identities = [source.identity for source in sources]
    path = options.journal or journals.default_path(settings.storage.directory, options.tenant, identities)
    started_s = time.monotonic()
    with ExitStack() as held:
        for source in sources:
            held.callback(source.close)
        held.enter_context(not_meanwhile(settings))
        spool = held.enter_context(journals.work_place(settings.storage.directory, path))
        held.enter_context(terminal.interruptible())
        journal = None
        if not options.dry_run:
            journal = journals.Journal(path, identities, options.tenant)
            held.callback(journal.close)
            if options.anew:
                journal.clear()
        work = Import(
            sources, journal, held.enter_context(terminal.report_file(options.report)) if options.report else None
        )
        threads = 1 if options.in_order else _THREADS
        order = Order(settings, sources, options.tenant, spool, threads, options.dry_run)
        complete = False
        try:
            _import(work, order, 1 if options.in_order else options.workers)
            complete = True
        finally:
            _tell(work.report, time.monotonic() - started_s, options, complete=complete)
        if journal is not None and not work.report.failed and options.journal is None:
            journal.remove()
    return terminal.FAILED if work.report.failed else terminal.OK


def _import(work: Import, order: Order, workers: int) -> None:
    with terminal.progress("listing") as meter:
        total = measure(order.sources, lambda so_far: meter.update(so_far.files, detail=_megabytes(so_far.size)))
    with (
        terminal.progress("importing", total.files) as meter,
        # What they have in hand they store to the end: less is left for who looks for objects without a row.
        Crew(partial(storing.start, order), min(workers, max(total.files, 1)), "import", end_s=_END_S) as crew,
    ):

        def update(so_far: Report) -> None:
            meter.update(so_far.files, detail=_detail(so_far, total, meter.passed_s))

        work.run(crew, update)


def _detail(so_far: Report, total: Amount, passed_s: float) -> str:
    text = f"{_megabytes(so_far.size)} of {_megabytes(total.size)}, {so_far.size / _MB / passed_s:,.0f} MB/s"
    return text + (f", {so_far.failed} not stored" if so_far.failed else "")


def _megabytes(size: int) -> str:
    return f"{size / _MB:,.0f} MB"


def _source(given: str, settings: Settings, options: argparse.Namespace) -> Source:
    if given.startswith(_S3):
        bucket, _, prefix = given.removeprefix(_S3).partition("/")
        if not bucket:
            raise InvalidSettings([f"{given}: a bucket is s3://BUCKET or s3://BUCKET/PREFIX"])
        own_keys = options.credentials == "settings"
        return Bucket(stores.foreign_bucket(settings, bucket, "", options.endpoint_url, own_keys=own_keys), prefix)
    return on_disk.source(given, assembly.limits(settings), settings.storage.directory)


def _tell(report: Report, seconds: float, options: argparse.Namespace, *, complete: bool) -> None:
    fates = report.fates
    if options.json:
        terminal.report(
            {
                "complete": complete,
                "dry_run": options.dry_run,
                **{fate.value.replace(" ", "_"): fates[fate] for fate in Fate if fate is not Fate.STOPPED},
                "done_before": report.before,
                "files": report.files,
                "bytes": report.size,
                "seconds": round(seconds, 3),
                "wrong": [{"file": each.name, "outcome": each.fate, "reason": each.reason} for each in report.wrong],
            }
        )
        return
    for each in report.wrong[: terminal.SHOWN]:
        terminal.error(f"{each.name}: {each.fate}: {each.reason}")
    if report.failed > terminal.SHOWN:
        terminal.error(f"and {report.failed - terminal.SHOWN} more: --report FILE names them all")
    counted = [f"{fates[fate]} {fate}" for fate in Fate if fates[fate]]
    if report.before:
        counted.append(f"{report.before} done by an earlier run")
    what = "would be: " if options.dry_run else ""
    rate = f"{_megabytes(report.size)} in {seconds:,.1f} s"
    terminal.answer(f"{report.files} files, {what}{', '.join(counted) or 'none'}; {rate}")
