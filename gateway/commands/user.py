"""``gateway user``: local users, for sites without an identity provider."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import sys

from gateway import config
from gateway.access import users
from gateway.commands import terminal
from gateway.commands.administration import accounts, administrator, with_tenant
from gateway.commands.arguments import Commands, with_config, with_json


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "user",
        help="local users: add, list, change, remove",
        description="For sites without an identity provider. Works beside a running gateway.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    adding = what.add_parser("add", help="add a user; the first one is best an administrator")
    adding.add_argument("name", help="the name to log in with")
    adding.add_argument("--role", action="append", required=True, help="a role of the policy; may be given again")
    adding.add_argument("--person", default="", metavar="NAME", help="name as in data sets, such as Gray^Ann")
    listing = what.add_parser("list", help="list the users")
    setting = what.add_parser("password", help="give a user another password, and end its sessions")
    for each in (adding, setting):
        each.add_argument("--generate", action="store_true", help="make a password and show it")
    disabling = what.add_parser("disable", help="keep a user out, and end its sessions")
    enabling = what.add_parser("enable", help="let a user in again")
    requiring = what.add_parser("totp", help="have a user show a code of an authenticator too; shows its address")
    removing = what.add_parser("remove", help="remove a user")
    for each in (setting, disabling, enabling, requiring, removing):
        each.add_argument("name", help="the user")
    for each, command in (
        (adding, _add),
        (listing, _list),
        (setting, _password),
        (disabling, _disable),
        (enabling, _enable),
        (requiring, _totp),
        (removing, _remove),
    ):
        with_json(each)
        with_tenant(each)
        with_config(each, command)


def _add(options: argparse.Namespace) -> int:
    password = _new_password(options)
    with accounts(config.load(options.config)) as service:
        service.add_user(administrator(), options.tenant, options.name, password, options.role, person=options.person)
    _shown(options, password, f"user {options.name} was added")
    return terminal.OK


def _list(options: argparse.Namespace) -> int:
    with accounts(config.load(options.config)) as service:
        found = service.users(administrator(), options.tenant)
    if options.json:
        terminal.report({"users": [dataclasses.asdict(each) for each in found]})
        return terminal.OK
    if not found:
        terminal.note("there are no users; `gateway user add NAME --role administrator` adds one")
    for each in found:
        marks = [mark for mark, is_so in (("disabled", each.disabled), ("with a code", each.has_totp)) if is_so]
        terminal.answer("  ".join([each.name, ", ".join(each.roles), each.person, *marks]))
    return terminal.OK


def _password(options: argparse.Namespace) -> int:
    password = _new_password(options)
    with accounts(config.load(options.config)) as service:
        service.set_password(administrator(), options.tenant, options.name, password)
    _shown(options, password, f"user {options.name} has another password")
    return terminal.OK


def _disable(options: argparse.Namespace) -> int:
    return _enabled(options, enabled=False)


def _enable(options: argparse.Namespace) -> int:
    return _enabled(options, enabled=True)


def _enabled(options: argparse.Namespace, *, enabled: bool) -> int:
    with accounts(config.load(options.config)) as service:
        service.enable(administrator(), options.tenant, options.name, enabled=enabled)
    text = f"user {options.name} is {'let in again' if enabled else 'kept out'}"
    terminal.done(options, {"user": options.name, "disabled": not enabled}, text)
    return terminal.OK


def _totp(options: argparse.Namespace) -> int:
    with accounts(config.load(options.config)) as service:
        address = service.require_totp(administrator(), options.tenant, options.name)
    terminal.note("enter this address in the user's authenticator; it is not shown again")
    terminal.done(options, {"user": options.name, "address": address}, address)
    return terminal.OK


def _remove(options: argparse.Namespace) -> int:
    with accounts(config.load(options.config)) as service:
        service.remove_user(administrator(), options.tenant, options.name)
    terminal.done(options, {"user": options.name, "removed": True}, f"user {options.name} was removed")
    return terminal.OK


def _new_password(options: argparse.Namespace) -> str:
    """Made, typed in twice at a terminal, or the first line of standard input."""
    if options.generate:
        return users.generated()
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    while True:
        first = getpass.getpass(f"Password (at least {users.SHORTEST_PASSWORD} characters): ")
        if first == getpass.getpass("Once more: "):
            return first
        terminal.error("these are two passwords; try again")


def _shown(options: argparse.Namespace, password: str, done: str) -> None:
    terminal.note(done)
    if options.generate:
        terminal.note("the password is shown this once")
        terminal.done(options, {"user": options.name, "password": password}, password)
    elif options.json:
        terminal.report({"user": options.name})
