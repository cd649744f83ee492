"""``gateway view``: de-identified views, how far they are, what they withhold, and whose pseudonyms are."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from gateway import assembly, config, views
from gateway.access.door import Door
from gateway.commands import terminal
from gateway.commands.administration import administrator, opened
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.config import InvalidSettings, Settings
from gateway.imaging.pool import ImagingPool
from gateway.viewing.following import Follower, Report, is_being_filled
from gateway.viewing.reidentifying import Reidentification
from gateway.viewing.review import Review
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.index.questions import Search

_OPTIONS = {"patient": "PatientID", "study": "StudyInstanceUID", "series": "SeriesInstanceUID",
            "instance": "SOPInstanceUID"}  # fmt: skip


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "view",
        help="look after de-identified views",
        description="De-identified views of the settings ([views.NAME]). May run beside the gateway, whose background "
        "worker keeps them up by itself.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    listing = what.add_parser("list", help="list the views, with what they show and withhold")
    filling = what.add_parser("fill", help="bring a view up with the archive now, and wait for it")
    withheld = what.add_parser("withheld", help="list what a view does not show, and why")
    releasing = what.add_parser(
        "release", help="show an instance that is withheld since text may be burned in, once somebody has looked at it"
    )
    releasing.add_argument("instance", metavar="UID", help="SOP Instance UID, as it is stored")
    releasing.add_argument("--reason", required=True, help="who looked, and what was seen; no patient data")
    finding = what.add_parser("reidentify", help="say whose a pseudonym is; on the audit trail")
    named = finding.add_mutually_exclusive_group(required=True)
    for option, keyword in _OPTIONS.items():
        named.add_argument(f"--{option}", metavar="PSEUDONYM", help=f"{keyword} as the view has it")
    for each in (filling, withheld, releasing, finding):
        each.add_argument("--view", required=True, metavar="NAME", help="the view")
    for each, command, go_on in (
        (listing, _list, ""),
        (filling, _fill, "the background worker goes on with it"),
        (withheld, _withheld, ""),
        (releasing, _release, ""),
        (finding, _reidentify, ""),
    ):
        with_json(each)
        with_config(each, command, go_on)


@contextmanager
def shown_by(settings: Settings, name: str, source: Archive) -> Iterator[Archive]:
    """What a view shows. Raises InvalidSettings when there is no such view."""
    if name not in settings.views:
        known = ", ".join(sorted(settings.views)) or "none"
        raise InvalidSettings([f"--view: there is no view {name!r}; the settings have {known}"])
    with closing(assembly.view_archive(settings, name, source.objects)) as shown:
        yield shown


def _list(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    found = []
    with opened(settings) as (archive, _):
        for name, given in sorted(settings.views.items()):
            tenant = ids.Tenant(given.tenant)
            with shown_by(settings, name, archive) as shown:
                found.append(
                    {
                        "view": name,
                        "tenant": given.tenant,
                        "options": list(given.options),
                        "studies": shown.index.count(Search(tenant, Level.STUDY)),
                        "instances": shown.index.count(Search(tenant, Level.INSTANCE)),
                        "withheld": len(shown.index.quarantined(tenant)),
                        "being_filled": is_being_filled(
                            assembly.view_notes(views.definition(settings, name), archive.objects)
                        ),
                    }
                )
    if options.json:
        terminal.report({"views": found})
        return terminal.OK
    if not found:
        terminal.note("the settings have no [views.NAME]; docs/deidentification.md says how to make one")
    for each in found:
        terminal.answer(
            f"{each['view']}  tenant {each['tenant']}  {each['studies']} studies, {each['instances']} instances, "
            f"{each['withheld']} withheld{', being filled' if each['being_filled'] else ''}"
        )
    return terminal.OK


def _fill(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    with (
        opened(settings) as (archive, _),
        shown_by(settings, options.view, archive) as shown,
        imaging_pool(settings) as pool,
    ):
        follower = assembly.view_follower(settings, options.view, archive, shown, pool)
        total = archive.index.count(Search(ids.Tenant(settings.views[options.view].tenant), Level.STUDY))
        report = _followed(follower, total)
    terminal.done(
        options,
        {"studies": report.studies, "made": report.made, "gone": report.gone, "withheld": report.withheld},
        f"{report.studies} studies looked at: {report.made} instances made, {report.gone} gone, "
        f"{report.withheld} withheld",
    )
    return terminal.OK


@contextmanager
def imaging_pool(settings: Settings) -> Iterator[ImagingPool]:
    """Processes that decode pixels."""
    imaging = settings.imaging
    with closing(ImagingPool(imaging.workers, imaging.memory_bytes, imaging.timeout_s)) as pool:
        yield pool


def _followed(follower: Follower, total: int) -> Report:
    """A whole round, with its progress; Ctrl-C ends it between two studies."""
    stop, report = threading.Event(), Report()
    with terminal.interruptible(), terminal.progress("studies", total) as meter:

        def stopped() -> bool:
            meter.update(report.studies)
            return stop.is_set()

        follower.follow(stopped, report)
        meter.update(report.studies, max(total, report.studies))
    return report


def _withheld(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    with opened(settings) as (archive, _), shown_by(settings, options.view, archive) as shown:
        found = shown.index.quarantined(ids.Tenant(settings.views[options.view].tenant))
    if options.json:
        listed = [
            {"study": each.key.study_uid, "series": each.key.series_uid, "instance": each.key.sop_uid,
             "reason": each.reason}
            for each in found
        ]  # fmt: skip
        terminal.report({"withheld": listed})
        return terminal.OK
    for each in found:
        terminal.answer(f"{each.key.sop_uid}  {each.reason}")
    if not found:
        terminal.note("nothing is withheld")
    return terminal.OK


def _release(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    with (
        opened(settings) as (archive, trail),
        shown_by(settings, options.view, archive) as shown,
        imaging_pool(settings) as pool,
    ):
        follower = assembly.view_follower(settings, options.view, archive, shown, pool)
        review = Review(shown, follower, trail)
        review.release(administrator(), options.instance, options.reason)
    terminal.done(options, {"instance": options.instance, "released": True}, "the instance is in the view")
    return terminal.OK


def _reidentify(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    option = next(name for name in _OPTIONS if getattr(options, name))
    with opened(settings) as (archive, trail), shown_by(settings, options.view, archive) as shown:
        service = Reidentification(archive.index, {options.view: shown}, Door(settings.access.policy_file, trail))
        tenant = settings.views[options.view].tenant
        found = service.find(administrator(), tenant, options.view, _OPTIONS[option], getattr(options, option))
    if options.json:
        terminal.report({"originals": [dict(each.told()) for each in found]})
        return terminal.OK
    for each in found:
        terminal.answer("  ".join(f"{keyword}={value}" for keyword, value in each.told().items() if value))
    return terminal.OK
