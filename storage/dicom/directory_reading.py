"""Which files a Basic Directory (DICOMDIR) names."""

from __future__ import annotations

from collections.abc import Iterator

from storage.dicom import file_meta
from storage.dicom.elements import Blocks, Kind, Readable, Tokenizer
from storage.dicom.limits import Limits

_REFERENCED_FILE_ID = 0x00041500


def referenced_files(source: Readable, limits: Limits) -> Iterator[tuple[str, ...]]:
    """The components of each Referenced File ID (0004,1500), in the order of the records.

    They are as they stand: whoever opens a file has to look at them first.

    Raises
    ------
    NotPart10, Truncated, MalformedDataSet, LimitExceeded
        When it comes to that: those before have been given.

    References
    ----------
    PS3.3 F.3.2.2 "Directory Information Module", PS3.10 8.2 "File IDs"
    """
    meta, _, taken = file_meta.read(source, limits)
    tokenizer = Tokenizer(Blocks(_rest(taken, source)), file_meta.encoding_of(meta.transfer_syntax_uid), limits)
    for event in tokenizer:
        if event.kind is Kind.ELEMENT and event.tag == _REFERENCED_FILE_ID:
            text = event.value.decode("ascii", "replace")
            yield tuple(part.strip(" \0") for part in text.split("\\"))


def _rest(taken: bytes, source: Readable) -> Iterator[bytes]:
    yield taken
    while block := source.read(1 << 18):
        yield block
