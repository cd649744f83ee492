"""Instances as a ZIP of a DICOM file-set, written while it is sent."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence

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
            # The same date each time: the same instances are the same bytes.
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                for block in blocks:
                    entry.write(block)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def file_ids(instances: Sequence[Located]) -> Iterator[tuple[str, ...]]:
    """Names of a study's instances as PS3.10 8.2 has them: components of at most 8 of A to Z, 0 to 9 and _."""
    series: dict[SeriesUid, int] = {}
    counts: dict[SeriesUid, int] = {}
    for located in instances:
        uid = located.key.series_uid
        number = series.setdefault(uid, len(series) + 1)
        counts[uid] = counts.get(uid, 0) + 1
        yield FOLDER, f"SE{number:06}", f"I{counts[uid]:07}"
