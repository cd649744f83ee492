"""``gateway export``: what comes out is whole, readable elsewhere, and names nobody."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from gateway import assembly
from gateway.commands.administration import administrator
from gateway.errors import AuditUnavailable
from gateway.exporting.files import Folder, NewFile, Zip
from gateway.exporting.items import NotExported, Target
from gateway.exporting.manifest import Manifest
from gateway.exporting.running import Export, Report
from gateway.exporting.selection import Chosen, Selection, selected
from storage.dicom.attributes import Level
from storage.index.questions import Search
from storage.objects.s3 import S3Settings
from tests.conformance.claims import claim
from tests.gateway.commands.conftest import MAIN, Site
from tests.gateway.http.conftest import Authority
from tests.instances import CT, uid
from tests.ports import free_port
from tests.programs import has_program, need_program, running

MR, CR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.1"
IDENTITY = ("Quimby", "Zelda", "MRN-4711", "19610703", "ACC-99")


def study(site: Site, instances: int = 2, **values: Any) -> list[Dataset]:
    """Instances of one series of a patient."""
    common = {
        "PatientName": "Quimby^Zelda",
        "StudyInstanceUID": uid(),
        "SeriesInstanceUID": uid(),
        **values,
    }
    return [
        site.store(
            PatientBirthDate="19610703",
            AccessionNumber="ACC-99",
            StudyDescription="CT thorax of Zelda Quimby",
            InstanceNumber=number,
            **common,
        )
        for number in range(1, instances + 1)
    ]


def export(site: Site, to: str | Path, *arguments: str) -> dict[str, Any]:
    """A report of an export in which nothing failed."""
    status, out, err = site.command("export", "--view", "research", "--to", str(to), "--json", *arguments)
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def names_nobody(stored: list[Dataset], *contents: bytes) -> bool:
    """Whether nothing of what is stored can be told from some bytes, in any of them."""
    uids = [str(each[keyword].value) for each in stored for keyword in
            ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]  # fmt: skip
    return not any(each.encode() in content for each in (*IDENTITY, *uids) for content in contents)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_directory_has_what_the_view_shows_under_pseudonyms_with_a_manifest(site: Site, tmp_path: Path) -> None:
    stored = study(site)
    picture = site.store(Modality="US", StudyInstanceUID=stored[0].StudyInstanceUID)
    report = export(site, tmp_path / "out", "--study", str(stored[0].StudyInstanceUID))
    assert (report["studies"], report["instances"], report["failed"]) == (1, 2, 0)
    found = files(tmp_path / "out")
    manifest = json.loads(found["manifest.json"])
    assert names_nobody([*stored, picture], *found.values(), *(name.encode() for name in found))
    assert sorted(found) == sorted(["manifest.json", *(each["path"] for each in manifest["instances"])])
    for each in manifest["instances"]:
        body = found[each["path"]]
        assert (len(body), hashlib.sha256(body).hexdigest()) == (each["size"], each["sha256"])
        read = pydicom.dcmread(io.BytesIO(body))
        keywords = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        assert {keyword: read[keyword].value for keyword in keywords} == {key: each[key] for key in keywords}
        assert each["path"] == "/".join(each[keyword] for keyword in keywords) + ".dcm"
        assert read.PatientIdentityRemoved == "YES"
        assert read.PixelData == stored[0].PixelData
    (withheld,) = manifest["withheld"]
    assert (withheld["instances"], withheld["reason"].startswith("text may be burned in")) == (1, True)
    assert (manifest["view"], manifest["failed"]) == ("research", [])
    assert "retain_longitudinal_modified_dates" in manifest["options"]


def test_an_export_into_a_directory_goes_on_and_overwrites_nothing(site: Site, tmp_path: Path) -> None:
    stored = study(site, 3)
    out = tmp_path / "out"
    export(site, out)
    whole = files(out)
    first, second, _ = (out / each["path"] for each in json.loads(whole["manifest.json"])["instances"])
    first.unlink()
    first.with_name(f".{first.name}.part").write_bytes(b"left by an export that was killed")
    second.write_bytes(b"of somebody else")
    status, out_text, err = site.command("export", "--view", "research", "--to", str(out), "--json")
    report = json.loads(out_text)
    assert (status, report["instances"], report["there_before"], report["failed"]) == (1, 2, 1, 1), err
    assert report["wrong"] == [{"SOPInstanceUID": second.stem, "reason": "another file is in its place"}]
    assert second.read_bytes() == b"of somebody else"
    second.unlink()
    export(site, out)
    # The first manifest is as it was, the second tells of the failure, and the third would be the first.
    assert {name: body for name, body in files(out).items() if name != "manifest-2.json"} == whole
    assert names_nobody(stored, *whole.values())


def test_no_two_exports_write_the_same_file(tmp_path: Path) -> None:
    one = NewFile(tmp_path / "one.dcm", fsync=False)
    with pytest.raises(NotExported, match="is writing it"):
        NewFile(tmp_path / "one.dcm", fsync=False)
    one.file.write(b"whole")
    (tmp_path / "one.dcm").write_bytes(b"of somebody else")
    with pytest.raises(NotExported, match="in its place"):
        one.publish()
    one.close()
    assert files(tmp_path) == {"one.dcm": b"of somebody else"}


def test_studies_are_selected_by_what_is_stored(site: Site, tmp_path: Path) -> None:
    mine, other = study(site, StudyDate="20260105"), study(site, StudyDate="20250101")
    site.store(PatientID="MRN-1", PatientName="Somebody^Else", IssuerOfPatientID="elsewhere")
    assert export(site, tmp_path / "a", "--patient-id", "MRN-4711")["studies"] == 2
    assert export(site, tmp_path / "b", "--where", "StudyDate=20260102-", "--patient-id", "MRN-4711")["studies"] == 1
    assert export(site, tmp_path / "c", "--where", "PatientName=quimby*")["studies"] == 2
    assert export(site, tmp_path / "d", "--patient-id", "MRN-1", "--issuer", "elsewhere")["studies"] == 1
    both = [argument for each in (mine, other) for argument in ("--study", str(each[0].StudyInstanceUID))]
    assert export(site, tmp_path / "e", *both)["studies"] == 2
    assert export(site, tmp_path / "f")["studies"] == 3
    for arguments, said in (
        (("--study", "1.2.3"), "study 1.2.3 is not there"),
        (("--patient-id", "MRN-1"), "need --issuer"),
        (("--where", "StudyDate=19000101"), "no such study"),
        (("--where", "Nonsense=1"), "KEYWORD=VALUE"),
        (("--where", "StudyDate=yesterday"), "StudyDate"),
    ):
        status, _, err = site.command("export", "--view", "research", "--to", str(tmp_path / "none"), *arguments)
        assert (status, said in err) == (1, True), err
    assert not (tmp_path / "none").exists()


def test_what_is_outside_of_the_scope_of_the_view_is_not_exported(site: Site, tmp_path: Path) -> None:
    stored = study(site)
    status, _, err = site.command(
        "export", "--view", "teaching", "--to", str(tmp_path / "out"), "--study", str(stored[0].StudyInstanceUID)
    )
    assert (status, "not in the scope of the view" in err) == (1, True)


def test_what_another_study_of_the_patient_teaches_is_taken_out_of_what_is_exported(site: Site, tmp_path: Path) -> None:
    stored = study(site, 1, SeriesDescription="seen by Wilhelmina")
    export(site, tmp_path / "before")
    site.store(OtherPatientNames="Wilhelmina^X")
    export(site, tmp_path / "after", "--study", str(stored[0].StudyInstanceUID))
    assert any(b"Wilhelmina" in body for body in files(tmp_path / "before").values())
    assert not any(b"Wilhelmina" in body for body in files(tmp_path / "after").values())


def _audited(tmp_path: Path) -> list[dict[str, Any]]:
    lines = [line for path in (tmp_path / "data" / "audit").glob("*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if '"export"' in line]


def test_each_study_is_on_the_audit_trail_by_its_stored_uid(site: Site, tmp_path: Path) -> None:
    stored = study(site)
    export(site, tmp_path / "out")
    found = _audited(tmp_path)
    assert [each["outcome"] for each in found] == ["allowed", "completed"]
    assert all(each["subject"] == [stored[0].StudyInstanceUID] and each["view"] == "research" for each in found)
    assert found[1]["detail"] == f"to {tmp_path / 'out'}: 2 instances, 0 failed"


@contextmanager
def exporting(site: Site, target: Target, manifest: Path) -> Iterator[tuple[Export, list[Chosen]]]:
    """An export of everything, step by step."""
    core = site.core
    follower = assembly.view_follower(core.settings, "research", core.archive, core.views["research"], core.pool)
    studies = selected(core.archive.index, follower.definition, Selection())
    with manifest.open("w+b") as file, closing(target):
        made = Manifest(file, follower.definition)
        found = Export(core.views["research"], follower, core.trail, administrator(), target, "here", made)
        found.bring_up(studies, lambda _: None)
        yield found, studies


def test_nothing_leaves_that_cannot_be_recorded(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study(site)

    def full(_descriptor: int, _line: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    with (
        exporting(site, Folder(tmp_path / "out", fsync=False), tmp_path / "manifest") as (found, studies),
        monkeypatch.context() as patch,
    ):
        patch.setattr(os, "write", full)
        with pytest.raises(AuditUnavailable):
            found.run(studies, lambda _: None)
    assert not files(tmp_path / "out")


@pytest.mark.parametrize("kind", [Folder, Zip])
def test_what_is_interrupted_leaves_nothing_that_is_not_whole(
    site: Site, tmp_path: Path, kind: type[Folder | Zip]
) -> None:
    study(site, 3)

    def interrupt(_: Report) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with (
        exporting(site, kind(out, fsync=True), tmp_path / "manifest") as (found, studies),
        pytest.raises(KeyboardInterrupt),
    ):
        found.run(studies, interrupt)
    assert not list(tmp_path.rglob("*.part"))
    assert out.is_dir() == (kind is Folder)
    for body in files(out).values():
        assert pydicom.dcmread(io.BytesIO(body)).PixelData
    assert "failed" in _audited(tmp_path)[-1]["outcome"]


def test_an_instance_whose_bytes_rotted_is_told_and_leaves_no_file(site: Site, tmp_path: Path) -> None:
    stored = study(site)
    site.command("view", "fill", "--view", "research")
    (row,) = site.core.views["research"].index.search(Search(MAIN, Level.STUDY))
    rotten = next((tmp_path / "data" / "archive").rglob(f"{stored[0].SOPInstanceUID}.*"))
    body = bytearray(rotten.read_bytes())
    body[-1] ^= 1
    rotten.chmod(0o640)
    rotten.write_bytes(body)
    status, out, _ = site.command("export", "--view", "research", "--to", str(tmp_path / "out"), "--json")
    report = json.loads(out)
    assert (status, report["instances"], report["failed"]) == (1, 1, 1)
    assert report["wrong"][0]["reason"] == "its stored bytes are damaged"
    assert len(files(tmp_path / "out")) == 2
    assert row.study_uid in str(sorted(files(tmp_path / "out")))
    status, _, err = site.command("export", "--view", "research", "--to", str(tmp_path / "out.zip"))
    assert (status, "no ZIP can have half of one" in err) == (1, True)
    assert not list(tmp_path.glob("*out.zip*"))


def test_a_zip_is_a_file_set_with_a_manifest(site: Site, tmp_path: Path) -> None:
    stored = [*study(site), *study(site, 1)]
    path = tmp_path / "out.zip"
    assert export(site, path)["instances"] == 3
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
        archive.extractall(tmp_path / "set")
    assert names_nobody(stored, *found.values(), path.read_bytes())
    manifest = json.loads(found["manifest.json"])
    assert sorted(found) == sorted(["DICOMDIR", "manifest.json", *(each["path"] for each in manifest["instances"])])
    directory = pydicom.dcmread(tmp_path / "set" / "DICOMDIR")
    kinds = [record.DirectoryRecordType for record in directory.DirectoryRecordSequence]
    assert [kinds.count(kind) for kind in ("PATIENT", "STUDY", "SERIES", "IMAGE")] == [1, 2, 2, 3]
    for record in directory.DirectoryRecordSequence:
        if record.DirectoryRecordType == "IMAGE":
            read = pydicom.dcmread(tmp_path.joinpath("set", *record.ReferencedFileID))
            assert read.SOPInstanceUID == record.ReferencedSOPInstanceUIDInFile
    if has_program("dcmdump", "dcmtk"):
        run = subprocess.run(
            ["dcmdump", str(tmp_path / "set" / "DICOMDIR")], check=True, capture_output=True, text=True
        )
        assert run.stdout.count("ReferencedFileID") == 3
        assert not run.stderr
    status, _, err = site.command("export", "--view", "research", "--to", str(path))
    assert (status, "is there already" in err) == (1, True)


def test_a_bucket_has_what_a_directory_has(
    site: Site, tmp_path: Path, seaweedfs_bucket: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(seaweedfs_bucket.access_key_id))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(seaweedfs_bucket.secret_access_key))
    client = boto3.client("s3", endpoint_url=seaweedfs_bucket.endpoint_url, region_name="us-east-1")
    bucket, where = seaweedfs_bucket.bucket, ("--endpoint-url", str(seaweedfs_bucket.endpoint_url))
    arguments = (*where, "--credentials", "boto3")

    def there() -> dict[str, bytes]:
        listed = client.list_objects_v2(Bucket=bucket).get("Contents", ())
        return {each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed}

    stored = study(site, 3)
    assert export(site, f"s3://{bucket}/for/them/", *arguments)["instances"] == 3
    export(site, tmp_path / "out")
    whole = {f"for/them/{name}": body for name, body in files(tmp_path / "out").items()}
    assert there() == whole
    assert names_nobody(stored, *whole.values(), *(name.encode() for name in whole))
    first, second, _ = sorted(name for name in whole if name.endswith(".dcm"))
    client.delete_object(Bucket=bucket, Key=first)
    client.put_object(Bucket=bucket, Key=second, Body=b"of somebody else")
    status, out, _ = site.command(
        "export", "--view", "research", "--to", f"s3://{bucket}/for/them", "--json", *arguments
    )
    report = json.loads(out)
    assert (status, report["there_before"], report["instances"]) == (1, 1, 2)
    assert report["wrong"][0]["reason"] == "another object is in its place"
    assert there()[second] == b"of somebody else"
    assert there()[first] == whole[first]
    status, _, err = site.command("export", "--view", "research", "--to", "s3://no-such-bucket-here", *arguments)
    assert (status, "error" in err, "Traceback" in err) == (1, True, False)


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[str]:
    """DCMTK's storage SCP as a peer."""
    folder.mkdir()
    port = free_port()
    command = ["storescp", *options, "-aet", "RESEARCH", "-od", str(folder), str(port)]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        _wait_for(port)
        yield f"dicom://RESEARCH@127.0.0.1:{port}"


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if subprocess.run(["echoscu", "127.0.0.1", str(port)], check=False, capture_output=True).returncode == 0:
            return
    raise AssertionError("storescp did not start")


@need_program("storescp", "dcmtk")
@need_program("echoscu", "dcmtk")
def test_a_peer_is_sent_what_the_view_shows_and_the_manifest_is_told(site: Site, tmp_path: Path) -> None:
    stored = [*study(site), *study(site, 1, SOPClassUID=MR, Modality="MR")]
    with storescp(tmp_path / "peer", "+xa") as url:
        assert export(site, url, "--manifest", str(tmp_path / "sent.json"))["instances"] == 3
        status, out, err = site.command("export", "--view", "research", "--to", url)
        assert (status, "3 instances" in err) == (0, True)
    sent = json.loads((tmp_path / "sent.json").read_text())
    assert json.loads(out) == sent
    received = {name: pydicom.dcmread(io.BytesIO(body)) for name, body in files(tmp_path / "peer").items()}
    assert {each.SOPInstanceUID for each in received.values()} == {each["SOPInstanceUID"] for each in sent["instances"]}
    assert names_nobody(stored, *files(tmp_path / "peer").values(), (tmp_path / "sent.json").read_bytes())
    assert not list((tmp_path / "data" / "spool").glob("export-*"))


@need_program("storescp", "dcmtk")
def test_a_peer_of_the_settings_is_sent_to_over_tls(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(site)
    authority, port, folder = Authority(tmp_path), free_port(), tmp_path / "peer"
    certificate, key = authority.issue("peer")
    folder.mkdir()
    secured = {"host": "localhost", "port": port, "tls": True, "tls_ca_file": str(authority.file)}
    monkeypatch.setenv("GATEWAY_DIMSE__DESTINATIONS", json.dumps({"RESEARCH": secured}))
    command = ["storescp", "+tls", str(key), str(certificate), "-ic", "+xa", "-od", str(folder), str(port)]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert time.monotonic() < deadline, "storescp did not start"
            time.sleep(0.01)
        found = export(site, "dicom://RESEARCH", "--manifest", str(tmp_path / "sent.json"))
    assert found["instances"] == len(list(folder.iterdir())) > 0


@need_program("storescp", "dcmtk")
@need_program("echoscu", "dcmtk")
def test_what_a_peer_does_not_take_is_told_one_by_one(site: Site, tmp_path: Path) -> None:
    taken = study(site, 1)
    private = study(site, 1, SOPClassUID="1.3.46.670589.11.0.0.12.2")
    mixed = [taken[0], site.store(StudyInstanceUID=taken[0].StudyInstanceUID, SOPClassUID=private[0].SOPClassUID,
                                  PatientName="Quimby^Zelda")]  # fmt: skip
    with storescp(tmp_path / "peer", "+xa") as url:
        for stored, sent in ((private, 0), (mixed, 1)):
            manifest = tmp_path / f"sent-{sent}.json"
            arguments = ("--study", str(stored[0].StudyInstanceUID), "--json", "--manifest", str(manifest))
            status, out, _ = site.command("export", "--view", "research", "--to", url, *arguments)
            report = json.loads(out)
            assert (status, report["instances"], report["failed"]) == (1, sent, 1)
            assert "does not take SOP class 1.3.46.670589.11.0.0.12.2" in report["wrong"][0]["reason"]
            assert len(json.loads(manifest.read_text())["instances"]) == sent
    status, _, err = site.command("export", "--view", "research", "--to", f"dicom://GONE@127.0.0.1:{free_port()}")
    assert (status, "cannot be reached" in err) == (1, True)


@claim("K10")
def test_what_a_peer_answers_with_a_failure_is_told_and_the_rest_is_sent(site: Site, tmp_path: Path) -> None:
    says = iter((0x0000, 0xB000, 0xA700, 0x0000))
    application_entity = AE(ae_title="RESEARCH")
    application_entity.add_supported_context(CT, [ExplicitVRLittleEndian])
    server = application_entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _event: next(says))]
    )
    study(site, 4)
    url = f"dicom://RESEARCH@127.0.0.1:{server.server_address[1]}"
    manifest = ("--manifest", str(tmp_path / "sent.json"))
    status, out, _ = site.command("export", "--view", "research", "--to", url, "--json", *manifest)
    server.shutdown()
    report = json.loads(out)
    assert (status, report["instances"], report["failed"]) == (1, 3, 1)
    assert report["wrong"][0]["reason"] == "the peer answers 0xA700 (Refused: Out of Resources)"


class Peer:
    """A storage SCP that notes what it is sent, and aborts when it is told to."""

    def __init__(self) -> None:
        self.associations = 0
        self.received: list[str] = []
        self.aborts: Callable[[str], bool] = lambda _: False
        application_entity = AE(ae_title="RESEARCH")
        for sop_class_uid in (CT, MR, CR):
            application_entity.add_supported_context(sop_class_uid, [ExplicitVRLittleEndian])
        handlers: list[Any] = [(evt.EVT_ACCEPTED, self._accepted), (evt.EVT_C_STORE, self._stored)]
        self._server = application_entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.url = f"dicom://RESEARCH@127.0.0.1:{self._server.server_address[1]}"

    def _accepted(self, _event: evt.Event) -> None:
        self.associations += 1

    def _stored(self, event: evt.Event) -> int:
        sop_uid = str(event.request.AffectedSOPInstanceUID)
        if self.aborts(sop_uid):
            event.assoc.abort()
        else:
            self.received.append(sop_uid)
        return 0x0000

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with closing(Peer()) as found:
        yield found


def to_peer(site: Site, peer: Peer, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    manifest = tmp_path / f"sent-{len(list(tmp_path.iterdir()))}.json"
    arguments = ("--to", peer.url, "--json", "--manifest", str(manifest))
    status, out, _ = site.command("export", "--view", "research", *arguments)
    return status, json.loads(out)


@claim("K11")
def test_a_peer_is_sent_all_studies_over_one_association(site: Site, tmp_path: Path, peer: Peer) -> None:
    """Whatever kinds of instances they have, and whichever comes first."""
    for sop_class_uid, modality in ((CT, "CT"), (MR, "MR"), (CR, "CR")) * 2:
        study(site, 1, SOPClassUID=sop_class_uid, Modality=modality)
    assert to_peer(site, peer, tmp_path)[0] == 0
    assert (len(set(peer.received)), peer.associations) == (6, 1)


@claim("K12")
def test_an_association_that_breaks_is_asked_for_anew(site: Site, tmp_path: Path, peer: Peer) -> None:
    study(site, 4)
    seen: list[str] = []

    def third_time(sop_uid: str) -> bool:
        seen.append(sop_uid)
        return len(seen) == 3

    peer.aborts = third_time
    status, report = to_peer(site, peer, tmp_path)
    assert (status, report["instances"], peer.associations) == (0, 4, 2)
    assert seen[2] == seen[3] == peer.received[2]


@claim("K12")
def test_an_instance_that_a_peer_never_answers_keeps_no_other_back(site: Site, tmp_path: Path, peer: Peer) -> None:
    stored = study(site, 4)
    site.command("view", "fill", "--view", "research")
    bad = sorted(str(row.sop_uid) for row in site.core.views["research"].index.search(Search(MAIN, Level.INSTANCE)))[1]
    peer.aborts = lambda sop_uid: sop_uid == bad
    status, report = to_peer(site, peer, tmp_path)
    assert (status, report["instances"], report["failed"]) == (1, len(stored) - 1, 1)
    assert report["wrong"][0]["SOPInstanceUID"] == bad
    assert "the peer ended the association" in report["wrong"][0]["reason"]


@claim("K12")
def test_an_export_ends_when_three_instances_in_a_row_are_lost(site: Site, tmp_path: Path, peer: Peer) -> None:
    study(site, 8)
    peer.aborts = lambda _: True
    status, report = to_peer(site, peer, tmp_path)
    assert (status, report["complete"], report["instances"], peer.associations) == (1, False, 0, 6)


def test_an_instance_that_rotted_keeps_no_other_from_a_peer(site: Site, tmp_path: Path, peer: Peer) -> None:
    """What went out of it before that showed is taken back, and the others are sent."""
    stored = study(site, 4)
    site.command("view", "fill", "--view", "research")
    rotten = next((tmp_path / "data" / "archive").rglob(f"{stored[0].SOPInstanceUID}.*"))
    body = bytearray(rotten.read_bytes())
    body[-1] ^= 1
    rotten.chmod(0o640)
    rotten.write_bytes(body)
    status, report = to_peer(site, peer, tmp_path)
    assert (status, report["instances"], report["failed"]) == (1, 3, 1)
    assert report["wrong"][0]["reason"] == "its stored bytes are damaged"


def test_targets_that_are_none_are_refused_before_anything_is_done(site: Site, tmp_path: Path) -> None:
    study(site)
    for to, said in (
        ("dicom://127.0.0.1:104", "dicom://AET@HOST:PORT"),
        (f"dicom://{'A' * 17}@127.0.0.1:104", "at most 16 characters"),
        ("s3:///prefix", "s3://BUCKET"),
        (str(tmp_path / "data" / "out"), "the gateway's own"),
    ):
        status, _, err = site.command("export", "--view", "research", "--to", to)
        assert (status, said in err) == (1, True), err
    for arguments, said in (
        (("--to", "dicom://A@127.0.0.1:104", "--json"), "needs --manifest"),
        (("--to", "out", "--manifest", "here.json"), "only for a peer"),
    ):
        status, _, err = site.command("export", "--view", "research", *arguments)
        assert (status, said in err) == (1, True), err
