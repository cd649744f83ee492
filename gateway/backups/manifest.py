"""What a backup consists of, and that it is what was written: names, sizes, SHA-256."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import BinaryIO

MANIFEST = "manifest.json"
CONTROL = "control.jsonl"
STEPS = "steps.jsonl"
SETTINGS, POLICY, COMMITMENTS, INDEX = "settings.toml", "policy.toml", "commitments.jsonl", "index.sqlite"
AUDIT, CERTIFICATES, KEYS = "audit/", "certificates/", "keys/"
CUSTOMER_KEY, AUDIT_KEY = "customer.key", "audit.key"
PSEUDONYM_KEYS = ("views/", "deidentification/")
FORMAT = 1
_MAX_MANIFEST_BYTES = 64 << 20
_NAME = re.compile(
    r"settings\.toml|policy\.toml|commitments\.jsonl|control\.jsonl|steps\.jsonl|index\.sqlite|customer\.key|audit\.key|(audit|certificates|keys|views|deidentification)/[A-Za-z0-9_-][A-Za-z0-9._-]*"
)
_BLOCK_BYTES = 1 << 20


class BackupError(Exception):
    """A backup or restore that cannot be carried out; no face ever meets it."""


class BackupDamaged(BackupError):
    """The backup is not what was written."""


class BackupRefused(BackupError):
    """A backup or restore would replace what is there, or cannot be made so."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """``variables`` are names of environment variables that were set, or that settings name; their values are nowhere.

    ``made`` is in UTC, ``release`` the version of the program that wrote it. ``keys_left_out`` are parts that a backup
    with keys would have had.
    """

    made: str
    release: str
    index_engine: str
    variables: tuple[str, ...]
    parts: dict[str, Part]
    keys_left_out: tuple[str, ...] = ()

    def dumps(self) -> bytes:
        """As JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode() + b"\n"


def loads(text: bytes) -> Manifest:
    """A manifest. Raises BackupDamaged."""
    try:
        found = json.loads(text)
        if found.pop("format") != FORMAT:
            raise BackupRefused("the backup is of another release; restore it with that one")
        parts = {name: Part(**part) for name, part in found.pop("parts").items()}
        variables = tuple(found.pop("variables"))
        left_out = tuple(found.pop("keys_left_out", ()))
        manifest = Manifest(parts=parts, variables=variables, keys_left_out=left_out, **found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupDamaged(f"{MANIFEST} is damaged") from error
    for name in (*manifest.parts, *manifest.keys_left_out):
        if not _NAME.fullmatch(name):
            raise BackupDamaged(f"{MANIFEST} names a part that no backup has: {name!r}")
    return manifest


def read(file: BinaryIO) -> Manifest:
    """A manifest from a file. Raises BackupDamaged."""
    return loads(file.read(_MAX_MANIFEST_BYTES))


def measured(file: BinaryIO, at_most: int | None = None) -> Part:
    """Size and digest of what is left of a file, or of so much of it."""
    digest, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK_BYTES if at_most is None else min(_BLOCK_BYTES, at_most - size)):
        digest.update(block)
        size += len(block)
    return Part(size, digest.hexdigest())
