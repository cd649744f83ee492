"""``gateway export``: what a de-identified view shows, into a directory, ZIP or bucket, or to a peer."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from gateway import assembly, config, stores
from gateway.commands import terminal
from gateway.commands.administration import administrator, opened
from gateway.commands.arguments import Commands, checked, with_bucket, with_config, with_json
from gateway.commands.view import imaging_pool, shown_by
from gateway.config import InvalidSettings, Settings
from gateway.dimse import destinations
from gateway.dimse.exported import StoragePeer
from gateway.dimse.requesting import SCHEME
from gateway.exporting.buckets import Bucket
from gateway.exporting.files import Folder, Zip
from gateway.exporting.items import Target
from gateway.exporting.manifest import Manifest
from gateway.exporting.running import Export, Report
from gateway.exporting.selection import Chosen, Selection, selected
from storage.dicom import identifiers as ids
from storage.dicom.attributes import path_of
from storage.objects.keys import is_key

_S3, _PEER = "s3://", f"{SCHEME}://"
_MB = 1e6


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "export",
        help="give away what a de-identified view shows",
        description="Copy the de-identified instances that a view shows of studies, which are named by what is "
        "stored; all of the view without --study, --patient-id and --where. What is given has to be true all together. "
        "Nothing is overwritten. May run beside the gateway. Exit status 1 when an instance could not be exported.",
    )
    parser.add_argument("--view", required=True, metavar="NAME", help="the view")
    parser.add_argument(
        "--to",
        required=True,
        metavar="TARGET",
        help="a directory, FILE.zip, s3://BUCKET/PREFIX, or a peer: dicom://AET@HOST:PORT, or "
        "dicom://AET of dimse.destinations",
    )
    parser.add_argument(
        "--study", action="append", default=[], type=checked(ids.study_uid), metavar="UID", help="a study; may be "
        "given again",
    )  # fmt: skip
    parser.add_argument("--patient-id", metavar="ID", help="a patient, by Patient ID")
    parser.add_argument("--issuer", default="", help="Issuer of Patient ID, where the patient's images have one")
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEYWORD=VALUE", help="studies that a search with this key, "
        "as QIDO-RS has it, finds; may be given again",
    )  # fmt: skip
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="of what a peer got; without it, it is printed")
    with_bucket(parser)
    with_json(parser)
    with_config(parser, run, "give the command again to go on; what is there in a directory or bucket is left")


def run(options: argparse.Namespace) -> int:
    """Export."""
    settings = config.load(options.config)
    selection = _selection(options)
    _check(options)
    started_s = time.monotonic()
    with ExitStack() as held:
        archive, trail = held.enter_context(opened(settings))
        shown = held.enter_context(shown_by(settings, options.view, archive))
        pool = held.enter_context(imaging_pool(settings))
        follower = assembly.view_follower(settings, options.view, archive, shown, pool)
        studies = selected(archive.index, follower.definition, selection)
        target = held.enter_context(closing(_target(settings, options)))
        file = held.enter_context(tempfile.TemporaryFile(dir=settings.storage.directory))
        manifest = Manifest(file, follower.definition)
        export = Export(shown, follower, trail, administrator(), target, options.to, manifest)
        complete = False
        held.enter_context(terminal.interruptible())
        try:
            _export(export, studies)
            complete = True
        finally:
            _tell(export.report, time.monotonic() - started_s, options, complete=complete)
        if options.to.startswith(_PEER):
            _give(manifest, options.manifest)
    return terminal.FAILED if export.report.failed else terminal.OK


def _export(export: Export, studies: list[Chosen]) -> None:
    with terminal.progress("bringing studies up", len(studies)) as meter:
        export.bring_up(studies, meter.update)
    with terminal.progress("exporting") as meter:

        def update(so_far: Report) -> None:
            failed = so_far.failed.total()
            detail = f"{so_far.size / _MB:,.0f} MB, {so_far.size / _MB / meter.passed_s:,.0f} MB/s"
            meter.update(so_far.instances + failed, detail=detail + (f", {failed} failed" if failed else ""))

        export.run(studies, update)


def _check(options: argparse.Namespace) -> None:
    if not options.to.startswith(_PEER):
        if options.manifest is not None:
            raise InvalidSettings(["--manifest: only for a peer; elsewhere the manifest is in the target"])
    elif options.json and options.manifest is None:
        raise InvalidSettings(["--json: with a peer needs --manifest FILE, which would be printed too"])


def _selection(options: argparse.Namespace) -> Selection:
    keys = []
    for given in options.where:
        name, equals, text = given.partition("=")
        path = path_of(name)
        if path is None or not equals:
            raise InvalidSettings([f"--where {name}: a key is KEYWORD=VALUE, such as StudyDate=20260101-"])
        keys.append((path, text))
    patient = None if options.patient_id is None else (options.issuer, options.patient_id)
    return Selection(tuple(options.study), patient, tuple(keys))


def _target(settings: Settings, options: argparse.Namespace) -> Target:
    to, fsync = options.to, settings.storage.fsync
    if to.startswith(_PEER):
        return StoragePeer(destinations.given(settings.dimse, to), settings.dimse)
    if to.startswith(_S3):
        return _bucket(settings, options)
    path = Path(to)
    for own in (settings.storage.directory, stores.archive_directory(settings)):
        if path.resolve().is_relative_to(own.resolve()):
            raise InvalidSettings([f"--to {to}: within {own}, which is the gateway's own"])
    if path.suffix.lower() == ".zip":
        return Zip(path, fsync=fsync)
    return Folder(path, fsync=fsync)


def _bucket(settings: Settings, options: argparse.Namespace) -> Target:
    name, _, prefix = options.to.removeprefix(_S3).partition("/")
    prefix = prefix.strip("/")
    if not name or (prefix and not is_key(prefix)):
        raise InvalidSettings([f"--to {options.to}: a bucket is s3://BUCKET or s3://BUCKET/PREFIX"])
    found = stores.foreign_bucket(
        settings, name, prefix, options.endpoint_url, own_keys=options.credentials == "settings"
    )
    if stores.is_own_bucket(settings, found):
        raise InvalidSettings([f"--to {options.to}: the archive is in this bucket"])
    return Bucket(found)


def _give(manifest: Manifest, path: Path | None) -> None:
    """The manifest of what a peer got."""
    if path is None:
        shutil.copyfileobj(manifest.document, sys.stdout.buffer)
        sys.stdout.flush()
        return
    with path.open("xb") as file:
        shutil.copyfileobj(manifest.document, file)


def _tell(report: Report, seconds: float, options: argparse.Namespace, *, complete: bool) -> None:
    failed, withheld = report.failed.total(), report.withheld.total()
    if options.json:
        terminal.report(
            {
                "complete": complete,
                "view": options.view,
                "studies": report.studies,
                "instances": report.instances,
                "there_before": report.before,
                "bytes": report.size,
                "withheld": dict(sorted(report.withheld.items())),
                "failed": failed,
                "wrong": [{"SOPInstanceUID": uid, "reason": reason} for uid, reason in report.wrong],
                "seconds": round(seconds, 3),
            }
        )
        return
    for uid, reason in report.wrong[: terminal.SHOWN]:
        terminal.error(f"{uid}: {reason}")
    if failed > terminal.SHOWN:
        terminal.error(f"and {failed - terminal.SHOWN} more: --json names them")
    text = f"{report.studies} studies, {report.instances} instances"
    for number, what in ((report.before, "there before"), (withheld, "withheld"), (failed, "failed")):
        text += f", {number} {what}" if number else ""
    text += f"; {report.size / _MB:,.0f} MB in {seconds:,.1f} s"
    (terminal.note if options.to.startswith(_PEER) and options.manifest is None else terminal.answer)(text)
