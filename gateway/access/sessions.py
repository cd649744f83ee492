"""Sessions of browsers: a random cookie stands for whoever logged in, until it ends, is ended, or is left alone."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from gateway.context import Principal, PrincipalKind
from storage.control.base import ControlStore, Document, every, now_s

KIND = "session"
LONGEST_S = 12 * 3600.0
IDLE_S = 30 * 60.0
_TOUCHED_AFTER_S = 60.0
"""How much of the idle time is spent before it is written down that it began anew."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session. ``csrf`` has to come back with each request that changes anything; ``reason`` breaks the glass."""

    principal: Principal
    csrf: str = field(repr=False)
    reason: str
    ends_at_s: float


def begin(store: ControlStore, principal: Principal, *, longest_s: float = LONGEST_S) -> str:
    """Begin a session; what the cookie holds. The principal's bounds are of tokens and links, which have no session."""
    assert principal.bounds is None
    secret = secrets.token_urlsafe(32)
    ends_at_s = now_s() + longest_s
    body = {
        "name": principal.name,
        "kind": principal.kind.value,
        "tenant": principal.tenant,
        "roles": sorted(principal.roles),
        "attributes": [[name, list(values)] for name, values in principal.attributes],
        "csrf": secrets.token_urlsafe(32),
        "reason": "",
        "ends_at_s": ends_at_s,
    }
    store.put(KIND, _key(secret), body, expected=None, expires_at_s=min(ends_at_s, now_s() + IDLE_S))
    return secret


def find(store: ControlStore, secret: str) -> Session | None:
    """The session of a cookie. Whoever is seen again begins the idle time anew."""
    document = store.get(KIND, _key(secret))
    if document is None:
        return None
    _touch(store, document)
    body = document.body
    principal = Principal(
        body["name"],
        PrincipalKind(body["kind"]),
        body["tenant"],
        frozenset(body["roles"]),
        tuple((name, tuple(values)) for name, values in body["attributes"]),
    )
    return Session(principal, body["csrf"], body["reason"], body["ends_at_s"])


def _touch(store: ControlStore, document: Document) -> None:
    now = now_s()
    assert document.expires_at_s is not None
    if document.expires_at_s < min(document.body["ends_at_s"], now + IDLE_S - _TOUCHED_AFTER_S):
        store.extend(KIND, document.key, min(document.body["ends_at_s"], now + IDLE_S))


def state_reason(store: ControlStore, secret: str, reason: str) -> bool:
    """State why the glass is broken, or by "" that it is no more; False when the session is over."""
    document = store.get(KIND, _key(secret))
    if document is None:
        return False
    body = {**document.body, "reason": reason}
    changed = store.put(KIND, document.key, body, expected=document.revision, expires_at_s=document.expires_at_s)
    return changed is not None


def end(store: ControlStore, secret: str) -> bool:
    """End a session; whether there was one."""
    return store.delete(KIND, _key(secret))


def end_all(store: ControlStore, name: str) -> int:
    """End every session of a local user, as when the password was changed; how many there were."""
    theirs = [each.key for each in every(store, KIND) if each.body["name"] == name and each.body["kind"] == "user"]
    return sum(store.delete(KIND, key) for key in theirs)


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
