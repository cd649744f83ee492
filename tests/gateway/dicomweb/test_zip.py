"""A study, series or instance as a ZIP of a DICOM file-set, read by programs that have nothing to do with ours."""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.fileset import FileSet

from gateway.assembly import Core
from gateway.services.package import zipped
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_transcoding import ct
from tests.gateway.dicomweb.test_wado import get, path_of, wheel
from tests.instances import data_set, part10_file
from tests.programs import has_program

ZIP = "application/zip"
PREFIX = "1.2.840.10008.1.2."


async def stored(client: Client) -> tuple[str, list[pydicom.Dataset]]:
    """A study of three series and several kinds of instance; its path and data sets."""
    study, series = data_set().StudyInstanceUID, data_set().SeriesInstanceUID
    patient = {
        "StudyID": "S-1",
        "StudyInstanceUID": study,
        "PatientName": "Buc^Jérôme",
        "SpecificCharacterSet": "ISO_IR 192",
    }
    found = [
        pydicom.dcmread(io.BytesIO(ct(SeriesInstanceUID=series, InstanceNumber=number, **patient)))
        for number in (1, 2, 3)
    ]
    for name in ("reportsi.dcm", "SC_rgb_rle_2frame.dcm"):
        other = pydicom.dcmread(io.BytesIO(wheel(name)))
        other.update(patient)
        other.PatientID = "T-1"
        found.append(other)
    bodies = []
    for each in found:
        buffer = io.BytesIO()
        each.save_as(buffer, enforce_file_format=True)
        bodies.append(buffer.getvalue())
    status, answer = await store(client, *bodies)
    assert status == 200, answer
    return path_of(bodies[0]), found


def unpacked(body: bytes, folder: Path) -> Path:
    (folder / "study.zip").write_bytes(body)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_STORED}
        archive.extractall(folder / "media")
    return folder / "media"


@contextmanager
def file_set_of(media: Path) -> Iterator[FileSet]:
    found = FileSet(media / "DICOMDIR")
    yield found
    found._stage["t"].cleanup()  # pydicom leaves its directory to the garbage collector, which warns


@pytest.mark.parametrize("level", ["study", "series", "instance"])
async def test_a_zip_is_a_file_set_that_pydicom_and_dcmtk_read(client: Client, level: str, tmp_path: Path) -> None:
    path, sent = await stored(client)
    uid = path.rpartition("/")[2]
    if level != "instance":
        path = path.partition("/instances" if level == "series" else "/series")[0]
        uid = path.rpartition("/")[2]
    expected = {each.SOPInstanceUID: each for each in sent[: {"instance": 1, "series": 3, "study": 5}[level]]}
    status, body, headers = await get(client, path, f"{ZIP}; transfer-syntax=*")
    assert (status, headers["Content-Type"]) == (200, ZIP)
    assert headers["Content-Disposition"] == f'attachment; filename="{uid}.zip"'
    media = unpacked(body, tmp_path)
    names = [str(each.relative_to(media)) for each in media.rglob("*") if each.is_file()]
    assert all(re.fullmatch(r"(DICOM/SE\d{6}/I\d{7})|DICOMDIR", name) for name in names)
    with file_set_of(media) as file_set:
        assert sorted(each.SOPInstanceUID for each in file_set) == sorted(expected)
        for each in file_set:
            before, after = expected[each.SOPInstanceUID], each.load()
            assert after.get("PixelData") == before.get("PixelData")
            assert each.ReferencedTransferSyntaxUIDInFile == after.file_meta.TransferSyntaxUID
            assert str(each.PatientName) == "Buc^Jérôme"
            assert each.StudyInstanceUID == before.StudyInstanceUID
            assert each.SeriesInstanceUID == before.SeriesInstanceUID
            assert each.InstanceNumber == before.get("InstanceNumber")
    kinds = [record.DirectoryRecordType for record in pydicom.dcmread(media / "DICOMDIR").DirectoryRecordSequence]
    assert kinds[:3] == ["PATIENT", "STUDY", "SERIES"]
    if level == "study":
        assert sorted(kinds[3:]) == ["IMAGE"] * 4 + ["SERIES"] * 2 + ["SR DOCUMENT"]
    if has_program("unzip", "unzip"):
        subprocess.run(["unzip", "-tqq", tmp_path / "study.zip"], check=True)
    if has_program("dcmdump", "dcmtk"):
        shown = subprocess.run(["dcmdump", media / "DICOMDIR"], check=True, capture_output=True).stdout
        assert shown.count(b"(0004,1430)") == len(kinds)
        assert shown.count(b"refFileID=") == len(expected)
    if level != "study" and has_program(
        "dciodvfy", "dicom3tools"
    ):  # pydicom's report has no Completion Flag, which it misses
        judged = subprocess.run(["dciodvfy", media / "DICOMDIR"], check=False, capture_output=True, text=True)
        assert [line for line in judged.stderr.splitlines() if line.startswith("Error")] == []


async def test_a_zip_follows_the_transfer_syntax_and_says_what_is_missing(client: Client, tmp_path: Path) -> None:
    path, sent = await stored(client)
    study = path.partition("/series")[0]
    status, body, _ = await get(client, study, ZIP)
    assert status == 200
    files = [each for each in (unpacked(body, tmp_path) / "DICOM").rglob("*") if each.is_file()]
    assert {pydicom.dcmread(each).file_meta.TransferSyntaxUID for each in files} == {f"{PREFIX}1"}
    status, body, headers = await get(client, study, f"{ZIP}; transfer-syntax={PREFIX}4.81")
    assert (status, headers["Warning"][:3]) == (206, "299")
    media = unpacked(body, tmp_path / "lossy") if (tmp_path / "lossy").mkdir() is None else tmp_path
    with file_set_of(media) as file_set:
        for each in file_set:
            assert each.load().SOPInstanceUID == each.SOPInstanceUID
            assert each.SOPInstanceUID not in {before.SOPInstanceUID for before in sent}
            assert each.ReferencedTransferSyntaxUIDInFile == f"{PREFIX}4.81"
    assert (await get(client, study, f"{ZIP}; transfer-syntax=1.2.3"))[0] == 406


async def test_a_zip_has_an_etag_and_answers_head(client: Client) -> None:
    path, _ = await stored(client)
    first, second = await get(client, path, ZIP), await get(client, path, ZIP)
    assert first[1] == second[1]
    assert (await get(client, path, ZIP, **{"If-None-Match": first[2]["ETag"]}))[0] == 304
    async with client.head(path, headers={"Accept": ZIP}) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_values_that_are_not_of_their_form_leave_the_directory_readable(
    client: Client, core: Core, tmp_path: Path
) -> None:
    body = part10_file(data_set(PatientID=None, StudyDate=None, PatientName=None, Modality=None))
    odd = body.replace(b"IS\x02\x001 ", b"IS\x02\x00x ")
    assert odd != body
    assert (await store(client, odd))[0] == 200
    _, found, _ = await get(client, path_of(odd).partition("/series")[0], ZIP)
    with file_set_of(unpacked(found, tmp_path)) as file_set:
        assert len(list(file_set)) == 1


def test_a_large_zip_is_written_block_by_block() -> None:
    def blocks() -> list[bytes]:
        return [bytes(1 << 20)] * 4

    taken = []
    for block in zipped((f"DICOM/{number}", blocks()) for number in range(5)):
        taken.append(len(block))
    assert max(taken) < (1 << 20) + 4096
    assert sum(taken) > 20 << 20
