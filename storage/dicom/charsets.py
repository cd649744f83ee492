"""Decoding of text in every Specific Character Set (PS3.5 6.1.2, PS3.3 C.12.1.1.2).

Decoding never fails: what a set cannot hold becomes U+FFFD, an unknown set is read as ISO_IR 192 when the bytes
are valid UTF-8 and as ISO_IR 100 otherwise, which shows Western names right and keeps every byte apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

Encodings = tuple[str, ...]
DEFAULT: Encodings = ("iso8859",)
_UNKNOWN: Encodings = ("unknown",)

# These designate two bytes per character in G0: a byte that looks like a delimiter is half of a character there,
# and their Python codecs want the escape sequence itself.
_WITH_ESCAPE = frozenset(("iso2022_jp", "iso2022_jp_2"))
_DELIMITER_PN = re.compile(rb"[\\^=\r\n\t\f]")
_DELIMITER_TEXT = re.compile(rb"[\\\r\n\t\f]")
# Latin alphabet No. 9, which pydicom 3.0.2 does not have.
_ENCODINGS = {**python_encoding, "ISO_IR 203": "iso8859_15", "ISO 2022 IR 203": "iso8859_15"}
_BY_ESCAPE = {**CODES_TO_ENCODINGS, b"\x1b-b": "iso8859_15"}
_ESCAPES = sorted(_BY_ESCAPE, key=len, reverse=True)


@lru_cache(maxsize=256)
def encodings(character_sets: tuple[str, ...]) -> Encodings:
    """Python codec names of the values of Specific Character Set (0008,0005), in their order."""
    names = [name.strip() for name in character_sets]
    if not any(names):
        return DEFAULT
    found = [_ENCODINGS.get(name) or _ENCODINGS.get(name.replace("-", "_").upper()) for name in names]
    if found[0] is None:
        return _UNKNOWN
    return tuple(codec for codec in found if codec is not None)


def decode(raw: bytes, codecs: Encodings, *, person_name: bool = False) -> str:
    """Text of a value as stored, padding included.

    Parameters
    ----------
    raw
        The element's value field.
    codecs
        From ``encodings``.
    person_name
        Whether ``^`` and ``=`` too end a code extension (PS3.5 6.1.2.5.3).
    """
    if 0x1B not in raw:
        if raw.isascii():
            return raw.decode("ascii")
        return _decode_one(raw, codecs[0])
    if len(codecs) == 1 and codecs[0] in ("UTF8", "GB18030", "GBK"):
        return raw.decode(codecs[0], "replace")
    return _decode_iso_2022(raw, codecs[0], _DELIMITER_PN if person_name else _DELIMITER_TEXT)


def _decode_one(raw: bytes, codec: str) -> str:
    if codec == "unknown":
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin_1")
    return raw.decode(_plain(codec), "replace")


def _plain(codec: str) -> str:
    # "UTF8" would keep a byte order mark that some senders put in front.
    return {"UTF8": "utf-8-sig", "iso8859": "latin_1"}.get(codec, codec)


def _decode_iso_2022(raw: bytes, first: str, delimiter: re.Pattern[bytes]) -> str:
    """Text with code extensions: each escape sequence holds until the next one or a delimiter."""
    head, *fragments = raw.split(b"\x1b")
    text = [_decode_one(head, first)]
    for fragment in fragments:
        sequence = b"\x1b" + fragment
        escape = next((code for code in _ESCAPES if sequence.startswith(code)), None)
        if escape is None:
            text.append("\N{REPLACEMENT CHARACTER}" + _decode_one(fragment, first))
            continue
        codec = _BY_ESCAPE[escape]
        if codec in _WITH_ESCAPE:
            text.append(sequence.decode(codec, "replace"))
            continue
        content = sequence[len(escape) :]
        end = delimiter.search(content)
        if end is None:
            text.append(_decode_one(content, codec))
        else:
            text.append(_decode_one(content[: end.start()], codec) + _decode_one(content[end.start() :], first))
    return "".join(text)


def character_sets(value: Sequence[object]) -> tuple[str, ...]:
    """The values of Specific Character Set as a key for ``encodings``."""
    return tuple(str(item) if item is not None else "" for item in value)
