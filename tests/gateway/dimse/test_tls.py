"""TLS over DIMSE: who is let in, who is not, what modalities of today speak, and destinations that want it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from gateway import assembly
from gateway.config import InvalidSettings, Settings
from gateway.config.access import AccessSettings
from gateway.config.serving import DestinationSettings
from gateway.dimse.server import DimseServer
from gateway.dimse.wire import Lost, Wire
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Serve
from tests.gateway.dimse.test_retrieval import identifier, move, put
from tests.gateway.http.conftest import Authority
from tests.programs import need_program

POLICY = """
[[principal]]
name = "ct"
kind = "ae"
ae_title = "CT1"
certificate_subjects = ["CN=ct1"]
actions = ["echo", "store"]

[[principal]]
name = "everybody"
kind = "ae"
ae_title = "*"
actions = ["echo"]
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def with_tls(settings: Settings, authority: Authority, **more: object) -> Settings:
    certificate, key = authority.issue("gateway")
    dimse = {"tls_certificate_file": certificate, "tls_key_file": key, **more}
    return settings.model_copy(update={"dimse": settings.dimse.model_copy(update=dimse)})


def echo(server: DimseServer, context: ssl.SSLContext | None, calling: str = "CT1") -> int | None:
    application_entity = AE(ae_title=calling)
    application_entity.add_requested_context("1.2.840.10008.1.1")
    tls = (context, "localhost") if context is not None else None
    application_entity.acse_timeout = 30
    association = application_entity.associate(*server.address, ae_title="GATEWAY", tls_args=tls)
    if not association.is_established:
        return None
    status = association.send_c_echo()
    association.release()
    found = status.get("Status")
    return None if found is None else int(found)


@claim("A19", "A21")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_instance_comes_over_tls_as_it_was_sent(
    settings: Settings, authority: Authority, serve: Serve, version: ssl.TLSVersion
) -> None:
    core = assembly.build(with_tls(settings, authority), "test")
    sent = instances.data_set(PixelData=bytes(range(256)) * 3000)
    try:
        with serve(core) as server:
            context = authority.client()
            context.minimum_version = context.maximum_version = version
            application_entity = AE(ae_title="CT1")
            application_entity.add_requested_context(instances.CT, ExplicitVRLittleEndian)
            association = application_entity.associate(
                *server.address, ae_title="GATEWAY", tls_args=(context, "localhost")
            )
            assert association.is_established
            instances.part10_file(sent)  # gives it File Meta Information
            assert association.send_c_store(sent).Status == 0x0000
            association.release()
            assert echo(server, None) is None, "in clear"
        (info,) = core.archive.objects.list("")
        assert core.archive.objects.get(info.key).endswith(instances.encode(sent))
    finally:
        core.close()


@claim("A19")
def test_old_versions_and_other_ciphers_are_refused(settings: Settings, authority: Authority, serve: Serve) -> None:
    core = assembly.build(with_tls(settings, authority), "test")
    try:
        with serve(core) as server:
            weak = authority.client()
            weak.minimum_version = weak.maximum_version = ssl.TLSVersion.TLSv1_2
            weak.set_ciphers("AES128-SHA256:ECDHE+AES+SHA384:!AESGCM")
            with socket.create_connection(server.address) as connection, pytest.raises(ssl.SSLError):
                weak.wrap_socket(connection, server_hostname="localhost")
            assert echo(server, authority.client()) == 0x0000
    finally:
        core.close()


@claim("A20")
def test_a_client_has_to_show_a_certificate_of_the_authority(
    settings: Settings, authority: Authority, serve: Serve, tmp_path: Path
) -> None:
    mutual = with_tls(settings, authority, tls_client_ca_file=authority.file, tls_client_certificates="required")
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger")
    core = assembly.build(mutual, "test")
    try:
        with serve(core) as server:
            assert echo(server, authority.client(authority.issue("ct1"))) == 0x0000
            assert echo(server, authority.client()) is None
            foreign = ssl.create_default_context(cafile=authority.file)
            foreign.load_cert_chain(*stranger.issue("ct1"))
            assert echo(server, foreign) is None
    finally:
        core.close()


@claim("A21", "A35")
def test_an_ae_title_is_not_enough_where_the_policy_asks_for_a_certificate(
    settings: Settings, authority: Authority, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    mutual = with_tls(
        settings, authority, tls_client_ca_file=authority.file, tls_client_certificates="optional", tls_or_clear=True
    )
    core = assembly.build(
        mutual.model_copy(update={"access": AccessSettings(policy_file=tmp_path / "policy.toml")}), "test"
    )
    try:
        with serve(core) as server:
            assert echo(server, authority.client(authority.issue("ct1"))) == 0x0000
            assert echo(server, authority.client(authority.issue("mr1"))) is None, "another's certificate"
            assert echo(server, authority.client()) is None, "none"
            assert echo(server, None) is None, "in clear"
            assert echo(server, None, "OTHER") == 0x0000, "of whom no more is asked"
    finally:
        core.close()


def test_a_handshake_that_does_not_come_to_its_end_holds_nobody_up(
    settings: Settings, authority: Authority, serve: Serve
) -> None:
    core = assembly.build(with_tls(settings, authority, tls_handshake_timeout_s=0.5), "test")
    try:
        with serve(core) as server:
            stalled = [socket.create_connection(server.address) for _ in range(20)]
            stalled[0].sendall(b"\x16\x03\x01")
            assert echo(server, authority.client()) == 0x0000
            for each in stalled:
                each.settimeout(30)
                assert each.recv(100) == b""
                each.close()
    finally:
        core.close()


@claim("K1")
def test_a_destination_may_want_tls_and_a_certificate_of_ours(
    settings: Settings, authority: Authority, serve: Serve
) -> None:
    received: list[Dataset] = []

    def stored(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0

    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*authority.issue("dest"))
    theirs.load_verify_locations(authority.file)
    theirs.verify_mode = ssl.CERT_REQUIRED
    destination = AE(ae_title="DEST")
    destination.add_supported_context(instances.CT, ExplicitVRLittleEndian)
    peer = destination.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=theirs, evt_handlers=[(evt.EVT_C_STORE, stored)]
    )
    port = peer.server_address[1]
    given = {
        "DEST": DestinationSettings(host="127.0.0.1", port=port, tls=True, tls_ca_file=authority.file),
        "STRANGE": DestinationSettings(host="127.0.0.1", port=port, tls=True),
        "CLEAR": DestinationSettings(host="127.0.0.1", port=port),
    }
    secured = with_tls(settings, authority, tls_or_clear=True, destinations=given, acse_timeout_s=2)
    core = assembly.build(secured, "test")
    try:
        kept = put(core, instances.data_set())
        wanted = identifier("STUDY", StudyInstanceUID=kept.StudyInstanceUID)
        with serve(core) as server:
            assert [move(server, wanted, to=to)[-1][0].Status for to in given] == [0x0000, 0xA702, 0xA702]
        assert [each.SOPInstanceUID for each in received] == [kept.SOPInstanceUID]
    finally:
        core.close()
        peer.shutdown()


def test_files_that_cannot_be_used_are_said(settings: Settings, authority: Authority, tmp_path: Path) -> None:
    broken = with_tls(settings, authority, tls_key_file=tmp_path / "none.key")
    with pytest.raises(InvalidSettings) as refused:
        assembly.check_tls(broken)
    assert refused.value.faults == (f"dimse.tls_key_file: {tmp_path / 'none.key'}: No such file or directory",)


@need_program("storescu", "dcmtk")
@need_program("echoscu", "dcmtk")
@pytest.mark.parametrize("mutual", [False, True], ids=["anonymous", "mutual"])
def test_dcmtk_speaks_it(settings: Settings, authority: Authority, serve: Serve, tmp_path: Path, mutual: bool) -> None:
    more = {"tls_client_ca_file": authority.file, "tls_client_certificates": "required"} if mutual else {}
    core = assembly.build(with_tls(settings, authority, **more), "test")
    certificate, key = authority.issue("ct1")
    own = ["+tls", str(key), str(certificate)] if mutual else ["+tla"]
    file = tmp_path / "sent.dcm"
    file.write_bytes(instances.part10_file(instances.data_set()))
    try:
        with serve(core) as server:
            address = (str(server.address[0]), str(server.address[1]))
            for program, files in (("echoscu", ()), ("storescu", (str(file),))):
                done = subprocess.run(
                    [program, *own, "+cf", str(authority.file), "-aec", "GATEWAY", *address, *files],
                    capture_output=True, text=True, timeout=30, check=False,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
        assert len(list(core.archive.objects.list(""))) == 1
    finally:
        core.close()


def test_a_new_certificate_is_used_without_a_restart(settings: Settings, authority: Authority, serve: Serve) -> None:
    given = with_tls(settings, authority)
    certificate, key = given.dimse.tls_certificate_file, given.dimse.tls_key_file
    assert certificate is not None
    assert key is not None
    core = assembly.build(given, "test")
    try:
        with serve(core) as server:
            before = shown(server, authority)
            newer, newer_key = authority.issue("newer")
            certificate.write_bytes(newer.read_bytes())
            key.write_bytes(newer_key.read_bytes())
            deadline_s = time.monotonic() + 60
            while (now := shown(server, authority)) == before:
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
            assert now is not None
    finally:
        core.close()


def shown(server: DimseServer, authority: Authority) -> bytes | None:
    with (
        socket.create_connection(server.address) as connection,
        authority.client().wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert(binary_form=True)


def test_what_tls_sends_of_its_own_is_no_message(authority: Authority) -> None:
    """A server of TLS 1.3 sends tickets after the handshake, which nobody has to wait for the rest of."""
    theirs, ours = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("peer"))
    secured: list[ssl.SSLSocket] = []
    peer = threading.Thread(target=lambda: secured.append(context.wrap_socket(theirs, server_side=True)))
    peer.start()
    wire = Wire(authority.client().wrap_socket(ours, server_hostname="localhost"), 5.0)
    peer.join()
    assert not wire.has_arrived(0.2)
    assert not wire.has_arrived()
    secured[0].sendall(b"abc")
    assert wire.has_arrived(5.0)
    assert bytes(wire.exactly(3)) == b"abc"
    secured[0].close()
    assert wire.has_arrived(5.0)
    with pytest.raises(Lost):
        wire.exactly(1)
    wire.close(0.0)
