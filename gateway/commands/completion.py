"""``gateway completion``: what lets a shell complete our commands, options and files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway.commands import terminal
from gateway.commands.arguments import Commands

SHELLS = ("bash", "zsh", "fish", "tcsh")
_FILES = frozenset(("sources", "paths"))
_DIRECTORIES = frozenset(("out", "directory"))


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "completion",
        help="print what lets a shell complete commands and options",
        description="Print a script for a shell: with it, Tab completes commands, options and files. It is of this "
        "release; make it anew after an upgrade, or have the shell do so at each start.",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(command=run, go_on="")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    import shtab  # noqa: PLC0415 - nobody else needs it

    _with_files(options.whole, shtab.FILE, shtab.DIRECTORY)
    sys.stdout.write(shtab.complete(options.whole, options.shell))
    return terminal.OK


def _with_files(parser: argparse.ArgumentParser, files: object, directories: object) -> None:
    for each in parser._actions:
        if isinstance(each, argparse._SubParsersAction):
            for child in each.choices.values():
                _with_files(child, files, directories)
        elif each.dest in _DIRECTORIES:
            each.complete = directories  # type: ignore[attr-defined]
        elif each.type is Path or each.dest in _FILES:
            each.complete = files  # type: ignore[attr-defined]
