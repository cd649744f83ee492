"""The trail on disk: what is written when, and what cannot be."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit import verifying
from gateway.audit.accesses import Accesses
from gateway.audit.events import AuditEvent
from gateway.audit.key import AuditKey
from gateway.audit.trail import AuditTrail
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.errors import AuditUnavailable
from tests.trails import records

KEY = AuditKey(bytes(range(32)))


def caller(name: str = "viewer", address: str = "10.1.2.3") -> Caller:
    return Caller(Principal(name, PrincipalKind.API_KEY), Source("DICOMweb", address))


def read(*subject: str, by: Caller | None = None, action: str = "read", outcome: str = "allowed") -> AuditEvent:
    return AuditEvent(action, outcome, by or caller(), "main", subject)


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[AuditTrail]:
    made = AuditTrail(tmp_path / "audit", "test", KEY, fsync=False)
    yield made
    made.close()


def is_whole(folder: Path) -> bool:
    return not verifying.verify([folder], {KEY.id: KEY}).faults


def test_a_chain_tells_its_start_and_its_end(trail: AuditTrail, tmp_path: Path) -> None:
    trail.start("http worker")
    trail.start("once")
    trail.close()
    first, last = records(tmp_path / "audit")
    assert (first["seq"], first["action"], first["outcome"], first["detail"]) == (1, "start", "started", "http worker")
    assert (last["seq"], last["action"], last["outcome"]) == (2, "stop", "stopped")
    assert "before" not in first


def test_reads_of_a_series_are_one_access_with_its_counts(trail: AuditTrail, tmp_path: Path) -> None:
    for number in range(300):
        access = trail.write(read("1.2", "1.2.3", f"1.2.3.{number}"))
        access.took(instances=1, frames=2, size=1000)
    first = records(tmp_path / "audit")[1]
    assert (first["outcome"], first["subject"]) == ("allowed", ["1.2", "1.2.3", "1.2.3.0"])
    assert len(records(tmp_path / "audit")) == 2, "only the first is written at once"
    trail.write(read("1.2", "1.2.4")).took(instances=1)
    trail.write(read("1.2", "1.2.3", by=caller("another"))).took(instances=5)
    trail.write(read("1.2", "1.2.3", action="render"))
    trail.close()
    completed = [line for line in records(tmp_path / "audit") if line["outcome"] == "completed"]
    assert [(line["action"], line["principal"], line["subject"]) for line in completed] == [
        ("read", "viewer", ["1.2", "1.2.3"]),
        ("read", "viewer", ["1.2", "1.2.4"]),
        ("read", "another", ["1.2", "1.2.3"]),
        ("render", "viewer", ["1.2", "1.2.3"]),
    ]
    counted = completed[0]
    assert {name: counted[name] for name in ("first", "since", "requests", "instances", "frames", "bytes")} == {
        "first": first["seq"],
        "since": first["time"],
        "requests": 300,
        "instances": 300,
        "frames": 600,
        "bytes": 300_000,
    }
    assert is_whole(tmp_path / "audit")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def accesses(window_s: float = 60.0) -> tuple[Accesses, Clock, list[AuditEvent]]:
    written: list[AuditEvent] = []
    clock = Clock()

    def write(event: AuditEvent) -> tuple[int, str]:
        written.append(event)
        return len(written), f"t{len(written)}"

    return Accesses(write, window_s, clock), clock, written


def test_an_access_ends_with_its_window_and_the_next_read_is_another() -> None:
    found, clock, written = accesses()
    found.begin(read("1")).took(size=7)
    clock.now_s = 59
    found.begin(read("1")).took(size=1)
    found.complete()
    assert [event.outcome for event in written] == ["allowed"]
    clock.now_s = 61
    late = found.begin(read("1"))
    assert [event.outcome for event in written] == ["allowed", "allowed"]
    found.complete()
    assert written[2].counts is not None
    assert (written[2].counts.first, written[2].counts.requests, written[2].counts.bytes) == (1, 2, 8)
    clock.now_s = 200
    found.complete()
    late.took(size=1 << 30)
    found.complete()
    assert [each.counts.bytes for each in written[3:] if each.counts] == [0, 1 << 30], "a long answer is counted yet"
    found.complete(everything=True)
    assert len(written) == 5


def test_equal_denials_are_counted_and_others_recorded() -> None:
    found, _, written = accesses()
    for _ in range(1000):
        found.begin(read("1", outcome="denied"))
    found.begin(read("2", outcome="denied"))
    found.begin(read("1", outcome="denied", by=caller(address="10.9.9.9")))
    found.complete(everything=True)
    assert [event.outcome for event in written] == ["denied"] * 4
    assert [event.counts.requests for event in written if event.counts] == [999]


def test_searches_are_recorded_each_and_their_matches_together() -> None:
    found, clock, written = accesses()
    for query, matches in (("PatientName", 2), ("StudyDate=20240101", 40), ("PatientName", 0)):
        event = AuditEvent("search", "allowed", caller(), "main", ("STUDY",), query=query)
        found.begin(event).took(matches=matches)
    found.begin(AuditEvent("search", "allowed", caller("other"), "main", ("STUDY",), query="x")).took(matches=1)
    assert [event.query for event in written] == ["PatientName", "StudyDate=20240101", "PatientName", "x"]
    clock.now_s = 61
    found.complete()
    ours, others = written[4:]
    assert (ours.outcome, ours.subject, ours.query) == ("completed", (), "")
    assert ours.counts is not None
    assert (ours.counts.first, ours.counts.since, ours.counts.requests, ours.counts.matches) == (1, "t1", 3, 42)
    assert others.counts is not None
    assert (others.counts.first, others.counts.requests, others.counts.matches) == (4, 1, 1)


def test_without_a_window_each_is_recorded_by_itself() -> None:
    found, _, written = accesses(0)
    for _ in range(3):
        found.begin(read("1")).took(size=1)
    found.complete(everything=True)
    assert [event.outcome for event in written] == ["allowed"] * 3


def test_nobody_is_served_before_the_first_record_is_written() -> None:
    entered, go_on = threading.Event(), threading.Event()
    refused: list[Exception] = []

    def write(event: AuditEvent) -> tuple[int, str]:
        entered.set()
        assert go_on.wait(30)
        raise AuditUnavailable("no")

    found = Accesses(write, 60.0)

    def ask() -> None:
        try:
            found.begin(read("1"))
        except AuditUnavailable as error:
            refused.append(error)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    threads[0].start()
    assert entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(refused) == 5
    found.complete(everything=True)


def test_counts_that_cannot_be_written_are_kept_for_later() -> None:
    written: list[AuditEvent] = []
    broken = False

    def write(event: AuditEvent) -> tuple[int, str]:
        if broken:
            raise AuditUnavailable("no")
        written.append(event)
        return 1, "t"

    found = Accesses(write, 60.0)
    found.begin(read("1")).took(size=5)
    broken = True
    with pytest.raises(AuditUnavailable):
        found.complete(everything=True)
    broken = False
    found.complete(everything=True)
    assert [event.counts.bytes for event in written if event.counts] == [5]


def test_what_the_disk_took_in_part_is_taken_back(
    trail: AuditTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.write(AuditEvent("store", "stored", caller()))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:20]))
        with pytest.raises(AuditUnavailable):
            trail.write(AuditEvent("store", "stored", caller()))

    def full(_descriptor: int, _line: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(AuditUnavailable):
            trail.write(AuditEvent("store", "stored", caller()))
    trail.write(AuditEvent("store", "stored", caller()))
    trail.close()
    assert [line["seq"] for line in records(tmp_path / "audit")] == [1, 2, 3, 4]
    assert is_whole(tmp_path / "audit")


def test_a_half_line_that_stays_ends_the_chain(
    trail: AuditTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.write(AuditEvent("store", "stored", caller()))
    write = os.write

    def broken(_descriptor: int, _size: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:20]))
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(AuditUnavailable):
            trail.write(AuditEvent("store", "stored", caller()))
    trail.write(AuditEvent("store", "stored", caller()))
    trail.close()
    found = verifying.verify([tmp_path / "audit"], {KEY.id: KEY})
    assert (found.faults, found.chains, len(found.torn)) == ([], 2, 1)


@pytest.mark.parametrize(("action", "durable"), [("delete", True), ("erase", True), ("read", False), ("store", False)])
def test_deletions_are_on_the_disk_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, durable: bool
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def observed(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    trail = AuditTrail(tmp_path / "audit", "test", KEY, sync_interval_s=60)
    trail.start()
    trail.sync()
    monkeypatch.setattr(os, "fsync", observed)
    trail.write(AuditEvent(action, "allowed", caller()))
    assert bool(synced) == durable
    trail.close()
    assert synced


def test_records_become_durable_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _descriptor: synced.set())
    trail = AuditTrail(tmp_path / "audit", "test", KEY, sync_interval_s=0.05)
    trail.write(AuditEvent("store", "stored", caller()))
    assert synced.wait(30)
    trail.close()


def test_nothing_is_recorded_when_nothing_more_can_be_sent_on(tmp_path: Path) -> None:
    full = True
    trail = AuditTrail(tmp_path / "audit", "test", KEY, full=lambda: full)
    with pytest.raises(AuditUnavailable, match="syslog"):
        trail.write(AuditEvent("search", "allowed", caller()))
    full = False
    trail.write(AuditEvent("search", "allowed", caller()))
    trail.close()


def test_threads_write_one_chain(trail: AuditTrail, tmp_path: Path) -> None:
    def work() -> None:
        for number in range(100):
            trail.write(AuditEvent("echo", "allowed", caller(), detail=str(number)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trail.close()
    assert [line["seq"] for line in records(tmp_path / "audit")] == list(range(1, 403))
    assert is_whole(tmp_path / "audit")
