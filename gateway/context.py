"""Values that travel downwards with a request: who asks, from where, under which request id."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

RequestId = NewType("RequestId", str)


def new_request_id() -> RequestId:
    """A fresh request id: 16 hexadecimal digits."""
    return RequestId(secrets.token_hex(8))


class PrincipalKind(StrEnum):
    """How a principal proves who it is."""

    LOOPBACK = "loopback"
    API_KEY = "api_key"
    AE = "ae"
    COMMAND_LINE = "command_line"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody the policy knows, under its name there."""

    name: str
    kind: PrincipalKind


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request came from. ``protocol`` is "DIMSE", "DICOMweb" or a command's; AE titles are of DIMSE only."""

    protocol: str
    address: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    request_id: RequestId = field(default_factory=new_request_id)


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal at a source: what every service is given first."""

    principal: Principal
    source: Source


OWN_KINDS = frozenset((PrincipalKind.COMMAND_LINE, PrincipalKind.GATEWAY))
"""Principals that are in no policy."""


def command_line(protocol: str) -> Caller:
    """Whoever gives a command on the gateway's host: no policy knows it, and it may read every file there is anyhow."""
    return Caller(Principal("command line", PrincipalKind.COMMAND_LINE), Source(protocol, "localhost"))


def of_the_gateway(protocol: str) -> Caller:
    """The gateway itself, where it does by a rule of its settings what nobody asked for."""
    return Caller(Principal("gateway", PrincipalKind.GATEWAY), Source(protocol, "localhost"))
