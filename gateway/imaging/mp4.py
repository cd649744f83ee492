"""Video in MP4 from an AVIF image sequence: the same AV1 samples in the same boxes under another brand.

An AVIF sequence is an ISO base media file whose one track has the handler ``pict`` and repeats for ever. Players want
the handler ``vide``, a brand they know and a duration. Nothing is moved, so that every offset stays true.
See docs/decisions/0009-rendered-video.md.
"""

import struct
from collections.abc import Iterator

_CONTAINERS = frozenset((b"moov", b"trak", b"edts", b"mdia"))
_BRANDS = (b"iso6", b"iso6", b"av01", b"mp41", b"isom", b"iso8")
_VERSION_1 = 1


def from_avif_sequence(data: bytes) -> bytes:
    """Turn an AVIF image sequence into an MP4 video.

    Parameters
    ----------
    data
        As libavif writes it: ``ftyp``, ``meta``, ``moov`` with version 1 headers, ``mdat``.

    Raises
    ------
    ValueError
        It is built in another way.

    References
    ----------
    ISO/IEC 14496-12 4.3, 8.2.2, 8.3.2, 8.4.3, 8.6.6; AV1 Codec ISO Media File Format Binding 2.1
    """
    out = bytearray(data)
    boxes = {path: (start, end) for path, start, end in _boxes(data, 0, len(data), ())}
    try:
        brands = boxes[(b"ftyp",)]
        meta = boxes[(b"meta",)]
        movie, track = boxes[(b"moov", b"mvhd")], boxes[(b"moov", b"trak", b"tkhd")]
        media, handler = boxes[(b"moov", b"trak", b"mdia", b"mdhd")], boxes[(b"moov", b"trak", b"mdia", b"hdlr")]
    except KeyError as error:
        raise ValueError("not an AVIF image sequence of one track") from error
    if any(data[start + 8] != _VERSION_1 for start, _ in (movie, track, media)):
        raise ValueError("the sequence has headers of version 0")
    # The brands of a shorter list are repeated: the box keeps its length.
    room = (brands[1] - brands[0] - 12) // 4
    minor = b"\0\0\0\0"
    names = [*_BRANDS[1:], *[_BRANDS[1]] * room][:room]
    struct.pack_into("4s4s", out, brands[0] + 8, _BRANDS[0], minor)
    out[brands[0] + 16 : brands[1]] = b"".join(names)[: brands[1] - brands[0] - 16]
    out[meta[0] + 4 : meta[0] + 8] = b"free"
    out[handler[0] + 16 : handler[0] + 20] = b"vide"
    timescale, duration = struct.unpack_from(">IQ", data, media[0] + 28)
    (movie_timescale,) = struct.unpack_from(">I", data, movie[0] + 28)
    shown = duration * movie_timescale // timescale
    for start in (movie[0], track[0], media[0]):
        struct.pack_into(">QQ", out, start + 12, 0, 0)  # the clock: the same request has to give the same bytes
    struct.pack_into(">Q", out, movie[0] + 32, shown)
    struct.pack_into(">Q", out, track[0] + 36, shown)
    edits = boxes.get((b"moov", b"trak", b"edts", b"elst"))
    if edits is not None:
        out[edits[0] + 9 : edits[0] + 12] = b"\0\0\0"  # no repetition
    return bytes(out)


def _boxes(
    data: bytes, start: int, end: int, parents: tuple[bytes, ...]
) -> Iterator[tuple[tuple[bytes, ...], int, int]]:
    while start + 8 <= end:
        length = int.from_bytes(data[start : start + 4], "big")
        kind = data[start + 4 : start + 8]
        if length < 8 or start + length > end:
            raise ValueError("a box that passes its container")
        yield (*parents, kind), start, start + length
        if kind in _CONTAINERS:
            yield from _boxes(data, start + 8, start + length, (*parents, kind))
        start += length
