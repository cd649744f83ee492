"""What looks like writing is found, and what does not is not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from gateway.imaging.lettering import lettering
from gateway.imaging.native import Pixels

SAID = "GRAY ANN 1961-07-03"


def written(shape: tuple[int, int], *places: tuple[int, int], size: int = 20) -> np.ndarray:
    """A picture of something, with somebody's name at places of it."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = 60 + 30 * np.sin(rows / 37) + 30 * np.cos(columns / 53 + rows / 91)
    grain = np.random.default_rng(5).normal(0, 4, shape)
    picture = Image.fromarray(np.clip(waves + grain, 0, 150).astype(np.uint8))
    for place in places:
        ImageDraw.Draw(picture).text(place, SAID, fill=235, font=ImageFont.load_default(size))
    return np.asarray(picture)


def grey(picture: np.ndarray) -> Pixels:
    return picture[:, :, None]


def of_twelve_bits(picture: np.ndarray) -> Pixels:
    """As CT has it, with one pixel that is brighter than all else."""
    found = picture.astype(np.int16)[:, :, None] * 8 - 1024
    found[0, 0] = 32_767
    return found


def in_colour(picture: np.ndarray) -> Pixels:
    return np.stack([picture, picture // 2, picture // 3], axis=2)


@pytest.mark.parametrize("kind", [grey, of_twelve_bits, in_colour])
def test_writing_is_found_where_it_stands(kind: object) -> None:
    assert callable(kind)
    plain, found = written((300, 400)), written((300, 400), (40, 200))
    assert lettering(kind(plain)) == ()
    ((x0, y0, x1, y1),) = lettering(kind(found))
    rows, columns = np.nonzero(found > 200)
    assert x0 <= columns.min() < columns.max() < x1
    assert y0 <= rows.min() < rows.max() < y1
    assert (x1 - x0) * (y1 - y0) < 3 * (columns.max() - columns.min()) * (rows.max() - rows.min())


def test_small_writing_is_found_in_every_part_of_a_large_picture() -> None:
    places = [(20, 20), (2250, 30), (1180, 900), (30, 1850), (2250, 1880)]
    found = lettering(grey(written((2000, 2500), *places, size=14)))
    for x, y in places:
        assert any(x0 <= x + 20 < x1 and y0 <= y + 8 < y1 for x0, y0, x1, y1 in found), (x, y)


@pytest.mark.parametrize("value", [0, 255])
def test_in_a_picture_of_nothing_there_is_nothing(value: int) -> None:
    assert lettering(np.full((64, 48, 1), value, dtype=np.uint8)) == ()
