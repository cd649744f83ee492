"""The policy file: principals, what each may do, and in which part of the archive.

.. code-block:: toml

    [[principal]]
    name = "radiology-viewer"
    kind = "api_key"
    api_key_sha256 = "..."            # printf %s KEY | sha256sum
    actions = ["search", "read", "render"]
    scope = { Modality = ["CT", "MR"] }

    [[principal]]
    name = "ct-scanner-1"
    kind = "ae"
    ae_title = "CT1"
    networks = ["10.1.2.0/24"]
    actions = ["echo", "store"]
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.networks import IPvAnyNetwork

from gateway.config import InvalidSettings
from gateway.context import OWN_KINDS, Principal, PrincipalKind
from storage.dicom import identifiers as ids
from storage.dicom.attributes import BY_KEYWORD, Level
from storage.dicom.keys import wildcard
from storage.dicom.matching import EVERYTHING, AllOf, AnyOf, Condition
from storage.errors import InvalidCondition, InvalidIdentifier


class Action(StrEnum):
    """What a principal may be allowed to do."""

    ECHO = "echo"
    SEARCH = "search"
    READ = "read"
    RENDER = "render"
    STORE = "store"
    DELETE = "delete"
    AUDIT_READ = "audit_read"


class PrincipalRule(BaseModel):
    """One principal of the policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
    kind: PrincipalKind
    tenant: str = "main"
    actions: frozenset[Action]
    scope: dict[str, tuple[str, ...]] = {}
    api_key_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    ae_title: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    networks: tuple[IPvAnyNetwork, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> PrincipalRule:
        try:
            ids.tenant(self.tenant)
        except InvalidIdentifier as error:
            raise ValueError(str(error)) from error
        if self.kind in OWN_KINDS:
            raise ValueError(f'kind: "{self.kind}" is for commands on the host and for rules, which ask no policy')
        if (self.kind is PrincipalKind.API_KEY) != (self.api_key_sha256 is not None):
            raise ValueError('api_key_sha256: to be given for kind = "api_key", and only there')
        if (self.kind is PrincipalKind.AE) != (self.ae_title is not None):
            raise ValueError('ae_title: to be given for kind = "ae", and only there')
        scope_condition(self.scope)
        return self

    def admits(self, address: str) -> bool:
        """Whether a peer's address is in one of the networks; without networks, only this machine's own are."""
        found = ipaddress.ip_address(address)
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        if not self.networks:
            return found.is_loopback
        return any(found in network for network in self.networks)


class _PolicyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    principal: tuple[PrincipalRule, ...]


def scope_condition(scope: dict[str, tuple[str, ...]]) -> Condition:
    """The condition of a scope: every attribute has one of its values, wildcards allowed. Raises ValueError."""
    found: list[Condition] = []
    for keyword, values in scope.items():
        attribute = BY_KEYWORD.get(keyword)
        if attribute is None or not attribute.column or attribute.level is Level.INSTANCE:
            raise ValueError(f"scope.{keyword}: not a matchable attribute of patient, study or series")
        try:
            found.append(AnyOf(tuple(wildcard(attribute, value) for value in values)))
        except InvalidCondition as error:
            raise ValueError(f"scope.{error}") from error
    return AllOf(tuple(found)) if found else EVERYTHING


class Policy:
    """The rules, and who is who under them."""

    def __init__(self, rules: tuple[PrincipalRule, ...]) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._scopes = {rule.name: scope_condition(rule.scope) for rule in rules}

    def rule(self, principal: Principal) -> PrincipalRule:
        """The rule of a principal that this policy recognised."""
        return self._rules[principal.name]

    def scope(self, principal: Principal) -> Condition:
        """The part of its tenant that exists for a principal."""
        return self._scopes[principal.name]

    def by_api_key(self, key: str, address: str) -> Principal | None:
        """The principal of an API key. Every key is compared, in constant time each."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        found = None
        for rule in self._rules.values():
            if rule.api_key_sha256 is not None and hmac.compare_digest(rule.api_key_sha256, digest):
                found = rule
        if found is None or (found.networks and not found.admits(address)):
            return None
        return Principal(found.name, found.kind)

    def by_ae_title(self, ae_title: str, address: str) -> Principal | None:
        """The principal of a calling AE title at an address; one for every title ("*") comes last."""
        for wanted in (ae_title, "*"):
            for rule in self._rules.values():
                if rule.ae_title == wanted and rule.admits(address):
                    return Principal(rule.name, rule.kind)
        return None

    def by_loopback(self, address: str) -> Principal | None:
        """The principal of callers on this machine that show nothing else."""
        for rule in self._rules.values():
            if rule.kind is PrincipalKind.LOOPBACK and rule.admits(address):
                return Principal(rule.name, rule.kind)
        return None


BUILT_IN = Policy(
    (
        PrincipalRule(name="this-machine", kind=PrincipalKind.LOOPBACK, actions=frozenset(Action)),
        PrincipalRule(name="ae-on-this-machine", kind=PrincipalKind.AE, ae_title="*", actions=frozenset(Action)),
    )
)
"""Without a policy file: whoever is on this machine may do everything, nobody else anything."""


def load(path: Path | None) -> Policy:
    """The policy of a file, or the built-in one. Raises InvalidSettings with every fault."""
    if path is None:
        return BUILT_IN
    try:
        rules = _PolicyFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).principal
    except OSError as error:
        raise InvalidSettings([f"access.policy_file: {path}: {error.strerror or error}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings([f"{path}: not TOML: {error}"]) from error
    except ValidationError as error:
        raise InvalidSettings([f"{path}: {_fault(each)}" for each in error.errors()]) from error
    names = [rule.name for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidSettings([f"{path}: principal: the name {name!r} stands twice" for name in twice])
    return Policy(rules)


def _fault(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}"
