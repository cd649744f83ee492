"""deploy/compose.yaml: what it says hangs together, and its programs run with what it gives them."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from gateway import assembly, config
from tests import postgres as postgres_server
from tests.gateway.http.conftest import Authority
from tests.instances import data_set, part10_file
from tests.postgres import Postgres
from tests.serving import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The secrets, made."""
    folder = tmp_path / "secrets"
    subprocess.run([DEPLOY / "make-secrets", folder], check=True)
    return folder


def test_everything_that_a_service_uses_is_declared_and_everything_declared_is_used() -> None:
    for kind in ("networks", "volumes", "secrets", "configs"):
        used: set[str] = set()
        for service in SERVICES.values():
            for each in service.get(kind, ()):
                used.add(each["source"] if isinstance(each, dict) else each.split(":")[0])
        assert used == COMPOSE[kind].keys()
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] in ("service_completed_successfully", "service_healthy")
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[name]


def test_nothing_but_the_gateway_is_published_and_nothing_beyond_this_host_unasked() -> None:
    assert COMPOSE["networks"]["engines"]["internal"] is True
    for name, service in SERVICES.items():
        assert ("ports" in service) == (name == "gateway")
        assert "no-new-privileges:true" in service["security_opt"]
        if name != "gateway":
            assert service["networks"] == ["engines"]
    for port in SERVICES["gateway"]["ports"]:
        assert port.startswith(("127.0.0.1:", "${GATEWAY_DIMSE_ADDRESS:-127.0.0.1}:"))
    assert SERVICES["gateway"]["read_only"] is True
    assert SERVICES["gateway"]["cap_drop"] == ["ALL"]


def test_with_tls_dimse_has_a_certificate_that_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = yaml.safe_load((DEPLOY / "compose.tls.yaml").read_text())
    (gateway,) = more["services"].values()
    assert more["services"].keys() <= SERVICES.keys()
    assert set(gateway["secrets"]) == more["secrets"].keys()
    certificate, key = Authority(tmp_path).issue("gateway")
    for name, value in gateway["environment"].items():
        mounted = value.removeprefix("/run/secrets/")
        assert value == mounted or mounted in gateway["secrets"]
        monkeypatch.setenv(name, value if value == mounted else str(key if mounted == "dimse_key" else certificate))
    monkeypatch.setenv("GATEWAY_STORAGE__DIRECTORY", str(tmp_path / "data"))
    settings = config.load(None)
    assert settings.dimse.tls_or_clear
    assembly.check(settings)


def test_there_is_no_secret_in_it(made: Path) -> None:
    assert {Path(each["file"]).name for each in COMPOSE["secrets"].values()} == {path.name for path in made.iterdir()}
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "CREDENTIALS" in name:
                assert value.startswith("/run/secrets/")


def test_secrets_are_made_once_for_their_owner(made: Path) -> None:
    before = {path.name: path.read_text() for path in made.iterdir()}
    assert len(before["postgres_password"]) == 64
    credentials = configparser.ConfigParser()
    credentials.read_string(before["s3_credentials"])
    (identity,) = json.loads(before["s3_identities.json"])["identities"]
    assert identity["credentials"] == [
        {
            "accessKey": credentials["default"]["aws_access_key_id"],
            "secretKey": credentials["default"]["aws_secret_access_key"],
        }
    ]
    assert made.stat().st_mode & 0o777 == 0o700
    subprocess.run([DEPLOY / "make-secrets", made], check=True)
    assert {path.name: path.read_text() for path in made.iterdir()} == before


def test_the_settings_fit_the_services() -> None:
    found = config.Settings(**tomllib.loads((DEPLOY / "gateway.toml").read_text()))
    mounted = [each.partition(":")[2] for each in SERVICES["gateway"]["volumes"]]
    assert str(found.storage.directory) in mounted
    assert found.s3.endpoint_url == "http://seaweedfs:8333"
    assert "@postgres:5432/" in found.index.url.get_secret_value()
    assert str(found.index.password_file) == "/run/secrets/postgres_password"


def eventually(condition: Callable[[], bool], log: Path) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        try:
            if condition():
                return
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline_s, log.read_text()[-2000:]
        time.sleep(0.05)


@contextmanager
def running(command: list[str], log: Path, folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_services_work_together_outside_of_containers(made: Path, tmp_path: Path) -> None:
    """The same commands, settings and secrets, with other addresses."""
    if not postgres_server.is_installed() and os.environ.get("CI") != "true":
        pytest.skip("no PostgreSQL server (Debian package postgresql)")
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    grpc = {name: free_port() for name in ports}
    s3 = ports["s3"]
    (tmp_path / "objects").mkdir()
    weed = replaced(
        "\n".join(SERVICES["seaweedfs"]["command"]),
        ("/run/secrets/s3_identities", str(made / "s3_identities.json")),
        ("-dir=/data", f"-dir={tmp_path}/objects"),
        ("-ip=seaweedfs", "-ip=127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("8333", str(s3)),
    ).split("\n")
    more = [f"-{name}.port={port}" for name, port in ports.items() if name != "s3"]
    more += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
    script = replaced(
        SERVICES["seaweedfs-fsync"]["command"][0],
        ("seaweedfs:9333", f"127.0.0.1:{ports['master']}.{grpc['master']}"),
        ("seaweedfs:8888", f"127.0.0.1:{ports['filer']}.{grpc['filer']}"),
    )
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    database = Postgres()
    (tmp_path / "password").write_text(postgres_server.PASSWORD)
    key = secrets.token_hex(32)
    (tmp_path / "policy.toml").write_text(
        f'[[principal]]\nname = "viewer"\nkind = "api_key"\nactions = ["search", "store"]\n'
        f'api_key_sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'
    )
    (tmp_path / "gateway.toml").write_text(
        replaced(
            (DEPLOY / "gateway.toml").read_text(),
            ("seaweedfs:8333", f"127.0.0.1:{s3}"),
            ("postgres:5432", f"127.0.0.1:{database.port}"),
            ("/run/secrets/postgres_password", str(tmp_path / "password")),
            ("/var/lib/gateway", str(tmp_path / "data")),
            ('"0.0.0.0"', '"127.0.0.1"'),
        )
    )
    command = replaced(" ".join(SERVICES["gateway"]["command"]), ("/etc/gateway", str(tmp_path))).split(" ")
    http, metrics = free_port(), free_port()
    weed_log, log = tmp_path / "weed.log", tmp_path / "gateway.log"
    try:
        with running([f"{Path(sys.executable).parent}/weed", *weed, *more], weed_log, tmp_path / "objects") as server:
            eventually(lambda: requests.get(f"http://127.0.0.1:{s3}/healthz", timeout=5).ok, weed_log)
            subprocess.run(["sh", "-c", script], check=True, timeout=60, env={**os.environ, "PATH": programs})
            environment = {
                "AWS_SHARED_CREDENTIALS_FILE": str(made / "s3_credentials"),
                "GATEWAY_AUDIT__DIRECTORY": str(tmp_path / "audit"),
                "GATEWAY_HTTP__PORT": str(http),
                "GATEWAY_DIMSE__PORT": "0",
                "GATEWAY_METRICS__PORT": str(metrics),
            }
            with running([sys.executable, "-m", "gateway.cli", *command], log, tmp_path, **environment) as gateway:
                eventually(lambda: requests.get(f"http://127.0.0.1:{metrics}/health/ready", timeout=30).ok, log)
                web = f"http://127.0.0.1:{http}/dicomweb/studies"
                headers = {"Authorization": f"Bearer {key}"}
                dicom = {"Content-Type": "application/dicom", **headers}
                assert requests.post(web, data=part10_file(data_set()), headers=dicom, timeout=30).status_code == 200
                assert len(requests.get(web, headers=headers, timeout=30).json()) == 1
                assert requests.get(web, timeout=30).status_code == 401
            assert gateway.returncode == 0, log.read_text()
            server.kill()  # SIGTERM takes it ten seconds
    finally:
        database.stop()
