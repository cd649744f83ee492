"""Names that tell nothing: the gateway says them to clients, and understands them when they come back."""

from __future__ import annotations

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from storage.control.base import ControlStore

SECRET = ("secret", "sealed-names")
"""Kind and key of the document with the key of all processes."""
TAG_BYTES = 16
LONGEST = 6000
"""Characters of a name that is looked at: a URL has them, and a place in an answer as long as an index takes it."""


class Sealing:
    """Seals bytes under a key that is kept with the control state. Safe to use from several threads.

    AES-SIV (RFC 5297): the same bytes about the same have always the same name, and nobody else can make one.

    Raises
    ------
    storage.errors.StorageUnavailable
        From every method, until the key is known.
    """

    def __init__(self, control: ControlStore) -> None:
        self._control = control
        self._cipher: AESSIV | None = None

    def seal(self, plain: bytes, *about: str) -> str:
        """A name for some bytes, of ``A-Z a-z 0-9 - .``: four characters for each three bytes and the tag's sixteen."""
        sealed = self._key().encrypt(plain, [each.encode() for each in about])
        return base64.urlsafe_b64encode(sealed).decode("ascii").rstrip("=").replace("_", ".")

    def open(self, name: str, *about: str) -> bytes | None:
        """What a name stands for; None when it is no name, or about something else."""
        if len(name) > LONGEST or "_" in name or not name.isascii():
            return None
        try:
            sealed = base64.b64decode(name.replace(".", "_") + "=" * (-len(name) % 4), b"-_", validate=True)
            if len(sealed) <= TAG_BYTES:
                return None
            plain = self._key().decrypt(sealed, [each.encode() for each in about])
        except (binascii.Error, ValueError, InvalidTag):
            return None
        # The last character has bits that mean nothing: of those that read alike, one is the name.
        return plain if self.seal(plain, *about) == name else None

    def _key(self) -> AESSIV:
        if self._cipher is None:
            while (found := self._control.get(*SECRET)) is None:
                self._control.put(*SECRET, {"key": secrets.token_hex(64)}, expected=None)
            self._cipher = AESSIV(bytes.fromhex(found.body["key"]))
        return self._cipher
