"""Room: quotas of tenants and free space on disks, looked at before anything is written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway import assembly
from gateway.config import Settings
from gateway.config.storing import StorageSettings, TenantSettings
from gateway.context import Caller, Source
from gateway.errors import GatewayError, QuotaExceeded
from gateway.services.ingest import Identified, Stored
from gateway.services.room import Place, Quota, Room, free_bytes
from storage import reconcile
from storage.dicom import identifiers as ids
from storage.errors import StorageFull
from storage.index.arrivals import Outcome
from storage.index.stored import Usage
from tests.callers import THIS_MACHINE
from tests.instances import data_set, part10_file

MAIN = ids.tenant("main")
CALLER = Caller(THIS_MACHINE, Source("DICOMweb", "127.0.0.1"))


def built(folder: Path, **tenant: int) -> assembly.Core:
    storage = StorageSettings(directory=folder, fsync=False)
    return assembly.build(Settings(storage=storage, tenants={"main": TenantSettings(**tenant)}), "test")


def store(core: assembly.Core, body: bytes) -> Stored | Exception:
    spooling = core.spool.begin()
    spooling.write(body)
    try:
        with spooling.finish() as spooled:
            return core.ingest.store(core.ingest.enter(CALLER), spooled)
    except Identified as error:
        return error.reason


def test_usage_counts_every_version_until_it_is_removed_for_good(tmp_path: Path) -> None:
    core = built(tmp_path)
    first, newer = data_set(), data_set()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(newer, keyword, getattr(first, keyword))
    newer.PatientName = "Newer^Name"
    for each in (first, first, newer):
        assert isinstance(store(core, part10_file(each)), Stored)
    sizes = [info.size for info in core.archive.objects.list("main/")]
    assert core.archive.index.usage() == {MAIN: Usage(2, sum(sizes))}

    core.delete.delete(CALLER, ids.study_uid(first.StudyInstanceUID))
    assert core.archive.index.usage() == {MAIN: Usage(2, sum(sizes))}
    reconcile.purge(core.archive, -1.0)
    reconcile.purge(core.archive, -1.0)
    assert core.archive.index.usage() == {MAIN: Usage(0, 0)}
    core.close()


def test_a_full_quota_takes_only_what_is_there_already(tmp_path: Path) -> None:
    core = built(tmp_path, quota_instances=2)
    first = part10_file(data_set())
    assert isinstance(store(core, first), Stored)
    assert isinstance(store(core, part10_file(data_set())), Stored)
    assert isinstance(store(core, part10_file(data_set())), QuotaExceeded)
    again = store(core, first)
    assert isinstance(again, Stored)
    assert again.outcome is Outcome.DUPLICATE
    assert len(list(core.archive.objects.list(""))) == 2
    core.close()


def test_the_last_bytes_of_a_quota_are_given_once_however_many_ask_at_the_same_time(tmp_path: Path) -> None:
    body = len(part10_file(data_set()))
    core = built(tmp_path, quota_bytes=5 * (body + 60))
    ready = threading.Barrier(8)

    def arrive(_: int) -> Stored | Exception:
        ready.wait()
        return store(core, part10_file(data_set()))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(arrive, range(8)))
    stored = [each for each in found if isinstance(each, Stored)]
    assert 1 <= len(stored) <= 5
    assert all(isinstance(each, Stored | QuotaExceeded) for each in found)
    assert core.archive.index.usage()[MAIN].bytes <= 5 * (body + 60)
    core.close()


def test_what_is_about_to_be_stored_counts_until_it_is(tmp_path: Path) -> None:
    core = built(tmp_path)
    room = Room(core.archive.index, {"main": Quota(bytes=100)}, [], 0)
    with ExitStack() as held:
        held.enter_context(room.arriving(MAIN, 60))()
        with pytest.raises(QuotaExceeded), room.arriving(MAIN, 60) as admit:
            admit()
        with room.arriving(ids.tenant("other"), 1000) as admit:
            admit()
    with room.arriving(MAIN, 100) as admit:
        admit()
    core.close()


def test_a_disk_with_less_free_than_is_wanted_refuses_by_its_name(tmp_path: Path) -> None:
    core = built(tmp_path)
    free = free_bytes(tmp_path)
    Room(core.archive.index, {}, [Place("spool", tmp_path)], free // 2).check_disks()
    with pytest.raises(StorageFull, match="free for the spool"):
        Room(core.archive.index, {}, [Place("spool", tmp_path)], free * 2).check_disks()
    core.close()


def test_every_place_that_an_arrival_needs_is_looked_at(tmp_path: Path) -> None:
    settings = Settings(
        storage=StorageSettings(directory=tmp_path / "data", archive_directory=tmp_path / "objects"),
        tenants={"blue": TenantSettings(archive_directory=tmp_path / "blue")},
    )
    found = {place.name: place.directory.name for place in assembly.places(settings)}
    assert found == {"spool": "data", "objects": "objects", "objects of blue": "blue", "audit trail": "audit"}


def test_a_refusal_is_on_the_audit_trail(tmp_path: Path) -> None:
    core = built(tmp_path, quota_instances=0)
    refused = store(core, part10_file(data_set()))
    assert isinstance(refused, GatewayError)
    lines = "".join(path.read_text() for path in (tmp_path / "audit").glob("*.jsonl"))
    assert '"outcome":"refused"' in lines
    assert "QuotaExceeded" in lines
    core.close()
