"""Decode one frame, in any supported transfer syntax, to samples.

What the samples are, and what `native_bytes` makes of them, is said by `decoded_description`:

=========================  ==============================  ==========================================
stored as                  decoded to                      why
=========================  ==============================  ==========================================
native, RLE, deflated      as described                    nothing to convert
JPEG, YBR_FULL             YBR_FULL                        no conversion, so the metadata stays true
JPEG, YBR_FULL_422         RGB                             chroma was expanded; as native pixels this
                                                           name would mean subsampled pairs. Viewers
                                                           take 3 bytes a pixel under it as RGB
JPEG 2000, YBR_RCT / _ICT  RGB                             the codec undoes its own transform
lossless, YBR_FULL_422     YBR_FULL                        the codestream has all chroma samples
=========================  ==============================  ==========================================

Rendering converts what is left as YBR_FULL or YBR_FULL_422 to RGB itself.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import imagecodecs
import numpy as np

from gateway.imaging.codestream import (
    CodestreamHeader,
    JpegColour,
    read_jpeg2000_header,
    read_jpeg_header,
    rle_segments,
)
from gateway.imaging.colour import rgb_to_ybr
from gateway.imaging.description import PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import FrameDamaged, FrameMismatch, ImagingError, NotDecodable
from gateway.imaging.native import Pixels, native_bytes, sample_dtype, unpack

__all__ = [
    "SUPPORTED_TRANSFER_SYNTAXES",
    "EncodedFrame",
    "check_header",
    "decode",
    "decoded_description",
    "native_bytes",
]

_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
# Here and not from storage.dicom, which would bring pydicom and its dictionary, 24 MB, into every worker.
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
_EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_RLE_LOSSLESS = "1.2.840.10008.1.2.5"
_DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"

_NATIVE = frozenset(
    {
        _IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        _ENCAPSULATED_UNCOMPRESSED,
        _DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        _EXPLICIT_VR_BIG_ENDIAN,
    }
)
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_JPEG_LOSSY = {
    "1.2.840.10008.1.2.4.50": _SEQUENTIAL,
    "1.2.840.10008.1.2.4.51": _SEQUENTIAL,
    "1.2.840.10008.1.2.4.53": frozenset({0xC2}),
    "1.2.840.10008.1.2.4.55": frozenset({0xC2}),
}
_JPEG_LOSSLESS = {
    "1.2.840.10008.1.2.4.57": frozenset({0xC3}),
    "1.2.840.10008.1.2.4.70": frozenset({0xC3}),
}
_JPEG_LS = {
    "1.2.840.10008.1.2.4.80": frozenset({0xF7}),
    "1.2.840.10008.1.2.4.81": frozenset({0xF7}),
}
_JPEG = _JPEG_LOSSY | _JPEG_LOSSLESS | _JPEG_LS
_JPEG_2000 = frozenset(
    {
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.4.201",
        "1.2.840.10008.1.2.4.202",
        "1.2.840.10008.1.2.4.203",
    }
)

SUPPORTED_TRANSFER_SYNTAXES = frozenset({*_NATIVE, *_JPEG, *_JPEG_2000, _RLE_LOSSLESS, _DEFLATED_IMAGE_FRAME})
"""Transfer Syntax UIDs, PS3.5 10 and Annex A, whose frames `decode` accepts."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame as it is stored.

    ``data`` is the frame's bytes without item headers; ``bit_offset``, 0 to 7, is where it begins in
    its first byte when Bits Allocated is 1 and frames are not aligned.

    A large frame need not be held by who sends it to a worker: then ``source`` gives its bytes in blocks,
    ``source_bytes`` in all, and ``data`` is empty until the worker has them.
    """

    data: bytes
    transfer_syntax_uid: str
    description: PixelDescription
    bit_offset: int = 0
    source: Callable[[], Iterator[bytes]] | None = None
    source_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes of the frame as it is stored."""
        return len(self.data) if self.source is None else self.source_bytes

    def blocks(self) -> Iterator[bytes]:
        """The frame's bytes, wherever they are."""
        return iter((self.data,)) if self.source is None else self.source()


def decoded_description(description: PixelDescription, transfer_syntax_uid: str) -> PixelDescription:
    """Return the description that is true of the decoded samples: see the table of this module."""
    photometric = description.photometric_interpretation
    if transfer_syntax_uid in _NATIVE or transfer_syntax_uid == _DEFLATED_IMAGE_FRAME:
        return description
    if transfer_syntax_uid in _JPEG_2000 and photometric in (
        PhotometricInterpretation.YBR_RCT,
        PhotometricInterpretation.YBR_ICT,
    ):
        return replace(description, photometric_interpretation=PhotometricInterpretation.RGB)
    if photometric is PhotometricInterpretation.YBR_FULL_422:
        lossy = transfer_syntax_uid in _JPEG_LOSSY
        return replace(
            description,
            photometric_interpretation=PhotometricInterpretation.RGB if lossy else PhotometricInterpretation.YBR_FULL,
        )
    return description


def check_header(data: bytes, transfer_syntax_uid: str, description: PixelDescription) -> None:
    """Refuse a frame whose own header does not fit the instance's attributes, without decoding it.

    Raises
    ------
    FrameMismatch
        Other rows, columns, components or segments, or more bits a sample than Bits Allocated.
    FrameDamaged
        No readable header.
    NotDecodable
        The transfer syntax, or the codestream's variety of it, is not supported.
    """
    if transfer_syntax_uid in _NATIVE or transfer_syntax_uid == _DEFLATED_IMAGE_FRAME:
        return
    if transfer_syntax_uid == _RLE_LOSSLESS:
        rle_segments(data, _rle_segment_count(description))
        return
    _read_header(data, transfer_syntax_uid, description)


def decode(data: bytes, transfer_syntax_uid: str, description: PixelDescription, bit_offset: int = 0) -> Pixels:
    """Decode one frame.

    Parameters
    ----------
    data
        One frame: native bytes, or the whole codestream without item headers.
    transfer_syntax_uid
        How ``data`` is encoded.
    description
        The instance's attributes as stored.
    bit_offset
        Native Bits Allocated 1 only: bits before the first pixel in the first byte.

    Returns
    -------
    numpy.ndarray
        (rows, columns, samples), stored values before modality and VOI transformations, in the dtype
        of Bits Allocated, signed when Pixel Representation is 1. `decoded_description` says which
        colour space they are in.

    Raises
    ------
    NotDecodable, FrameMismatch, FrameDamaged
        As `check_header`; FrameDamaged also when the codec fails.

    References
    ----------
    PS3.5 A.4 "Transfer Syntaxes for Encapsulation of Encoded Pixel Data"
    """
    if transfer_syntax_uid in _NATIVE:
        big_endian = transfer_syntax_uid == _EXPLICIT_VR_BIG_ENDIAN
        return unpack(data, description, big_endian=big_endian, bit_offset=bit_offset)
    if transfer_syntax_uid == _DEFLATED_IMAGE_FRAME:
        return unpack(_inflate(data, (description.native_bits + 7) // 8), description)
    if transfer_syntax_uid == _RLE_LOSSLESS:
        return _decode_rle(data, description)
    header = _read_header(data, transfer_syntax_uid, description)
    if transfer_syntax_uid in _JPEG_LS:
        decoded = _run(partial(imagecodecs.jpegls_decode, data))
    elif transfer_syntax_uid in _JPEG_2000:
        # OpenJPEG for HTJ2K too: the other decoder, OpenJPH as wrapped by imagecodecs 2026.3.6, is twice
        # as fast but wraps lossy samples that pass the range (docs/decisions/0003-codecs.md).
        decoded = _run(partial(imagecodecs.jpeg2k_decode, data, numthreads=1))
    else:
        decoded = _run(partial(_decode_jpeg, data, header, transfer_syntax_uid, description))
    shape = (description.rows, description.columns, description.samples_per_pixel)
    if decoded.size != shape[0] * shape[1] * shape[2]:
        raise FrameDamaged("the codec returned another size than its header")
    return _as_described(decoded.reshape(shape), header, description)


def _read_header(data: bytes, transfer_syntax_uid: str, description: PixelDescription) -> CodestreamHeader:
    if transfer_syntax_uid in _JPEG:
        header = read_jpeg_header(data, _JPEG[transfer_syntax_uid])
    elif transfer_syntax_uid in _JPEG_2000:
        header = read_jpeg2000_header(data)
    else:
        raise NotDecodable(f"transfer syntax {transfer_syntax_uid} is not supported")
    for name, found, described in (
        ("rows", header.rows, description.rows),
        ("columns", header.columns, description.columns),
        ("components", header.components, description.samples_per_pixel),
    ):
        if found != described:
            raise FrameMismatch(f"the codestream has {found} {name}, the instance says {described}")
    if header.precision > description.bits_allocated:
        raise FrameMismatch(
            f"the codestream has {header.precision} bits a sample, Bits Allocated is {description.bits_allocated}"
        )
    return header


def _run(codec: Callable[[], Any]) -> Pixels:
    """Run a codec; whatever it raises about its input becomes FrameDamaged."""
    try:
        return np.asarray(codec())
    except (MemoryError, ImagingError):
        raise
    except Exception as error:  # each codec has its own exception classes, all about the input
        raise FrameDamaged("the codec could not decode the frame") from error


def _decode_jpeg(
    data: bytes, header: CodestreamHeader, transfer_syntax_uid: str, description: PixelDescription
) -> Pixels:
    space = imagecodecs.JPEG8.CS
    if header.components == 1:
        return np.asarray(imagecodecs.jpeg8_decode(data))
    photometric = description.photometric_interpretation
    lossy = transfer_syntax_uid in _JPEG_LOSSY
    described_rgb = photometric is PhotometricInterpretation.RGB
    coded_ybr = header.colour is JpegColour.YCBCR or (header.colour is JpegColour.UNSTATED and not described_rgb)
    if not lossy or not coded_ybr or photometric is PhotometricInterpretation.YBR_FULL:
        # Equal names on both sides: libjpeg converts nothing.
        pixels = np.asarray(imagecodecs.jpeg8_decode(data, colorspace=space.RGB, outcolorspace=space.RGB))
        if lossy and not coded_ybr and photometric is PhotometricInterpretation.YBR_FULL:
            return rgb_to_ybr(pixels, header.precision)
        return pixels
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=space.YCbCr, outcolorspace=space.RGB))


def _as_described(pixels: Pixels, header: CodestreamHeader, description: PixelDescription) -> Pixels:
    """Give samples the dtype of the description, and the sign that Pixel Representation says.

    JPEG and JPEG-LS have no sign, and some JPEG 2000 encoders set the wrong one: the low ``precision``
    bits are right in every case, so sign or mask those.
    """
    target = sample_dtype(description)
    coded_signed = header.signed
    if coded_signed == description.is_signed:
        return pixels.astype(target, copy=False)
    unsigned = np.dtype(f"<u{pixels.dtype.itemsize}")
    low: Pixels = pixels.view(unsigned) & unsigned.type((1 << header.precision) - 1)
    if not description.is_signed:
        return low.astype(target, copy=False)
    sign = 1 << (header.precision - 1)
    extended: Pixels = (low.astype(np.int64) ^ sign) - sign
    return extended.astype(target)


def _inflate(data: bytes, expected: int) -> bytes:
    """Inflate at most ``expected`` bytes: what a bomb would add is never produced (PS3.5 A.4.13)."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, expected)
    except zlib.error as error:
        raise FrameDamaged("the deflated frame is corrupt") from error


def _rle_segment_count(description: PixelDescription) -> int:
    if description.bits_allocated == 1:
        raise NotDecodable("RLE of single-bit pixels is not supported")
    return description.samples_per_pixel * description.bits_allocated // 8


def _decode_rle(data: bytes, description: PixelDescription) -> Pixels:
    segments = rle_segments(data, _rle_segment_count(description))
    pixels = description.rows * description.columns
    size = description.bits_allocated // 8
    samples = description.samples_per_pixel
    planes = np.empty((pixels, samples, size), np.uint8)
    # A segment may be followed by a padding byte, and a run may pass the last pixel: the slack is one run.
    buffer = bytearray(pixels + 128)
    for index, segment in enumerate(segments):
        decoded = _run(partial(imagecodecs.packbits_decode, segment, out=buffer))
        produced = decoded if decoded.dtype == np.uint8 else np.frombuffer(decoded, np.uint8)
        if produced.size < pixels:
            raise FrameDamaged("an RLE segment is shorter than the frame")
        # The most significant byte comes first in RLE and last in little endian (PS3.5 G.2).
        planes[:, index // size, size - 1 - index % size] = produced[:pixels]
    typed: Pixels = planes.reshape(-1).view(sample_dtype(description))
    return typed.reshape(description.rows, description.columns, samples)
