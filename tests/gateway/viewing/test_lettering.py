"""Text in pixels that no attribute tells of: found, and then withheld or blanked."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydantic import ValidationError
from pydicom.dataset import Dataset

from gateway import views
from gateway.assembly import Core
from gateway.config import InvalidSettings, Settings
from gateway.config.serving import ImagingSettings
from gateway.config.views import ViewSettings
from gateway.context import command_line
from gateway.imaging import lettering
from gateway.viewing.following import Follower
from gateway.viewing.review import Review
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Search, Target
from tests import instances
from tests.gateway.viewing.conftest import KEY

MAIN = ids.Tenant("main")
OPTIONS = ("clean_descriptors", "clean_pixel_data", "retain_longitudinal_modified_dates")


@pytest.fixture(params=["withhold"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    view = ViewSettings(key=KEY, options=OPTIONS, find_text=request.param)
    return settings.model_copy(update={"views": {"research": view}})


def of_frames(*texts: str) -> Dataset:
    """An MR of which nothing says that there is writing in it, with a text in each of its frames."""
    rows, columns = np.mgrid[:200, :320]
    body = (300 + 200 * np.sin(rows / 31) * np.cos(columns / 47)).astype(np.uint16)
    frames = []
    for text in texts:
        mask = Image.new("L", (320, 200))
        ImageDraw.Draw(mask).text((30, 80), text, fill=255, font=ImageFont.load_default(18))
        frames.append(np.where(np.asarray(mask) > 128, 1500, body).astype("<u2"))
    return instances.data_set(
        Modality="MR", Rows=200, Columns=320, BitsAllocated=16, BitsStored=12, HighBit=11, NumberOfFrames=len(texts),
        PixelData=np.stack(frames).tobytes(),
    )  # fmt: skip


def put(core: Core, data_set: Dataset) -> None:
    spooling = core.spool.begin()
    spooling.write(instances.part10_file(data_set))
    with spooling.finish() as spooled:
        core.ingest.store(core.ingest.enter_by_command(command_line("test"), MAIN), spooled)


def shown(core: Core) -> list[Dataset]:
    archive = core.views["research"]
    return [
        pydicom.dcmread(io.BytesIO(b"".join(archive.blocks(located))))
        for row in archive.index.search(Search(MAIN, Level.STUDY))
        for located in archive.index.locate(Target(MAIN, row.study_uid), EVERYTHING)
    ]


def test_what_has_writing_in_it_waits_for_somebody_to_look_at_it(core: Core, follower: Follower) -> None:
    written, plain = of_frames("", "GRAY ANN 1961"), of_frames("", "")
    put(core, written)
    put(core, plain)
    report = follower.follow()
    assert (report.made, report.withheld) == (1, 1)
    (withheld,) = core.views["research"].index.quarantined(MAIN)
    assert withheld.reason == "text may be burned in: something looks like writing in frame 2"
    (found,) = shown(core)
    assert found.PixelData == plain.PixelData
    review = Review(core.views["research"], follower, core.trail)
    review.release(command_line("test"), withheld.key.sop_uid, "a phantom's name")
    assert {each.PixelData for each in shown(core)} == {plain.PixelData, written.PixelData}


@pytest.mark.parametrize("settings", ["blank"], indirect=True)
def test_writing_is_blanked_in_every_frame_and_nothing_else_is(core: Core, follower: Follower) -> None:
    stored = of_frames("GRAY ANN 1961", "")
    put(core, stored)
    assert follower.follow().made == 1
    (found,) = shown(core)
    before, after = stored.pixel_array, found.pixel_array
    assert lettering.lettering(after[0][:, :, None]) == ()
    assert not (after == 1500).any()
    changed = before != after
    rows, columns = np.nonzero(changed[1])
    assert 70 < rows.min() < rows.max() < 115, "in the frame without it too"
    assert columns.max() < 250
    assert "Clean Pixel Data Option" in [each.CodeMeaning for each in found.DeidentificationMethodCodeSequence]


def test_what_looks_for_writing_is_part_of_the_view(settings: Settings) -> None:
    section = settings.views["research"]
    without = settings.model_copy(update={"views": {"research": section.model_copy(update={"find_text": "no"})}})
    assert views.definition(settings, "research").version != views.definition(without, "research").version


def test_settings_that_cannot_be_are_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="needs the option clean_pixel_data"):
        ViewSettings(key=KEY, find_text="blank")
    views.check(settings, frozenset())
    small = settings.model_copy(update={"imaging": ImagingSettings(memory_bytes=512 << 20)})
    with pytest.raises(InvalidSettings) as refused:
        views.check(small, frozenset())
    assert refused.value.faults == ("views.research.find_text: needs imaging.memory_bytes of at least 1073741824",)
    monkeypatch.setattr(lettering, "is_installed", lambda: False)
    with pytest.raises(InvalidSettings) as refused:
        views.check(settings, frozenset())
    assert refused.value.faults == (
        "views.research.find_text: needs the extra ocr: pip install 'dicomweb-gateway[ocr]'",
    )
