"""What commands say, where, and with which status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli
from gateway.commands import terminal
from tests.programs import running


def test_without_a_terminal_progress_is_plain_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("reading", 4) as meter:
        for done in range(5):
            meter.update(done)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("reading: 4 of 4, ")
    assert "\x1b" not in line


def test_progress_tells_now_and_then_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_LINE_EVERY_S", 0.0)
    with terminal.progress("reading") as meter:
        meter.update(1, 10)
        meter.update(2)
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "reading: 1 of 10",
        "reading: 2 of 10",
        "reading: 2 of 10",
    ]


def test_names_from_outside_neither_style_nor_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.error("a\x1b[31mb\nc[bold]d")
    assert capsys.readouterr().err == "error a\\x1b[31mb\\nc[bold]d\n"


def test_a_report_for_scripts_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.report({"name": "a\nb\udcff"})
    assert json.loads(capsys.readouterr().out) == {"name": "a\nb\udcff"}


def test_a_command_that_is_not_understood_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["no-such-command"])
    assert ended.value.code == terminal.USAGE
    assert "no-such-command" in capsys.readouterr().err


def test_a_fault_ends_with_1_and_says_which_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reindex", "-c", str(tmp_path / "absent.toml")]) == terminal.FAILED
    assert "absent.toml: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    waiting = (
        "import argparse, sys, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started us aside\n"
        "from gateway import cli\n"
        "from gateway.commands import reindex, terminal\n"
        "def run(options):\n"
        "    with terminal.interruptible(), terminal.progress('waiting'):\n"
        "        print('ready', flush=True)\n"
        "        while True: signal.pause()\n"
        "reindex.run = run\n"
        "sys.exit(cli.main(['reindex']))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([sys.executable, "-c", waiting], text=True, cwd=Path.cwd(), **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == terminal.INTERRUPTED
    assert errors.splitlines()[-1].startswith("error interrupted: ")
    assert "Traceback" not in errors
