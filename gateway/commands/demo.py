"""``gateway demo``: start on sample data, with nothing to configure."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.commands import terminal
from gateway.commands.arguments import Commands
from gateway.commands.terminal import FAILED, OK


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "demo",
        help="start on sample data, nothing to configure",
        description="Start the gateway on the embedded engines and send it the sample studies by C-STORE and STOW-RS.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--sandbox", action="store_true", help="for integrators: keys and tokens of each role, data that "
        "can be reset, faults on demand; never for patients",
    )  # fmt: skip
    what.add_argument("--reset", action="store_true", help="have the sandbox that runs in the directory start over")
    parser.add_argument(
        "--directory", type=Path, metavar="DIRECTORY", help="where it keeps its data (.demo; .sandbox for a sandbox)"
    )
    parser.add_argument("--samples", type=Path, default=Path("sample_dicom/studies"), help="the studies to send")
    parser.add_argument(
        "--origin", action="append", default=[], metavar="ORIGIN", help="of pages elsewhere that may call the sandbox, "
        "such as http://localhost:3000; may be given again",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="end as soon as everything is stored and shown")
    parser.set_defaults(command=run, go_on="")


def run(options: argparse.Namespace) -> int:
    """Start, send, wait for Ctrl-C; or have a sandbox start over."""
    if not options.sandbox and not options.reset:
        from gateway import demo  # noqa: PLC0415 - a client's libraries, which no server needs

        return OK if demo.run(options.directory or Path(".demo"), options.samples, once=options.once) else FAILED
    from gateway.sandbox import running  # noqa: PLC0415 - as above

    directory = options.directory or Path(".sandbox")
    if options.sandbox:
        return OK if running.run(directory, options.samples, options.origin, once=options.once) else FAILED
    try:
        running.reset(directory)
    except running.SandboxFailed as error:
        terminal.error(str(error))
        terminal.advise(f"start it: gateway demo --sandbox --directory {directory}")
        return terminal.UNREACHED
    terminal.answer("the sandbox has started over, with the sample studies alone")
    return OK
