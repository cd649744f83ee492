"""How one frame's stored values are meant to be shown: modality, VOI, palette and polarity."""

from dataclasses import dataclass
from enum import Enum
from typing import Self

import numpy as np
import numpy.typing as npt

from gateway.imaging.attributes import BulkReader, JsonDataset, items, real, reals, text, texts, words
from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import InvalidDescription, NotDecodable

_PIXEL_VALUE_TRANSFORMATION_SEQUENCE = "00289145"
_FRAME_VOI_LUT_SEQUENCE = "00289132"


class VoiLutFunction(Enum):
    """VOI LUT Function (0028,1056), PS3.3 C.11.2.1.3."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window; ``center`` and ``width`` are in the units that the modality transformation gives.

    References
    ----------
    PS3.3 C.11.2.1.2 "Window Center and Window Width"
    """

    center: float
    width: float
    function: VoiLutFunction = VoiLutFunction.LINEAR
    explanation: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether the width is allowed: at least 1 for LINEAR, above 0 for the others."""
        return self.width >= 1 if self.function is VoiLutFunction.LINEAR else self.width > 0


@dataclass(frozen=True, slots=True)
class Rescale:
    """Output = stored value * slope + intercept, PS3.3 C.11.1.1.2 "Rescale Slope and Intercept"."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class LookupTable:
    """One LUT: ``entries`` are 16-bit little endian words, the first for ``first_value`` and below.

    References
    ----------
    PS3.3 C.11.1.1.1 "LUT Descriptor", C.7.6.3.1.5 "Palette Color Lookup Table Descriptor"
    """

    first_value: int
    bits: int
    entries: bytes

    def array(self) -> npt.NDArray[np.uint16]:
        """Return the entries, (n,), uint16, values 0 to 2**bits - 1."""
        return np.frombuffer(self.entries, "<u2")

    def apply(self, inputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Map inputs to entries; those outside take the first or the last entry."""
        table = self.array()
        index = np.clip(np.rint(inputs) - self.first_value, 0, len(table) - 1)
        outputs: npt.NDArray[np.float64] = table[np.nan_to_num(index).astype(np.int64)].astype(np.float64)
        return outputs


@dataclass(frozen=True, slots=True)
class Palette:
    """The three tables of a PALETTE COLOR image, PS3.3 C.7.9 "Palette Color Lookup Table Module"."""

    red: LookupTable
    green: LookupTable
    blue: LookupTable


@dataclass(frozen=True, slots=True)
class Presentation:
    """The transformations from stored values to display values that an instance defines for one frame.

    ``windows`` and ``voi_luts`` are alternatives in the order of the instance, invalid windows left
    out; ``padding`` is an inclusive range of stored values that hold no image; ``inverted`` says that
    the lowest value is shown white.

    References
    ----------
    PS3.3 C.11.1 "Modality LUT Module", C.11.2 "VOI LUT Module", C.11.6 "Softcopy Presentation LUT
    Module", C.7.6.16.2.9 "Pixel Value Transformation Macro", C.7.6.16.2.10 "Frame VOI LUT Macro",
    C.7.5.1.1.2 "Pixel Padding Value and Pixel Padding Range Limit"
    """

    modality: Rescale | LookupTable = Rescale()
    windows: tuple[Window, ...] = ()
    voi_luts: tuple[LookupTable, ...] = ()
    inverted: bool = False
    padding: tuple[float, float] | None = None
    palette: Palette | None = None

    @classmethod
    def from_metadata(
        cls, metadata: JsonDataset, description: PixelDescription, frame_number: int, bulk: BulkReader
    ) -> Self:
        """Read the presentation of one frame.

        Parameters
        ----------
        metadata
            The instance in the DICOM JSON Model. A frame's own functional groups count first, then the
            shared ones, then the attributes of the instance.
        description
            From the same metadata: its Pixel Representation says how padding values and first mapped
            values are to be read.
        frame_number
            From 1.
        bulk
            Called for LUT data that the metadata holds as BulkDataURI only.

        Raises
        ------
        InvalidDescription
            A LUT or number that cannot be right: wrong descriptor, too few entries.
        NotDecodable
            PALETTE COLOR with segmented palette data.
        """
        groups = _functional_groups(metadata, frame_number)
        transformation = _macro(groups, _PIXEL_VALUE_TRANSFORMATION_SEQUENCE, metadata)
        voi = _macro(groups, _FRAME_VOI_LUT_SEQUENCE, metadata)
        signed = description.is_signed
        photometric = description.photometric_interpretation
        return cls(
            modality=_modality(transformation, metadata, signed, bulk),
            windows=_windows(voi),
            voi_luts=tuple(
                _lookup_table(item, "00283002", "00283006", signed, bulk) for item in items(voi, "00283010")
            ),
            inverted=photometric is PhotometricInterpretation.MONOCHROME1 or text(metadata, "20500020") == "INVERSE",
            padding=_padding(metadata, description),
            palette=_palette(metadata, signed, bulk)
            if photometric is PhotometricInterpretation.PALETTE_COLOR
            else None,
        )


def _functional_groups(metadata: JsonDataset, frame_number: int) -> list[JsonDataset]:
    per_frame = items(metadata, "52009230")
    own = per_frame[frame_number - 1 : frame_number] if frame_number >= 1 else []
    return [*own, *items(metadata, "52009229")[:1]]


def _macro(groups: list[JsonDataset], sequence: str, metadata: JsonDataset) -> JsonDataset:
    for group in groups:
        if found := items(group, sequence):
            return found[0]
    return metadata


def _modality(
    transformation: JsonDataset, metadata: JsonDataset, signed: bool, bulk: BulkReader
) -> Rescale | LookupTable:
    if luts := items(metadata, "00283000"):
        return _lookup_table(luts[0], "00283002", "00283006", signed, bulk)
    slope, intercept = real(transformation, "00281053"), real(transformation, "00281052")
    # A slope of 0 would make every pixel the same; some senders write it for "no rescale".
    return Rescale(slope or 1.0, intercept or 0.0)


def _windows(voi: JsonDataset) -> tuple[Window, ...]:
    try:
        function = VoiLutFunction(text(voi, "00281056") or "LINEAR")
    except ValueError:
        function = VoiLutFunction.LINEAR
    explanations = texts(voi, "00281055")
    pairs = zip(reals(voi, "00281050"), reals(voi, "00281051"), strict=False)
    windows = (
        Window(center, width, function, explanations[index] if index < len(explanations) else "")
        for index, (center, width) in enumerate(pairs)
    )
    return tuple(window for window in windows if window.is_valid)


def _padding(metadata: JsonDataset, description: PixelDescription) -> tuple[float, float] | None:
    value_tag, limit_tag = {
        FloatKind.NONE: ("00280120", "00280121"),
        FloatKind.FLOAT: ("00280122", "00280124"),
        FloatKind.DOUBLE: ("00280123", "00280125"),
    }[description.float_kind]
    value = real(metadata, value_tag)
    if value is None:
        return None
    limit = real(metadata, limit_tag)
    bounds = [value, value if limit is None else limit]
    if description.float_kind is FloatKind.NONE:
        # The VR may be US or SS whatever Pixel Representation says, as FFFF for -1.
        half = 1 << (description.bits_allocated - 1)
        lowest = -half if description.is_signed else 0
        bounds = [(bound - lowest) % (2 * half) + lowest for bound in bounds]
    return min(bounds), max(bounds)


def _palette(metadata: JsonDataset, signed: bool, bulk: BulkReader) -> Palette:
    if "00281221" in metadata:
        raise NotDecodable("segmented palettes are not supported")
    red, green, blue = (
        _lookup_table(metadata, f"0028110{index}", f"0028120{index}", signed, bulk) for index in (1, 2, 3)
    )
    return Palette(red, green, blue)


def _lookup_table(
    dataset: JsonDataset, descriptor_tag: str, data_tag: str, signed: bool, bulk: BulkReader
) -> LookupTable:
    descriptor = [int(number) for number in reals(dataset, descriptor_tag)]
    if len(descriptor) != 3:
        raise InvalidDescription("a LUT Descriptor does not have three values")
    count, first_value, bits = descriptor
    # 65536 entries are written as 0, and a big count may have been read as SS (PS3.3 C.11.1.1.1).
    count = 65536 if count == 0 else count & 0xFFFF
    if signed and first_value > 0x7FFF:
        first_value -= 0x10000
    if not 8 <= bits <= 16:
        raise InvalidDescription(f"a LUT has {bits} bits an entry")
    data = words(dataset, data_tag, bulk) or b""
    if len(data) >= 2 * count:
        table = np.frombuffer(data, "<u2", count)
    elif bits == 8 and len(data) >= count:
        table = np.frombuffer(data, np.uint8, count).astype("<u2")
    else:
        raise InvalidDescription(f"a LUT of {count} entries has {len(data)} bytes")
    if bits == 16 and count <= 256 and int(table.max()) <= 0xFF:
        # Known senders describe 16 bits and store 8: the picture would be almost black.
        bits = 8
    return LookupTable(first_value, bits, np.minimum(table, (1 << bits) - 1).astype("<u2").tobytes())
