"""``gateway serve``: start the gateway and keep it running."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from gateway import assembly, config, log, rebuilding
from gateway.commands.arguments import Commands, chosen, with_config
from gateway.commands.terminal import OK
from gateway.config import InvalidSettings, Settings
from gateway.config.section import LOOPBACK
from gateway.nursery import Nursery
from gateway.supervisor import METRICS, Supervisor, stop_signal
from gateway.worker import Face


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "serve", help="start the gateway", description="Start the gateway and keep it running."
    )
    parser.add_argument("--single", action="store_true", help="one worker process a face, for a laptop or a test")
    parser.add_argument(
        "--face",
        action="append",
        type=chosen(Face),
        choices=tuple(Face),
        metavar="FACE",
        help="serve only this: http, dimse or background; may be given again; needs S3 and PostgreSQL",
    )
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    # Before anything else: a fork takes along what is there.
    nursery = Nursery.forked()
    settings = config.load(options.config)
    assembly.check(settings)
    if options.single:
        settings = single(settings)
    faces = tuple(options.face or Face)
    check_faces(settings, faces)
    assembly.check_index(settings)
    log.configure("supervisor", settings.log.level, settings.log.format)
    stop = stop_signal()
    with rebuilding.not_meanwhile(settings), Supervisor(settings, faces, nursery) as supervisor:
        logging.getLogger("gateway").info("%s", ", ".join(serving(settings, supervisor)))
        for name in off(settings):
            logging.getLogger("gateway").warning("off: %s", name)
        stop.wait()
    return OK


def check_faces(settings: Settings, faces: Sequence[Face]) -> None:
    """Refuse faces of their own without engines in common. Raises InvalidSettings."""
    apart = (
        []
        if set(faces) == set(Face)
        else [
            f'{name}: has to be "{needed}" for --face: faces that run apart share nothing but the engines'
            for name, value, needed in (
                ("storage.objects", settings.storage.objects, "s3"),
                ("index.engine", settings.index.engine, "postgres"),
            )
            if value != needed
        ]
    )
    if apart:
        raise InvalidSettings(apart)


def serving(settings: Settings, supervisor: Supervisor) -> list[str]:
    """What is served here, and where."""
    found = []
    if (address := supervisor.address(Face.HTTP)) is not None:
        scheme = "http" if settings.http.tls_certificate_file is None else "https"
        found.append(f"DICOMweb on {scheme}://{address[0]}:{address[1]}{settings.http.path_prefix}/dicomweb")
    if (address := supervisor.address(Face.DIMSE)) is not None:
        found.append(f"DIMSE as {settings.dimse.ae_title} on {address[0]}:{address[1]}")
    if (address := supervisor.address(METRICS)) is not None:
        found.append(f"metrics on http://{address[0]}:{address[1]}/metrics")
    return found or ["background work"]


def single(settings: Settings) -> Settings:
    """The same settings with one worker a face."""
    return settings.model_copy(
        update={
            "http": settings.http.model_copy(update={"workers": 1}),
            "dimse": settings.dimse.model_copy(update={"workers": 1}),
        }
    )


def off(settings: Settings) -> list[str]:
    """What protects the archive elsewhere and is off here; told at every start."""
    found = []
    if not settings.storage.fsync:
        found.append("storage.fsync: what is acknowledged may be lost in a power cut")
    if settings.access.policy_file is None:
        found.append("access.policy_file: every program on this machine may do everything")
    http = settings.http
    if http.host not in LOOPBACK and http.tls_certificate_file is None and not http.tls_at_proxy:
        found.append(
            f"http.tls_certificate_file: patient data and API keys go in clear over {http.host}; give a certificate, "
            "or listen on 127.0.0.1 behind a proxy with TLS on this machine; where the network between proxy and "
            "gateway is protected otherwise, say so with http.tls_at_proxy = true"
        )
    return found
