"""Who shows what: keys, tokens, passwords and cookies, proven once and remembered for a short time."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from gateway.access import keys, sessions, users
from gateway.access.door import Door
from gateway.access.shares import Shares
from gateway.access.tokens import Tokens
from gateway.context import Principal
from gateway.errors import Unauthenticated
from storage.control.base import ControlStore

_REMEMBERED = 4096
_TOKEN_FOR_S = 60.0
_REVISION_FOR_S = 1.0
"""So long a key, user or session that was revoked may still be let in."""


class Scheme(Enum):
    """How something is shown."""

    BEARER = "bearer"
    """An API key or a token."""
    BASIC = "basic"
    """The name and password of a local user."""
    SESSION = "session"
    """The cookie of a browser that logged in."""
    SHARE = "share"
    """The token of a share link; ``opened`` is the cookie of its opening."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller shows. ``claimed`` is a name that is no secret, to count failures by: of a user or a key."""

    scheme: Scheme
    secret: str = field(repr=False)
    user: str = ""
    opened: str = field(default="", repr=False)

    @property
    def claimed(self) -> str:
        """Whom it says it is of, as long as names are; "" for what says nothing."""
        return self.user[: users.LONGEST_NAME] or keys.key_id_of(self.secret) or ""


@dataclass(frozen=True, slots=True)
class Proven:
    """A principal, and what its session adds: the token that its changes have to show, and a reason it stated."""

    principal: Principal
    csrf: str = field(default="", repr=False)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Remembered:
    proven: Proven
    until_s: float
    revision: int | None


class Authenticator:
    """Proves credentials. Safe to use from several threads."""

    def __init__(self, door: Door, control: ControlStore, tokens: Tokens, shares: Shares) -> None:
        self._door = door
        self._control = control
        self._tokens = tokens
        self._shares = shares
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._salt = secrets.token_bytes(32)
        self._revision = -1
        self._revision_asked_s = -float("inf")

    def remembered(self, credential: Credential, address: str) -> Proven | None:
        """Whom a credential was proven to be of a moment ago. Waits for nothing: for the event loop."""
        place = self._place(credential, address)
        now_s = time.monotonic()
        with self._lock:
            found = self._known.get(place)
            if found is None or found.until_s <= now_s:
                return None
            if found.revision is not None and (
                found.revision != self._revision or now_s >= self._revision_asked_s + _REVISION_FOR_S
            ):
                return None
            self._known.move_to_end(place)
            return found.proven

    def prove(self, credential: Credential, address: str) -> Proven:
        """Find out whose a credential is; may wait for an engine or an identity provider.

        Raises
        ------
        Unauthenticated
            It is nobody's.
        NotFound
            It is no share link, or none any more.
        IdentityUnavailable, storage.errors.StorageUnavailable
            That cannot be found out now.
        """
        asked_s = time.monotonic()
        revision = self._control.revision()
        with self._lock:
            if asked_s > self._revision_asked_s:
                self._revision, self._revision_asked_s = revision, asked_s
        if (found := self.remembered(credential, address)) is not None:
            return found
        proven, until_s, depends = self._proven(credential, address)
        kept = _Remembered(proven, min(until_s, time.monotonic() + _TOKEN_FOR_S), revision if depends else None)
        with self._lock:
            self._known[self._place(credential, address)] = kept
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return proven

    def _proven(self, credential: Credential, address: str) -> tuple[Proven, float, bool]:
        """Who it is, until when (monotonic), and whether that hangs on the control state."""
        no_end = float("inf")
        if credential.scheme is Scheme.SESSION:
            session = sessions.find(self._control, credential.secret)
            if session is None:
                raise Unauthenticated("the session is over; log in again")
            until_s = time.monotonic() + session.ends_at_s - time.time()
            return Proven(session.principal, session.csrf, session.reason), until_s, True
        if credential.scheme is Scheme.SHARE:
            principal, ends_at_s = self._shares.recognise(credential.secret, credential.opened)
            return Proven(principal), time.monotonic() + ends_at_s - time.time(), True
        if credential.scheme is Scheme.BASIC:
            found = users.recognise(self._control, credential.user, credential.secret)
            if found is None:
                raise Unauthenticated("the name or password is not right, or a code is needed too: log in by the page")
            return Proven(found), no_end, True
        key_id = keys.key_id_of(credential.secret)
        if key_id is not None:
            document = self._control.get(keys.KIND, key_id)
            found = keys.recognise(document, credential.secret, address)
            if document is None or found is None:
                raise Unauthenticated("the API key is not known")
            ends_at_s = document.expires_at_s or no_end
            return Proven(found), time.monotonic() + ends_at_s - time.time(), True
        # A key that was copied badly is nothing to ask a provider about.
        if self._tokens.providers and not credential.secret.startswith(keys.PREFIX):
            principal, ends_at_s = self._tokens.principal(credential.secret)
            return Proven(principal), time.monotonic() + ends_at_s - time.time(), False
        raise Unauthenticated("the API key is not known")

    def declared(self, credential: Credential, address: str) -> Proven | None:
        """Whose key of the policy file a credential is; cheap, and as new as the file."""
        if credential.scheme is not Scheme.BEARER:
            return None
        found = self._door.policy.by_api_key(credential.secret, address)
        return None if found is None else Proven(found)

    def _place(self, credential: Credential, address: str) -> bytes:
        said = "\0".join((credential.scheme.value, credential.user, address, credential.opened, credential.secret))
        return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=32).digest()

    def close(self) -> None:
        """Let go of connections to identity providers."""
        self._tokens.close()
