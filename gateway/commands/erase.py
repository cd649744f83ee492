"""``gateway erase``: remove everything of a patient or study for good, with a certificate."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import ExitStack, closing
from pathlib import Path

from gateway import assembly, config
from gateway.commands import terminal
from gateway.commands.administration import administrator, opened, with_subject, with_tenant
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.config import InvalidSettings, Settings
from gateway.services.erase import Certificate, EraseService
from storage import reconcile
from storage.control.relational_steps import RelationalSteps


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "erase",
        help="remove everything of a patient or study for good",
        description="Remove every version, quarantined and deleted ones too, with all that was known of it: rows, "
        "cache, records. There is no undo. The certificate is printed, and written to a file. May run beside the "
        "gateway.",
    )
    with_subject(parser)
    with_tenant(parser)
    parser.add_argument("--dry-run", action="store_true", help="only show what would go")
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE", help="where it goes; certificates/ in the storage directory"
    )
    with_json(parser)
    with_config(parser, run, "what has a record already is removed by the background worker; give the command again")


def run(options: argparse.Namespace) -> int:
    """Erase."""
    settings = config.load(options.config)
    if options.certificate is not None and options.certificate.exists():
        raise InvalidSettings([f"--certificate: {options.certificate} is there already"])
    whose = options.study or reconcile.Patient(options.issuer, options.patient_id)
    with opened(settings) as (archive, trail), terminal.interruptible(), ExitStack() as held:
        views = [
            held.enter_context(closing(each))
            for each in assembly.view_erasers(settings, options.tenant, archive.objects)
        ]
        steps = RelationalSteps(held.enter_context(closing(assembly.control(settings))))
        service = EraseService(archive, trail, steps, _kept_indexes(settings), views)
        certificate = service.erase(administrator(), options.tenant, whose, rehearse=options.dry_run)
    document = certificate.document()
    terminal.report(document)
    if certificate.record is not None:
        terminal.note(f"the certificate is in {_written(settings, certificate, options.certificate)}")
    return terminal.OK


def _kept_indexes(settings: Settings) -> list[str]:
    if settings.index.engine != "sqlite":
        return []
    path = assembly.index_path(settings)
    beside = path.parent.glob(f"{path.name}.[0-9]*")
    return sorted(each.name for each in beside if not each.name.endswith(("-wal", "-shm")))


def _written(settings: Settings, certificate: Certificate, wanted: Path | None) -> Path:
    path = wanted or assembly.certificates_directory(settings) / f"{certificate.record}.json"
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(certificate.document(), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path
