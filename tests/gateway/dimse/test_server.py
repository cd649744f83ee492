"""Associations: who is let in, how they end, and what they leave."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

from gateway import assembly
from gateway.assembly import Core
from gateway.audit.syslog import Pending
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.auditing import SyslogSettings
from gateway.dimse.server import DimseServer
from storage.dicom.file_meta import IMPLEMENTATION_CLASS_UID
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Engine, Serve, eventually, find, with_engines
from tests.raw_peer import EXPLICIT, LAST, RawPeer, command, context, element, fragment, p_data

VERIFICATION = "1.2.840.10008.1.1"


def associate(server: DimseServer, calling: str = "ECHOSCU", called: str = "GATEWAY") -> Association:
    application_entity = AE(ae_title=calling)
    application_entity.add_requested_context(VERIFICATION)
    return application_entity.associate(*server.address, ae_title=called)


def rejection(association: Association) -> tuple[int | None, int | None, int | None]:
    """Result, source and reason."""
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert answer is not None
    return answer.result, answer.result_source, answer.diagnostic


def audited(core: Core) -> list[dict[str, object]]:
    files = sorted((core.settings.storage.directory / "audit").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def details(core: Core) -> list[object]:
    return [line["detail"] for line in audited(core)]


def with_policy(settings: Settings, tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    return settings.model_copy(update={"access": AccessSettings(policy_file=file)})


@claim("V1")
def test_an_echo_is_answered_and_audited(server: DimseServer, core: Core) -> None:
    association = associate(server)
    assert association.send_c_echo().Status == 0x0000
    assert association.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    association.release()
    line = audited(core)[-1]
    assert (line["action"], line["outcome"], line["calling"], line["protocol"]) == (
        "echo",
        "allowed",
        "ECHOSCU",
        "DIMSE",
    )


@claim("A1")
def test_another_called_ae_title_is_rejected_and_audited(server: DimseServer, core: Core) -> None:
    association = associate(server, called="SOMEBODY")
    assert rejection(association) == (1, 1, 7)
    # The library tells of a rejection after it has sent it.
    eventually(lambda: details(core)[-1:] == ["called AE title not recognised"])


@claim("A2")
def test_an_unknown_calling_ae_title_is_rejected_and_audited(settings: Settings, tmp_path: Path, serve: Serve) -> None:
    policy = '[[principal]]\nname = "ct"\nkind = "ae"\nae_title = "CT1"\nactions = ["echo"]\n'
    core = assembly.build(with_policy(settings, tmp_path, policy), "test")
    with serve(core) as server:
        association = associate(server)
        assert rejection(association) == (1, 1, 3)
        eventually(lambda: bool(audited(core)))
        line = audited(core)[-1]
        assert (line["action"], line["outcome"], line["calling"]) == ("associate", "denied", "ECHOSCU")
        known = associate(server, calling="CT1")
        assert known.send_c_echo().Status == 0x0000
        known.release()
    core.close()


@claim("V2")
def test_an_echo_without_the_permission_is_not_authorized(settings: Settings, tmp_path: Path, serve: Serve) -> None:
    policy = '[[principal]]\nname = "ct"\nkind = "ae"\nae_title = "CT1"\nactions = ["store"]\n'
    core = assembly.build(with_policy(settings, tmp_path, policy), "test")
    with serve(core) as server:
        association = associate(server, calling="CT1")
        assert association.send_c_echo().Status == 0x0124
        association.release()
    core.close()


@claim("V3", "A36")
def test_an_association_that_cannot_be_audited_is_rejected(settings: Settings, tmp_path: Path, serve: Serve) -> None:
    policy = '[[principal]]\nname = "ct"\nkind = "ae"\nae_title = "CT1"\nactions = ["echo"]\n'
    core = assembly.build(with_policy(settings, tmp_path, policy), "test")
    audit = core.settings.storage.directory / "audit"
    audit.rmdir()
    with serve(core) as server:
        assert rejection(associate(server)) == (2, 3, 1)
        association = associate(server, calling="CT1")
        assert association.send_c_echo().Status == 0xA700
        association.release()
    core.close()


@claim("A6", "A37")
def test_more_associations_than_allowed_are_rejected(settings: Settings, serve: Serve) -> None:
    dimse = settings.dimse.model_copy(update={"max_associations": 1})
    core = assembly.build(settings.model_copy(update={"dimse": dimse}), "test")
    with serve(core) as server:
        first = associate(server)
        second = associate(server)
        assert first.is_established
        assert rejection(second) == (2, 3, 2)
        eventually(lambda: details(core)[-1:] == ["local limit exceeded"])
        first.release()
    core.close()


@claim("A40")
def test_associations_of_one_address_are_held_to_a_rate(settings: Settings, serve: Serve) -> None:
    dimse = settings.dimse.model_copy(update={"source_rate": 0.3})
    core = assembly.build(settings.model_copy(update={"dimse": dimse}), "test")
    with serve(core) as server:
        began_s = time.monotonic()
        answers = [associate(server) for _ in range(6)]
        established = [each for each in answers if each.is_established]
        assert all(each.is_established for each in answers[:3]), "ten seconds' worth at once"
        assert len(established) <= 3 + 1 + 0.3 * (time.monotonic() - began_s)
        assert {rejection(each) for each in answers if each not in established} == {(2, 3, 2)}
        assert "more associations of its address than are allowed" in details(core)
        for each in established:
            each.release()
    core.close()


def test_stopping_ends_associations_that_stay_idle(core: Core) -> None:
    server = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
    server.start()
    association = associate(server)
    server.stop(0.0)
    association.join(30)
    assert association.is_aborted
    assert server.active == 0


def test_two_servers_accept_on_one_socket(core: Core) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    first, second = DimseServer(core, listening.dup()), DimseServer(core, listening)
    first.start()
    second.start()
    for _ in range(5):
        association = associate(second)
        assert association.send_c_echo().Status == 0x0000
        association.release()
    # The other goes on when one stops.
    first.stop(1.0)
    association = associate(second)
    assert association.send_c_echo().Status == 0x0000
    association.release()
    second.stop(1.0)


@claim("A23")
@pytest.mark.parametrize("kind", [b"\x01", b"\x04"])
def test_a_pdu_longer_than_any_allowed_is_aborted(server: DimseServer, kind: bytes) -> None:
    with socket.create_connection(server.address, timeout=30) as connection:
        connection.sendall(kind + b"\0" + (1 << 30).to_bytes(4, "big"))
        assert connection.recv(16) == b"\x07\0\0\0\0\x04\0\0\0\0"
        assert connection.recv(16) == b""


def test_a_pdu_that_drips_closes_the_connection(settings: Settings, serve: Serve) -> None:
    dimse = settings.dimse.model_copy(update={"acse_timeout_s": 0.05})
    core = assembly.build(settings.model_copy(update={"dimse": dimse}), "test")
    with serve(core) as server, socket.create_connection(server.address, timeout=0.01) as connection:
        connection.sendall(b"\x01\0" + (1 << 10).to_bytes(4, "big"))
        assert any(_closed_after(connection, b"\0") for _ in range(1000))
    core.close()


def _closed_after(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_connections_that_only_open_and_close_hold_no_place(server: DimseServer) -> None:
    for _ in range(40):
        socket.create_connection(server.address, timeout=30).close()
    eventually(lambda: server.active == 0)


def test_stopping_closes_connections_that_ask_for_nothing(core: Core, serve: Serve) -> None:
    with serve(core) as server, socket.create_connection(server.address, timeout=30) as connection:
        eventually(lambda: server.active == 1)
        server.stop(0.0)
        assert connection.recv(1) == b""


@claim("A39")
def test_stopping_answers_what_is_being_served_and_then_aborts(core: Core, serve: Serve) -> None:
    serving, go = threading.Event(), threading.Event()
    commit = core.archive.index.commit

    def slow(*arguments: Any, **named: Any) -> Any:
        serving.set()
        assert go.wait(30)
        return commit(*arguments, **named)

    found = instances.data_set()
    slowed = with_engines(core, index=Engine(core.archive.index, commit=slow))
    with serve(slowed) as server, contextlib.ExitStack() as stack:
        peer = stack.enter_context(RawPeer(server.address))
        peer.associate(context(1, instances.CT, EXPLICIT))
        uid = element(0x1000, found.SOPInstanceUID.encode())
        peer.send(p_data(fragment(1, 3, command(0x0001, 1, uid, sop_class=instances.CT, data_set=True))))
        peer.send(p_data(fragment(1, LAST, instances.encode(found))))
        assert serving.wait(30)
        idle = stack.enter_context(RawPeer(server.address))
        eventually(lambda: server.active == 2)
        stopping = threading.Thread(target=server.stop, args=(0.0,))
        stopping.start()
        # One that asked for nothing is closed when the time to end by itself is over.
        assert idle.receive() is None
        go.set()
        assert peer.response() == 0
        assert peer.receive() == (7, bytes(4))
        stopping.join()


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\0" * 12,
        instances.element(0x00000100, "UL", b"\x01\0"),
        b"\0\0\0\x01\x02\0\0\0\x01\0",
        b"\0\0\0\x01\x02\0\0\0\x50\x01",
    ],
    ids=["empty", "zeros", "explicit", "incomplete", "not served"],
)
def test_a_command_set_that_cannot_be_served_aborts(server: DimseServer, encoded: bytes) -> None:
    association = associate(server)
    data = P_DATA()
    data.presentation_data_value_list = [[association.accepted_contexts[0].context_id, b"\x03" + encoded]]
    association.dul.send_pdu(data)
    association.join(30)
    assert association.is_aborted


def test_logs_hold_no_identifier_and_no_data_set(caplog: pytest.LogCaptureFixture, server: DimseServer) -> None:
    with caplog.at_level(logging.DEBUG):
        find(server, QueryRetrieveLevel="STUDY", PatientName="Marked^Person")
    ours = [r for r in caplog.records if r.threadName is not None and r.threadName.startswith("dimse")]
    assert not any("Marked" in record.getMessage() for record in ours)


def test_while_too_much_of_the_trail_waits_for_the_syslog_server_nothing_is_served(
    settings: Settings, serve: Serve
) -> None:
    where = SyslogSettings(host="127.0.0.1", port=1, max_pending_bytes=1000)
    core = assembly.build(settings.model_copy(update={"syslog": where}), "test")
    waiting = Pending(assembly.audit_directory(settings))
    with serve(core) as server:
        association = associate(server)
        assert association.send_c_echo().Status == 0x0000
        waiting.write(1001)
        assert association.send_c_echo().Status == 0xA700
        waiting.write(1000)
        assert association.send_c_echo().Status == 0x0000
        association.release()
    waiting.close()
    core.close()
