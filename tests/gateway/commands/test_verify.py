"""``gateway verify``: its report and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway import cli, config
from gateway.commands.verify import parse_sample, parse_since
from gateway.rebuilding import rebuilding
from storage import reconcile
from tests.gateway.commands.test_reindex import fill


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATEWAY_STORAGE__DIRECTORY", str(tmp_path))
    fill(tmp_path, 20)
    with rebuilding(config.load(None)) as archive:
        reconcile.reindex(archive)
    return tmp_path


def objects_of(directory: Path) -> list[Path]:
    return sorted((directory / "archive" / "objects").rglob("*.dcm"))


def test_a_whole_archive_is_well(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify"]) == 0
    assert capsys.readouterr().out.endswith(" read, 0 of them wrong\n")


def test_damage_is_named_by_its_key_and_the_exit_status_is_1(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = objects_of(directory)[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-2] + b"xx")
    assert cli.main(["verify", "--json", "--workers=2"]) == 1
    report = json.loads(capsys.readouterr().out)
    keys = [str(path.relative_to(directory / "archive" / "objects")) for path in (first, second)]
    assert [each["object"] for each in report["wrong"]] == keys
    assert (report["complete"], report["checked"]) == (True, 20)
    assert cli.main(["verify"]) == 1
    assert keys[0] + ": missing" in capsys.readouterr().err


def test_an_interrupted_run_says_where_to_go_on(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reconcile.verify

    def interrupted(*arguments: object, **named: object) -> None:
        whole(*arguments, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(reconcile, "verify", interrupted)
    assert cli.main(["verify", "--json"]) == 130
    shown = capsys.readouterr()
    last = json.loads(shown.out)["last"]
    assert f"go on with --after {last}" in shown.err
    monkeypatch.setattr(reconcile, "verify", whole)
    assert cli.main(["verify", "--json", "--after", last]) == 0
    assert json.loads(capsys.readouterr().out)["checked"] == 0


def test_a_sample_and_a_date_narrow_what_is_read(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--json", "--since", "2999-01-01"]) == 0
    assert json.loads(capsys.readouterr().out)["checked"] == 0
    assert cli.main(["verify", "--json", "--since", "2020-01-01", "--sample", "40%"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["checked"] + report["skipped"] == 20
    assert parse_sample("5%") == parse_sample("5") == 0.05
    assert parse_since("2026-01-31T08:00Z") == parse_since("2026-01-31T09:00+01:00")


@pytest.mark.parametrize("wrong", [["--sample", "0%"], ["--sample", "much"], ["--since", "soon"], ["--after", "x"]])
def test_what_cannot_be_understood_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_without_an_index_there_is_nothing_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__DIRECTORY", str(tmp_path))
    fill(tmp_path, 1)
    assert cli.main(["verify"]) == 1
    assert "gateway reindex" in capsys.readouterr().err
    assert not (tmp_path / "index.sqlite").exists()
