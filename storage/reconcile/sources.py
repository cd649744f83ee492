"""Who sent instances, for an index of a release that did not keep it: told by the objects themselves."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

from storage.archive import Archive
from storage.dicom import file_meta
from storage.errors import ObjectDamaged, ObjectNotFound, Unreadable
from storage.index.stored import Unsourced
from storage.objects.base import ByteRange

_AT_ONCE = 200
_READERS = 8


def learn_sources(archive: Archive) -> int:
    """Look into some objects of which nobody has looked who sent them; how many it was, 0 when all are known.

    Only the bytes before their data sets are read. Of an object that is not there, or cannot be read, it stays unknown.
    """
    found = archive.index.unsourced(_AT_ONCE)
    if not found:
        return 0
    with ThreadPoolExecutor(_READERS, thread_name_prefix="sources") as readers:
        titles = readers.map(lambda each: _source_ae_title(archive, each), found)
        archive.index.note_sources({each.version: title for each, title in zip(found, titles, strict=True)})
    return len(found)


def _source_ae_title(archive: Archive, unsourced: Unsourced) -> str:
    try:
        head = archive.objects.get(unsourced.object_key, ByteRange(0, unsourced.data_offset))
        return file_meta.read(io.BytesIO(head), archive.limits)[0].source_ae_title
    except (ObjectNotFound, ObjectDamaged, Unreadable):
        return ""
