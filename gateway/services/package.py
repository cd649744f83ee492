"""Instances as a ZIP of a DICOM file-set, written while it is sent."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

from storage.dicom.identifiers import SeriesUid
from storage.index.stored import Located

FOLDER = "DICOM"


class _Sink:
    """Takes what the ZIP writer writes until it is sent; it cannot seek, so that nothing is written twice."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here for anything."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def zipped(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """A ZIP archive of files by name, stored without compression, with 64-bit sizes (APPNOTE 4.3.9.2, 4.5.3).

    Images that compress are compressed already; the sizes stand after each file and in the directory at the end.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, blocks in files:
            with entry_of(archive, name) as entry:
                for block in blocks:
                    entry.write(block)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def entry_of(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A file of a ZIP archive, to be written."""
    # The same date each time: the same instances are the same bytes.
    return archive.open(zipfile.ZipInfo(name), "w", force_zip64=True)


class FileIds:
    """Names of instances as PS3.10 8.2 has them: components of at most 8 of A to Z, 0 to 9 and _."""

    def __init__(self) -> None:
        self._series: dict[SeriesUid, int] = {}
        self._counts: dict[SeriesUid, int] = {}

    def next(self, located: Located) -> tuple[str, ...]:
        """The name of the next instance."""
        uid = located.key.series_uid
        number = self._series.setdefault(uid, len(self._series) + 1)
        self._counts[uid] = self._counts.get(uid, 0) + 1
        return FOLDER, f"SE{number:06}", f"I{self._counts[uid]:07}"
