"""Who is behind an AE title: a name and password, or a token, shown in the negotiation and checked as over HTTP.

References
----------
PS3.7 D.3.3.7 "User Identity Negotiation".
"""

from __future__ import annotations

import hashlib
import math
import threading
from enum import IntEnum

from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation

from gateway.access.authentication import Credential, Scheme
from gateway.access.throttle import Throttle, source_of
from gateway.assembly import Core
from gateway.audit.events import AuditEvent
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.errors import Busy, TooManyRequests, Unauthenticated

_AT_ONCE = 2


class IdentityType(IntEnum):
    """User-Identity-Type; what is not here (Kerberos, SAML) is passed over, as the standard lets an acceptor do."""

    USERNAME_AND_PASSCODE = 2
    JWT = 5


class Identities:
    """Proves identities; failures are counted and lock as those over HTTP, each process its share."""

    def __init__(self, core: Core) -> None:
        self._core = core
        http = core.settings.http
        allowed = math.ceil(http.failed_attempts / core.settings.dimse.workers)
        self._attempts = Throttle(allowed, http.lockout_s, http.max_lockout_s)
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
        where = source_of(source.address)
        claimed = credential.claimed or hashlib.sha256(credential.secret.encode()).hexdigest()
        if not self._places.acquire(timeout=self._core.settings.dimse.acse_timeout_s):
            raise Busy("too many identities are shown at once")
        try:
            # In a place of one's own: what failed before counts.
            self._attempts.check(where, claimed)
            found = self._core.authenticator.prove(credential, source.address)
        except TooManyRequests as error:
            raise Unauthenticated(str(error)) from error
        except Unauthenticated as error:
            locked_s = self._attempts.failed(where, claimed)
            self._record(source, "denied", str(error))
            if locked_s:
                self._record(source, "locked", f"for {locked_s:g} s")
            raise
        finally:
            self._places.release()
        self._attempts.succeeded(where, claimed)
        return found.principal

    def _record(self, source: Source, outcome: str, detail: str) -> None:
        nobody = Caller(Principal("unknown", PrincipalKind.USER), source)
        self._core.door.record(AuditEvent("authenticate", outcome, nobody, detail=detail))


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
