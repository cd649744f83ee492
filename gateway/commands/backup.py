"""``gateway backup``: keep what is neither in the objects nor made from them."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from gateway import assembly, config
from gateway.audit.events import AuditEvent
from gateway.backups import manifest as manifests
from gateway.backups import writing
from gateway.backups.manifest import Manifest
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.context import command_line


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "backup",
        help="back up settings, policy, keys and users, audit trail and commitments",
        description="Back up what is neither in the objects nor made from them: settings, policy, keys, "
        "users, share links, audit files, and requests for storage commitment. May run beside the gateway. "
        "The objects need a backup of their own.",
    )
    parser.add_argument("target", type=Path, metavar="DIR|FILE.tar", help="a new directory, or a new tar file")
    parser.add_argument(
        "--with-keys", action="store_true", help="with the keys: encryption at rest, sse-c, audit, views"
    )
    parser.add_argument("--with-index", action="store_true", help="with the index, when it is in SQLite")
    with_json(parser)
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Back up."""
    settings = config.load(options.config)
    with terminal.interruptible(), closing(assembly.audit_trail(settings, "backup")) as trail:
        trail.write(AuditEvent("backup", "allowed", command_line("backup")))
        with terminal.progress("backing up files") as meter:
            made = writing.write(
                settings,
                options.config,
                options.target,
                with_keys=options.with_keys,
                with_index=options.with_index,
                progress=meter.update,
            )
    size = sum(part.bytes for part in made.parts.values())
    if options.json:
        parts = {name: {"bytes": part.bytes, "sha256": part.sha256} for name, part in made.parts.items()}
        terminal.report(
            {"made": made.made, "parts": parts, "variables": made.variables, "keys_left_out": made.keys_left_out}
        )
        return terminal.OK
    if made.variables:
        terminal.note(f"set in the environment, and not in the backup: {', '.join(made.variables)}")
    _tell_of_keys(made)
    terminal.answer(f"{len(made.parts)} files of {size / 1e6:.1f} MB in {options.target}")
    return terminal.OK


def _tell_of_keys(made: Manifest) -> None:
    """Say what was left out, and what it is to be without it."""
    pseudonyms = [name for name in made.keys_left_out if name.startswith(manifests.PSEUDONYM_KEYS)]
    if any(name == manifests.CUSTOMER_KEY or name.startswith(manifests.KEYS) for name in made.keys_left_out):
        terminal.note("the keys are not in the backup: keep them elsewhere, for without them nothing can be read")
    if pseudonyms:
        terminal.note(
            f"the keys of views are not in the backup ({', '.join(pseudonyms)}): keep them elsewhere, or with "
            "--with-keys, for without them everybody gets another pseudonym"
        )
