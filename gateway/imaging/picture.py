"""Pictures as files: the media types that pixels are rendered to, and their encoders."""

import io
from dataclasses import dataclass
from enum import Enum
from typing import Any

from PIL import Image

DEFAULT_QUALITY = 90


class RenderedMediaType(Enum):
    """Media types that pixels are rendered to, PS3.18 8.7.4 "Rendered Media Types"."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    GIF = "image/gif"
    JP2 = "image/jp2"
    MP4 = "video/mp4"

    @property
    def holds_several(self) -> bool:
        """Whether one file of this type can show several frames one after the other."""
        return self in (RenderedMediaType.GIF, RenderedMediaType.MP4)


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """A picture: its media type, its bytes and its size in pixels."""

    media_type: str
    data: bytes
    rows: int
    columns: int


def encode(
    picture: Image.Image, media_type: RenderedMediaType, quality: int, icc_profile: bytes | None = None
) -> RenderedImage:
    """Write a picture to bytes.

    Parameters
    ----------
    picture
        Mode L or RGB.
    media_type
        A still one.
    quality
        1 to 100: for JPEG as libjpeg takes it; for JPEG 2000, 100 is lossless and below it the peak signal-to-noise
        ratio is 25 dB and a quarter of a decibel for each step.
    icc_profile
        Put into the file; None leaves the colour space unsaid. GIF has no place for one.
    """
    target = io.BytesIO()
    options: dict[str, Any] = {} if icc_profile is None else {"icc_profile": icc_profile}
    match media_type:
        case RenderedMediaType.JPEG:
            picture.save(target, "JPEG", quality=quality, **options)
        case RenderedMediaType.PNG:
            # Level 3: a 3062 x 2394 mammogram takes a third of the time of the default for 5 % more bytes.
            picture.save(target, "PNG", compress_level=3, **options)
        case RenderedMediaType.GIF:
            picture.save(target, "GIF")
        case RenderedMediaType.JP2:
            if quality < 100:
                options |= {"irreversible": True, "quality_mode": "dB", "quality_layers": [25 + quality * 0.25]}
            picture.save(target, "JPEG2000", **options)
        case RenderedMediaType.MP4:
            raise ValueError("a video is made of several pictures")
    return RenderedImage(media_type.value, target.getvalue(), picture.height, picture.width)
