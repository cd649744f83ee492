"""The process tree: replaced when killed, drained when told, gone when the supervisor is."""

from __future__ import annotations

import http.client
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from storage.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN
from tests.gateway.http.conftest import Authority
from tests.instances import CT, data_set, encode, part10_file
from tests.raw_scu import RawScu
from tests.serving import Gateway, title


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path / "data", tmp_path / "gateway.log", GATEWAY_HTTP__DRAIN_S="20", GATEWAY_DIMSE__DRAIN_S="20"
    )
    gateway.start()
    yield gateway
    gateway.kill_all()


def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


def echoes(gateway: Gateway) -> bool:
    ae = AE()
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", gateway.dimse_port, ae_title="GATEWAY")
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return "Status" in status and status.Status == 0


def test_two_workers_a_face_and_one_in_the_background_are_started(gateway: Gateway) -> None:
    titles = sorted(title(pid) for pid in gateway.workers())
    assert titles == [f"gateway {name}" for name in ("background-1", "dimse-1", "dimse-2", "http-1", "http-2")]
    assert title(gateway.nursery()) == "gateway nursery"


def test_what_is_forked_from_has_one_thread_and_holds_no_secret(gateway: Gateway) -> None:
    """A fork takes one thread along and every lock that another held; and each worker would have what is there."""
    folder = Path(f"/proc/{gateway.nursery()}")
    assert len(list((folder / "task").iterdir())) == 1
    opened = [str(each.readlink()) for each in (folder / "fd").iterdir()]
    assert not [name for name in opened if str(gateway.directory) in name]


def test_what_is_forked_from_shares_what_the_supervisor_has_imported(gateway: Gateway) -> None:
    """It was 100 MB twice."""
    told = dict(
        line.split(":", 1) for line in Path(f"/proc/{gateway.nursery()}/smaps_rollup").read_text().splitlines()[1:]
    )
    own = sum(int(told[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
    assert own < int(told["Rss"].split()[0]) / 4


def arenas(pid: int) -> int:
    """How many areas of 64 MB glibc has taken for the memory of threads, each used from its beginning."""
    size = 64 << 20
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    spans = [(*(int(each, 16) for each in line[0].split("-")), line[1]) for line in lines if len(line) == 5]
    return sum(
        begin % size == 0 and used == "rw-p" and rest == "---p" and end == middle and last == begin + size
        for (begin, end, used), (middle, last, rest) in itertools.pairwise(spans)
    )


def test_the_threads_of_a_worker_have_their_memory_from_one_area_beside_the_heap(gateway: Gateway) -> None:
    """Each keeps what was freed in it; by default there are up to eight a processor."""
    body = part10_file(data_set())

    def store_and_search(_: int) -> None:
        headers = {"Content-Type": "application/dicom"}
        assert requests.post(gateway.web + "/studies", data=body, headers=headers, timeout=30).status_code == 200
        assert requests.get(gateway.web + "/studies", timeout=30).status_code == 200

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(store_and_search, range(40)))
    assert max(map(arenas, gateway.workers())) == 1


def test_workers_go_on_without_what_they_were_forked_from_and_are_replaced(gateway: Gateway) -> None:
    workers, lost = gateway.workers(), gateway.nursery()
    gateway.kill(lost)
    eventually(lambda: not Path(f"/proc/{lost}/exe").exists())
    assert requests.get(gateway.web + "/studies", timeout=60).status_code == 204
    assert all(Path(f"/proc/{pid}").exists() for pid in workers)
    gateway.kill(*workers)
    eventually(lambda: len(gateway.workers()) == len(workers))
    eventually(lambda: requests.get(gateway.web + "/studies", timeout=60).status_code == 204)
    assert gateway.nursery() != lost
    assert gateway.stop() == 0


def test_every_worker_that_is_killed_is_replaced(gateway: Gateway) -> None:
    before = set(gateway.workers())
    gateway.kill(*before)
    eventually(lambda: len(set(gateway.workers()) - before) == len(before))
    eventually(lambda: requests.get(gateway.web + "/studies", timeout=60).status_code == 204)
    assert echoes(gateway)


def test_one_worker_of_a_face_is_enough_to_answer(gateway: Gateway) -> None:
    victims = {title(pid): pid for pid in gateway.workers()}
    gateway.kill(victims["gateway http-1"], victims["gateway dimse-1"])
    assert requests.get(gateway.web + "/studies", timeout=60).status_code == 204
    assert echoes(gateway)


def test_what_is_under_way_at_sigterm_is_finished(gateway: Gateway) -> None:
    body = part10_file(data_set())
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=30)
    connection.putrequest("POST", "/dicomweb/studies")
    connection.putheader("Content-Type", "application/dicom")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[:100])
    found = data_set(PixelData=None)
    with RawScu(("127.0.0.1", gateway.dimse_port), CT, EXPLICIT_VR_LITTLE_ENDIAN) as scu:
        assert scu.association.is_established
        stopping = threading.Thread(target=gateway.stop)
        stopping.start()
        # No new connections any more, once the listening sockets are closed.
        eventually(lambda: not _connects(gateway.http_port))
        response = scu.store(found.SOPInstanceUID, encode(found))
        assert response is not None
        assert response.Status == 0
    connection.send(body[100:])
    assert connection.getresponse().status == 200
    connection.close()
    stopping.join(60)
    gateway.start()
    everything = requests.get(gateway.web + "/instances", timeout=60).json()
    assert len(everything) == 2


def _connects(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def test_sigterm_ends_everything_with_status_0(gateway: Gateway) -> None:
    workers = gateway.workers()
    assert gateway.stop() == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_workers_end_when_their_supervisor_is_killed(gateway: Gateway) -> None:
    workers = gateway.workers()
    gateway.kill_supervisor()
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_what_an_earlier_run_left_in_the_spool_is_removed(gateway: Gateway) -> None:
    gateway.stop()
    left = gateway.directory / "spool" / "1-abc.spool"
    left.write_bytes(b"half of an instance")
    gateway.start()
    assert not left.exists()


def test_logs_of_real_processes_hold_no_patient_data(gateway: Gateway) -> None:
    marked = part10_file(data_set(PatientName="Zyxwvut^Marked", PatientID="Zyxwvut-ID", AccessionNumber="ZyxwvutACC"))
    headers = {"Content-Type": "application/dicom"}
    assert requests.post(gateway.web + "/studies", marked, headers=headers, timeout=60).status_code == 200
    for query in ("PatientName=Zyxwvut*", "PatientID=Zyxwvut-ID", "NoSuchThing=Zyxwvut", "limit=Zyxwvut"):
        answer = requests.get(f"{gateway.web}/studies?{query}", timeout=60)
        assert "Zyxwvut" not in (answer.text if answer.status_code == 400 and "limit" not in query else "")
    requests.get(f"{gateway.web}/studies/Zyxwvut/metadata", timeout=60)
    assert "/dicomweb/studies" in gateway.log
    assert "Zyxwvut" not in gateway.log
    assert "Zyxwvut" not in gateway.audit()


def test_secrets_of_the_settings_are_in_no_list_of_processes_and_no_log(tmp_path: Path) -> None:
    secrets = {name: f"{name}-5ecret-{name}" for name in ("client", "bucket")} | {"audit": "5ec2e7" * 10 + "5ec2"}
    (tmp_path / "gateway.toml").write_text(
        f'[audit]\nkey = "{secrets["audit"]}"\n'
        f'[s3]\nsecret_access_key = "{secrets["bucket"]}"\n'
        '[[access.issuers]]\nissuer = "http://127.0.0.1:1"\naudience = "gateway"\nclient_id = "us"\n'
        f'client_secret = "{secrets["client"]}"\n'
        '[log]\nlevel = "debug"\n'
    )
    gateway = Gateway(tmp_path / "data", tmp_path / "log", settings_file=tmp_path / "gateway.toml")
    gateway.start()
    try:
        requests.get(f"{gateway.web}/studies", headers={"Authorization": "Bearer a.b.c"}, timeout=30)
        processes = gateway.processes()
        assert len(processes) == 7, "a supervisor, what forks, and five workers"
        told = [
            Path(f"/proc/{pid}/{name}").read_bytes() for pid in processes for name in ("cmdline", "environ", "comm")
        ]
        told.append(gateway.log.encode())
        for secret in secrets.values():
            assert not any(secret.encode() in each for each in told)
    finally:
        assert gateway.stop() == 0, gateway.log
    assert not any(secret in gateway.log for secret in secrets.values())


def test_a_port_that_is_taken_is_said_and_the_exit_status_is_1(gateway: Gateway, tmp_path: Path) -> None:
    environment = {"GATEWAY_HTTP__PORT": str(gateway.http_port), "GATEWAY_STORAGE__DIRECTORY": str(tmp_path / "other")}
    import os

    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "serve"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"http.port: 127.0.0.1:{gateway.http_port} cannot be listened on: Address already in use" in done.stderr
    assert "set another http.port" in done.stderr


def test_ctrl_c_reaches_the_supervisor_alone_and_everything_drains(gateway: Gateway) -> None:
    assert gateway._process is not None
    gateway._process.send_signal(signal.SIGINT)
    assert gateway._process.wait(60) == 0
    assert "Traceback" not in gateway.log


def test_workers_that_share_a_socket_speak_tls_on_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway")
    files = {"GATEWAY_HTTP__TLS_CERTIFICATE_FILE": str(certificate), "GATEWAY_HTTP__TLS_KEY_FILE": str(key)}
    gateway = Gateway(tmp_path / "data", tmp_path / "gateway.log", **files)
    gateway.start()
    try:
        assert f"DICOMweb on https://127.0.0.1:{gateway.http_port}/dicomweb" in gateway.log
        for _ in range(8):  # connections of their own, which two workers take
            answer = requests.get(
                f"https://localhost:{gateway.http_port}/health/live", timeout=60, verify=authority.file
            )
            assert answer.status_code == 200
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        stored = requests.post(
            f"https://localhost:{gateway.http_port}/dicomweb/studies",
            part10_file(data_set()),
            headers={"Content-Type": "application/dicom"},
            timeout=30,
            verify=authority.file,
        )
        assert stored.json()["00081190"]["Value"][0].startswith(f"https://localhost:{gateway.http_port}/")
        assert gateway.stop() == 0
    finally:
        gateway.kill_all()
