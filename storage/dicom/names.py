"""Normal forms of person names for matching (PS3.5 6.2.1 "Person Name (PN) Value Representation")."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import cologne_phonetics
import jellyfish

_SPACES = re.compile(r"\s+")
_BETWEEN_WORDS = re.compile(r"[\s^=\-'’.,]+")
# Letters that Unicode does not take apart into a base and an accent.
_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ı": "i", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
)
_MAX_WORDS = 16
_MAX_WORD = 64
# A code of one sound ("Lee", "Li", "Lau") tells too little.
_MIN_CODE = 2


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


def words(folded: str) -> list[str]:
    """The words of folded groups, whatever component they stand in."""
    return [word[:_MAX_WORD] for word in _BETWEEN_WORDS.split(folded) if word][:_MAX_WORDS]


@lru_cache(maxsize=65_536)
def _sounds(word: str) -> tuple[str, ...]:
    """How a word of Latin letters sounds: in German (Kölner Phonetik) and in English (Metaphone).

    Between the two, Meier is Meyer and Catherine is Katherine; either alone knows one of the pairs.
    """
    if not word.isascii() or not word.isalpha():
        return ()
    cologne = "".join(code for _, code in cologne_phonetics.encode(word))
    found = ("c" + cologne, "m" + jellyfish.metaphone(word).replace(" ", ""))
    return tuple(code for code in found if len(code) > _MIN_CODE)


def keys(folded: Iterable[str]) -> frozenset[str]:
    """What fuzzy matching finds a name by: its words (``w``), their initials (``i``) and sounds (``c``, ``m``)."""
    found: set[str] = set()
    for group in folded:
        for word in words(group):
            found.update(("w" + word, "i" + word[0], *_sounds(word)))
    return frozenset(found)


def fuzzy(text: str) -> tuple[tuple[str, ...], ...]:
    """For each word of a fuzzy query the keys of which a name has to have one; a key with ``*`` is the start of one.

    A single letter is an initial. Beside others, a word also meets its own initial, as names are often shortened to
    it; before ``*`` it meets what it begins. Words with wildcards within are left to literal matching.
    """
    asked = words(fold(text).replace("?", "*"))
    if any("*" in word.strip("*") or not word.strip("*") for word in asked):
        return ()
    found: list[tuple[str, ...]] = []
    for word in asked:
        bare = word.strip("*")
        if len(bare) == 1:
            found.append(("i" + bare,))
            continue
        initial = ("w" + bare[0],) if len(asked) > 1 else ()
        found.append(("w" + bare + ("*" if word.endswith("*") else ""), *initial, *_sounds(bare)))
    return tuple(found)
