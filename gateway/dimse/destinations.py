"""Peers that we ask for associations: those of the settings by AE title, and any other by its address."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from gateway import certificates
from gateway.config import InvalidSettings
from gateway.config.serving import DimseSettings
from gateway.dimse.requesting import SCHEME, Address


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a peer is, and the context of a client for one that wants TLS."""

    address: Address
    tls: ssl.SSLContext | None = None


def of_settings(settings: DimseSettings, ae_title: str) -> Destination | None:
    """The peer that ``dimse.destinations`` has by an AE title. Raises InvalidSettings for TLS that cannot be."""
    found = settings.destinations.get(ae_title)
    if found is None:
        return None
    return Destination(Address(ae_title, found.host, found.port), certificates.to_peer(settings, found))


def given(settings: DimseSettings, text: str) -> Destination:
    """A peer as people name it: ``AET@HOST:PORT``, or ``AET`` of the settings; ``dicom://`` may stand before it.

    Raises InvalidSettings.
    """
    name = text.removeprefix(f"{SCHEME}://")
    if "@" in name or ":" in name or "/" in name:
        return Destination(Address.of(f"{SCHEME}://{name}"))
    found = of_settings(settings, name)
    if found is None:
        known = ", ".join(sorted(settings.destinations)) or "none"
        raise InvalidSettings(
            [f"{text}: a peer is AET@HOST:PORT, or the AE title of one of dimse.destinations (there: {known})"]
        )
    return found
