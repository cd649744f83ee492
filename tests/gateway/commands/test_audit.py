"""``gateway audit``, on the trail that a whole gateway leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway import cli
from tests.instances import data_set, part10_file
from tests.serving import Gateway
from tests.syslog_server import SyslogServer

PATIENT = "AUDIT-7"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A gateway that ran twice, the second time by other settings; the study that it has."""
    folder = tmp_path_factory.mktemp("audit")
    once = {"GATEWAY_HTTP__WORKERS": "1", "GATEWAY_DIMSE__WORKERS": "1", "GATEWAY_AUDIT__WINDOW_S": "1"}
    gateway = Gateway(folder / "data", folder / "log", **once)
    gateway.start()
    try:
        found = data_set(PatientID=PATIENT, Modality="CT")
        study = found.StudyInstanceUID
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10_file(found) + b"\r\n--b--\r\n"
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
        assert requests.post(f"{gateway.web}/studies", data=body, headers=headers, timeout=30).status_code == 200
        query = {"PatientName": "Zyxwvut*", "StudyInstanceUID": study}
        assert requests.get(f"{gateway.web}/studies", params=query, timeout=30).status_code == 204
        for _ in range(10):
            assert requests.get(f"{gateway.web}/studies/{study}", timeout=30).status_code == 200
        assert requests.get(f"{gateway.web}/studies/1.2.3", headers={"X-API-Key": "x"}, timeout=30).status_code == 401
        gateway.kill_all()
        server = SyslogServer(folder)
        server.start()
        again = Gateway(
            folder / "data",
            folder / "log",
            **once,
            GATEWAY_SYSLOG__HOST="127.0.0.1",
            GATEWAY_SYSLOG__PORT=str(server.port),
            GATEWAY_SYSLOG__CA_BUNDLE=str(server.certificate),
        )
        again.start()
        gateway = again
        assert again.stop() == 0
        server.stop()
        (folder / "received").write_bytes(b"\n".join(server.received))
        yield gateway, study
    finally:
        gateway.kill_all()


@pytest.fixture
def data(site: tuple[Gateway, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what it left."""
    shutil.copytree(site[0].directory, tmp_path / "data")
    monkeypatch.setenv("GATEWAY_STORAGE__DIRECTORY", str(tmp_path / "data"))
    return tmp_path / "data"


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    assert cli.main(["audit", *arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_the_trail_of_a_whole_gateway_is_whole(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "verify")
    assert found["whole"]
    assert found["checkpoints"] == 1
    assert found["chains"] == 8, "a supervisor and three workers, twice"
    assert len(found["without_an_end"]) == 4, "the first four were killed"
    assert cli.main(["audit", "verify"]) == 0
    said = capsys.readouterr()
    assert "as they were recorded" in said.out
    assert "verifying files: 8 of 8, " in said.err


def test_starts_stops_and_changed_settings_are_recorded(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = told(capsys, "search")["records"]
    assert sum(each["action"] == "start" for each in records) == 9, "and the search itself"
    assert sum(each["action"] == "stop" for each in records) == 5
    (changed,) = [each for each in records if each["action"] == "configure"]
    assert changed["detail"] == "dimse http syslog", "the ports are others"
    again, first = [each for each in records if each["action"] == "start" and each["detail"] == "http worker"]
    assert again["before"]["chain"] == first["chain"]


def test_an_edit_makes_the_exit_status_1_and_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(path for path in (data / "audit").glob("*http-1*.jsonl") if b'"denied"' in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b'"denied"', b'"stored"', 1))
    assert cli.main(["audit", "verify"]) == 1
    assert f"{path.name}: record " in capsys.readouterr().err


def test_a_trail_that_is_gone_is_missed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(data / "audit")
    (fault,) = told(capsys, "verify", status=1)["faults"]
    assert fault["what"].startswith("the whole trail is missing")
    assert told(capsys, "verify", "--no-checkpoints")["records"] == 0


def test_files_may_be_kept_elsewhere(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "older" / "one").mkdir(parents=True)
    first, second, *_ = sorted((data / "audit").glob("*.jsonl"))
    first.rename(tmp_path / "older" / first.name)
    second.rename(tmp_path / "older" / "one" / second.name)
    assert told(capsys, "verify", status=1)["faults"]
    assert told(capsys, "verify", "--directory", str(tmp_path / "older"))["whole"]


def test_the_object_store_has_nothing_foreign(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["foreign"] == 0
    (data / "index.sqlite").rename(data / "aside")
    assert cli.main(["reindex", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["objects"], report["indexed"], report["damaged"]) == (1, 1, [])


def test_checkpoints_alone_are_no_archive(data: Path) -> None:
    from gateway import assembly, config

    shutil.rmtree(data / "archive" / "objects" / "main")
    (data / "index.sqlite").unlink()
    assembly.check_index(config.load(None))


def test_records_are_found_by_what_they_are_about(
    data: Path, site: tuple[Gateway, str], capsys: pytest.CaptureFixture[str]
) -> None:
    study = site[1]
    (denied,) = told(capsys, "search", "--outcome", "denied")["records"]
    assert denied["detail"] == "the API key is not known"
    (search,) = told(capsys, "search", "--action", "search", "--outcome", "allowed", "--principal", "this-machine")[
        "records"
    ]
    assert search["query"] == f"PatientName=...&StudyInstanceUID={study}"
    stored = told(capsys, "search", "--study", study, "--action", "store", "--outcome", "stored")["records"]
    assert stored == told(capsys, "search", "--patient-id", PATIENT, "--outcome", "stored")["records"]
    assert len(stored) == 1
    assert not told(capsys, "search", "--patient-id", "NOBODY")["records"]
    assert not told(capsys, "search", "--until", "2020-01-01")["records"]
    assert not told(capsys, "search", "--since", "2199-01-01")["records"]
    assert told(capsys, "search", "--limit", "2")["more"]
    assert cli.main(["audit", "search", "--outcome", "denied"]) == 0
    assert "authenticate denied  unknown (127.0.0.1)  the API key is not known" in capsys.readouterr().out
    asked = told(capsys, "search", "--action", "audit_read")["records"]
    assert len(asked) >= 8, "who reads the trail stands in it"


def test_who_saw_a_patients_images_is_told(
    data: Path, site: tuple[Gateway, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "patient", PATIENT)
    assert found["studies"] == [site[1]]
    (seen,) = found["seen"]
    assert (seen["principal"], seen["action"], seen["study"]) == ("this-machine", "download", site[1])
    assert seen["addresses"] == ["127.0.0.1"]
    assert cli.main(["audit", "patient", PATIENT]) == 0
    assert f"this-machine (loopback) from 127.0.0.1  download {site[1]}: " in capsys.readouterr().out
    assert cli.main(["audit", "patient", "NOBODY"]) == 1
    assert "no study of this patient" in capsys.readouterr().err
    assert told(capsys, "patient", "NOBODY", "--study", site[1])["seen"] == found["seen"]


def test_trails_of_other_hosts_are_named_or_read(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host whose directory it was is another one now, on the same objects."""
    ours = (data / "audit" / "trail.id").read_text()
    (data / "audit").rename(tmp_path / "there")
    for words in (["search"], ["patient", PATIENT]):
        found = told(capsys, *words)
        assert [each["trail"] for each in found["elsewhere"]] == [ours]
        assert ours not in found["trails"]
        assert cli.main(["audit", *words]) == 0
        assert f"records of other hosts are missing, of the trails {ours} (" in " ".join(
            capsys.readouterr().err.split()
        )
    assert not told(capsys, "patient", PATIENT)["seen"]
    assert [each["trail"] for each in told(capsys, "verify")["elsewhere"]] == [ours]
    monkeypatch.setenv("GATEWAY_AUDIT__OTHER_DIRECTORIES", json.dumps([str(tmp_path / "there")]))
    for words in (["search"], ["patient", PATIENT]):
        found = told(capsys, *words)
        assert found["elsewhere"] == []
        assert ours in found["trails"]
    assert told(capsys, "patient", PATIENT)["seen"]
    assert told(capsys, "verify")["whole"]


def test_the_syslog_server_has_everything_of_today_from_the_store_to_the_last_stop(site: tuple[Gateway, str]) -> None:
    received = (site[0].directory.parent / "received").read_text()
    assert received.count('originalText="Application Start"') == 8
    assert received.count('originalText="Application Stop"') == 4
    stored = next(each for each in received.split("<?xml") if "<EventOutcomeDescription>stored" in each)
    assert f'ParticipantObjectID="{PATIENT}"' in stored, "the index says whose the study is"


def test_nothing_in_the_trail_is_of_the_patient(data: Path) -> None:
    text = b"".join(path.read_bytes() for path in (data / "audit").iterdir())
    assert PATIENT.encode() not in text
    assert b"Zyxwvut" not in text
