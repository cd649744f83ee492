"""A stored instance as a data set that can be de-identified: everything but its pixels, which stay where they are."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from gateway.errors import NotDeidentified
from storage.archive import InstanceReader
from storage.dicom import file_meta
from storage.dicom.attributes import PIXEL_DATA_TAGS
from storage.dicom.part10 import BulkItem
from storage.index.stored import Located

MAX_HEADER_BYTES = 64 << 20
"""What is held in memory of an instance beside its pixels; who has more is not shown in a view."""

MAX_ITEMS = 100_000
"""Items of sequences: pydicom takes half a minute for a million of them."""

_PIXELS = frozenset(int(tag, 16) for tag in PIXEL_DATA_TAGS)


@dataclass(frozen=True, slots=True)
class Opened:
    """An instance's data set without its pixels, and where these are; None where it has none."""

    data_set: Dataset
    pixels: BulkItem | None


def opened(archive: InstanceReader, located: Located) -> Opened:
    """Read an instance. What stands behind its pixels (padding, signatures of the whole) is left out.

    Raises
    ------
    NotDeidentified
        It is too long, or cannot be read.
    storage.errors.StorageUnavailable
    """
    layout = archive.index.layout(located.version_id)
    pixels = next((item for item in layout.bulk if item.path in PIXEL_DATA_TAGS), None)
    length = located.size - located.data_offset if pixels is None else pixels.offset
    if length > MAX_HEADER_BYTES:
        raise NotDeidentified(f"more than {MAX_HEADER_BYTES} bytes beside its pixels")
    data = bytearray()
    for block in archive.data_set(located, 0, None if pixels is None else pixels.offset):
        data += block
        if len(data) > MAX_HEADER_BYTES:  # a deflated one, that has no pixels
            raise NotDeidentified(f"more than {MAX_HEADER_BYTES} bytes beside its pixels")
    encoding = file_meta.encoding_of(located.transfer_syntax_uid)
    # In pixels, were they here, as many could be by chance; in texts and numbers hardly.
    if data.count(b"\xff\xfe\xe0\x00" if encoding.big_endian else b"\xfe\xff\x00\xe0") > MAX_ITEMS:
        raise NotDeidentified(f"more than {MAX_ITEMS} items of sequences")
    try:
        data_set = read_dataset(
            BytesIO(data),
            encoding.implicit,
            not encoding.big_endian,
            stop_when=lambda tag, _vr, _length: int(tag) in _PIXELS,
        )
    except Exception as error:  # whatever a library makes of what was let in: it is not shown
        raise NotDeidentified(f"its data set cannot be read: {type(error).__name__}") from error
    return Opened(data_set, pixels)
