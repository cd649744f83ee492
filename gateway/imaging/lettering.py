"""Where letters stand in the pixels of a frame, by a detector of text that is installed with the extra ``ocr``.

It says that something looks like writing, and where; what it reads is not kept. Two trained networks do it: the first
finds what may be writing, in images of the body too, the second reads it, and only what makes sense to it counts. They
may miss some, above all single letters and what is hardly seen, and may take something else for writing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gateway.imaging.blanking import Rectangle
from gateway.imaging.native import Pixels

PACKAGE, _MODULE = "rapidocr-onnxruntime", "rapidocr_onnxruntime"
MIN_MEMORY_BYTES = 1 << 30
"""What a job needs: the network alone takes some 400 MiB."""

_Picture: TypeAlias = npt.NDArray[np.uint8]
# The network sees at most 2,000 pixels of a side: larger pictures would be made smaller, and their letters with them.
_TILE, _OVERLAP = 1280, 128
_MARGIN = 4
_DARKEST, _BRIGHTEST = 0.5, 99.5
# What the second network reads into folds of a brain is a letter or two, of which it is not sure.
_SURE, _SURE_OF_TWO = 0.6, 0.85


def is_installed() -> bool:
    """Whether there is a detector."""
    return find_spec(_MODULE) is not None


def identity() -> str:
    """What finds text: another one may find other text."""
    # Not at the top: it brings the reading of mail and archives, which no worker needs that decodes.
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        return ""


def lettering(pixels: Pixels) -> tuple[Rectangle, ...]:
    """Rectangles in which something looks like writing, somewhat wider than it.

    Parameters
    ----------
    pixels
        (rows, columns, samples), before any rescale. Of one sample the middle 99 of 100 are spread from black to white.
    """
    picture = _picture(pixels)
    rows, columns = picture.shape[:2]
    found: dict[Rectangle, None] = {}
    for top, left in ((y, x) for y in _starts(rows) for x in _starts(columns)):
        tile = picture[top : top + _TILE, left : left + _TILE]
        for corners in _detector()(np.ascontiguousarray(tile)):
            x0, y0 = np.floor(np.min(corners, axis=0)).astype(int) - _MARGIN
            x1, y1 = np.ceil(np.max(corners, axis=0)).astype(int) + _MARGIN + 1
            found[
                (
                    max(int(x0) + left, 0),
                    max(int(y0) + top, 0),
                    min(int(x1) + left, columns),
                    min(int(y1) + top, rows),
                )
            ] = None
    return tuple(found)


def _starts(length: int) -> Iterator[int]:
    """Where tiles begin: each overlaps the one before, so that no line of small letters is cut in both."""
    yield 0
    yield from range(_TILE - _OVERLAP, length - _OVERLAP, _TILE - _OVERLAP)


def _picture(pixels: Pixels) -> _Picture:
    """As the detector takes it: (rows, columns, 3), 0 to 255."""
    samples = pixels.reshape(*pixels.shape[:2], -1)
    if samples.shape[2] == 3 and samples.dtype == np.uint8:
        return np.asarray(samples, dtype=np.uint8)
    # What is not of three colours, and palettes, whose indices tell letters from what is behind them.
    grey = samples[:, :, 0].astype(np.float32)
    low, high = np.percentile(grey, (_DARKEST, _BRIGHTEST))
    if high <= low:
        low, high = float(grey.min()), float(grey.max())
    spread = np.clip((grey - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    return np.repeat(spread[:, :, None], 3, axis=2)


_Corners: TypeAlias = npt.NDArray[np.float32]


@cache
def _detector() -> Callable[[_Picture], Sequence[_Corners]]:
    """Loaded once in a process, when something is looked for. Threads are not its business: processes are."""
    engine = import_module(_MODULE).RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1, text_score=_SURE)

    def corners(picture: _Picture) -> Sequence[_Corners]:
        found, _ = engine(picture, use_cls=False)
        return [
            np.asarray(each, dtype=np.float32).reshape(-1, 2)
            for each, text, score in found or ()
            if sum(map(str.isalnum, text)) > (1 if score >= _SURE_OF_TWO else 2)
        ]

    return corners
