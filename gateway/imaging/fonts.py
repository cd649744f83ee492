"""A font for a text: Pillow's own, which has ASCII alone, or one of the system's that has the text's letters."""

import unicodedata
from functools import cache, lru_cache
from typing import TypeAlias

from PIL import ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "fonts-japanese-gothic.ttf")
"""Looked for where Linux keeps fonts: Latin, Greek and Cyrillic, then Chinese, Japanese and Korean."""

_NO_CHARACTER = "\uffff"
_UNKNOWN = "?"


@cache
def system_fonts() -> tuple[str, ...]:
    """Paths of the system's fonts that are here."""
    found = []
    for name in SYSTEM_FONTS:
        try:
            found.append(str(ImageFont.truetype(name, 10).path))
        except OSError:
            continue  # not installed
    return tuple(found)


@lru_cache(maxsize=64)
def font(size: int, path: str = "") -> Font:
    """A font in a size in pixels; Pillow's own without a path."""
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def legible(text: str, size: int) -> tuple[str, Font]:
    """A text and the font to write it in.

    The first font that has every letter; where none has, letters lose their accents, and what still cannot be
    written becomes a question mark rather than a box.
    """
    fonts = [font(size), *(font(size, path) for path in system_fonts())]
    for each in fonts:
        if text.isascii() or not missing(text, each):
            return text, each
    parts = unicodedata.normalize("NFKD", text)
    plain = "".join(character for character in parts if not unicodedata.combining(character))
    best = min(fonts, key=lambda each: len(missing(plain, each)))
    unknown = missing(plain, best)
    return "".join(_UNKNOWN if character in unknown else character for character in plain), best


def missing(text: str, used: Font) -> set[str]:
    """The characters that a font has no picture of."""
    box = _picture(used, _NO_CHARACTER)
    return {each for each in set(text) if not each.isascii() and not each.isspace() and _picture(used, each) == box}


def _picture(used: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = used.getmask(character)
    return mask.size, bytes(mask)
