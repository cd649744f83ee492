"""Random histories of storing, deleting, undoing and purging: nothing acknowledged is lost, and a reindex agrees."""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.dicom.origin import Origin
from storage.dicom.part10 import Extract
from storage.errors import ObjectNotFound
from storage.index.arrivals import Conflict, Outcome
from storage.index.base import Index
from storage.index.postgres import PostgresIndex, PostgresSettings
from storage.index.questions import Search, Target
from storage.index.relational import RelationalIndex
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Located, StoredVersion
from storage.objects.condensed import CondensedObjectStore
from storage.objects.container import Coded, Shared
from storage.objects.memory import MemoryObjectStore
from tests.instances import CT, data_set, encapsulated, encode, extract
from tests.postgres import drop_schema, new_schema
from tests.storage.reconcile.dump import dump

TENANT = ids.tenant("main")
STUDIES = (ids.study_uid("1.1"), ids.study_uid("1.2"))
MR = "1.2.840.10008.5.1.4.1.1.4"
CODESTREAM = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class Sent:
    """What a modality sends: two UIDs in two studies, of three patients, with two contents, of two SOP classes."""

    study: str
    series: str
    sop: str
    patient: str
    description: str
    sop_class: str


def decoded(_: bytes, form: str) -> bytes:
    """The pixels of what is condensed."""
    return bytes.fromhex(form)


@cache
def encoded(sent: Sent) -> tuple[bytes, Extract]:
    body = encode(
        data_set(
            StudyInstanceUID=sent.study,
            SeriesInstanceUID=f"{sent.study}.{sent.series}",
            SOPInstanceUID=f"9.{sent.sop}",
            PatientID=sent.patient,
            SeriesDescription=sent.description,
            SOPClassUID=sent.sop_class,
        )
    )
    return body, extract(body)


@cache
def recompressed(sent: Sent) -> tuple[bytes, Extract]:
    """The same, as if its pixels were recompressed."""
    body = encoded(sent)[0]
    head = body[: body.index(b"\xe0\x7f\x10\x00OW")]
    body = head + encapsulated(CODESTREAM)
    return body, extract(body, "1.2.840.10008.1.2.4.202")


STORE = st.builds(
    Sent,
    st.sampled_from(STUDIES),
    st.sampled_from("12"),
    st.sampled_from("12"),
    st.sampled_from(("A", "B", "")),
    st.sampled_from(("one", "two")),
    st.sampled_from((CT, MR)),
)
SOURCES = st.sampled_from(("CT1", "CT2", ""))
STEP = st.one_of(
    st.tuples(st.just("store"), st.tuples(STORE, SOURCES)),
    st.tuples(st.just("store"), st.tuples(STORE, SOURCES)),
    st.sampled_from(STUDIES).map(lambda study: ("delete", study)),
    st.integers(0, 9).map(lambda which: ("undo", which)),
    st.sampled_from(STUDIES).map(lambda study: ("delete at once", study)),
    st.sampled_from(STUDIES).map(lambda study: ("recompress", study)),
    st.sampled_from(STUDIES).map(lambda study: ("delete while it is recompressed", study)),
    st.tuples(st.just("condense"), st.tuples(st.sampled_from(STUDIES), st.integers(1, 4))),
    st.just(("purge", None)),
    st.just(("reindex", None)),
)


class History:
    """An archive and what it owes: the contents acknowledged at each place and not deleted since."""

    def __init__(self, new_index: Callable[[], RelationalIndex]) -> None:
        self.objects = CondensedObjectStore(MemoryObjectStore(), decoded)
        self._new_index = new_index
        self.index = new_index()
        self.archive = Archive(self.objects, self.index, Limits())
        self.owed: set[Sent] = set()
        self.deletions: list[tuple[ids.Version, set[Sent]]] = []
        self.made: set[ids.Version] = set()

    def store(self, sent: Sent, source: str = "CT1") -> None:
        body, found = encoded(sent)
        version = self.archive.new_version()
        commit = self.archive.store(TENANT, version, found, [body], Sender(source), Conflict.VERSION)
        if commit.outcome is Outcome.MISPLACED:
            assert self.owed, "nothing is there that it could be misplaced beside"
        else:
            self.owed.add(sent)

    def recompress(self, study: str) -> None:
        """Put something beside each current version of a study that has nothing there."""
        for located in self.index.locate(Target(TENANT, ids.study_uid(study)), EVERYTHING):
            sent = next(each for each in self.owed if self.is_of(each, located))
            source = located.key.object_key(located.version)
            meta, _, _ = file_meta.read(io.BytesIO(self.objects.get(source)), Limits())
            body, found = recompressed(sent)
            version = ids.version_beside(located.version)
            origin = Origin(located.version, located.sha256, located.transfer_syntax_uid, "")
            sender = Sender(meta.sending_ae_title, meta.receiving_ae_title, meta.source_ae_title)
            known = self.index.beside(located) is not None
            commit = self.archive.store(TENANT, version, found, [body], sender, Conflict.VERSION, made_of=origin)
            assert commit.outcome is (Outcome.DUPLICATE if known else Outcome.ALTERNATIVE)
            if not known:
                self.made.add(version)

    def condense(self, study: str, changes: int) -> None:
        """Keep the originals of a study that have something beside them as that, or as far as so many changes go."""
        for located in self.index.locate(Target(TENANT, ids.study_uid(study)), EVERYTHING):
            beside = self.index.beside(located)
            if beside is None or self.objects.forms(located.object_key) != (True, False):
                continue
            data, made = (self.objects.get(each.object_key) for each in (located, beside))
            end, place = len(data) - 4, made.index(CODESTREAM)
            coded = Coded(CODESTREAM, 4, zlib.crc32(data[end:]))
            names = {"sharers": [beside.object_key], "form": data[end:].hex()}
            self.objects.condense(located.object_key, [data[:end], coded], sha256=located.sha256, **names)
            if changes > 1:
                self.objects.keep_condensed(located.object_key)
            if changes > 2:
                (there,) = self.objects.coded(located.object_key)
                pieces = [made[:place], Shared(there.start, there.length), made[place + 4 :]]
                self.objects.condense(beside.object_key, pieces, sha256=beside.sha256, source=located.object_key)
            if changes > 3:
                self.objects.keep_condensed(beside.object_key)

    def is_of(self, sent: Sent, located: Located) -> bool:
        """Whether the current version of an instance is of what was sent."""
        (metadata,) = self.index.metadata([located.version_id])
        found: bytes = encoded(sent)[1].metadata
        return found == metadata

    def versions(self, study: str) -> list[StoredVersion]:
        """Versions of a study that somebody sent."""
        found = self.index.versions(Target(TENANT, ids.study_uid(study)), EVERYTHING)
        return [each for each in found if each.version not in self.made]

    def delete(self, study: str, times: int = 1, meanwhile: Callable[[str], None] = lambda _: None) -> None:
        """Delete a study; more than once as callers do who looked at the same moment."""
        target = Target(TENANT, ids.study_uid(study))
        versions = self.index.versions(target, EVERYTHING)
        gone = {sent for sent in self.owed if sent.study == study}
        assert len(self.versions(study)) == len(gone)
        meanwhile(study)
        if versions:
            self.deletions += [(self.archive.delete(target, versions), gone) for _ in range(times)]
            self.owed -= gone

    def undo(self, which: int) -> None:
        if which >= len(self.deletions):
            return
        record, gone = self.deletions[which]
        before = self.live_made()
        restored = self.archive.restore(TENANT, record) - len(self.live_made() - before)
        back = {sent for sent in gone - self.owed if self.held(sent)}
        assert len(back) == restored
        self.owed |= back

    def live_made(self) -> set[ids.Version]:
        """What is live of what was recompressed."""
        return {
            each.version for study in STUDIES for each in self.index.versions(Target(TENANT, study), EVERYTHING)
        } & self.made

    def purge(self, _: object) -> None:
        reconcile.purge(self.archive, 0.0, time.time() + 60)

    def reindex(self, _: object) -> None:
        """Go on with an index that was made from the bucket alone, and answers as the one before."""
        before = answers(self.index), dump(self.index)
        self.index.close()
        self.index = self._new_index()
        self.archive = Archive(self.objects, self.index, Limits())
        report = reconcile.reindex(self.archive)
        assert (answers(self.index), dump(self.index)) == before
        assert report.removed == 0
        assert report.damaged == []

    def held(self, sent: Sent) -> bool:
        found = encoded(sent)[1]
        key = ids.InstanceKey(TENANT, found.study_uid, found.series_uid, found.sop_uid)
        return self.index.holds(key, found.canonical_digest)

    def check(self) -> None:
        """Everything owed is live and its object whole, whatever is there can be read; a study is one patient's."""
        assert all(len(self.objects.get(info.key)) == info.size for info in self.objects.list(""))
        assert all(self.held(sent) for sent in self.owed)
        for study in STUDIES:
            target = Target(TENANT, study)
            assert len(self.versions(study)) == len([s for s in self.owed if s.study == study])
            for version in self.index.versions(target, EVERYTHING):
                assert self.whole(version.object_key)
            for located in self.index.locate(target, EVERYTHING):
                assert hashlib.sha256(self.objects.get(located.object_key)).hexdigest() == located.sha256
                assert located.version not in self.made
                beside = self.index.beside(located)
                if beside is not None:
                    assert hashlib.sha256(self.objects.get(beside.object_key)).hexdigest() == beside.sha256
            assert len({sent.patient for sent in self.owed if sent.study == study} - {""}) <= 1

    def whole(self, object_key: str) -> bool:
        try:
            self.objects.head(object_key)
        except ObjectNotFound:
            return False
        return True

    def run(self, steps: list[tuple[str, Any]]) -> None:
        actions: dict[str, Callable[[Any], None]] = {
            "store": lambda what: self.store(*what),
            "delete": self.delete,
            "delete at once": lambda study: self.delete(study, 2),
            "recompress": self.recompress,
            "condense": lambda what: self.condense(*what),
            "delete while it is recompressed": lambda study: self.delete(study, meanwhile=self.recompress),
            "undo": self.undo,
            "purge": self.purge,
            "reindex": self.reindex,
        }
        for name, what in [*steps, ("reindex", None)]:
            actions[name](what)
            self.check()
        self.index.close()


def answers(index: Index) -> list[object]:
    """What clients see, without the index's own numbers."""
    found: list[object] = [index.search(Search(TENANT, level)) for level in Level]
    for study in STUDIES:
        target = Target(TENANT, study)
        found += [index.existence(target, EVERYTHING), index.versions(target, EVERYTHING)]
        for each in index.locate(target, EVERYTHING):
            found.append(
                (each.key, each.version, each.sop_class_uid, each.sha256, list(index.metadata([each.version_id])))
            )
    return [*found, index.quarantined(TENANT)]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, min_size=2, max_size=14))
def test_nothing_acknowledged_is_lost_and_a_reindex_agrees_whatever_the_history(
    steps: list[tuple[str, Any]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = (Path(folder) / f"index-{number}.sqlite" for number in count())
        History(lambda: SqliteIndex(next(names), max_age_s=float("inf"), fsync=False)).run(steps)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=6, max_size=14))
def test_so_it_is_on_postgresql(postgres: str, steps: list[tuple[str, Any]]) -> None:
    schemas: list[PostgresSettings] = []

    def new_index() -> PostgresIndex:
        schemas.append(new_schema(postgres))
        return PostgresIndex(schemas[-1], max_age_s=float("inf"))

    try:
        History(new_index).run(steps)
    finally:
        for schema in schemas:
            drop_schema(schema)
