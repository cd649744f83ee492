"""Normal form of person names for matching (PS3.5 6.2.1 "Person Name (PN) Value Representation")."""

from __future__ import annotations

import re
import unicodedata

_SPACES = re.compile(r"\s+")
# Letters that Unicode does not take apart into a base and an accent.
_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ı": "i", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
)


def fold(text: str) -> str:
    """One component group, folded: NFKC, without case and accents, spaces squeezed, trailing ``^`` dropped.

    Accents go, the voicing marks of Japanese stay: they tell names apart.
    """
    composed = unicodedata.normalize("NFKC", text).casefold()
    bare = "".join(c for c in unicodedata.normalize("NFD", composed) if not "\u0300" <= c <= "\u036f")
    spaced = _SPACES.sub(" ", unicodedata.normalize("NFC", bare).translate(_LETTERS))
    return "^".join(part.strip() for part in spaced.split("^")).rstrip("^")


def groups(text: str) -> tuple[str, str, str]:
    """The folded alphabetic, ideographic and phonetic groups of a name as it stands in a data set."""
    alphabetic, ideographic, phonetic = [*text.split("="), "", ""][:3]
    return fold(alphabetic), fold(ideographic), fold(phonetic)
