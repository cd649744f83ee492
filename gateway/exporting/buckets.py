"""A target that is an S3 bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from io import BufferedRandom

from gateway.exporting.files import manifest_names
from gateway.exporting.items import MANIFEST, Item, Kind, NotExported, Put
from storage.errors import ObjectExists
from storage.objects.base import MadeSegment
from storage.objects.s3 import S3ObjectStore, S3Settings

_BLOCK_BYTES = 1 << 20


class Bucket:
    """Objects below the settings' prefix, named as the files of a directory are.

    An object that is there with the right size is left, one with another size is not overwritten.
    """

    at_once = 8

    def __init__(self, settings: S3Settings) -> None:
        self._store = S3ObjectStore(settings)
        self._there: Mapping[str, int] = {}

    def expect(self, _kinds: Collection[Kind]) -> None:
        """See Target: an object is an object."""

    def begin(self, items: Sequence[Item]) -> None:
        """See Target."""
        self._there = {info.key: info.size for info in self._store.list(f"{items[0].folder}/")}

    def put(self, item: Item) -> Put:
        """See Target."""
        path, size = item.path, item.located.size
        there = self._there.get(path)
        if there == size:
            return Put(path, before=True)
        if there is not None:
            raise NotExported("another object is in its place")
        try:
            self._store.put(path, [MadeSegment(size, item.blocks)])
        except ObjectExists as error:
            raise NotExported("another export has just written it") from error
        return Put(path)

    def finish(self, manifest: BufferedRandom) -> None:
        """See Target."""
        digest = hashlib.file_digest(manifest, "sha256").hexdigest()
        size = manifest.tell()
        there = {info.key for info in self._store.list(MANIFEST)}
        for name in manifest_names():
            if name not in there:
                self._store.put(name, [MadeSegment(size, partial(_blocks, manifest))])
                return
            if self._store.head(name).sha256 == digest:
                return

    def close(self) -> None:
        """See Target."""
        self._store.close()


def _blocks(file: BufferedRandom) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        yield block
