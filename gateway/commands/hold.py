"""``gateway hold``: legal holds on studies and patients."""

from __future__ import annotations

import argparse

from gateway import config
from gateway.commands import terminal
from gateway.commands.administration import administrator, opened, with_subject, with_tenant
from gateway.commands.arguments import Commands, checked, with_config, with_json
from gateway.services.hold import HoldService
from storage.dicom import identifiers as ids
from storage.index.stored import Held


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "hold",
        help="keep studies or patients from being removed",
        description="What is held cannot be deleted, purged or erased. May run beside the gateway.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    adding = what.add_parser("add", help="put a hold on a study, or a patient with every study to come")
    with_subject(adding)
    adding.add_argument("--reason", required=True, help="why, such as a case number; no patient data")
    removing = what.add_parser("remove", help="end a hold")
    removing.add_argument("hold", type=checked(ids.version), help="as `gateway hold list` names it")
    listing = what.add_parser("list", help="list the holds in force")
    for each, command in ((adding, _add), (removing, _remove), (listing, _list)):
        with_json(each)
        with_tenant(each)
        with_config(each, command)


def _add(options: argparse.Namespace) -> int:
    held = Held(options.study or "", options.issuer, options.patient_id or "", options.reason)
    with opened(config.load(options.config)) as (archive, trail):
        hold = HoldService(archive, trail).add(administrator(), options.tenant, held)
    terminal.done(options, {"hold": hold}, hold)
    return terminal.OK


def _remove(options: argparse.Namespace) -> int:
    with opened(config.load(options.config)) as (archive, trail):
        HoldService(archive, trail).remove(administrator(), options.tenant, options.hold)
    terminal.done(options, {"hold": options.hold, "ended": True}, "the hold has ended")
    return terminal.OK


def _list(options: argparse.Namespace) -> int:
    with opened(config.load(options.config)) as (archive, trail):
        found = HoldService(archive, trail).in_force(options.tenant)
    if options.json:
        holds = [
            {"hold": state.record, "study": state.held.study_uid, "issuer": state.held.issuer,
             "patientID": state.held.patient_id, "reason": state.held.reason}
            for state in found
        ]  # fmt: skip
        terminal.report({"holds": holds})
        return terminal.OK
    for state in found:
        held = state.held
        on = (
            f"study {held.study_uid}"
            if held.study_uid
            else f"patient {held.patient_id} of {held.issuer or 'no issuer'}"
        )
        terminal.answer(f"{state.record}  {on}  {held.reason}")
    return terminal.OK
