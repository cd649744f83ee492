"""``gateway deid``: what de-identification would do to a file, attribute by attribute, and why."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pydicom
from pydicom.datadict import keyword_for_tag

from gateway import config, views
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.config import InvalidSettings, Settings
from gateway.deid.burned_in import assess
from gateway.deid.engine import Deidentified, deidentify
from gateway.deid.explain import Done, Outcome
from gateway.deid.identifiers import DictionaryCleaner, Identifiers
from gateway.deid.profile import Option, Profile
from gateway.deid.pseudonyms import Pseudonyms
from gateway.deid.recipe import Recipe
from gateway.deid.table import Action
from gateway.errors import NotDeidentified

_KEPT = frozenset((Done.KEPT, Done.ENTERED))


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "deid",
        help="explain what de-identification would do",
        description="Works on files; neither the archive nor the files are changed.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    checking = what.add_parser(
        "check",
        help="say of each attribute of DICOM files what would become of it, and why",
        description="By the profile of a view or of what arrives, or by options. What is kept is only listed with "
        "--all. No values are shown. Exit status 1 when an instance would not be shown at all.",
    )
    checking.add_argument("file", type=Path, nargs="+", help="Part 10 files")
    by = checking.add_mutually_exclusive_group()
    by.add_argument("--view", metavar="NAME", help="by the profile of this view of the settings")
    by.add_argument("--arriving", metavar="NAME", help="by this [deidentification.NAME] of the settings")
    by.add_argument(
        "--option", action="append", default=[], choices=[each.value for each in Option], metavar="OPTION",
        help=f"options beside the Basic Profile; may be given again: {', '.join(each.value for each in Option)}",
    )  # fmt: skip
    checking.add_argument("--recipe", type=Path, metavar="FILE", help="with options: a recipe")
    checking.add_argument("--all", action="store_true", help="list what is kept, too")
    with_json(checking)
    with_config(checking, _check)


def _check(options: argparse.Namespace) -> int:
    profile = _profile(options, config.load(options.config))
    told: list[Mapping[str, object]] = []
    for path in options.file:
        found = _looked_at(path, profile)
        told.append(found)
        if not options.json:
            for line in _lines(found, everything=options.all):
                terminal.answer(line)
    if options.json:
        terminal.report({"profile": profile.version, "files": told})
    return terminal.FAILED if any(each["withheld"] for each in told) else terminal.OK


def _profile(options: argparse.Namespace, settings: Settings) -> Profile:
    if options.view is None and options.arriving is None:
        recipe = Recipe.read(options.recipe) if options.recipe else None
        return Profile.of(options.option, recipe)
    if options.recipe:
        raise InvalidSettings(["--recipe: the settings have their own"])
    if options.view is not None:
        _check_known("--view: there is no view", options.view, settings.views)
        return views.profile(settings, options.view)
    _check_known("--arriving: there is no section deidentification", options.arriving, settings.deidentification)
    return views.arriving_profile(settings, options.arriving)


def _check_known(what: str, name: str, there: Collection[str]) -> None:
    if name not in there:
        raise InvalidSettings([f"{what} {name!r}; the settings have {', '.join(sorted(there)) or 'none'}"])


def _looked_at(path: Path, profile: Profile) -> Mapping[str, object]:
    """What would become of one file; under pseudonyms that nobody keeps."""
    try:
        data_set = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise InvalidSettings([f"{path}: {getattr(error, 'strerror', None) or error}"]) from error
    known = Identifiers.harvested(data_set, lambda tag: profile.rule(tag).action is Action.K)
    cleaner = DictionaryCleaner(known, keeps_dates=Option.RETAIN_FULL_DATES in profile.options)
    pseudonyms = Pseudonyms(secrets.token_bytes(32))
    patient = pseudonyms.unidentified("main", str(path))
    outcomes: tuple[Outcome, ...] = ()
    warnings: tuple[str, ...] = ()
    withheld = assess(data_set).suspect
    try:
        found: Deidentified = deidentify(data_set, profile, pseudonyms, patient, cleaner, kept_text=cleaner)
        outcomes, warnings = found.outcomes, found.warnings
    except NotDeidentified as error:
        withheld = str(error)
    return {
        "file": str(path),
        "withheld": withheld,
        "warnings": list(warnings),
        "attributes": [
            {
                "attribute": each.place(),
                "keyword": keyword_for_tag(each.path[-1]),
                "action": each.action.value if each.action is not None else None,
                "done": each.done.value,
                "why": each.why,
            }
            for each in outcomes
        ],
    }


def _lines(found: Mapping[str, object], *, everything: bool) -> Iterator[str]:
    yield str(found["file"])
    if found["withheld"]:
        yield f"  would be withheld: {found['withheld']}"
    warnings, attributes = found["warnings"], found["attributes"]
    assert isinstance(warnings, list)
    assert isinstance(attributes, list)
    for each in warnings:
        yield f"  warning: {each}"
    kept = 0
    for each in attributes:
        if each["done"] in _KEPT and not everything:
            kept += 1
            continue
        name = f"{each['attribute']} {each['keyword'] or 'private or unknown'}"
        yield f"  {name}: {each['done']} ({each['action'] or '-'}: {each['why']})"
    if kept:
        yield f"  {kept} more stay as they are; --all lists them"
