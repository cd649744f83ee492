"""``gateway migrate``: pull what an old archive holds, over DIMSE."""

from __future__ import annotations

import argparse
import datetime
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from gateway import assembly, config
from gateway.access.actions import Action
from gateway.access.moments import Moments
from gateway.access.throttle import Pace
from gateway.commands import terminal
from gateway.commands.arguments import Commands, checked, chosen, positive, with_config, with_json
from gateway.config import InvalidSettings, Settings
from gateway.context import Caller, Source, command_line
from gateway.dimse import asking, destinations
from gateway.dimse.asking import Conditions, NotAnswered, RemoteArchive
from gateway.dimse.destinations import Destination
from gateway.dimse.requesting import Address, NotAssociated
from gateway.errors import GatewayError, InvalidQuery
from gateway.importing import journal as places
from gateway.migrating.journal import Journal
from gateway.migrating.listing import OWN_KEYS, Wanted
from gateway.migrating.pulling import Puller
from gateway.migrating.running import By, Hours, Migration, Pacing, Report, Stopped
from gateway.rebuilding import not_meanwhile
from gateway.services.spool import Spool
from storage.dicom import identifiers as ids
from storage.dicom.attributes import path_of

_MB = 1e6
_MOST_AT_ONCE = 16


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "migrate",
        help="pull an old archive's studies over DIMSE",
        description="List the studies of an archive by C-FIND, fetch by C-GET or C-MOVE what is not here, and look "
        "instance by instance whether it has arrived; the newest studies first. May run beside the gateway. Given "
        "again, the command goes on where it was, and fetches what has come to the old archive since. Exit status 1 "
        "when something is missing.",
    )
    parser.add_argument(
        "--from",
        dest="peer",
        required=True,
        metavar="AET@HOST:PORT",
        help="the old archive; AET alone is one of dimse.destinations, over TLS if it is so there",
    )
    parser.add_argument(
        "--by",
        type=chosen(By),
        choices=tuple(By),
        metavar="{get,move}",
        help="how it is fetched; without it by C-GET, and by C-MOVE where the archive does not answer that. C-MOVE "
        "needs the gateway running, and its AE title known to the archive",
    )
    parser.add_argument("--destination", metavar="AET", help="for C-MOVE: our AE title there (dimse.ae_title)")
    parser.add_argument("--since", type=_day, metavar="DAY", help="studies of this day and later: 2026-01-31")
    parser.add_argument("--until", type=_day, metavar="DAY", help="studies of this day and earlier")
    parser.add_argument(
        "--study", action="append", default=[], type=checked(ids.study_uid), metavar="UID", help="this study; may be "
        "given again",
    )  # fmt: skip
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEYWORD=VALUE", help="studies with this key, as C-FIND "
        "matches it there: ModalitiesInStudy=CT; may be given again",
    )  # fmt: skip
    parser.add_argument("--tenant", type=checked(ids.tenant), default="main", help="into this tenant (main)")
    parser.add_argument(
        "--at-once", type=positive, default=1, metavar="N", help="studies that are fetched at the same time (1)"
    )
    parser.add_argument("--pause", type=float, default=0.0, metavar="SECONDS", help="after each study (0)")
    parser.add_argument("--max-rate", type=float, metavar="MB", help="for C-GET: most megabytes a second")
    parser.add_argument("--between", type=_hours, metavar="HH:MM-HH:MM", help="work at this time of the day only")
    parser.add_argument(
        "--patience", type=float, default=600.0, metavar="SECONDS", help="how long one answer may take to come (600)"
    )
    parser.add_argument("--dry-run", action="store_true", help="list and count, fetch nothing")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="note here what is done")
    parser.add_argument("--anew", action="store_true", help="forget what an earlier run has done")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write a JSON line for each study that is not whole"
    )
    with_json(parser)
    with_config(parser, run, "give the command again to go on")


def run(options: argparse.Namespace) -> int:
    """Migrate."""
    settings = config.load(options.config)
    peer = destinations.given(settings.dimse, options.peer)
    address = peer.address
    _check(settings, options, address)
    wanted = _wanted(options)
    path = options.journal or _journal(settings, options.tenant, address)
    started_s = time.monotonic()
    with ExitStack() as held:
        held.enter_context(not_meanwhile(settings))
        directory = held.enter_context(places.work_place(settings.storage.directory, path))
        held.enter_context(terminal.interruptible())
        journal = Journal(path)
        held.callback(journal.close)
        if options.anew:
            journal.clear()
        report_file = held.enter_context(terminal.report_file(options.report)) if options.report else None
        core = assembly.build(settings, "migrate")
        held.callback(core.close)
        spool = Spool(directory, settings.storage.spool_memory_bytes, settings.storage.max_instance_bytes)
        asked = partial(RemoteArchive, address, _conditions(settings, options, peer, core), spool)
        ours = command_line("migrate")
        source = Source("migrate", address.host, address.ae_title, settings.dimse.ae_title)
        decision = core.door.enter_by_itself(
            Caller(ours.principal, source), Action.STORE, ids.Tenant(options.tenant), detail=f"from {address}"
        )
        pacing = Pacing(options.at_once, options.pause, options.between)
        title = options.destination or str(settings.dimse.ae_title)

        def puller(archive: RemoteArchive, by: By) -> Puller:
            return Puller(core, archive, decision, title if by is By.MOVE else "")

        work = Migration(asked, puller, options.by, journal, pacing, report_file)
        complete = unreached = False
        try:
            _migrate(work, wanted, dry_run=options.dry_run)
            complete = True
        except NotAssociated as error:
            unreached = True
            terminal.error(str(error))
            terminal.advise(error.advice)
        except (NotAnswered, Stopped, GatewayError) as error:
            terminal.error(str(error))
        finally:
            _tell(work.report, time.monotonic() - started_s, options, complete=complete)
    if unreached:
        return terminal.UNREACHED
    return terminal.OK if complete and not work.report.failed else terminal.FAILED


def _migrate(work: Migration, wanted: Wanted, *, dry_run: bool) -> None:
    with terminal.progress("listing studies") as meter:
        work.list(wanted, datetime.datetime.now(datetime.UTC).date(), meter.update)
    if dry_run or work.report.listed == work.report.before:
        return
    with terminal.progress("migrating", work.report.listed - work.report.before) as meter:

        def update(so_far: Report) -> None:
            detail = f"{so_far.instances} instances"
            if so_far.size:
                detail += f", {so_far.size / _MB:,.0f} MB, {so_far.size / _MB / meter.passed_s:,.1f} MB/s"
            meter.update(so_far.done + so_far.failed, detail=detail + _failed(so_far))

        work.run(update)


def _failed(report: Report) -> str:
    return f", {report.failed} not whole" if report.failed else ""


def _check(settings: Settings, options: argparse.Namespace, address: Address) -> None:
    if settings.storage.read_only:
        raise InvalidSettings(["storage.read_only: this gateway only reads; migrate where the archive is written"])
    tenant = settings.tenants.get(options.tenant)
    titles = settings.dimse.deidentify
    if (tenant is not None and tenant.deidentify) or address.ae_title in titles or "*" in titles:
        raise InvalidSettings(
            [
                "what arrives from there is de-identified, so it cannot be compared with what the old archive has; "
                "migrate into another tenant, and give it away through a view"
            ]
        )
    if not 0 < options.at_once <= _MOST_AT_ONCE:
        raise InvalidSettings([f"--at-once: 1 to {_MOST_AT_ONCE}"])
    if options.max_rate is not None and options.max_rate <= 0:
        raise InvalidSettings(["--max-rate: more than 0"])
    assembly.check(settings)
    assembly.check_index(settings)


def _wanted(options: argparse.Namespace) -> Wanted:
    keys = {}
    for given in options.where:
        name, equals, text = given.partition("=")
        if path_of(name) is None or not equals or name.isdigit() or "." in name:
            raise InvalidSettings([f"--where {name}: a key is KEYWORD=VALUE, such as ModalitiesInStudy=CT"])
        if name in OWN_KEYS:
            raise InvalidSettings([f"--where {name}: given by --since, --until or --study, or asked for by itself"])
        try:
            asking.identifier("STUDY", {name: text})
        except InvalidQuery as error:
            raise InvalidSettings([f"--where {name}: {text!r} is no value of it"]) from error
        keys[name] = text
    if options.since and options.until and options.since > options.until:
        raise InvalidSettings(["--since: a day that is not after that of --until"])
    return Wanted(options.since, options.until, tuple(options.study), keys)


def _conditions(settings: Settings, options: argparse.Namespace, peer: Destination, core: assembly.Core) -> Conditions:
    found = Conditions(settings.dimse, core.limits, peer.tls, options.patience)
    if options.max_rate is None:
        return found
    return replace(found, pause_s=partial(Pace(Moments()).pause_s, "migrate", per_s=options.max_rate * _MB))


def _journal(settings: Settings, tenant: str, address: Address) -> Path:
    name = f"{tenant}-{address.ae_title}-{address.host}-{address.port}"
    safe = "".join(each if each.isalnum() or each in "-._" else "_" for each in name)
    return settings.storage.directory / "migrations" / f"{safe}.journal"


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; 2026-01-31 is one") from error


def _hours(text: str) -> Hours:
    first, _, last = text.partition("-")
    try:
        found = Hours(datetime.time.fromisoformat(first), datetime.time.fromisoformat(last))
        if found.first.tzinfo or found.last.tzinfo or found.first == found.last:
            raise ValueError(text)
        return found
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} are no hours; 19:00-06:00 are some") from error


def _tell(report: Report, seconds: float, options: argparse.Namespace, *, complete: bool) -> None:
    if options.json:
        terminal.report(
            {
                "complete": complete,
                "dry_run": options.dry_run,
                "by": report.by,
                "studies": {
                    "listed": report.listed,
                    "instances_told": report.told,
                    "done_before": report.before,
                    "done": report.done,
                    "failed": report.failed,
                },
                "instances": {
                    "here": report.instances,
                    "missing": report.missing,
                    **{fate.value.replace(" ", "_"): count for fate, count in report.fates.items()},
                },
                "bytes": report.size,
                "seconds": round(seconds, 3),
                "wrong": [
                    {"study": uid, "reason": pulled.reason, "missing": list(pulled.missing)}
                    for uid, pulled in report.wrong
                ],
            }
        )
        return
    for uid, pulled in report.wrong[: terminal.SHOWN]:
        missing = f" ({len(pulled.missing)} missing)" if pulled.missing else ""
        terminal.error(f"study {uid}: {pulled.reason}{missing}")
    if report.failed > terminal.SHOWN:
        terminal.error(f"and {report.failed - terminal.SHOWN} more: --report FILE names them all")
    if options.dry_run:
        told = f" with {report.told} instances, as far as the peer tells" if report.told else ""
        terminal.answer(f"{report.listed} studies{told}; {report.before} of them done by an earlier run")
        return
    if report.by is None:
        return
    counts = {"done": report.done, "done by an earlier run": report.before, "not whole": report.failed}
    text = f"{report.listed} studies" + "".join(f", {count} {what}" for what, count in counts.items() if count)
    if report.done or report.failed:
        size = f", {report.size / _MB:,.0f} MB" if report.size else ""
        text += f"; {report.instances} of their instances are here, {report.missing} missing"
        text += f"; by C-{report.by.upper()}{size} in {seconds:,.1f} s"
    terminal.answer(text)
