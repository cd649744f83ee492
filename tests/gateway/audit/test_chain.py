"""The chain, and what its verification finds."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit import chain, checkpoints, verifying
from gateway.audit.checkpoints import Checkpointer
from gateway.audit.events import AuditEvent
from gateway.audit.key import AuditKey
from gateway.audit.trail import AuditTrail
from gateway.audit.verifying import Verification
from gateway.context import Caller, Principal, PrincipalKind, Source
from storage.objects.base import ObjectInfo, ObjectStore, Segment
from storage.objects.memory import MemoryObjectStore
from storage.objects.s3 import S3ObjectStore, S3Settings

KEY = AuditKey(bytes(range(32)))
OTHER = AuditKey(bytes(32))


def event(number: int, outcome: str = "allowed") -> AuditEvent:
    caller = Caller(Principal("viewer", PrincipalKind.API_KEY), Source("DICOMweb", "10.1.2.3"))
    return AuditEvent("echo", outcome, caller, "main", ("STUDY", f"1.2.{number}"))


def record(folder: Path, worker: str, count: int, key: AuditKey = KEY) -> None:
    trail = AuditTrail(folder, worker, key, fsync=False)
    for number in range(count):
        trail.write(event(number))
    trail.close()


class Kept(MemoryObjectStore):
    """Outlives whoever closes it."""

    def close(self) -> None:
        pass


def put_checkpoint(folder: Path, objects: ObjectStore) -> None:
    assert Checkpointer(folder, KEY, lambda: objects, 60.0).put() is not None


def look(folder: Path, objects: ObjectStore | None = None, since: str = "", *keys: AuditKey) -> Verification:
    known = {key.id: key for key in keys or (KEY,)}
    found = []
    for trail in verifying.trails([folder]) if objects is not None else []:
        assert objects is not None
        found += list(checkpoints.load(objects, trail))
    return verifying.verify([folder], known, found, since)


@pytest.fixture(scope="module")
def generated() -> Iterator[tuple[Path, ObjectStore]]:
    """Three chains, one of them cut off by a crash and followed by another, under two checkpoints."""
    with tempfile.TemporaryDirectory() as name:
        folder, objects = Path(name) / "audit", Kept()
        record(folder, "http-1", 5)
        put_checkpoint(folder, objects)
        crashed = AuditTrail(folder, "http-2", KEY, fsync=False)
        crashed.write(event(1))
        crashed.write(event(2))
        (path,) = folder.glob("*-http-2-*")
        with path.open("ab") as file:
            file.write(b'{"seq":4,"time":"20')
        record(folder, "http-2", 3)
        record(folder, "http-1", 2)
        put_checkpoint(folder, objects)
        yield folder, objects


def test_a_whole_trail_is_as_it_was_recorded(generated: tuple[Path, ObjectStore]) -> None:
    folder, objects = generated
    found = look(folder, objects)
    assert (found.faults, found.chains, found.checkpoints) == ([], 4, 2)
    assert found.records == 7 + 3 + 5 + 4
    assert len(found.torn) == 1
    assert found.torn[0].startswith("http-2-")


def test_the_next_chain_names_the_head_of_the_one_that_was_cut_off(generated: tuple[Path, ObjectStore]) -> None:
    folder, _ = generated
    cut, after = sorted(folder.glob("*-http-2-*"))
    first = json.loads(after.read_bytes().splitlines()[0])
    head, torn = chain.last_head(cut)
    assert head is not None
    assert first["before"] == {**head.fields(), "torn": torn}
    assert (head.seq, torn) == (3, len('{"seq":4,"time":"20'))


Change = Callable[[list[bytes]], list[bytes]]


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, Change, str]:
    """A change of one file, given by its number: of a byte, of a line, or of the order or number of lines."""
    file = draw(st.integers(0, 3))
    place, other = draw(st.integers(0, 10_000)), draw(st.integers(1, 10_000))
    flip, where = draw(st.integers(1, 255)), draw(st.integers(0, 10_000))

    def edit(lines: list[bytes]) -> list[bytes]:
        at = place % len(lines)
        line = bytearray(lines[at])
        line[where % (len(line) - 1)] ^= flip
        return [*lines[:at], bytes(line), *lines[at + 1 :]]

    def delete(lines: list[bytes]) -> list[bytes]:
        at = place % len(lines)
        return [*lines[:at], *lines[at + 1 :]]

    def swap(lines: list[bytes]) -> list[bytes]:
        one = place % len(lines)
        two = (one + 1 + other % (len(lines) - 1)) % len(lines)
        changed = list(lines)
        changed[one], changed[two] = changed[two], changed[one]
        return changed

    def double(lines: list[bytes]) -> list[bytes]:
        at = place % len(lines)
        return [*lines[: at + 1], lines[at], *lines[at + 1 :]]

    def truncate(lines: list[bytes]) -> list[bytes]:
        return lines[: place % len(lines)]

    def cut(lines: list[bytes]) -> list[bytes]:
        at = place % len(lines)
        return [*lines[:at], lines[at][: where % len(lines[at])]]

    kinds = {"edit": edit, "delete": delete, "swap": swap, "double": double, "truncate": truncate, "cut": cut}
    name = draw(st.sampled_from(sorted(kinds)))
    return file, kinds[name], name


@settings(deadline=None)
@given(change=changes())
def test_any_change_of_any_record_is_found(
    generated: tuple[Path, ObjectStore], change: tuple[int, Change, str]
) -> None:
    number, apply, _ = change
    folder, objects = generated
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "audit"
        shutil.copytree(folder, copy)
        path = sorted(copy.glob("*.jsonl"))[number]
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        path.write_bytes(b"".join(apply(lines)))
        assert look(copy, objects).faults


@pytest.mark.parametrize("number", range(4))
def test_a_whole_chain_that_is_gone_is_missed(generated: tuple[Path, ObjectStore], tmp_path: Path, number: int) -> None:
    folder, objects = generated
    shutil.copytree(folder, tmp_path / "audit")
    gone = sorted((tmp_path / "audit").glob("*.jsonl"))[number]
    gone.unlink()
    (fault,) = look(tmp_path / "audit", objects).faults
    assert fault.where in gone.name
    assert "whole chain is missing" in fault.what


def altered(folder: Path, pattern: str, old: bytes, new: bytes) -> None:
    (path,) = sorted(folder.glob(pattern))[:1]
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1))


def test_a_fault_names_the_record(tmp_path: Path) -> None:
    record(tmp_path, "http-1", 4)
    altered(tmp_path, "*.jsonl", b"1.2.2", b"1.2.9")
    (fault,) = look(tmp_path).faults
    assert (fault.seq, fault.what) == (4, "line 4 was altered")
    assert str(fault).endswith(".jsonl: record 4: line 4 was altered")


def test_missing_and_displaced_records_are_told_apart(tmp_path: Path) -> None:
    record(tmp_path, "http-1", 4)
    (path,) = tmp_path.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[4:]]))
    assert [fault.what for fault in look(tmp_path).faults] == ["records 3 to 4 are missing before it"]
    path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    assert [(fault.seq, fault.what) for fault in look(tmp_path).faults] == [
        (4, "record 3 is missing before it"),
        (3, "it stands out of its order, after record 4"),
        (5, "record 4 is missing before it"),
    ]


def test_a_record_of_another_chain_cannot_stand_in(tmp_path: Path) -> None:
    record(tmp_path, "http-1", 2)
    record(tmp_path, "http-2", 2)
    one, two = sorted(tmp_path.glob("*.jsonl"))
    one.write_bytes(two.read_bytes())
    assert look(tmp_path).faults


def test_what_was_cut_off_at_a_line_needs_a_checkpoint_or_a_successor(tmp_path: Path) -> None:
    objects = Kept()
    record(tmp_path, "http-1", 4)
    put_checkpoint(tmp_path, objects)
    (path,) = tmp_path.glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    assert not look(tmp_path).faults
    (fault,) = look(tmp_path, objects).faults
    assert fault.seq == 6
    assert "checkpoint .audit/" in fault.what
    path.write_bytes(whole)
    record(tmp_path, "http-1", 1)
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    (fault,) = look(tmp_path).faults
    assert "chain http-1-" in fault.what


def test_a_checkpoint_that_was_altered_or_removed_is_a_fault(tmp_path: Path) -> None:
    objects = Kept()
    for _ in range(3):
        record(tmp_path, "http-1", 1)
        put_checkpoint(tmp_path, objects)
    assert not look(tmp_path, objects).faults
    _, second, _ = [info.key for info in objects.list(".audit/")]
    body = objects.get(second)
    objects.delete(second)
    (fault,) = look(tmp_path, objects).faults
    assert fault.what == "a checkpoint before it is missing or was altered"
    objects.put(second, [body.replace(b'"seq":3', b'"seq":2')])
    assert look(tmp_path, objects).faults[0].what == "the checkpoint was altered"


def test_checkpoints_are_kept_in_a_bucket_by_who_starts_anew(tmp_path: Path, seaweedfs_bucket: S3Settings) -> None:
    for _ in range(2):
        record(tmp_path, "http-1", 1)
        made = Checkpointer(tmp_path, KEY, lambda: S3ObjectStore(seaweedfs_bucket), 60.0)
        made.start()
        made.stop()
    objects = S3ObjectStore(seaweedfs_bucket)
    found = look(tmp_path, objects)
    assert (found.faults, found.checkpoints) == ([], 2)
    assert checkpoints.trails(objects) == verifying.trails([tmp_path])
    objects.close()


def test_nothing_new_makes_no_checkpoint(tmp_path: Path) -> None:
    objects = Kept()
    record(tmp_path, "http-1", 1)
    made = Checkpointer(tmp_path, KEY, lambda: objects, 60.0)
    assert made.put() is not None
    assert made.put() is None
    assert len(list(objects.list(""))) == 1


def test_a_key_that_is_not_here_is_a_fault_and_an_old_one_is_not(tmp_path: Path) -> None:
    record(tmp_path, "http-1", 1, OTHER)
    record(tmp_path, "http-1", 1, KEY)
    assert [fault.seq for fault in look(tmp_path).faults] == [1]
    assert not look(tmp_path, None, "", KEY, OTHER).faults


def test_files_from_before_a_day_may_be_gone(tmp_path: Path) -> None:
    objects = Kept()
    record(tmp_path, "http-1", 2)
    put_checkpoint(tmp_path, objects)
    (path,) = tmp_path.glob("*.jsonl")
    day = path.name[:8]
    later = f"{int(day[:4]) + 1}0101"
    path.unlink()
    record(tmp_path, "http-2", 1)
    assert look(tmp_path, objects).faults
    (trail,) = verifying.trails([tmp_path])
    left = list(checkpoints.load(objects, trail))
    assert not verifying.verify([tmp_path], {KEY.id: KEY}, left, later).faults


def test_files_are_read_backwards_line_by_line(tmp_path: Path) -> None:
    lines = [bytes([65 + number % 26]) * (number * 37 % 9000) for number in range(200)]
    path = tmp_path / "some.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + b"half")
    assert list(chain.backwards(path)) == lines[::-1]
    path.write_bytes(b"")
    assert list(chain.backwards(path)) == []
    path.write_bytes(b"half")
    assert list(chain.backwards(path)) == []


def test_the_key_is_made_once_and_readable_for_its_owner_alone(tmp_path: Path) -> None:
    from gateway.audit import key

    made = key.kept(tmp_path / "data" / "audit.key")
    assert key.kept(tmp_path / "data" / "audit.key") == made
    assert (tmp_path / "data" / "audit.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["audit.key"]
    assert made.secret.hex() not in repr(made)


@pytest.mark.parametrize("names", ["checkpoint", "successor"])
def test_what_is_named_is_durable_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    trail = AuditTrail(tmp_path, "http-1", KEY, fsync=False)
    trail.write(event(1))
    (path,) = tmp_path.glob("*.jsonl")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))

    class Watching(Kept):
        def put(self, key: str, body: Sequence[Segment]) -> ObjectInfo:
            assert path.stat().st_ino in synced
            return super().put(key, body)

    if names == "checkpoint":
        put_checkpoint(tmp_path, Watching())
    else:
        AuditTrail(tmp_path, "http-1", KEY, fsync=False).start()
    assert path.stat().st_ino in synced
    trail.close()
