"""Values that travel downwards with a request: who asks, from where, under which request id."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from storage.dicom.matching import EVERYTHING, Condition

RequestId = NewType("RequestId", str)


def new_request_id() -> RequestId:
    """A fresh request id: 16 hexadecimal digits."""
    return RequestId(secrets.token_hex(8))


class PrincipalKind(StrEnum):
    """How a principal proves who it is."""

    LOOPBACK = "loopback"
    ANONYMOUS = "anonymous"
    """Whoever comes from some networks and shows nothing; nobody, unless the policy says so."""
    API_KEY = "api_key"
    AE = "ae"
    USER = "user"
    """Somebody with a password here, for sites without an identity provider."""
    OIDC = "oidc"
    """Somebody, or a program, for whom an OpenID provider vouches by a token."""
    SHARE = "share"
    """Whoever has a share link."""
    COMMAND_LINE = "command_line"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a token or link leaves of what its bearer may do: some actions, in a part of the tenant.

    ``view`` is the only one that it is good for: a de-identified one by its name, or "" for what is as stored; None
    leaves the choice.
    """

    actions: frozenset[str]
    scope: Condition = EVERYTHING
    view: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was recognised.

    ``roles`` are names in the policy, ``attributes`` what is known of the principal and a policy may ask for: its
    ``name``, the ``person``'s name as in a data set, and what an identity provider says.
    """

    name: str
    kind: PrincipalKind
    tenant: str = "main"
    roles: frozenset[str] = frozenset()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: Bounds | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request came from. ``protocol`` is "DIMSE", "DICOMweb" or a command's; AE titles are of DIMSE only.

    ``certificate`` is the subject of the certificate that a peer showed over DIMSE (RFC 4514), "" without one.
    """

    protocol: str
    address: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    certificate: str = ""
    request_id: RequestId = field(default_factory=new_request_id)


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal at a source: what every service is given first. ``reason`` is what breaks the glass, if stated."""

    principal: Principal
    source: Source
    reason: str = ""


OWN_KINDS = frozenset((PrincipalKind.COMMAND_LINE, PrincipalKind.GATEWAY))
"""Principals that are in no policy."""


def command_line(protocol: str) -> Caller:
    """Whoever gives a command on the gateway's host: no policy knows it, and it may read every file there is anyhow."""
    return Caller(Principal("command line", PrincipalKind.COMMAND_LINE), Source(protocol, "localhost"))


def of_the_gateway(protocol: str) -> Caller:
    """The gateway itself, where it does by a rule of its settings what nobody asked for."""
    return Caller(Principal("gateway", PrincipalKind.GATEWAY), Source(protocol, "localhost"))
