"""What a recompressed object says of the one that it was made of, in the Private Information of its file meta.

The object tells it by itself, so that an index is made anew from the objects alone (PS3.10 Table 7.1-1).
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.errors import InvalidIdentifier


@dataclass(frozen=True, slots=True)
class Origin:
    """The original: its version, the digest of its object, its transfer syntax.

    ``pixels_sha256`` is the digest of the pixels of all frames, one after the other, without padding, as native little
    endian samples in Planar Configuration 0. Original and recompressed were decoded, and both have it.
    """

    version: ids.Version
    sha256: str
    transfer_syntax_uid: str
    pixels_sha256: str

    def dumps(self) -> bytes:
        """As the Private Information."""
        return json_model.dumps(
            {
                "recompressed": self.version,
                "sha256": self.sha256,
                "transferSyntax": self.transfer_syntax_uid,
                "pixels": self.pixels_sha256,
            }
        )


def loads(body: bytes) -> Origin | None:
    """What ``dumps`` made; None for what is none of it."""
    try:
        found = json_model.loads(body.rstrip(b"\0 "))
        return Origin(
            ids.version(str(found["recompressed"])),
            str(found["sha256"]),
            str(found["transferSyntax"]),
            str(found["pixels"]),
        )
    except (ValueError, KeyError, TypeError, InvalidIdentifier):
        return None
