"""Uncompressed frames: from bytes to samples and back."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gateway.imaging.description import FloatKind, PixelDescription
from gateway.imaging.errors import FrameDamaged, NotDecodable

Pixels: TypeAlias = npt.NDArray[Any]
"""Samples of a dtype that only the instance's description knows."""


def sample_dtype(description: PixelDescription) -> np.dtype[np.generic]:
    """Return the little endian dtype of one sample: uint8 for Bits Allocated 1."""
    if description.float_kind is not FloatKind.NONE:
        return np.dtype("<f4" if description.float_kind is FloatKind.FLOAT else "<f8")
    size = max(description.bits_allocated // 8, 1)
    signed = description.is_signed and description.bits_allocated > 1
    return np.dtype(f"<{'i' if signed else 'u'}{size}")


def unpack(data: bytes, description: PixelDescription, *, big_endian: bool = False, bit_offset: int = 0) -> Pixels:
    """Turn one uncompressed frame into samples.

    Parameters
    ----------
    data
        The frame's bytes; what follows the frame (padding, the next frame's first bits) is ignored.
    description
        Of the instance. Planar Configuration 0 and 1, and horizontally subsampled YBR_FULL_422.
    big_endian
        The bytes are in Explicit VR Big Endian.
    bit_offset
        Bits before the frame's first pixel in the first byte, 0 to 7: frames of Bits Allocated 1 follow
        each other without padding.

    Returns
    -------
    numpy.ndarray
        (rows, columns, samples), values as stored: bits above High Bit are kept. Bits Allocated 1 gives
        uint8 values 0 and 1. YBR_FULL_422 comes with CB and CR repeated for the second pixel of a pair.

    Raises
    ------
    FrameDamaged
        Too few bytes.

    References
    ----------
    PS3.5 8.1.1 "Pixel Data Encoding of Related Data Elements", 8.2 "Native or Encapsulated Format
    Encoding", PS3.3 C.7.6.3.1.3 "Planar Configuration"
    """
    bits = description.native_bits
    if len(data) * 8 < bits + bit_offset:
        raise FrameDamaged(f"the frame has {len(data)} bytes, its attributes require {(bits + 7) // 8}")
    shape = (description.rows, description.columns, description.samples_per_pixel)
    if big_endian and description.bits_allocated <= 8 and description.is_word_encoded:
        data = _swap_words(data)
    if description.bits_allocated == 1:
        used = np.frombuffer(data, np.uint8, (bits + bit_offset + 7) // 8)
        unpacked = np.unpackbits(used, bitorder="little", count=bits + bit_offset)
        return unpacked[bit_offset:].reshape(shape)
    dtype = sample_dtype(description)
    stored = dtype.newbyteorder(">") if big_endian else dtype
    samples: Pixels = np.frombuffer(data, stored, bits // description.bits_allocated).astype(dtype, copy=False)
    if description.photometric_interpretation.is_paired:
        return _expand_422(samples, description)
    if description.planar_configuration == 1 and description.samples_per_pixel > 1:
        planes = samples.reshape(shape[2], shape[0], shape[1])
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return samples.reshape(shape)


def native_bytes(pixels: Pixels, description: PixelDescription) -> bytes:
    """Turn samples into one frame of Explicit VR Little Endian Pixel Data.

    Parameters
    ----------
    pixels
        (rows, columns, samples), as `unpack` or `gateway.imaging.decode.decode` returned it.
    description
        What the bytes shall agree with: `decoded_description` of the instance's description. Planar
        Configuration 1 gives planes, YBR_FULL_422 gives subsampled pairs, Bits Allocated 1 gives packed
        bits from bit 0 of the first byte.

    Returns
    -------
    bytes
        Without padding: an odd length, or the bits of a next frame, are the caller's to join.
    """
    if description.bits_allocated == 1:
        return np.packbits(pixels.astype(np.uint8, copy=False).reshape(-1), bitorder="little").tobytes()
    samples = pixels.astype(sample_dtype(description), copy=False)
    if description.photometric_interpretation.is_paired:
        return _subsample_422(samples)
    if description.planar_configuration == 1 and description.samples_per_pixel > 1:
        samples = samples.transpose(2, 0, 1)
    return samples.tobytes()


def _swap_words(data: bytes) -> bytes:
    """Undo the byte order of 16-bit words that hold two 8-bit pixels each (PS3.5 8.1.2, VR OW)."""
    if len(data) % 2:
        raise NotDecodable("a big endian frame in 16-bit words has an odd length")
    return np.frombuffer(data, ">u2").astype("<u2").tobytes()


def _expand_422(samples: Pixels, description: PixelDescription) -> Pixels:
    pairs = (description.columns + 1) // 2
    quads = samples.reshape(description.rows, pairs, 4)
    full = np.empty((description.rows, pairs * 2, 3), samples.dtype)
    full[:, 0::2, 0] = quads[:, :, 0]
    full[:, 1::2, 0] = quads[:, :, 1]
    full[:, 0::2, 1:] = quads[:, :, 2:]
    full[:, 1::2, 1:] = quads[:, :, 2:]
    return full[:, : description.columns]


def _subsample_422(samples: Pixels) -> bytes:
    even = samples if samples.shape[1] % 2 == 0 else np.concatenate([samples, samples[:, -1:]], axis=1)
    quads = np.empty((even.shape[0], even.shape[1] // 2, 4), even.dtype)
    quads[:, :, 0] = even[:, 0::2, 0]
    quads[:, :, 1] = even[:, 1::2, 0]
    quads[:, :, 2:] = even[:, 0::2, 1:]
    return quads.tobytes()
