"""Settings: sources, faults, and the reference page."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import cli, config
from gateway.config import InvalidSettings

_RULE = "[[retention]]\nname = 'x'\nkeep_days = 9\n"
_S3 = "[storage]\nobjects = 's3'\n[s3]\nbucket = 'b'\n"
_MOVE = "[[transition]]\nname = 'x'\nafter_days = 9\nstorage_class = '{}'\n"


def faults(tmp_path: Path, text: str) -> str:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    with pytest.raises(InvalidSettings) as caught:
        config.load(path)
    return str(caught.value)


def test_the_defaults_listen_on_this_machine_only() -> None:
    settings = config.load(None)
    assert settings.http.host == settings.dimse.host == "127.0.0.1"
    assert settings.http.workers >= 2
    assert settings.dimse.workers >= 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[dimse]\nae_title = "A_TITLE_TOO_LONG_BY_3"', "dimse.ae_title: at most 16 characters, got 21"),
        ("[dimse]\nport = 70000", "dimse.port: input should be less than or equal to 65535, got 70000"),
        ("[dimse]\nprot = 1", "dimse.prot: there is no such setting"),
        ("[http]\ncors_origins = ['*']", "http.cors_origins: an origin is scheme://host[:port], got '*'"),
        ('[storage]\nobjects = "s3"', 's3.bucket: needed for storage.objects = "s3"'),
        ('[http]\nhost = "0.0.0.0"', "access.policy_file: needed because http.host listens beyond this machine"),
        ('[storage]\nconflict = "overwrite"', "storage.conflict: input should be 'version' or 'reject'"),
        ('[index]\nengine = "postgres"', 'index.url: needed for index.engine = "postgres"'),
        ('[index]\ndb_schema = "Gate way"', "index.db_schema: lower-case letters, digits and underscores"),
        ('[dimse]\nae_title = "A\\\\B"', "dimse.ae_title: printable ASCII without a backslash"),
        ("[http\n", "not TOML"),
        ("[audit]\nkey = 'aa'\nkey_file = 'x'", "audit.key: not together with audit.key_file"),
        ("[audit]\nsource_id = 'A B'", "audit.source_id: printable ASCII without a space, got 'A B'"),
        ("[syslog]\nhost = 'a b'", "syslog.host: a name or an address, got 'a b'"),
        ("[syslog]\nclient_key = 'x'", "syslog.client_certificate: to be given together with syslog.client_key"),
        ("[[retention]]\nname = 'x'", "retention.0.keep_days: field required"),
        (
            "[[retention]]\nname = 'x'\nkeep_days = 0",
            "retention.0.keep_days: input should be greater than or equal to 1",
        ),
        ("[[retention]]\nname = '-'\nkeep_days = 9", "retention.0.name: a letter or digit, then up to 63 letters"),
        (_RULE + "modalities = ['CT', 'ct']", "retention.0.modalities.1: up to 16 capital letters, digits"),
        (_RULE + "tenants = ['Main']", "retention.0.tenants.0: 1 to 32 of a-z"),
        (_RULE + "minors_under = 16", "retention.0: minors_under: only together with keep_until_age"),
        (_RULE + "keep_years = 10", "retention.0.keep_years: there is no such setting"),
        (_RULE + _RULE, "retention: the name 'x' stands twice"),
        (
            _MOVE.format("GLACIER_IR"),
            'transition: only with storage.objects = "s3": a directory has no storage classes',
        ),
        (_S3 + _MOVE.format("IA") * 2, "transition: the name 'x' stands twice"),
        (_S3 + _MOVE.format("IA"), "transition.0.storage_class: one of STANDARD, STANDARD_IA, ONEZONE_IA"),
        (_S3 + _MOVE.format("a class"), "transition.0.storage_class: up to 64 letters, digits"),
        (
            _S3 + _MOVE.format("deep_archive"),
            "transition.0: storage_class: objects in deep_archive have to be restored",
        ),
    ],
)
def test_a_fault_says_where_it_is_and_what_would_be_right(tmp_path: Path, text: str, fault: str) -> None:
    assert fault in faults(tmp_path, text)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "[http]\nport = -1\nworkers = 0\n[dimse]\nport = 'x'").splitlines()) == 3


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gateway.toml").write_text("[http]\nport = 1000\nworkers = 3")
    monkeypatch.setenv("GATEWAY_HTTP__PORT", "2000")
    settings = config.load(tmp_path / "gateway.toml")
    assert (settings.http.port, settings.http.workers) == (2000, 3)


def test_rules_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_RETENTION", '[{"name": "law", "keep_days": 3653, "keep_until_age": 28}]')
    (rule,) = config.load(None).retention
    assert (rule.name, rule.keep_days, rule.keep_until_age, rule.minors_under) == ("law", 3653, 28, 18)


def test_other_stores_than_aws_may_have_classes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(_S3 + "endpoint_url = 'https://s3.example.org'\n" + _MOVE.format("cold-2"))
    assert config.load(tmp_path / "gateway.toml").transition[0].storage_class == "cold-2"


def test_paths_in_a_file_are_relative_to_it_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[storage]\ndirectory = 'kept'\n[audit]\nkey_file = 'new'\nold_key_files = ['one.key', '/etc/two.key']\n"
        "[[access.issuers]]\nissuer = 'https://id.example.org'\naudience = 'a'\nca_bundle = 'ca.pem'\n"
        "[tenants.east]\narchive_directory = 'east'\n"
        "[views.research]\nkey_file = 'view.key'\nrecipe_file = 'keep.toml'\n"
    )
    found = config.load(file)
    assert found.storage.directory == tmp_path / "kept"
    assert found.audit.key_file == tmp_path / "new"
    assert found.audit.old_key_files == (tmp_path / "one.key", Path("/etc/two.key"))
    assert found.access.issuers[0].ca_bundle == tmp_path / "ca.pem"
    assert found.tenants["east"].archive_directory == tmp_path / "east"
    assert found.views["research"].key_file == tmp_path / "view.key"
    assert found.views["research"].recipe_file == tmp_path / "keep.toml"


def test_secrets_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_S3__SECRET_ACCESS_KEY", "hush-hush")
    assert "hush-hush" not in repr(config.load(None))
    monkeypatch.delenv("GATEWAY_S3__SECRET_ACCESS_KEY")
    assert "hush" not in faults(tmp_path, "[s3]\nsecret_access_key = ['hush']")
    assert "hush" not in faults(tmp_path, "[audit]\nkey = ['hush']")
    assert "hush" not in faults(tmp_path, "[index]\nurl = ['postgresql://gateway:hush@127.0.0.1/gateway']")


def test_check_config_answers_by_exit_status_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(f"[storage]\ndirectory = '{tmp_path}'")
    bad.write_text("[http]\nport = 'x'\n[access]\npolicy_file = 'nowhere.toml'")
    assert cli.main(["check-config", "-c", str(good)]) == 0
    assert cli.main(["check-config", "-c", str(bad)]) == 1
    assert "http.port" in capsys.readouterr().err
    bad.write_text("[access]\npolicy_file = 'nowhere.toml'")
    assert cli.main(["check-config", "-c", str(bad)]) == 1
    assert "nowhere.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[audit]\nkey_file = 'none.key'", "audit.key_file"),
        ("[audit]\nkey = 'abc'", "audit.key: not a key of 32 bytes"),
        ("[audit]\nold_key_files = ['none.key']", "audit.old_key_files"),
        ("[syslog]\nhost = 'x'\nca_bundle = 'none.pem'", "syslog.ca_bundle"),
    ],
)
def test_check_config_reads_what_the_audit_trail_needs_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, fault: str
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f"[storage]\ndirectory = 'data'\n{text}")
    assert cli.main(["check-config", "-c", str(path)]) == 1
    assert fault in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["gateway.toml"]


def test_check_config_tells_a_database_url_that_is_none_without_quoting_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[index]\nengine = 'postgres'\nurl = 'postgresql://gateway:hush@db.example.org:port/x?y'")
    assert cli.main(["check-config", "-c", str(path)]) == 1
    told = capsys.readouterr().err
    assert "index.url: neither a PostgreSQL URL nor a connection string" in told
    assert "hush" not in told


def test_rules_of_recompression_take_lossless_syntaxes_and_names_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for rules, where in (
        ('[{"name": "a", "transfer_syntaxes": ["1.2.840.10008.1.2.4.50"]}]', "recompression.0.transfer_syntaxes"),
        ('[{"name": "a", "transfer_syntaxes": []}]', "recompression.0.transfer_syntaxes"),
        ('[{"name": "a", "into": "1.2.840.10008.1.2.4.203"}]', "recompression.0.into"),
        ('[{"name": "a", "sop_classes": ["1.2.*"]}]', "recompression.0.sop_classes"),
        ('[{"name": "a"}, {"name": "a"}]', "recompression: the name 'a' stands twice"),
    ):
        monkeypatch.setenv("GATEWAY_RECOMPRESSION", rules)
        with pytest.raises(InvalidSettings) as refused:
            config.load(None)
        assert where in str(refused.value)
