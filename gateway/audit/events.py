"""Audit events as values."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.context import Caller


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One decision, or what came of one.

    ``subject`` names what it is about by UIDs; ``detail`` is free of patient data. ``outcome`` is "allowed",
    "denied", or a word for what became of it.
    """

    action: str
    outcome: str
    caller: Caller | None
    tenant: str = ""
    subject: tuple[str, ...] = ()
    detail: str = ""
