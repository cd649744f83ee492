"""Graphic and text annotations of a presentation state, drawn over the finished picture."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from PIL import Image, ImageDraw

from gateway.imaging.annotation import write
from gateway.imaging.attributes import BulkReader, JsonDataset, integer, items, reals, text, words
from gateway.imaging.colour import cielab_to_rgb
from gateway.imaging.errors import InvalidDescription
from gateway.imaging.shutter import grey

MAX_OBJECTS = 2000
MAX_POINTS = 20_000
MAX_TEXT_CHARACTERS = 1024
_CURVE_STEPS = 12

Point = tuple[float, float]
Colour = int | tuple[int, int, int]


class GraphicType(Enum):
    """Graphic Type (0070,0023), PS3.3 C.10.5.1.2."""

    POINT = "POINT"
    POLYLINE = "POLYLINE"
    INTERPOLATED = "INTERPOLATED"
    CIRCLE = "CIRCLE"
    ELLIPSE = "ELLIPSE"


@dataclass(frozen=True, slots=True)
class Graphic:
    """One drawing: points as (column, row) in pixels of the image, or as fractions of the displayed area."""

    kind: GraphicType
    points: tuple[Point, ...]
    in_pixels: bool
    filled: bool = False
    colour: tuple[int, int, int] = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class TextObject:
    """One text: in a box, beside its anchor, or both with a line between them; coordinates as in `Graphic`."""

    text: str
    box: tuple[Point, Point] | None = None
    box_in_pixels: bool = False
    justification: str = "LEFT"
    anchor: Point | None = None
    anchor_in_pixels: bool = True
    anchor_visible: bool = False
    colour: tuple[int, int, int] = (255, 255, 255)


def read_graphics(
    dataset: JsonDataset, applies: Callable[[JsonDataset], bool], bulk: BulkReader
) -> tuple[Graphic | TextObject, ...]:
    """The annotations of a presentation state for one image, in the order of their layers.

    Raises
    ------
    InvalidDescription
        More objects or points than are drawn.

    References
    ----------
    PS3.3 C.10.5 "Graphic Annotation Module", C.10.7 "Graphic Layer Module"
    """
    layers = {text(item, "00700002") or "": item for item in items(dataset, "00700060")}
    found: list[tuple[int, Graphic | TextObject]] = []
    points = 0
    for annotation in items(dataset, "00700001"):
        if not applies(annotation):
            continue
        layer = layers.get(text(annotation, "00700002") or "", {})
        order, colour = integer(layer, "00700062") or 0, layer_colour(layer)
        for item in items(annotation, "00700009"):
            graphic = _graphic(item, colour, bulk)
            if graphic is not None:
                points += len(graphic.points)
                found.append((order, graphic))
        found.extend((order, _text_object(item, colour)) for item in items(annotation, "00700008"))
        if len(found) > MAX_OBJECTS or points > MAX_POINTS:
            raise InvalidDescription(
                f"a presentation state with more than {MAX_OBJECTS} objects or {MAX_POINTS} points"
            )
    return tuple(each for _, each in sorted(found, key=lambda pair: pair[0]))


def layer_colour(layer: JsonDataset) -> tuple[int, int, int]:
    """The colour that a layer recommends, white without one."""
    lab = reals(layer, "00700401")
    if len(lab) == 3:
        return cielab_to_rgb((lab[0], lab[1], lab[2]))
    value = integer(layer, "00700066")
    tone = 255 if value is None else grey(value)
    return tone, tone, tone


def _graphic(item: JsonDataset, colour: tuple[int, int, int], bulk: BulkReader) -> Graphic | None:
    try:
        kind = GraphicType(text(item, "00700023"))
    except ValueError:
        return None  # a type of a newer edition
    if "BulkDataURI" in item.get("00700022", {}):
        raw = words(item, "00700022", bulk, 8 * MAX_POINTS + 8) or b""
        numbers = [float(number) for number in np.frombuffer(raw, "<f4", len(raw) // 4)]
    else:
        numbers = reals(item, "00700022")
    points = tuple(zip(numbers[::2], numbers[1::2], strict=False))
    if not points or not all(math.isfinite(number) and abs(number) < 1e6 for number in numbers):
        return None
    return Graphic(kind, points, text(item, "00700005") != "DISPLAY", text(item, "00700024") == "Y", colour)


def _text_object(item: JsonDataset, colour: tuple[int, int, int]) -> TextObject:
    upper, lower, anchor = reals(item, "00700010"), reals(item, "00700011"), reals(item, "00700014")
    return TextObject(
        text=(text(item, "00700006") or "")[:MAX_TEXT_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n"),
        box=((upper[0], upper[1]), (lower[0], lower[1])) if len(upper) == len(lower) == 2 else None,
        box_in_pixels=text(item, "00700003") != "DISPLAY",
        justification=text(item, "00700012") or "LEFT",
        anchor=(anchor[0], anchor[1]) if len(anchor) == 2 else None,
        anchor_in_pixels=text(item, "00700004") != "DISPLAY",
        anchor_visible=text(item, "00700015") == "Y",
        colour=colour,
    )


def draw_graphics(
    picture: Image.Image,
    objects: Sequence[Graphic | TextObject],
    from_pixels: Callable[[Point], Point],
) -> Image.Image:
    """Draw annotations.

    Parameters
    ----------
    picture
        The displayed area, in any size; it becomes RGB when a layer has a colour.
    objects
        In the order in which they are drawn.
    from_pixels
        From (column, row) of the image, the middle of its first pixel being (1, 1) - PS3.3 C.10.5.1.2 puts its upper
        left corner at (0.5, 0.5) - to (x, y) of the picture.
    """
    if picture.mode == "L" and any(len(set(each.colour)) > 1 for each in objects):
        picture = picture.convert("RGB")
    draw = ImageDraw.Draw(picture)
    width = max(round(min(picture.size) / 400), 1)

    def place(point: Point, in_pixels: bool) -> Point:
        return from_pixels(point) if in_pixels else (point[0] * picture.width, point[1] * picture.height)

    for each in objects:
        colour: Colour = each.colour[0] if picture.mode == "L" else each.colour
        if isinstance(each, TextObject):
            _draw_text(draw, picture, each, place, colour, width)
        else:
            _draw(draw, each, [place(point, each.in_pixels) for point in each.points], colour, width)
    return picture


def _draw(draw: ImageDraw.ImageDraw, graphic: Graphic, points: list[Point], colour: Colour, width: int) -> None:
    match graphic.kind:
        case GraphicType.POINT:
            x, y = points[0]
            draw.ellipse((x - 1.5 * width, y - 1.5 * width, x + 1.5 * width, y + 1.5 * width), fill=colour)
            return
        case GraphicType.CIRCLE if len(points) >= 2:
            outline = _circle(points[0], points[1])
        case GraphicType.ELLIPSE if len(points) >= 4:
            outline = _ellipse(points)
        case GraphicType.INTERPOLATED:
            outline = _interpolated(points)
        case _:
            outline = points
    closed = len(outline) > 2 and outline[0] == outline[-1]
    if graphic.filled and closed:
        draw.polygon(outline, fill=colour)
    if len(outline) >= 2:
        draw.line(outline, fill=colour, width=width, joint="curve")


def _circle(centre: Point, edge: Point) -> list[Point]:
    radius = math.dist(centre, edge)
    angles = [2 * math.pi * step / 96 for step in range(96)]
    outline = [(centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)) for angle in angles]
    return [*outline, outline[0]]


def _ellipse(points: Sequence[Point]) -> list[Point]:
    """First the two ends of the major axis, then those of the minor one."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points[:4]
    middle = ((ax + bx) / 2, (ay + by) / 2)
    major, minor = ((bx - ax) / 2, (by - ay) / 2), ((dx - cx) / 2, (dy - cy) / 2)
    outline = []
    for step in range(96):
        cosine, sine = math.cos(2 * math.pi * step / 96), math.sin(2 * math.pi * step / 96)
        outline.append(
            (middle[0] + cosine * major[0] + sine * minor[0], middle[1] + cosine * major[1] + sine * minor[1])
        )
    return [*outline, outline[0]]


def _interpolated(points: list[Point]) -> list[Point]:
    """A smooth curve through the points, by Catmull and Rom."""
    if len(points) < 3:
        return points
    closed = points[0] == points[-1]
    before, after = (points[-2], points[1]) if closed else (points[0], points[-1])
    padded = [before, *points, after]
    curve = [points[0]]
    for first, second, third, fourth in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for step in range(1, _CURVE_STEPS + 1):
            t = step / _CURVE_STEPS
            x, y = (
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                for a, b, c, d in zip(first, second, third, fourth, strict=True)
            )
            curve.append((x, y))
    if closed:
        curve[-1] = curve[0]
    return curve


def _draw_text(
    draw: ImageDraw.ImageDraw,
    picture: Image.Image,
    item: TextObject,
    place: Callable[[Point, bool], Point],
    colour: Colour,
    width: int,
) -> None:
    size = max(picture.height // 30, 9)
    start, anchor = None, "la"
    if item.box is not None:
        corners = [place(corner, item.box_in_pixels) for corner in item.box]
        left, right = sorted(corner[0] for corner in corners)
        top, bottom = sorted(corner[1] for corner in corners)
        size = min(size, max(int((bottom - top) / (item.text.count("\n") + 1) * 0.9), 9))
        x, anchor = {"RIGHT": (right, "ra"), "CENTER": ((left + right) / 2, "ma")}.get(item.justification, (left, "la"))
        start = (x, top)
    if item.anchor is not None:
        point = place(item.anchor, item.anchor_in_pixels)
        if start is None:
            start = (point[0] + size / 2, point[1] - size / 2)
        elif item.anchor_visible:
            draw.line([point, (left if point[0] < left else min(point[0], right), (top + bottom) / 2)], colour, width)
    if start is not None:
        write(draw, start, item.text, size, anchor=anchor, fill=colour)
