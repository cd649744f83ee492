"""Whether a peer of the settings is there, asked by C-ECHO for somebody who waits for the answer at a page."""

from __future__ import annotations

from gateway.config import InvalidSettings
from gateway.config.serving import DimseSettings
from gateway.dimse import destinations, told
from gateway.dimse.echoing import echo
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import NotAssociated
from gateway.errors import NotFound
from gateway.services.peers import Verification

_WITHIN_S = 10.0


def verify(settings: DimseSettings, ae_title: str) -> Verification:
    """Ask one of ``dimse.destinations`` as ``gateway echo`` does, and no longer than a person waits.

    Raises NotFound for an AE title that is none of them.
    """
    names = ("acse_timeout_s", "dimse_timeout_s", "network_timeout_s")
    hurried = settings.model_copy(update={name: min(_WITHIN_S, getattr(settings, name)) for name in names})
    try:
        peer = destinations.of_settings(hurried, ae_title)
        if peer is None:
            raise NotFound("dimse.destinations has no peer of this AE title")
        answered = echo(peer.address, hurried, peer.tls)
    except NotAssociated as error:
        return Verification(False, str(error), error.advice)
    except (Ended, InvalidSettings) as error:
        return Verification(False, str(error))
    said = told.said(answered.status, meanings=told.OF_ECHO)
    return Verification(not answered.status, said, "", answered.associated_s, answered.answered_s)
