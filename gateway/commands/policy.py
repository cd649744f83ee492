"""``gateway policy``: check a policy file, ask it why, and try it against a table of expectations."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway import config
from gateway.access import policy
from gateway.access.actions import Action
from gateway.access.rules import Policy, attributes
from gateway.commands import terminal
from gateway.commands.administration import accounts, administrator, with_tenant
from gateway.commands.arguments import Commands, checked, chosen, with_config, with_json
from gateway.config import InvalidSettings
from gateway.context import Principal, PrincipalKind
from gateway.services.accounts import Explanation
from storage.dicom import identifiers as ids
from storage.dicom.attributes import BY_KEYWORD, Attribute
from storage.dicom.matching import NOTHING, Record, matches
from storage.dicom.normal import Normal, normalise


class Expectation(BaseModel):
    """One row of a table: what a principal, or somebody with some roles, may do to a study like this."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    principal: str = ""
    roles: frozenset[str] = frozenset()
    person: str = ""
    attributes: dict[str, tuple[str, ...]] = {}
    action: Action
    reason: str = ""
    study: dict[str, str | tuple[str, ...]] = {}
    expect: Literal["allow", "deny"]

    @model_validator(mode="after")
    def _about_somebody(self) -> Expectation:
        if bool(self.principal) == bool(self.roles):
            raise ValueError("needs principal or roles, and not both")
        if self.principal and (self.person or self.attributes):
            raise ValueError("person and attributes are for roles; a principal has its own")
        return self


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    expectation: Annotated[tuple[Expectation, ...], Field(min_length=1)]


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "policy",
        help="check a policy, ask it why, test it",
        description="Works on the policy file of the settings; changes nothing.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    checking = what.add_parser("check", help="check a policy file and name its faults")
    checking.add_argument("file", type=Path, nargs="?", help="the file (the one of the settings)")
    explaining = what.add_parser("explain", help="say which rules let a principal do something, and why others do not")
    who = explaining.add_mutually_exclusive_group(required=True)
    who.add_argument("--principal", metavar="NAME", help="of the policy, a local user, or an API key")
    who.add_argument("--role", action="append", help="somebody with this role; may be given again")
    explaining.add_argument("--person", default="", metavar="NAME", help="with --role: the person's name")
    explaining.add_argument(
        "--action",
        type=chosen(Action),
        choices=tuple(Action),
        default=Action.READ,
        metavar="ACTION",
        help=f"one of {', '.join(Action)} (read)",
    )
    explaining.add_argument("--study", type=checked(ids.study_uid), metavar="UID", help="a study that is here")
    explaining.add_argument("--reason", default="", help="as if the glass were broken for it")
    with_tenant(explaining)
    testing = what.add_parser(
        "test", help="compare the policy with a table of expectations; exit status 1 when it differs"
    )
    testing.add_argument("table", type=Path, help="a TOML file of [[expectation]]; see docs/security.md")
    for each, command in ((checking, _check), (explaining, _explain), (testing, _test)):
        with_json(each)
        with_config(each, command)


def _check(options: argparse.Namespace) -> int:
    path = options.file or config.load(options.config).access.policy_file
    found = policy.load(path)
    if path is None:
        terminal.note("no access.policy_file: this machine may do everything, and keys and users have built-in roles")
    roles = sorted(found.roles)
    terminal.done(options, {"roles": roles}, f"roles: {', '.join(roles)}")
    return terminal.OK


def _explain(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    with accounts(settings, with_index=options.study is not None) as service:
        principal = (
            service.known(options.tenant, options.principal)
            if options.principal
            else _somebody(options.tenant, frozenset(options.role), options.person)
        )
        found = service.explain(
            administrator(), options.tenant, principal, options.action, options.study, options.reason
        )
    if options.json:
        terminal.report(found.told())
    else:
        for line in told(found):
            terminal.answer(line)
    return terminal.OK if found.deciding else terminal.FAILED


def _somebody(tenant: str, roles: frozenset[str], person: str) -> Principal:
    return Principal("somebody", PrincipalKind.OIDC, tenant, roles, attributes("somebody", person))


def told(found: Explanation) -> list[str]:
    """An explanation for people: the answer first, then each rule."""
    may = (
        f"{found.principal.name} may {found.action}"
        if found.deciding
        else f"{found.principal.name} may not {found.action}"
    )
    where = "" if found.found is None else " this study" if found.found else " this study, which is not here"
    lines = [f"{may}{where}" + (f" by: {'; '.join(found.deciding)}" if found.deciding else "")]
    for reading, inside in found.readings:
        if reading.scope is None or reading.scope == NOTHING:
            lines.append(f"  no   {reading.rule}: {reading.why}")
        elif inside is False:
            lines.append(f"  no   {reading.rule}: the study is not in its scope")
        else:
            lines.append(f"  yes  {reading.rule}" + ("" if inside is None else ": the study is in its scope"))
    return lines


def _test(options: argparse.Namespace) -> int:
    given = policy.load(config.load(options.config).access.policy_file)
    differing: list[dict[str, object]] = []
    rows = _table(options.table)
    for number, row in enumerate(rows, 1):
        allowed = _allows(given, row, f"{options.table}: expectation.{number - 1}")
        if allowed != (row.expect == "allow"):
            who = row.principal or ", ".join(sorted(row.roles))
            outcome = "allowed" if allowed else "denied"
            differing.append({"row": number, "expected": row.expect, "is": outcome})
            terminal.error(f"row {number}: {who}, {row.action} on {row.study}: expected {row.expect}, is {outcome}")
    found = {"expectations": len(rows), "differing": differing}
    terminal.done(options, found, f"{len(rows)} expectations, {len(differing)} differ")
    return terminal.FAILED if differing else terminal.OK


def _table(path: Path) -> tuple[Expectation, ...]:
    try:
        return _Table.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).expectation
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings([f"{path}: not TOML: {error}"]) from error
    except ValidationError as error:
        raise InvalidSettings([f"{path}: {policy.fault(each)}" for each in error.errors()]) from error


def _allows(given: Policy, row: Expectation, where: str) -> bool:
    if row.principal:
        principal = given.by_name(row.principal)
        if principal is None:
            raise InvalidSettings([f"{where}.principal: the policy has no {row.principal!r}"])
    else:
        if unknown := sorted(row.roles - given.roles):
            raise InvalidSettings([f"{where}.roles: the policy has no {unknown[0]!r}"])
        known = {**dict(attributes("somebody", row.person)), **row.attributes}
        principal = Principal("somebody", PrincipalKind.OIDC, "main", row.roles, tuple(known.items()))
    found = given.permission(principal, row.action, has_reason=bool(row.reason))
    return found is not None and matches(found.scope, _record(row.study, where))


def _record(study: Mapping[str, str | tuple[str, ...]], where: str) -> Record:
    """Columns of a study, with one series in it, as the index would hold them."""
    record: dict[str, Normal | Sequence[Mapping[str, Normal]]] = {}
    for keyword, given in study.items():
        attribute = BY_KEYWORD.get(keyword)
        if attribute is None or not attribute.column:
            raise InvalidSettings([f"{where}.study.{keyword}: not an attribute that policies know"])
        texts = (given,) if isinstance(given, str) else given
        if attribute.items:
            record[attribute.items] = [_columns(attribute, text) for text in texts]
        elif len(texts) == 1:
            record.update(_columns(attribute, texts[0]))
        else:
            raise InvalidSettings([f"{where}.study.{keyword}: has one value"])
    return record


def _columns(attribute: Attribute, text: str) -> dict[str, Any]:
    groups = text.split("=") if attribute.vr == "PN" else [text]
    return {column: normalise(attribute.vr, group) for column, group in zip(attribute.columns, groups, strict=False)}
