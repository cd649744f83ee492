"""``gateway audit search`` and ``gateway audit patient``: what the trail says."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from gateway import assembly, config, stores, views
from gateway.audit import coverage, reading, report
from gateway.audit.coverage import Coverage
from gateway.audit.events import AuditEvent
from gateway.audit.reading import Record, Wanted
from gateway.commands import terminal
from gateway.commands.administration import administrator, with_tenant
from gateway.commands.arguments import Commands, checked, positive, with_config, with_json
from gateway.commands.verify import parse_since
from gateway.config import Settings
from storage.dicom import identifiers as ids


def add(what: Commands) -> None:
    """Declare both."""
    _add_search(what)
    _add_patient(what)


def with_directories(parser: argparse.ArgumentParser) -> None:
    """``--directory``: more places with audit files."""
    parser.add_argument(
        "--directory",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="another directory with audit files, with all below it: one that older files were moved to, or of other "
        "hosts; may be given again",
    )


def directories(settings: Settings, options: argparse.Namespace) -> list[Path]:
    """Where the audit files are."""
    found = assembly.audit_directories(settings)
    for each in options.directory:
        found += assembly.with_those_below(each)
    return list(dict.fromkeys(found))


def _covered(settings: Settings, options: argparse.Namespace) -> Coverage:
    """What the directories cover of the time that is asked for. Raises OSError."""
    with closing(stores.object_store(settings, reading_cache=False, read_only=True)) as objects:
        found = coverage.coverage(objects, directories(settings, options))
    return found.of(_time(options.since), _time(options.until))


# Search


def _add_search(what: Commands) -> None:
    parser = what.add_parser(
        "search",
        help="show records, latest first",
        description="Show records of the trail in this directory, latest first. Each option narrows it down; one that "
        "is given again means either. The search is recorded as well.",
    )
    _with_times(parser)
    parser.add_argument("--principal", action="append", default=[], metavar="NAME", help="by this principal")
    parser.add_argument("--action", action="append", default=[], help="such as read, search, delete")
    parser.add_argument("--outcome", action="append", default=[], help="such as allowed, denied, completed")
    parser.add_argument("--address", action="append", default=[], help="from this address")
    parser.add_argument(
        "--study", action="append", default=[], type=checked(ids.study_uid), metavar="UID", help="about this study"
    )
    parser.add_argument("--patient-id", metavar="ID", help="about the studies of this patient that the index knows")
    parser.add_argument("--issuer", default="", help="Issuer of Patient ID, where the patient's images have one")
    parser.add_argument("--tenant", type=checked(ids.tenant), help="of this tenant only")
    parser.add_argument("--limit", type=positive, default=1000, metavar="N", help="most records to show (1000)")
    with_directories(parser)
    with_json(parser)
    with_config(parser, _search)


def _with_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since", type=parse_since, metavar="TIME", help="from then on: 2026-01-31 or 2026-01-31T08:00Z"
    )
    parser.add_argument("--until", type=parse_since, metavar="TIME", help="before then")


def _time(given: float | None) -> str:
    if given is None:
        return ""
    return datetime.datetime.fromtimestamp(given, datetime.UTC).isoformat(timespec="milliseconds")


def _search(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    studies = frozenset(options.study) or None
    if options.patient_id is not None:
        tenant = options.tenant or "main"
        studies = (studies or frozenset()) | frozenset(
            _studies_of(settings, tenant, options.issuer, options.patient_id)
        )
    wanted = Wanted(
        since=_time(options.since),
        until=_time(options.until),
        principals=frozenset(options.principal),
        actions=frozenset(options.action),
        outcomes=frozenset(options.outcome),
        addresses=frozenset(options.address),
        studies=studies,
        tenant=options.tenant,
    )
    found: list[Record] = []
    with terminal.interruptible():
        _record_use(settings, options.tenant or "", sorted(studies or ()), "search")
        for record in reading.search(directories(settings, options), wanted):
            found.append(record)
            if len(found) > options.limit:
                break
        covered = _covered(settings, options)
    more, found = len(found) > options.limit, found[: options.limit]
    if options.json:
        records = [{"id": each.name, **each.fields} for each in found]
        terminal.report({"records": records, "more": more, **covered.fields()})
        return terminal.OK
    for each in found:
        terminal.answer(_line(each))
    if more:
        terminal.note(f"there are more than {options.limit}: --limit shows more of them")
    if covered.gap:
        terminal.note(covered.gap)
    return terminal.OK


def _line(record: Record) -> str:
    fields = record.fields
    who = f"{fields.get('principal', '-')} ({fields.get('address', '-')})"
    counted = [f"{fields[name]} {name}" for name in ("requests", "instances", "frames", "bytes") if fields.get(name)]
    parts = [*fields.get("subject", ()), fields.get("query", ""), fields.get("detail", ""), ", ".join(counted)]
    text = "  ".join(str(part) for part in parts if part)
    return f"{record.time[:23]}Z  {fields.get('action')} {fields.get('outcome')}  {who}  {text}"


def _record_use(settings: Settings, tenant: str, studies: Sequence[str], what: str) -> None:
    """Who reads the trail stands in it. Raises AuditUnavailable."""
    with closing(assembly.audit_trail(settings, "command")) as trail:
        trail.write(AuditEvent("audit_read", "allowed", administrator(), tenant, tuple(studies[:100]), what))


# A patient's accesses


def _add_patient(what: Commands) -> None:
    parser = what.add_parser(
        "patient",
        help="who saw a patient's images",
        description="Say who saw the images of a patient, by the studies that the index knows of him, and by --study "
        "those that it does not know any more. The report is recorded as well.",
    )
    parser.add_argument("patient_id", metavar="ID", help="Patient ID")
    parser.add_argument("--issuer", default="", help="Issuer of Patient ID, where the patient's images have one")
    parser.add_argument(
        "--study", action="append", default=[], type=checked(ids.study_uid), metavar="UID", help="this study too"
    )
    with_tenant(parser)
    _with_times(parser)
    with_directories(parser)
    with_json(parser)
    with_config(parser, _patient)


def _studies_of(settings: Settings, tenant: str, issuer: str, patient_id: str) -> list[str]:
    assembly.check_index(settings)
    with closing(assembly.index(settings)) as index:
        return list(index.studies_of(ids.tenant(tenant), issuer, patient_id))


def _names(settings: Settings, tenant: str, studies: Sequence[str]) -> dict[str, str]:
    """The studies by every name that they have in records: their UIDs, and their pseudonyms in the tenant's views."""
    names = {study: study for study in studies}
    for view, given in settings.views.items():
        if given.tenant == tenant:
            definition = views.definition(settings, view)
            names |= {definition.uid(study): study for study in studies}
    return names


def _patient(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    studies = sorted({*_studies_of(settings, options.tenant, options.issuer, options.patient_id), *options.study})
    if not studies:
        terminal.error("the index knows no study of this patient; name erased ones by --study")
        return terminal.FAILED
    names = _names(settings, options.tenant, studies)
    wanted = Wanted(
        since=_time(options.since),
        until=_time(options.until),
        actions=report.SEEING,
        studies=frozenset(names),
        tenant=options.tenant,
    )
    with terminal.interruptible():
        _record_use(settings, options.tenant, studies, "patient")
        found = report.seen(reading.search(directories(settings, options), wanted), names)
        covered = _covered(settings, options)
    if options.json:
        seen = [dataclasses.asdict(each) for each in found]
        terminal.report({"studies": studies, "seen": seen, **covered.fields()})
        return terminal.OK
    if covered.gap:
        terminal.note(covered.gap)
    terminal.answer(f"{len(studies)} studies")
    for each in found:
        counts = f"{each.requests} requests, {each.instances} instances, {each.frames} frames, {each.size} bytes"
        through = f" through {each.view}" if each.view else ""
        who = f"{each.principal} ({each.kind}) from {', '.join(each.addresses)}{through}"
        terminal.answer(
            terminal.safe(f"{each.first[:19]}Z to {each.last[:19]}Z  {who}  {each.action} {each.study}: {counts}")
        )
    return terminal.OK
