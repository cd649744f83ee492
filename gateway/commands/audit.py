"""``gateway audit``: check the audit trail, search it, and say who saw a patient's images."""

from __future__ import annotations

import argparse
import datetime
from contextlib import closing

from gateway import assembly, config, stores
from gateway.audit import checkpoints, coverage, verifying
from gateway.audit.coverage import Coverage
from gateway.audit.verifying import Verification
from gateway.commands import audit_search, terminal
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.commands.audit_search import directories, with_directories


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "audit", help="check and search the audit trail", description="Check and search the audit trail."
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    _add_verify(what)
    audit_search.add(what)


def day(text: str) -> str:
    """A day as YYYYMMDD."""
    try:
        return datetime.date.fromisoformat(text).strftime("%Y%m%d")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a day such as 2026-01-31, got {text!r}") from error


def _add_verify(what: Commands) -> None:
    parser = what.add_parser(
        "verify",
        help="check that no record was altered, removed, moved or cut off",
        description="Check every record by the chains and signatures, and the ends of the chains by the checkpoints in "
        "the object store. Changes nothing, and may run beside the gateway. Exit status 1 when anything is not as it "
        "was recorded, or cannot be checked; what a crash cut off within a line is told, and is no fault.",
    )
    with_directories(parser)
    parser.add_argument(
        "--since", type=day, metavar="DAY", help="only files from that day on; those before may be gone"
    )
    parser.add_argument(
        "--no-checkpoints", action="store_true", help="do not ask the object store: cut off ends go unseen"
    )
    with_json(parser)
    with_config(parser, _verify)


def _verify(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    known, where, since = assembly.audit_keys(settings), directories(settings, options), options.since or ""
    covered: Coverage | None = None
    with terminal.interruptible(), terminal.progress("verifying files") as meter:
        if options.no_checkpoints:
            found = verifying.verify(where, known, (), since, meter.update)
        else:
            with closing(stores.object_store(settings, reading_cache=False, read_only=True)) as objects:
                trails = verifying.trails(where)
                covered = coverage.coverage(objects, where)
                claims = verifying.checkpoints_of(objects, trails, since)
                found = verifying.verify(where, known, claims, since, meter.update)
                if not found.chains:
                    left = [each for each in checkpoints.trails(objects) if each not in trails]
                    found.faults += [
                        verifying.Fault(each, None, "the whole trail is missing; it has checkpoints") for each in left
                    ]
    _tell(found, covered, as_json=options.json)
    return terminal.FAILED if found.faults else terminal.OK


def _tell(found: Verification, covered: Coverage | None, *, as_json: bool) -> None:
    if as_json:
        terminal.report(
            {
                "whole": not found.faults,
                "chains": found.chains,
                "records": found.records,
                "checkpoints": found.checkpoints,
                "faults": [{"where": each.where, "record": each.seq, "what": each.what} for each in found.faults],
                "cut_off_by_a_crash": found.torn,
                "without_an_end": found.open,
                "unchained_files": found.unchained,
                **(covered.fields() if covered is not None else {}),
            }
        )
        return
    for fault in found.faults[: terminal.SHOWN]:
        terminal.error(str(fault))
    if len(found.faults) > terminal.SHOWN:
        terminal.error(f"and {len(found.faults) - terminal.SHOWN} more: --json names them all")
    for name in found.torn[: terminal.SHOWN]:
        terminal.note(f"{name} ends within a line: a crash cut it off")
    if found.open:
        terminal.note(f"{len(found.open)} chains without an end: their processes run, or were killed")
    if found.unchained:
        terminal.note(f"{len(found.unchained)} files of an earlier release have no chain, {found.unchained[0]} for one")
    if covered is not None and covered.gap:
        terminal.note(covered.gap)
    if not found.checkpoints:
        terminal.note("no checkpoint was looked at: what was cut off at the end of a chain goes unseen")
    terminal.answer(
        f"{found.records} records in {found.chains} chains by {found.checkpoints} checkpoints: "
        + (f"{len(found.faults)} faults" if found.faults else "as they were recorded")
    )
