"""Lists of an S3 bucket in key order, also from a server that sorts directory by directory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

from storage.errors import StorageUnavailable
from storage.objects.base import ObjectInfo
from storage.objects.keys import is_key
from storage.objects.s3_clients import S3Settings
from storage.objects.s3_faults import LIBRARY_ERRORS, fault_of, raise_unavailable


class Listing:
    """Lists objects below the settings' prefix by a boto3 client."""

    def __init__(self, client: Any, settings: S3Settings) -> None:
        self._client = client
        self._bucket = settings.bucket
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._by_directory = settings.lists_by_directory

    def objects(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Objects whose key begins with ``prefix`` and is greater than ``start_after``, by code point."""
        if self._by_directory is None:
            answer = self._page(Prefix=self._prefix + prefix, MaxKeys=1)
            server = answer["ResponseMetadata"]["HTTPHeaders"].get("server", "")
            self._by_directory = "seaweedfs" in server.lower()
        if self._by_directory:
            yield from self._list_directory(prefix, start_after)
            return
        last = ""
        after = {"StartAfter": self._prefix + start_after} if start_after else {}
        for page in self._pages(Prefix=self._prefix + prefix, **after):
            for info in self._infos(page):
                if info.key <= last:
                    raise StorageUnavailable("the server does not list by code point: set lists_by_directory")
                last = info.key
                yield info

    def _list_directory(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Key order from a server that sorts names within directories: ``a/x`` before ``a-b``.

        The names come sorted without the slash that ends those of directories; a directory waits until every
        name that goes before it with the slash has passed. Only names that begin with each other ever wait.
        """
        waiting: list[tuple[str, ObjectInfo | None]] = []
        for page in self._pages(Prefix=self._prefix + prefix, Delimiter="/"):
            entries: list[tuple[str, ObjectInfo | None]] = [(info.key, info) for info in self._infos(page)]
            entries += [(one["Prefix"].removeprefix(self._prefix), None) for one in page.get("CommonPrefixes", ())]
            for entry in sorted(entries, key=lambda entry: entry[0].removesuffix("/")):
                while waiting and waiting[0][0] < entry[0].removesuffix("/"):
                    yield from self._unfold(heapq.heappop(waiting), start_after)
                heapq.heappush(waiting, entry)
        while waiting:
            yield from self._unfold(heapq.heappop(waiting), start_after)

    def _unfold(self, entry: tuple[str, ObjectInfo | None], start_after: str) -> Iterator[ObjectInfo]:
        key, info = entry
        if info is not None:
            if key > start_after:
                yield info
        elif key > start_after or start_after.startswith(key):
            yield from self._list_directory(key, start_after)

    def _pages(self, **query: str) -> Iterator[Mapping[str, Any]]:
        more: dict[str, str] = {}
        while True:
            page = self._page(**query, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _page(self, **query: object) -> Mapping[str, Any]:
        try:
            page: Mapping[str, Any] = self._client.list_objects_v2(Bucket=self._bucket, **query)
        except LIBRARY_ERRORS as error:
            raise_unavailable(fault_of(error), error)
        return page

    def _infos(self, page: Mapping[str, Any]) -> Iterator[ObjectInfo]:
        for one in page.get("Contents", ()):
            key = one["Key"].removeprefix(self._prefix)
            if is_key(key):
                yield ObjectInfo(key, one["Size"], None, one["LastModified"].timestamp())
