"""Asking a peer whether it is there: C-ECHO as a Service Class User.

References
----------
PS3.4 Annex A "Verification Service Class", PS3.7 9.1.5 "C-ECHO Service".
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass

from gateway.config.serving import DimseSettings
from gateway.dimse import contexts, requesting
from gateway.dimse.commands import Command, Element, Field, Value
from gateway.dimse.requesting import Address, NotAssociated, Proposal
from gateway.dimse.sending import PLAIN

_MESSAGE_ID = 1


@dataclass(frozen=True, slots=True)
class Echo:
    """What became of it: how long association and answer took, and the status."""

    associated_s: float
    answered_s: float
    status: int


def echo(address: Address, settings: DimseSettings, tls: ssl.SSLContext | None = None) -> Echo:
    """Ask once. Raises NotAssociated, Ended."""
    started_s = time.monotonic()
    with requesting.associate(address, [Proposal(contexts.VERIFICATION, PLAIN)], settings, tls) as association:
        associated_s = time.monotonic()
        if not association.contexts:
            raise NotAssociated(
                f"the peer {address} takes the association, and no C-ECHO on it",
                "it is there; what it serves its administrator knows",
            )
        values: dict[Element, Value] = {
            Element.AFFECTED_SOP_CLASS_UID: contexts.VERIFICATION,
            Element.MESSAGE_ID: _MESSAGE_ID,
        }
        command = Command.of(Field.C_ECHO_RQ, values, data_set=False)
        response = association.exchange.request(next(iter(association.contexts)), command, None)
        return Echo(associated_s - started_s, time.monotonic() - associated_s, response.command.status)
