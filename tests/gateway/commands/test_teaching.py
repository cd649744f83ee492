"""Help that teaches: examples that are understood, statuses, ``--json``, and shells that complete."""

from __future__ import annotations

import errno
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from gateway import assembly, cli
from gateway.commands import teaching, terminal
from gateway.commands.completion import SHELLS
from tests.gateway.commands.conftest import Site
from tests.ports import free_port
from tests.programs import need_program

LEAVES = dict(teaching.leaves(cli.parser()))
WITHOUT_A_REPORT = {"serve", "demo", "completion"}
"""They run until they are told to end, or print what is no report."""


@pytest.mark.parametrize("name", LEAVES)
def test_help_has_examples_that_are_understood(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = LEAVES[name].format_help()
    assert "exit status: 0 well" in text
    assert teaching.EXAMPLES[name]
    for command, what in teaching.EXAMPLES[name]:
        assert what
        assert f"  {command}\n" in text
        if "$(" in command or ">" in command:
            continue  # a shell's own
        _, *arguments = shlex.split(command)
        options, more = cli.parser().parse_known_args(arguments)
        assert not [each for each in more if each.startswith("-")]
        assert options.command.__module__ == LEAVES[name].get_default("command").__module__


def test_examples_are_of_commands_that_there_are() -> None:
    assert set(teaching.EXAMPLES) == set(LEAVES)


@pytest.mark.parametrize("name", sorted(LEAVES.keys() - WITHOUT_A_REPORT))
def test_a_report_for_scripts_can_be_had(name: str) -> None:
    assert "--json" in LEAVES[name]._option_string_actions


def test_the_whole_says_what_every_exit_status_means() -> None:
    text = cli.parser().format_help()
    for status, meaning in terminal.STATUSES.items():
        assert f"{status:<4} {meaning}" in text


def test_what_is_changed_is_told_as_json(site: Site, tmp_path: Path) -> None:
    def told(*arguments: str) -> dict[str, object]:
        status, out, err = site.command(*arguments, "--json")
        assert status == terminal.OK, err
        found: dict[str, object] = json.loads(out)
        return found

    study = str(site.store().StudyInstanceUID)
    hold = told("hold", "add", "--study", study, "--reason", "case 1")["hold"]
    assert told("hold", "remove", str(hold)) == {"hold": hold, "ended": True}
    assert told("key", "create", "viewer", "--role", "viewer")["key"]
    key = told("key", "list")["keys"][0]["id"]  # type: ignore[index]
    assert told("key", "revoke", key) == {"key": key, "revoked": True}
    assert told("user", "add", "ann", "--role", "viewer", "--generate")["user"] == "ann"
    assert len(str(told("user", "password", "ann", "--generate")["password"])) > 10
    assert told("user", "disable", "ann") == {"user": "ann", "disabled": True}
    assert told("user", "enable", "ann") == {"user": "ann", "disabled": False}
    assert str(told("user", "totp", "ann")["address"]).startswith("otpauth://")
    assert told("user", "remove", "ann") == {"user": "ann", "removed": True}
    assert told("view", "fill", "--view", "research")["studies"] == 1
    assert "viewer" in str(told("policy", "check")["roles"])
    assert told("check-config") == {"in_order": True, "faults": []}
    assert told("erase", "--study", study, "--dry-run")
    table = tmp_path / "table.toml"
    table.write_text('[[expectation]]\nroles = ["viewer"]\naction = "delete"\nexpect = "allow"\n')
    status, out, _ = site.command("policy", "test", str(table), "--json")
    row = {"row": 1, "expected": "allow", "is": "denied"}
    assert (status, json.loads(out)) == (terminal.FAILED, {"expectations": 1, "differing": [row]})
    with site.file.open("a") as file:
        file.write("[http]\nnowhere = 1\n")
    status, out, _ = site.command("check-config", "--json")
    assert (status, json.loads(out)["in_order"]) == (terminal.FAILED, False)
    assert "http.nowhere" in json.loads(out)["faults"][0]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sned x y@b:1", "there is no 'sned'; did you mean send?"),
        ("key creat", "did you mean create?"),
        ("send --tsl x y@b:1", "no such arguments: --tsl; did you mean --tls?"),
        ("find x@b:1 --level studdy", "there are patient, study, series, image"),
        ("policy explain --role a --action fly", "there are echo, "),
    ],
)
def test_what_was_probably_meant_is_told(given: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(given.split())
    assert ended.value.code == terminal.USAGE
    told = capsys.readouterr().err
    assert meant in told
    assert "next gateway" in told


def test_a_file_or_engine_that_is_not_there_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check-config", "-c", str(tmp_path / "absent.toml")]) == terminal.FAILED
    assert "; -c names the settings file; without it" in capsys.readouterr().err
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[storage]\ndirectory = 'data'\n[index]\nengine = 'postgres'\n"
        f"url = 'postgresql://nobody@127.0.0.1:{free_port()}/none'\n"
    )
    assert cli.main(["hold", "list", "-c", str(file)]) == terminal.FAILED
    assert "next does the engine run" in capsys.readouterr().err


def test_whoever_may_not_read_is_told_who_may(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/var/lib/gateway/index.sqlite")

    monkeypatch.setattr(assembly, "index", forbidden)
    status, _, err = site.command("hold", "list")
    assert (status, "error /var/lib/gateway/index.sqlite: Permission denied" in err) == (terminal.FAILED, True)
    assert "next give the command as the user who runs the gateway" in err


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == terminal.USAGE
    assert "examples:\n  gateway demo" in capsys.readouterr().err


# Completion


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_given_all_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == terminal.OK
    script = capsys.readouterr().out
    for name in ("status", "send", "find", "get", "check-config", "revoke", "--calling-aet".lstrip("-")):
        assert name in script, name


@need_program("bash", "bash")
def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["completion", "bash"])
    script = tmp_path / "gateway.bash"
    script.write_text(capsys.readouterr().out)
    function = re.search(r"complete .*-F (\S+) gateway", script.read_text())
    assert function

    def completed(*words: str) -> set[str]:
        asked = (
            f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            f'{function[1]}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=30, check=True)
        return {each.strip() for each in done.stdout.split()}

    assert completed("gateway", "s") == {"send", "serve", "status"}
    assert completed("gateway", "key", "c") == {"create"}
    assert {"--tls", "--tls-ca"} <= completed("gateway", "echo", "--tls")
    assert completed("gateway", "completion", "z") == {"zsh"}
