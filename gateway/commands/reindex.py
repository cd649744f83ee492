"""``gateway reindex``: rebuild the index from the objects."""

from __future__ import annotations

import argparse

from gateway import assembly, config
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config
from storage import reconcile


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "reindex",
        help="rebuild the index from the objects",
        description="Rebuild the index from the objects alone, while the gateway is stopped. The old index is kept.",
    )
    with_config(parser, run, "the old index is where it was; give the command again")


def run(options: argparse.Namespace) -> int:
    """Rebuild."""
    settings = config.load(options.config)
    with assembly.rebuilding(settings) as archive, terminal.interruptible(), terminal.progress("indexing") as meter:
        total = sum(1 for _ in archive.objects.list(""))
        report = reconcile.reindex(archive, lambda so_far: meter.update(so_far.objects, total))
    terminal.answer(
        f"{report.indexed} instances indexed, {report.quarantined} in quarantine, {report.records} records applied, "
        f"{report.removed} second copies removed"
    )
    for key, reason in report.damaged:
        terminal.note(f"left alone {key}: {reason}")
    return terminal.FAILED if report.damaged else terminal.OK
