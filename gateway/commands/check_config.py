"""``gateway check-config``: check settings and policy, starting nothing."""

from __future__ import annotations

import argparse

from gateway import assembly, config
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "check-config",
        help="check settings and policy, starting nothing",
        description="Check settings and policy; each fault is told with its place and what would be right.",
    )
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Check."""
    assembly.check(config.load(options.config))
    terminal.answer("the settings are in order")
    return terminal.OK
