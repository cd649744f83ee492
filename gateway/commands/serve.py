"""``gateway serve``: start the gateway and keep it running."""

from __future__ import annotations

import argparse
import logging

from gateway import assembly, config, log
from gateway.commands.arguments import Commands, with_config
from gateway.commands.terminal import OK
from gateway.config import Settings
from gateway.supervisor import Supervisor, stop_signal


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "serve", help="start the gateway", description="Start the gateway and keep it running."
    )
    parser.add_argument("--single", action="store_true", help="one worker process a face, for a laptop or a test")
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    settings = config.load(options.config)
    assembly.check(settings)
    if options.single:
        settings = single(settings)
    assembly.check_index(settings)
    log.configure("supervisor", settings.log.level)
    stop = stop_signal()
    with Supervisor(settings) as supervisor:
        logging.getLogger("gateway").info(
            "DICOMweb on http://%s:%d%s/dicomweb, DIMSE as %s on %s:%d",
            *supervisor.http_address,
            settings.http.path_prefix,
            settings.dimse.ae_title,
            *supervisor.dimse_address,
        )
        for name in off(settings):
            logging.getLogger("gateway").warning("off: %s", name)
        stop.wait()
    return OK


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
    return found
