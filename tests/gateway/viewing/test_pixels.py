"""Pixels of a view: referred to where nothing can be read in them, blanked or cleaned where something can."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from gateway.assembly import Core
from gateway.config import Settings
from gateway.context import command_line
from gateway.viewing.following import Follower
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Search, Target
from storage.index.stored import Located
from storage.objects.spliced import SplicedObjectStore
from tests import instances

MAIN = ids.Tenant("main")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    view = settings.views["research"]
    return settings.model_copy(
        update={"views": {"research": view.model_copy(update={"options": (*view.options, "clean_pixel_data")})}}
    )


def put(core: Core, data_set: Dataset, syntax: str = ExplicitVRLittleEndian) -> None:
    spooling = core.spool.begin()
    spooling.write(instances.part10_file(data_set, syntax))
    with spooling.finish() as spooled:
        core.ingest.store(core.ingest.enter_by_command(command_line("test"), MAIN), spooled)


def shown(core: Core) -> tuple[Archive, Located]:
    archive = core.views["research"]
    (row,) = archive.index.search(Search(MAIN, Level.STUDY))
    (located,) = archive.index.locate(Target(MAIN, row.study_uid), EVERYTHING)
    return archive, located


def read(core: Core) -> Dataset:
    archive, located = shown(core)
    return pydicom.dcmread(io.BytesIO(b"".join(archive.blocks(located))))


def referred_bytes(core: Core) -> int:
    archive, located = shown(core)
    assert isinstance(archive.objects, SplicedObjectStore)
    return sum(each.length for each in archive.objects.references(located.object_key))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_native_pixels_stay_in_the_archive_and_are_referred_to(core: Core, follower: Follower, syntax: str) -> None:
    stored = instances.data_set()
    put(core, stored, syntax)
    assert follower.follow().made == 1
    found = read(core)
    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.PixelData == stored.PixelData
    assert referred_bytes(core) == len(stored.PixelData)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_what_is_big_endian_or_deflated_is_written_plainly(core: Core, follower: Follower, syntax: str) -> None:
    stored = instances.data_set()
    pixels = np.arange(16, dtype="<u2")
    stored.PixelData = pixels.tobytes()
    stored["PixelData"].VR = "OW"
    put(core, stored, syntax)
    assert follower.follow().made == 1
    found = read(core)
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert found.PixelData == pixels.tobytes()
    assert referred_bytes(core) == 0


@pytest.mark.parametrize(
    ("signed", "stored", "expected"),
    [
        (0, [0x0FFF, 0xA123, 0x0000, 0x8000], [0x0FFF, 0x0123, 0x0000, 0x0000]),
        (1, [0x0FFF, 0xA123, 0xF800, 0x0800], [0xFFFF, 0x0123, 0xF800, 0xF800]),
    ],
)
def test_bits_that_are_no_samples_hold_nothing(
    core: Core, follower: Follower, signed: int, stored: list[int], expected: list[int]
) -> None:
    cells = np.array(stored * 4, "<u2")
    put(core, instances.data_set(BitsStored=12, HighBit=11, PixelRepresentation=signed, PixelData=cells.tobytes()))
    follower.follow()
    assert read(core).PixelData == np.array(expected * 4, "<u2").tobytes()


def test_cells_that_hold_only_samples_are_referred_to(core: Core, follower: Follower) -> None:
    cells = np.arange(16, dtype="<u2")
    put(core, instances.data_set(BitsStored=12, HighBit=11, PixelData=cells.tobytes()))
    follower.follow()
    assert read(core).PixelData == cells.tobytes()
    assert referred_bytes(core) == 32


def ultrasound(frames: int = 1, **attributes: Any) -> Dataset:
    """A picture of 40 x 60 white pixels, of which a region is the examination's."""
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 10, 15
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 49, 34
    values: dict[str, Any] = {
        "Modality": "US", "Rows": 40, "Columns": 60, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
        "SequenceOfUltrasoundRegions": [region], "NumberOfFrames": frames,
        "PixelData": np.full((frames, 40, 60), 255, np.uint8).tobytes(),
    }  # fmt: skip
    return instances.data_set(**{**values, **attributes})


def compressed(syntax: str) -> Callable[[Dataset], None]:
    def compress(found: Dataset) -> None:
        found.file_meta = pydicom.dataset.FileMetaDataset()
        found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.compress(syntax, generate_instance_uid=False)

    return compress


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_of_ultrasound_every_pixel_outside_its_regions_is_black_in_every_frame_and_its_own_syntax(
    core: Core, follower: Follower, syntax: str
) -> None:
    stored = ultrasound(frames=3)
    if syntax != ExplicitVRLittleEndian:
        compressed(syntax)(stored)
    put(core, stored, syntax)
    report = follower.follow()
    assert (report.made, report.withheld) == (1, 0)
    found = read(core)
    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in found.DeidentificationMethodCodeSequence]
    pixels = found.pixel_array
    assert pixels.shape == (3, 40, 60)
    assert pixels[:, 15:35, 10:50].min() == 255
    outside = np.ones((40, 60), bool)
    outside[15:35, 10:50] = False
    assert pixels[:, outside].max() == 0


def test_comments_in_compressed_frames_are_gone_and_their_pixels_are_not(core: Core, follower: Follower) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, "JPEG", comment=b"GRAY ANN 4711")
    stored = instances.data_set(
        Rows=8, Columns=8, BitsAllocated=8, BitsStored=8, HighBit=7,
        PixelData=encapsulate([buffer.getvalue(), buffer.getvalue()]), NumberOfFrames=2,
    )  # fmt: skip
    stored["PixelData"].VR = "OB"
    stored["PixelData"].is_undefined_length = True
    put(core, stored, JPEGBaseline8Bit)
    assert follower.follow().made == 1
    archive, located = shown(core)
    assert b"GRAY" not in b"".join(archive.blocks(located))
    before = pydicom.dcmread(io.BytesIO(instances.part10_file(stored, JPEGBaseline8Bit))).pixel_array
    assert (read(core).pixel_array == before).all()


def test_without_the_option_to_clean_pixels_what_has_to_be_cleaned_is_withheld(core: Core) -> None:
    from gateway import assembly

    view = core.settings.views["research"].model_copy(update={"options": ()})
    plain = core.settings.model_copy(update={"views": {"research": view}})
    put(core, ultrasound())
    report = assembly.view_follower(plain, "research", core.archive, core.views["research"], core.pool).follow()
    assert (report.made, report.withheld) == (0, 1)


def test_pixels_that_cannot_be_decoded_are_withheld_and_nothing_is_left_of_them(core: Core, follower: Follower) -> None:
    stored = ultrasound(PixelData=encapsulate([b"\xff\x4f\xff\x51nothing"]))
    stored["PixelData"].VR = "OB"
    stored["PixelData"].is_undefined_length = True
    put(core, stored, JPEG2000Lossless)
    report = follower.follow()
    assert (report.made, report.withheld) == (0, 1)
    assert list(core.views["research"].objects.list("")) == []
    assert [each.name for each in core.spool.directory.iterdir()] == []


def test_a_million_empty_items_cost_no_time(core: Core, follower: Follower) -> None:
    """They are let in, since they cost the archive little."""
    stored = instances.data_set(PixelData=None)
    body = instances.part10_file(stored)
    items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 120_000
    body += b"\x40\x00\x75\x02SQ\x00\x00" + len(items).to_bytes(4, "little") + items
    spooling = core.spool.begin()
    spooling.write(body)
    with spooling.finish() as spooled:
        core.ingest.store(core.ingest.enter_by_command(command_line("test"), MAIN), spooled)
    assert follower.follow().withheld == 1
    (listed,) = core.views["research"].index.quarantined(MAIN)
    assert "items of sequences" in listed.reason
