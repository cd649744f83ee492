"""``gateway serve --face``: the faces as workloads of their own, as on Kubernetes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from gateway import cli
from storage.objects.s3 import S3Settings
from tests import postgres as postgres_server
from tests.instances import data_set, part10_file
from tests.postgres import Postgres
from tests.programs import running
from tests.serving import free_port


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def database() -> Iterator[Postgres]:
    """A server of this test's own, since it is stopped."""
    if not postgres_server.is_installed() and os.environ.get("CI") != "true":
        pytest.skip("no PostgreSQL server (Debian package postgresql)")
    server = Postgres()
    yield server
    server.stop()


class Pod:
    """One face on a directory of its own."""

    def __init__(self, face: str, folder: Path, environment: dict[str, str]) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.log = folder / f"{face}.log"
        own = {
            f"GATEWAY_{face.upper()}__PORT": str(self.port),
            "GATEWAY_METRICS__PORT": str(self.metrics_port),
            "GATEWAY_STORAGE__DIRECTORY": str(folder / face),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", "serve", "--single", "--face", face],
                env={**os.environ, **environment, **own},
                stdout=log,
                stderr=log,
            )

    def readiness(self) -> int:
        try:
            return requests.get(f"http://127.0.0.1:{self.metrics_port}/health/ready", timeout=30).status_code
        except requests.ConnectionError:
            assert self.process.poll() is None, self.log.read_text()
            return 0


@pytest.fixture
def pods(database: Postgres, seaweedfs_bucket: S3Settings, tmp_path: Path) -> Iterator[dict[str, Pod]]:
    bucket = seaweedfs_bucket
    environment = {
        "GATEWAY_INDEX__ENGINE": "postgres",
        "GATEWAY_INDEX__URL": database.url,
        "GATEWAY_STORAGE__OBJECTS": "s3",
        "GATEWAY_STORAGE__STUDY_QUIET_S": "1",
        "GATEWAY_S3__ENDPOINT_URL": str(bucket.endpoint_url),
        "GATEWAY_S3__BUCKET": bucket.bucket,
        "GATEWAY_S3__ACCESS_KEY_ID": str(bucket.access_key_id),
        "GATEWAY_S3__SECRET_ACCESS_KEY": str(bucket.secret_access_key),
    }
    # All at once: whoever comes first makes the schema.
    found = {face: Pod(face, tmp_path, environment) for face in ("http", "dimse", "background")}
    try:
        yield found
        for pod in found.values():
            pod.process.terminate()
        for pod in found.values():
            assert pod.process.wait(60) == 0, pod.log.read_text()
    finally:
        for pod in found.values():
            pod.process.kill()
            pod.process.wait()


def test_faces_apart_share_the_engines_and_say_when_these_do_not_answer(
    pods: dict[str, Pod], database: Postgres
) -> None:
    eventually(lambda: all(pod.readiness() == 200 for pod in pods.values()))
    sent = data_set()
    part10_file(sent)
    ae = AE()
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", pods["dimse"].port, ae_title="GATEWAY")
    assert association.send_c_store(sent).Status == 0
    association.release()
    web = f"http://127.0.0.1:{pods['http'].port}/dicomweb"
    found = requests.get(f"{web}/studies?StudyInstanceUID={sent.StudyInstanceUID}", timeout=30).json()
    assert len(found) == 1

    def completed() -> bool:
        changes = requests.get(f"{web}/changefeed?after=0", timeout=30).json()
        return "completed" in json.dumps(changes)

    eventually(completed)
    database.halt()
    eventually(lambda: all(pod.readiness() == 503 for pod in pods.values()))
    for pod in pods.values():
        assert requests.get(f"http://127.0.0.1:{pod.metrics_port}/health/live", timeout=30).status_code == 200
    database.start()
    eventually(lambda: all(pod.readiness() == 200 for pod in pods.values()))


def test_a_face_of_its_own_is_refused_on_engines_of_one_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--face", "http"]) == 1
    error = capsys.readouterr().err
    assert 'storage.objects: has to be "s3" for --face' in error
    assert 'index.engine: has to be "postgres" for --face' in error


@pytest.mark.parametrize(
    "begun",
    ["exec {} <&-", "exec {} >&-", "exec {} <&- >&- 2>&-", "exec env --ignore-signal=CHLD {}"],
    ids=["without input", "without output", "with none of them", "with SIGCHLD ignored"],
)
def test_it_serves_and_ends_well_whatever_its_parent_has_closed_or_ignores(tmp_path: Path, begun: str) -> None:
    """As under supervisors that are not a shell: closed descriptors are taken by the next that are opened."""
    port, log = free_port(), tmp_path / "log"
    environment = {
        **os.environ,
        "GATEWAY_HTTP__PORT": str(port),
        "GATEWAY_DIMSE__PORT": str(free_port()),
        "GATEWAY_STORAGE__DIRECTORY": str(tmp_path / "data"),
    }
    command = ["sh", "-c", begun.format('"$0" -m gateway.cli serve --single'), sys.executable]
    with log.open("wb") as told, running(command, env=environment, stdout=told, stderr=told) as process:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            with suppress(requests.ConnectionError):
                return requests.get(f"http://127.0.0.1:{port}/health/ready", timeout=30).status_code == 200
            return False

        eventually(answers)
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
