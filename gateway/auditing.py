"""The record of a gateway's start, and of the settings and policy that changed since the one before."""

from __future__ import annotations

import json

import orjson
from pydantic import BaseModel, SecretStr

from gateway.audit import chain
from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.config import Settings
from gateway.context import of_the_gateway

POLICY = "policy"


def start(trail: AuditTrail, settings: Settings, release: str) -> None:
    """Record that a gateway starts, with a digest of each section of its settings.

    What differs from the last start that this directory knows of is recorded as a change of its own.

    Raises
    ------
    AuditUnavailable
    """
    before = _last(trail)
    now = {name: trail.digest(text) for name, text in _sections(settings).items()}
    trail.start(f"release {release}", configuration=now)
    changed = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if before and changed:
        trail.write(AuditEvent("configure", "changed", of_the_gateway("start"), detail=" ".join(changed)))


def _sections(settings: Settings) -> dict[str, bytes]:
    found = {
        name: json.dumps(_plain(getattr(settings, name)), sort_keys=True).encode()
        for name in type(settings).model_fields
    }
    policy = settings.access.policy_file
    found[POLICY] = policy.read_bytes() if policy is not None else b""
    return found


def _plain(value: object) -> object:
    """Values with their secrets, which only a keyed digest is made of."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _last(trail: AuditTrail) -> dict[str, str]:
    """The digests of the last start in the trail's directory; nothing where there was none, or it cannot be read."""
    for each in reversed(chain.files(trail.directory)):
        if each.worker != trail.worker:
            continue
        with each.path.open("rb") as file:
            line = file.readline()
        try:
            found = orjson.loads(line).get("configuration")
        except ValueError:
            continue
        if isinstance(found, dict):
            return {str(name): str(value) for name, value in found.items()}
    return {}
