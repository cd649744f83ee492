"""Whether an address is in a network, however the address is written."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_KEPT_ADDRESSES = 4096
"""Each request asks several times about the same one."""


def parsed(text: str) -> Address:
    """An address; an IPv4 address that came as IPv6 is the IPv4 one. Raises ValueError."""
    return _parsed(text.partition("%")[0])


@lru_cache(_KEPT_ADDRESSES)
def _parsed(text: str) -> Address:
    found = ipaddress.ip_address(text)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return found if mapped is None else mapped


def holds(networks: Iterable[Network], text: str) -> bool:
    """Whether an address is in one of some networks; one that is none is nowhere."""
    try:
        found = parsed(text)
    except ValueError:
        return False
    return any(found in network for network in networks)
