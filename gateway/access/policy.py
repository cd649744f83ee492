"""The policy file: roles, what each may do and in which part of the archive, and who is who.

.. code-block:: toml

    [[role]]
    name = "radiologist"

    [[role.rule]]
    name = "the last year"
    actions = ["search", "read", "render"]
    scope = { StudyDate = ["last 365 days"] }

    [[role.rule]]
    name = "emergency"
    actions = ["search", "read", "render"]
    obligations = ["break_glass"]

    [[role]]
    name = "researcher"

    [[role.rule]]
    name = "de-identified"
    view = "research"                 # a view of the settings; without one, what is as stored
    actions = ["search", "read_deidentified", "render"]

    [[principal]]
    name = "reading-room"
    kind = "api_key"
    api_key_sha256 = "..."            # printf %s KEY | sha256sum
    roles = ["radiologist"]

    [[principal]]
    name = "ct-scanner-1"
    kind = "ae"
    ae_title = "CT1"
    networks = ["10.1.2.0/24"]
    certificate_subjects = ["CN=ct1,O=Hospital"]   # over TLS, with a client certificate of this subject alone
    actions = ["echo", "store"]       # rules of its own need no role

    [principal.sending]               # what it may send, and how it is taken
    sop_classes = ["CTImageStorage", "SecondaryCaptureImageStorage"]   # by keyword or UID
    transfer_syntaxes = ["ExplicitVRLittleEndian", "JPEGLosslessSV1"]
    max_instance_bytes = 100_000_000
    max_bytes_per_s = 50_000_000
    conflict = "reject"               # as storage.conflict

    [[principal]]
    name = "reading-rooms"
    kind = "anonymous"                # nobody is, unless a policy says so
    networks = ["10.3.0.0/16"]
    roles = ["radiologist"]
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.networks import IPvAnyNetwork
from pydicom._uid_dict import UID_dictionary

from gateway.access import scopes
from gateway.access.actions import IN_VIEWS, Action, Obligation
from gateway.access.rules import ANY_VIEW, Policy, Rule, Who
from gateway.access.sending import ANYTHING, Sending
from gateway.config import InvalidSettings
from gateway.context import PrincipalKind
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier
from storage.index.arrivals import Conflict

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x39\x3b-\x7e]+$")]
"""Printable ASCII without a colon: roles with one are the gateway's own."""
_DECLARED = (PrincipalKind.LOOPBACK, PrincipalKind.ANONYMOUS, PrincipalKind.API_KEY, PrincipalKind.AE)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Ruled(_Section):
    """What says which actions are allowed where."""

    actions: frozenset[Action] = frozenset()
    scope: dict[str, tuple[str, ...]] = {}
    obligations: frozenset[Obligation] = frozenset()
    view: str = Field(default="", pattern=r"^$|^\*$|^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")

    @model_validator(mode="after")
    def _scoped(self) -> _Ruled:
        scopes.check(self.scope)
        if not self.view and Action.READ_DEIDENTIFIED in self.actions:
            raise ValueError("actions: read_deidentified needs a view")
        if self.view and (others := sorted(self.actions - IN_VIEWS)):
            raise ValueError(f"actions: {others[0]} is not possible through a view; {', '.join(sorted(IN_VIEWS))} are")
        return self


class RuleSection(_Ruled):
    """One rule of a role: ``[[role.rule]]``."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    actions: Annotated[frozenset[Action], Field(min_length=1)]


class RoleSection(_Section):
    """One role: ``[[role]]``."""

    name: Name
    rule: Annotated[tuple[RuleSection, ...], Field(min_length=1)]


def _uid(kind: str) -> AfterValidator:
    """Takes what the standard calls so by its keyword too. ``kind`` is the UID Type of PS3.6 Annex A."""
    named = {entry[4]: uid for uid, entry in UID_dictionary.items() if entry[1] == kind and entry[4]}

    def found(given: str) -> str:
        uid = named.get(given, given)
        try:
            return ids.checked_uid(uid, kind)
        except InvalidIdentifier as error:
            raise ValueError(f"{given!r} is neither a UID nor the keyword of a {kind}") from error

    return AfterValidator(found)


class SendingSection(_Section):
    """What an AE may send: ``[principal.sending]``."""

    sop_classes: frozenset[Annotated[str, _uid("SOP Class")]] = frozenset()
    """None is any that is stored."""
    transfer_syntaxes: frozenset[Annotated[str, _uid("Transfer Syntax")]] = frozenset()
    """None is any that is stored."""
    max_instance_bytes: Annotated[int, Field(ge=1)] | None = None
    max_bytes_per_s: Annotated[float, Field(ge=65_536)] | None = None
    """Of all its associations with one worker process; what comes faster waits in the network."""
    conflict: Conflict | None = None


class PrincipalSection(_Ruled):
    """One principal: ``[[principal]]``, with roles, or rules of its own, or both."""

    name: Name
    kind: PrincipalKind
    tenant: str = "main"
    roles: frozenset[Name] = frozenset()
    person: str = ""
    """Its name as in a data set, for scopes with ``${person}``."""
    api_key_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    ae_title: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    certificate_subjects: frozenset[Annotated[str, Field(min_length=1, max_length=1024)]] = frozenset()
    """Subjects, as RFC 4514 writes them, of which an AE has to show a certificate over TLS: CN=ct1,O=Hospital."""
    networks: tuple[IPvAnyNetwork, ...] = ()
    sending: SendingSection | None = None

    @model_validator(mode="after")
    def _complete(self) -> PrincipalSection:
        try:
            ids.tenant(self.tenant)
        except InvalidIdentifier as error:
            raise ValueError(str(error)) from error
        if self.kind not in _DECLARED:
            raise ValueError(f'kind: "{self.kind}" is not declared in a policy; {", ".join(_DECLARED)} are')
        if (self.kind is PrincipalKind.API_KEY) != (self.api_key_sha256 is not None):
            raise ValueError('api_key_sha256: to be given for kind = "api_key", and only there')
        if self.kind is PrincipalKind.ANONYMOUS and not self.networks:
            raise ValueError('networks: needed for kind = "anonymous"')
        if (self.kind is PrincipalKind.AE) != (self.ae_title is not None):
            raise ValueError('ae_title: to be given for kind = "ae", and only there')
        if self.certificate_subjects and self.kind is not PrincipalKind.AE:
            raise ValueError('certificate_subjects: only for kind = "ae"')
        if self.sending is not None and self.kind is not PrincipalKind.AE:
            raise ValueError('sending: only for kind = "ae"')
        return self


class PolicyFile(_Section):
    """The whole file."""

    role: tuple[RoleSection, ...] = ()
    principal: tuple[PrincipalSection, ...] = ()


def made(given: PolicyFile) -> Policy:
    """The policy of a file. Raises ValueError for names that stand twice or are not declared."""
    faults = []
    for what, names in (
        ("role", [each.name for each in given.role]),
        ("principal", [each.name for each in given.principal]),
    ):
        faults += [f"{what}: the name {name!r} stands twice" for name, count in Counter(names).items() if count > 1]
    for role in given.role:
        names = [each.name for each in role.rule]
        faults += [
            f"role {role.name}: the rule {name!r} stands twice" for name, count in Counter(names).items() if count > 1
        ]
    roles = {each.name: [Rule.of(f"{each.name}: {rule.name}", rule) for rule in each.rule] for each in given.role}
    known = roles.keys() | BUILT_IN_ROLES.keys()
    for principal in given.principal:
        faults += [f"principal {principal.name}: no role {name!r}" for name in sorted(principal.roles - known)]
    if faults:
        raise ValueError("; ".join(faults))
    own = {f"own:{each.name}": [Rule.of(each.name, each)] for each in given.principal if each.actions}
    return Policy({**BUILT_IN_ROLES, **roles, **own}, [_who(each) for each in given.principal])


def _who(given: PrincipalSection) -> Who:
    own = {f"own:{given.name}"} if given.actions else set()
    return Who(
        name=given.name,
        kind=given.kind,
        tenant=given.tenant,
        roles=frozenset(given.roles | own),
        person=given.person,
        api_key_sha256=given.api_key_sha256,
        ae_title=given.ae_title,
        networks=tuple(ipaddress.ip_network(each) for each in given.networks),
        certificate_subjects=given.certificate_subjects,
        sending=ANYTHING if given.sending is None else Sending(**given.sending.model_dump()),
    )


def _built_in(name: str, *actions: Action) -> dict[str, list[Rule]]:
    """A role with these actions on what is as stored, as far as they are about that, and through any view."""
    given = frozenset(actions)
    stored = Rule(name, given - {Action.READ_DEIDENTIFIED}, {}, break_glass=False)
    if Action.READ_DEIDENTIFIED not in given:
        return {name: [stored]}
    return {name: [stored, Rule(f"{name}, views", given & IN_VIEWS, {}, break_glass=False, view=ANY_VIEW)]}


_LOOK = (Action.SEARCH, Action.READ, Action.DOWNLOAD, Action.RENDER)
_STORED = frozenset(Action) - {Action.READ_DEIDENTIFIED}

BUILT_IN_ROLES: dict[str, list[Rule]] = {
    **_built_in("administrator", *(each for each in Action if each is not Action.REIDENTIFY)),
    **_built_in("radiologist", *_LOOK, Action.STORE, Action.SHARE),
    **_built_in("viewer", *_LOOK),
    **_built_in("modality", Action.ECHO, Action.STORE, Action.WORKLIST, Action.PERFORM),
    **_built_in("scheduler", Action.ECHO, Action.WORKLIST, Action.SCHEDULE),
    **_built_in("auditor", Action.AUDIT_READ),
    # For nobody who does not need it, administrators included.
    **_built_in("reidentifier", Action.REIDENTIFY),
    # What a link or token may be about; it is bounded by the link or token itself.
    **_built_in("share:link", *_LOOK, Action.READ_DEIDENTIFIED),
    **_built_in("smart:launch", *_LOOK, Action.STORE, Action.DELETE),
}
"""Roles that are there without being declared; a role of a file with the same name replaces one."""

BUILT_IN = made(
    PolicyFile(
        principal=(
            PrincipalSection(name="this-machine", kind=PrincipalKind.LOOPBACK, roles=frozenset(("administrator",))),
            PrincipalSection(name="ae-on-this-machine", kind=PrincipalKind.AE, ae_title="*", actions=_STORED),
        )
    )
)
"""Without a policy file: whoever is on this machine may do everything, nobody else anything without showing a key."""


def load(path: Path | None) -> Policy:
    """The policy of a file, or the built-in one. Raises InvalidSettings with every fault."""
    if path is None:
        return BUILT_IN
    try:
        return made(PolicyFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise InvalidSettings([f"access.policy_file: {path}: {error.strerror or error}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings([f"{path}: not TOML: {error}"]) from error
    except ValidationError as error:
        raise InvalidSettings([f"{path}: {fault(each)}" for each in error.errors()]) from error
    except ValueError as error:
        raise InvalidSettings([f"{path}: {each}" for each in str(error).split("; ")]) from error


def fault(error: Any) -> str:
    """A fault that pydantic found, with its place."""
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}"
