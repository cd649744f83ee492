"""Originals kept as HTJ2K: every byte of them is had as before, whatever happens on the way."""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from gateway import assembly, stores
from gateway.assembly import Core
from gateway.config.storing import EncryptionSettings
from gateway.imaging.pool import ImagingPool
from gateway.services import condense
from gateway.services.recompress import Left, Step
from storage import reconcile
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.errors import ObjectDamaged, StorageError, StorageUnavailable
from storage.index.arrivals import Conflicts
from storage.index.questions import Ageing, Target
from storage.index.sqlite import SqliteIndex
from storage.index.stored import Located, Placed
from storage.objects.base import ByteRange, ObjectInfo, ObjectStore, Segment
from storage.objects.condensed import CondensedObjectStore, condensed_key
from storage.objects.memory import MemoryObjectStore
from storage.reconcile.verifying import Selection, Verification, Wrong, verify
from tests import engines
from tests.gateway.services.test_recompress import MAIN, RLE, keep, rule, service, smooth, store, wheel, whole
from tests.instances import SHARED, part10_file
from tests.storage.reconcile.dump import dump

IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
YBR = {"PhotometricInterpretation": "YBR_FULL"}
INSTEAD = rule(keep="instead")


@pytest.fixture(params=["local+sqlite", "s3+sqlite", "s3+postgres", "local+sqlite, encrypted"])
def core(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Core]:
    pair, _, encrypted = request.param.partition(", ")
    with engines.made(pair, request) as made:
        settings = made.settings(tmp_path / "data")
        if encrypted:
            (tmp_path / "keys").mkdir()
            (tmp_path / "keys" / "one.key").write_bytes(secrets.token_bytes(32))
            encryption = EncryptionSettings(active_key="one", keys_directory=tmp_path / "keys")
            settings = settings.model_copy(update={"encryption": encryption})
        built = assembly.build(settings, "background", any_age=True)
        yield built
        built.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[ImagingPool]:
    with ImagingPool(1, 1 << 30, 60.0) as made:
        yield made


def behind(core: Core) -> ObjectStore:
    """The objects as they are kept."""
    assert isinstance(core.archive.objects, CondensedObjectStore)
    return core.archive.objects._store


def kept(core: Core) -> dict[str, int]:
    """What is kept of instances: key and size."""
    return {info.key: info.size for info in behind(core).list("main/") if "/records/" not in info.key}


def beside(core: Core, located: Located) -> Located:
    found = core.archive.index.beside(located)
    assert found is not None
    return found


def frames(count: int = 3, **attributes: Any) -> Dataset:
    found = smooth(**attributes)
    found.NumberOfFrames = count
    one = found.PixelData
    found.PixelData = b"".join(one[number:] + one[:number] for number in range(count))
    return found


def replaced(core: Core, pool: ImagingPool, body: bytes) -> tuple[Located, Step]:
    """An instance of which the original is kept as HTJ2K."""
    located = store(core, body)
    (step,) = service(core, pool, INSTEAD).round()
    assert step.left is None
    there = kept(core)
    assert sorted(there) == sorted(condensed_key(each.object_key) for each in (located, beside(core, located)))
    assert step.kept == sum(there.values())
    return located, step


# Every byte


@pytest.mark.parametrize(
    "body",
    [
        lambda: wheel("CT_small.dcm"),
        lambda: wheel("MR_small_implicit.dcm"),
        lambda: wheel("examples_rgb_color.dcm"),
        lambda: wheel("examples_palette.dcm"),
        lambda: part10_file(frames(PixelRepresentation=1)),
        lambda: part10_file(frames(rows=95, columns=79, BitsAllocated=8)),
        lambda: part10_file(frames(BitsAllocated=8, samples=3, PlanarConfiguration=1)),
        lambda: part10_file(frames(BitsAllocated=8, samples=3, PlanarConfiguration=1, **YBR)),
        lambda: part10_file(frames(TextValue="x" * 700_000), IMPLICIT),
    ],
    ids=["ct", "implicit", "rgb", "palette", "signed", "odd", "planar", "planar ybr", "large header"],
)  # fmt: skip
def test_every_range_of_it_is_that_of_what_was_sent(core: Core, pool: ImagingPool, body: Any) -> None:
    located = store(core, body())
    before = whole(core, located)
    (step,) = service(core, pool, INSTEAD).round()
    assert step.left is None
    made = beside(core, located)
    there = kept(core)
    assert sorted(there) == sorted(condensed_key(each.object_key) for each in (located, made))
    assert step.kept == sum(there.values()) < located.size
    assert located.size == len(before)
    objects = core.archive.objects
    for each in (located, made):
        data = whole(core, each)
        assert hashlib.sha256(data).hexdigest() == each.sha256
        assert len(data) == each.size
        chosen = random.Random(each.version)
        for _ in range(25):
            start, end = sorted(chosen.randint(0, each.size) for _ in range(2))
            wanted = ByteRange(start, min(end, start + chosen.choice((1, 9, 1 << 20))))
            assert objects.get(each.object_key, wanted) == data[wanted.start : wanted.end]
            piece = objects.read_at(each.object_key, start, 100)
            assert (piece.data, piece.object_size) == (data[start : start + 100], each.size)
        info = objects.head(each.object_key)
        assert (info.size, info.sha256) == (each.size, each.sha256)
        with pytest.raises(ObjectDamaged):
            objects.get(each.object_key, ByteRange(5, each.size + 1))
    assert whole(core, located) == before
    listed = {info.key: info.size for info in objects.list("main/")}
    assert listed == {each.object_key: each.size for each in (located, made)}
    # There is nothing more to do, also for another rule.
    assert list(service(core, pool, rule(keep="instead", name="again")).round()) == []


@pytest.mark.parametrize(
    "body",
    [lambda: wheel("ExplVR_BigEnd.dcm"), lambda: wheel("MR_small_RLE.dcm")],
    ids=["big endian", "rle"],
)  # fmt: skip
def test_what_is_not_native_in_little_endian_stays(core: Core, pool: ImagingPool, body: Any) -> None:
    located = store(core, body())
    (step,) = service(core, pool, INSTEAD).round()
    made = beside(core, located)
    assert (step.left, step.made, step.kept) == (Left.STAYS, made.size, 0)
    assert set(kept(core)) == {located.object_key, made.object_key}


def test_what_has_too_many_frames_stays(core: Core, pool: ImagingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condense, "MAX_FRAMES", 2)
    located = store(core, part10_file(frames()))
    (step,) = service(core, pool, INSTEAD).round()
    assert step.left is Left.STAYS
    assert located.object_key in kept(core)


def test_without_the_rule_everything_is_kept_beside_and_with_it_that_is_replaced(core: Core, pool: ImagingPool) -> None:
    located = store(core, part10_file(smooth()))
    list(service(core, pool).round())
    made = beside(core, located)
    assert set(kept(core)) == {located.object_key, made.object_key}
    (step,) = service(core, pool, INSTEAD).round()
    assert (step.left, step.made) == (None, 0)
    assert step.kept == sum(kept(core).values())
    assert set(kept(core)) == {condensed_key(each.object_key) for each in (located, made)}


@pytest.mark.skipif(not SHARED.is_dir(), reason="without shared/dicom")
def test_every_real_file_is_as_it_was(pool: ImagingPool, tmp_path: Path) -> None:
    settings = engines.EMBEDDED.settings(tmp_path / "data")
    built = assembly.build(settings, "background", any_age=True)
    try:
        before: dict[str, str] = {}
        for path in sorted(SHARED.rglob("*.dcm")):
            if path.stat().st_size < 4 << 20:
                try:
                    target = keep(built, path.read_bytes())
                except StorageError:
                    continue  # what no archive takes
                for each in built.archive.index.locate(target, EVERYTHING):
                    before[each.object_key] = each.sha256
        steps = list(service(built, pool, INSTEAD).round())
        assert sum(step.kept > 0 for step in steps) > 5
        assert not any(step.left in (Left.NOT_EQUAL, Left.REFUSED) for step in steps)
        for key, digest in before.items():
            assert hashlib.sha256(built.archive.objects.get(key)).hexdigest() == digest
    finally:
        built.close()


# What others do with it


def test_a_verification_reads_it_and_finds_what_is_damaged(core: Core, pool: ImagingPool) -> None:
    located, _ = replaced(core, pool, part10_file(frames()))
    assert verified(core) == []
    key = condensed_key(located.object_key)
    data = bytearray(behind(core).get(key))
    assert isinstance(core.archive.objects, CondensedObjectStore)
    places = core.archive.objects.coded(located.object_key)
    for place in (20, places[1].start + places[1].length // 2):
        changed = bytearray(data)
        changed[place] ^= 0x40
        behind(core).delete(key)
        behind(core).put(key, [bytes(changed)])
        core.archive.objects._forget(located.object_key)
        core.archive.objects._forget(beside(core, located).object_key)
        found = dict(verified(core))
        assert found.get(located.object_key) is Wrong.UNREADABLE, place
    behind(core).delete(key)
    core.archive.objects._forget(located.object_key)
    assert dict(verified(core))[located.object_key] is Wrong.MISSING


def verified(core: Core) -> list[tuple[str, Wrong]]:
    found = Verification()
    verify(core.archive, Selection(), found, threads=2)
    return found.wrong


def test_a_reindex_gives_the_same(core: Core, pool: ImagingPool, tmp_path: Path) -> None:
    for _ in range(3):
        store(core, part10_file(frames()))
    list(service(core, pool, INSTEAD).round())
    plain = MemoryObjectStore()
    for info in core.archive.objects.list(""):
        plain.put(info.key, [core.archive.objects.get(info.key)])
    dumps = []
    for number, objects in enumerate((plain, core.archive.objects)):
        index = SqliteIndex(tmp_path / f"{number}.sqlite", max_age_s=float("inf"), fsync=False)
        with closing(index):
            report = reconcile.reindex(Archive(objects, index, core.archive.limits))
            assert (report.indexed, report.damaged) == (6, [])
            dumps.append(dump(index))
    assert dumps[0] == dumps[1]


def test_what_is_erased_leaves_nothing(core: Core, pool: ImagingPool) -> None:
    located, _ = replaced(core, pool, part10_file(frames()))
    assert whole(core, located)
    reconcile.erase(core.archive, reconcile.find(core.archive, MAIN, located.key.study_uid))
    assert kept(core) == {}
    assert list(core.archive.objects.list(f"main/{located.key.study_uid}/")) == []


def test_a_deletion_is_undone_and_in_the_end_carried_out(core: Core, pool: ImagingPool) -> None:
    located, _ = replaced(core, pool, part10_file(frames()))
    before, index = whole(core, located), core.archive.index
    target = Target(MAIN, located.key.study_uid)
    record = core.archive.delete(target, index.versions(target, EVERYTHING))
    assert core.archive.restore(MAIN, record) == 1
    (again,) = index.locate(target, EVERYTHING)
    assert whole(core, again) == before
    core.archive.delete(target, index.versions(target, EVERYTHING))
    assert reconcile.purge(core.archive, 0.0, time.time() + 60) == 2
    assert kept(core) == {}


def test_what_was_erased_while_it_was_replaced_does_not_come_back(core: Core, pool: ImagingPool) -> None:
    located = store(core, part10_file(frames()))
    list(service(core, pool).round())
    objects = core.archive.objects
    assert isinstance(objects, CondensedObjectStore)
    erased = []

    class Erasing(ImagingPool):
        def decode(self, frame: Any) -> bytes:
            if not erased:
                erased.append(reconcile.find(core.archive, MAIN, located.key.study_uid))
                reconcile.erase(core.archive, erased[0])
            return super().decode(frame)

    with Erasing(1, 1 << 30, 60.0) as erasing:
        (step,) = service(core, erasing, INSTEAD).round()
    assert erased
    assert step.left in (Left.REFUSED, Left.NOT_EQUAL)
    assert kept(core) == {}


@pytest.mark.parametrize("moving", [True, False])
def test_a_study_that_moved_is_looked_at_again(core: Core, pool: ImagingPool, moving: bool) -> None:
    """What takes the place of its originals begins in the usual storage class."""
    located = store(core, part10_file(smooth()))
    list(service(core, pool).round())
    index = core.archive.index
    (aged,) = index.aged(Ageing(MAIN, "Z"))
    index.place(MAIN, located.key.study_uid, Placed("STANDARD_IA", located.version, aged.change))
    replacing = service(core, pool, INSTEAD)
    replacing._moving = moving
    assert [step.left for step in replacing.round()] == [None]
    (aged,) = index.aged(Ageing(MAIN, "Z"))
    assert aged.placed is not None
    assert (aged.placed.change == aged.change) is not moving


# Broken off


class Dying:
    """An object store that does so many changes and then no more, before or after the one at which it dies."""

    def __init__(self, store: ObjectStore, changes: int, *, done: bool) -> None:
        self._store = store
        self._changes = changes
        self._done = done

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        self._die(last=False)
        info = self._store.put(key, body)
        self._die(last=True)
        return info

    def delete(self, key: str) -> None:
        self._die(last=False)
        self._store.delete(key)
        self._die(last=True)

    def _die(self, *, last: bool) -> None:
        if last is self._done:
            self._changes -= 1
            if self._changes < 0:
                raise StorageUnavailable("killed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("changes", range(5))
def test_broken_off_at_any_change_it_is_there_and_goes_on(
    core: Core, pool: ImagingPool, changes: int, done: bool
) -> None:
    located = store(core, part10_file(frames()))
    before = whole(core, located)
    objects = core.archive.objects
    assert isinstance(objects, CondensedObjectStore)
    alive = objects._store
    objects._store = Dying(alive, changes, done=done)
    with pytest.raises(StorageUnavailable):
        list(service(core, pool, INSTEAD).round())
    objects._store = alive
    # As another process finds it, which knows nothing of it.
    fresh = stores.object_store(core.settings)
    try:
        assert fresh.get(located.object_key) == before
        keys = [info.key for info in fresh.list("main/")]
        assert keys.count(located.object_key) == 1
        assert len(keys) == len(set(keys)) <= 2
        assert {info.size for info in fresh.list("main/") if info.key == located.object_key} == {len(before)}
    finally:
        fresh.close()
    objects._layouts.clear()
    assert all(step.left is None for step in service(core, pool, INSTEAD).round())
    # A crash between the object and its row leaves one more, which has no row and goes in time.
    reconcile.adopt_orphans(core.archive, 0.0, Conflicts(), time.time() + 60)
    assert set(kept(core)) == {condensed_key(each.object_key) for each in (located, beside(core, located))}
    assert whole(core, located) == before
    assert verified(core) == []


def test_what_is_condensed_otherwise_is_no_reason_to_lose_what_was_sent(core: Core, pool: ImagingPool) -> None:
    located = store(core, part10_file(frames()))
    before = whole(core, located)

    class Wrong(ImagingPool):
        def decode(self, frame: Any) -> bytes:
            found = super().decode(frame)
            return found if frame.transfer_syntax_uid == RLE else bytes([found[0] ^ 1]) + found[1:]

    list(service(core, pool).round())
    with Wrong(1, 1 << 30, 60.0) as wrong:
        (step,) = service(core, wrong, INSTEAD).round()
    assert (step.left, step.kept) == (Left.NOT_EQUAL, 0)
    assert {located.object_key, beside(core, located).object_key} <= set(kept(core))
    assert whole(core, located) == before


def test_an_original_that_is_damaged_is_not_replaced_as_if_it_were_whole(core: Core, pool: ImagingPool) -> None:
    located = store(core, part10_file(frames()))
    list(service(core, pool).round())
    damaged = bytearray(whole(core, located))
    damaged[located.data_offset + 40] ^= 1
    core.archive.objects.delete(located.object_key)
    core.archive.objects.put(located.object_key, [bytes(damaged)])
    (step,) = service(core, pool, INSTEAD).round()
    assert (step.left, step.kept) == (Left.NOT_EQUAL, 0)
    assert {located.object_key, beside(core, located).object_key} <= set(kept(core))
    assert verified(core) == [(located.object_key, Wrong.DIGEST)]


def test_who_reads_while_it_is_replaced_gets_all_of_it(core: Core, pool: ImagingPool) -> None:
    y, x = np.mgrid[:1024, :1024]
    big = smooth(rows=1024, columns=1024)
    big.PixelData = np.round(900 * np.sin(x / 37) * np.cos(y / 29) + 1000).astype("<u2").tobytes() * 3
    big.NumberOfFrames = 3
    located = store(core, part10_file(big))
    before = whole(core, located)
    with core.archive.objects.open(located.object_key) as reader:
        blocks = reader.blocks()
        got = next(blocks)
        (step,) = service(core, pool, INSTEAD).round()
        assert step.kept
        got += b"".join(blocks)
    assert got == before


def test_another_beside_it_is_kept_whole(core: Core, pool: ImagingPool) -> None:
    """What a crash left without a row may get it later: its bytes are its own."""
    located, _ = replaced(core, pool, part10_file(frames()))
    first = beside(core, located)
    data = whole(core, first)
    other = located.key.object_key(ids.version_beside(located.version))
    core.archive.objects.put(other, [data])
    core.archive.objects.delete(first.object_key)
    assert whole(core, located)
    assert core.archive.objects.get(other) == data
