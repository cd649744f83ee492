"""``gateway quarantine``: what contradicts the archive, and what becomes of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from gateway import assembly, config
from gateway.access.door import Door
from gateway.commands import terminal
from gateway.commands.administration import administrator, opened, with_tenant
from gateway.commands.arguments import Commands, checked, with_config, with_json
from gateway.services.quarantine import QuarantineService
from gateway.services.room import Room
from gateway.services.spool import Spool
from storage.dicom import identifiers as ids

_LISTED = 10_000


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "quarantine",
        help="see what contradicts the archive, store it after all or discard it",
        description="Instances that contradict the archive stand in no study, and their senders were told that they "
        "are not stored. May run beside the gateway.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    listing = what.add_parser("list", help="list what is in quarantine, with why, when and from whom")
    showing = what.add_parser("show", help="compare one with what the archive has; shows who the patients are")
    releasing = what.add_parser("release", help="store one as if it were sent again, after the cause was put right")
    discarding = what.add_parser("discard", help="remove one for good; its sender has its copy")
    for each in (showing, releasing, discarding):
        each.add_argument("version", type=checked(ids.version), help="as `gateway quarantine list` names it")
    commanded = ((listing, _list), (showing, _show), (releasing, _release), (discarding, _discard))
    for each, command in commanded:
        with_json(each)
        with_tenant(each)
        with_config(each, command)


@contextmanager
def _service(options: argparse.Namespace) -> Iterator[QuarantineService]:
    settings = config.load(options.config)
    storage = settings.storage
    with opened(settings) as (archive, trail):
        spool = Spool(storage.directory / "spool", storage.spool_memory_bytes, storage.max_instance_bytes)
        room = Room(archive.index, assembly.quotas(settings), assembly.places(settings), storage.min_free_bytes)
        door = Door(settings.access.policy_file, trail)
        where = partial(assembly.audit_directories, settings)
        conflicts = assembly.conflicts(settings)
        yield QuarantineService(archive, spool, room, conflicts, door, where, read_only=storage.read_only)


def _list(options: argparse.Namespace) -> int:
    with _service(options) as service:
        found, total = service.listed(administrator(), options.tenant, "", _LISTED)
    if options.json:
        terminal.report({"total": total, "instances": [each.fields("seconds") for each in found]})
        return terminal.OK
    for each in found:
        told = each.fields("seconds")
        who = [str(told[name]) for name in ("source", "principal", "address") if told[name]]
        source = f"from {', '.join(who)}" if who else "from nobody that is known any more"
        terminal.answer(terminal.safe(f"{told['version']}  {told['received']}  {source}  {told['reason']}"))
        terminal.answer(f"  study {told['study']}  instance {told['instance']}")
    if total > len(found):
        terminal.note(f"{total - len(found)} more")
    return terminal.OK


def _show(options: argparse.Namespace) -> int:
    with _service(options) as service:
        found = service.inspect(administrator(), options.tenant, options.version)
    if options.json:
        compared = [{"keyword": each.keyword, "here": each.here, "archive": each.archive} for each in found.compared]
        terminal.report({**found.item.fields("seconds"), "against": found.against, "compared": compared})
        return terminal.OK
    terminal.answer(found.item.quarantined.reason)
    terminal.answer(f"compared with {found.against}" if found.against else "the archive has nothing of it any more")
    for each in found.compared:
        mark = "differs" if found.against and each.here != each.archive else ""
        terminal.answer(terminal.safe(f"{each.keyword:20} {each.here!r:36} {each.archive!r:36} {mark}".rstrip()))
    return terminal.OK


def _release(options: argparse.Namespace) -> int:
    with _service(options) as service:
        outcome = service.release(administrator(), options.tenant, options.version)
    terminal.done(options, {"version": options.version, "outcome": outcome.value}, f"released: {outcome.value}")
    return terminal.OK


def _discard(options: argparse.Namespace) -> int:
    with _service(options) as service:
        service.discard(administrator(), options.tenant, options.version)
    terminal.done(options, {"version": options.version, "discarded": True}, "discarded")
    return terminal.OK
