"""``gateway restore``: put back what ``gateway backup`` kept."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from gateway import assembly, config
from gateway.audit.events import AuditEvent
from gateway.backups import manifest as manifests
from gateway.backups import reading
from gateway.backups.manifest import BackupRefused
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.context import command_line


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "restore",
        help="put back what a backup kept",
        description="Put back what a backup kept: the settings file where --config says, the rest where the settings "
        "want it. Give it again after `gateway reindex`, for the requests for storage commitment. "
        "Exit status 1 when the backup is not whole, or something is left to do.",
    )
    parser.add_argument("source", type=Path, metavar="DIR|FILE.tar", help="the backup")
    parser.add_argument("--check", action="store_true", help="only check that the backup is whole")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    with_json(parser)
    with_config(parser, run, "give the command again")


def run(options: argparse.Namespace) -> int:
    """Restore."""
    with terminal.interruptible(), reading.opened(options.source) as (backup, manifest):
        if options.check:
            if options.json:
                terminal.report(
                    {
                        "made": manifest.made,
                        "release": manifest.release,
                        "parts": sorted(manifest.parts),
                        "keys_left_out": manifest.keys_left_out,
                    }
                )
            else:
                if manifest.keys_left_out:
                    terminal.note(f"without the keys: {', '.join(manifest.keys_left_out)}")
                terminal.answer(f"whole: {len(manifest.parts)} files, made {manifest.made} by {manifest.release}")
            return terminal.OK
        missing = [name for name in manifest.variables if config.variable(name) is None]
        if missing:
            terminal.note(f"was set in the environment, and is not now: {', '.join(missing)}")
        if options.config is not None:
            reading.restore_settings(backup, manifest, options.config, force=options.force)
        elif "settings.toml" in manifest.parts:
            raise BackupRefused("the backup has a settings file; say by --config where it is to be, or is")
        settings = config.load(options.config)
        restored = reading.restore(backup, manifest, settings, force=options.force)
    with closing(assembly.audit_trail(settings, "restore")) as trail:
        trail.write(AuditEvent("restore", "done", command_line("restore")))
    return _tell(restored, as_json=options.json)


def _tell(restored: reading.Restored, *, as_json: bool) -> int:
    if as_json:
        terminal.report(
            {
                "files": restored.files,
                "files_known": restored.files_known,
                "accounts": restored.accounts,
                "accounts_known": restored.accounts_known,
                "steps": restored.steps,
                "steps_known": restored.steps_known,
                "commitments": restored.commitments,
                "commitments_known": restored.commitments_known,
                "keys_missing": sorted(restored.keys_missing),
            }
        )
    else:
        terminal.answer(f"{restored.files} files put back, {restored.files_known} were there")
        terminal.answer(f"{restored.accounts} keys, users and share links put back")
        if restored.steps or restored.steps_known:
            terminal.answer(f"{restored.steps} procedure steps put back, {restored.steps_known} were there and stay")
    if restored.accounts_known:
        terminal.note(f"{restored.accounts_known} keys, users and share links were there: they stay, and none is added")
    for name, path in restored.keys_missing.items():
        lost = (
            "everybody gets another pseudonym" if name.startswith(manifests.PSEUDONYM_KEYS) else "nothing can be read"
        )
        terminal.error(
            f"{name} was left out of the backup, and is not there: put it at {path} before the gateway starts, "
            f"for without it {lost}"
        )
    if restored.commitments is None:
        terminal.error("there are objects but no index: run `gateway reindex`, then this command again for the rest")
        return terminal.FAILED
    if not as_json:
        terminal.answer(
            f"{restored.commitments} requests for storage commitment put back, {restored.commitments_known} were there"
        )
    return terminal.FAILED if restored.keys_missing else terminal.OK
