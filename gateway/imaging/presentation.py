"""How one frame's stored values are meant to be shown: modality, VOI, palette and polarity."""

from dataclasses import dataclass
from enum import Enum
from typing import Self

from gateway.imaging.attributes import BulkReader, JsonDataset, items, real, reals, text, texts, words
from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.display import Display
from gateway.imaging.errors import InvalidDescription
from gateway.imaging.icc import MAX_PROFILE_BYTES
from gateway.imaging.overlay import Overlay, read_overlays
from gateway.imaging.palette import LookupTable, Palette, read_palette, read_table
from gateway.imaging.shutter import Shutter, read_shutter

_PIXEL_VALUE_TRANSFORMATION_SEQUENCE = "00289145"
_FRAME_VOI_LUT_SEQUENCE = "00289132"
_COLOURED_PRESENTATION = ("COLOR", "MIXED")


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
class Presentation:
    """The transformations from stored values to display values that an instance defines for one frame.

    ``windows`` and ``voi_luts`` are alternatives in the order of the instance, invalid windows left
    out; ``padding`` is an inclusive range of stored values that hold no image; ``inverted`` says that
    the lowest value is shown white, ``presentation_lut`` what comes after the VOI instead. ``whole_range`` says that
    without window and VOI LUT all values that the modality transformation can give are shown, not those of the frame.

    ``palette`` is that of a PALETTE COLOR image, ``supplemental_palette`` colours the stored values from its first
    mapped one on of an image that is grey below them, ``pseudo_palette`` all values after the VOI.

    ``display`` is set for images under a presentation state.

    References
    ----------
    PS3.3 C.11.1 "Modality LUT Module", C.11.2 "VOI LUT Module", C.11.6 "Softcopy Presentation LUT
    Module", C.7.6.16.2.9 "Pixel Value Transformation Macro", C.7.6.16.2.10 "Frame VOI LUT Macro",
    C.7.5.1.1.2 "Pixel Padding Value and Pixel Padding Range Limit", C.7.6.19 "Supplemental Palette Color
    Lookup Table Module", C.9.2 "Overlay Plane Module", C.11.15 "ICC Profile Module"
    """

    modality: Rescale | LookupTable = Rescale()
    windows: tuple[Window, ...] = ()
    voi_luts: tuple[LookupTable, ...] = ()
    inverted: bool = False
    padding: tuple[float, float] | None = None
    palette: Palette | None = None
    supplemental_palette: Palette | None = None
    pseudo_palette: Palette | None = None
    presentation_lut: LookupTable | None = None
    whole_range: bool = False
    overlays: tuple[Overlay, ...] = ()
    shutter: Shutter | None = None
    icc_profile: bytes | None = None
    display: Display | None = None

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
            A LUT, overlay or number that cannot be right: wrong descriptor, too few entries.
        """
        groups = _functional_groups(metadata, frame_number)
        transformation = _macro(groups, _PIXEL_VALUE_TRANSFORMATION_SEQUENCE, metadata)
        voi = _macro(groups, _FRAME_VOI_LUT_SEQUENCE, metadata)
        signed = description.is_signed
        photometric = description.photometric_interpretation
        is_palette = photometric is PhotometricInterpretation.PALETTE_COLOR
        windows, voi_luts = read_voi(voi, signed, bulk)
        return cls(
            modality=read_modality(transformation, metadata, signed, bulk),
            windows=windows,
            voi_luts=voi_luts,
            inverted=photometric is PhotometricInterpretation.MONOCHROME1 or text(metadata, "20500020") == "INVERSE",
            padding=_padding(metadata, description),
            palette=read_palette(metadata, signed, bulk) if is_palette else None,
            supplemental_palette=read_palette(metadata, signed, bulk)
            if photometric is PhotometricInterpretation.MONOCHROME2 and _is_supplemented(metadata)
            else None,
            presentation_lut=read_presentation_lut(metadata, bulk),
            overlays=read_overlays(metadata, frame_number, bulk, description),
            shutter=read_shutter(metadata),
            icc_profile=_icc_profile(metadata, bulk) if photometric.samples == 3 or is_palette else None,
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


def read_modality(
    transformation: JsonDataset, metadata: JsonDataset, signed: bool, bulk: BulkReader
) -> Rescale | LookupTable:
    """The modality transformation: a LUT of ``metadata`` before the numbers of ``transformation``."""
    if luts := items(metadata, "00283000"):
        return read_table(luts[0], "00283002", "00283006", signed, bulk)
    slope, intercept = real(transformation, "00281053"), real(transformation, "00281052")
    # A slope of 0 would make every pixel the same; some senders write it for "no rescale".
    return Rescale(slope or 1.0, intercept or 0.0)


def read_voi(voi: JsonDataset, signed: bool, bulk: BulkReader) -> tuple[tuple[Window, ...], tuple[LookupTable, ...]]:
    """The windows and VOI LUTs of a data set or item, in its order."""
    luts = tuple(read_table(item, "00283002", "00283006", signed, bulk) for item in items(voi, "00283010"))
    return _windows(voi), luts


def read_presentation_lut(metadata: JsonDataset, bulk: BulkReader) -> LookupTable | None:
    """The first item of Presentation LUT Sequence (2050,0010), if there is one."""
    luts = items(metadata, "20500010")
    return read_table(luts[0], "00283002", "00283006", False, bulk) if luts else None


def _is_supplemented(metadata: JsonDataset) -> bool:
    return text(metadata, "00089205") in _COLOURED_PRESENTATION and "00281101" in metadata


def _icc_profile(metadata: JsonDataset, bulk: BulkReader) -> bytes | None:
    """ICC Profile (0028,2000), of the instance or of its first optical path."""
    for dataset in (metadata, *items(metadata, "00480105")[:1]):
        data = words(dataset, "00282000", bulk, MAX_PROFILE_BYTES + 1)
        if data and len(data) > MAX_PROFILE_BYTES:
            raise InvalidDescription(f"an ICC profile of more than {MAX_PROFILE_BYTES} bytes")
        if data:
            return data
    return None


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
