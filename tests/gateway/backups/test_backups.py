"""Backup and restore: what is kept, from beside a gateway at work, and what a host that was lost gets back."""

from __future__ import annotations

import json
import shutil
import stat
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyotp
import pytest

from gateway import assembly, cli, config, views
from gateway.access import keys, sessions, users
from gateway.access.authentication import Credential, Scheme
from gateway.access.shares import LOOKING, Shares
from gateway.assembly import Core
from gateway.audit.trail import AuditTrail
from gateway.commands.administration import administrator
from gateway.context import Caller, Principal, PrincipalKind, Source, command_line
from gateway.services.commitment import Reference, Result
from storage.control.relational_steps import RelationalSteps
from storage.control.steps import Step
from storage.dicom import identifiers as ids
from storage.dicom.identifiers import Tenant
from storage.dicom.matching import EVERYTHING
from tests import steps
from tests.callers import THIS_MACHINE
from tests.engines import Engines
from tests.instances import CT, data_set, part10_file

ASKER = Caller(THIS_MACHINE, Source("DICOMweb", "127.0.0.1"))
PASSWORD, TOTP = "correct horse battery", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
POLICY = '[[principal]]\nname = "this-machine"\nkind = "loopback"\nactions = ["search", "read", "store"]\n'


def store(core: Core, **attributes: str) -> str:
    found = data_set(**attributes)
    spooling = core.spool.begin()
    spooling.write(part10_file(found))
    decision = core.ingest.enter_by_command(command_line("test"), ids.tenant("main"))
    with spooling.finish() as spooled:
        core.ingest.store(decision, spooled)
    return str(found.SOPInstanceUID)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file with a policy beside it; its data directory is empty."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "policy.toml").write_text(POLICY)
    file = tmp_path / "etc" / "gateway.toml"
    file.write_text('[storage]\ndirectory = "../data"\nfsync = false\n[access]\npolicy_file = "policy.toml"\n')
    return file


def audit_lines(directory: Path) -> set[str]:
    return {line for path in (directory / "audit").glob("*.jsonl") for line in path.read_text().splitlines()}


def loaded(core: Core) -> tuple[Callable[[], None], threading.Thread]:
    """Instances that arrive until told otherwise."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            store(core)

    thread = threading.Thread(target=work)
    thread.start()
    return stop.set, thread


def test_a_lost_host_gets_its_state_back_from_objects_and_backup(
    place: Path,
    tmp_path: Path,
    own_engines: Engines,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in own_engines.environment().items():
        monkeypatch.setenv(name, value)
    core = assembly.build(config.load(place), "test-1")
    sop_uid = store(core)
    tenant = core.commitment.ask(ASKER, "1.2.3.1", [Reference(CT, sop_uid), Reference(CT, "1.2.9")])
    answered = core.commitment.fulfil(tenant, "1.2.3.1")
    core.commitment.ask(ASKER, "1.2.3.2", [Reference(CT, sop_uid)])
    key, link = accounts_of(core)
    before = audit_lines(tmp_path / "data")
    stop, thread = loaded(core)
    assert cli.main(["backup", "-c", str(place), str(tmp_path / "backup.tar")]) == 0
    stop()
    thread.join()
    stored = set(core.archive.index.known_objects([info.key for info in core.archive.objects.list("")]))
    core.close()
    shown = capsys.readouterr()
    for name in own_engines.environment():
        assert name in shown.err, "what has to be set again is named"

    lose(tmp_path / "data", config.load(place))
    shutil.rmtree(tmp_path / "etc")
    assert cli.main(["restore", "-c", str(place), str(tmp_path / "backup.tar")]) == 1
    shown = capsys.readouterr()
    assert "run `gateway reindex`" in shown.err
    assert "3 keys, users and share links put back" in shown.out
    assert cli.main(["reindex", "-c", str(place), "--workers=1"]) == 0
    capsys.readouterr()
    assert cli.main(["restore", "--json", "-c", str(place), str(tmp_path / "backup.tar")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["commitments"]) == (0, 2)
    assert (found["accounts"], found["accounts_known"]) == (0, 3)

    core = assembly.build(config.load(place), "test-2")
    assert let_in(core, key, link) == ["program", "ann"]
    assert core.commitment.result(ASKER, "1.2.3.1") == answered
    assert core.commitment.result(ASKER, "1.2.3.2") is None
    assert core.commitment.fulfil(tenant, "1.2.3.2") == Result((Reference(CT, sop_uid),), ())
    assert set(core.archive.index.known_objects(list(stored))) == stored
    core.close()
    assert before <= audit_lines(tmp_path / "data")
    assert (tmp_path / "etc" / "policy.toml").read_text() == POLICY


def lose(directory: Path, settings: config.Settings) -> None:
    """Everything but the objects."""
    for path in directory.iterdir():
        if path.is_dir() and path.name != "archive":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    if settings.index.engine == "postgres":
        import psycopg

        with psycopg.connect(settings.index.url.get_secret_value(), autocommit=True) as connection:
            for schema in (settings.index.db_schema, f"{settings.index.db_schema}_control"):
                connection.execute(f'DROP SCHEMA "{schema}" CASCADE')


def accounts_of(core: Core) -> tuple[str, str]:
    """A key, a user and a share link that are made; the key, and the link's token."""
    key, _ = keys.create(core.control, "program", "main", ["viewer"], expires_at_s=time.time() + 900)
    users.add(core.control, "ann", PASSWORD, "main", ["viewer"])
    users.alter(core.control, "ann", totp=TOTP)
    sessions.begin(core.control, Principal("ann", PrincipalKind.USER))
    link, _ = Shares(core.control).make("main", ["1.2.3"], LOOKING, EVERYTHING, "ann", time.time() + 900)
    return key, link


def let_in(core: Core, key: str, link: str) -> list[str]:
    """Whom a key and a password with a code are of; the link is good too."""
    found = [
        core.authenticator.prove(Credential(Scheme.BEARER, key), "127.0.0.1").principal,
        users.recognise(core.control, "ann", PASSWORD, pyotp.TOTP(TOTP).now()),
    ]
    assert Shares(core.control).find(link).studies == ("1.2.3",)
    assert core.control.list(sessions.KIND) == [], "sessions are not brought back"
    return [each.name for each in found if each is not None]


def test_keys_users_and_links_are_put_back_where_there_are_none_and_nowhere_else(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    core = assembly.build(config.load(place), "test-1")
    key, link = accounts_of(core)
    target = tmp_path / "backup"
    assert cli.main(["backup", "-c", str(place), str(target)]) == 0
    kept = target / "control.jsonl"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert key not in kept.read_text()
    assert PASSWORD not in kept.read_text()
    assert TOTP in kept.read_text(), "which is why the file is its owner's alone"

    keys.revoke(core.control, str(keys.key_id_of(key)))
    capsys.readouterr()
    assert cli.main(["restore", "-c", str(place), str(target)]) == 0
    shown = capsys.readouterr()
    assert "0 keys, users and share links put back" in shown.out
    assert "2 keys, users and share links were there: they stay, and none is added" in shown.err
    assert keys.every(core.control) == [], "what was revoked stays revoked"
    core.close()

    for file in (tmp_path / "data").glob("control.sqlite*"):
        file.unlink()
    core = assembly.build(config.load(place), "test-2")
    Shares(core.control).make(
        "main", ["1.2.4"], LOOKING, EVERYTHING, "ann", time.time() - 31 * 86_400
    )  # makes a secret, and ends
    assert core.control.list("share") == []
    core.control.put("restore", "control", {}, expected=None)  # as if this were the second attempt
    users.add(core.control, "ann", PASSWORD, "main", ["viewer"])
    users.alter(core.control, "ann", totp=TOTP)
    assert cli.main(["restore", "-c", str(place), str(target)]) == 0
    assert "3 keys, users and share links put back" in capsys.readouterr().out
    assert let_in(core, key, link) == ["program", "ann"]
    assert core.control.get("restore", "control") is None
    core.close()


def test_a_backup_is_for_its_owner_alone_and_ends_with_whole_lines(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = tmp_path / "data" / "audit"
    AuditTrail(audit, "x").close()
    (audit / "20260101-http-1-1.jsonl").write_bytes(b'{"a":1}\n{"b":2}\n{"half')
    (audit / "20260101-http-2-1.jsonl").write_bytes(b'{"half')
    target = tmp_path / "backup"
    assert cli.main(["backup", "-c", str(place), "--with-index", str(target)]) == 0
    written = len(list((target / "audit").iterdir())) + 2  # settings and policy
    assert f"backing up files: {written}, " in capsys.readouterr().err
    assert (target / "audit" / "20260101-http-1-1.jsonl").read_bytes() == b'{"a":1}\n{"b":2}\n'
    assert (target / "audit" / "20260101-http-2-1.jsonl").read_bytes() == b""
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (target, target / "audit")} == {0o700}
    assert (target / "index.sqlite").read_bytes().startswith(b"SQLite format 3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data", "etc"]


def test_keys_are_in_a_backup_only_when_asked_for(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc" / "keys").mkdir()
    (tmp_path / "etc" / "keys" / "one.key").write_text("ab" * 32)
    place.write_text(place.read_text() + '[encryption]\nkeys_directory = "keys"\nactive_key = "one"\n')
    assert cli.main(["backup", "-c", str(place), str(tmp_path / "without")]) == 0
    assert "keys are not in the backup" in capsys.readouterr().err
    assert not any(b"ab" * 32 in path.read_bytes() for path in (tmp_path / "without").rglob("*") if path.is_file())
    assert cli.main(["backup", "-c", str(place), "--with-keys", str(tmp_path / "with.tar")]) == 0
    shutil.rmtree(tmp_path / "etc")
    audit_key = tmp_path / "data" / "audit.key"
    signed_with = audit_key.read_bytes()
    audit_key.unlink()
    assert cli.main(["restore", "-c", str(place), str(tmp_path / "with.tar")]) == 0
    assert (tmp_path / "etc" / "keys" / "one.key").read_text() == "ab" * 32
    assert audit_key.read_bytes() == signed_with
    assert stat.S_IMODE(audit_key.stat().st_mode) == 0o600
    assert not any(signed_with in path.read_bytes() for path in (tmp_path / "without").rglob("*") if path.is_file())
    assert cli.main(["audit", "verify", "-c", str(place)]) == 0


def test_pseudonyms_stay_the_same_after_a_restore_with_keys(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "etc" / "own.key"
    own.write_text("cd" * 32)
    place.write_text(
        place.read_text() + '[views.research]\n[views.teaching]\nkey_file = "own.key"\n[deidentification.trial]\n'
    )
    settings = config.load(place)

    def pseudonyms() -> list[str]:
        made = [views.definition(settings, name) for name in ("research", "teaching")]
        return [each.uid("1.2.3") for each in (*made, views.arriving(settings, "trial"))]

    before = pseudonyms()
    assert cli.main(["backup", "-c", str(place), str(tmp_path / "without")]) == 0
    said = capsys.readouterr().err
    assert "the keys of views are not in the backup" in said
    for name in ("views/research.key", "views/teaching.key", "deidentification/trial.key", "--with-keys"):
        assert name in said
    assert not list((tmp_path / "without").rglob("*.key"))
    assert cli.main(["backup", "-c", str(place), "--with-keys", str(tmp_path / "with")]) == 0
    assert "views" not in capsys.readouterr().err
    for path in (own, *tmp_path.glob("data/*/*.key")):
        path.unlink()
    assert cli.main(["restore", "-c", str(place), str(tmp_path / "with")]) == 0
    assert pseudonyms() == before


def test_a_restore_without_the_keys_of_views_says_where_they_have_to_be_before_the_gateway_starts(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else new ones would be made then, and nobody would be told."""
    place.write_text(place.read_text() + "[views.research]\n[views.not-yet-used]\n")
    settings = config.load(place)
    before = views.definition(settings, "research").uid("1.2.3")
    backup = tmp_path / "backup.tar"
    assert cli.main(["backup", "-c", str(place), "--json", str(backup)]) == 0
    assert "views/research.key" in json.loads(capsys.readouterr().out)["keys_left_out"]
    assert cli.main(["restore", "--check", str(backup)]) == 0
    assert "without the keys: audit.key, views/research.key" in capsys.readouterr().err
    key = place.parent / ".." / "data" / "views" / "research.key"
    kept = key.rename(tmp_path / "kept.key")
    assert cli.main(["restore", "-c", str(place), str(backup)]) == 1
    said = capsys.readouterr().err
    assert f"views/research.key was left out of the backup, and is not there: put it at {key} before" in said
    assert "not-yet-used" not in said
    assert cli.main(["restore", "-c", str(place), "--json", str(backup)]) == 1
    assert json.loads(capsys.readouterr().out)["keys_missing"] == ["views/research.key"]
    assert not key.exists()
    kept.rename(key)
    assert cli.main(["restore", "-c", str(place), str(backup)]) == 0
    assert views.definition(settings, "research").uid("1.2.3") == before


def test_what_is_there_is_neither_written_over_by_a_backup_nor_by_a_restore(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "backup"
    assert cli.main(["backup", "-c", str(place), str(target)]) == 0
    assert cli.main(["backup", "-c", str(place), str(target)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["restore", "-c", str(place), str(target)]) == 0
    kept = {path.name for path in (target / "audit").iterdir()}
    grown = max(path for path in (tmp_path / "data" / "audit").glob("*-backup-*.jsonl") if path.name in kept)
    assert len(grown.read_bytes()) > len((target / "audit" / grown.name).read_bytes()), "what came later is kept"
    policy = tmp_path / "etc" / "policy.toml"
    policy.write_text(POLICY + "# changed\n")
    assert cli.main(["restore", "-c", str(place), str(target)]) == 1
    assert "policy.toml is there with other content" in capsys.readouterr().err
    assert policy.read_text().endswith("# changed\n")
    assert cli.main(["restore", "--force", "-c", str(place), str(target)]) == 0
    assert policy.read_text() == POLICY
    grown.write_text("another")
    assert cli.main(["restore", "--force", "-c", str(place), str(target)]) == 1
    assert "another audit file" in capsys.readouterr().err


def test_a_backup_that_is_not_whole_is_not_restored(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    assert cli.main(["backup", "-c", str(place), str(whole)]) == 0
    assert cli.main(["restore", "--check", str(whole)]) == 0
    shutil.rmtree(tmp_path / "etc")

    def altered(change: Callable[[Path], object]) -> str:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        change(copy)
        capsys.readouterr()
        for options in (["--check"], ["-c", str(place)]):
            assert cli.main(["restore", *options, str(copy)]) == 1
        return capsys.readouterr().err

    assert "policy.toml is not what was written" in altered(lambda copy: (copy / "policy.toml").write_text("x"))
    assert "policy.toml is missing" in altered(lambda copy: (copy / "policy.toml").unlink())
    assert "is not part of the backup" in altered(lambda copy: (copy / "more").write_text("x"))
    assert "not a backup" in altered(lambda copy: (copy / "manifest.json").unlink())
    assert "is damaged" in altered(lambda copy: (copy / "manifest.json").write_text("{"))
    leading = (whole / "manifest.json").read_text().replace("policy.toml", "audit/../../policy.toml")
    assert "no backup has" in altered(lambda copy: (copy / "manifest.json").write_text(leading))
    assert not (tmp_path / "etc").exists()


def test_a_tar_file_that_is_cut_or_holds_links_is_not_restored(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["backup", "-c", str(place), str(tmp_path / "whole.tar")]) == 0
    assert stat.S_IMODE((tmp_path / "whole.tar").stat().st_mode) == 0o600
    assert cli.main(["restore", "--check", str(tmp_path / "whole.tar")]) == 0
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:1500])
    assert cli.main(["restore", "--check", str(tmp_path / "cut.tar")]) == 1
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.type, member.linkname = tarfile.SYMTYPE, str(place)
        archive.addfile(member)
    assert cli.main(["restore", "--check", str(tmp_path / "links.tar")]) == 1
    assert "manifest.json is no file" in capsys.readouterr().err


def test_an_index_and_certificates_of_erasure_come_back_from_a_backup(place: Path, tmp_path: Path) -> None:
    core = assembly.build(config.load(place), "test-1")
    sop_uid = store(core)
    core.close()
    certificates = tmp_path / "data" / "certificates"
    certificates.mkdir()
    (certificates / "01K0.json").write_text('{"record": "01K0"}\n')
    assert cli.main(["backup", "-c", str(place), "--with-index", str(tmp_path / "backup")]) == 0
    lose(tmp_path / "data", config.load(place))
    assert cli.main(["restore", "-c", str(place), str(tmp_path / "backup")]) == 0
    assert (certificates / "01K0.json").read_text() == '{"record": "01K0"}\n'
    core = assembly.build(config.load(place), "test-2")
    found = core.archive.index.locate_instances(ids.tenant("main"), [ids.sop_uid(sop_uid)], EVERYTHING)
    assert [located.key.sop_uid for located in found] == [sop_uid]
    core.close()


def test_an_index_in_postgresql_is_not_asked_of_a_backup(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write_text(place.read_text() + '[index]\nengine = "postgres"\nurl = "postgresql://127.0.0.1:1/none"\n')
    assert cli.main(["backup", "-c", str(place), "--with-index", str(tmp_path / "backup")]) == 1
    assert "pg_dump" in capsys.readouterr().err
    assert not (tmp_path / "backup").exists()


def kept_steps(place: Path) -> list[Step]:
    """Every procedure step, in some order."""
    with closing(assembly.control(config.load(place))) as kept:
        return sorted(RelationalSteps(kept).every(), key=lambda each: each.uid)


def test_procedure_steps_are_put_back_where_they_are_not_there(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = tmp_path / "without"
    assert cli.main(["backup", "-c", str(place), str(without)]) == 0
    assert not (without / "steps.jsonl").exists(), "an earlier release restores what it knows"

    core = assembly.build(config.load(place), "test-1")
    for number in (1, 2):
        order = steps.scheduled(AccessionNumber=f"A-{number}", PatientName="Müller^Jörg=山田")
        core.worklist.schedule(administrator(), Tenant("main"), steps.body(order))
    core.close()
    before = kept_steps(place)
    target = tmp_path / "backup.tar"
    assert cli.main(["backup", "-c", str(place), str(target)]) == 0

    for file in (tmp_path / "data").glob("control.sqlite*"):
        file.unlink()
    for told in ("2 procedure steps put back, 0 were there", "0 procedure steps put back, 2 were there"):
        capsys.readouterr()
        assert cli.main(["restore", "-c", str(place), str(target)]) == 0
        assert told in capsys.readouterr().out
    assert kept_steps(place) == before
    assert len(before) == 2
