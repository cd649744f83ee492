"""What the commands that ask a peer have in common: who it is, as whom it is asked, and over what."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gateway import certificates, config
from gateway.commands.arguments import NotUnderstood
from gateway.config import InvalidSettings, Settings
from gateway.config.section import AeTitle
from gateway.config.serving import DestinationSettings, DimseSettings
from gateway.dimse import destinations
from gateway.dimse.destinations import Destination

PEER = "AET@HOST:PORT, or AET of dimse.destinations in the settings"
_AE_TITLE = TypeAdapter(AeTitle)


@dataclass(frozen=True, slots=True)
class Called:
    """A peer, and the settings by which it is asked: ours, as far as the command line does not say otherwise."""

    peer: Destination
    settings: Settings

    @property
    def dimse(self) -> DimseSettings:
        """As whom, and how long is waited."""
        return self.settings.dimse


def with_peer(parser: argparse.ArgumentParser) -> None:
    """The peer itself, an argument by its place."""
    parser.add_argument("peer", metavar="PEER", help=PEER)


def with_manner(parser: argparse.ArgumentParser) -> None:
    """As whom it is asked, over TLS or not, and how long is waited."""
    manner = parser.add_argument_group("how the peer is asked")
    manner.add_argument("--calling-aet", metavar="AET", help="our AE title (dimse.ae_title)")
    manner.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="how long an answer may take")
    manner.add_argument("--tls", action="store_true", help="over TLS; a peer of the settings says so itself")
    manner.add_argument("--tls-ca", type=Path, metavar="FILE", help="authorities that it is checked by (the system's)")
    manner.add_argument("--tls-any-name", action="store_true", help="its certificate need not name the host")
    manner.add_argument("--tls-certificate", type=Path, metavar="FILE", help="ours (dimse.tls_certificate_file)")
    manner.add_argument("--tls-key", type=Path, metavar="FILE", help="the key of it (dimse.tls_key_file)")


def called(options: argparse.Namespace) -> Called:
    """Who is asked, and how. Raises InvalidSettings."""
    settings = config.load(options.config)
    changed: dict[str, object] = {}
    if options.calling_aet is not None:
        try:
            changed["ae_title"] = _AE_TITLE.validate_python(options.calling_aet)
        except ValidationError as error:
            raise NotUnderstood(
                [f"--calling-aet {options.calling_aet}: an AE title has 1 to 16 characters, no backslash among them"]
            ) from error
    if options.timeout is not None:
        changed |= dict.fromkeys(("acse_timeout_s", "dimse_timeout_s", "network_timeout_s"), options.timeout)
    if (options.tls_certificate is None) != (options.tls_key is None):
        raise NotUnderstood(["--tls-certificate: to be given together with --tls-key"])
    if options.tls_certificate is not None:
        changed |= {"tls_certificate_file": options.tls_certificate, "tls_key_file": options.tls_key}
    dimse = settings.dimse.model_copy(update=changed)
    return Called(_peer(options, dimse), settings.model_copy(update={"dimse": dimse}))


def _peer(options: argparse.Namespace, dimse: DimseSettings) -> Destination:
    try:
        found = destinations.given(dimse, options.peer)
    except InvalidSettings as error:
        raise NotUnderstood(error.faults) from error
    about_tls = (options.tls_ca, options.tls_any_name, options.tls_certificate)
    if found.tls is not None or not (options.tls or any(about_tls)):
        return found
    address = found.address
    wanted = DestinationSettings(
        host=address.host,
        port=address.port,
        tls=True,
        tls_ca_file=options.tls_ca,
        tls_check_name=not options.tls_any_name,
    )
    return Destination(address, certificates.to_peer(dimse, wanted))


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"more than 0 seconds, got {text}")
    return number
