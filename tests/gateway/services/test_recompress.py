"""Recompression: what is made has the pixels of what was sent, which stays as it is; everything else is left alone."""

from __future__ import annotations

import hashlib
import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from gateway import assembly
from gateway.assembly import Core
from gateway.config.keeping import RecompressionRule
from gateway.config.storing import TenantSettings
from gateway.imaging.pool import ImagingPool
from gateway.services import recompress, room
from gateway.services.recompress import Left, RecompressionService, Step
from storage.archive import Sender
from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.dicom.origin import loads
from storage.errors import StorageError, StorageFull, StorageUnavailable
from storage.index.arrivals import Conflict
from storage.index.questions import Target
from storage.index.stored import Located
from storage.objects.base import ByteRange, ObjectInfo, ObjectStore, Segment
from storage.objects.condensed import CondensedObjectStore
from tests import engines
from tests.instances import SHARED, data_set, part10_file

MAIN = ids.tenant("main")
RPCL = "1.2.840.10008.1.2.4.202"
RLE = "1.2.840.10008.1.2.5"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
ALL = (
    *RecompressionRule.model_fields["transfer_syntaxes"].default,
    *("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"),
)
DAY_S = 86_400.0


@pytest.fixture(params=["local+sqlite", "s3+sqlite", "s3+postgres"])
def core(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Core]:
    """Everything below the faces, as the background worker has it, on each pair of engines."""
    with engines.made(request.param, request) as pair:
        built = assembly.build(pair.settings(tmp_path / "data"), "background", any_age=True)
        yield built
        built.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[ImagingPool]:
    with ImagingPool(1, 1 << 30, 60.0) as made:
        yield made


def rule(**given: Any) -> RecompressionRule:
    return RecompressionRule.model_validate({"name": "all", **given})


def service(
    core: Core, pool: ImagingPool, *rules: RecompressionRule, holder: str = "one", later_s: float = DAY_S
) -> RecompressionService:
    return RecompressionService(
        core.archive,
        pool,
        core.spool,
        core.room,
        rules or [rule()],
        condenser=assembly.condenser(core, pool),
        after_s=3600.0,
        holder=holder,
        now=lambda: time.time() + later_s,
    )


def keep(core: Core, body: bytes, tenant: ids.Tenant = MAIN) -> Target:
    """Keep a Part 10 file, as it is received."""
    meta, offset, _ = file_meta.read(io.BytesIO(body), Limits())
    found = part10.extract(io.BytesIO(body[offset:]), meta.transfer_syntax_uid, Limits(), part10.Announced())
    core.archive.store(
        tenant, core.archive.new_version(), found, [body[offset:]], Sender("CT", "GATEWAY"), Conflict.VERSION
    )
    return Target(tenant, found.study_uid, found.series_uid, found.sop_uid)


def store(core: Core, body: bytes, tenant: ids.Tenant = MAIN) -> Located:
    """The same, and where it is then."""
    (located,) = core.archive.index.locate(keep(core, body, tenant), EVERYTHING)
    return located


def wheel(name: str) -> bytes:
    found = get_testdata_file(name)
    assert isinstance(found, str)
    return Path(found).read_bytes()


def whole(core: Core, located: Located) -> bytes:
    return core.archive.objects.get(located.object_key)


def read(core: Core, located: Located) -> Dataset:
    return pydicom.dcmread(io.BytesIO(whole(core, located)))


def smooth(rows: int = 96, columns: int = 80, **attributes: Any) -> Dataset:
    """An image that gets smaller; ``samples`` of 3 give colour."""
    samples, bits = attributes.pop("samples", 1), attributes.get("BitsAllocated", 16)
    signed = attributes.get("PixelRepresentation", 0)
    y, x = np.mgrid[:rows, :columns]
    planes = [np.round(90 + 60 * np.sin((x + 9 * each) / 17) * np.cos(y / 13)) for each in range(samples)]
    pixels = np.stack(planes, 0 if attributes.get("PlanarConfiguration") else -1)
    return data_set(
        Rows=rows,
        Columns=columns,
        SamplesPerPixel=samples,
        PixelData=pixels.astype(f"<{'i' if signed else 'u'}{bits // 8}").tobytes(),
        **{
            "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
            "BitsAllocated": bits,
            "BitsStored": bits,
            "HighBit": bits - 1,
            **attributes,
        },
    )


def only(steps: Sequence[Step]) -> Step:
    (step,) = steps
    return step


# What is made


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_implicit.dcm",
        "ExplVR_BigEnd.dcm",
        "examples_overlay.dcm",
        "examples_palette.dcm",
        "examples_rgb_color.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "MR_small_RLE.dcm",
    ],
)
def test_what_is_made_has_the_pixels_of_what_was_sent(core: Core, pool: ImagingPool, name: str) -> None:
    located = store(core, wheel(name))
    before = whole(core, located)
    step = only(list(service(core, pool, rule(transfer_syntaxes=ALL)).round()))
    assert whole(core, located) == before, "what was sent is never touched"
    beside = core.archive.index.beside(located)
    assert beside is not None, step.left
    assert (step.size, step.made, step.rule) == (located.size, beside.size, "all")
    assert beside.transfer_syntax_uid == RPCL
    assert beside.size < located.size == len(before)
    original, made = read(core, located), read(core, beside)
    if original.file_meta.TransferSyntaxUID == BIG_ENDIAN:
        assert np.array_equal(original.pixel_array, made.pixel_array)
    else:
        assert np.array_equal(pydicom.pixels.pixel_array(original), pydicom.pixels.pixel_array(made))
    head = core.archive.objects.get(beside.object_key, ByteRange(0, beside.data_offset))
    meta, _, _ = file_meta.read(io.BytesIO(head), Limits())
    origin = loads(meta.private)
    assert origin is not None
    assert (origin.version, origin.sha256) == (located.version, hashlib.sha256(before).hexdigest())
    assert origin.transfer_syntax_uid == located.transfer_syntax_uid
    pixels = pydicom.pixels.pixel_array(made, raw=True)
    assert origin.pixels_sha256 == hashlib.sha256(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()).hexdigest()
    # Everything else is the same.
    for each in (original, made):
        for keyword in ("PixelData", "PhotometricInterpretation", "PlanarConfiguration"):
            if keyword in each:
                delattr(each, keyword)
    original.remove_private_tags()
    made.remove_private_tags()
    assert {element.tag: str(element.value) for element in original if element.tag.element} == {
        element.tag: str(element.value) for element in made if element.tag.element
    }


@pytest.mark.parametrize(
    "attributes",
    [
        {"PixelRepresentation": 1, "BitsStored": 12, "HighBit": 11},
        {"BitsAllocated": 8},
        {"BitsAllocated": 8, "samples": 3, "PlanarConfiguration": 0},
        {"BitsAllocated": 8, "samples": 3, "PlanarConfiguration": 1},
        {"BitsAllocated": 8, "samples": 3, "PlanarConfiguration": 1, "PhotometricInterpretation": "YBR_FULL"},
        {"PhotometricInterpretation": "MONOCHROME1"},
    ],
)
def test_samples_of_every_form_that_is_carried_come_back(
    core: Core, pool: ImagingPool, attributes: dict[str, Any]
) -> None:
    located = store(core, part10_file(smooth(**attributes)))
    assert only(list(service(core, pool).round())).left is None
    beside = core.archive.index.beside(located)
    assert beside is not None
    before, after = read(core, located), read(core, beside)
    raw = [pydicom.pixels.pixel_array(each, raw=True) for each in (before, after)]
    assert np.array_equal(*raw)


@pytest.mark.skipif(not SHARED.is_dir(), reason="without shared/dicom")
def test_every_real_file_is_made_equal_or_left_for_a_reason(core: Core, pool: ImagingPool) -> None:
    for path in sorted(SHARED.rglob("*.dcm")):
        if path.stat().st_size < 4 << 20:
            try:
                keep(core, path.read_bytes())
            except StorageError:
                continue  # what no archive takes
    steps = list(service(core, pool, rule(transfer_syntaxes=ALL)).round())
    made = [step.located for step in steps if step.left is None]
    assert len(made) > 20
    reasons = Counter(step.left for step in steps if step.left is not None)
    assert reasons[Left.NOT_EQUAL] == reasons[Left.REFUSED] == reasons[Left.SLOW] == 0
    for located in made:
        beside = core.archive.index.beside(located)
        assert beside is not None
        before, after = read(core, located), read(core, beside)
        try:
            expected = pydicom.pixels.pixel_array(before, raw=True)
        except (NotImplementedError, RuntimeError, ValueError, AttributeError):
            continue  # pydicom cannot
        found = pydicom.pixels.pixel_array(after, raw=True)
        if before.PixelRepresentation == 0:
            # Of native samples pydicom leaves out what stands above High Bit, such as an overlay.
            found &= (1 << before.BitsStored) - 1
            expected = expected & (1 << before.BitsStored) - 1
        assert np.array_equal(expected, found), located.key.sop_uid


# What is left


def signed() -> Dataset:
    found = smooth()
    found.MACParametersSequence = [Dataset()]
    return found


def torn() -> Dataset:
    found = smooth()
    found.PixelData = encapsulate([b"\x02" + bytes(1200)])
    found["PixelData"].VR = "OB"
    found["PixelData"].is_undefined_length = True
    return found


def with_icon_within() -> Dataset:
    found, referenced = torn(), Dataset()
    referenced.IconImageSequence = [Dataset()]
    found.SourceImageSequence = [referenced]
    return found


def noise() -> Dataset:
    return data_set(Rows=64, Columns=64, PixelData=np.random.default_rng(1).bytes(64 * 64 * 2))


def with_icon() -> bytes:
    found = next(iter(SHARED.rglob("mg-jpeg-lossless.dcm")), None)
    return b"" if found is None else found.read_bytes()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda: part10_file(signed()), Left.SIGNED),
        (lambda: part10_file(smooth(LossyImageCompression="01")), Left.LOSSY),
        (lambda: part10_file(data_set(PixelData=None)), Left.NO_PIXELS),
        (lambda: part10_file(noise()), Left.NOT_SMALLER),
        (lambda: part10_file(smooth(BitsAllocated=32)), Left.FORM),
        (
            lambda: part10_file(smooth(BitsAllocated=8, samples=3, PhotometricInterpretation="YBR_FULL_422")),
            Left.FORM,
        ),
        (lambda: part10_file(data_set(Rows=400, Columns=400)), Left.NO_PIXELS),
        (lambda: part10_file(torn(), RLE), Left.DAMAGED),
        (with_icon, Left.ICON),
        (lambda: part10_file(with_icon_within(), RLE), Left.ICON),
    ],
)  # fmt: skip
def test_what_cannot_be_or_is_not_to_be_is_left(core: Core, pool: ImagingPool, body: Any, why: Left) -> None:
    sent = body()
    if not sent:
        pytest.skip("without shared/dicom")
    located = store(core, sent)
    found = service(core, pool, rule(transfer_syntaxes=ALL))
    assert only(list(found.round())).left is why
    assert core.archive.index.beside(located) is None
    assert list(found.round()) == [], "it is not tried again and again"
    assert list((core.settings.storage.directory / "spool").glob("*.spool")) == []


def test_a_codec_that_gives_other_pixels_back_makes_nothing(core: Core, pool: ImagingPool) -> None:
    class Wrong(ImagingPool):
        """Decodes what it encoded to something else."""

        def __init__(self) -> None:
            super().__init__(1, 1 << 30, 60.0)

        def decode(self, frame: Any) -> bytes:
            data = bytearray(pool.decode(frame))
            data[-1] ^= 1
            return bytes(data)

    located = store(core, part10_file(smooth()))
    with Wrong() as wrong:
        assert only(list(service(core, wrong).round())).left is Left.NOT_EQUAL
    assert core.archive.index.beside(located) is None


def test_rules_say_what_it_is_about_and_from_when_on(core: Core, pool: ImagingPool) -> None:
    us = store(core, part10_file(smooth(Modality="US")))
    store(core, part10_file(smooth(Modality="MR")))
    elsewhere = store(core, part10_file(smooth(Modality="US")), ids.tenant("other"))
    of_us = rule(modalities=["US"], tenants=["main"])
    assert list(service(core, pool, of_us, later_s=0.0).round()) == [], "nothing is an hour old"
    steps = list(service(core, pool, of_us).round())
    assert [step.located.version for step in steps] == [us.version]
    # Other rules begin anew; what was made is not made again.
    wider = [
        of_us,
        rule(name="wider", modalities=["US"], sop_classes=[us.sop_class_uid], into="1.2.840.10008.1.2.4.201"),
    ]
    steps = list(service(core, pool, *wider).round())
    assert [(step.located.version, step.rule) for step in steps] == [(elsewhere.version, "wider")]
    beside = core.archive.index.beside(elsewhere)
    assert beside is not None
    assert beside.transfer_syntax_uid == "1.2.840.10008.1.2.4.201"


@contextmanager
def bounded(folder: Path, **bounds: int) -> Iterator[Core]:
    given = engines.EMBEDDED.settings(folder)
    tenants = {"main": TenantSettings.model_validate(bounds)}
    built = assembly.build(given.model_copy(update={"tenants": tenants}), "background", any_age=True)
    try:
        yield built
    finally:
        built.close()


def test_a_tenant_without_room_is_left_before_anything_is_encoded(tmp_path: Path) -> None:
    with bounded(tmp_path / "data", quota_instances=1) as built, ImagingPool(1, 1 << 30, 60.0) as closed:
        closed.close()
        located = store(built, part10_file(smooth()))
        assert only(list(service(built, closed).round())).left is Left.NO_ROOM
        assert built.archive.index.beside(located) is None


@pytest.mark.parametrize("bounds", [{"quota_instances": 10}, {"quota_bytes": 95_000}])
def test_a_part_of_a_quota_is_for_what_is_sent(tmp_path: Path, pool: ImagingPool, bounds: dict[str, int]) -> None:
    with bounded(tmp_path / "data", **bounds) as built:
        for _ in range(5):
            store(built, part10_file(smooth()))
        steps = list(service(built, pool).round())
        assert {step.left for step in steps} == {None, Left.NO_ROOM}
        used = built.archive.index.usage()[MAIN]
        assert (used.objects <= 9) if "quota_instances" in bounds else (used.bytes <= 85_500)
        with built.room.arriving(MAIN, 9_000) as admit:
            admit()


def test_a_part_of_a_disk_is_for_what_is_sent(core: Core, pool: ImagingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    store(core, part10_file(smooth()))
    needed = core.settings.storage.min_free_bytes
    assert needed
    monkeypatch.setattr(room, "free_bytes", lambda _: needed + 1)
    with pytest.raises(StorageFull):
        list(service(core, pool).round())
    core.room.check_disks()
    monkeypatch.undo()
    assert only(list(service(core, pool).round())).left is None


# Faults, and several at once


def test_one_gateway_at_a_time_is_at_it(core: Core, pool: ImagingPool) -> None:
    for _ in range(3):
        store(core, part10_file(smooth()))
    one, two = service(core, pool, holder="one"), service(core, pool, holder="two")
    first = one.round()
    next(first)
    assert list(two.round()) == []
    assert len(list(first)) == 2
    assert list(two.round()) == [], "everything is done, and the turn was free"
    # One that hangs loses its turn, and what it then does is not done twice.
    store(core, part10_file(smooth()))
    hanging = service(core, pool, holder="one").round()
    next(hanging)
    store(core, part10_file(smooth()))
    later = list(service(core, pool, holder="two", later_s=2 * DAY_S).round())
    assert [step.left for step in later] == [None]
    assert list(hanging) == []


@pytest.mark.parametrize(("frame_s", "keeps"), [(100, True), (200, False)])
def test_the_turn_is_kept_from_frame_to_frame_and_its_loss_ends_the_work(
    core: Core, pool: ImagingPool, monkeypatch: pytest.MonkeyPatch, frame_s: int, keeps: bool
) -> None:
    monkeypatch.setattr(recompress, "_NOTE_EVERY_S", 0.0)
    clock_s = time.time() + DAY_S
    turns: list[str | None] = []

    class Slow(ImagingPool):
        """Takes so long for each frame, and meanwhile another gateway asks for the turn."""

        def encode(self, frame: Any, transfer_syntax_uid: str) -> bytes:
            nonlocal clock_s
            clock_s += frame_s
            turns.append(core.archive.index.recompression_turn("other", "two", clock_s, clock_s + 60))
            return pool.encode(frame, transfer_syntax_uid)

        def decode(self, frame: Any) -> bytes:
            return pool.decode(frame)

    frame = smooth()
    frame.NumberOfFrames, frame.PixelData = 3, 3 * frame.PixelData
    located = store(core, part10_file(frame))
    with Slow(1, 1 << 30, 60.0) as slow:
        found = RecompressionService(
            core.archive, slow, core.spool, core.room, [rule()], condenser=assembly.condenser(core, slow), after_s=0.0,
            holder="one", now=lambda: clock_s,
        )  # fmt: skip
        steps = list(found.round())
    assert [step.left for step in steps] == ([None] if keeps else [])
    assert turns == ([None] * 3 if keeps else [""])
    assert (core.archive.index.beside(located) is not None) is keeps
    assert list((core.settings.storage.directory / "spool").glob("*.spool")) == []


class _Failing:
    """An object store that loses its engine after so many objects were put."""

    def __init__(self, objects: ObjectStore, puts: int) -> None:
        self._objects = objects
        self._puts = puts

    def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
        info = self._objects.put(key, body)
        self._puts -= 1
        if self._puts < 0:
            raise StorageUnavailable("gone")
        return info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)


def test_a_round_that_an_engine_broke_off_goes_on_where_it_was(core: Core, pool: ImagingPool) -> None:
    stored = [store(core, part10_file(smooth())) for _ in range(4)]
    objects = core.archive.objects
    assert isinstance(objects, CondensedObjectStore)
    engine = objects._store
    objects._store = _Failing(engine, 2)
    done = []
    with pytest.raises(StorageUnavailable):
        done += service(core, pool).round()
    objects._store = engine
    again = list(service(core, pool).round())
    assert [step.located.version for step in again] == [each.version for each in stored[2:]]
    assert all(core.archive.index.beside(each) is not None for each in stored)
