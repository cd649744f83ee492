"""What the commands that change the archive beside a running gateway have in common."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from gateway import assembly, rebuilding, stores
from gateway.access.door import Door
from gateway.audit.trail import AuditTrail
from gateway.commands.arguments import checked
from gateway.config import Settings
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.services.accounts import AccountService
from storage.archive import Archive
from storage.dicom import identifiers as ids


def with_tenant(parser: argparse.ArgumentParser) -> None:
    """``--tenant``."""
    parser.add_argument("--tenant", type=checked(ids.tenant), default="main", help="the tenant (main)")


def with_subject(parser: argparse.ArgumentParser) -> None:
    """A study or a patient."""
    named = parser.add_mutually_exclusive_group(required=True)
    named.add_argument("--study", type=checked(ids.study_uid), metavar="UID", help="a study")
    named.add_argument("--patient-id", metavar="ID", help="a patient, by Patient ID")
    parser.add_argument("--issuer", default="", help="Issuer of Patient ID, where the patient's images have one")


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Archive, AuditTrail]]:
    """The archive and the audit trail, beside a gateway or without one; not during a reindex."""
    with rebuilding.not_meanwhile(settings):
        assembly.check_index(settings)
        objects, index = stores.object_store(settings), assembly.index(settings)
        trail = assembly.audit_trail(settings, "command")
        with closing(objects), closing(index), closing(trail):
            yield Archive(objects, index, assembly.limits(settings)), trail


@contextmanager
def accounts(settings: Settings, *, with_index: bool = False) -> Iterator[AccountService]:
    """Who administers keys and users, beside a gateway or without one; without the index, also during a reindex."""
    with ExitStack() as held:
        index = None
        if with_index:
            held.enter_context(rebuilding.not_meanwhile(settings))
            assembly.check_index(settings)
            index = held.enter_context(closing(assembly.index(settings)))
        trail = held.enter_context(closing(assembly.audit_trail(settings, "command")))
        control = held.enter_context(closing(assembly.control(settings)))
        yield AccountService(control, Door(settings.access.policy_file, trail), index)


def administrator() -> Caller:
    """Whoever gave the command, by the name of the account."""
    return Caller(Principal(getpass.getuser(), PrincipalKind.COMMAND_LINE), Source("command", "localhost"))
