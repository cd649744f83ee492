"""What an instance says about its pixels: the Image Pixel Module, validated once."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Self

from gateway.imaging.attributes import JsonDataset, integer, text
from gateway.imaging.errors import FrameTooLarge, InvalidDescription, NotDecodable

MAX_FRAME_BYTES = 0xFFFFFFFE
"""Longest native value of defined length, PS3.5 7.1.1 "Data Element Fields"."""


class PhotometricInterpretation(Enum):
    """Photometric Interpretation (0028,0004), PS3.3 C.7.6.3.1.2."""

    MONOCHROME1 = "MONOCHROME1"
    MONOCHROME2 = "MONOCHROME2"
    PALETTE_COLOR = "PALETTE COLOR"
    RGB = "RGB"
    YBR_FULL = "YBR_FULL"
    YBR_FULL_422 = "YBR_FULL_422"
    YBR_PARTIAL_422 = "YBR_PARTIAL_422"
    YBR_RCT = "YBR_RCT"
    YBR_ICT = "YBR_ICT"

    @property
    def samples(self) -> int:
        """Samples per Pixel that this interpretation requires."""
        return 1 if self in _SINGLE_SAMPLE else 3

    @property
    def is_paired(self) -> bool:
        """Whether two pixels beside each other share their chroma in native form."""
        return self in _PAIRED


_PAIRED = frozenset((PhotometricInterpretation.YBR_FULL_422, PhotometricInterpretation.YBR_PARTIAL_422))

_SINGLE_SAMPLE = frozenset(
    {
        PhotometricInterpretation.MONOCHROME1,
        PhotometricInterpretation.MONOCHROME2,
        PhotometricInterpretation.PALETTE_COLOR,
    }
)


class FloatKind(Enum):
    """Which element holds the pixels: Pixel Data, Float Pixel Data or Double Float Pixel Data."""

    NONE = "PixelData"
    FLOAT = "FloatPixelData"
    DOUBLE = "DoubleFloatPixelData"


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """The Image Pixel attributes that say how one frame's bytes become samples.

    All numbers are the standard's; ``rows`` and ``columns`` in pixels, the three bit attributes in
    bits. ``is_word_encoded`` says that Pixel Data has VR OW, which matters for 8-bit pixels in big endian
    only. Construct it with `from_metadata`, or directly in code that knows its values: both validate.

    Raises
    ------
    InvalidDescription
        A value is outside what PS3.3 allows, or values contradict each other.
    FrameTooLarge
        One decoded frame would pass `MAX_FRAME_BYTES`.

    References
    ----------
    PS3.3 C.7.6.3 "Image Pixel Module", C.7.6.24 "Floating Point Image Pixel Module",
    PS3.5 8 "Encoding of Pixel, Overlay and Waveform Data"
    """

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    photometric_interpretation: PhotometricInterpretation
    planar_configuration: int = 0
    number_of_frames: int = 1
    float_kind: FloatKind = FloatKind.NONE
    is_word_encoded: bool = False

    def __post_init__(self) -> None:
        allowed_bits = {
            FloatKind.NONE: (1, 8, 16, 32),
            FloatKind.FLOAT: (32,),
            FloatKind.DOUBLE: (64,),
        }[self.float_kind]
        for name, value, good in (
            ("Rows", self.rows, 1 <= self.rows <= 0xFFFF),
            ("Columns", self.columns, 1 <= self.columns <= 0xFFFF),
            ("Bits Allocated", self.bits_allocated, self.bits_allocated in allowed_bits),
            ("Bits Stored", self.bits_stored, 1 <= self.bits_stored <= self.bits_allocated),
            ("High Bit", self.high_bit, self.bits_stored - 1 <= self.high_bit < self.bits_allocated),
            ("Pixel Representation", self.pixel_representation, self.pixel_representation in (0, 1)),
            ("Planar Configuration", self.planar_configuration, self.planar_configuration in (0, 1)),
            ("Number of Frames", self.number_of_frames, 1 <= self.number_of_frames <= 0x7FFFFFFF),
        ):
            if not good:
                raise InvalidDescription(f"{name} is {value}")
        expected = self.photometric_interpretation.samples
        if self.samples_per_pixel != expected:
            raise InvalidDescription(
                f"Samples per Pixel is {self.samples_per_pixel}, {self.photometric_interpretation.value} has {expected}"
            )
        if expected == 3 and (self.bits_allocated == 1 or self.float_kind is not FloatKind.NONE):
            raise InvalidDescription(f"Bits Allocated is {self.bits_allocated} in a colour image")
        if self.frame_bytes > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"one frame would have {self.frame_bytes} bytes")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame as an array: a bound for what decoding may produce.

        Pixels of Bits Allocated 1 count one byte each, because they are unpacked.
        """
        return self.rows * self.columns * self.samples_per_pixel * max(self.bits_allocated // 8, 1)

    @property
    def native_bits(self) -> int:
        """Bits of one frame in native form, before any padding to an even length."""
        if self.photometric_interpretation.is_paired:
            return self.rows * (self.columns + self.columns % 2) * 2 * self.bits_allocated
        return self.rows * self.columns * self.samples_per_pixel * self.bits_allocated

    @property
    def is_signed(self) -> bool:
        """Whether samples are two's complement integers."""
        return self.pixel_representation == 1 and self.float_kind is FloatKind.NONE

    @classmethod
    def from_metadata(cls, metadata: JsonDataset) -> Self:
        """Read the description from an instance's metadata.

        Parameters
        ----------
        metadata
            The instance in the DICOM JSON Model, as Retrieve Metadata returns it.

        Returns
        -------
        PixelDescription
            Absent High Bit is taken as Bits Stored - 1, absent Pixel Representation and Planar
            Configuration as 0, absent Number of Frames as 1; Bits Stored may be absent in a
            floating point image only.

        Raises
        ------
        InvalidDescription
            A required attribute is missing, or a value is impossible.
        NotDecodable
            The Photometric Interpretation is not one this gateway knows.
        FrameTooLarge
            Rows, Columns and Samples per Pixel multiply to more than a value field can hold.
        """
        float_kind = FloatKind.NONE
        if "7FE00010" not in metadata:
            if "7FE00008" in metadata:
                float_kind = FloatKind.FLOAT
            elif "7FE00009" in metadata:
                float_kind = FloatKind.DOUBLE
        bits_allocated = _required(metadata, "00280100", "Bits Allocated")
        is_integer = float_kind is FloatKind.NONE
        bits_stored = _required(metadata, "00280101", "Bits Stored") if is_integer else bits_allocated
        name = text(metadata, "00280004")
        if not name:
            raise InvalidDescription("Photometric Interpretation is missing")
        try:
            photometric_interpretation = PhotometricInterpretation(name)
        except ValueError as error:
            raise NotDecodable("Photometric Interpretation is not supported") from error
        high_bit = integer(metadata, "00280102")
        return cls(
            rows=_required(metadata, "00280010", "Rows"),
            columns=_required(metadata, "00280011", "Columns"),
            samples_per_pixel=_required(metadata, "00280002", "Samples per Pixel"),
            bits_allocated=bits_allocated,
            bits_stored=bits_stored,
            high_bit=high_bit if is_integer and high_bit is not None else bits_stored - 1,
            pixel_representation=integer(metadata, "00280103") or 0,
            photometric_interpretation=photometric_interpretation,
            planar_configuration=integer(metadata, "00280006") or 0,
            number_of_frames=_number_of_frames(metadata),
            float_kind=float_kind,
            is_word_encoded=_pixel_data_vr(metadata) == "OW",
        )


def _required(metadata: JsonDataset, tag: str, name: str) -> int:
    value = integer(metadata, tag)
    if value is None:
        raise InvalidDescription(f"{name} is missing")
    return value


def _number_of_frames(metadata: JsonDataset) -> int:
    value = integer(metadata, "00280008")
    return 1 if value is None else value


def _pixel_data_vr(metadata: JsonDataset) -> str | None:
    element = metadata.get("7FE00010")
    vr = element.get("vr") if isinstance(element, Mapping) else None
    return vr if isinstance(vr, str) else None
