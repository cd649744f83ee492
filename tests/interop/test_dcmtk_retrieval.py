"""DCMTK's movescu and getscu: a study goes to a storescp, and comes back, in what each of them takes."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from gateway import assembly
from gateway.assembly import Core
from gateway.config.serving import DestinationSettings
from gateway.context import command_line
from gateway.dimse.server import DimseServer
from storage.dicom import identifiers as ids
from tests import instances
from tests.engines import Engines
from tests.ports import free_port
from tests.programs import need_program, running

pytestmark = [
    need_program("storescp", "dcmtk"),
    need_program("movescu", "dcmtk"),
    need_program("getscu", "dcmtk"),
    pytest.mark.dealt("local+sqlite", "s3+postgres"),
]

PIXELS = (np.add.outer(np.arange(48), np.arange(64)) * 7).astype("<u2")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def core(tmp_path: Path, own_engines: Engines, port: int) -> Iterator[Core]:
    settings = own_engines.settings(tmp_path / "data")
    peers = {"PEER": DestinationSettings(host="127.0.0.1", port=port)}
    built = assembly.build(
        settings.model_copy(update={"dimse": settings.dimse.model_copy(update={"destinations": peers})}), "test"
    )
    yield built
    built.close()


@pytest.fixture
def server(core: Core) -> Iterator[DimseServer]:
    started = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
    started.start()
    yield started
    started.stop(2.0)


@pytest.fixture
def study(core: Core) -> list[Dataset]:
    """A plain image and a compressed one."""
    plain = instances.data_set(
        Rows=48, Columns=64, BitsAllocated=16, BitsStored=16, HighBit=15, PixelData=PIXELS.tobytes()
    )
    compressed = instances.data_set(
        Rows=48, Columns=64, BitsAllocated=16, BitsStored=16, HighBit=15, PixelData=PIXELS.tobytes(),
        StudyInstanceUID=plain.StudyInstanceUID,
    )  # fmt: skip
    instances.part10_file(compressed)  # gives it File Meta Information
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    for each, syntax in ((plain, ExplicitVRLittleEndian), (compressed, JPEG2000Lossless)):
        spooling = core.spool.begin()
        spooling.write(instances.part10_file(each, syntax))
        with spooling.finish() as spooled:
            core.ingest.store(core.ingest.enter_by_command(command_line("test"), ids.Tenant("main")), spooled)
    return [plain, compressed]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def received(folder: Path, study: list[Dataset]) -> set[str]:
    """The transfer syntaxes in which the whole study came, its pixels as they were."""
    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    assert {each.SOPInstanceUID for each in found} == {each.SOPInstanceUID for each in study}
    assert all((each.pixel_array == PIXELS).all() for each in found)
    return {each.file_meta.TransferSyntaxUID.name for each in found}


MIXED = {"Explicit VR Little Endian", "JPEG 2000 Image Compression (Lossless Only)"}


@pytest.mark.parametrize(
    ("option", "syntaxes"),
    [
        ("+xi", {"Implicit VR Little Endian"}),
        ("+xe", {"Explicit VR Little Endian"}),
        ("+xa", MIXED),
    ],
)
def test_a_study_is_moved(
    server: DimseServer, study: list[Dataset], port: int, tmp_path: Path, option: str, syntaxes: set[str]
) -> None:
    (tmp_path / "moved").mkdir()
    receiver = ["storescp", "-aet", "PEER", option, "-od", str(tmp_path / "moved"), str(port)]
    with running(receiver):
        deadline_s = time.monotonic() + 60
        while subprocess.run(["echoscu", "127.0.0.1", str(port)], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline_s, "storescp did not start"
        address = (str(server.address[0]), str(server.address[1]))
        answer = run(
            "movescu", "-v", "-S", "-aec", "GATEWAY", "-aem", "PEER", *address,
            "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study[0].StudyInstanceUID}",
        )  # fmt: skip
    assert "Success" in answer
    assert received(tmp_path / "moved", study) == syntaxes


def test_a_study_is_gotten(server: DimseServer, study: list[Dataset], tmp_path: Path) -> None:
    """It proposes no compression."""
    (tmp_path / "gotten").mkdir()
    answer = run(
        "getscu", "-v", "-S", "-aec", "GATEWAY", "-od", str(tmp_path / "gotten"),
        str(server.address[0]), str(server.address[1]),
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study[0].StudyInstanceUID}",
    )  # fmt: skip
    assert "Success" in answer, answer
    assert received(tmp_path / "gotten", study) == {"Explicit VR Little Endian"}
