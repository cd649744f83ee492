"""A source that is another system's S3 bucket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.importing.items import Fate, Item, Told
from storage.dicom.elements import Readable
from storage.objects.foreign_bucket import ForeignBucket
from storage.objects.s3_clients import S3Settings


class Bucket:
    """The objects of a bucket whose keys begin with a prefix, whatever the keys are."""

    def __init__(self, settings: S3Settings, prefix: str) -> None:
        self._settings = settings
        self._prefix = prefix
        self._lock = threading.Lock()
        self._bucket: ForeignBucket | None = None
        self.identity = f"{settings.endpoint_url or ''} s3://{settings.bucket}/{prefix}"

    def __reduce__(self) -> tuple[type[Bucket], tuple[S3Settings, str]]:
        return Bucket, (self._settings, self._prefix)

    def entries(self, source: int) -> Iterator[Item | Told]:
        """See Source."""
        for found in self._opened().list(self._prefix):
            if found.size:
                yield Item(source, found.key, found.key, found.size, f"{found.size}-{found.etag}")
            else:
                yield Told(found.key, Fate.SKIPPED, "empty")

    def _opened(self) -> ForeignBucket:
        with self._lock:
            if self._bucket is None:
                self._bucket = ForeignBucket(self._settings)
            return self._bucket

    @contextmanager
    def open(self, item: Item) -> Iterator[Readable]:
        """See Source."""
        with self._opened().open(item.place) as reader:
            yield reader

    def close(self) -> None:
        """See Source."""
        with self._lock:
            if self._bucket is not None:
                self._bucket.close()
                self._bucket = None
