"""What a trusted proxy says of the request that it passes on: who sent it, and under which URL.

A header that anybody may send is believed only from configured networks, and only the kind that the proxy sets: one
that adds X-Forwarded-For passes a client's own Forwarded header on untouched.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.access.networks import holds
from gateway.config.serving import HttpSettings

UNKNOWN = "0.0.0.0"  # noqa: S104 - an address that no network of a policy holds
"""Stands for a client that the proxy does not name."""

_HOST = re.compile(r"(?:[A-Za-z0-9.\-_]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?", re.ASCII)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~\-][A-Za-z0-9._~\-]{0,63}){1,8}", re.ASCII)
_MAX_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Origin:
    """The client of a request as far as it is known; ``scheme``, ``host`` and ``prefix`` are "" where nobody said."""

    address: str
    scheme: str = ""
    host: str = ""
    prefix: str = ""


def is_host(text: str) -> bool:
    """Whether a text is a host name or address, with a port or without."""
    return _HOST.fullmatch(text) is not None


def origin(request: web.Request, settings: HttpSettings) -> Origin:
    """Who sent a request, and what it was called before proxies passed it on."""
    peer = request.remote or ""
    if not trusted(peer, settings):
        return Origin(peer)
    if settings.forwarding_header == "forwarded":
        return _forwarded(request, peer, settings)
    return _x_forwarded(request, peer, settings)


def trusted(address: str, settings: HttpSettings) -> bool:
    """Whether an address is that of a configured proxy."""
    return holds(settings.trusted_proxies, address)


def _client(chain: Sequence[str], peer: str, settings: HttpSettings) -> tuple[str, int]:
    """The last address of a chain that is no trusted proxy's, and its place; the first one if all are.

    What stands before it was written by somebody who is not trusted.
    """
    for place in range(len(chain) - 1, -1, -1):
        if not trusted(chain[place], settings):
            return chain[place], place
    return (chain[0], 0) if chain else (peer, -1)


def _address(text: str) -> str:
    """An address without port and brackets; UNKNOWN for "unknown" and obfuscated ones (RFC 7239 6)."""
    bare = text.strip().strip('"')
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return UNKNOWN


def _x_forwarded(request: web.Request, peer: str, settings: HttpSettings) -> Origin:
    chain = [_address(each) for each in _list(request, "X-Forwarded-For")]
    address, _ = _client(chain, peer, settings)
    host = _last(request, "X-Forwarded-Host")
    port = _last(request, "X-Forwarded-Port")
    if host and port.isdigit() and not host.rpartition(":")[2].isdigit() and port not in ("80", "443"):
        host = f"{host}:{port}"
    return Origin(
        address,
        _scheme(_last(request, "X-Forwarded-Proto")),
        _host(host),
        _prefix(_last(request, "X-Forwarded-Prefix")),
    )


def _forwarded(request: web.Request, peer: str, settings: HttpSettings) -> Origin:
    hops = [_pairs(each) for each in _list(request, "Forwarded")]
    address, place = _client([_address(hop.get("for", "")) for hop in hops], peer, settings)
    # What the client's own proxy said of its host and scheme stands beside the client's address.
    hop = hops[place] if hops else {}
    return Origin(address, _scheme(hop.get("proto", "")), _host(hop.get("host", "")), "")


def _list(request: web.Request, name: str) -> list[str]:
    text = ",".join(request.headers.getall(name, []))
    return [each for each in text[:_MAX_CHARACTERS].split(",") if each.strip()]


def _last(request: web.Request, name: str) -> str:
    found = _list(request, name)
    return found[-1].strip() if found else ""


def _pairs(element: str) -> dict[str, str]:
    found = {}
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        found[name.strip().lower()] = value.strip().strip('"')
    return found


def _scheme(text: str) -> str:
    return text.lower() if text.lower() in ("http", "https") else ""


def _host(text: str) -> str:
    return text if is_host(text) else ""


def _prefix(text: str) -> str:
    bare = text.rstrip("/")
    return bare if _PREFIX.fullmatch(bare) else ""
