"""What a ZIP gives, also one that was made to harm."""

from __future__ import annotations

import pickle
import struct
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from gateway.importing import zips
from gateway.importing.items import Fate, Item, Told
from gateway.importing.zips import Zip
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, Truncated

LIMITS = Limits(max_inflate_ratio=20, inflate_allowance_bytes=1 << 16)


def made(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return path


def patched(path: Path, signature: bytes, offset: int, value: bytes) -> None:
    """Change a field in the first header of a kind."""
    whole = bytearray(path.read_bytes())
    where = whole.index(signature) + offset
    whole[where : where + len(value)] = value
    path.write_bytes(whole)


def only(source: Zip) -> Item | Told:
    with closing(source):
        (entry,) = source.entries(0)
    return entry


def test_members_are_read_by_their_number_whatever_they_are_called(tmp_path: Path) -> None:
    hostile = ["../../outside", "/etc/outside", "C:\\outside", "a\x1b[31m", "folder/"]
    members = {name: name.encode() for name in hostile}
    source = pickle.loads(pickle.dumps(Zip(made(tmp_path / "a.zip", members), LIMITS)))
    items = [entry for entry in source.entries(0) if isinstance(entry, Item)]
    assert len(items) == len(hostile) - 1
    for item in items:
        with source.open(item) as member:
            assert member.read(100).decode() == item.name
    source.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_one_that_inflates_too_far_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", {"zeros": bytes(1 << 20)})
    with pytest.raises(LimitExceeded):
        only(Zip(path, LIMITS))
    padded = tmp_path / "b.zip"
    with zipfile.ZipFile(padded, "w") as archive:
        archive.writestr("zeros", bytes(1 << 20), zipfile.ZIP_DEFLATED)
        archive.writestr("stored", bytes(1 << 18), zipfile.ZIP_STORED)
    with closing(Zip(padded, LIMITS)) as source:
        first, second = source.entries(0)
    assert first == Told("zeros", Fate.REFUSED, "inflates to more than 20 times its size")
    assert isinstance(second, Item)


def test_a_member_that_is_longer_than_it_says_is_not_read_further(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", {"zeros": bytes(1 << 20)})
    patched(path, b"PK\x01\x02", 24, struct.pack("<I", 1000))
    source = Zip(path, LIMITS)
    item = only(source)
    assert isinstance(item, Item)
    with source.open(item) as member, pytest.raises(Truncated):  # its CRC is not that of the first 1000 bytes
        assert len(member.read(1 << 18)) <= 1000
    source.close()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_inflate_without_a_bound_are_refused(tmp_path: Path, method: int) -> None:
    entry = only(Zip(made(tmp_path / "a.zip", {"a": bytes(100)}, method), LIMITS))
    assert isinstance(entry, Told)
    assert entry.fate is Fate.REFUSED


def test_an_encrypted_member_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", {"a": bytes(100)})
    patched(path, b"PK\x01\x02", 8, b"\x01\x00")
    assert only(Zip(path, LIMITS)) == Told("a", Fate.REFUSED, "encrypted: unpack it, and import what comes out")


def test_a_damaged_member_and_a_damaged_list_are_told(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", {"a": b"abcdef" * 30}, zipfile.ZIP_STORED)
    patched(path, b"abcdef", 0, b"x")
    source = Zip(path, LIMITS)
    item = only(source)
    assert isinstance(item, Item)
    with pytest.raises(Truncated), source.open(item) as member:
        member.read(1000)
    source.close()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(Truncated):
        only(Zip(path, LIMITS))


def test_a_list_of_members_beyond_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.zip", {f"member-{number}": b"x" for number in range(100)})
    monkeypatch.setattr(zips, "_MAX_DIRECTORY_BYTES", 1 << 12)
    with pytest.raises(Truncated, match="list of members is too long"):
        next(iter(Zip(path, LIMITS).entries(0)))
