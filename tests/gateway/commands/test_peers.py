"""``gateway echo``, ``send``, ``find`` and ``get``: what a peer has then, what is told, and what is said when not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE, evt

from gateway import assembly, cli
from gateway.commands import terminal
from gateway.config import Settings
from gateway.dimse import asking
from gateway.dimse.sending import in_turns
from gateway.dimse.server import DimseServer
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Target
from tests import instances
from tests.gateway.commands.conftest import MAIN, Site
from tests.gateway.dimse.conftest import Serve
from tests.gateway.dimse.test_tls import with_tls
from tests.gateway.http.conftest import Authority
from tests.ports import free_port
from tests.programs import need_program, running

VERIFICATION = "1.2.840.10008.1.1"
STUDY_FIND, STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"
PIXELS = (np.add.outer(np.arange(48), np.arange(64)) * 7).astype("<u2").tobytes()
ARCHIVE = """
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
OLD {directory} RW (200, 1024mb) ANY
AETable END
"""
# As a shell starts it in the foreground; in the background it would have SIGINT ignored.
STARTED = (
    "import signal, sys\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from gateway import cli\n"
    "sys.exit(cli.main())"
)
Handlers = list[tuple[Any, Callable[..., Any]]]


@pytest.fixture
def server(site: Site, serve: Serve) -> Iterator[DimseServer]:
    with serve(site.core) as started:
        yield started


def peer_of(server: DimseServer) -> str:
    return f"GATEWAY@127.0.0.1:{server.address[1]}"


def here(site: Site, study_uid: str) -> set[str]:
    target = Target(MAIN, ids.study_uid(study_uid))
    return {str(each.key.sop_uid) for each in site.core.archive.index.locate(target, EVERYTHING)}


@contextmanager
def peer(handlers: Handlers, *contexts: str, syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,)) -> Iterator[str]:
    """A peer with another library."""
    application_entity = AE(ae_title="OTHER")
    for each in contexts:
        application_entity.add_supported_context(each, list(syntaxes), scu_role=True, scp_role=True)
    started = application_entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    try:
        yield f"OTHER@127.0.0.1:{started.server_address[1]}"
    finally:
        started.shutdown()


@contextmanager
def program(*command: str, port: int) -> Iterator[None]:
    """A program that listens on a port."""
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        for _ in range(1500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield


def written(folder: Path, *found: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for each in found:
        (folder / f"{each.SOPInstanceUID}.dcm").write_bytes(instances.part10_file(each, syntax))
    return folder


def image(**values: Any) -> Dataset:
    return instances.data_set(Rows=48, Columns=64, PixelData=PIXELS, **values)


# C-ECHO, and why there is no association


def test_a_peer_that_is_there_answers(site: Site, server: DimseServer) -> None:
    status, out, _ = site.command("echo", peer_of(server), "--calling-aet", "BENCH")
    assert (status, "answers BENCH: association in" in out) == (terminal.OK, True)
    status, out, _ = site.command("echo", peer_of(server), "--json")
    found = json.loads(out)
    assert (status, found["status"], found["tls"], found["calling"]) == (terminal.OK, 0, False, "GATEWAY")


def test_a_peer_of_the_settings_goes_by_its_ae_title(site: Site, server: DimseServer) -> None:
    with site.file.open("a") as file:
        file.write(f'[dimse.destinations.GATEWAY]\nhost = "127.0.0.1"\nport = {server.address[1]}\n')
    assert site.command("echo", "GATEWAY")[0] == terminal.OK
    status, _, err = site.command("echo", "ELSEWHERE")
    assert (status, "(there: GATEWAY)" in err) == (terminal.USAGE, True)


def test_what_keeps_a_peer_from_answering_is_told_with_what_to_do(site: Site, server: DimseServer) -> None:
    port = server.address[1]
    status, _, err = site.command("echo", f"WRONG@127.0.0.1:{port}")
    assert status == terminal.UNREACHED
    assert "rejects the association: Called AE title not recognised" in err
    assert "next the peer goes by another AE title than WRONG" in err
    status, _, err = site.command("echo", f"GATEWAY@127.0.0.1:{free_port()}")
    assert (status, "next nothing listens there" in err) == (terminal.UNREACHED, True)
    status, _, err = site.command("echo", f"GATEWAY@127.0.0.1:{port}", "--tls")
    assert (status, "next perhaps the peer does not speak TLS" in err) == (terminal.UNREACHED, True)
    for wrong in ("GATEWAY@127.0.0.1", "TOO_LONG_AN_AE_TITLE@127.0.0.1:1"):
        assert site.command("echo", wrong)[0] == terminal.USAGE
    assert site.command("echo", peer_of(server), "--calling-aet", "a\\b")[0] == terminal.USAGE


def test_a_calling_title_that_is_not_known_there_is_told(site: Site) -> None:
    application_entity = AE(ae_title="OTHER")
    application_entity.add_supported_context(VERIFICATION)
    application_entity.require_calling_aet = ["CT1"]
    started = application_entity.start_server(("127.0.0.1", 0), block=False)
    address = f"OTHER@127.0.0.1:{started.server_address[1]}"
    status, _, err = site.command("echo", address, "--calling-aet", "CT9")
    assert (status, "have the AE title CT9 entered there" in err) == (terminal.UNREACHED, True)
    assert site.command("echo", address, "--calling-aet", "CT1")[0] == terminal.OK
    started.shutdown()


def test_a_peer_over_tls_is_checked_as_it_is_asked_to_be(
    site: Site, settings: Settings, tmp_path: Path, serve: Serve
) -> None:
    authority = Authority(tmp_path)
    core = assembly.build(with_tls(settings, authority), "test")
    try:
        with serve(core) as server:
            here = peer_of(server)
            ca = ("--tls-ca", str(authority.file))
            status, out, _ = site.command("echo", here, "--tls", *ca)
            assert (status, "over TLS" in out) == (terminal.OK, True)
            status, _, err = site.command("echo", here, "--tls")
            assert (status, "of no authority that is known here" in err) == (terminal.UNREACHED, True)
            elsewhere = here.replace("127.0.0.1", "127.0.0.2")
            status, _, err = site.command("echo", elsewhere, *ca)
            assert status == terminal.UNREACHED  # it listens on 127.0.0.1 alone
            status, _, err = site.command("echo", here, "--timeout", "5")
            assert (status, "wants TLS" in err) == (terminal.UNREACHED, True)
    finally:
        core.close()


# C-STORE


def test_everything_below_a_directory_is_sent_as_it_is(site: Site, server: DimseServer, tmp_path: Path) -> None:
    study_uid = instances.uid()
    sent = [image(StudyInstanceUID=study_uid) for _ in range(4)]
    folder = written(tmp_path / "sent", sent[0])
    written(folder / "a" / "b", sent[1], syntax=ImplicitVRLittleEndian)
    sent[2].compress(JPEG2000Lossless, generate_instance_uid=False) if instances.part10_file(sent[2]) else None
    written(folder / "c", sent[2], syntax=JPEG2000Lossless)
    (folder / "bare").write_bytes(instances.encode(sent[3]))
    (folder / "README.txt").write_text("This is no DICOM, and long enough to be looked at." * 10)
    status, out, err = site.command("send", str(folder), peer_of(server))
    assert status == terminal.OK
    assert out.startswith("4 of 4 instances sent to GATEWAY at")
    assert "1 files skipped" in out
    assert "sending: 4 of 4, " in err
    assert here(site, study_uid) == {each.SOPInstanceUID for each in sent}
    target = Target(MAIN, ids.study_uid(study_uid))
    kept = {str(each.transfer_syntax_uid) for each in site.core.archive.index.locate(target, EVERYTHING)}
    assert kept == {ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless}


def test_a_zip_is_sent_and_told_of_as_json(site: Site, server: DimseServer, tmp_path: Path) -> None:
    found = image()
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one", instances.part10_file(found))
    # Options between what has no name: the peer is what stands last.
    status, out, _ = site.command("send", str(tmp_path / "study.zip"), "--json", peer_of(server))
    told = json.loads(out)
    assert (status, told["sent"], told["failed"], told["complete"]) == (terminal.OK, 1, 0, True)
    kind = {"SOPClassUID": instances.CT, "TransferSyntaxUID": ExplicitVRLittleEndian, "instances": 1}
    assert told["kinds"] == [kind]
    assert here(site, found.StudyInstanceUID) == {found.SOPInstanceUID}


@need_program("storescp", "dcmtk")
def test_dcmtk_takes_what_it_can_and_the_rest_is_named(site: Site, tmp_path: Path) -> None:
    plain, compressed = image(), image()
    folder = written(tmp_path / "sent", plain, syntax=ExplicitVRBigEndian)
    instances.part10_file(compressed)
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    written(folder, compressed, syntax=JPEG2000Lossless)
    came, port = tmp_path / "came", free_port()
    came.mkdir()
    with program("storescp", "-aet", "DCMTK", "+xi", "-od", str(came), str(port), port=port):
        status, _, err = site.command("send", str(folder), f"DCMTK@127.0.0.1:{port}")
    assert status == terminal.FAILED
    assert f"{compressed.SOPInstanceUID}.dcm: the peer does not take CT Image Storage" in err
    assert "in JPEG 2000 Image Compression (Lossless Only)" in err
    (only,) = map(pydicom.dcmread, came.iterdir())
    assert (only.SOPInstanceUID, only.PixelData) == (plain.SOPInstanceUID, PIXELS)
    assert only.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian


def test_more_kinds_than_an_association_carries_are_sent_over_several(
    site: Site, server: DimseServer, tmp_path: Path
) -> None:
    sent = [instances.data_set(SOPClassUID=f"1.2.826.0.1.{number}") for number in range(70)]
    folder = written(tmp_path / "sent", *sent)
    status, out, _ = site.command("send", str(folder), peer_of(server), "--json")
    assert (status, json.loads(out)["sent"]) == (terminal.OK, 70)
    turns = in_turns((each.SOPClassUID, ExplicitVRLittleEndian) for each in sent)
    assert [len(each) for each in turns] == [64, 6]


def test_what_a_peer_refuses_is_named_by_file_and_status(site: Site, tmp_path: Path) -> None:
    says = {"a": 0x0000, "b": 0xB007, "c": 0xA700, "d": 0xC000}
    sent = {name: image(PatientID=name) for name in says}
    folder = tmp_path / "sent"
    folder.mkdir()
    for name, each in sent.items():
        (folder / name).write_bytes(instances.part10_file(each))
    handlers: Handlers = [(evt.EVT_C_STORE, lambda event: says[event.dataset.PatientID])]
    with peer(handlers, instances.CT) as address:
        report = tmp_path / "report"
        status, out, err = site.command("send", str(folder), address, "--report", str(report))
    assert status == terminal.FAILED
    assert "error c: the peer answers 0xA700 (Refused: Out of Resources)" in err
    assert "error d: the peer answers 0xC000 (Cannot Understand)" in err
    assert out.startswith("2 of 4 instances sent")
    assert "1 of them with a warning, 2 not sent" in out
    assert {json.loads(line)["file"]: json.loads(line)["status"] for line in report.read_text().splitlines()} == {
        "c": 0xA700,
        "d": 0xC000,
    }


def test_after_a_peer_that_went_away_the_same_command_sends_the_rest(site: Site, tmp_path: Path) -> None:
    came: list[str] = []
    gone = [True]

    def store(event: evt.Event) -> int:
        if gone[0] and len(came) == 2:
            event.assoc.abort()
            return 0xA700
        came.append(event.request.AffectedSOPInstanceUID)
        return 0

    sent = [image() for _ in range(6)]
    folder = written(tmp_path / "sent", *sent)
    journal = ("--journal", str(tmp_path / "journal"))
    with peer([(evt.EVT_C_STORE, store)], instances.CT) as address:
        status, _, err = site.command("send", str(folder), address, *journal)
        assert (status, "give the command again to go on" in err) == (terminal.UNREACHED, True)
        gone[0] = False
        status, out, _ = site.command("send", str(folder), address, *journal)
    assert (status, out.startswith("4 of 4 instances")) == (terminal.OK, True)
    assert "2 sent by an earlier run" in out
    assert sorted(came) == sorted(each.SOPInstanceUID for each in sent), "none twice"


def test_a_dry_run_asks_nobody(site: Site, tmp_path: Path) -> None:
    folder = written(tmp_path / "sent", image())
    status, out, _ = site.command("send", str(folder), f"X@127.0.0.1:{free_port()}", "--dry-run")
    assert (status, "CT Image Storage" in out, "would be sent" in out) == (terminal.OK, True, True)
    (tmp_path / "none").mkdir()
    status, _, err = site.command("send", str(tmp_path / "none"), f"X@127.0.0.1:{free_port()}")
    assert (status, "there is no DICOM in it" in err) == (terminal.FAILED, True)


def test_ctrl_c_ends_a_sending_with_130(tmp_path: Path) -> None:
    folder = written(tmp_path / "sent", image())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"X@127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-c", STARTED, "send", str(folder), address]  # fmt: skip
        with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                os.kill(process.pid, signal.SIGINT)
                _, err = process.communicate(timeout=60)
    assert process.returncode == terminal.INTERRUPTED
    assert "error interrupted: give the command again" in err
    assert "Traceback" not in err


# C-FIND


def test_what_a_peer_has_is_a_table_or_dicom_json(site: Site, server: DimseServer) -> None:
    site.store(PatientName="Müller^Zoë", PatientID="P1", StudyDescription="Schädel")
    site.store(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", PatientID="P2", SpecificCharacterSet="ISO_IR 192")
    status, out, _ = site.command("find", peer_of(server), "PatientName=müller*")
    head, line = out.splitlines()
    assert (status, head.split()[0]) == (terminal.OK, "StudyDate")
    assert line.split()[2:4] == ["Müller^Zoë", "P1"]
    status, out, _ = site.command("find", "--json", peer_of(server), "PatientName=山田*")
    (match,) = json.loads(out)["matches"]
    assert match["00100010"]["Value"] == [
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    ]
    # Behind options, too.
    status, out, _ = site.command("find", peer_of(server), "--level", "patient", "PatientID=P1")
    assert [line.split()[-1] for line in out.splitlines()] == ["PatientID", "P1"]


def test_names_in_other_character_sets_are_read(site: Site) -> None:
    def found(_event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for charset, name in (("ISO_IR 100", "Äneas^Jérôme"), ("ISO_IR 144", "Люкceмбypг"), ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ")):
            answer = Dataset()
            answer.SpecificCharacterSet = charset
            answer.QueryRetrieveLevel, answer.PatientName = "STUDY", name
            yield 0xFF00, answer

    with peer([(evt.EVT_C_FIND, found)], STUDY_FIND) as address:
        status, out, _ = site.command("find", address)
    assert status == terminal.OK
    for name in ("Äneas^Jérôme", "Люкceмбypг", "ﾔﾏﾀﾞ^ﾀﾛｳ"):
        assert name in out


def test_no_more_is_asked_for_than_is_wanted(site: Site, server: DimseServer) -> None:
    for number in range(3):
        site.store(PatientID=f"P{number}")
    status, out, err = site.command("find", peer_of(server), "--limit", "2")
    assert (status, len(out.splitlines()), "more than 2" in err) == (terminal.OK, 3, True)
    _, out, _ = site.command("find", peer_of(server), "--limit", "3", "--json")
    assert (len(json.loads(out)["matches"]), json.loads(out)["more"]) == (3, False)


def test_a_peer_that_does_not_stop_is_hung_up_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_AFTER_CANCEL", 20)
    given, over = 0, threading.Event()

    def endless(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        nonlocal given
        while event.assoc.is_alive() and not over.is_set():
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.PatientID = "STUDY", f"P{given}"
            given += 1
            yield 0xFF00, answer
        yield 0x0000, None

    with peer([(evt.EVT_C_FIND, endless)], STUDY_FIND) as address:
        # So that the test ends whatever is done.
        timer = threading.Timer(60, over.set)
        timer.start()
        status, out, _ = site.command("find", address, "--limit", "2", "--json")
        is_by_us = not over.is_set()
        over.set()
        timer.cancel()
    assert (status, is_by_us) == (terminal.OK, True)
    found = json.loads(out)
    assert (len(found["matches"]), found["more"]) == (2, True)


def test_a_question_that_cannot_be_is_told_with_what_would_be_right(site: Site, server: DimseServer) -> None:
    for key, meant in (
        ("PatientNam=x", "did you mean PatientName?"),
        ("SeriesNumber=one", "no value of SeriesNumber"),
        ("ReferencedStudySequence=x", "a sequence"),
        ("QueryRetrieveLevel=STUDY", "--level"),
    ):
        status, _, err = site.command("find", peer_of(server), key)
        assert (status, meant in err) == (terminal.USAGE, True), err
    status, _, err = site.command("find", peer_of(server), "Modality=ct")
    assert (status, "note Modality=ct: not what CS can be" in err) == (terminal.OK, True)
    status, _, err = site.command("find", peer_of(server), "--level", "series")
    assert status == terminal.FAILED
    assert "0xA900" in err
    assert "next at this level it probably wants StudyInstanceUID=UID too" in err


# C-GET


def test_a_study_comes_as_it_is_there_and_what_has_come_stays(site: Site, server: DimseServer, tmp_path: Path) -> None:
    stored = [site.store(StudyInstanceUID="1.2.826.4.1", SeriesInstanceUID=f"1.2.826.4.1.{n}") for n in (1, 1, 2)]
    out = tmp_path / "came"
    status, said, _ = site.command("get", peer_of(server), "StudyInstanceUID=1.2.826.4.1", "--out", str(out))
    assert (status, said.startswith("3 instances fetched into")) == (terminal.OK, True)
    for each in stored:
        path = out / "1.2.826.4.1" / each.SeriesInstanceUID / f"{each.SOPInstanceUID}.dcm"
        came = pydicom.dcmread(path)
        assert came == each
        assert came.file_meta.MediaStorageSOPInstanceUID == each.SOPInstanceUID
        assert came.file_meta.SourceApplicationEntityTitle == "GATEWAY"
    path.write_bytes(b"somebody's own")
    other = out / "1.2.826.4.1" / "1.2.826.4.1.1" / f"{stored[0].SOPInstanceUID}.dcm"
    other.unlink()
    status, said, _ = site.command("get", peer_of(server), "PatientID=MRN-4711", "--out", str(out), "--json")
    found = json.loads(said)["instances"]
    assert (status, found["fetched"], found["there_before"]) == (terminal.OK, 1, 2)
    assert path.read_bytes() == b"somebody's own"
    assert other.exists()
    assert not list(out.glob(".*")), "nothing of its own is left"


def test_a_series_or_instance_is_fetched_alone(site: Site, server: DimseServer, tmp_path: Path) -> None:
    stored = [site.store(StudyInstanceUID="1.2.826.5.1", SeriesInstanceUID=f"1.2.826.5.1.{n}") for n in (1, 1, 2)]
    keys = ["StudyInstanceUID=1.2.826.5.1", "SeriesInstanceUID=1.2.826.5.1.1"]
    out = tmp_path / "series"
    assert site.command("get", peer_of(server), *keys, "--out", str(out))[0] == terminal.OK
    assert len(list(out.rglob("*.dcm"))) == 2
    one, out = stored[1].SOPInstanceUID, tmp_path / "instance"
    assert site.command("get", peer_of(server), "--out", str(out), *keys, f"SOPInstanceUID={one}")[0] == terminal.OK
    assert [each.name for each in out.rglob("*.dcm")] == [f"{one}.dcm"]
    for wrong in (
        ["SOPInstanceUID=1.2"],
        ["StudyInstanceUID=1.2", "PatientID=4"],
        ["PatientID="],
        ["StudyInstanceUID=x"],
    ):
        assert site.command("get", peer_of(server), *wrong, "--out", str(out))[0] == terminal.USAGE
    status, _, err = site.command("get", peer_of(server), "StudyInstanceUID=1.2.3.4", "--out", str(out))
    assert (status, "has nothing that matches" in err) == (terminal.FAILED, True)


def test_a_peer_without_c_get_is_told_of(site: Site, tmp_path: Path) -> None:
    with peer([], STUDY_FIND) as address:
        status, _, err = site.command("get", address, "StudyInstanceUID=1.2.3", "--out", str(tmp_path / "out"))
    assert status == terminal.FAILED
    assert "the peer does not answer C-GET" in err
    assert "next it may send by C-MOVE: `gateway migrate" in err


def giving(listed: list[Dataset], given: list[Dataset]) -> Handlers:
    """Lists some instances, and sends others."""

    def found(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        for each in listed:
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            for element in asked:
                if element.keyword in each:
                    answer[element.keyword] = each[element.keyword]
            yield 0xFF00, answer

    def get(_event: evt.Event) -> Iterator[Any]:
        yield len(given)
        for each in given:
            instances.part10_file(each)
            yield 0xFF00, each

    return [(evt.EVT_C_FIND, found), (evt.EVT_C_GET, get)]


def test_what_does_not_come_is_named(site: Site, tmp_path: Path) -> None:
    study = {"StudyInstanceUID": "1.2.826.6.1", "SeriesInstanceUID": "1.2.826.6.1.1"}
    first, second = image(**study), image(**study)
    with peer(giving([first, second], [first]), STUDY_FIND, STUDY_GET, instances.CT) as address:
        out = tmp_path / "out"
        status, said, err = site.command("get", address, "StudyInstanceUID=1.2.826.6.1", "--out", str(out))
    assert (status, "1 missing" in said) == (terminal.FAILED, True)
    assert "error 1.2.826.6.1: 1 of 2 instances did not come" in err


def test_a_peer_cannot_write_elsewhere(site: Site, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        evil = image(StudyInstanceUID="1.2.826.7.1", SeriesInstanceUID="../../../../evil")
    listed = image(
        StudyInstanceUID="1.2.826.7.1", SeriesInstanceUID="1.2.826.7.1.1", SOPInstanceUID=evil.SOPInstanceUID
    )
    with peer(giving([listed], [evil]), STUDY_FIND, STUDY_GET, instances.CT) as address:
        out = tmp_path / "a" / "out"
        status, _, err = site.command("get", address, "StudyInstanceUID=1.2.826.7.1", "--out", str(out))
    assert (status, "not a UID" in err) == (terminal.FAILED, True)
    assert not list(tmp_path.rglob("*.dcm"))


def test_a_place_that_takes_nothing_ends_it(site: Site, tmp_path: Path) -> None:
    study = {"StudyInstanceUID": "1.2.826.6.2", "SeriesInstanceUID": "1.2.826.6.2.1"}
    sent = [image(**study) for _ in range(3)]
    out = tmp_path / "out"
    (out / "1.2.826.6.2").mkdir(parents=True)
    (out / "1.2.826.6.2" / "1.2.826.6.2.1").write_text("a file where a directory has to be")
    with peer(giving(sent, sent), STUDY_FIND, STUDY_GET, instances.CT) as address:
        status, _, err = site.command("get", address, "StudyInstanceUID=1.2.826.6.2", "--out", str(out))
    assert (status, "1.2.826.6.2.1: File exists" in err) == (terminal.FAILED, True)


@need_program("dcmqrscp", "dcmtk")
def test_dcmtks_archive_takes_lists_and_gives(site: Site, tmp_path: Path) -> None:
    sent = [image(PatientName="Gray^Ann", PatientID="D-1", StudyInstanceUID="1.2.826.9.1") for _ in range(3)]
    folder, kept, port = written(tmp_path / "sent", *sent), tmp_path / "kept", free_port()
    kept.mkdir()
    configuration = tmp_path / "dcmqrscp.cfg"
    configuration.write_text(ARCHIVE.format(port=port, directory=kept))
    address = f"OLD@127.0.0.1:{port}"
    with program("dcmqrscp", "-c", str(configuration), port=port):
        assert site.command("echo", address)[0] == terminal.OK
        assert site.command("send", str(folder), address)[0] == terminal.OK
        _, out, _ = site.command("find", address, "PatientID=D-1")
        assert "Gray^Ann" in out.splitlines()[1]
        status, _, _ = site.command("get", address, "PatientID=D-1", "--out", str(tmp_path / "came"))
    came = {each.SOPInstanceUID: each.PixelData for each in map(pydicom.dcmread, (tmp_path / "came").rglob("*.dcm"))}
    assert status == terminal.OK
    assert came == {each.SOPInstanceUID: PIXELS for each in sent}


def test_what_stands_behind_options_and_is_none_of_a_command_is_not_understood() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["echo", "A@b:1", "--json", "more"])
    assert ended.value.code == terminal.USAGE
