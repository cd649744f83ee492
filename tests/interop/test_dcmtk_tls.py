"""DCMTK over mutual TLS: its own where its programs have it, else through a tunnel; and a storescp that wants TLS."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from gateway import assembly
from gateway.assembly import Core
from gateway.config.serving import DestinationSettings
from gateway.dimse.server import DimseServer
from tests import instances
from tests.engines import Engines
from tests.gateway.http.conftest import Authority
from tests.ports import free_port
from tests.programs import need_program
from tests.tunnel import tunnel

pytestmark = [
    *(need_program(name, "dcmtk") for name in ("echoscu", "storescu", "findscu", "movescu", "getscu", "termscu")),
    need_program("storescp", "dcmtk"),
    pytest.mark.dealt("local+sqlite"),
]


@dataclass
class Site:
    """A DIMSE face that wants client certificates, and one of those."""

    authority: Authority
    server: DimseServer
    core: Core
    certificate: Path
    key: Path
    destination_port: int

    @property
    def own_tls(self) -> list[str]:
        """What DCMTK's programs are given."""
        return ["+tls", str(self.key), str(self.certificate), "+cf", str(self.authority.file)]


@pytest.fixture
def site(tmp_path: Path, own_engines: Engines) -> Iterator[Site]:
    authority, port = Authority(tmp_path), free_port()
    settings = own_engines.settings(tmp_path / "data")
    certificate, key = authority.issue("gateway")
    peer = DestinationSettings(host="localhost", port=port, tls=True, tls_ca_file=authority.file)
    dimse = settings.dimse.model_copy(
        update={
            "tls_certificate_file": certificate,
            "tls_key_file": key,
            "tls_client_ca_file": authority.file,
            "tls_client_certificates": "required",
            "destinations": {"PEER": peer},
        }
    )
    core = assembly.build(settings.model_copy(update={"dimse": dimse}), "test")
    server = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
    server.start()
    yield Site(authority, server, core, *authority.issue("client"), port)
    server.stop(2.0)
    core.close()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_program(site: Site, tmp_path: Path) -> None:
    sent = [instances.data_set(StudyInstanceUID="1.2.826.8.1", SeriesInstanceUID="1.2.826.8.1.1") for _ in range(3)]
    (tmp_path / "sent").mkdir()
    for number, each in enumerate(sent):
        (tmp_path / "sent" / f"{number}.dcm").write_bytes(instances.part10_file(each))
    study = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.826.8.1")
    host, port = site.server.address
    ours = ("-aec", "GATEWAY", host, str(port))

    run("echoscu", *site.own_tls, *ours)
    run("storescu", *site.own_tls, "+sd", *ours, str(tmp_path / "sent"))
    found = run("findscu", *site.own_tls, "-S", "-v", *study, "-k", "NumberOfStudyRelatedInstances", *ours)
    assert "(0020,1208) IS [3" in found
    assert subprocess.run(["echoscu", *ours], capture_output=True, check=False, timeout=60).returncode, "in clear"

    context = site.authority.client((site.certificate, site.key))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tunnel((host, port), context) as (near, near_port):
        through = ("-aec", "GATEWAY", near, str(near_port))
        (tmp_path / "gotten").mkdir()
        run("getscu", "-S", "-od", str(tmp_path / "gotten"), *through, *study)
        (tmp_path / "moved").mkdir()
        receiver = ["storescp", "-aet", "PEER", *site.own_tls, "-od", str(tmp_path / "moved")]
        with subprocess.Popen([*receiver, str(site.destination_port)]) as peer:
            try:
                _await(site.destination_port)
                assert "Success" in run("movescu", "-v", "-S", "-aem", "PEER", *through, *study)
            finally:
                peer.terminate()
        # It asks the server to end, which is nobody's to ask; the association is refused, and the server stands.
        subprocess.run(["termscu", *through], capture_output=True, check=False, timeout=60)
        run("echoscu", *site.own_tls, *ours)

    for folder in ("gotten", "moved"):
        came = [pydicom.dcmread(path) for path in (tmp_path / folder).iterdir()]
        assert {each.SOPInstanceUID: each.PixelData for each in came} == {
            each.SOPInstanceUID: each.PixelData for each in sent
        }


def _await(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("storescp did not start")
