"""DCMTK's clients against the DIMSE face: what they send is kept as it came, what they ask is answered."""

from __future__ import annotations

import io
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from gateway import assembly
from gateway.assembly import Core
from gateway.dimse.server import DimseServer
from storage.dicom import file_meta
from storage.dicom.limits import Limits
from tests import instances
from tests.engines import Engines
from tests.programs import need_program
from tests.raw_scu import data_set_of, send_file

# storescu's option that proposes a file's own transfer syntax, and files in it.
FILES = [
    ("-xi", "MR_small_implicit.dcm"),
    ("-xe", "CT_small.dcm"),
    ("-xb", "MR_small_bigendian.dcm"),
    ("-xd", "image_dfl.dcm"),
    ("-xr", "MR_small_RLE.dcm"),
    ("-xt", "MR_small_jpeg_ls_lossless.dcm"),
    ("-xv", "MR_small_jp2klossless.dcm"),
    ("-xw", "JPEG2000.dcm"),
    ("-xx", "JPGExtended.dcm"),
    ("-xs", "SC_rgb_jpeg_gdcm.dcm"),
    ("-xe", "test-SR.dcm"),
]
WITHOUT_A_STUDY = ("htj2k-203-rgb.dcm", "htj2k-lossless-201-rgb.dcm")
# What DCMTK 3.6.7 cannot propose.
RAW = [
    "transfer-syntaxes/deflated-image-frame-8.1-seg.dcm",
    *sorted(
        str(path.relative_to(instances.SHARED))
        for folder in ("htj2k", "ct-one-image", "color-test-pattern")
        for path in (instances.SHARED / "transfer-syntaxes" / folder).glob("*.dcm")
        if path.name not in WITHOUT_A_STUDY
    ),
]


@pytest.fixture
def core(tmp_path: Path, own_engines: Engines) -> Iterator[Core]:
    built = assembly.build(own_engines.settings(tmp_path / "data"), "test")
    yield built
    built.close()


@pytest.fixture
def server(core: Core) -> Iterator[DimseServer]:
    started = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
    started.start()
    yield started
    started.stop(2.0)
    assert list(core.spool.directory.iterdir()) == []


def run(program: str, server: DimseServer, *arguments: str) -> str:
    """Output of a DCMTK client, which has to succeed."""
    command = [program, "-aec", "GATEWAY", *arguments]
    address = [server.address[0], str(server.address[1])]
    split = next((place for place, argument in enumerate(command) if Path(argument).exists() and place), len(command))
    done = subprocess.run(
        [*command[:split], *address, *command[split:]], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def kept(core: Core) -> tuple[file_meta.FileMeta, bytes]:
    """Meta information and data set of the only object."""
    [only] = core.archive.objects.list("")
    content = core.archive.objects.get(only.key)
    meta, offset, _ = file_meta.read(io.BytesIO(content), Limits())
    return meta, content[offset:]


@need_program("echoscu", "dcmtk")
def test_echoscu_is_answered(server: DimseServer) -> None:
    run("echoscu", server)


@need_program("termscu", "dcmtk")
@need_program("echoscu", "dcmtk")
def test_nobody_shuts_the_gateway_down_from_afar(server: DimseServer) -> None:
    address = (server.address[0], str(server.address[1]))
    subprocess.run(["termscu", "-aec", "GATEWAY", *address], capture_output=True, timeout=60, check=False)
    run("echoscu", server)


@need_program("storescu", "dcmtk")
@pytest.mark.parametrize(("option", "name"), FILES, ids=[name for _, name in FILES])
def test_storescu_has_its_instance_kept_in_its_transfer_syntax(
    server: DimseServer, core: Core, option: str, name: str
) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    run("storescu", server, option, str(path))
    sent, data_set = data_set_of(path)
    meta, stored = kept(core)
    assert meta.transfer_syntax_uid == sent.transfer_syntax_uid
    assert meta.sop_uid == sent.sop_uid
    # storescu rewrites lengths and padding, so the content is compared and not the bytes.
    syntax = sent.transfer_syntax_uid
    assert instances.extract(stored, syntax).canonical_digest == instances.extract(data_set, syntax).canonical_digest


@pytest.mark.parametrize("name", RAW)
def test_an_instance_is_kept_byte_for_byte(server: DimseServer, core: Core, name: str) -> None:
    path = instances.SHARED / name
    if not path.exists():
        pytest.skip("needs shared/dicom")
    assert send_file(server.address, path) == 0x0000
    sent, data_set = data_set_of(path)
    meta, stored = kept(core)
    assert meta.transfer_syntax_uid == sent.transfer_syntax_uid
    assert stored == data_set


@need_program("storescu", "dcmtk")
@need_program("findscu", "dcmtk")
def test_a_stored_series_is_found(server: DimseServer, core: Core, tmp_path: Path) -> None:
    study, series = instances.uid(), instances.uid()
    folder = tmp_path / "send"
    folder.mkdir()
    for number in range(10):
        found = instances.data_set(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=number)
        (folder / f"{number}.dcm").write_bytes(instances.part10_file(found))
    run("storescu", server, "+sd", str(folder))
    answer = run(
        "findscu", server, "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=TEST*", "-k", "StudyInstanceUID",
        "-k", "NumberOfStudyRelatedInstances",
    )  # fmt: skip
    assert study in answer
    assert "[10]" in answer
    images = run(
        "findscu", server, "-P", "-k", "QueryRetrieveLevel=IMAGE", "-k", "PatientID=T-1",
        "-k", f"StudyInstanceUID={study}", "-k", f"SeriesInstanceUID={series}", "-k", "SOPInstanceUID",
    )  # fmt: skip
    assert images.count("Find Response:") == 10
