"""``gateway demo``: start on sample data, with nothing to configure."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.commands.arguments import Commands
from gateway.commands.terminal import FAILED, OK


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "demo",
        help="start on sample data, nothing to configure",
        description="Start the gateway on the embedded engines and send it the sample studies by C-STORE and STOW-RS.",
    )
    parser.add_argument("--directory", type=Path, default=Path(".demo"), help="where the demo keeps its data (.demo)")
    parser.add_argument("--samples", type=Path, default=Path("sample_dicom/studies"), help="the studies to send")
    parser.add_argument("--once", action="store_true", help="end as soon as everything is stored and shown")
    parser.set_defaults(command=run, go_on="")


def run(options: argparse.Namespace) -> int:
    """Start, send, wait for Ctrl-C."""
    from gateway import demo  # noqa: PLC0415 - a client's libraries, which no server needs

    return OK if demo.run(options.directory, options.samples, once=options.once) else FAILED
