"""API keys that are made, listed and revoked by command and over HTTP; only their digests are kept.

A key reads ``gwk_ID_SECRET``: the id finds it, stands in lists and logs, and is no secret.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.access.networks import holds
from gateway.access.rules import attributes
from gateway.context import Principal, PrincipalKind
from gateway.errors import NotFound
from storage.control.base import Body, ControlStore, Document, now_s
from storage.control.base import every as every_document

KIND = "api_key"
PREFIX = "gwk_"
_FORM = re.compile(rf"{PREFIX}([a-z2-7]{{12}})_([A-Za-z0-9_-]{{43}})")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_NOBODYS = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; times are Unix times. The key itself is not."""

    id: str
    name: str
    tenant: str
    roles: tuple[str, ...]
    networks: tuple[str, ...]
    created_at_s: float
    expires_at_s: float | None


def create(
    store: ControlStore,
    name: str,
    tenant: str,
    roles: Iterable[str],
    *,
    networks: Iterable[str] = (),
    expires_at_s: float | None = None,
) -> tuple[str, ApiKey]:
    """Make a key; it is told this once. Raises ValueError for networks that are none."""
    listed = tuple(str(ipaddress.ip_network(each)) for each in networks)
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    key = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
    body = {
        "name": name,
        "tenant": tenant,
        "roles": sorted(set(roles)),
        "networks": listed,
        "created_at_s": now_s(),
        "sha256": _digest(key),
    }
    revision = store.put(KIND, key_id, body, expected=None, expires_at_s=expires_at_s)
    assert revision is not None
    return key, _of(Document(KIND, key_id, body, revision, expires_at_s))


def every(store: ControlStore) -> list[ApiKey]:
    """All keys that are good, in the order in which they were made."""
    return sorted(map(_of, every_document(store, KIND)), key=lambda each: each.created_at_s)


def revoke(store: ControlStore, key_id: str) -> None:
    """Make a key no good, for good. Raises NotFound."""
    if not store.delete(KIND, key_id):
        raise NotFound("there is no such API key")


def key_id_of(text: str) -> str | None:
    """The id of what has the form of a key."""
    found = _FORM.fullmatch(text)
    return None if found is None else found[1]


def recognise(document: Document | None, text: str, address: str) -> Principal | None:
    """The principal of a key shown from an address, given what is kept under the key's id."""
    expected = _NOBODYS if document is None else str(document.body["sha256"])
    right = hmac.compare_digest(expected, _digest(text))
    if document is None or not right or not _admits(document.body, address):
        return None
    return principal(_of(document))


def principal(key: ApiKey) -> Principal:
    """As whom a key's bearer goes on."""
    return Principal(key.name, PrincipalKind.API_KEY, key.tenant, frozenset(key.roles), attributes(key.name, ""))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _admits(body: Body, address: str) -> bool:
    networks = [ipaddress.ip_network(each) for each in body["networks"]]
    return not networks or holds(networks, address)


def _of(document: Document) -> ApiKey:
    body = document.body
    return ApiKey(
        document.key,
        body["name"],
        body["tenant"],
        tuple(body["roles"]),
        tuple(body["networks"]),
        body["created_at_s"],
        document.expires_at_s,
    )
