"""Retrieve: instances, metadata, frames and bulk data, as WADO-RS, C-MOVE and C-GET give them."""

from __future__ import annotations

import logging
import zlib
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, starmap

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.context import Caller
from gateway.errors import Gone, NotFound
from gateway.imaging.encode import ENCODERS, HTJ2K_LOSSLESS, LOSSY_METHODS
from gateway.imaging.errors import ImagingError
from gateway.imaging.pool import ImagingPool
from gateway.services.ahead import ReadAhead, Span, begun
from gateway.services.content import Content, held, joined
from gateway.services.frames import FrameReader, swapped
from gateway.services.package import FileIds, zipped
from gateway.services.representation import etag
from gateway.services.transcode import rewriting, served_sop_uid
from storage.archive import Archive
from storage.dicom import file_meta, json_model, reencode, xml_model
from storage.dicom import identifiers as ids
from storage.dicom import keys as conditions
from storage.dicom.attributes import Level
from storage.dicom.directory import FILE_ID, Directory, Member
from storage.dicom.elements import Blocks
from storage.dicom.frames import FrameKind
from storage.dicom.limits import Limits
from storage.dicom.matching import attribute_of
from storage.dicom.part10 import BulkItem
from storage.dicom.vr import WORD_BYTES
from storage.errors import StorageError
from storage.index.questions import Search, Target
from storage.index.stored import Existence, Layout, Located

_log = logging.getLogger("gateway.services")

_SINGLE = ("PatientID", "IssuerOfPatientID")
_ROWS_AT_ONCE = 1000
NEVER_SERVED = frozenset((file_meta.IMPLICIT_VR_LITTLE_ENDIAN, file_meta.EXPLICIT_VR_BIG_ENDIAN))
"""Not used with web services, whatever is asked for (PS3.18 8.7.3)."""


@dataclass(frozen=True, slots=True)
class Found:
    """Instances that a caller may have, and the decision that said so."""

    decision: Decision
    instances: Sequence[Located]

    def etag(self, base_url: str, *parameters: str) -> str:
        """The entity tag of a representation of these instances."""
        return etag(self.decision.view, base_url, (each.version for each in self.instances), *parameters)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An instance on its way to a peer: its data set, and the transfer syntax that it is in; None when none will do."""

    located: Located
    transfer_syntax_uid: str | None
    data_set: Iterator[bytes]


class RetrieveService:
    """Reads the archive for those who may.

    Parameters
    ----------
    near
        Whether objects are where the index is: then no thread need be kept free of one while it waits for the other.
    """

    def __init__(
        self,
        archive: Archive,
        door: Door,
        pool: ImagingPool,
        limits: Limits,
        ahead: ReadAhead | None = None,
        *,
        near: bool = False,
    ) -> None:
        self.near = near
        self._archive = archive
        self._ahead = ahead
        self._door = door
        self._pool = pool
        self._limits = limits

    def close(self) -> None:
        """End what reads ahead."""
        if self._ahead is not None:
            self._ahead.close()

    def locate(
        self,
        caller: Caller,
        study_uid: ids.StudyUid,
        series_uid: ids.SeriesUid | None = None,
        sop_uid: ids.SopUid | None = None,
        *,
        action: Action = Action.READ,
        detail: tuple[str, ...] = (),
    ) -> Found:
        """Current instances under a target that the caller may have.

        Raises
        ------
        NotFound
            Nothing is there, or nothing within the caller's scope.
        Gone
            Everything there was deleted.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        subject = tuple(uid for uid in (study_uid, series_uid, sop_uid) if uid is not None)
        decision = self._door.enter(caller, action, (*subject, *detail))
        target = Target(decision.tenant, study_uid, series_uid, sop_uid)
        instances = self._archive.index.locate(target, decision.scope)
        if not instances:
            existence = self._archive.index.existence(target, decision.scope)
            raise Gone("deleted") if existence is Existence.DELETED else NotFound("no such study, series or instance")
        decision.access.took(instances=len(instances))
        return Found(decision, instances)

    def is_open(self, caller: Caller) -> bool:
        """Whether a caller may retrieve anything at all."""
        return self._door.is_open(caller, Action.READ)

    def matching(self, caller: Caller, keys: Mapping[str, str], *, detail: tuple[str, ...] = ()) -> Iterator[Found]:
        """Current instances that the keys of a retrieval name, study by study.

        What is not there, or not for the caller, is left out.

        Parameters
        ----------
        keys
            By keyword: Patient ID, its issuer, and unique keys of study, series and instance, of which each is one
            value or a list with backslashes between (PS3.4 C.4.2.1.4 "C-MOVE Identifier").

        Raises
        ------
        storage.errors.InvalidIdentifier, storage.errors.InvalidCondition
            A value is none of its attribute.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        uids = {keyword: tuple(text.split("\\")) for keyword, text in keys.items() if keyword not in _SINGLE}
        if "PatientID" in keys or "StudyInstanceUID" not in keys:
            studies = self._studies(caller, keys, detail)
        else:
            studies = [ids.study_uid(uid) for uid in uids["StudyInstanceUID"]]
        series, sops = uids.get("SeriesInstanceUID", ()), uids.get("SOPInstanceUID", ())
        one_series = ids.series_uid(series[0]) if len(series) == 1 else None
        one_sop = ids.sop_uid(sops[0]) if one_series and len(sops) == 1 else None
        for study_uid in dict.fromkeys(studies):
            subject = tuple(uid for uid in (study_uid, one_series, one_sop) if uid is not None)
            decision = self._door.enter(caller, Action.READ, (*subject, *detail))
            located = self._archive.index.locate(
                Target(decision.tenant, study_uid, one_series, one_sop), decision.scope
            )
            instances = [
                each
                for each in located
                if (not series or each.key.series_uid in series) and (not sops or each.key.sop_uid in sops)
            ]
            if instances:
                decision.access.took(instances=len(instances))
                yield Found(decision, instances)

    def _studies(self, caller: Caller, keys: Mapping[str, str], detail: tuple[str, ...]) -> list[ids.StudyUid]:
        """UIDs of the studies that have what is wanted."""
        decision = self._door.enter(caller, Action.READ, detail, query="&".join(sorted(keys)))
        wanted = tuple(
            conditions.single(attribute_of(keyword), text)
            if keyword in _SINGLE
            else conditions.any_of(attribute_of(keyword), text.split("\\"))
            for keyword, text in keys.items()
        )
        found: list[ids.StudyUid] = []
        search = Search(decision.tenant, Level.STUDY, wanted, scope=decision.scope, limit=_ROWS_AT_ONCE, versions=False)
        while rows := self._archive.index.search(search):
            found += [row.study_uid for row in rows]
            search = replace(search, after=rows[-1].position)
        return found

    def sendable(self, located: Located, accepted: Collection[str]) -> str | None:
        """The transfer syntax, of those that a peer takes, in which an instance goes to it without loss; None for none.

        As it is stored, if that is among them; else plainly, or compressed as it can be.
        """
        if located.transfer_syntax_uid in accepted:
            return located.transfer_syntax_uid
        plain = (file_meta.EXPLICIT_VR_LITTLE_ENDIAN, file_meta.IMPLICIT_VR_LITTLE_ENDIAN)
        lossless = (uid for uid in ENCODERS if uid not in LOSSY_METHODS)
        return next((each for each in (*plain, *lossless) if each in accepted and self._makes(located, each)), None)

    def data_set_in(self, located: Located, transfer_syntax_uid: str) -> Iterator[bytes]:
        """The data set of an instance in a transfer syntax that ``sendable`` gave; raises as ``part10``."""
        if transfer_syntax_uid == located.transfer_syntax_uid:
            return self._archive.blocks(located, located.data_offset, located.size - located.data_offset)
        return self._rewritten(located, transfer_syntax_uid)[1]

    def outgoing(
        self, instances: Sequence[Located], accepted: Callable[[Located], Collection[str]]
    ) -> Generator[Outgoing, None, None]:
        """Instances in turn, each as a peer takes it; reads of the next ones are begun meanwhile where they are far.

        Parameters
        ----------
        accepted
            The transfer syntaxes in which the peer takes an instance.
        """
        chosen: deque[tuple[Located, str | None]] = deque()

        def spans() -> Iterator[Span]:
            for each in instances:
                syntax = self.sendable(each, accepted(each))
                chosen.append((each, syntax))
                ahead = self._ahead if syntax == each.transfer_syntax_uid else None
                yield Span(each.size - each.data_offset, partial(self._data_set, each, syntax), ahead)

        with closing(begun(spans())) as reads:
            for blocks in reads:
                yield Outgoing(*chosen.popleft(), blocks)

    def _data_set(self, located: Located, transfer_syntax_uid: str | None) -> Iterator[bytes]:
        return iter(()) if transfer_syntax_uid is None else self.data_set_in(located, transfer_syntax_uid)

    @staticmethod
    def served_syntax(located: Located) -> ids.TransferSyntaxUid:
        """The transfer syntax of an instance "as stored", but for those that are never served."""
        stored = located.transfer_syntax_uid
        if stored in NEVER_SERVED:
            return ids.TransferSyntaxUid(file_meta.EXPLICIT_VR_LITTLE_ENDIAN)
        return stored

    def offers(self, located: Located, transfer_syntax_uid: str) -> bool:
        """Whether ``part10`` gives an instance in a transfer syntax."""
        return transfer_syntax_uid not in NEVER_SERVED and self._makes(located, transfer_syntax_uid)

    def _makes(self, located: Located, transfer_syntax_uid: str) -> bool:
        stored = located.transfer_syntax_uid
        plain = transfer_syntax_uid in (file_meta.EXPLICIT_VR_LITTLE_ENDIAN, file_meta.IMPLICIT_VR_LITTLE_ENDIAN)
        if transfer_syntax_uid == stored or (plain and stored in file_meta.NATIVE):
            return True
        if not plain and transfer_syntax_uid not in ENCODERS:
            return False
        reader = self.frames(located)
        if reader.layout.frames.kind is FrameKind.NONE:
            return plain
        reachable = reader.layout.frames.kind is not FrameKind.DECODE or stored in file_meta.NATIVE
        decoded = file_meta.EXPLICIT_VR_LITTLE_ENDIAN if plain else transfer_syntax_uid
        return reachable and reader.count > 0 and not reader.refusal(decoded)

    def stored(self, located: Located) -> Content:
        """An instance as the Part 10 file that it is stored as."""
        return Content(located.size, lambda start, length: self._archive.blocks(located, start, length), self._ahead)

    def part10(self, located: Located, transfer_syntax_uid: str) -> Iterator[bytes]:
        """An instance as a Part 10 file in a transfer syntax that is offered; a frame at a time is in memory.

        Raises
        ------
        gateway.imaging.errors.ImagingError
            It has to be decoded and cannot be.
        """
        if transfer_syntax_uid == located.transfer_syntax_uid:
            yield from self._archive.blocks(located)
            return
        meta, blocks = self._rewritten(located, transfer_syntax_uid)
        yield file_meta.write(meta)
        yield from blocks

    def _rewritten(self, located: Located, transfer_syntax_uid: str) -> tuple[file_meta.FileMeta, Iterator[bytes]]:
        """File meta and data set in another transfer syntax."""
        kept = self.kept(located, transfer_syntax_uid)
        if kept is not None:
            meta = file_meta.FileMeta(transfer_syntax_uid, located.sop_class_uid, located.key.sop_uid)
            return meta, self._archive.data_set(kept)
        implicit = transfer_syntax_uid == file_meta.IMPLICIT_VR_LITTLE_ENDIAN
        # Native pixels are the same with and without VRs.
        pixels_in = file_meta.EXPLICIT_VR_LITTLE_ENDIAN if implicit else transfer_syntax_uid
        change = rewriting(located, self.frames(located), self.data_set(located), pixels_in)
        # What ``data_set`` gives of a deflated one is inflated already.
        encoding = file_meta.encoding_of(located.transfer_syntax_uid)
        if encoding.deflated:
            encoding = file_meta.encoding_of(file_meta.EXPLICIT_VR_LITTLE_ENDIAN)
        source = Blocks(self._archive.data_set(located))
        return change.meta, reencode.little_endian(
            source, encoding, self._limits, implicit=implicit, edits=change.edits, pixels=change.pixels
        )

    def part10_or_stored(self, located: Located, transfer_syntax_uid: str) -> tuple[str, Iterator[bytes]]:
        """As ``part10``, for one of many: the instance as stored, and that syntax, where its frames cannot be decoded.

        The others of a study are on their way when that shows; one damaged instance shall not end them all.
        """
        blocks = self.part10(located, transfer_syntax_uid)
        try:
            first = next(blocks, b"")
        except ImagingError as error:
            served = self.served_syntax(located)
            _log.warning("an instance goes out as stored, in %s, and not in %s: %s", served, transfer_syntax_uid, error)
            return served, self.part10(located, served)
        return transfer_syntax_uid, chain((first,), blocks)

    def package(self, chosen: Sequence[tuple[Located, str]]) -> Iterator[bytes]:
        """Instances, each in a transfer syntax that is offered, as a ZIP of a file-set with its DICOMDIR at the end."""
        directory = Directory()

        def span(located: Located, wanted: str) -> Span:
            if wanted != located.transfer_syntax_uid:
                return Span(0, lambda: iter(()))  # read while it is transcoded
            return Span(located.size, lambda: self._archive.blocks(located), self._ahead)

        def files() -> Iterator[tuple[str, Iterator[bytes]]]:
            names = FileIds()
            with closing(begun(starmap(span, chosen))) as reads:
                for (located, wanted), blocks in zip(chosen, reads, strict=True):
                    file_id, syntax = names.next(located), wanted
                    if wanted != located.transfer_syntax_uid:
                        syntax, blocks = self.part10_or_stored(located, wanted)  # noqa: PLW2901
                    sop_uid = served_sop_uid(located, syntax)
                    directory.add(Member(file_id, located.sop_class_uid, sop_uid, syntax, self.data_set(located)))
                    yield "/".join(file_id), blocks
            seed = " ".join(f"{located.version} {syntax}" for located, syntax in chosen)
            yield FILE_ID, iter((directory.dumps(seed),))

        return zipped(files())

    def frames(self, located: Located, data_set: json_model.JsonDataSet | None = None) -> FrameReader:
        """A reader of an instance's frames; ``data_set`` is its metadata, where it was read already."""

        def beside() -> FrameReader | None:
            found = self._archive.index.beside(located)
            return None if found is None else self.frames(found)

        def metadata() -> json_model.JsonDataSet:
            return self.data_set(located) if data_set is None else data_set

        return FrameReader(self._archive, self._pool, located, metadata, self._ahead, beside)

    def kept(self, located: Located, transfer_syntax_uid: str) -> Located | None:
        """What is kept beside an instance for a transfer syntax, see ``gateway.services.recompress``."""
        if transfer_syntax_uid == located.transfer_syntax_uid or transfer_syntax_uid not in HTJ2K_LOSSLESS:
            return None
        return self._archive.index.beside(located)

    def kept_file(self, located: Located, kept: Located, transfer_syntax_uid: str) -> Content:
        """An instance as a Part 10 file, with the data set that is kept beside it."""
        meta = file_meta.FileMeta(transfer_syntax_uid, located.sop_class_uid, located.key.sop_uid)
        head = file_meta.write(meta)

        def data_set(start: int, length: int) -> Iterator[bytes]:
            return self._archive.data_set(kept, start, length)

        body = Content(kept.size - kept.data_offset, data_set, self._ahead)
        return joined([len(head), body.size], lambda number: body if number else held(head))

    def data_set(self, located: Located) -> json_model.JsonDataSet:
        """An instance's metadata, BulkDataURIs relative."""
        (text,) = self._archive.index.metadata([located.version_id])
        found: json_model.JsonDataSet = json_model.loads(text)
        return found

    def metadata(self, instances: Sequence[Located], base_url: str) -> Iterator[bytes]:
        """Metadata of instances as a JSON array, BulkDataURIs absolute."""
        begin = b"["
        for text in self._archive.index.metadata([each.version_id for each in instances]):
            yield begin + json_model.with_base(text, base_url)
            begin = b","
        yield b"]"

    def metadata_xml(self, instances: Sequence[Located], base_url: str) -> Iterator[bytes]:
        """Metadata of instances as Native DICOM Model documents, BulkDataURIs absolute."""
        for text in self._archive.index.metadata([each.version_id for each in instances]):
            yield xml_model.dumps(json_model.loads(json_model.with_base(text, base_url)))

    def series_metadata(self, found: Found, base_url: str) -> bytes:
        """Metadata of a whole series in JSON as a gzip body, kept for the next one who asks.

        Scopes speak of studies and series, never of single instances: whoever may have one instance of a series may
        have all of it, so that one body serves every caller with the same view.
        """
        key = found.instances[0].key
        target = Target(key.tenant, key.study_uid, key.series_uid)
        # The generation is read before the instances: a change in between makes the body stale, never wrong.
        generation = self._archive.index.generation(target)
        kept = self._archive.index.series_metadata(target, base_url)
        if kept is not None and kept[0] == generation:
            return kept[1]
        instances = self._archive.index.locate(target, found.decision.scope)
        if not instances:
            raise NotFound("no such series")
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        body = b"".join([*(packer.compress(block) for block in self.metadata(instances, base_url)), packer.flush()])
        try:
            self._archive.index.keep_series_metadata(target, base_url, generation, body)
        except StorageError:
            _log.warning("consolidated metadata of a series was not kept", exc_info=True)  # made again next time
        return body

    def bulk_item(self, located: Located, path: str) -> BulkItem:
        """Where a bulk value lies; raises NotFound."""
        layout = self._archive.index.layout(located.version_id)
        for item in layout.bulk:
            if item.path == path:
                return item
        raise NotFound("the instance has no such bulk value")

    def bulk(self, located: Located, item: BulkItem) -> Content:
        """A bulk value, as little endian."""

        def read(start: int, length: int) -> Iterator[bytes]:
            return self._archive.data_set(located, item.offset + start, length)

        big_endian = located.transfer_syntax_uid == file_meta.EXPLICIT_VR_BIG_ENDIAN
        return swapped(Content(item.length, read), WORD_BYTES.get(item.vr, 1) if big_endian else 1)

    def video(self, located: Located) -> Content:
        """A stored video stream, its fragments joined (PS3.5 8.2.5 to 8.2.10)."""
        (fragments,) = self._archive.index.fragments(located.version_id, [1])

        def fragment(number: int) -> Content:
            offset, size = fragments.ranges[number]
            return Content(size, lambda start, length: self._archive.data_set(located, offset + start, length))

        return joined([size for _, size in fragments.ranges], fragment)

    def read_bulk(self, located: Located, uri: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes of the value behind a relative BulkDataURI, in memory. Raises NotFound."""
        content = self.bulk(located, self.bulk_item(located, uri.rpartition("/bulkdata/")[2]))
        return b"".join(content.read(start, max(min(length, content.size - start), 0)))

    def layout(self, located: Located) -> Layout:
        """Where frames and bulk values of an instance lie."""
        return self._archive.index.layout(located.version_id)
