"""Read dimensions, components and precision from a compressed frame without decoding it.

Codecs trust these numbers and allocate by them, so they are compared with the instance's attributes
before any codec sees the frame. Every loop here ends after a fixed number of steps.
"""

import struct
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from gateway.imaging.errors import FrameDamaged, FrameMismatch, NotDecodable

MAX_SEGMENTS = 4096
"""Marker segments or boxes read before the frame header; a header with an ICC profile has at most 255."""

_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_END_OF_HEADER = frozenset({0xD9, 0xDA})
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER_SIZ = 0xFF51
_MAX_TILES = 65535


class JpegColour(Enum):
    """What the JPEG's own markers say about its colour space."""

    UNSTATED = "no marker"
    RGB = "Adobe marker without transform, or components named R, G, B"
    YCBCR = "Adobe marker with transform 1, or a JFIF marker"


@dataclass(frozen=True, slots=True)
class CodestreamHeader:
    """What a codestream says of itself: pixels, samples a pixel, bits a sample."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False
    colour: JpegColour = JpegColour.UNSTATED


def read_jpeg_header(data: bytes, processes: frozenset[int]) -> CodestreamHeader:
    """Read a JPEG or JPEG-LS frame header.

    Parameters
    ----------
    data
        The frame's codestream, from SOI.
    processes
        Low bytes of the SOF markers that the transfer syntax allows: 0xC0 baseline, 0xC1 extended,
        0xC2 progressive, 0xC3 lossless, 0xF7 JPEG-LS.

    Raises
    ------
    FrameDamaged
        No frame header, or a broken one; or the end of image marker is missing, which libjpeg would
        fill with grey and not report.
    NotDecodable
        Another JPEG process than the transfer syntax says, or a number of lines given only later (DNL).

    References
    ----------
    ITU-T T.81 B.2.2 "Frame header syntax"; ITU-T T.87 C.2.2; PS3.5 A.4.1 "JPEG Image Compression"
    """
    if data[:2] != b"\xff\xd8":
        raise FrameDamaged("the frame has no JPEG start of image")
    if data.rfind(b"\xff\xd9") < 0:
        raise FrameDamaged("the JPEG has no end of image")
    colour = JpegColour.UNSTATED
    adobe = False
    position = 2
    for _ in range(MAX_SEGMENTS):
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if len(data) < position + 4 or data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker in _NO_LENGTH:
            position += 2
            continue
        if marker in _END_OF_HEADER:
            break
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        if length < 2 or len(body) != length - 2:
            break
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = True
            colour = JpegColour.YCBCR if body[11] == 1 else JpegColour.RGB
        elif marker == 0xE0 and body[:5] == b"JFIF\0" and not adobe:
            colour = JpegColour.YCBCR
        elif marker in _START_OF_FRAME or marker == 0xF7:
            if marker not in processes:
                raise NotDecodable(f"JPEG process SOF 0x{marker:02X} is not of this transfer syntax")
            return _jpeg_frame(body, colour)
        position += 2 + length
    raise FrameDamaged("the JPEG has no frame header")


def _jpeg_frame(body: bytes, colour: JpegColour) -> CodestreamHeader:
    if len(body) < 6:
        raise FrameDamaged("the JPEG frame header is too short")
    precision, rows, columns, components = struct.unpack_from(">BHHB", body)
    if len(body) < 6 + 3 * components:
        raise FrameDamaged("the JPEG frame header is too short")
    if rows == 0 or columns == 0:
        raise NotDecodable("the JPEG gives its size only after its pixels")
    names = bytes(body[6 + 3 * index] for index in range(components))
    if colour is JpegColour.UNSTATED and names == b"RGB":
        colour = JpegColour.RGB
    return CodestreamHeader(rows, columns, components, precision, colour=colour)


def read_jpeg2000_header(data: bytes) -> CodestreamHeader:
    """Read the SIZ marker segment of a JPEG 2000 or HTJ2K codestream, bare or inside JP2 boxes.

    Raises
    ------
    FrameDamaged
        No SIZ where it must be, or impossible numbers in it.
    NotDecodable
        Subsampled components, or components of different precision.

    References
    ----------
    ITU-T T.800 A.5.1 "Image and tile size (SIZ)", I.4 "Box definition"; PS3.5 A.4.4
    """
    start = _codestream_start(data)
    if int.from_bytes(data[start + 2 : start + 4], "big") != _MARKER_SIZ:
        raise FrameDamaged("the JPEG 2000 codestream does not start with SIZ")
    try:
        length, _, x1, y1, x0, y0, tile_width, tile_height, tile_x, tile_y, components = struct.unpack_from(
            ">HH8IH", data, start + 4
        )
    except struct.error as error:
        raise FrameDamaged("the JPEG 2000 SIZ is too short") from error
    parts = data[start + 42 : start + 42 + 3 * components]
    if components == 0 or length != 38 + 3 * components or len(parts) != 3 * components:
        raise FrameDamaged("the JPEG 2000 SIZ has a wrong length")
    if x1 <= x0 or y1 <= y0 or tile_width == 0 or tile_height == 0 or tile_x > x0 or tile_y > y0:
        raise FrameDamaged("the JPEG 2000 SIZ has an impossible size")
    tiles = -(-(x1 - tile_x) // tile_width) * -(-(y1 - tile_y) // tile_height)
    if tiles > _MAX_TILES:
        raise FrameDamaged(f"the JPEG 2000 SIZ has {tiles} tiles")
    if len(set(parts[0::3])) != 1 or set(parts[1::3]) != {1} or set(parts[2::3]) != {1}:
        raise NotDecodable("the JPEG 2000 components differ in precision or size")
    return CodestreamHeader(
        rows=y1 - y0,
        columns=x1 - x0,
        components=components,
        precision=(parts[0] & 0x7F) + 1,
        signed=bool(parts[0] & 0x80),
    )


def _codestream_start(data: bytes) -> int:
    """Find SOC. PS3.5 forbids the JP2 boxes, but some senders leave them in."""
    if data[:2] == b"\xff\x4f":
        return 0
    if data[4:8] == b"jP  ":
        position = 0
        for _ in range(MAX_SEGMENTS):
            length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
            if kind == b"jp2c":
                start = position + (16 if length == 1 else 8)
                if data[start : start + 2] == b"\xff\x4f":
                    return start
                break
            if length < 8:
                break
            position += length
    raise FrameDamaged("the frame has no JPEG 2000 codestream")


def rle_segments(data: bytes, expected: int) -> tuple[bytes, ...]:
    """Split an RLE frame into its segments, most significant byte plane of the first sample first.

    Parameters
    ----------
    data
        RLE header of 64 bytes, then the segments.
    expected
        Segments that the attributes require: samples a pixel times bytes a sample.

    Raises
    ------
    FrameDamaged
        The header is short, or offsets do not rise inside the frame.
    FrameMismatch
        Another number of segments.

    References
    ----------
    PS3.5 G.3 "The RLE Algorithm", G.5 "RLE Header Format"
    """
    if len(data) < 64:
        raise FrameDamaged("the RLE header is too short")
    count, *offsets = struct.unpack_from("<16I", data)
    if count != expected:
        raise FrameMismatch(f"the RLE frame has {count} segments, its attributes require {expected}")
    bounds = [*offsets[:count], len(data)]
    if bounds[0] < 64 or any(end <= start for start, end in pairwise(bounds)):
        raise FrameDamaged("the RLE segment offsets are not inside the frame")
    return tuple(data[start:end] for start, end in pairwise(bounds))
