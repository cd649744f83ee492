"""Text burned into pictures: who is shown, and how the picture was made."""

from dataclasses import dataclass
from enum import Enum

from PIL import Image, ImageDraw

from gateway.imaging.fonts import legible

MAX_LINES = 12
MAX_CHARACTERS = 128

_LINES_A_PICTURE = 34
_SMALLEST_PX, _LARGEST_PX = 10, 64


class AnnotationKind(Enum):
    """Values of the query parameter, PS3.18 8.3.5.1.2 "Annotation"."""

    PATIENT = "patient"
    TECHNIQUE = "technique"


@dataclass(frozen=True, slots=True)
class Annotation:
    """Lines of text: about the patient in the upper left corner, about the technique in the lower left one."""

    patient: tuple[str, ...] = ()
    technique: tuple[str, ...] = ()


NO_ANNOTATION = Annotation()


def annotate(picture: Image.Image, annotation: Annotation) -> Image.Image:
    """Burn text into a picture of mode L or RGB; bright with a dark edge, legible on any ground."""
    size = min(max(picture.height // _LINES_A_PICTURE, _SMALLEST_PX), _LARGEST_PX)
    draw = ImageDraw.Draw(picture)
    for lines, at_bottom in ((annotation.patient, False), (annotation.technique, True)):
        if not lines:
            continue
        shown = [line[:MAX_CHARACTERS] for line in lines[:MAX_LINES]]
        fitted = _fitted(draw, shown, size, picture.width)
        margin = max(fitted // 2, 2)
        place = (margin, picture.height - margin if at_bottom else margin)
        write(draw, place, "\n".join(shown), fitted, anchor="ld" if at_bottom else "la")
    return picture


def _fitted(draw: ImageDraw.ImageDraw, lines: list[str], size: int, width: int) -> int:
    """The size at which the longest line fits into the picture, not below what can be read."""
    _, used = legible("".join(lines), size)
    longest = max(draw.textlength(line, font=used) for line in lines)
    return size if longest <= width - size else max(int(size * (width - size) / longest), _SMALLEST_PX)


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    *,
    anchor: str,
    fill: int | tuple[int, int, int] | None = None,
) -> None:
    """Text with an edge of the opposite brightness."""
    written, used = legible(text, size)
    bright: int | tuple[int, int, int] = 255 if draw.mode == "L" else (255, 255, 255)
    dark: int | tuple[int, int, int] = 0 if draw.mode == "L" else (0, 0, 0)
    draw.multiline_text(
        place,
        written,
        fill=bright if fill is None else fill,
        font=used,
        anchor=anchor,
        stroke_width=max(size // 12, 1),
        stroke_fill=dark,
    )
