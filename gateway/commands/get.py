"""``gateway get``: fetch instances of a peer into a directory, by C-GET."""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path

from gateway import assembly
from gateway.calling.getting import Getting, Report
from gateway.commands import keys, terminal
from gateway.commands.arguments import Commands, NotUnderstood, with_config, with_json, with_more
from gateway.commands.find import archive
from gateway.commands.peers import Called, called, with_manner, with_peer
from gateway.dimse.asking import MODELS
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier

_MB = 1e6
_PLACES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "get",
        help="fetch instances of a peer into a directory (C-GET)",
        description="Fetch a study, a series or an instance by its UIDs, or every study that other keys find, into "
        "DIR/STUDY/SERIES/INSTANCE.dcm. What is there is neither overwritten nor fetched again, so that the same "
        "command goes on where it was.",
    )
    with_peer(parser)
    parser.add_argument(
        "keys", nargs="+", metavar="KEYWORD=VALUE", help="StudyInstanceUID=UID, or what C-FIND matches: PatientID=4711"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    with_more(parser, lambda options, more: options.keys.extend(more))
    with_manner(parser)
    with_json(parser)
    with_config(parser, run, "give the command again to go on; what has come stays")


def run(options: argparse.Namespace) -> int:
    """Fetch."""
    found = called(options)
    asked = keys.parse(options.keys)
    _check(asked)
    options.out.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()
    with (
        terminal.interruptible(),
        keys.as_given(),
        tempfile.TemporaryDirectory(prefix=".gateway-get-", dir=options.out) as folder,
        closing(archive(found, Path(folder), MODELS)) as peer,
    ):
        work = Getting(peer, options.out, assembly.limits(found.settings), found.peer.address.ae_title)
        complete = False
        try:
            _get(work, asked)
            complete = True
        finally:
            _tell(work.report, time.monotonic() - started_s, options, found, complete=complete)
    return terminal.OK if work.report.is_whole and _came(work.report) else terminal.FAILED


def _came(report: Report) -> int:
    """How much there is or would be; 0 when the peer has nothing."""
    return report.listed + report.gotten + report.failed_there + len(report.wrong)


def _get(work: Getting, asked: dict[str, str]) -> None:
    with terminal.progress("fetching") as meter:

        def update(so_far: Report) -> None:
            wrong = f", {len(so_far.wrong)} wrong" if so_far.wrong else ""
            detail = f"{so_far.size / _MB:,.1f} MB, {so_far.size / _MB / meter.passed_s:,.1f} MB/s{wrong}"
            meter.update(so_far.gotten + so_far.before, so_far.listed or None, detail)

        if "StudyInstanceUID" in asked:
            work.get(update, *(asked.get(each, "") for each in _PLACES))
            return
        for uid in work.studies(asked):
            work.get(update, uid)


def _check(asked: dict[str, str]) -> None:
    """Raises NotUnderstood."""
    places = [each for each in _PLACES if each in asked]
    for upper, lower in pairwise(_PLACES):
        if lower in asked and upper not in asked:
            raise NotUnderstood([f"{lower}: needs {upper} beside it, which `gateway find` tells"])
    for keyword in places:
        try:
            ids.checked_uid(asked[keyword], keyword)
        except InvalidIdentifier as error:
            raise NotUnderstood([str(error)]) from error
    if places and len(asked) > len(places):
        other = next(each for each in asked if each not in places)
        raise NotUnderstood([f"{other}: with UIDs nothing else narrows it down"])
    if not any(asked.values()):
        raise NotUnderstood([f"{next(iter(asked))}: needs a value, or everything would come"])


def _tell(report: Report, seconds: float, options: argparse.Namespace, found: Called, *, complete: bool) -> None:
    if options.json:
        terminal.report(
            {
                "peer": str(found.peer.address),
                "complete": complete,
                "studies": report.studies,
                "instances": {
                    "listed": report.listed,
                    "fetched": report.gotten,
                    "there_before": report.before,
                    "missing": report.missing,
                    "failed_at_the_peer": report.failed_there,
                },
                "bytes": report.size,
                "seconds": round(seconds, 3),
                "wrong": [{"uid": uid, "reason": reason} for uid, reason in report.wrong.items()],
            }
        )
        return
    if not complete and not report.studies:
        return  # the peer was never asked for anything, and why is told
    for uid, reason in islice(report.wrong.items(), terminal.SHOWN):
        terminal.error(f"{uid}: {reason}")
    if len(report.wrong) > terminal.SHOWN:
        terminal.error(f"and {len(report.wrong) - terminal.SHOWN} more: --json names them")
    if report.failed_there:
        terminal.error(f"the peer could not send {report.failed_there} instances; its log says why")
    if complete and not _came(report):
        terminal.error(f"{found.peer.address} has nothing that matches")
        terminal.advise("`gateway find` with the same keys shows what it has")
        return
    before = f", {report.before} were there" if report.before else ""
    missing = f", {len(report.missing)} missing" if report.missing else ""
    terminal.answer(
        f"{report.gotten} instances fetched into {options.out}{before}{missing}; "
        f"{report.size / _MB:,.1f} MB in {seconds:,.1f} s"
    )
