"""``gateway hold`` and ``gateway erase`` beside a running face."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gateway import assembly, cli, config
from gateway.assembly import Core
from gateway.context import Caller, Source
from gateway.errors import UnderHold
from storage import reconcile
from storage.dicom import identifiers as ids
from tests.callers import THIS_MACHINE
from tests.instances import data_set, part10_file

CALLER = Caller(THIS_MACHINE, Source("DICOMweb", "127.0.0.1"))
NAME = "Secret^Name"


class Running:
    """A gateway's services, and commands given beside them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "gateway.toml"
        self.file.write_text('[storage]\ndirectory = "data"\nfsync = false\nundo_s = 0\n')
        self.data = folder / "data"
        self.core: Core = assembly.build(config.load(self.file), "test")
        self._capsys = capsys

    def store(self, **values: Any) -> ids.StudyUid:
        spooling = self.core.spool.begin()
        spooling.write(part10_file(data_set(PatientName=NAME, **values)))
        with spooling.finish() as spooled:
            return self.core.ingest.store(self.core.ingest.enter(CALLER), spooled).study_uid

    def command(self, *arguments: str) -> tuple[int, str, str]:
        status = cli.main([*arguments, "-c", str(self.file)])
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def audit(self) -> str:
        return "".join(path.read_text() for path in sorted((self.data / "audit").glob("*.jsonl")))


@pytest.fixture
def running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    found = Running(tmp_path, capsys)
    yield found
    found.core.close()


def test_what_is_held_cannot_be_deleted_purged_or_erased_until_the_hold_has_ended(running: Running) -> None:
    study, other = running.store(PatientID="H-1"), running.store(PatientID="H-2")
    status, hold, _ = running.command("hold", "add", "--patient-id", "H-1", "--reason", "case 7")
    assert status == 0
    with pytest.raises(UnderHold):
        running.core.delete.delete(CALLER, study)
    for named in (("--patient-id", "H-1"), ("--study", study)):
        status, _, said = running.command("erase", *named)
        assert (status, "a legal hold is on" in said) == (1, True)
    later = running.store(PatientID="H-1")
    with pytest.raises(UnderHold):
        running.core.delete.delete(CALLER, later)
    running.core.delete.delete(CALLER, other)

    status, said, _ = running.command("hold", "list", "--json")
    assert json.loads(said)["holds"] == [
        {"hold": hold.strip(), "study": "", "issuer": "", "patientID": "H-1", "reason": "case 7"}
    ]
    assert running.command("hold", "remove", hold.strip())[0] == 0
    assert running.command("hold", "remove", hold.strip())[0] == 1
    assert running.command("hold", "list")[1] == ""
    running.core.delete.delete(CALLER, study)
    assert reconcile.purge(running.core.archive, 0.0) == 2
    audit = running.audit()
    assert [f'"outcome":"{each}"' in audit for each in ("added", "removed", "refused")] == [True] * 3
    assert "H-1" not in audit


def test_a_hold_keeps_what_was_deleted_before_it(running: Running) -> None:
    study = running.store()
    running.core.delete.delete(CALLER, study)
    assert running.command("hold", "add", "--study", study, "--reason", "case 8")[0] == 0
    assert reconcile.purge(running.core.archive, -1.0) == 0
    assert running.command("erase", "--study", study)[0] == 1
    assert len(list(running.core.archive.objects.list(f"main/{study}/"))) == 1


def test_an_erasure_is_certified_and_the_certificate_names_nobody(running: Running, tmp_path: Path) -> None:
    study = running.store(PatientID="E-1")
    kept = running.store(PatientID="E-2")
    (info,) = running.core.archive.objects.list(f"main/{study}/")
    digest = hashlib.sha256(running.core.archive.objects.get(info.key)).hexdigest()
    (running.data / "index.sqlite.20260101T000000").write_bytes(b"")

    status, rehearsed, _ = running.command("erase", "--patient-id", "E-1", "--dry-run")
    assert status == 0
    assert json.loads(rehearsed)["record"] is None
    assert len(list(running.core.archive.objects.list(""))) == 2

    path = tmp_path / "certificate.json"
    status, said, _ = running.command("erase", "--patient-id", "E-1", "--certificate", str(path))
    assert status == 0
    certificate = json.loads(said)
    assert json.loads(path.read_text()) == certificate
    assert (certificate["studies"], certificate["versions"], certificate["bytes"]) == ([study], 1, info.size)
    assert certificate["sha256_of_objects"] == [digest]
    assert "index.sqlite.20260101T000000" in "".join(certificate["may_still_be_in"])
    for text in (said, path.read_text(), running.audit()):
        assert NAME not in text
        assert "E-1" not in text
    left = [each.key for each in running.core.archive.objects.list("")]
    assert sorted(left) == sorted(
        [f"main/records/{certificate['record']}.json", *(k for k in left if f"/{kept}/" in k)]
    )

    # Nothing left to erase; and an old certificate is not overwritten.
    assert running.command("erase", "--patient-id", "E-1")[0] == 1
    assert running.command("erase", "--patient-id", "E-2", "--certificate", str(path))[0] == 1
    assert len(list(running.core.archive.objects.list(f"main/{kept}/"))) == 1


def test_one_of_study_and_patient_is_named(running: Running) -> None:
    for arguments in (("erase",), ("erase", "--study", "x"), ("erase", "--study", "1.2", "--patient-id", "P")):
        with pytest.raises(SystemExit):
            running.command(*arguments)
