"""``gateway import``: what comes into the archive, what is told, and what an interrupted run leaves."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest

from gateway import cli, config
from gateway.access import policy
from gateway.importing import storing
from gateway.importing.items import Fate, Item
from gateway.importing.storing import Order, Storer
from gateway.importing.trees import Tree
from storage.dicom import identifiers as ids
from storage.index.sqlite import SqliteIndex
from storage.objects.s3 import S3Settings
from tests.gateway.commands.test_reindex import children, rows
from tests.instances import data_set, encode, part10_file

SAMPLES = Path(__file__).parents[3] / "sample_dicom" / "studies"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATEWAY_STORAGE__DIRECTORY", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_STORAGE__FSYNC", "false")
    return tmp_path / "data"


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def instance_count(directory: Path) -> int:
    with closing(SqliteIndex(directory / "index.sqlite")) as index:
        return len(index.holdings("", 10_000))


def test_the_samples_are_stored_audited_and_known_the_second_time(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(SAMPLES / "head_ct")
    assert cli.main(["import", "--json", "--workers=2", source]) == 0
    found = report(capsys)
    assert (found["complete"], found["stored"], found["files"]) == (True, 55, 55)
    assert instance_count(directory) == 55
    trail = [
        json.loads(line) for path in (directory / "audit").glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    stored = [line for line in trail if line["outcome"] == "stored"]
    assert len(stored) == 55
    assert {(line["principal"], line["protocol"]) for line in stored} == {("command line", "import")}
    assert cli.main(["import", "--json", "--workers=1", "--in-order", source]) == 0
    found = report(capsys)
    assert (found["stored"], found["duplicate"], found["done_before"]) == (0, 55, 0)
    assert not list((directory / "imports").glob("*.journal*")), "nothing is left to go on with"


def mixed(folder: Path) -> Path:
    """A bare data set, a damaged file, a text, an instance of a known study with another patient, and a whole one."""
    folder.mkdir()
    whole = data_set()
    (folder / "a").write_bytes(part10_file(whole))
    (folder / "bare").write_bytes(encode(data_set()))
    (folder / "damaged\x1b").write_bytes(part10_file(data_set())[:-7])
    other = data_set(StudyInstanceUID=whole.StudyInstanceUID, PatientID="T-2", PatientName="Somebody^Else")
    (folder / "other.dcm").write_bytes(part10_file(other))
    (folder / "text").write_text("no instance at all, but longer than the head of one" * 20)
    return folder


def test_what_is_not_stored_is_told_with_its_reason_and_tried_again(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, lines = mixed(tmp_path / "source"), tmp_path / "report.jsonl"
    assert cli.main(["import", "--in-order", "--report", str(lines), str(source)]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("5 files, 2 stored, 1 quarantined, 1 skipped, 1 refused; ")
    assert "error damaged\\x1b: refused: the stream ends inside" in shown.err
    assert [(line["file"], line["outcome"]) for line in map(json.loads, lines.read_text().splitlines())] == [
        ("damaged\x1b", "refused"),
        ("other.dcm", "quarantined"),
        ("text", "skipped"),
    ]
    assert stat.S_IMODE(lines.stat().st_mode) == 0o600
    assert "Somebody" not in shown.err + lines.read_text()
    (source / "damaged\x1b").write_bytes(part10_file(data_set()))
    assert cli.main(["import", "--json", "--workers=1", str(source)]) == 1
    found = report(capsys)
    assert (found["stored"], found["done_before"], found["quarantined"]) == (1, 4, 1)


def test_a_dry_run_stores_nothing(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = mixed(tmp_path / "source")
    assert cli.main(["import", "--json", "--workers=1", "--dry-run", str(source)]) == 1
    found = report(capsys)
    assert (found["stored"], found["refused"], found["skipped"]) == (3, 1, 1)
    assert instance_count(directory) == 0
    assert not [path for path in (directory / "archive").rglob("*") if path.is_file()]


def test_a_gateway_that_only_reads_takes_no_import(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__READ_ONLY", "true")
    assert cli.main(["import", str(SAMPLES)]) == 1
    assert "storage.read_only" in capsys.readouterr().err


def test_a_policy_cannot_name_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[[principal]]\nname = "x"\nkind = "command_line"\nactions = ["store"]\n')
    with pytest.raises(config.InvalidSettings, match="is not declared in a policy"):
        policy.load(path)


def test_a_zip_with_hostile_members_gives_its_instances_to_another_tenant(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside.dcm", part10_file(data_set()))
        archive.writestr("/etc/absolute", part10_file(data_set(PixelData=os.urandom(3 << 20), Rows=1024, Columns=1536)))
        archive.writestr("bomb", bytes(64 << 20))
    assert cli.main(["import", "--json", "--workers=1", "--tenant", "old-system", str(path)]) == 1
    found = report(capsys)
    assert (found["stored"], found["refused"]) == (2, 1)
    with closing(SqliteIndex(directory / "index.sqlite")) as index:
        assert {holding.key.tenant for holding in index.holdings("", 10)} == {"old-system"}
    assert not list((directory / "imports").glob("*.spool"))


def test_a_bucket_of_another_system_with_any_keys_is_taken(
    directory: Path, seaweedfs_bucket: S3Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(seaweedfs_bucket.access_key_id))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(seaweedfs_bucket.secret_access_key))
    client = boto3.client("s3", endpoint_url=seaweedfs_bucket.endpoint_url, region_name="us-east-1")
    keys = ["old/a b/ü+%41#.dcm", "old/plain", "old/deep/er/x.txt", "other/not-asked-for"]
    for key in keys:
        body = b"hello, no instance" if key.endswith(".txt") else part10_file(data_set())
        client.put_object(Bucket=seaweedfs_bucket.bucket, Key=key, Body=body)
    client.close()
    where = ["--endpoint-url", str(seaweedfs_bucket.endpoint_url), "--credentials", "boto3"]
    assert cli.main(["import", "--json", "--workers=1", *where, f"s3://{seaweedfs_bucket.bucket}/old/"]) == 0
    found = report(capsys)
    assert (found["stored"], found["skipped"], instance_count(directory)) == (2, 1, 2)
    assert cli.main(["import", *where, "s3://no-such-bucket-here"]) == 1
    assert "there is no bucket no-such-bucket-here" in capsys.readouterr().err


def test_an_archive_that_does_not_answer_stops_the_import(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_PAUSES_S", ())
    source = mixed(tmp_path / "source")
    tree = Tree(source, directory)
    storer = Storer(Order(config.load(None), (tree,), ids.tenant("main"), tmp_path / "spool", 1), "import-test")
    items = [entry for entry in tree.entries(0) if isinstance(entry, Item)]
    storer._core.archive.index.close()
    fates = [told.fate for answers in storer.work(items) for told in answers]
    assert fates == [Fate.STOPPED, Fate.STOPPED, Fate.REFUSED, Fate.STOPPED, Fate.SKIPPED]
    storer.close()


def test_an_import_that_was_killed_goes_on_where_it_was(tmp_path: Path, directory: Path) -> None:
    source, count = tmp_path / "source", 900
    source.mkdir()
    body = part10_file(data_set(StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1", SOPInstanceUID="1.2.3.1.99999"))
    for number in range(count):
        (source / str(number)).write_bytes(body.replace(b"1.2.3.1.99999", f"1.2.3.1.{number + 10_000}".encode()))
    command = [sys.executable, "-m", "gateway.cli", "import", "--json", "--workers=2", str(source)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(storers := storing_processes(process.pid)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    # One storer keeps what it was given first, so that this import cannot come to its end before it is killed.
    os.kill(storers[-1], signal.SIGSTOP)
    while not noted(directory):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    os.kill(storers[-1], signal.SIGCONT)
    process.communicate()
    deadline_s = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in storers):
        assert time.monotonic() < deadline_s, "the storing processes outlive the one that gave them work"
        time.sleep(0.02)
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert 0 < found["done_before"] < count
    assert found["done_before"] + found["stored"] + found["duplicate"] == found["files"] == count
    assert rows(directory / "index.sqlite") == count


def storing_processes(pid: int) -> list[int]:
    """Those that a process has started as yet, in the order of their start."""
    with suppress(OSError):
        return [
            child for child in sorted(children(pid)) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    return []


def noted(directory: Path) -> bool:
    """Whether a journal says that something was done."""
    import sqlite3

    for path in (directory / "imports").glob("*.journal"):
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db:
            return db.execute("SELECT 1 FROM done").fetchone() is not None
    return False


def test_a_source_that_is_not_there_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", "/no/such/place"]) == 1
    assert "/no/such/place: neither a file nor a directory" in capsys.readouterr().err
