"""Audit messages, by the standard's schema, and their way to a syslog server over TLS."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from gateway.audit import atna, reading, syslog
from gateway.audit.atna import Patient, Reporter
from gateway.audit.events import AuditEvent, Counts
from gateway.audit.key import AuditKey
from gateway.audit.reading import Wanted
from gateway.audit.trail import AuditTrail
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.errors import AuditUnavailable
from tests.syslog_server import SyslogServer

KEY = AuditKey(bytes(32))
REPORTER = Reporter("gateway.example.org", "GATEWAY-1", "HOSPITAL")
SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit-message.rng")))
STUDY, SERIES, SOP = "1.2.3", "1.2.3.4", "1.2.3.4.5"


def web() -> Caller:
    return Caller(Principal("viewer", PrincipalKind.API_KEY), Source("DICOMweb", "10.1.2.3"))


def ae(title: str = "CT1") -> Caller:
    return Caller(Principal("scanner", PrincipalKind.AE), Source("DIMSE", "10.1.2.4", title, "GATEWAY"))


EVENTS = [
    AuditEvent("search", "allowed", web(), "main", ("STUDY", STUDY), query="PatientName=M%C3%BCller*"),
    AuditEvent("read", "allowed", web(), "main", (STUDY, SERIES, SOP, "1,2")),
    AuditEvent("read", "completed", web(), "main", (STUDY, SERIES), counts=Counts(3, "2026-01-01", 7, 3, 30, 1000)),
    AuditEvent("render", "allowed", web(), "main", (STUDY,)),
    AuditEvent("download", "break-glass", web(), "main", (STUDY,), "emergency room"),
    AuditEvent("admin", "key created", web(), "main", ("a1b2",)),
    AuditEvent("store", "allowed", ae(), "main"),
    AuditEvent("store", "stored", ae(), "main", (STUDY, SERIES, SOP)),
    AuditEvent("store", "refused", ae(), "main", (STUDY, SERIES, SOP), "Unreadable"),
    AuditEvent("delete", "deleted", web(), "main", (STUDY,)),
    AuditEvent("erase", "erased", web(), "main", (STUDY, "1.2.4")),
    AuditEvent("authenticate", "denied", web(), detail="the API key is not known"),
    AuditEvent("associate", "denied", ae('E\x1b[2J<>&"\n\ud800'.encode("utf-8", "replace").decode()), detail="unknown"),
    AuditEvent("audit_read", "allowed", web(), "main", (STUDY,), "search"),
    AuditEvent("configure", "changed", web(), detail="http"),
    AuditEvent("hold", "added", web(), "main", (STUDY,), "01ABC"),
    AuditEvent("echo", "allowed", ae(), "main"),
    AuditEvent("commitment", "answered", None, "main", ("2.25.7",), "1 committed, 0 not"),
    AuditEvent("share", "opened", web(), "main", (STUDY, "1.2.4", "1.2.5"), "link"),
]


def whose(tenant: str, study: str) -> Patient | None:
    return Patient("4711", "HOSPITAL") if (tenant, study) == ("main", STUDY) else None


def record(folder: Path, *events: AuditEvent) -> list[reading.Record]:
    """The records that events leave, in their order, with the chain's start and stop."""
    trail = AuditTrail(folder, "http-1", KEY, window_s=0, fsync=False)
    for each in events:
        trail.write(each)
    trail.close()
    return list(reading.search([folder], Wanted()))[::-1]


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[etree._Element]:
    found = record(tmp_path_factory.mktemp("audit"), *EVENTS)
    return [etree.fromstring(atna.message(each, REPORTER, whose)) for each in found]


def test_every_message_is_valid_by_the_schema_of_the_standard(messages: list[etree._Element]) -> None:
    assert len(messages) == len(EVENTS) + 2
    for each in messages:
        SCHEMA.assertValid(each)


def test_the_schema_refuses_what_it_should(messages: list[etree._Element]) -> None:
    changed = etree.fromstring(etree.tostring(messages[0]))
    changed.find("EventIdentification").set("EventActionCode", "X")
    assert not SCHEMA.validate(changed)


def test_messages_have_the_codes_of_the_standard(messages: list[etree._Element]) -> None:
    found = [
        (
            each.find("EventIdentification/EventID").get("csd-code"),
            each.find("EventIdentification").get("EventActionCode"),
            each.find("EventIdentification").get("EventOutcomeIndicator"),
            [kind.get("csd-code") for kind in each.findall("EventIdentification/EventTypeCode")],
        )
        for each in messages
    ]
    assert found == [
        ("110100", "E", "0", ["110120"]),
        ("110112", "E", "0", []),
        ("110102", "R", "0", []),
        ("110104", "R", "0", []),
        ("110103", "R", "0", []),
        ("110102", "R", "0", ["110127"]),
        ("110113", "E", "0", ["110137"]),
        ("110102", "C", "0", []),
        ("110104", "C", "0", []),
        ("110104", "C", "4", []),
        ("110105", "D", "0", []),
        ("110105", "D", "0", []),
        ("110114", "E", "4", ["110122"]),
        ("110113", "E", "4", ["110126"]),
        ("110101", "R", "0", []),
        ("110113", "E", "0", ["110129"]),
        ("hold", "E", "0", []),
        ("echo", "E", "0", []),
        ("commitment", "E", "0", []),
        ("110106", "R", "0", []),
        ("110100", "E", "0", ["110121"]),
    ]


def test_a_transfer_names_both_ends_the_study_and_the_patient(messages: list[etree._Element]) -> None:
    completed = messages[3]
    people = [
        (each.get("UserID"), each.find("RoleIDCode").get("csd-code")) for each in completed.iter("ActiveParticipant")
    ]
    assert people == [("viewer", "110152"), ("GATEWAY-1", "110153")]
    objects = [
        (each.find("ParticipantObjectIDTypeCode").get("csd-code"), each.get("ParticipantObjectID"))
        for each in completed.iter("ParticipantObjectIdentification")
    ]
    assert objects == [("110180", STUDY), ("2", "4711^^^HOSPITAL")]
    assert completed.find(".//SOPClass").get("NumberOfInstances") == "3"
    details = {
        each.get("type"): base64.b64decode(each.get("value")) for each in completed.iter("ParticipantObjectDetail")
    }
    assert (details["frames"], details["requests"]) == (b"30", b"7")
    shared = {each.get("ParticipantObjectID") for each in messages[-2].iter("ParticipantObjectIdentification")}
    assert shared == {STUDY, "1.2.4", "1.2.5", "4711^^^HOSPITAL"}
    stored = messages[8]
    assert [each.get("AlternativeUserID") for each in stored.iter("ActiveParticipant")] == [
        "AETITLES=CT1",
        "AETITLES=GATEWAY",
    ]
    assert stored.find(".//Instance").get("UID") == SOP
    query = messages[1].find(".//ParticipantObjectQuery").text
    assert base64.b64decode(query) == b"PatientName=M%C3%BCller*"


def test_frames_are_of_rfc_5424_and_5425(tmp_path: Path) -> None:
    found = record(tmp_path, AuditEvent("search", "allowed", web()), AuditEvent("read", "denied", web()))
    frames = [atna.syslog(each, REPORTER) for each in found]
    form = re.compile(
        rb"(?P<length>\d+) (?P<message><(?P<priority>\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        rb" gateway\.example\.org gateway http-1 DICOM\+RFC3881 - \xef\xbb\xbf<\?xml .*</AuditMessage>)",
        re.DOTALL,
    )
    matches = [form.fullmatch(each) for each in frames]
    assert all(each is not None and len(each["message"]) == int(each["length"]) for each in matches)
    assert [each["priority"] for each in matches if each] == [b"85", b"85", b"84", b"85"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SyslogServer]:
    made = SyslogServer(tmp_path)
    made.start()
    yield made
    made.stop()


def forwarder(folder: Path, server: SyslogServer) -> syslog.Forwarder:
    where = syslog.Server("127.0.0.1", server.port, syslog.tls(server.certificate, None, None), 5.0)
    return syslog.Forwarder(folder, where, REPORTER)


def details(messages: list[bytes]) -> list[str]:
    """The descriptions of searches, which the tests number, without what was sent again."""
    found = []
    for each in messages:
        root = etree.fromstring(each[each.index(b"<?xml") :])
        found += [
            base64.b64decode(detail.get("value")).decode()
            for detail in root.iter("ParticipantObjectDetail")
            if detail.get("type") == "detail"
        ]
    return list(dict.fromkeys(found))


def search(number: int) -> AuditEvent:
    return AuditEvent("search", "allowed", web(), "main", detail=f"n{number}")


def test_records_arrive_in_their_order_also_those_of_an_outage(tmp_path: Path, server: SyslogServer) -> None:
    folder = tmp_path / "audit"
    trail = AuditTrail(folder, "http-1", KEY, fsync=False)
    trail.write(search(0))
    sender = forwarder(folder, server)
    sender.start()
    assert details(server.wait_for(2)) == ["n0"]
    server.stop()
    for number in range(1, 50):
        trail.write(search(number))
    server.start()
    trail.close()
    found = server.wait_for(52)
    sender.stop()
    assert details(found) == [f"n{number}" for number in range(50)]
    for each in found:
        SCHEMA.assertValid(etree.fromstring(each[each.index(b"<?xml") :]))
    assert (sender.up, sender.pending_bytes) == (True, 0)
    again = forwarder(folder, server)
    again.start()
    again.stop()
    assert len(server.received) == len(found), "what was received is not sent again"


def test_while_too_much_waits_nothing_is_recorded_and_afterwards_again(tmp_path: Path, server: SyslogServer) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    server.stop()
    sender = forwarder(folder, server)
    trail = AuditTrail(folder, "http-1", KEY, fsync=False, full=syslog.full(folder, 3000))
    written = 0
    while sender.pending_bytes <= 3000:
        trail.write(search(written))
        written += 1
        assert not sender._send_all()
    with pytest.raises(AuditUnavailable, match="syslog"):
        trail.write(search(99))
    assert written >= 3
    assert not sender.up
    assert sender.pending_bytes > 3000
    server.start()
    sender._send_all()
    assert (sender.up, sender.pending_bytes) == (True, 0)
    trail.write(search(100))
    trail.close()
    sender.stop()
    assert details(server.wait_for(written + 3)) == [*(f"n{number}" for number in range(written)), "n100"]


def test_a_server_that_shows_another_certificate_gets_nothing(tmp_path: Path, server: SyslogServer) -> None:
    folder = tmp_path / "audit"
    record(folder, search(0))
    other = tmp_path / "other"
    other.mkdir()
    stranger = SyslogServer(other)
    where = syslog.Server("127.0.0.1", server.port, syslog.tls(stranger.certificate, None, None), 5.0)
    sender = syslog.Forwarder(folder, where, REPORTER)
    assert not sender._send_all()
    sender.stop()
    assert server.received == []
    assert sender.pending_bytes > 0
