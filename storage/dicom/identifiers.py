"""Identifiers as small validated types: UIDs, tenants, versions, and the keys made from them.

A value of one of these types has passed its check, so it may stand in an object key or a URL as it is.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from dataclasses import dataclass
from typing import NewType

from storage.errors import InvalidIdentifier

StudyUid = NewType("StudyUid", str)
SeriesUid = NewType("SeriesUid", str)
SopUid = NewType("SopUid", str)
SopClassUid = NewType("SopClassUid", str)
TransferSyntaxUid = NewType("TransferSyntaxUid", str)
Tenant = NewType("Tenant", str)
Version = NewType("Version", str)
"""A ULID, given to an instance at reception: it orders the versions of one SOP Instance UID and carries the time."""

UID_MAX_LENGTH = 64
# Components with leading zeros break PS3.5 9.1, but scanners send them and their objects must be kept; they are
# harmless in a key, since equality is by spelling.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+", re.ASCII)
_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII)
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def checked_uid(text: str, name: str) -> str:
    """Check a UID of any kind; ``name`` is what the message calls it. Raises InvalidIdentifier."""
    if len(text) > UID_MAX_LENGTH:
        raise InvalidIdentifier(f"{name}: at most {UID_MAX_LENGTH} characters, got {len(text)}")
    if not _UID.fullmatch(text):
        raise InvalidIdentifier(f"{name}: not a UID (digits in components joined by dots)")
    return text


def study_uid(text: str) -> StudyUid:
    """Check a Study Instance UID (PS3.5 9.1 "UID Encoding Rules"); raises InvalidIdentifier."""
    return StudyUid(checked_uid(text, "Study Instance UID"))


def series_uid(text: str) -> SeriesUid:
    """Check a Series Instance UID; raises InvalidIdentifier."""
    return SeriesUid(checked_uid(text, "Series Instance UID"))


def sop_uid(text: str) -> SopUid:
    """Check a SOP Instance UID; raises InvalidIdentifier."""
    return SopUid(checked_uid(text, "SOP Instance UID"))


def sop_class_uid(text: str) -> SopClassUid:
    """Check a SOP Class UID; raises InvalidIdentifier."""
    return SopClassUid(checked_uid(text, "SOP Class UID"))


def transfer_syntax_uid(text: str) -> TransferSyntaxUid:
    """Check a Transfer Syntax UID; raises InvalidIdentifier."""
    return TransferSyntaxUid(checked_uid(text, "Transfer Syntax UID"))


def tenant(text: str) -> Tenant:
    """Check a tenant name: 1 to 32 of ``a-z 0-9 -``, not beginning or ending with ``-``; raises InvalidIdentifier."""
    if not _TENANT.fullmatch(text):
        raise InvalidIdentifier("tenant: 1 to 32 of a-z, 0-9 and -, with a letter or digit at both ends")
    return Tenant(text)


def version(text: str) -> Version:
    """Check a version (a ULID in upper case); raises InvalidIdentifier."""
    if not _VERSION.fullmatch(text):
        raise InvalidIdentifier("version: not a ULID")
    return Version(text)


class VersionClock:
    """Gives versions that rise strictly within a process, and by the millisecond between processes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._last_random = 0

    def next(self) -> Version:
        """The next version: 48 bits of Unix time in milliseconds, then 80 random bits."""
        with self._lock:
            now_ms = time.time_ns() // 1_000_000
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                # The top bit stays free, so that counting up within a millisecond cannot overflow.
                self._last_random = secrets.randbits(79)
            else:
                self._last_random += 1
            number = (self._last_ms << 80) | self._last_random
        return Version("".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5)))


def version_beside(source: Version) -> Version:
    """A version for what is made of another one: after it, and as if given at the same time, so that it ages alike.

    Somewhere in the rest of the same millisecond, where no version that was given then is met.
    """
    number = 0
    for character in source:
        number = (number << 5) | _CROCKFORD.index(character)
    room = (1 << 80) - 1 - (number & ((1 << 80) - 1))
    number += 1 + secrets.randbelow(max(room, 1))
    return Version("".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5)))


def version_time_s(value: Version) -> float:
    """When a version was given, in seconds since 1970-01-01 UTC."""
    number = 0
    for character in value[:10]:
        number = (number << 5) | _CROCKFORD.index(character)
    return number / 1000


def before_time(time_s: float) -> str:
    """A text that comes after every version given before a time, and before every one given since."""
    number = int(time_s * 1000)
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(45, -1, -5))


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """Where an instance stands in the hierarchy tenant, study, series, instance."""

    tenant: Tenant
    study_uid: StudyUid
    series_uid: SeriesUid
    sop_uid: SopUid

    def object_key(self, value: Version) -> str:
        """The object's key; never reused, since the version is part of it."""
        return f"{self.tenant}/{self.study_uid}/{self.series_uid}/{self.sop_uid}.{value}.dcm"


def parse_object_key(key: str) -> tuple[InstanceKey, Version]:
    """Read an instance's key back; raises InvalidIdentifier for any other object."""
    parts = key.split("/")
    if len(parts) != 4 or not parts[3].endswith(".dcm"):
        raise InvalidIdentifier("not the key of an instance")
    stem, _, ulid = parts[3].removesuffix(".dcm").rpartition(".")
    instance = InstanceKey(tenant(parts[0]), study_uid(parts[1]), series_uid(parts[2]), sop_uid(stem))
    return instance, version(ulid)
