"""``gateway echo``: ask a peer whether it is there, by C-ECHO."""

from __future__ import annotations

import argparse

from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.commands.peers import called, with_manner, with_peer
from gateway.dimse import told
from gateway.dimse.echoing import echo


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "echo",
        help="ask a peer whether it is there (C-ECHO)",
        description="Ask a peer for an association, and on it whether it is there. Says how long each took, or why "
        "not, and what to do about it.",
    )
    with_peer(parser)
    with_manner(parser)
    with_json(parser)
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Ask."""
    found = called(options)
    peer = found.peer
    answered = echo(peer.address, found.dimse, peer.tls)
    said = told.said(answered.status, meanings=told.OF_ECHO)
    if options.json:
        terminal.report(
            {
                "peer": str(peer.address),
                "calling": found.dimse.ae_title,
                "tls": peer.tls is not None,
                "status": answered.status,
                "associated_s": round(answered.associated_s, 4),
                "answered_s": round(answered.answered_s, 4),
            }
        )
    elif answered.status:
        terminal.error(f"{peer.address} answers {said}")
    else:
        tls = " over TLS" if peer.tls is not None else ""
        terminal.answer(
            f"{peer.address} answers {found.dimse.ae_title}{tls}: "
            f"association in {answered.associated_s * 1e3:,.1f} ms, C-ECHO in {answered.answered_s * 1e3:,.1f} ms"
        )
    return terminal.FAILED if answered.status else terminal.OK
