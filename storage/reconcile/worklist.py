"""The instances of a bucket in the order in which they arrived, whatever the order of their keys.

A reindex replays the archive's history, and a version says when it was. Millions of keys do not fit into memory, so
they are sorted in files without a name, which are gone when their process is.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from storage import records
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier
from storage.objects.base import ObjectInfo, ObjectStore
from storage.reconcile.report import Report

_RUN = 200_000
"""Keys that are sorted in memory at a time, some 60 MB."""
_BATCH_KEYS = 50
_BATCH_BYTES = 64 << 20


class Worklist:
    """What a bucket holds, listed once.

    Parameters
    ----------
    folder
        Where the files are that are sorted in; the system's folder for temporary files when not given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._run: list[str] = []
        self._runs: list[IO[str]] = []
        self.instances = 0
        self.tenants: set[ids.Tenant] = set()

    def fill(self, objects: ObjectStore, report: Report, progress: Callable[[Report], None] = lambda _: None) -> None:
        """List a bucket. What is not of the archive's form is reported, and not in the list."""
        for info in objects.list(""):
            if records.is_beside(info.key):
                continue
            report.objects += 1
            version = self._version_of(info.key, report)
            if version is not None:
                self._add(f"{version} {info.size} {info.key}\n")
            progress(report)

    def add_unknown(
        self, infos: Iterable[ObjectInfo], known: Callable[[Sequence[str]], frozenset[str]], report: Report
    ) -> None:
        """Take those of some objects, no more than fit into memory, that are not known."""
        found = {
            info.key: (version, info.size)
            for info in infos
            if (version := self._version_of(info.key, report)) is not None
        }
        for key in found.keys() - known(list(found)):
            version, size = found[key]
            self._add(f"{version} {size} {key}\n")

    def _version_of(self, key: str, report: Report) -> ids.Version | None:
        """The version of an instance's object; None for a record, and for a foreign object, which is reported."""
        try:
            self.tenants.add(ids.tenant(key.partition("/")[0]))
            return None if records.is_record(key) else ids.parse_object_key(key)[1]
        except InvalidIdentifier as error:
            report.damaged.append((key, str(error)))
            return None

    def _add(self, line: str) -> None:
        self.instances += 1
        self._run.append(line)
        if len(self._run) == _RUN:
            self._run.sort()
            file = tempfile.TemporaryFile("w+", encoding="ascii", dir=self._folder)  # noqa: SIM115 - see close
            file.writelines(self._run)
            self._runs.append(file)
            self._run = []

    def batches(self) -> Iterator[list[str]]:
        """Object keys in the order of their versions, some at a time: not too many, nor of too many bytes together."""
        self._run.sort()
        for file in self._runs:
            file.seek(0)
        batch: list[str] = []
        size = 0
        for line in heapq.merge(self._run, *self._runs):
            _, length, key = line.rstrip("\n").split(" ")
            batch.append(key)
            size += int(length)
            if len(batch) == _BATCH_KEYS or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        for file in self._runs:
            file.close()
        self._runs.clear()
