"""Objects read by several processes."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.errors import StorageUnavailable
from storage.index.arrivals import Arrival
from storage.objects.local import LocalObjectStore
from storage.reconcile import OneReader, ReadingProcesses
from storage.reconcile.reading import Unfit
from tests.instances import CT, data_set, encode, extract

TENANT = ids.tenant("main")


def put(objects: LocalObjectStore, clock: ids.VersionClock, length: int = 32) -> str:
    body = encode(data_set(PixelData=bytes(length)))
    found = extract(body)
    key = ids.InstanceKey(TENANT, found.study_uid, found.series_uid, found.sop_uid).object_key(clock.next())
    objects.put(key, [file_meta.write(file_meta.FileMeta(found.transfer_syntax_uid, CT, found.sop_uid)), body])
    return key


def test_what_several_processes_read_comes_in_the_order_asked_for(tmp_path: Path) -> None:
    open_objects = partial(LocalObjectStore, tmp_path, fsync=False)
    objects, clock = open_objects(), ids.VersionClock()
    # Every seventh takes longer to read than what comes after it.
    keys = [put(objects, clock, 8 << 20 if number % 7 == 0 else 32) for number in range(40)]
    batches = [keys[start : start + 3] for start in range(0, len(keys), 3)]
    with ReadingProcesses(open_objects, Limits(), 3) as readers:
        found = list(readers.read(batches))
    alone = list(OneReader(objects, Limits()).read(batches))
    assert [each.version for each in found if isinstance(each, Arrival)] == [
        ids.parse_object_key(key)[1] for key in keys
    ]
    for ours, theirs in zip(found, alone, strict=True):
        assert isinstance(ours, Arrival)
        assert isinstance(theirs, Arrival)
        assert (ours.extract.metadata, ours.sha256, ours.size) == (theirs.extract.metadata, theirs.sha256, theirs.size)
        assert ours.extract.canonical_digest == theirs.extract.canonical_digest
    objects.close()


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    open_objects = partial(LocalObjectStore, tmp_path, fsync=False)
    objects, clock = open_objects(), ids.VersionClock()
    first, last = put(objects, clock), put(objects, clock)
    damaged, gone = (first.rpartition(".")[0].rpartition(".")[0] + f".{clock.next()}.dcm" for _ in range(2))
    objects.put(damaged, [objects.get(first)[:-8]])
    with ReadingProcesses(open_objects, Limits(), 1) as readers:
        found = list(readers.read([[first, damaged], [gone, last]]))
    assert [type(each) for each in found] == [Arrival, Unfit, Unfit, Arrival]
    assert [each.gone for each in found if isinstance(each, Unfit)] == [False, True]
    objects.close()


def test_a_reading_process_that_dies_ends_the_reading_with_an_error(tmp_path: Path) -> None:
    open_objects = partial(LocalObjectStore, tmp_path, fsync=False)
    objects, clock = open_objects(), ids.VersionClock()
    keys = [put(objects, clock) for _ in range(8)]
    with ReadingProcesses(open_objects, Limits(), 1) as readers:
        found = readers.read([key] for key in keys)
        next(found)
        os.kill(readers.pids[0], signal.SIGKILL)
        with pytest.raises(StorageUnavailable, match=r"reader-1 ended .*fewer workers"):
            list(found)
    objects.close()
