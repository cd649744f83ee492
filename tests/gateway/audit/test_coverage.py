"""What a search does not cover: trails of other hosts, of which the object store has checkpoints."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest

from gateway.audit import coverage, verifying
from gateway.audit.chain import ChainFile
from gateway.audit.checkpoints import Checkpointer
from gateway.audit.coverage import Coverage, Elsewhere, Known, LiveCoverage
from gateway.audit.events import AuditEvent
from gateway.audit.key import AuditKey
from gateway.audit.trail import AuditTrail, trail_id
from gateway.context import Caller, Principal, PrincipalKind, Source
from storage.errors import StorageUnavailable
from storage.objects.memory import MemoryObjectStore

KEY = AuditKey(bytes(range(32)))


class Kept(MemoryObjectStore):
    """Outlives whoever closes it."""

    down = False

    def close(self) -> None:
        pass

    def list(self, prefix: str, start_after: str = "") -> object:  # type: ignore[override]
        if self.down:
            raise StorageUnavailable("it is down")
        return super().list(prefix, start_after)


@pytest.fixture
def objects() -> Kept:
    return Kept()


def host(folder: Path, objects: Kept) -> str:
    """A host that has recorded something, and put a checkpoint; its trail."""
    trail = AuditTrail(folder, "http-1", KEY, fsync=False)
    caller = Caller(Principal("viewer", PrincipalKind.API_KEY), Source("DICOMweb", "10.1.2.3"))
    trail.write(AuditEvent("echo", "allowed", caller, "main"))
    trail.close()
    for _ in range(2):
        assert Checkpointer(folder, KEY, lambda: objects, 60.0).put() is not None
    return trail_id(folder)


def test_a_trail_that_only_the_object_store_knows_is_named_with_its_time(tmp_path: Path, objects: Kept) -> None:
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    one, other = host(tmp_path / "one", objects), host(tmp_path / "other", objects)
    found = coverage.coverage(objects, [tmp_path / "one"])
    assert found.here == [one]
    assert found.elsewhere is not None
    (elsewhere,) = found.elsewhere
    assert elsewhere.trail == other
    assert began <= elsewhere.first <= elsewhere.last <= datetime.datetime.now(datetime.UTC)
    assert found.gap == f"records of other hosts are missing, of the trails {elsewhere}; read: {one}"
    assert found.fields()["trails"] == [one]
    whole = coverage.coverage(objects, [tmp_path / "one", tmp_path / "other"])
    assert (whole.gap, whole.elsewhere) == ("", [])


def test_a_store_that_does_not_answer_is_not_taken_for_one_without_others(tmp_path: Path, objects: Kept) -> None:
    one = host(tmp_path / "one", objects)
    objects.down = True
    found = coverage.coverage(objects, [tmp_path / "one"])
    assert found == Coverage([one], None)
    assert "not known" in found.of("2026", "2027").gap
    assert found.fields()["elsewhere"] is None


@pytest.mark.parametrize(
    ("since", "until", "concerns"),
    [
        ("", "", True),
        ("2026-03-12T00:00:00", "", False),
        ("2026-03-11T23:59:59", "", True),
        ("", "2026-03-01", True),
        ("", "2026-02-28T12:00", True),
        ("", "2026-02-27T23:59", False),
        ("2026-03-05", "2026-03-06", True),
    ],
)
def test_what_had_ended_before_or_began_after_does_not_concern_a_question(
    since: str, until: str, *, concerns: bool
) -> None:
    """With a day on either side: checkpoints come some time after what they name."""
    moments = (datetime.datetime(2026, 3, day, 12, tzinfo=datetime.UTC) for day in (1, 10))
    elsewhere = Elsewhere("a" * 16, *moments)
    assert elsewhere.concerns(since, until) is concerns
    assert bool(Coverage(["b" * 16], [elsewhere]).of(since, until).gap) is concerns


def test_what_was_found_before_is_not_looked_for_again(
    tmp_path: Path, objects: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts come and go: of a few hundred that are gone each search would ask again."""
    read: list[Path] = []
    first_record = verifying._first_record

    def counted(each: ChainFile) -> dict[str, object]:
        read.append(each.path)
        return first_record(each)

    monkeypatch.setattr(verifying, "_first_record", counted)
    one, other = host(tmp_path / "one", objects), host(tmp_path / "other", objects)
    known = Known()
    before = coverage.coverage(objects, [tmp_path / "one"], known)
    read.clear()
    assert coverage.coverage(objects, [tmp_path / "one"], known) == before
    assert read == []
    time.sleep(0.002)  # its next checkpoint is of another moment
    assert host(tmp_path / "other", objects) == other
    found = coverage.coverage(objects, [tmp_path / "one"], known)
    assert before.elsewhere is not None
    assert found.elsewhere is not None
    (earlier,), (later,) = before.elsewhere, found.elsewhere
    assert (earlier.trail, earlier.first) == (later.trail, later.first) == (other, later.first)
    assert earlier.last < later.last
    assert found.here == [one]


def test_many_trails_are_counted_rather_than_named() -> None:
    moment = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    many = Coverage(["b" * 16] * 12, [Elsewhere(f"{number:016x}", moment, moment) for number in range(12)])
    assert many.gap.endswith("0000000000000009 (2026-03-01 to 2026-03-01) and 2 more; read: 12 trails")
    elsewhere = many.fields()["elsewhere"]
    assert isinstance(elsewhere, list)
    assert len(elsewhere) == 12, "to programs all of them are told"


def test_the_store_is_asked_once_a_minute(tmp_path: Path, objects: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path / "one", objects)
    live = LiveCoverage(objects, lambda: [tmp_path / "one"])
    before = live.current()
    host(tmp_path / "other", objects)
    assert live.current() == before
    monkeypatch.setattr(coverage, "_ASKED_EVERY_S", -1.0)
    assert live.current().gap
