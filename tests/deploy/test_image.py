"""The Dockerfile: what can be known of it without building an image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from gateway import cli
from tests.serving import Gateway

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
INSTRUCTIONS = [line.split(None, 1) for line in TEXT.splitlines() if line and not line.startswith("#")]


def all_of(name: str) -> list[str]:
    return [rest for word, rest in INSTRUCTIONS if word == name]


def test_it_runs_as_nobody_in_particular_and_starts_the_gateway() -> None:
    assert all_of("USER") == ["10001:10001"]
    command = json.loads(all_of("ENTRYPOINT")[0]) + json.loads(all_of("CMD")[0])
    assert command[0] == "gateway"
    cli.parser().parse_args(command[1:])


def test_the_viewer_is_installed_where_the_gateway_looks_for_it() -> None:
    (run,) = [rest for rest in all_of("RUN") if "viewer" in rest]
    setting, program, *arguments = run.split()
    assert program == "/opt/gateway/bin/gateway"
    cli.parser().parse_args(arguments)
    assert setting in all_of("ENV")[0].split()
    assert f"--from=viewer {setting.partition('=')[2]} {setting.partition('=')[2]}" in all_of("COPY")


def test_it_installs_extras_that_there_are_from_files_that_reach_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r'"\.\[([a-z,]+)\]"', TEXT)
    assert set(extras.split(",")) == {"postgres", "otel"} <= project["optional-dependencies"].keys()
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for rest in all_of("COPY") if not rest.startswith("--from") for name in rest.split()[:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in sent)
    assert {project["readme"], *project["license-files"], "pyproject.toml"} <= copied


def test_the_health_check_tells_a_gateway_that_lives_from_one_that_does_not(tmp_path: Path) -> None:
    (check,) = re.findall(r"CMD (\[.*\])$", all_of("HEALTHCHECK")[0])
    program, option, code = json.loads(check)
    assert (program, option) == ("python", "-c")
    (environment,) = all_of("ENV")
    assert "GATEWAY_METRICS__PORT=9464" in environment
    gateway = Gateway(tmp_path / "data", tmp_path / "log", GATEWAY_METRICS__PORT="0")
    gateway.start()
    (port,) = re.findall(r"metrics on http://127\.0\.0\.1:(\d+)", gateway.log)
    command = [sys.executable, option, code.replace("9464", port)]
    try:
        assert subprocess.run(command, check=False, timeout=30).returncode == 0
    finally:
        assert gateway.stop() == 0
    assert subprocess.run(command, check=False, timeout=30, stderr=subprocess.DEVNULL).returncode != 0
