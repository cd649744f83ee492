"""Rates hold for all workers of a host, locks for all hosts too: each time one worker alone is asked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import CTImageStorage, Verification

from gateway import assembly
from gateway.access import users
from storage.index.postgres import PostgresSettings
from tests import instances
from tests.engines import EMBEDDED, Engines
from tests.serving import Gateway, title

PASSWORD = "correct horse battery"
GOOD = {"Authorization": "Bearer test"}
POLICY = f"""
[[role]]
name = "viewer"
[[role.rule]]
name = "all"
actions = ["search"]

[[principal]]
name = "program"
kind = "api_key"
api_key_sha256 = "{hashlib.sha256(b"test").hexdigest()}"
actions = ["search"]

[[principal]]
name = "ct"
kind = "ae"
ae_title = "CT1"
actions = ["store", "echo"]
sending = {{max_bytes_per_s = 100_000}}
"""
LOCKS = {"GATEWAY_HTTP__FAILED_ATTEMPTS": "4", "GATEWAY_HTTP__LOCKOUT_S": "300"}
Start = Callable[..., Gateway]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway of three HTTP and two DIMSE workers with a user, by the name of its host."""
    (tmp_path / "policy.toml").write_text(POLICY)
    started: list[Gateway] = []

    def make(name: str = "here", engines: Engines = EMBEDDED, **environment: str) -> Gateway:
        fixed = {"GATEWAY_HTTP__WORKERS": "3", "GATEWAY_DIMSE__WORKERS": "2"}
        policy = {"GATEWAY_ACCESS__POLICY_FILE": str(tmp_path / "policy.toml")}
        gateway = Gateway(tmp_path / name, tmp_path / f"{name}.log", engines, **fixed, **policy, **environment)
        with closing(assembly.control(engines.settings(tmp_path / name))) as control:
            users.add(control, "ann", PASSWORD, "main", ["viewer"])
        gateway.start()
        started.append(gateway)
        return gateway

    yield make
    for each in started:
        assert each.stop() == 0, each.log


@contextlib.contextmanager
def only(gateway: Gateway, name: str) -> Iterator[None]:
    """Let one worker of a face serve, such as "http-2": the others stand still."""
    face = name.partition("-")[0]
    still = [pid for pid in gateway.workers() if face in title(pid) and not title(pid).endswith(name)]
    assert still
    try:
        for pid in still:
            os.kill(pid, signal.SIGSTOP)
        # On a busy machine a thread goes on for a while, and may take the connection that is meant for another.
        deadline_s = time.monotonic() + 60
        while not all(map(_stands_still, still)):
            assert time.monotonic() < deadline_s, "a worker does not stop"
            time.sleep(0.002)
        yield
    finally:
        for pid in still:
            os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    return all(
        (thread / "stat").read_text().rpartition(") ")[2].startswith("T")
        for thread in Path(f"/proc/{pid}/task").iterdir()
    )


def asked(gateway: Gateway, number: int, headers: dict[str, str]) -> int:
    """The status that one HTTP worker answers with."""
    with only(gateway, f"http-{number}"):
        return requests.get(f"{gateway.web}/studies", headers=headers, timeout=30).status_code


def guess(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer guess-{number}"}


def associated(gateway: Gateway, number: int, *identity: str) -> Association:
    """An association with one DIMSE worker, with a name and password if they are given."""
    application_entity = AE(ae_title="CT1")
    application_entity.add_requested_context(Verification)
    application_entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    shown = UserIdentityNegotiation()
    shown.user_identity_type = 2
    if identity:
        shown.primary_field, shown.secondary_field = (each.encode() for each in identity)
    with only(gateway, f"dimse-{number}"):
        return application_entity.associate(
            "127.0.0.1", gateway.dimse_port, ae_title="GATEWAY", ext_neg=[shown] if identity else []
        )


def test_a2_guesses_count_and_lock_whichever_worker_gets_them(start: Start) -> None:
    gateway = start(**LOCKS)
    assert [asked(gateway, 1 + number % 3, guess(number)) for number in range(5)] == [401] * 5
    for number in (1, 2, 3):
        assert asked(gateway, number, guess(10 + number)) == 429
        assert asked(gateway, number, GOOD) == 429, "whether it is right is not told"
    assert gateway.audit().count('"outcome":"locked"') == 1
    killed = next(pid for pid in gateway.workers() if title(pid).endswith("http-2"))
    gateway.kill(killed)
    _replaced(gateway, killed)
    assert asked(gateway, 2, GOOD) == 429, "a worker that takes the place of another knows"
    assert gateway.stop() == 0, gateway.log
    gateway.start()
    assert asked(gateway, 1, GOOD) == 429, "nor does a restart end a lock"


def test_a2_guesses_over_one_protocol_count_over_the_other(start: Start) -> None:
    gateway = start(**LOCKS)
    for number in range(4):
        assert associated(gateway, 1 + number % 2, "ann", "wrong").is_rejected
    auth = ("ann", PASSWORD + "!")
    assert requests.get(f"{gateway.web}/studies", auth=auth, timeout=30).status_code == 401
    assert requests.get(f"{gateway.web}/studies", auth=("ann", PASSWORD), timeout=30).status_code == 429
    for number in (1, 2):
        assert associated(gateway, number, "ann", PASSWORD).is_rejected


def test_a2_guesses_count_and_lock_whichever_host_gets_them(start: Start, postgres_schema: PostgresSettings) -> None:
    index = {"engine": "postgres", "url": postgres_schema.conninfo, "db_schema": postgres_schema.schema}
    hosts = [start(name, Engines({"index": index}), **LOCKS) for name in ("one", "two")]
    assert [asked(hosts[number % 2], 1 + number % 3, guess(number)) for number in range(5)] == [401] * 5
    for host in hosts:
        for number in (1, 2, 3):
            assert asked(host, number, GOOD) == 429


def test_who_is_known_to_one_worker_is_not_locked_out_at_another(start: Start) -> None:
    gateway = start(**LOCKS)
    assert asked(gateway, 1, GOOD) == 204
    for number in range(6):
        asked(gateway, 2, guess(number))
    assert asked(gateway, 2, guess(9)) == 429
    assert [asked(gateway, number, GOOD) for number in (1, 2, 3)] == [204] * 3


@pytest.mark.parametrize("rate", ["SOURCE_RATE", "PRINCIPAL_RATE", "UNAUTHENTICATED_RATE"])
def test_a_rate_is_that_of_all_workers_together(start: Start, rate: str) -> None:
    gateway = start(**{f"GATEWAY_HTTP__{rate}": "0.6"})
    # Nobody, as this machine is let in only where nothing stands between.
    headers = {"X-Forwarded-For": "10.0.0.1"} if rate == "UNAUTHENTICATED_RATE" else GOOD
    began_s = time.monotonic()
    found = [asked(gateway, 1 + number % 3, headers) for number in range(12)]
    most = 6 + 1 + 0.6 * (time.monotonic() - began_s)
    assert found[:6] == ([401] if rate == "UNAUTHENTICATED_RATE" else [204]) * 6, "ten seconds' worth at once"
    assert 429 in found
    assert len([each for each in found if each != 429]) <= most


def test_a_rate_of_associations_is_that_of_all_workers_together(start: Start) -> None:
    gateway = start(GATEWAY_DIMSE__SOURCE_RATE="0.3")
    began_s = time.monotonic()
    found = [associated(gateway, 1 + number % 2) for number in range(10)]
    most = 3 + 1 + 0.3 * (time.monotonic() - began_s)
    there = [each for each in found if each.is_established]
    assert all(each.is_established for each in found[:3]), "ten seconds' worth at once"
    assert any(each.is_rejected for each in found)
    assert len(there) <= most
    for each in there:
        each.release()


def test_bytes_per_second_are_those_of_all_workers_together(start: Start) -> None:
    gateway = start()
    associations = [associated(gateway, number) for number in (1, 2)]
    data_sets = [instances.data_set(PixelData=bytes(250_000), Rows=500, Columns=250) for _ in associations]
    for each in data_sets:
        instances.part10_file(each)  # gives it its file meta information
    began_s = time.monotonic()
    statuses: list[int] = []
    sending = [
        threading.Thread(target=lambda one, each: statuses.append(one.send_c_store(each).Status), args=pair)
        for pair in zip(associations, data_sets, strict=True)
    ]
    for thread in sending:
        thread.start()
    for thread in sending:
        thread.join()
    took_s = time.monotonic() - began_s
    assert statuses == [0x0000, 0x0000]
    # 100,000 of the 500,000 bytes come at once; by worker it would be 100,000 of 250,000, in 1.5 s.
    assert took_s > 3.0
    for one in associations:
        one.release()


def _replaced(gateway: Gateway, killed: int) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        there = [pid for pid in gateway.workers() if pid != killed and title(pid).endswith("http-2")]
        if there and "starting another" in gateway.log:
            return
        assert time.monotonic() < deadline_s, gateway.log
        time.sleep(0.05)
