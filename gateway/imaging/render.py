"""Render decoded frames to pictures for people."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.imaging.annotation import NO_ANNOTATION, Annotation, AnnotationKind, annotate
from gateway.imaging.colour import partial_ybr_to_rgb, ybr_to_rgb
from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import InvalidDescription, InvalidRendering, NotDecodable
from gateway.imaging.geometry import Region, arrange, fit
from gateway.imaging.graphics import draw_graphics
from gateway.imaging.grayscale import all_values, look_up, render_grayscale, stored_patterns
from gateway.imaging.icc import IccProfile, with_profile
from gateway.imaging.native import Pixels
from gateway.imaging.palette import LookupTable, Palette
from gateway.imaging.picture import DEFAULT_QUALITY, RenderedImage, RenderedMediaType, encode
from gateway.imaging.presentation import Presentation, Window

MAX_VIEWPORT = 8192
"""Longest side of a viewport, in pixels."""

REVISION = "2"
"""Of the pictures that come out; a part of their entity tags, to be raised with every change that can be seen."""

_TABLE_BITS = 16
_MONOCHROME = (PhotometricInterpretation.MONOCHROME1, PhotometricInterpretation.MONOCHROME2)


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """What a client asked for.

    ``quality`` is 1 to 100 and counts for JPEG, JPEG 2000 and video; ``window`` replaces the instance's VOI, in units
    after the modality transformation, and counts for monochrome images only; ``preset`` names one of the instance's
    own windows and VOI LUTs instead, by its explanation or its number from 1. ``region`` of the source image is
    shown in ``viewport``, (width, height) in pixels, which the picture fills as far as its aspect ratio allows,
    growing or shrinking; a side that is None is that of the region. Without ``icc_profile`` the file has the
    instance's profile, if that has one. ``annotate`` says which lines are wanted, ``annotation`` what they are.

    Raises
    ------
    InvalidRendering
        A value is out of range.

    References
    ----------
    PS3.18 8.3.5.1 "Query Parameters For Rendered Resources"
    """

    media_type: RenderedMediaType = RenderedMediaType.JPEG
    quality: int = DEFAULT_QUALITY
    window: Window | None = None
    preset: str = ""
    viewport: tuple[int | None, int | None] | None = None
    region: Region | None = None
    icc_profile: IccProfile | None = None
    annotate: tuple[AnnotationKind, ...] = ()
    annotation: Annotation = NO_ANNOTATION
    overlays: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise InvalidRendering(f"quality is {self.quality}, must be 1 to 100")
        if self.window is not None:
            finite = np.isfinite([self.window.center, self.window.width]).all()
            if not finite or not self.window.is_valid:
                raise InvalidRendering(f"window width is {self.window.width}")
        if not all(side is None or 1 <= side <= MAX_VIEWPORT for side in self.viewport or ()):
            raise InvalidRendering(f"viewport sides must be 1 to {MAX_VIEWPORT} pixels")
        if self.region is not None and 0 in (self.region.width, self.region.height):
            raise InvalidRendering("viewport: the source region is empty")


def render(
    pixels: Pixels, description: PixelDescription, presentation: Presentation, request: RenderRequest
) -> RenderedImage:
    """Render one frame to a file. A thumbnail is a rendering with a small viewport.

    Parameters
    ----------
    pixels
        (rows, columns, samples), as `gateway.imaging.decode.decode` returned it.
    description
        Of these pixels: `decoded_description` of the instance's.
    presentation
        Of this frame.
    request
        What to produce. Nothing but the picture goes into the file, and its ICC profile.

    Raises
    ------
    NotDecodable
        A colour space that cannot be shown.
    InvalidRendering
        The source region lies outside the image, or there is no such window.
    """
    picture, profile = show(pixels, description, presentation, request)
    return encode(picture, request.media_type, request.quality, profile)


def show(
    pixels: Pixels, description: PixelDescription, presentation: Presentation, request: RenderRequest
) -> tuple[Image.Image, bytes | None]:
    """The picture that `render` encodes, mode L or RGB, and the ICC profile for its file."""
    shown = _displayed(pixels, description, presentation, request)
    if request.overlays:
        for overlay in presentation.overlays:
            shown[overlay.mask(pixels)] = 255
    if presentation.shutter is not None:
        shown[presentation.shutter.shut(*shown.shape[:2])] = presentation.shutter.value
    rows, columns = shown.shape[:2]
    display = presentation.display
    view = arrange(rows, columns, display, request.region)
    picture = fit(view.cut(shown), view.aspect, request.viewport)
    if display is not None and display.objects:
        picture = draw_graphics(picture, display.objects, view.mapping(picture.size))
    profile = None
    if description.photometric_interpretation not in _MONOCHROME and picture.mode == "RGB":
        profile = presentation.icc_profile
        if request.icc_profile is not None:
            picture, profile = with_profile(picture, profile, request.icc_profile)
    return annotate(picture, request.annotation), profile


def _displayed(
    pixels: Pixels, description: PixelDescription, presentation: Presentation, request: RenderRequest
) -> npt.NDArray[np.uint8]:
    """Display values of the whole frame: (rows, columns) or (rows, columns, 3)."""
    photometric = description.photometric_interpretation
    if photometric is PhotometricInterpretation.PALETTE_COLOR:
        if presentation.palette is None:
            raise InvalidDescription("a PALETTE COLOR image has no palette")
        return _paletted(pixels, description, presentation.palette)
    if photometric not in _MONOCHROME:
        return _coloured(pixels, description).copy()
    grey = render_grayscale(pixels, description, presentation, _voi(presentation, request))
    if presentation.pseudo_palette is not None:
        return look_up(presentation.pseudo_palette.ramp(), grey)
    if presentation.supplemental_palette is not None and description.float_kind is FloatKind.NONE:
        return _supplemented(grey, pixels, description, presentation.supplemental_palette)
    return grey


def _voi(presentation: Presentation, request: RenderRequest) -> Window | LookupTable | None:
    if request.window is not None or not request.preset:
        return request.window
    presets: list[Window | LookupTable] = [*presentation.windows, *presentation.voi_luts]
    wanted = request.preset.casefold()
    for number, preset in enumerate(presets, 1):
        if wanted in (str(number), preset.explanation.strip().casefold()):
            return preset
    raise InvalidRendering(f"window: the image has {len(presets)} windows of its own and none of that name or number")


def _patterns_of(pixels: Pixels, description: PixelDescription) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """The bit patterns of one sample a pixel, and the stored value of each possible one."""
    if description.bits_stored > _TABLE_BITS:
        raise NotDecodable(f"a palette for {description.bits_stored} bits is not supported")
    values = all_values(description.bits_stored, signed=description.is_signed)
    return stored_patterns(pixels[:, :, 0], description), values


def _paletted(pixels: Pixels, description: PixelDescription, palette: Palette) -> npt.NDArray[np.uint8]:
    patterns, stored = _patterns_of(pixels, description)
    return look_up(palette.colours(stored), patterns)


def _supplemented(
    grey: npt.NDArray[np.uint8], pixels: Pixels, description: PixelDescription, palette: Palette
) -> npt.NDArray[np.uint8]:
    patterns, stored = _patterns_of(pixels, description)
    coloured = look_up(palette.colours(stored), patterns)
    is_grey = look_up((stored < palette.red.first_value).astype(np.uint8), patterns) == 1
    coloured[is_grey] = grey[is_grey][:, None]
    return coloured


def _coloured(pixels: Pixels, description: PixelDescription) -> npt.NDArray[np.uint8]:
    patterns = stored_patterns(pixels, description)
    bits = description.bits_stored
    if bits > _TABLE_BITS:
        patterns = (patterns >> patterns.dtype.type(bits - 8)).astype(np.uint8)
    elif bits != 8:
        table = np.rint(np.arange(1 << bits) * (255.0 / ((1 << bits) - 1))).astype(np.uint8)
        patterns = look_up(table, patterns)
    eight = patterns.astype(np.uint8, copy=False)
    match description.photometric_interpretation:
        case PhotometricInterpretation.RGB:
            return eight
        case PhotometricInterpretation.YBR_PARTIAL_422:
            return partial_ybr_to_rgb(eight)
        case PhotometricInterpretation.YBR_FULL | PhotometricInterpretation.YBR_FULL_422:
            return ybr_to_rgb(eight, 8).astype(np.uint8, copy=False)
        case other:
            raise NotDecodable(f"{other.value} outside JPEG 2000 cannot be shown")
