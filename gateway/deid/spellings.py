"""How identifiers are spelled in free text, and what looks like one without being known (names, numbers, dates)."""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence

MIN_NAME = 2
"""Letters of a name that is looked for; one letter stands for too much."""
MIN_NUMBER = 3
_MIN_GROUPED = 5
"""A shorter number is found as it stands only: 12 3 is not 123."""
_MIN_PLACE = 5

_TITLES = frozenset(
    (
        "dr", "prof", "professor", "mr", "mrs", "ms", "miss", "md", "phd", "herr", "frau", "med", "dipl", "ing", "jr",
        "sr", "sir", "ii", "iii", "iv", "von", "van", "de", "der", "den", "la", "le", "el", "al", "bin", "ibn", "of",
        "the", "and", "anonymous", "anonymized", "unknown", "none", "null", "na", "nn", "test", "patient", "phantom",
        "name", "staff", "rt", "mta", "ra",
    )
)  # fmt: skip
"""Words in names that name nobody."""

_WORDS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_RUN = re.compile(r"[^\W\d_]+")
_LONGEST_WORD, _KEPT_WORDS = 128, 10_000
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LETTERS = {
    "’": "'",
    "ł": "l",
    "ø": "o",
    "đ": "d",
    "ħ": "h",
    "ı": "i",
    "ŧ": "t",
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
    "ð": "d",
}
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa"})

_NESTED = 2
"""Characters of a number by which numbers are told apart before they are looked at as a whole."""
_BETWEEN = r"[\s\-./_,^]{0,8}"
_NO_LETTER_BEFORE, _NO_LETTER_AFTER = r"(?<![^\W\d_])", r"(?![^\W\d_])"


class Folded:
    """A text in the form in which it is searched (NFKC, without case and accents), which knows its places."""

    def __init__(self, text: str) -> None:
        if text.isascii():
            self.text, self._begins = text.lower(), None
            return
        pieces: list[str] = []
        begins: list[int] = []
        for place, character in enumerate(text):
            piece = _fold(character)
            pieces.append(piece)
            begins += [place] * len(piece)
        self.text = "".join(pieces)
        self._begins = [*begins, len(text)]

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The place in the text as it was, of one in the folded text."""
        if self._begins is None:
            return begin, end
        return self._begins[begin], max(self._begins[end - 1] + 1, self._begins[begin] + 1) if end > begin else begin


def _fold(text: str) -> str:
    composed = unicodedata.normalize("NFKC", text).casefold()
    return "".join(
        _LETTERS.get(character, character)
        for character in unicodedata.normalize("NFD", composed)
        if not "\u0300" <= character <= "\u036f"
    )


# Names


def parts(name: str) -> Iterator[str]:
    """The words of a name that are worth looking for, folded; umlauts also written out."""
    for spelled in {name, name.casefold().translate(_UMLAUTS)}:
        for group in spelled.split("="):
            for word in _WORDS.findall(_fold(group)):
                bare = word.replace("'", "").replace("’", "")
                for each in {word, bare}:
                    if len(each) >= MIN_NAME and not each.isdigit() and each not in _TITLES:
                        yield each
            if _CJK.search(group):
                together = _fold(re.sub(r"[\s^]", "", group))
                if len(together) >= MIN_NAME:
                    yield together


class NameFinder:
    """Finds names as words of their own, or run together with each other; those written without spaces, anywhere.

    A word is taken apart once, so that the time is that of the text's length, whatever names and text are.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._words = frozenset(name for name in names if not _CJK.search(name))
        self._lengths = sorted({len(word) for word in self._words})
        anywhere = sorted((re.escape(name) for name in names if _CJK.search(name)), key=len, reverse=True)
        self._anywhere = re.compile("|".join(anywhere)) if anywhere else None
        self._known: dict[str, bool] = {}

    def __call__(self, text: str) -> Iterator[tuple[int, int]]:
        """Where in a folded text names stand: begin and end."""
        if self._words:
            for found in _WORD.finditer(text):
                yield from self._in_word(found[0], found.start())
        if self._anywhere is not None:
            yield from (found.span() for found in self._anywhere.finditer(text))

    def _in_word(self, word: str, begin: int) -> Iterator[tuple[int, int]]:
        if self._is_of_names(word) or ("'" in word and self._is_of_names(word.replace("'", ""))):
            yield begin, begin + len(word)
        elif "'" in word:
            for part in _RUN.finditer(word):
                if self._is_of_names(part[0]):
                    yield begin + part.start(), begin + part.end()

    def _is_of_names(self, word: str) -> bool:
        """Whether a word is a name, or nothing but names."""
        if len(word) > _LONGEST_WORD:
            return False
        found = self._known.get(word)
        if found is None:
            ends = {0}
            for begin in range(len(word)):
                if begin in ends:
                    ends |= {begin + length for length in self._lengths if word[begin : begin + length] in self._words}
            found = len(word) in ends
            if len(self._known) < _KEPT_WORDS:
                self._known[word] = found
        return found


# Numbers


def number(value: str) -> str | None:
    """An identifier without what is written between its parts, folded; None for what says too little."""
    bare = re.sub(r"[\s\-./_,^]", "", _fold(value))
    if len(bare) < MIN_NUMBER or not any(character.isdigit() for character in bare):
        # A word is as good as a name where it identifies; only a long one can be told from others.
        return bare if len(bare) >= _MIN_PLACE and bare not in _TITLES else None
    return None if set(bare) <= {"0"} else bare


def of_numbers(numbers: Collection[str]) -> re.Pattern[str] | None:
    """Finds numbers however they are grouped, and not within longer ones."""
    if not numbers:
        return None
    longest_first = sorted(numbers, key=len, reverse=True)
    found = []
    for begins, before in ((str.isdigit, r"(?<!\d)"), (_is_no_digit, _NO_LETTER_BEFORE)):
        if those := [_parts_of_number(each) for each in longest_first if begins(each[0])]:
            found.append(f"{before}(?:{_nested(those)})")
    return re.compile("|".join(found))


def _is_no_digit(character: str) -> bool:
    return not character.isdigit()


def _parts_of_number(number: str) -> list[str]:
    """A number as a pattern: its first characters one by one, then the rest."""
    between = _BETWEEN if len(number) >= _MIN_GROUPED else ""
    spelled = [re.escape(character) for character in number]
    after = r"(?!\d)" if number[-1].isdigit() else _NO_LETTER_AFTER
    return [*(each + between for each in spelled[:_NESTED]), between.join(spelled[_NESTED:]) + after]


def _nested(alternatives: Iterable[Sequence[str]]) -> str:
    """A pattern of alternatives that all have as many parts; a part that begins several is tried once for all of them.

    Flat, thousands of them would all be tried at each place of a text.
    """
    found: dict[str, list[Sequence[str]]] = {}
    for first, *rest in alternatives:
        found.setdefault(first, []).append(rest)
    return "|".join(f"{first}(?:{_nested(rests)})" if rests[0] else first for first, rests in found.items())


# Places


def places(value: str) -> Iterator[str]:
    """An institution or address as a whole and by its lines, folded, words with one space between."""
    for text in {value, *re.split(r"[\r\n,;^]+", value)}:
        words = re.findall(r"[^\W_]+", _fold(text))
        spelled = " ".join(words)
        if len(spelled) >= _MIN_PLACE:
            yield spelled


def of_places(found: Collection[str]) -> re.Pattern[str] | None:
    """Finds them whatever stands between their words."""
    if not found:
        return None
    spelled = _nested(_parts_of_place(each) for each in sorted(found, key=len, reverse=True))
    return re.compile(rf"(?<![^\W_])(?:{spelled})(?![^\W_])")


def _parts_of_place(place: str) -> tuple[str, str, str]:
    """A place as a pattern: its first word, its second one, and the rest."""
    first, *more = (re.escape(word) for word in place.split(" "))
    second, *rest = (rf"[\W_]{{1,8}}{word}" for word in more) if more else ("",)
    return first, second, "".join(rest)


# Dates

_MONTHS = (
    ("jan", "january", "januar", "janvier", "enero"),
    ("feb", "february", "februar", "fevrier", "febrero"),
    ("mar", "march", "marz", "maerz", "mars", "marzo"),
    ("apr", "april", "avril", "abril"),
    ("may", "mai", "mayo"),
    ("jun", "june", "juni", "juin", "junio"),
    ("jul", "july", "juli", "juillet", "julio"),
    ("aug", "august", "aout", "agosto"),
    ("sep", "sept", "september", "septembre", "septiembre"),
    ("oct", "october", "okt", "oktober", "octobre", "octubre"),
    ("nov", "november", "novembre", "noviembre"),
    ("dec", "december", "dez", "dezember", "decembre", "diciembre"),
)
_ANY_MONTH = "|".join(sorted((name for names in _MONTHS for name in names), key=len, reverse=True))
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_ANY_DATE = re.compile(
    rf"(?<!\d)(?:{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"
    rf"|{_YEAR}[-./]{_MONTH}[-./]{_DAY}(?!\d)"
    rf"|{_DAY}[-./]{_MONTH}[-./](?:{_YEAR}|\d\d)(?![\d.])"
    rf"|{_MONTH}[-./]{_DAY}[-./](?:{_YEAR}|\d\d)(?![\d.])"
    rf"|{_DAY}(?:st|nd|rd|th|\.)?[\s\-]{{0,8}}(?:{_ANY_MONTH})\.?,?[\s\-]{{0,8}}(?:{_YEAR}|'?\d\d)(?!\d))"
    rf"|{_NO_LETTER_BEFORE}(?:{_ANY_MONTH})\.?\s{{0,8}}{_DAY}(?:st|nd|rd|th)?,?\s{{1,8}}{_YEAR}(?!\d)"
)
# Every repetition is bounded or begins where the one before it cannot go on: none looks at a long text again and again.
_MAIL = re.compile(r"[\w.+\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63}){1,8}")
_WEB = re.compile(r"(?:https?|ftp)://[^\s<>\"]+")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d{1,3}[\s\-./()]{0,4})(?:\d[\s\-./()]{0,4}){6,12}\d(?!\d)"
    r"|(?<![\w.])\(?\d{3}\)?[\s\-]\d{3}[\s\-]\d{4}(?![\w.])"
)
_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d{1,64}){5,62}(?![\d.])")


def date(value: str) -> str | None:
    """The date of a DA or DT value as YYYYMMDD; None where it is none."""
    digits = re.sub(r"[^\d]", "", value.strip())[:8]
    try:
        return f"{datetime.datetime.strptime(digits, '%Y%m%d').date():%Y%m%d}" if len(digits) == 8 else None
    except ValueError:
        return None


def of_dates(dates: Collection[str]) -> re.Pattern[str] | None:
    """Finds dates in figures and in words, with or without their century."""
    if not dates:
        return None
    spelled = [_spelled(each) for each in sorted(dates)]
    *figures, month_first = (_nested(form) for form in zip(*spelled, strict=True))
    return re.compile(rf"(?<!\d)(?=\d)(?:{'|'.join(figures)})|{_NO_LETTER_BEFORE}(?:{month_first})")


def _spelled(value: str) -> tuple[tuple[str, str, str], ...]:
    """The forms of a date, each by its three parts; the last one begins with the name of the month."""
    year, short, month, day = value[:4], value[2:4], int(value[4:6]), int(value[6:])
    m, d, between = f"0?{month}", f"0?{day}", r"[\s\-./_]{1,8}"
    years, end = f"(?:{year}|{short})", r"(?!\d)"
    names = f"(?:{'|'.join(sorted(_MONTHS[month - 1], key=len, reverse=True))})"
    return (
        (year, value[4:6], value[6:]),
        (years, between + m, between + d + end),
        (d, between + m, between + years + end),
        (m, between + d, between + years + end),
        (d, rf"(?:st|nd|rd|th|\.)?[\s\-.]{{0,8}}{names}", rf"\.?,?[\s\-.]{{0,8}}'?{years}{end}"),
        (f"{day:02}", f"{month:02}", year + end),
        (f"{month:02}", f"{day:02}", year + end),
        (names, rf"\.?\s{{0,8}}{d}", rf"(?:st|nd|rd|th)?,?\s{{0,8}}'?{years}{end}"),
    )


def suspicious(text: str, *, dates: bool) -> list[tuple[int, int]]:
    """Where something stands that identifies by its form: dates, telephone numbers, mail and web addresses, UIDs."""
    folded = Folded(text)
    patterns = (*((_MAIL,) if "@" in text else ()), _WEB, _PHONE, _UID, *((_ANY_DATE,) if dates else ()))
    return [folded.span(*found.span()) for pattern in patterns for found in pattern.finditer(folded.text)]
