"""Encode one frame of samples in a compressed transfer syntax.

What each can hold, and what the samples are called afterwards:

==========================  ==================  =========================  ================================
transfer syntax             Bits Allocated      colour becomes             how
==========================  ==================  =========================  ================================
RLE (.5)                    8, 16, 32           as it is                   each row by itself (PS3.5 G.3.1)
JPEG baseline (.50)         8, unsigned         YBR_FULL_422               quality 90
JPEG lossless (.57 .70)     8, 16               as it is                   selection value 1
JPEG-LS (.80)               8, 16               as it is
JPEG-LS near (.81)          8, 16               as it is                   no sample off by more than 2
JPEG 2000 (.90)             8, 16               RGB to YBR_RCT             reversible
JPEG 2000 (.91)             8, 16               RGB to YBR_ICT             off by 1 in 4096 levels, or by 1
HTJ2K (.201 .202 .203)      8, 16               RGB to YBR_RCT             reversible, RPCL with TLM
==========================  ==================  =========================  ================================

A palette's indices are not approximated: .50, .81 and .91 refuse them.
.203 leaves the choice of lossy or lossless to the sender (PS3.5 10.18). Lossless is chosen: decoders are met that
do not clamp what an irreversible transformation makes of the darkest and brightest samples
(docs/decisions/0003-codecs.md).
"""

import math
import struct
from collections.abc import Callable
from dataclasses import replace

import imagecodecs
import numpy as np

from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import NotEncodable
from gateway.imaging.native import Pixels

RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
JPEG_2000_LOSSY = "1.2.840.10008.1.2.4.91"
HTJ2K = "1.2.840.10008.1.2.4.201"
HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K_EITHER = "1.2.840.10008.1.2.4.203"

HTJ2K_LOSSLESS = frozenset((HTJ2K, HTJ2K_RPCL, HTJ2K_EITHER))
"""One codestream serves them all: see the table."""

LOSSY_METHODS = {
    JPEG_BASELINE: "ISO_10918_1",
    JPEG_LS_NEAR: "ISO_14495_1",
    JPEG_2000_LOSSY: "ISO_15444_1",
}
"""What loses something here, and its Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1)."""

REVISION = f"1 imagecodecs {imagecodecs.__version__}"
"""Names everything that decides the bytes of a decoded or encoded frame beside the frame itself; for entity tags."""

JPEG_QUALITY = 90
NEAR = 2
_LEVELS = 4096
"""Lossy JPEG 2000 errs by 1 in so many of the levels that a frame really uses, and by 1 at least (root mean square)."""
_BASE_RESOLUTION = 64
_DECOMPOSITIONS = 5
_MAX_DECOMPOSITIONS = 32

_COLOUR = frozenset({PhotometricInterpretation.RGB, PhotometricInterpretation.YBR_FULL})
_TRANSFORMED = {
    JPEG_2000: PhotometricInterpretation.YBR_RCT,
    JPEG_2000_LOSSY: PhotometricInterpretation.YBR_ICT,
    HTJ2K: PhotometricInterpretation.YBR_RCT,
    HTJ2K_RPCL: PhotometricInterpretation.YBR_RCT,
    HTJ2K_EITHER: PhotometricInterpretation.YBR_RCT,
}


def encoded_description(decoded: PixelDescription, transfer_syntax_uid: str) -> PixelDescription:
    """Return the description that is true of an encoded frame.

    Parameters
    ----------
    decoded
        Of the samples: `gateway.imaging.decode.decoded_description`.
    transfer_syntax_uid
        One of `ENCODERS`.

    Raises
    ------
    NotEncodable
        The transfer syntax is not one this gateway writes, or cannot hold such samples.
    """
    photometric = decoded.photometric_interpretation
    if photometric is PhotometricInterpretation.YBR_FULL_422:
        photometric = PhotometricInterpretation.YBR_FULL  # that is what unpacking makes of it
    allowed_bits = {RLE_LOSSLESS: (8, 16, 32), JPEG_BASELINE: (8,)}.get(transfer_syntax_uid, (8, 16))
    impossible = (
        (transfer_syntax_uid not in ENCODERS, "the gateway does not write it"),
        (decoded.float_kind is not FloatKind.NONE, "it has no floating point samples"),
        (decoded.bits_allocated not in allowed_bits, f"it has no samples of {decoded.bits_allocated} bits"),
        (transfer_syntax_uid == JPEG_BASELINE and decoded.is_signed, "it has no signed samples"),
        (
            transfer_syntax_uid in LOSSY_METHODS and photometric is PhotometricInterpretation.PALETTE_COLOR,
            "a palette's indices cannot be approximated",
        ),
        (decoded.samples_per_pixel == 3 and photometric not in _COLOUR, f"not for {photometric.value}"),
    )
    for is_so, reason in impossible:
        if is_so:
            raise NotEncodable(f"no frame in transfer syntax {transfer_syntax_uid[:64]}: {reason}")
    if photometric in _COLOUR and transfer_syntax_uid == JPEG_BASELINE:
        photometric = PhotometricInterpretation.YBR_FULL_422
    elif photometric is PhotometricInterpretation.RGB:
        photometric = _TRANSFORMED.get(transfer_syntax_uid, photometric)
    return replace(decoded, photometric_interpretation=photometric, planar_configuration=0)


def encode(pixels: Pixels, decoded: PixelDescription, transfer_syntax_uid: str) -> bytes:
    """Encode one frame.

    Parameters
    ----------
    pixels
        (rows, columns, samples), as `gateway.imaging.decode.decode` returns it.
    decoded
        What `decoded_description` says of them.
    transfer_syntax_uid
        One of `ENCODERS`.

    Returns
    -------
    bytes
        The codestream, without item header and padding; `encoded_description` is true of it.

    Raises
    ------
    NotEncodable
        As `encoded_description`.

    References
    ----------
    PS3.5 8.2 "Native or Encapsulated Format Encoding", A.4, Annex G, 10.18
    """
    encoded_description(decoded, transfer_syntax_uid)
    samples = np.ascontiguousarray(pixels if decoded.samples_per_pixel == 3 else pixels[:, :, 0])
    try:
        return ENCODERS[transfer_syntax_uid](samples, decoded, transfer_syntax_uid)
    except MemoryError:
        raise
    except Exception as error:  # each codec has its own exception classes
        raise NotEncodable(f"the encoder of transfer syntax {transfer_syntax_uid} failed") from error


def _is_rgb(decoded: PixelDescription) -> bool:
    return decoded.photometric_interpretation is PhotometricInterpretation.RGB


def _unsigned(samples: Pixels) -> Pixels:
    """The same bits for codecs that have no sign."""
    return samples.view(f"u{samples.dtype.itemsize}")


def _rle(samples: Pixels, decoded: PixelDescription, _uid: str) -> bytes:
    """PS3.5 G.2 to G.5: a segment for each byte of each sample, the most significant first."""
    size = samples.dtype.itemsize
    planes = samples.reshape(decoded.rows, decoded.columns, -1).view(np.uint8)
    segments = []
    for sample in range(decoded.samples_per_pixel):
        for byte in range(size):
            plane = np.ascontiguousarray(planes[:, :, sample * size + size - 1 - byte])
            packed = bytes(imagecodecs.packbits_encode(plane, axis=-1))
            segments.append(packed + b"\0" * (len(packed) % 2))
    offsets, place = [], 64
    for segment in segments:
        offsets.append(place)
        place += len(segment)
    header = struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments)))
    return header + b"".join(segments)


def _jpeg_baseline(samples: Pixels, decoded: PixelDescription, _uid: str) -> bytes:
    if samples.ndim == 2:
        return bytes(imagecodecs.jpeg8_encode(samples, level=JPEG_QUALITY))
    space = imagecodecs.JPEG8.CS
    return bytes(
        imagecodecs.jpeg8_encode(
            samples,
            level=JPEG_QUALITY,
            colorspace=space.RGB if _is_rgb(decoded) else space.YCbCr,
            outcolorspace=space.YCbCr,
            subsampling="422",
        )
    )


def _jpeg_lossless(samples: Pixels, decoded: PixelDescription, _uid: str) -> bytes:
    bits = decoded.bits_allocated
    if not decoded.is_signed and int(samples.max()) >> decoded.bits_stored == 0:
        # Readers extend no sign from Bits Stored, so that signed samples keep all their bits.
        bits = max(decoded.bits_stored, 2)
    plain = _unsigned(samples)
    if samples.ndim == 2:
        return bytes(imagecodecs.jpeg8_encode(plain, lossless=True, predictor=1, bitspersample=bits))
    space = imagecodecs.JPEG8.CS
    named = space.RGB if _is_rgb(decoded) else space.YCbCr
    return bytes(
        imagecodecs.jpeg8_encode(
            plain,
            lossless=True,
            predictor=1,
            bitspersample=bits,
            colorspace=named,
            outcolorspace=named,
            subsampling="444",
        )
    )


def _jpeg_ls(samples: Pixels, decoded: PixelDescription, uid: str) -> bytes:
    near = NEAR if uid == JPEG_LS_NEAR else 0
    bits = np.iinfo(samples.dtype)
    if decoded.is_signed and (int(samples.min()) - near < bits.min or int(samples.max()) + near > bits.max):
        near = 0  # the codec knows no sign: a little more than the largest sample would be the smallest
    return bytes(imagecodecs.jpegls_encode(_unsigned(samples), level=near))


def _jpeg_2000(samples: Pixels, decoded: PixelDescription, uid: str) -> bytes:
    lossy = uid == JPEG_2000_LOSSY
    bits = decoded.bits_stored
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if decoded.is_signed else (0, (1 << bits) - 1)
    smallest, largest = int(samples.min()), int(samples.max())
    if smallest < low or largest > high:
        bits = decoded.bits_allocated  # something stands above High Bit, such as an old overlay
    # The codec counts its decibels from the largest sample that the bits allow; a CT in 16 bits uses a sixteenth of it.
    error = max(1.0, (largest - smallest) / _LEVELS)
    decibels = math.ceil(20 * math.log10(((1 << bits) - 1) / error))
    return bytes(
        imagecodecs.jpeg2k_encode(
            samples,
            level=decibels if lossy else 0,
            codecformat="j2k",
            bitspersample=bits,
            reversible=not lossy,
            mct=_is_rgb(decoded),
            numthreads=1,
        )
    )


def _htj2k(samples: Pixels, decoded: PixelDescription, _uid: str) -> bytes:
    """PS3.5 10.18: RPCL, with TLM, the base resolution at most 64 in one direction; a tile part each resolution."""
    smaller = min(decoded.rows, decoded.columns)
    decompositions = _DECOMPOSITIONS
    while -(-smaller >> decompositions) > _BASE_RESOLUTION and decompositions < _MAX_DECOMPOSITIONS:
        decompositions += 1
    return bytes(
        imagecodecs.htj2k_encode(
            samples,
            rgb=_is_rgb(decoded),
            resolutions=decompositions,
            reversible=True,
            tlm=True,
            tilepart=imagecodecs.HTJ2K.TILEPART.RESOLUTIONS,
        )
    )


ENCODERS: dict[str, Callable[[Pixels, PixelDescription, str], bytes]] = {
    RLE_LOSSLESS: _rle,
    JPEG_BASELINE: _jpeg_baseline,
    JPEG_LOSSLESS: _jpeg_lossless,
    JPEG_LOSSLESS_SV1: _jpeg_lossless,
    JPEG_LS: _jpeg_ls,
    JPEG_LS_NEAR: _jpeg_ls,
    JPEG_2000: _jpeg_2000,
    JPEG_2000_LOSSY: _jpeg_2000,
    HTJ2K: _htj2k,
    HTJ2K_RPCL: _htj2k,
    HTJ2K_EITHER: _htj2k,
}
"""Transfer Syntax UIDs that frames can be written in."""
