"""``gateway status``: what it tells of a gateway that runs, of one that is not whole, and of none."""

from __future__ import annotations

import http.server
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from gateway import assembly, cli
from gateway.assembly import Core
from gateway.commands import terminal
from gateway.config import Settings
from storage.index.sqlite import SqliteIndex, schema_version
from tests import instances
from tests.gateway.dimse.conftest import Serve, eventually
from tests.gateway.dimse.test_tls import with_tls
from tests.gateway.http.conftest import Authority
from tests.ports import free_port
from tests.serving import Gateway


class Host:
    """A gateway of a settings file, and the command beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "gateway.toml"
        self.metrics_port = free_port()
        self.certificate, self.key = Authority(folder).issue("gateway")
        tls = {"GATEWAY_HTTP__TLS_CERTIFICATE_FILE": str(self.certificate), "GATEWAY_HTTP__TLS_KEY_FILE": str(self.key)}
        self.gateway = Gateway(folder / "data", folder / "log", settings_file=self.file, GATEWAY_HTTP__WORKERS="1",
                               GATEWAY_DIMSE__WORKERS="1", **tls)  # fmt: skip
        self.write()

    def write(self, more: str = "", dimse_port: int | None = None) -> None:
        self.file.write_text(
            f'[http]\nport = {self.gateway.http_port}\ntls_certificate_file = "{self.certificate}"\n'
            f'tls_key_file = "{self.key}"\n[dimse]\nport = {dimse_port or self.gateway.dimse_port}\n'
            f'[storage]\ndirectory = "data"\n[metrics]\nport = {self.metrics_port}\n{more}'
        )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    found = Host(tmp_path_factory.mktemp("host"))
    found.gateway.start()
    yield found
    found.gateway.stop()


@pytest.fixture
def core_over_tls(settings: Settings, tmp_path: Path) -> Iterator[Core]:
    authority = Authority(tmp_path)
    more = {"tls_client_ca_file": authority.file, "tls_client_certificates": "required"}
    core = assembly.build(with_tls(settings, authority, **more), "test")
    yield core
    core.close()


def status(file: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    found = cli.main(["status", "-c", str(file), *more])
    said = capsys.readouterr()
    return found, said.out, said.err


def as_json(file: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    found, out, _ = status(file, capsys, "--json", *more)
    return found, json.loads(out)


def test_a_gateway_that_serves_is_ready(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    application_entity = AE(ae_title="CT1")
    application_entity.add_requested_context(instances.CT, ExplicitVRLittleEndian)
    application_entity.add_requested_context("1.2.840.10008.1.1")
    association = application_entity.associate("127.0.0.1", host.gateway.dimse_port, ae_title="GATEWAY")
    sent = instances.data_set()
    instances.part10_file(sent)
    assert association.send_c_store(sent).Status == 0x0000
    wrong = instances.data_set(StudyInstanceUID=None)
    instances.part10_file(wrong)
    assert association.send_c_store(wrong).Status == 0xC000
    association.release()

    eventually(lambda: bool(as_json(host.file, capsys)[1]["associations"]))
    exit_status, found = as_json(host.file, capsys)
    assert (exit_status, found["ready"], found["fault"]) == (terminal.OK, True, "")
    assert found["faces"][0]["where"].startswith("https://")
    assert {each["name"]: each["answers"] for each in found["faces"]} == {"HTTP": True, "DIMSE": True, "metrics": True}
    assert found["workers_ready"] == {"http": "1 of 1", "dimse": "1 of 1", "background": "1 of 1"}
    [tenant] = found["tenants"]
    assert (tenant["studies"], tenant["objects"], tenant["quarantined"]) == (1, 1, 0)
    assert {each["name"] for each in found["room"]["places"]} == {"spool", "objects", "audit trail"}
    assert found["work"]["commitments"] == found["work"]["index_writes"] == found["work"]["arriving"] == 0
    assert found["failures"]["C-STORE answered 0xC000"] == 1
    assert [each["ae_title"] for each in found["peers"]] == ["CT1"], "not our own question"
    [over] = found["associations"]
    assert (over["calling"], over["outcome"], over["accepted"]) == ("CT1", "released", 2)
    assert over["served"] == [{"operation": "C-STORE", "count": 2, "failed": 1}]

    exit_status, out, _ = status(host.file, capsys)
    assert exit_status == terminal.OK
    assert out.splitlines()[0].endswith(" is ready")
    assert "1 studies, 1 objects" in out
    assert "CT1 at 127.0.0.1" in out
    assert "1 x C-STORE answered 0xC000" in out
    assert "2 C-STORE (1 failed)  released" in out


def test_a_face_that_does_not_answer_is_named(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host.write(dimse_port=free_port())
    exit_status, out, err = status(host.file, capsys)
    assert (exit_status, "runs, and is not ready" in out) == (terminal.FAILED, True)
    assert "error no answer: DIMSE" in err
    assert "does not answer (Connection refused)" in out
    exit_status, _ = as_json(host.file, capsys, "--face", "http")
    assert exit_status == terminal.OK, "where DIMSE is another workload"
    host.write()


def test_dimse_over_tls_is_asked_with_our_own_certificate(
    core_over_tls: Core, serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dimse = core_over_tls.settings.dimse
    with serve(core_over_tls) as server:
        file = tmp_path / "gateway.toml"
        file.write_text(
            f'[storage]\ndirectory = "data"\n[dimse]\nport = {server.address[1]}\n'
            f'tls_certificate_file = "{dimse.tls_certificate_file}"\ntls_key_file = "{dimse.tls_key_file}"\n'
            f'tls_client_ca_file = "{dimse.tls_client_ca_file}"\ntls_client_certificates = "required"\n'
        )
        exit_status, found = as_json(file, capsys, "--face", "dimse")
    [face] = found["faces"]
    assert (exit_status, face["answers"], face["detail"]) == (terminal.OK, True, "over TLS")


def test_a_disk_without_room_is_told_of(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__MIN_FREE_BYTES", str(1 << 60))
    exit_status, _, err = status(host.file, capsys)
    assert (exit_status, "less than storage.min_free_bytes" in err) == (terminal.FAILED, True)


def test_an_index_of_an_earlier_release_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[http]\nport = {free_port()}\n[dimse]\nport = {free_port()}\n[storage]\ndirectory = 'data'\n")
    path = tmp_path / "data" / "index.sqlite"
    SqliteIndex(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = '10' WHERE key = 'schema_version'")
    _, out, _ = status(file, capsys)
    assert "archive  index: of an earlier release (schema 10)" in out
    assert schema_version(path) == 10


class Other(http.server.BaseHTTPRequestHandler):
    """Another server, which has an answer to everything."""

    answer = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("answer", [b"[]", b'"ok"', b"<html>it works</html>", b"\xff\xfe"])
def test_another_server_in_the_place_of_a_face_is_told_of(
    host: Host, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Its", (Other,), {"answer": answer})) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        port = other.server_address[1]
        text = host.file.read_text()
        try:
            host.file.write_text(text.replace(f"port = {host.metrics_port}", f"port = {port}"))
            exit_status, found = as_json(host.file, capsys)
            assert exit_status == terminal.FAILED
            faces = {each["name"]: each for each in found["faces"]}
            assert (faces["HTTP"]["answers"], faces["metrics"]["answers"]) == (True, False)
            assert faces["metrics"]["detail"] == "something else answers there"

            host.file.write_text(f"[http]\nport = {port}\n[storage]\ndirectory = 'data'\n")
            _, found = as_json(host.file, capsys, "--face", "http")
            assert [each["answers"] for each in found["faces"]] == [False]
        finally:
            host.file.write_text(text)
            other.shutdown()
            thread.join()


def test_where_none_runs_it_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[http]\nport = {free_port()}\n[dimse]\nport = {free_port()}\n[storage]\ndirectory = 'data'\n")
    exit_status, out, err = status(file, capsys)
    assert exit_status == terminal.UNREACHED
    assert out.splitlines()[0].endswith(" does not run")
    assert f"next start it: gateway serve -c {file}" in err
    assert not (tmp_path / "data").exists(), "it makes nothing"
