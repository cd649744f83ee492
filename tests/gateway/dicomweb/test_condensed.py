"""Originals kept as HTJ2K: nobody who retrieves sees that anything changed."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from gateway import assembly
from gateway.assembly import Core
from gateway.config.keeping import RecompressionRule
from gateway.config.views import ViewSettings
from gateway.services.recompress import RecompressionService
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Target
from tests import engines
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_recompressed import RPCL, instance
from tests.gateway.dicomweb.test_wado import get, path_of
from tests.gateway.services.test_recompress import MAIN

NATIVE = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
MULTIPART = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'
ASKED = [
    ("", "application/dicom; transfer-syntax=*", ""),
    ("", "application/dicom; transfer-syntax=*", "bytes=100-299"),
    ("", "application/dicom; transfer-syntax=*", "bytes=3000-250000"),
    ("", "application/dicom; transfer-syntax=*", "bytes=-77"),
    ("", f"application/dicom; transfer-syntax={RPCL}", ""),
    ("", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80", ""),
    ("/frames/1", NATIVE, ""),
    ("/frames/2", NATIVE, "bytes=1001-70000"),
    ("/frames/2", f"application/octet-stream; transfer-syntax={RPCL}", "bytes=0-2000"),
    ("/bulkdata/7FE00010", NATIVE, ""),
    ("/bulkdata/7FE00010", NATIVE, "bytes=204799-204900"),
    ("/pixeldata", MULTIPART, ""),
    ("/metadata", "application/dicom+json", ""),
    ("/rendered", "image/png", ""),
    ("/frames/2/rendered", "image/jpeg", ""),
    ("/thumbnail", "image/jpeg", ""),
]


@pytest.fixture(params=engines.PAIRS)
def core(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Core]:
    with engines.made(request.param, request) as made:
        settings = made.settings(tmp_path / "data")
        settings = settings.model_copy(update={"views": {"research": ViewSettings(key="ab" * 32)}})
        built = assembly.build(settings, "background", any_age=True)
        yield built
        built.close()


def condense(core: Core) -> None:
    with assembly.gentle_pool(core) as pool:
        service = RecompressionService(
            core.archive, pool, core.spool, core.room, [RecompressionRule(name="all", keep="instead")],
            condenser=assembly.condenser(core, pool), after_s=0.0, holder="test", now=lambda: time.time() + 60,
        )  # fmt: skip
        (step,) = service.round()
    assert step.left is None
    assert step.kept < step.size / 2


async def answers(client: Client, path: str) -> list[tuple[int, bytes, str | None]]:
    found = []
    for below, accept, span in ASKED:
        status, body, headers = await get(client, path + below, accept, **({"Range": span} if span else {}))
        boundary = re.search(r"boundary=\"?([^\";]+)", headers["Content-Type"])
        if boundary:
            body = body.replace(boundary[1].encode(), b"boundary")
        found.append((status, body, headers.get("ETag")))
    return found


async def test_every_answer_is_the_same(client: Client, core: Core) -> None:
    sent = instance()
    await store(client, sent)
    path = path_of(sent)
    before = await answers(client, path)
    assert [(asked, status) for asked, (status, _, _) in zip(ASKED, before, strict=True) if status > 206] == []
    condense(core)
    after = await answers(client, path)
    for asked, one, other in zip(ASKED, before, after, strict=True):
        if RPCL in asked[1]:
            # Made for each request before, and kept now.
            assert one[0] == other[0], asked
        else:
            assert one == other, asked
    status, archive, _ = await get(client, path, "application/zip; transfer-syntax=*")
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        (packed,) = (zipped.read(name) for name in zipped.namelist() if "DICOMDIR" not in name)
    assert packed == after[0][1]
    assert pydicom.dcmread(io.BytesIO(packed)).PixelData == pydicom.dcmread(io.BytesIO(sent)).PixelData


@pytest.mark.parametrize("shown_before", [True, False])
async def test_a_view_shows_it(client: Client, core: Core, shown_before: bool) -> None:
    sent = instance()
    await store(client, sent)
    follower = assembly.view_follower(core.settings, "research", core.archive, core.views["research"], core.pool)
    if shown_before:
        follower.follow(lambda: False)
    condense(core)
    follower.follow(lambda: False)
    archive = core.views["research"]
    (key,) = [info.key for info in archive.objects.list("main/")]
    shown = pydicom.dcmread(io.BytesIO(archive.objects.get(key)))
    original = pydicom.dcmread(io.BytesIO(sent))
    assert shown.PixelData == original.PixelData
    assert shown.SOPInstanceUID != original.SOPInstanceUID
    (located,) = archive.index.locate(Target(MAIN, shown.StudyInstanceUID), EVERYTHING)
    assert archive.read(located, archive.index.layout(located.version_id).frames.offset, 1000) == sent_pixels(original)


def sent_pixels(original: pydicom.Dataset) -> bytes:
    return bytes(original.PixelData[:1000])
