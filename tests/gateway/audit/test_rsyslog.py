"""Audit messages to rsyslog, which frames, decrypts and parses by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from gateway.audit import syslog
from gateway.audit.atna import Reporter
from gateway.audit.events import AuditEvent
from gateway.audit.key import AuditKey
from gateway.audit.trail import AuditTrail
from gateway.context import Caller, Principal, PrincipalKind, Source
from tests.programs import running
from tests.syslog_server import SyslogServer

RSYSLOGD = shutil.which("rsyslogd", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
CONFIGURATION = """
global(workDirectory="{folder}" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{folder}/server.pem"
       defaultNetstreamDriverCertFile="{folder}/server.pem" defaultNetstreamDriverKeyFile="{folder}/server.key")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/port")
template(name="parsed" type="string" string="%syslogfacility% %syslogseverity% %app-name% %procid% %msgid% %msg%\\n")
action(type="omfile" file="{folder}/received" template="parsed")
"""


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.skipif(
    RSYSLOGD is None and os.environ.get("CI") != "true", reason="no rsyslogd (Debian package rsyslog-gnutls)"
)
def test_rsyslog_takes_every_message_as_it_was_meant(tmp_path: Path) -> None:
    assert RSYSLOGD is not None
    certificate = SyslogServer(tmp_path).certificate
    (tmp_path / "rsyslog.conf").write_text(CONFIGURATION.format(folder=tmp_path))
    trail = AuditTrail(tmp_path / "audit", "http-1", AuditKey(bytes(32)), fsync=False, window_s=0)
    caller = Caller(Principal("viewer", PrincipalKind.API_KEY), Source("DIMSE", "10.1.2.3", "M\u00dcLLER\n"))
    for number in range(200):
        trail.write(AuditEvent("search", "denied" if number % 2 else "allowed", caller, "main", detail=str(number)))
    trail.close()
    command = [RSYSLOGD, "-n", "-f", str(tmp_path / "rsyslog.conf"), "-i", str(tmp_path / "pid")]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        port, received = tmp_path / "port", tmp_path / "received"
        eventually(lambda: port.exists() and bool(port.read_text()))
        where = syslog.Server("127.0.0.1", int(port.read_text()), syslog.tls(certificate, None, None), 5.0)
        sender = syslog.Forwarder(tmp_path / "audit", where, Reporter("gateway.example.org", "GATEWAY-1"))
        sender.start()
        try:
            eventually(lambda: received.exists() and received.read_bytes().count(b"\n") >= 202)
        finally:
            sender.stop()
        process.terminate()  # so that it writes what it may have more than it should
        process.wait(60)
    lines = received.read_text().splitlines()
    assert len(lines) == 202
    for number, line in enumerate(lines):
        head, _, message = line.partition("<?xml")
        severity = "4" if number % 2 == 0 and 1 < number < 201 else "5"
        assert head.split()[:5] == ["10", severity, "gateway", "http-1", "DICOM+RFC3881"]
        assert etree.fromstring(f"<?xml{message}".encode()).tag == "AuditMessage"
