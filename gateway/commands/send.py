"""``gateway send``: send files to a peer, by C-STORE."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

from gateway import assembly
from gateway.calling.sending import Report, Sending
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config, with_json, with_more
from gateway.commands.peers import Called, called, with_manner, with_peer
from gateway.dimse import told
from gateway.dimse.sending import Sender
from gateway.importing import on_disk
from gateway.importing.journal import Journal

_MB = 1e6


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "send",
        help="send files to a peer (C-STORE)",
        description="Send every DICOM instance of the paths as it is: in its own transfer syntax, or where the peer "
        "does not take that, uncompressed ones in another. Paths are looked at first, and what is no DICOM is "
        "skipped. What a peer has already it takes again: with --journal the same command goes on where it was.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a directory, a file, a DICOMDIR (the files that it names), or a ZIP"
    )
    with_peer(parser)
    parser.add_argument("--dry-run", action="store_true", help="look at the files, and ask nobody")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="note here what is sent, and go on from there")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON line for each file that is not sent")
    with_more(parser, _more)
    with_manner(parser)
    with_json(parser)
    with_config(parser, run, "give the command again; with --journal FILE it goes on where it was")


def _more(options: argparse.Namespace, more: list[str]) -> None:
    """What stands last is the peer, wherever options stand."""
    everything: list[str] = [*options.paths, options.peer, *more]
    options.paths, options.peer = everything[:-1], everything[-1]


def run(options: argparse.Namespace) -> int:
    """Send."""
    found = called(options)
    started_s = time.monotonic()
    with ExitStack() as held:
        limits, own = assembly.limits(found.settings), found.settings.storage.directory
        sources = [on_disk.source(given, limits, own) for given in options.paths]
        for source in sources:
            held.callback(source.close)
        journal = None
        if options.journal is not None:
            journal = Journal(options.journal, [each.identity for each in sources], str(found.peer.address))
            held.callback(journal.close)
        report_file = held.enter_context(terminal.report_file(options.report)) if options.report else None
        work = Sending(sources, limits, journal, report_file)
        held.enter_context(terminal.interruptible())
        complete = False
        try:
            _send(work, found, dry_run=options.dry_run)
            complete = True
        finally:
            _tell(work.report, time.monotonic() - started_s, options, found, complete=complete)
        nothing = not work.report.total and not work.report.before
    return terminal.FAILED if work.report.failed or nothing else terminal.OK


def _send(work: Sending, found: Called, *, dry_run: bool) -> None:
    report = work.report
    with terminal.progress("looking") as meter:
        work.look(lambda so_far: meter.update(so_far.total, detail=_megabytes(so_far.total_size)))
    if dry_run or not report.total:
        return
    sender = Sender(found.peer.address, found.dimse, found.peer.tls)
    with terminal.progress("sending", report.total) as meter:

        def update(so_far: Report) -> None:
            rate = so_far.size / _MB / meter.passed_s
            failed = f", {so_far.failed} not sent" if so_far.failed else ""
            detail = f"{_megabytes(so_far.size)} of {_megabytes(so_far.total_size)}, {rate:,.1f} MB/s{failed}"
            meter.update(so_far.files, detail=detail)

        try:
            work.send(sender, update)
        except BaseException:
            sender.abort()
            raise
        sender.release()


def _megabytes(size: int) -> str:
    return f"{size / _MB:,.1f} MB"


def _tell(report: Report, seconds: float, options: argparse.Namespace, found: Called, *, complete: bool) -> None:
    kinds = sorted(report.kinds.items())
    if options.json:
        terminal.report(
            {
                "peer": str(found.peer.address),
                "complete": complete,
                "dry_run": options.dry_run,
                "instances": report.total,
                "sent": report.sent,
                "with_warnings": report.warned,
                "failed": report.failed,
                "sent_before": report.before,
                "skipped": report.skipped,
                "bytes": report.total_size if options.dry_run else report.size,
                "seconds": round(seconds, 3),
                "kinds": [
                    {"SOPClassUID": sop_class, "TransferSyntaxUID": syntax, "instances": count}
                    for (sop_class, syntax), count in kinds
                ],
                "wrong": [{"file": each.name, "reason": each.reason, "status": each.status} for each in report.wrong],
            }
        )
        return
    for each in report.wrong[: terminal.SHOWN]:
        terminal.error(f"{each.name}: {each.reason}")
    if report.failed > terminal.SHOWN:
        terminal.error(f"and {report.failed - terminal.SHOWN} more: --report FILE names them all")
    if options.dry_run and kinds:
        rows = [(str(count), told.name_of(syntax), told.name_of(sop_class)) for (sop_class, syntax), count in kinds]
        terminal.table(("Instances", "Transfer syntax", "SOP class"), rows, longest=70)
    beside = [
        f"{number} {what}"
        for number, what in (
            (report.warned, "of them with a warning"),
            (report.failed, "not sent"),
            (report.before, "sent by an earlier run"),
            (report.skipped, "files skipped"),
        )
        if number
    ]
    if not complete and not report.sent:
        return  # why is told
    if options.dry_run:
        text = f"{report.total} instances of {_megabytes(report.total_size)} would be sent to {found.peer.address}"
    else:
        rate = f" ({report.size / _MB / seconds:,.1f} MB/s)" if report.size else ""
        text = f"{report.sent} of {report.total} instances sent to {found.peer.address}"
        beside.append(f"{_megabytes(report.size)} in {seconds:,.1f} s{rate}")
    terminal.answer("; ".join([text, ", ".join(beside)]) if beside else text)
    if not report.total and not report.before and not report.failed:
        terminal.advise("there is no DICOM in it; look at the path")
