"""An index of a release that did not keep who sent its instances learns it from the objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.index.arrivals import Conflict
from storage.index.postgres import PostgresIndex
from storage.index.questions import Target
from storage.index.relational import RelationalIndex
from storage.index.sqlite import SqliteIndex
from storage.index.writing import Writer
from storage.objects.memory import MemoryObjectStore
from tests.instances import data_set, encode, extract
from tests.postgres import drop_schema, new_schema
from tests.storage.reconcile.dump import dump

MAIN = ids.tenant("main")


@pytest.fixture(params=["sqlite", "postgres"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RelationalIndex]:
    if request.param == "sqlite":
        lite = SqliteIndex(tmp_path / "index.sqlite")
        yield lite
        lite.close()
        return
    settings = new_schema(request.getfixturevalue("postgres"))
    found = PostgresIndex(settings)
    yield found
    found.close()
    drop_schema(settings)


def store(archive: Archive, source: str, **values: str) -> Target:
    body = encode(data_set(**values))
    found = extract(body)
    archive.store(MAIN, archive.new_version(), found, [body], Sender(source, "GATEWAY"), Conflict.VERSION)
    return Target(MAIN, found.study_uid)


def as_an_earlier_release_left_it(index: RelationalIndex) -> None:
    """What the schema's file makes of rows that were there before it."""

    def forget(writer: Writer) -> None:
        for statement in (
            "UPDATE version SET source_ae_title = NULL",
            "DELETE FROM series_source",
            "INSERT INTO series_source (series, source_ae_title) SELECT id, '' FROM series",
        ):
            writer.db.write(statement, ())

    index._write(forget)


def test_the_sources_are_those_of_the_objects(index: RelationalIndex) -> None:
    archive = Archive(MemoryObjectStore(), index, Limits())
    place = {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"}
    for source in ("CT1", "CT1", "CT2"):
        store(archive, source, **place)
    store(archive, "MR1")
    store(archive, "")
    deleted = store(archive, "US1")
    archive.delete(deleted, index.versions(deleted, EVERYTHING))
    before = dump(index)
    as_an_earlier_release_left_it(index)
    assert dump(index) != before
    # An instance that comes meanwhile does not make its series known.
    store(archive, "CT1", **place)
    assert {row["source_ae_title"] for row in dump(index)["series_source"] if row["study_uid"] == "1.1"} == {"CT1", ""}
    assert reconcile.learn_sources(archive) == 6
    after = dump(index)
    assert after["series_source"] == before["series_source"]
    assert [row for row in after["version"] if row in before["version"]] == before["version"]
    assert reconcile.learn_sources(archive) == 0


def test_of_an_object_that_cannot_be_read_it_stays_unknown(index: RelationalIndex) -> None:
    archive = Archive(MemoryObjectStore(), index, Limits())
    gone, damaged = store(archive, "CT1"), store(archive, "CT1")
    as_an_earlier_release_left_it(index)
    (version,) = index.versions(gone, EVERYTHING)
    archive.objects.delete(version.object_key)
    (version,) = index.versions(damaged, EVERYTHING)
    archive.objects.delete(version.object_key)
    archive.objects.put(version.object_key, [b"no instance at all"])
    assert reconcile.learn_sources(archive) == 2
    assert {row["source_ae_title"] for row in dump(index)["series_source"]} == {""}
    assert reconcile.learn_sources(archive) == 0
