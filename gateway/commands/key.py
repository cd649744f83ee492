"""``gateway key``: API keys for programs and viewers."""

from __future__ import annotations

import argparse
import dataclasses
import datetime

from gateway import config
from gateway.commands import terminal
from gateway.commands.administration import accounts, administrator, with_tenant
from gateway.commands.arguments import Commands, positive, with_config, with_json


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "key",
        help="make, list and revoke API keys",
        description="API keys let programs and viewers in, with roles of the policy. Works beside a running gateway.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    creating = what.add_parser("create", help="make a key; it is shown this once")
    creating.add_argument("name", help="what the audit trail calls its bearer")
    creating.add_argument("--role", action="append", required=True, help="a role of the policy; may be given again")
    creating.add_argument("--network", action="append", default=[], help="where it may be used, such as 10.1.0.0/16")
    creating.add_argument("--days", type=positive, help="how long it is good (until it is revoked)")
    listing = what.add_parser("list", help="list the keys that are good")
    revoking = what.add_parser("revoke", help="make a key no good, within a second")
    revoking.add_argument("key", help="its id, as `gateway key list` names it")
    for each, command in ((creating, _create), (listing, _list), (revoking, _revoke)):
        with_json(each)
        with_tenant(each)
        with_config(each, command)


def _create(options: argparse.Namespace) -> int:
    with accounts(config.load(options.config)) as service:
        key, made = service.create_key(
            administrator(), options.tenant, options.name, options.role, networks=options.network, days=options.days
        )
    if options.json:
        terminal.report({"key": key, **dataclasses.asdict(made)})
        return terminal.OK
    terminal.note("keep it well: only its digest is kept here, and it is not shown again")
    terminal.answer(key)
    return terminal.OK


def _list(options: argparse.Namespace) -> int:
    with accounts(config.load(options.config)) as service:
        found = service.keys(administrator(), options.tenant)
    if options.json:
        terminal.report({"keys": [dataclasses.asdict(each) for each in found]})
        return terminal.OK
    if not found:
        terminal.note("there are no keys; `gateway key create NAME --role ROLE` makes one")
    for each in found:
        ends = f"until {_day(each.expires_at_s)}" if each.expires_at_s is not None else "until revoked"
        where = f"  from {', '.join(each.networks)}" if each.networks else ""
        made = f"made {_day(each.created_at_s)}"
        terminal.answer(f"{each.id}  {each.name}  {', '.join(each.roles)}  {made}, {ends}{where}")
    return terminal.OK


def _revoke(options: argparse.Namespace) -> int:
    with accounts(config.load(options.config)) as service:
        service.revoke_key(administrator(), options.tenant, options.key)
    terminal.done(options, {"key": options.key, "revoked": True}, "the key is no good any more")
    return terminal.OK


def _day(moment_s: float) -> str:
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC).strftime("%Y-%m-%d")
