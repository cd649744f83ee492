"""Milliseconds to render: one frame through a worker, by media type and by what is drawn on it.

    python -m benchmarks.rendering [FILE]

FILE is a Part 10 file with native pixels; without one, a synthetic CT of 512 x 512 is used. The time is that of a
caller of the imaging pool: frame to the worker, picture back.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom

from gateway.imaging.decode import EncodedFrame
from gateway.imaging.description import PhotometricInterpretation, PixelDescription
from gateway.imaging.pool import ImagingPool
from gateway.imaging.presentation import Presentation, Window
from gateway.imaging.render import RenderedMediaType, RenderRequest

ROUNDS = 60
EXPLICIT = "1.2.840.10008.1.2.1"


def _frame(arguments: list[str]) -> tuple[EncodedFrame, Presentation]:
    if arguments:
        found = pydicom.dcmread(Path(arguments[0]))
        metadata = json.loads(found.to_json())
        description = PixelDescription.from_metadata(metadata)
        presentation = Presentation.from_metadata(metadata, description, 1, lambda *_: b"")
        return EncodedFrame(found.PixelData, str(found.file_meta.TransferSyntaxUID), description), presentation
    row, column = np.mgrid[0:512, 0:512]
    noise = np.random.default_rng(1).normal(0, 20, (512, 512))
    pixels = (np.hypot(row - 256, column - 256) * 4 + noise).clip(0, 4095).astype("<u2")
    described = PixelDescription(512, 512, 1, 16, 12, 11, 0, PhotometricInterpretation.MONOCHROME2)
    return EncodedFrame(pixels.tobytes(), EXPLICIT, described), Presentation(windows=(Window(600, 1200),))


def _measure(call: Callable[[], object]) -> float:
    call()
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


def main() -> None:
    """Print a line for each way."""
    frame, presentation = _frame(sys.argv[1:])
    with ImagingPool(1, 1 << 30, 60.0) as pool:
        for media_type in RenderedMediaType:
            if media_type.value.startswith("image/"):
                request = RenderRequest(media_type)
                median = _measure(lambda request=request: pool.render(frame, presentation, request))  # type: ignore[misc]
                print(f"{media_type.value:12} {median:7.1f} ms")
        small = RenderRequest(viewport=(128, 128))
        print(f"{'128 x 128':12} {_measure(lambda: pool.render(frame, presentation, small)):7.1f} ms")


if __name__ == "__main__":
    main()
