"""What arrives is de-identified before it is stored, and nothing is kept of what it was.

The same engine makes it that makes a view's instances; here it reads from the spool, where the instance waits, and what
it makes is stored in its place. Where it cannot be vouched for, it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from gateway.context import Caller
from gateway.imaging.pool import ImagingPool
from gateway.services.ingest import Arrived
from gateway.services.spool import Spool, Spooled
from gateway.viewing.definition import Definition
from gateway.viewing.opening import opened
from gateway.viewing.patients import Patient
from gateway.viewing.pixels import PixelWriter
from gateway.viewing.writing import InstanceWriter
from storage.archive import InstanceReader
from storage.dicom import frames, part10
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.errors import ObjectDamaged
from storage.index.stored import Layout, Located
from storage.objects.base import BlocksReader, ByteRange, ObjectReader

EVERY_TITLE = "*"
"""Stands for every AE title that is not named."""

_BLOCK_BYTES = 1 << 20
_ARRIVED = "arrived"
"""Stands where an object's key would."""


class Deidentification:
    """Says whose instances are de-identified, and does it.

    Parameters
    ----------
    definitions
        How, by name; whatever their tenant is, they hold for the one that something arrives for.
    titles, tenants
        The names of definitions by calling AE title, and by tenant where that has none.
    """

    def __init__(
        self,
        definitions: Mapping[str, Definition],
        titles: Mapping[str, str],
        tenants: Mapping[str, str],
        pool: ImagingPool,
        spool: Spool,
        limits: Limits,
    ) -> None:
        self._definitions = definitions
        self._titles = titles
        self._tenants = tenants
        self._pool = pool
        self._spool = spool
        self._limits = limits

    def told(self, caller: Caller, tenant: ids.Tenant, uids: Sequence[str]) -> tuple[str, ...]:
        """See Arriving."""
        definition = self._definition(caller, tenant)
        return tuple(uids) if definition is None else tuple(definition.uid(uid) for uid in uids)

    def changes(self, caller: Caller, tenant: ids.Tenant) -> bool:
        """See Arriving."""
        return self._definition(caller, tenant) is not None

    @contextmanager
    def becoming(self, caller: Caller, tenant: ids.Tenant, arrived: Arrived) -> Iterator[Arrived]:
        """See Arriving."""
        definition = self._definition(caller, tenant)
        if definition is None:
            yield arrived
            return
        with self._deidentified(definition, arrived) as spooled:
            yield replace(Arrived.read(spooled, None, self._limits), names_sender=False)

    def _definition(self, caller: Caller, tenant: ids.Tenant) -> Definition | None:
        title, name = caller.source.calling_ae_title, None
        if title:
            name = self._titles.get(title) or self._titles.get(EVERY_TITLE)
        name = name or self._tenants.get(tenant)
        return replace(self._definitions[name], tenant=tenant) if name else None

    def _deidentified(self, definition: Definition, arrived: Arrived) -> Spooled:
        reader = InstanceReader(_Bytes(arrived.spooled), _Places(arrived.extract), self._limits)
        located = _located(definition.tenant, arrived)
        found = opened(reader, located)
        patient = Patient.of(arrived.extract.metadata, arrived.extract.study_uid)
        cleaner = definition.cleaner(definition.harvested(found.data_set))
        writer = InstanceWriter(reader, definition, PixelWriter(reader, self._pool, self._spool.directory))
        spooling = self._spool.begin()
        try:
            with writer.written(located, found, patient.pseudonymous(definition), cleaner) as made:
                for block in writer.blocks(made.pieces):
                    spooling.write(block)
        except BaseException:
            spooling.discard()
            raise
        return spooling.finish()


def _located(tenant: ids.Tenant, arrived: Arrived) -> Located:
    """What arrived, as if it were stored."""
    extract = arrived.extract
    return Located(
        key=ids.InstanceKey(tenant, extract.study_uid, extract.series_uid, extract.sop_uid),
        sop_class_uid=extract.sop_class_uid,
        version_id=0,
        version=ids.VersionClock().next(),
        object_key=_ARRIVED,
        data_offset=arrived.offset,
        size=arrived.spooled.size,
        sha256="",
        transfer_syntax_uid=extract.transfer_syntax_uid,
        instance_number=None,
    )


class _Bytes:
    """The spooled bytes as the one object that there is."""

    def __init__(self, spooled: Spooled) -> None:
        self._spooled = spooled

    @contextmanager
    def open(self, _key: str, byte_range: ByteRange | None = None) -> Iterator[ObjectReader]:
        """See ObjectStore."""
        span = byte_range or ByteRange(0, self._spooled.size)
        with self._spooled.open() as stream:
            stream.seek(span.start)

            def blocks() -> Iterator[bytes]:
                left = span.length
                while left:
                    block = stream.read(min(left, _BLOCK_BYTES))
                    if not block:
                        raise ObjectDamaged("the spooled instance ends before the range does")
                    left -= len(block)
                    yield block

            yield BlocksReader(span.length, blocks())

    def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        """See ObjectStore."""
        with self.open(key, byte_range) as reader:
            return b"".join(reader.blocks())


class _Places:
    """Where everything lies in the one instance that there is."""

    def __init__(self, extract: part10.Extract) -> None:
        self._extract = extract

    def layout(self, _version_id: int) -> Layout:
        """See Index."""
        return Layout(self._extract.frames, self._extract.bulk)

    def fragments(self, _version_id: int, wanted: Iterable[int]) -> Iterator[frames.Fragments]:
        """See Index."""
        for frame in wanted:
            yield frames.unpack_frame(self._extract.frame_chunks[(frame - 1) // frames.CHUNK_FRAMES], frame)

    def metadata(self, _version_ids: Sequence[int]) -> Iterator[bytes]:
        """See Index."""
        yield self._extract.metadata
