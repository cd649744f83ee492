"""Local users, for sites without an identity provider: a password (argon2id), and an authenticator's code if wanted."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import argon2
import pyotp

from gateway.access.rules import attributes
from gateway.context import Principal, PrincipalKind
from gateway.errors import NotFound
from storage.control.base import Body, ControlStore, Document, change, now_s
from storage.control.base import every as every_document

KIND = "user"
SHORTEST_PASSWORD = 12
_LONGEST_PASSWORD = 1024
LONGEST_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@-]{{0,{LONGEST_NAME - 1}}}")
_STEP_S = 30

_hasher = argon2.PasswordHasher()


@dataclass(frozen=True, slots=True)
class User:
    """What is known of a user; times are Unix times."""

    name: str
    person: str
    tenant: str
    roles: tuple[str, ...]
    disabled: bool
    has_totp: bool
    created_at_s: float


def add(
    store: ControlStore, name: str, password: str, tenant: str, roles: Iterable[str], *, person: str = ""
) -> User | None:
    """Make a user; None when there is one of that name. Raises ValueError for a name or password that will not do."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name has up to 64 letters, digits and . _ @ -")
    body = {
        "password": hashed(password),
        "person": person,
        "tenant": tenant,
        "roles": sorted(set(roles)),
        "disabled": False,
        "totp": "",
        "totp_step": 0,
        "created_at_s": now_s(),
    }
    revision = store.put(KIND, name, body, expected=None)
    return None if revision is None else _of(Document(KIND, name, body, revision))


def hashed(password: str) -> str:
    """A password as it is kept. Raises ValueError for one that will not do."""
    if not SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise ValueError(f"a password has at least {SHORTEST_PASSWORD} characters, and at most {_LONGEST_PASSWORD}")
    return _hasher.hash(password)


def generated() -> str:
    """A password for somebody who has none yet."""
    return secrets.token_urlsafe(15)


def every(store: ControlStore) -> list[User]:
    """All users by name."""
    return [_of(each) for each in every_document(store, KIND)]


def alter(store: ControlStore, name: str, **values: object) -> User:
    """Change what is kept of a user. Raises NotFound."""
    found = change(store, KIND, name, lambda body: {**body, **values})
    if found is None:
        raise NotFound(f"there is no user {name}")
    return _of(found)


def remove(store: ControlStore, name: str) -> None:
    """Remove a user. Raises NotFound."""
    if not store.delete(KIND, name):
        raise NotFound(f"there is no user {name}")


def require_totp(store: ControlStore, name: str, issuer: str) -> str:
    """Have a user show a code too from now on; the address that an authenticator reads. Raises NotFound."""
    secret = pyotp.random_base32()
    alter(store, name, totp=secret, totp_step=0)
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=issuer)


def recognise(store: ControlStore, name: str, password: str, code: str = "") -> Principal | None:
    """The principal of a name and password; takes some 50 ms, whether there is such a user or not.

    ``code`` is of an authenticator, for users that need one; each is good once.
    """
    document = store.get(KIND, name) if _NAME.fullmatch(name) else None
    right = _verified(document, password[: _LONGEST_PASSWORD + 1])
    if document is None or not right or document.body["disabled"]:
        return None
    if document.body["totp"] and not _take_code(store, name, code):
        return None
    if _hasher.check_needs_rehash(document.body["password"]):
        change(store, KIND, name, lambda body: {**body, "password": _hasher.hash(password)})
    return principal(_of(document))


def principal(user: User) -> Principal:
    """As whom a user goes on."""
    return Principal(
        user.name, PrincipalKind.USER, user.tenant, frozenset(user.roles), attributes(user.name, user.person)
    )


def find(store: ControlStore, name: str) -> User | None:
    """A user by name."""
    document = store.get(KIND, name)
    return None if document is None else _of(document)


def _verified(document: Document | None, password: str) -> bool:
    expected = _nobodys() if document is None else str(document.body["password"])
    try:
        return _hasher.verify(expected, password)
    except argon2.exceptions.VerificationError:
        return False


@cache
def _nobodys() -> str:
    """What a password is compared with where there is no such user, so that it takes as long."""
    return _hasher.hash(secrets.token_urlsafe())


def _take_code(store: ControlStore, name: str, code: str) -> bool:
    """Whether a code is right and has not been used yet (RFC 6238, 5.2); it is used up by that."""
    now = int(time.time()) // _STEP_S

    def used(body: Body) -> Body | None:
        generator = pyotp.TOTP(body["totp"])
        for step in (now - 1, now, now + 1):
            if step > body["totp_step"] and secrets.compare_digest(generator.generate_otp(step), code.strip()):
                return {**body, "totp_step": step}
        return None

    return code.isascii() and change(store, KIND, name, used) is not None


def _of(document: Document) -> User:
    body = document.body
    return User(
        document.key,
        body["person"],
        body["tenant"],
        tuple(body["roles"]),
        body["disabled"],
        bool(body["totp"]),
        body["created_at_s"],
    )
