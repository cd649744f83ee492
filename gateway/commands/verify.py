"""``gateway verify``: read the objects again and compare them with their rows."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

from gateway import assembly, config, stores
from gateway.commands import terminal
from gateway.commands.arguments import Commands, checked, with_config, with_json, with_workers
from storage import reconcile
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.index.stored import Holding

_NAMED = 10_000
"""Objects without a row, and foreign ones, that a JSON report names."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "verify",
        help="read the objects again and compare them with their rows",
        description="Read every object again and compare size and SHA-256 with its row, then look for objects without "
        "a row. Changes nothing, and may run beside the gateway. Exit status 1 when an object is missing or damaged.",
    )
    with_workers(parser, "threads that read at the same time")
    parser.add_argument("--tenant", type=checked(ids.tenant), help="of this tenant only")
    parser.add_argument(
        "--since", type=parse_since, metavar="DATE", help="stored since then: 2026-01-31 or 2026-01-31T08:00Z"
    )
    parser.add_argument("--sample", type=parse_sample, metavar="N%", help="so many of them, chosen by chance")
    parser.add_argument("--after", type=checked(ids.version), metavar="VERSION", help="go on after this version")
    with_json(parser)
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Verify."""
    settings = config.load(options.config)
    assembly.check_index(settings)
    found, started_s = reconcile.Verification(), time.monotonic()
    with ExitStack() as held:
        archive = Archive(
            stores.object_store(settings, reading_cache=False, read_only=True),
            assembly.index(settings),
            assembly.limits(settings),
        )
        held.callback(archive.index.close)
        held.callback(archive.objects.close)
        held.enter_context(terminal.interruptible())
        try:
            _verify(archive, options, found)
        except BaseException:
            if found.last:
                terminal.note(f"everything up to version {found.last} was looked at; go on with --after {found.last}")
            _tell(found, time.monotonic() - started_s, complete=False, as_json=options.json)
            raise
    _tell(found, time.monotonic() - started_s, complete=True, as_json=options.json)
    return terminal.FAILED if found.wrong else terminal.OK


def _verify(archive: Archive, options: argparse.Namespace, found: reconcile.Verification) -> None:
    everything = options.since is None and options.sample is None
    total = None
    if everything:
        with terminal.progress("listing") as meter:
            reconcile.find_without_row(archive, options.tenant, found, meter.update)
            total = meter.done
    selection = reconcile.Selection(options.tenant, _after(options), _chosen(options.sample))
    with terminal.progress("verifying", total) as meter:
        reconcile.verify(
            archive,
            selection,
            found,
            threads=options.workers,
            progress=lambda so_far: meter.update(so_far.checked + so_far.skipped),
        )


def _after(options: argparse.Namespace) -> str:
    since = ids.before_time(options.since) if options.since is not None else ""
    return max(since, options.after or "")


def _chosen(sample: float | None) -> Callable[[Holding], bool]:
    if sample is None:
        return lambda _: True
    chance = random.Random()  # noqa: S311 - a sample, not a secret
    return lambda _: chance.random() < sample


def _tell(found: reconcile.Verification, seconds: float, *, complete: bool, as_json: bool) -> None:
    if as_json:
        terminal.report(
            {
                "complete": complete,
                "checked": found.checked,
                "checked_bytes": found.checked_bytes,
                "skipped": found.skipped,
                "wrong": [{"object": key, "what": wrong.value} for key, wrong in found.wrong],
                "without_row": len(found.without_row),
                "without_row_objects": found.without_row[:_NAMED],
                "foreign": len(found.foreign),
                "foreign_objects": found.foreign[:_NAMED],
                "last": found.last,
                "seconds": round(seconds, 3),
            }
        )
        return
    for key, wrong in found.wrong[: terminal.SHOWN]:
        terminal.error(f"{key}: {wrong.value}")
    if len(found.wrong) > terminal.SHOWN:
        terminal.error(f"and {len(found.wrong) - terminal.SHOWN} more: --json names them all")
    if found.without_row:
        terminal.note(
            f"{len(found.without_row)} objects without a row, {found.without_row[0]} for one: the background worker "
            "gives them one after storage.grace_s, a reindex at once"
        )
    if found.foreign:
        terminal.note(f"{len(found.foreign)} objects that are not the gateway's, {found.foreign[0]} for one")
    terminal.answer(
        f"{found.checked} objects of {found.checked_bytes / 1e6:.1f} MB read, {len(found.wrong)} of them wrong"
    )


def parse_since(text: str) -> float:
    """Unix time of a date, in UTC unless it says otherwise."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a date such as 2026-01-31 or 2026-01-31T08:00Z, got {text!r}") from error
    return (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp()


def parse_sample(text: str) -> float:
    """The fraction that a percentage is."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a percentage such as 5%, got {text!r}") from error
    if not 0 < percent <= 100:
        raise argparse.ArgumentTypeError(f"more than 0% and up to 100%, got {text!r}")
    return percent / 100
