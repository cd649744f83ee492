"""How pynetdicom is set up as the tests' requestor."""

from __future__ import annotations

import threading

from pynetdicom import AE
from pynetdicom.association import Association

from gateway.dimse.server import DimseServer
from tests import requestors
from tests.raw_peer import VERIFICATION


def test_who_has_passed_the_checkpoint_is_not_taken_for_paused() -> None:
    """Between the two, pynetdicom's own event lets a request go out whose response the association's thread takes."""
    requestors.configure()
    association = Association(AE(), "requestor")
    seen: list[bool] = []

    def run() -> None:
        association._is_paused = True
        association._reactor_checkpoint.wait()
        seen.append(association._is_paused)

    association.run = run  # type: ignore[method-assign]
    association.start()
    association.join(30)
    assert seen == [False]


def test_a_thread_at_the_checkpoint_stays_there_until_it_is_let_pass() -> None:
    requestors.configure()
    association = Association(AE(), "requestor")
    passed = threading.Event()

    def run() -> None:
        association._reactor_checkpoint.wait()
        passed.set()

    association.run = run  # type: ignore[method-assign]
    association._reactor_checkpoint.clear()
    association.start()
    assert not passed.wait(0.05)
    association._reactor_checkpoint.set()
    assert passed.wait(30)
    association.join(30)


def test_responses_that_come_at_once_are_all_seen(server: DimseServer) -> None:
    requestor = AE(ae_title="ECHOSCU")
    requestor.dimse_timeout = 5
    requestor.add_requested_context(VERIFICATION)
    association = requestor.associate(*server.address, ae_title="GATEWAY")
    assert [association.send_c_echo().get("Status") for _ in range(200)] == [0] * 200
    association.release()
