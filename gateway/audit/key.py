"""The key that records and checkpoints are signed with."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import AuditUnavailable

KEY_BYTES = 32
_ID = b"gateway audit: id of the key"


@dataclass(frozen=True, slots=True)
class AuditKey:
    """A key of 32 bytes. ``id`` names it in the trail and tells nothing of it."""

    secret: bytes = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", hmac.digest(self.secret, _ID, "sha256").hex()[:16])

    def sign(self, text: bytes) -> str:
        """HMAC-SHA256 of a text, in hexadecimal."""
        return hmac.digest(self.secret, text, "sha256").hex()

    def signed(self, text: bytes, signature: str) -> bool:
        """Whether a signature is this key's."""
        return hmac.compare_digest(self.sign(text), signature)


def kept(path: Path) -> AuditKey:
    """The key in a file, made when absent; readable for its owner alone. Raises AuditUnavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        found = read_or_make(path, lambda: secrets.token_bytes(KEY_BYTES), 0o600)
    except OSError as error:
        raise AuditUnavailable("the audit trail's key can be neither read nor made") from error
    if len(found) != KEY_BYTES:
        raise AuditUnavailable(f"the audit trail's key has {len(found)} bytes and not {KEY_BYTES}")
    return AuditKey(found)


def read_or_make(path: Path, make: Callable[[], bytes], mode: int) -> bytes:
    """The bytes of a small file, which the first of several processes makes, durably and whole. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)  # unlike a rename it never replaces what another process made meanwhile
    finally:
        partial.unlink()
    sync_folder(path.parent)
    return path.read_bytes()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
