"""A sandbox that runs: who may what, faults, starting over; and that a gateway of somebody's own has nothing of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway import cli
from gateway.commands import terminal
from gateway.config import Settings
from gateway.sandbox.faults import Faults, NotAFault, of_document, of_header
from gateway.sandbox.identities import ROLES
from tests.conformance.conftest import multipart
from tests.instances import data_set, part10_file
from tests.ports import free_port

SAMPLES = Path(__file__).parents[3] / "sample_dicom" / "studies"
_START_S = 90.0


@dataclass(frozen=True)
class Sandbox:
    directory: Path
    told: Path
    elsewhere: Path
    url: str
    keys: dict[str, str]
    http_port: int
    dimse_port: int

    @property
    def behind(self) -> int:
        found = re.search(r"^port = (\d+)$", (self.directory / "gateway.toml").read_text(), re.MULTILINE)
        assert found
        return int(found[1])

    def get(self, path: str, role: str = "", **headers: str) -> requests.Response:
        return self.ask("GET", path, role, **headers)

    def ask(self, method: str, path: str, role: str = "", data: Any = None, **headers: str) -> requests.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if role:
            given["X-API-Key"] = self.keys[role]
        return requests.request(method, self.url + path, headers=given, data=data, timeout=60)

    def token(self, role: str, **form: str) -> str:
        given = {"grant_type": "client_credentials", "client_id": role, **form}
        return str(requests.post(f"{self.url}/sandbox/oidc/token", data=given, timeout=30).json()["access_token"])


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    samples = folder / "samples"
    for file in (sorted(SAMPLES.rglob(f"{each}/*.dcm"))[0] for each in ("axial", "t1_axial")):
        (samples / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, samples / file.parent.name)
    place, told = folder / "place", folder / "told"
    # What somebody has set for a gateway of theirs.
    environment = {
        **os.environ,
        "GATEWAY_STORAGE__DIRECTORY": str(folder / "elsewhere"),
        "GATEWAY_HTTP__PORT": str(free_port()),
        "GATEWAY_DIMSE__PORT": str(free_port()),
        "COLUMNS": "200",
    }
    arguments = ["demo", "--sandbox", "--directory", str(place), "--samples", str(samples)]
    with told.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", *arguments, "--origin", "http://localhost:3000"],
            env=environment, stdout=out, stderr=out,
        )  # fmt: skip
    deadline_s = time.monotonic() + _START_S
    # What it says last: it is ready before it has said how to reach it.
    while "Ctrl-C ends it." not in told.read_text():
        assert process.poll() is None, told.read_text()
        assert time.monotonic() < deadline_s, told.read_text()
        time.sleep(0.05)
    url = json.loads((place / "sandbox.json").read_text())["url"]
    keys = json.loads((place / "identities.json").read_text())["keys"]
    ports = (int(environment[f"GATEWAY_{each}__PORT"]) for each in ("HTTP", "DIMSE"))
    yield Sandbox(place, told, folder / "elsewhere", url, keys, *ports)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, told.read_text()
    assert not (place / "sandbox.json").exists()


def test_who_shows_nothing_is_let_in_nowhere_although_on_this_machine(sandbox: Sandbox) -> None:
    assert sandbox.get("/dicomweb/studies").status_code == 401
    assert sandbox.get("/dicomweb/studies", X_API_Key="somebody's").status_code == 401
    behind = requests.get(f"http://127.0.0.1:{sandbox.behind}/dicomweb/studies", timeout=30)
    assert behind.status_code == 401


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        ("administrator", "/admin/keys", 200),
        ("radiologist", "/admin/keys", 403),
        ("radiologist", "/dicomweb/studies", 200),
        ("viewer", "/dicomweb/studies", 200),
        ("ct-viewer", "/dicomweb/studies?ModalitiesInStudy=CT", 200),
        ("ct-viewer", "/dicomweb/studies?ModalitiesInStudy=MR", 204),
        ("researcher", "/views/research/dicomweb/studies", 200),
        ("viewer", "/views/research/dicomweb/studies", 403),
        ("modality", "/dicomweb/studies", 403),
        ("auditor", "/fhir/AuditEvent?_count=1", 200),
        ("viewer", "/fhir/AuditEvent?_count=1", 403),
    ],
)
def test_each_role_may_what_it_may_by_key_and_by_token(sandbox: Sandbox, role: str, path: str, status: int) -> None:
    assert sandbox.get(path, role).status_code == status
    assert sandbox.get(path, Authorization=f"Bearer {sandbox.token(role)}").status_code == status


def test_a_researcher_sees_pseudonyms(sandbox: Sandbox) -> None:
    def patients(role: str) -> set[str]:
        return {each["00100020"]["Value"][0] for each in sandbox.get("/dicomweb/studies", role).json()}

    assert patients("researcher")
    assert patients("researcher") & patients("viewer") == set()


def test_every_role_has_a_key_and_a_token_on_the_terminal_which_is_loud(sandbox: Sandbox) -> None:
    told = sandbox.told.read_text()
    assert "SANDBOX" in told
    assert "Never for patients" in told
    assert set(sandbox.keys) == set(ROLES)
    for role, key in sandbox.keys.items():
        assert f"X-API-Key: {key}" in told, role
    bearers = re.findall(r"Authorization: Bearer (\S+)", told)
    assert len(bearers) == len(ROLES)
    assert sandbox.get("/dicomweb/studies", Authorization=f"Bearer {bearers[1]}").status_code == 200


def test_every_answer_and_the_page_say_that_it_is_one(sandbox: Sandbox) -> None:
    for path in ("/", "/dicomweb/studies", "/sandbox", "/nowhere", "/dicomweb/api"):
        assert "not for patients" in sandbox.get(path).headers["X-Sandbox"]
    page = sandbox.get("/", Accept="text/html").text
    assert "<title>SANDBOX: " in page
    assert 'role="note"><strong>SANDBOX</strong>' in page


def test_it_listens_on_this_machine_alone(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), timeout=5):
        pass


def test_answers_come_as_the_gateway_gives_them_with_urls_of_the_sandbox(sandbox: Sandbox) -> None:
    (found, *_) = sandbox.get("/dicomweb/studies", "viewer").json()
    url = found["00081190"]["Value"][0]
    assert url.startswith(f"{sandbox.url}/dicomweb/studies/")
    answer = requests.get(url, headers={"X-API-Key": sandbox.keys["viewer"]}, timeout=30)
    assert answer.headers["Content-Type"].startswith("multipart/related")
    assert b"DICM" in answer.content
    known = sandbox.get("/dicomweb/studies", "viewer").headers["ETag"]
    assert sandbox.get("/dicomweb/studies", "viewer", If_None_Match=known).status_code == 304
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "GET"}
    allowed = requests.options(f"{sandbox.url}/dicomweb/studies", headers=preflight, timeout=30)
    assert allowed.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


def test_a_slow_answer(sandbox: Sandbox) -> None:
    started_s = time.monotonic()
    assert sandbox.get("/dicomweb/studies", "viewer", X_Sandbox_Fault="slow=0.7").status_code == 200
    assert time.monotonic() - started_s > 0.7


def test_a_503_says_when_to_come_again_and_nothing_is_stored(sandbox: Sandbox) -> None:
    made = multipart(part10_file(data_set(PatientID="NOT-STORED")))
    answer = sandbox.ask(
        "POST", "/dicomweb/studies", "radiologist", made["data"], X_Sandbox_Fault="unavailable=7",
        Content_Type=made["headers"]["Content-Type"],
    )  # fmt: skip
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert sandbox.get("/dicomweb/studies?PatientID=NOT-STORED", "radiologist").status_code == 204


def test_an_expired_token_is_refused_by_the_gateway_itself(sandbox: Sandbox) -> None:
    asked = [sandbox.get("/dicomweb/studies", "viewer", X_Sandbox_Fault="expired-token")]
    told = re.search(r"An expired one +(\S+)", sandbox.told.read_text())
    assert told
    asked.append(sandbox.get("/dicomweb/studies", Authorization=f"Bearer {told[1]}"))
    short = sandbox.token("viewer", expires_in="1")
    # Whether it was good for that second is not asked: on a busy machine it is over before the question is there.
    claims = json.loads(urlsafe_b64decode(f"{short.split('.')[1]}=="))
    assert claims["exp"] - claims["iat"] == 1
    ended_s = time.monotonic() + 30
    while (last := sandbox.get("/dicomweb/studies", Authorization=f"Bearer {short}")).status_code == 200:
        assert time.monotonic() < ended_s
        time.sleep(0.1)
    for answer in (*asked, last):
        assert answer.status_code == 401
        assert "WWW-Authenticate" in answer.headers
        assert answer.headers["X-Request-Id"]


def test_faults_last_until_they_are_taken_back(sandbox: Sandbox) -> None:
    put = requests.put(f"{sandbox.url}/sandbox/faults", data='{"unavailable_every": 3}', timeout=30)
    assert put.json()["faults"]["unavailable_every"] == 3
    try:
        statuses = [sandbox.get("/dicomweb/studies", "viewer").status_code for _ in range(6)]
        assert statuses == [200, 200, 503, 200, 200, 503]
        assert sandbox.get("/sandbox").json()["faults"]["unavailable_every"] == 3
    finally:
        assert requests.delete(f"{sandbox.url}/sandbox/faults", timeout=30).status_code == 200
    assert {sandbox.get("/dicomweb/studies", "viewer").status_code for _ in range(4)} == {200}


def test_what_is_no_fault_is_400(sandbox: Sandbox) -> None:
    assert sandbox.get("/dicomweb/studies", "viewer", X_Sandbox_Fault="explode").status_code == 400
    for body in ("{", '{"slow": 1}', '{"slow_s": "long"}', '{"expired_token": 1}', '{"slow_s": 1e9}', "[]"):
        assert requests.put(f"{sandbox.url}/sandbox/faults", data=body, timeout=30).status_code == 400, body


def test_it_starts_over_with_the_samples_alone(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    before = sandbox.get("/dicomweb/instances/count", "viewer").json()["count"]
    made = multipart(part10_file(data_set(PatientID="STORED")))
    kind = made["headers"]["Content-Type"]
    assert sandbox.ask("POST", "/dicomweb/studies", "radiologist", made["data"], Content_Type=kind).status_code == 200
    assert sandbox.get("/dicomweb/instances/count", "viewer").json()["count"] == before + 1
    requests.put(f"{sandbox.url}/sandbox/faults", data='{"slow_s": 0.2}', timeout=30)
    assert cli.main(["demo", "--reset", "--directory", str(sandbox.directory)]) == terminal.OK
    assert "started over" in capsys.readouterr().out
    assert sandbox.get("/dicomweb/instances/count", "viewer").json()["count"] == before
    assert sandbox.get("/sandbox").json()["faults"]["slow_s"] == 0
    password = json.loads((sandbox.directory / "identities.json").read_text())["password"]
    session = requests.Session()
    page = session.get(f"{sandbox.url}/login", timeout=30)
    form = {
        "name": "administrator",
        "password": password,
        **dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text)),
    }
    headers = {"Origin": sandbox.url, "Sec-Fetch-Site": "same-origin"}
    answer = session.post(f"{sandbox.url}/login", data=form, headers=headers, timeout=30, allow_redirects=False)
    assert answer.status_code == 303, answer.text


def test_ports_are_those_of_the_environment_and_nothing_else_is(sandbox: Sandbox) -> None:
    settings = (sandbox.directory / "gateway.toml").read_text()
    assert sandbox.url == f"http://127.0.0.1:{sandbox.http_port}"
    assert f"[dimse]\nport = {sandbox.dimse_port}\n" in settings
    assert not sandbox.elsewhere.exists()


def test_a_gateway_of_somebodys_own_has_nothing_of_it(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "sandbox" not in json.dumps(Settings.model_json_schema()).lower()
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--sandbox"])
    assert ended.value.code == terminal.USAGE
    # The gateway behind is an ordinary one, without what stands before it.
    behind = f"http://127.0.0.1:{sandbox.behind}"
    headers = {"X-API-Key": sandbox.keys["viewer"], "X-Sandbox-Fault": "unavailable"}
    answer = requests.get(f"{behind}/dicomweb/studies", headers=headers, timeout=30)
    assert (answer.status_code, "X-Sandbox" in answer.headers) == (200, False)
    for method, path in (("POST", "/sandbox/reset"), ("PUT", "/sandbox/faults"), ("GET", "/sandbox")):
        assert requests.request(method, behind + path, timeout=30).status_code == 404
    assert cli.main(["demo", "--reset", "--directory", str(tmp_path)]) == terminal.UNREACHED
    assert "gateway demo --sandbox" in capsys.readouterr().err


def test_its_secrets_are_its_owners_alone(sandbox: Sandbox) -> None:
    assert stat.S_IMODE((sandbox.directory / "identities.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(sandbox.directory.stat().st_mode) == 0o700


def test_a_header_adds_to_what_lasts() -> None:
    lasting = of_document({"slow_s": 2, "retry_after_s": 9})
    assert of_header("", lasting) == lasting
    assert of_header("unavailable", lasting) == Faults(2, 1, 9)
    assert of_header("slow=0.5, expired-token", lasting) == Faults(0.5, 0, 9, expired_token=True)
    for text in ("slow", "slow=x", "slow=-1", "slow=nan", "unavailable=x", "expired-token=1"):
        with pytest.raises(NotAFault):
            of_header(text, lasting)
