"""Two gateways on one archive: one writes it, the other only reads and follows, with rights to read alone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from pydicom import Dataset
from pynetdicom import AE

from storage.objects.s3 import S3Settings
from tests import seaweedfs
from tests.instances import CT, data_set, part10_file
from tests.programs import in_ci
from tests.serving import Gateway

WITHIN_S = 60.0
ALONE = {"GATEWAY_HTTP__WORKERS": "1", "GATEWAY_DIMSE__WORKERS": "1", "GATEWAY_STORAGE__UNDO_S": "0"}
QUICK = {"GATEWAY_STORAGE__REAP_INTERVAL_S": "1", "GATEWAY_STORAGE__FOLLOW_INTERVAL_S": "0.2"}


class ReadOnlyMount:
    """A directory that is seen below another, where nobody may write, root included."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._is_there = False
        place.mkdir()

    def mount(self, directory: Path) -> None:
        """Show a directory. Raises CalledProcessError where this user may not mount."""
        # One after the other: mount(8) makes a bind mount read-only in a second step in any case.
        for options in (["--bind", str(directory)], ["-o", "remount,ro,bind"]):
            subprocess.run(["mount", *options, str(self.place)], check=True, capture_output=True)
            self._is_there = True

    def unmount(self) -> None:
        """Show nothing any more."""
        if self._is_there:
            subprocess.run(["umount", str(self.place)], check=True)
            self._is_there = False


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[ReadOnlyMount]:
    """A mount that is undone in any case; skips where there can be none."""
    mount, trial = ReadOnlyMount(tmp_path / "mounted"), tmp_path / "trial"
    trial.mkdir()
    try:
        if not can_mount(mount, trial):
            assert not in_ci(), "CI leaves nothing out: a read-only mount needs the right to mount"
            pytest.skip("needs the right to mount: root, and no container that takes it away")
        yield mount
    finally:
        mount.unmount()


def can_mount(mount: ReadOnlyMount, trial: Path) -> bool:
    try:
        mount.mount(trial)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
    finally:
        mount.unmount()
    return True


@pytest.fixture(params=["local", "read-only mount", "s3"])
def gateways(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Gateway, Gateway]]:
    writing, reading = dict(ALONE), {**ALONE, "GATEWAY_STORAGE__READ_ONLY": "true"}
    archive = tmp_path / "writer" / "archive"
    mount: ReadOnlyMount | None = None
    if request.param == "local":
        reading["GATEWAY_STORAGE__ARCHIVE_DIRECTORY"] = str(archive)
    elif request.param == "read-only mount":
        mount = request.getfixturevalue("mount")
        reading["GATEWAY_STORAGE__ARCHIVE_DIRECTORY"] = str(mount.place)
    else:
        bucket: S3Settings = request.getfixturevalue("seaweedfs_bucket")
        for each, key, secret in (
            (writing, bucket.access_key_id, bucket.secret_access_key),
            (reading, seaweedfs.READER_ACCESS_KEY_ID, seaweedfs.READER_SECRET_ACCESS_KEY),
        ):
            each |= {
                "GATEWAY_STORAGE__OBJECTS": "s3",
                "GATEWAY_S3__ENDPOINT_URL": str(bucket.endpoint_url),
                "GATEWAY_S3__BUCKET": bucket.bucket,
                "GATEWAY_S3__ACCESS_KEY_ID": str(key),
                "GATEWAY_S3__SECRET_ACCESS_KEY": str(secret),
            }
    writer = Gateway(tmp_path / "writer", tmp_path / "writer.log", **writing, **QUICK)
    reader = Gateway(tmp_path / "reader", tmp_path / "reader.log", **reading, **QUICK)
    started: list[Gateway] = []
    try:
        for each in (writer, reader):
            if mount is not None and each is reader:
                mount.mount(archive)
                with pytest.raises(OSError, match="Read-only"):
                    (mount.place / "x").touch()
            started.append(each)
            each.start()
        yield writer, reader
    finally:
        for each in started:
            each.stop()


def send(gateway: Gateway, found: Dataset) -> requests.Response:
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + part10_file(found) + b"\r\n--x--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    return requests.post(f"{gateway.web}/studies", data=body, headers={"Content-Type": kind}, timeout=30)


def until(holds: Callable[[], bool], gateway: Gateway) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s, gateway.log[-3000:]
        time.sleep(0.05)


def ask(gateway: Gateway, path: str, accept: str) -> requests.Response:
    return requests.get(f"{gateway.web}/{path}", headers={"Accept": accept}, timeout=30)


def status(gateway: Gateway, path: str) -> int:
    return ask(gateway, path, 'multipart/related; type="application/dicom"; transfer-syntax=*').status_code


def below(folder: Path) -> dict[str, int]:
    """Every file and directory, and when it was changed."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_second_gateway_follows_the_archive_and_never_writes_to_it(gateways: tuple[Gateway, Gateway]) -> None:
    writer, reader = gateways
    first, second = data_set(), data_set()
    study = f"studies/{first.StudyInstanceUID}"
    assert send(writer, first).status_code == 200
    until(lambda: status(reader, study) == 200, reader)
    there = requests.get(f"{writer.web}/{study}/metadata", timeout=30).json()
    here = requests.get(f"{reader.web}/{study}/metadata", timeout=30).json()
    assert [each["00080018"] for each in here] == [each["00080018"] for each in there]
    found = requests.get(f"{reader.web}/studies", {"PatientID": str(first.PatientID)}, timeout=30).json()
    assert [each["0020000D"]["Value"] for each in found] == [[first.StudyInstanceUID]]
    instance = f"{study}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}"
    for resource, accept in (("frames/1", "application/octet-stream"), ("rendered", "image/png")):
        answers = [ask(each, f"{instance}/{resource}", accept) for each in gateways]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].content == answers[1].content
    health = requests.get(reader.web.replace("/dicomweb", "/health/ready"), timeout=30)
    assert (health.status_code, health.json()) == (200, {"status": "ready", "read_only": True})

    before = below(writer.directory / "archive")
    refused = send(reader, second)
    assert refused.status_code == 403
    assert "this gateway only reads" in refused.text
    assert requests.delete(f"{reader.web}/{study}", timeout=30).status_code == 403
    assert c_store(reader, second) == 0xA700
    assert c_store(reader, first) == 0xA700
    assert below(writer.directory / "archive") == before
    assert status(reader, study) == 200

    # Deleted and removed for good at once: 410 from the first moment, heard of or not.
    assert requests.delete(f"{writer.web}/{study}", timeout=30).status_code in (200, 204)
    seen: list[int] = []
    until(lambda: (seen.append(status(reader, study)), seen[-1] == 410)[1], reader)
    assert set(seen) <= {200, 410}
    assert status(writer, study) == 410
    assert "Traceback" not in reader.log


def c_store(gateway: Gateway, found: Dataset) -> int:
    entity = AE("TEST")
    entity.add_requested_context(CT)
    found.file_meta = Dataset()
    found.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    association = entity.associate("127.0.0.1", gateway.dimse_port, ae_title="GATEWAY")
    assert association.is_established
    answer = association.send_c_store(found)
    association.release()
    return int(answer.Status)


def test_an_archive_on_which_nothing_is_mounted_keeps_the_reader_from_starting_on_it(tmp_path: Path) -> None:
    assert not (tmp_path / "nowhere").exists()
    reader = Gateway(
        tmp_path / "reader",
        tmp_path / "reader.log",
        **ALONE,
        GATEWAY_STORAGE__READ_ONLY="true",
        GATEWAY_STORAGE__ARCHIVE_DIRECTORY=str(tmp_path / "nowhere"),
    )
    assert os.environ.get("GATEWAY_STORAGE__READ_ONLY") is None
    assert reader.run_to_end() == 1
    assert "storage.archive_directory" in reader.log
    assert not (tmp_path / "nowhere").exists()
