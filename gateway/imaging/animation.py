"""Several frames in one file: animated GIF and MP4 video."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, features

from gateway.imaging.errors import InvalidRendering, NotDecodable
from gateway.imaging.mp4 import from_avif_sequence
from gateway.imaging.picture import RenderedImage, RenderedMediaType

MAX_SIDE = 1024
"""Longest side of an animation, in pixels: its encoders take time with every one."""

MIN_DURATION_MS, MAX_DURATION_MS = 10, 10_000
DEFAULT_DURATION_MS = 100

# Of libaom: 9 ms for a frame of 512 x 512 on one core, a sixth of the time of the default of 6.
_SPEED = 8
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each frame is shown, in milliseconds; the last one counts for the frames after it."""

    durations_ms: tuple[int, ...] = (DEFAULT_DURATION_MS,)

    def of(self, place: int) -> int:
        """The duration of the frame at a place, from 0."""
        duration = self.durations_ms[min(place, len(self.durations_ms) - 1)]
        return min(max(duration, MIN_DURATION_MS), MAX_DURATION_MS)


def assemble(
    pictures: Iterator[Image.Image], count: int, timing: Timing, media_type: RenderedMediaType, quality: int
) -> RenderedImage:
    """Write pictures into one file, taking them one after the other.

    Parameters
    ----------
    pictures
        Mode L or RGB; all take the size of the first, with black at their sides.
    count
        How many there are.
    timing
        Of the frames.
    media_type
        GIF or MP4.
    quality
        1 to 100, for MP4.

    Raises
    ------
    InvalidRendering
        No picture.
    NotDecodable
        Pillow was built without AVIF; its wheels have it.
    """
    first = next(pictures, None)
    if first is None:
        raise InvalidRendering("there is no frame to show")
    target = io.BytesIO()
    durations = [timing.of(place) for place in range(count)]
    if media_type is RenderedMediaType.GIF:
        rest = (_framed(each, first.size, first.mode) for each in pictures)
        first.save(target, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, disposal=1)
        data = target.getvalue()
    else:
        if not features.check("avif"):
            raise NotDecodable("this installation's Pillow has no AVIF encoder, without which there is no video/mp4")
        # Chroma is shared by two pixels, and players refuse what is smaller than a block.
        size = (max(first.width - first.width % 2, _BLOCK), max(first.height - first.height % 2, _BLOCK))
        rest = (_framed(each, size, "RGB") for each in pictures)
        _framed(first, size, "RGB").save(
            target,
            "AVIF",
            save_all=True,
            append_images=rest,
            duration=durations,
            quality=quality,
            speed=_SPEED,
            subsampling="4:2:0",
            max_threads=1,
        )
        data = from_avif_sequence(target.getvalue())
    return RenderedImage(media_type.value, data, first.height, first.width)


def _framed(picture: Image.Image, size: tuple[int, int], mode: str) -> Image.Image:
    converted = picture if picture.mode == mode else picture.convert(mode)
    if converted.size == size:
        return converted
    if converted.width <= size[0] + 1 and converted.height <= size[1] + 1:
        return converted.crop((0, 0, *size))
    scale = min(size[0] / converted.width, size[1] / converted.height)
    return _framed(
        converted.resize((max(int(converted.width * scale), 1), max(int(converted.height * scale), 1))), size, mode
    )
