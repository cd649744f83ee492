"""STOW-RS of metadata and bulk data apart: JSON or XML first, then the values it points to (PS3.18 10.5.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from urllib.parse import urljoin

from gateway.dicomweb import media_types as types
from gateway.dicomweb import multipart, negotiation
from gateway.dicomweb.storing import Keeper, Report
from gateway.errors import InvalidRequest, PayloadTooLarge
from gateway.http.offload import Lane, Offload
from gateway.services.compose import BulkPart, Composer, identity
from gateway.services.spool import Spooled, Spooling
from storage.dicom import compose, json_model, xml_model
from storage.dicom.json_model import JsonDataSet
from storage.dicom.limits import Limits
from storage.errors import MalformedDataSet, StorageError, Unreadable


@dataclass(slots=True)
class _Collected:
    """What has come so far: metadata parts, and bulk parts by the URI that points to them."""

    metadata: list[tuple[str, Spooled]] = field(default_factory=list)
    bulk: dict[str, list[BulkPart]] = field(default_factory=dict)

    def discard(self) -> None:
        for _, spooled in self.metadata:
            spooled.discard()
        for parts in self.bulk.values():
            for part in parts:
                part.spooled.discard()


class MetadataReceiver:
    """Takes one request of metadata and bulk data in. Bulk data waits in the spool until all of it is there.

    Parameters
    ----------
    max_metadata_bytes
        Bound on all metadata parts together: they are held in memory, several times their size.
    base_url
        What relative URIs and Content-Locations are relative to.
    """

    def __init__(
        self,
        keeper: Keeper,
        offload: Offload,
        composer: Composer,
        limits: Limits,
        max_metadata_bytes: int,
        base_url: str,
    ) -> None:
        self._keeper = keeper
        self._offload = offload
        self._composer = composer
        self._limits = limits
        self._max_metadata_bytes = max_metadata_bytes
        self._base_url = base_url + "/"

    async def single(self, blocks: AsyncIterator[bytes], media_type: str) -> Report:
        """A body that is metadata alone."""
        collected, spooling = _Collected(), self._keeper.begin()
        try:
            async for block in blocks:
                await self._keeper.write(spooling, block)
            collected.metadata.append((media_type, spooling.finish()))
            return await self._store(collected)
        finally:
            spooling.discard()
            collected.discard()

    async def parts(self, reader: multipart.MultipartReader, blocks: AsyncIterator[bytes]) -> Report:
        """A multipart body: nothing is stored unless all of it came, since any part may be what an instance needs."""
        collected = _Collected()
        spooling: Spooling | None = None
        headers: dict[str, str] = {}
        try:
            async for block in blocks:
                for event in reader.feed(block):
                    if isinstance(event, multipart.PartBegin):
                        spooling, headers = self._keeper.begin(), event.headers
                    elif isinstance(event, multipart.PartData):
                        if spooling is not None:
                            await self._keeper.write(spooling, event.data)
                    elif spooling is not None:
                        self._collect(collected, headers, spooling.finish())
                        spooling = None
            reader.close()
            return await self._store(collected)
        finally:
            if spooling is not None:
                spooling.discard()
            collected.discard()

    def _collect(self, collected: _Collected, headers: dict[str, str], spooled: Spooled) -> None:
        content_type = next(iter(negotiation.parse(headers.get("content-type", ""))), None)
        name = content_type.type if content_type is not None else types.OCTET_STREAM
        if name in types.METADATA:
            collected.metadata.append((name, spooled))
            return
        syntax = (content_type.parameter("transfer-syntax") or "") if content_type is not None else ""
        part = BulkPart(types.ALIASES.get(name, name), "" if syntax == "*" else syntax, spooled)
        try:
            uri = next((_absolute(self._base_url, uri) for uri in _uris(headers)), None)
            if uri is None:
                raise InvalidRequest("a bulk data part without a Content-Location")
        except (InvalidRequest, MalformedDataSet) as error:
            spooled.discard()
            raise InvalidRequest(str(error)) from error
        collected.bulk.setdefault(uri, []).append(part)

    async def _store(self, collected: _Collected) -> Report:
        if not collected.metadata:
            raise InvalidRequest("the request has no metadata part")
        if sum(spooled.size for _, spooled in collected.metadata) > self._max_metadata_bytes:
            raise PayloadTooLarge(f"more than {self._max_metadata_bytes} bytes of metadata")
        sources = await self._offload.run(Lane.LONG, self._sources, collected.metadata)
        for source in sources:
            await self._compose(source, collected)
        return await self._keeper.report()

    def _sources(self, parts: Iterable[tuple[str, Spooled]]) -> list[object]:
        """Each instance's metadata; raises InvalidRequest for a part that is not of its type."""
        found: list[object] = []
        for name, spooled in parts:
            with spooled.open() as stream:
                text = stream.read()
            try:
                if name == types.DICOM_XML:
                    found.append(xml_model.loads(text, self._limits))
                else:
                    read = json_model.received(text)
                    found.extend(read if isinstance(read, list) else [read])
            except (Unreadable, ValueError) as error:
                reason = str(error) if isinstance(error, Unreadable) else "not JSON"
                raise InvalidRequest(f"the metadata cannot be read: {reason}") from error
        return found

    async def _compose(self, source: object, collected: _Collected) -> None:
        names = ("", "")
        try:
            data_set = compose.checked(source)
            names = identity(data_set)
            spooled = await self._offload.run(Lane.LONG, self._composed, data_set, collected)
        except (StorageError, PayloadTooLarge) as error:
            self._keeper.fail(error, *names)
            return
        await self._keeper.keep(spooled)

    def _composed(self, data_set: JsonDataSet, collected: _Collected) -> Spooled:
        return self._composer.compose(_resolved(data_set, self._base_url), collected.bulk)


def _uris(headers: dict[str, str]) -> Iterable[str]:
    """The names under which metadata may point to a part."""
    if location := headers.get("content-location"):
        yield location
    if identifier := headers.get("content-id"):
        yield f"cid:{identifier.strip('<>')}"


def _absolute(base_url: str, uri: str) -> str:
    """An absolute URI; raises MalformedDataSet for what is none."""
    try:
        return urljoin(base_url, uri)
    except ValueError as error:
        raise MalformedDataSet("a Content-Location or BulkDataURI that is no URI") from error


def _resolved(source: JsonDataSet, base_url: str) -> JsonDataSet:
    """The data set with absolute BulkDataURIs, in sequences as well."""
    found: JsonDataSet = {}
    for tag, element in source.items():
        if not isinstance(element, dict):
            found[tag] = element
        elif "BulkDataURI" in element:
            found[tag] = {**element, "BulkDataURI": _absolute(base_url, str(element["BulkDataURI"]))}
        elif element.get("vr") == "SQ" and isinstance(element.get("Value"), list):
            items = [_resolved(item, base_url) if isinstance(item, dict) else item for item in element["Value"]]
            found[tag] = {**element, "Value": items}
        else:
            found[tag] = element
    return found
