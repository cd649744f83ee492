"""Who is behind an AE title: a name and password, or a token, shown in the negotiation and checked as over HTTP.

References
----------
PS3.7 D.3.3.7 "User Identity Negotiation".
"""

from __future__ import annotations

import threading
from enum import IntEnum
from functools import partial

from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation

from gateway import assembly
from gateway.access.attempts import digest
from gateway.access.authentication import Credential, Scheme
from gateway.assembly import Core
from gateway.context import Principal, Source
from gateway.errors import Busy, TooManyRequests, Unauthenticated

_AT_ONCE = 2


class IdentityType(IntEnum):
    """User-Identity-Type; what is not here (Kerberos, SAML) is passed over, as the standard lets an acceptor do."""

    USERNAME_AND_PASSCODE = 2
    JWT = 5


class Identities:
    """Proves identities; failures count together with those over HTTP."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._attempts = assembly.attempts(core)
        # To look at a password takes 64 MiB, and whoever has an AE title may ask for it.
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def proven(self, shown: UserIdentityNegotiation, source: Source) -> Principal | None:
        """Whose identity it is; None for one of a kind that is not looked at.

        Raises
        ------
        Unauthenticated
            It is nobody's, or there were too many failures: it was not looked at.
        Busy
            As many as may be are looked at.
        IdentityUnavailable, storage.errors.StorageUnavailable
        """
        credential = _credential(shown)
        if credential is None:
            return None
        prove = partial(self._core.authenticator.prove, credential, source.address)
        if not self._places.acquire(timeout=self._core.settings.dimse.acse_timeout_s):
            raise Busy("too many identities are shown at once")
        try:
            # In a place of one's own: what failed before counts.
            return self._attempts.prove(source, credential.claimed or digest(credential.secret), prove).principal
        except TooManyRequests as error:
            raise Unauthenticated(str(error)) from error
        finally:
            self._places.release()


def shown_in(primitive: A_ASSOCIATE) -> UserIdentityNegotiation | None:
    """The identity that a request shows, if any."""
    return next((each for each in primitive.user_information if isinstance(each, UserIdentityNegotiation)), None)


def positive(shown: UserIdentityNegotiation) -> list[UserIdentityNegotiation]:
    """The response to a proven identity, where one is asked for."""
    if not shown.positive_response_requested:
        return []
    answer = UserIdentityNegotiation()
    answer.server_response = b""
    return [answer]


def _credential(shown: UserIdentityNegotiation) -> Credential | None:
    primary = (shown.primary_field or b"").decode("utf-8", "replace")
    if shown.user_identity_type == IdentityType.USERNAME_AND_PASSCODE:
        passcode = (shown.secondary_field or b"").decode("utf-8", "replace")
        return Credential(Scheme.BASIC, passcode, primary)
    if shown.user_identity_type == IdentityType.JWT:
        return Credential(Scheme.BEARER, primary)
    return None
