"""ICC profiles without their texts (ICC.1:2022 section 7): descriptions, copyrights and notes may name a site."""

from __future__ import annotations

import struct

_HEADER = 128
_MAX_TAGS = 256
# Types that hold numbers only; every other one is text, or may be.
_NUMBERS = frozenset(
    (
        b"XYZ ", b"curv", b"para", b"mft1", b"mft2", b"mAB ", b"mBA ", b"mpet", b"sf32", b"uf32", b"ui08", b"ui16",
        b"ui32", b"chrm", b"view", b"meas", b"sig ", b"cicp", b"clro", b"rcs2",
    )
)  # fmt: skip


def without_text(profile: bytes) -> bytes | None:
    """A profile of the same length whose texts, ids and gaps are zeros; None when it is no profile.

    In the header the fields that place it in time or name its creator go too; what a colour engine uses stays.
    """
    if len(profile) < _HEADER + 4 or profile[36:40] != b"acsp":
        return None
    (size, count) = (*struct.unpack_from(">I", profile), *struct.unpack_from(">I", profile, _HEADER))
    if not _HEADER + 4 <= size <= len(profile) or count > _MAX_TAGS or _HEADER + 4 + 12 * count > size:
        return None
    out = bytearray(len(profile))
    out[:4] = profile[:4]
    out[8:24] = profile[8:24]  # version, class, colour space, connection space
    out[36:40] = profile[36:40]
    out[64:80] = profile[64:80]  # rendering intent, illuminant
    table_end = _HEADER + 4 + 12 * count
    out[_HEADER:table_end] = profile[_HEADER:table_end]
    for number in range(count):
        start, length = struct.unpack_from(">II", profile, _HEADER + 4 + 12 * number + 4)
        if start < table_end or start + length > size or length < 8:
            return None
        kind = profile[start : start + 4]
        kept = length if kind in _NUMBERS else 8
        out[start : start + kept] = profile[start : start + kept]
        if kind == b"mluc" and length >= 16:
            out[start + 12 : start + 16] = struct.pack(">I", 12)  # no records, each of the size that the type has
    return bytes(out)
