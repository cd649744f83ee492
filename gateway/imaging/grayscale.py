"""From stored values of a monochrome frame to 8-bit grey: modality, VOI, polarity."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gateway.imaging.description import FloatKind, PixelDescription
from gateway.imaging.native import Pixels
from gateway.imaging.palette import LookupTable
from gateway.imaging.presentation import Presentation, Rescale, VoiLutFunction, Window

_TABLE_BITS = 16
_BAND_PIXELS = 1 << 18
_LOOKED_UP_PIXELS = 1 << 16
_KEPT_TABLES = 64


def stored_patterns(pixels: Pixels, description: PixelDescription) -> Pixels:
    """Return the Bits Stored bits below High Bit as unsigned numbers, without what shares the cell.

    Overlay planes in unused high bits (retired, but stored in old archives) are removed by this.
    """
    unsigned: Pixels = pixels.view(np.dtype(f"<u{pixels.dtype.itemsize}"))
    if description.bits_allocated in (1, description.bits_stored):
        return unsigned
    shift = description.high_bit + 1 - description.bits_stored
    mask = unsigned.dtype.type((1 << description.bits_stored) - 1)
    patterns: Pixels = (unsigned >> unsigned.dtype.type(shift)) & mask if shift else unsigned & mask
    return patterns


def pattern_values(patterns: Pixels, description: PixelDescription) -> npt.NDArray[np.float64]:
    """Return the stored values, signed when Pixel Representation is 1, that bit patterns stand for."""
    return _values(patterns, description.bits_stored, signed=description.is_signed)


def _values(patterns: Pixels, bits: int, *, signed: bool) -> npt.NDArray[np.float64]:
    values = patterns.astype(np.float64)
    if signed:
        values[values >= 1 << (bits - 1)] -= float(1 << bits)
    return values


def all_values(bits: int, *, signed: bool) -> npt.NDArray[np.float64]:
    """The stored value of each possible bit pattern."""
    return _values(np.arange(1 << bits, dtype=np.uint32), bits, signed=signed)


def render_grayscale(
    pixels: Pixels, description: PixelDescription, presentation: Presentation, voi: Window | LookupTable | None
) -> npt.NDArray[np.uint8]:
    """Show a monochrome frame.

    Parameters
    ----------
    pixels
        (rows, columns, 1), stored values of any dtype.
    description
        Of the decoded pixels.
    presentation
        Of this frame.
    voi
        Takes the place of what the instance says about VOI; None: the instance's first window, else
        its first VOI LUT, else the lowest to the highest value in the frame that is not padding.

    Returns
    -------
    numpy.ndarray
        (rows, columns), uint8, 0 black. Padding and values that are not numbers are black in either
        polarity, so that a MONOCHROME1 radiograph has no white border.

    References
    ----------
    PS3.4 N.2 "Pixel Transformation Sequence"
    """
    plane = pixels[:, :, 0]
    if description.float_kind is FloatKind.NONE and description.bits_stored <= _TABLE_BITS:
        patterns = stored_patterns(plane, description)
        tone = _Tone(presentation, voi)
        plain = tone.plain
        if plain is not None:
            return look_up(_plain_table(description.bits_stored, plain, signed=description.is_signed), patterns)
        stored = all_values(description.bits_stored, signed=description.is_signed)
        if tone.needs_range:
            present = np.full(stored.size, presentation.whole_range, np.bool_)
            for band in _bands(patterns):
                present[patterns[band]] = True
            tone = tone.fitted(stored[present], (float(stored.min()), float(stored.max())))
        return look_up(tone.apply(stored), patterns)
    return _in_bands(plane, description, _Tone(presentation, voi))


@lru_cache(_KEPT_TABLES)
def _plain_table(bits: int, plain: "_Plain", *, signed: bool) -> npt.NDArray[np.uint8]:
    """The grey of each bit pattern; the frames of a series have it in common, and it takes as long as its use."""
    presentation = Presentation(plain.rescale, (plain.window,), inverted=plain.inverted, padding=plain.padding)
    table = _Tone(presentation, None).apply(all_values(bits, signed=signed))
    table.flags.writeable = False
    return table


def look_up(table: npt.NDArray[np.uint8], patterns: Pixels) -> npt.NDArray[np.uint8]:
    """Return ``table[patterns]``, in small bands: as an index, numpy widens a pattern to 8 bytes."""
    shown = np.empty(patterns.shape + table.shape[1:], np.uint8)
    for band in _bands(patterns, _LOOKED_UP_PIXELS):
        # Half of the time of ``table[...]``.
        shown[band] = np.take(table, patterns[band], axis=0)
    return shown


def _bands(pixels: Pixels, of_pixels: int = _BAND_PIXELS) -> list[slice]:
    height = max(of_pixels // (pixels.size // pixels.shape[0]), 1)
    return [slice(top, top + height) for top in range(0, pixels.shape[0], height)]


def _in_bands(plane: Pixels, description: PixelDescription, tone: "_Tone") -> npt.NDArray[np.uint8]:
    """Work on bands of rows, so that double precision copies stay small beside the frame."""
    bands = _bands(plane)

    def stored(band: slice) -> npt.NDArray[np.float64]:
        if description.float_kind is not FloatKind.NONE:
            return plane[band].astype(np.float64)
        return pattern_values(stored_patterns(plane[band], description), description)

    if tone.needs_range:
        extremes = [tone.extremes(stored(band)) for band in bands]
        found = np.array([value for pair in extremes for value in pair], dtype=np.float64)
        tone = tone.fitted(found, (0.0, 1.0))
    shown = np.empty(plane.shape, np.uint8)
    for band in bands:
        shown[band] = tone.apply(stored(band))
    return shown


@dataclass(frozen=True, slots=True)
class _Plain:
    """A chain without tables."""

    rescale: Rescale
    window: Window
    padding: tuple[float, float] | None
    inverted: bool


@dataclass(frozen=True, slots=True)
class _Tone:
    """The whole chain from stored values to grey; the same code fills a table or maps pixels."""

    presentation: Presentation
    voi: Window | LookupTable | None

    @property
    def needs_range(self) -> bool:
        return self.voi is None and not self.presentation.windows and not self.presentation.voi_luts

    @property
    def plain(self) -> _Plain | None:
        """The same without tables, if there are none in it and its window is known."""
        shown = self.presentation
        window = self.voi or next(iter(shown.windows), None)
        if not isinstance(window, Window) or not isinstance(shown.modality, Rescale):
            return None
        return None if shown.presentation_lut else _Plain(shown.modality, window, shown.padding, shown.inverted)

    def fitted(self, stored: npt.NDArray[np.float64], otherwise: tuple[float, float]) -> "_Tone":
        """Return the tone with a window over these values, or over the whole range when they are flat.

        A flat frame has no range of its own: it keeps its place in the range of its type, so that an
        empty segmentation is black and a saturated radiograph is not.
        """
        low, high = (float(bound) for bound in self._modality_range(stored))
        if not low < high:
            low, high = (float(bound) for bound in self._modality_range(np.array(otherwise)))
        if not low < high:
            low, high = 0.0, 1.0
        # LINEAR maps center - 0.5 -/+ (width - 1) / 2 to black and white: exactly low and high.
        return _Tone(self.presentation, Window((low + high) / 2 + 0.5, high - low + 1))

    def extremes(self, stored: npt.NDArray[np.float64]) -> tuple[float, ...]:
        usable = stored[np.isfinite(stored) & ~self._is_padding(stored)]
        return (float(usable.min()), float(usable.max())) if usable.size else ()

    def apply(self, stored: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        hidden = self._is_padding(stored) | ~np.isfinite(stored)
        modality = self._modality(np.where(hidden, 0.0, stored))
        fraction = self._voi(modality)
        if self.presentation.presentation_lut is not None:
            fraction = self.presentation.presentation_lut.apply_fraction(fraction)
        elif self.presentation.inverted:
            fraction = 1.0 - fraction
        shown = np.rint(fraction * 255.0).astype(np.uint8)
        shown[hidden] = 0
        return shown

    def _is_padding(self, stored: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        if self.presentation.padding is None:
            return np.zeros(stored.shape, np.bool_)
        low, high = self.presentation.padding
        return (stored >= low) & (stored <= high)

    def _modality(self, stored: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        modality = self.presentation.modality
        if isinstance(modality, LookupTable):
            return modality.apply(stored)
        return stored * modality.slope + modality.intercept

    def _modality_range(self, stored: npt.NDArray[np.float64]) -> tuple[float, float]:
        usable = stored[np.isfinite(stored) & ~self._is_padding(stored)]
        if not usable.size:
            return 0.0, 0.0
        values = self._modality(usable)
        return float(values.min()), float(values.max())

    def _voi(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        own: list[Window | LookupTable] = [*self.presentation.windows, *self.presentation.voi_luts]
        voi = self.voi or own[0]
        if isinstance(voi, Window):
            return window_fraction(values, voi)
        return voi.apply(values) / float((1 << voi.bits) - 1)


def window_fraction(values: npt.NDArray[np.float64], window: Window) -> npt.NDArray[np.float64]:
    """Apply a window with an output range of 0 to 1.

    Parameters
    ----------
    values
        Any shape, in the units of the window (after the modality transformation).
    window
        Must be valid.

    References
    ----------
    PS3.3 C.11.2.1.2.1 "Default LINEAR Function", C.11.2.1.3.1 "SIGMOID Function",
    C.11.2.1.3.2 "LINEAR_EXACT Function"
    """
    center, width = window.center, window.width
    if window.function is VoiLutFunction.SIGMOID:
        # Beyond +-500 the exponential would overflow and the result is 0 or 1 in double precision.
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -500.0, 500.0)))
    if window.function is VoiLutFunction.LINEAR:
        center, width = center - 0.5, width - 1.0
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)
