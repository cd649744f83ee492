"""The hash chain: a line is a record, its number, the hash of the line before it, and a signature over all that.

A chain belongs to one process. Its lines stand in files ``DAY-CHAIN.jsonl``, one for each day in UTC on which there
was something to record; ``CHAIN`` is the process's name and a ULID. The first record, "start", names the key and the
head of the chain before it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.audit.key import AuditKey
from storage.dicom import identifiers as ids

SUFFIX = ".jsonl"
_NAME = re.compile(r"(?P<day>\d{8})-(?P<chain>(?P<worker>.+)-[0-7][0-9A-HJKMNP-TV-Z]{25})\.jsonl")
_MAC = b',"mac":"'
_MAC_BYTES = len(_MAC) + 64 + 2
_TAIL_BYTES = 1 << 16
CLOCK = ids.VersionClock()
"""Names what one process makes in its order."""

NOTHING = "0" * 64
"""What stands for the hash of a line before the first."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain: its number, counted from 1, and the SHA-256 of its line."""

    chain: str
    seq: int
    hash: str

    def fields(self) -> dict[str, object]:
        """As JSON values."""
        return {"chain": self.chain, "seq": self.seq, "hash": self.hash}


def head_of(fields: Mapping[str, object]) -> Head:
    """A head from JSON values; raises ValueError, KeyError or TypeError."""
    return Head(str(fields["chain"]), int(str(fields["seq"])), str(fields["hash"]))


class Chain:
    """A chain that grows."""

    def __init__(self, name: str, key: AuditKey) -> None:
        self.head = Head(name, 0, NOTHING)
        self._key = key

    def seal(self, fields: Mapping[str, object]) -> tuple[bytes, Head]:
        """A record's line, and the head once it is written; ``head`` is to be set then."""
        before = self.head
        seq = before.seq + 1
        body = orjson.dumps({"seq": seq, **fields, "prev": before.hash})[:-1]
        line = signed(before.chain, body, self._key)
        return line + b"\n", Head(before.chain, seq, hashlib.sha256(line).hexdigest())


def signed(name: str, body: bytes, signing: AuditKey) -> bytes:
    """A JSON object, given without its closing brace, with its signature as the last field.

    The signature is of ``name`` too: nothing signed for one chain or checkpoint can stand in another.
    """
    return body + _MAC + signing.sign(_text(name, body)).encode() + b'"}'


def is_signed(name: str, line: bytes, signing: AuditKey) -> bool:
    """Whether ``signed`` gave a line."""
    body, mac = line[:-_MAC_BYTES], line[-_MAC_BYTES:]
    if not (mac.isascii() and mac.startswith(_MAC) and mac.endswith(b'"}')):
        return False
    return signing.signed(_text(name, body), mac[len(_MAC) : -2].decode())


def _text(name: str, body: bytes) -> bytes:
    return name.encode() + b"\n" + body


@dataclass(frozen=True, slots=True, order=True)
class ChainFile:
    """A file of a chain. ``day`` is YYYYMMDD."""

    day: str
    chain: str
    worker: str
    path: Path


def chain_file(path: Path) -> ChainFile | None:
    """What a file's name says; None for another file."""
    found = _NAME.fullmatch(path.name)
    return ChainFile(found["day"], found["chain"], found["worker"], path) if found else None


def file_name(day: str, chain: str) -> str:
    """The name of a chain's file of a day."""
    return f"{day}-{chain}{SUFFIX}"


def files(directory: Path) -> list[ChainFile]:
    """The files of all chains in a directory, by day. Raises OSError."""
    return sorted(found for path in directory.glob(f"*{SUFFIX}") if (found := chain_file(path)) is not None)


def durable_head(path: Path) -> tuple[Head | None, int]:
    """As ``last_head``; on return a power cut cannot take back what it says. Raises OSError."""
    found = last_head(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return found


def last_head(path: Path) -> tuple[Head | None, int]:
    """The head that a file ends with, and the bytes of a half line after it, which a crash leaves. Raises OSError."""
    found = chain_file(path)
    assert found is not None
    tail = b""
    for block in _backwards(path):
        tail = block + tail
        lines = tail.split(b"\n")
        if len(lines) > 2 or (len(lines) == 2 and len(tail) == path.stat().st_size):
            line = lines[-2]
            try:
                head = Head(found.chain, int(orjson.loads(line)["seq"]), hashlib.sha256(line).hexdigest())
                return head, len(lines[-1])
            except (ValueError, KeyError, TypeError):
                return None, len(lines[-1])
    return None, len(tail)


def backwards(path: Path) -> Iterator[bytes]:
    """The whole lines of a file without their ends, last one first. Raises OSError."""
    rest: bytes | None = None
    for block in _backwards(path):
        lines = block.split(b"\n")
        if rest is None:
            lines.pop()  # a half line, or nothing
            if not lines:
                continue
        else:
            lines[-1] += rest
        yield from reversed(lines[1:])
        rest = lines[0]
    if rest is not None:
        yield rest


def _backwards(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        while end > 0:
            start = max(0, end - _TAIL_BYTES)
            yield os.pread(file.fileno(), end - start, start)
            end = start
