"""``gateway check-config``: check settings and policy, starting nothing."""

from __future__ import annotations

import argparse

from gateway import assembly, config
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.config import InvalidSettings


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "check-config",
        help="check settings and policy, starting nothing",
        description="Check settings and policy; each fault is told with its place and what would be right.",
    )
    with_json(parser)
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Check."""
    try:
        assembly.check(config.load(options.config))
    except InvalidSettings as error:
        if options.json:
            terminal.report({"in_order": False, "faults": error.faults})
        raise
    terminal.done(options, {"in_order": True, "faults": []}, "the settings are in order")
    return terminal.OK
