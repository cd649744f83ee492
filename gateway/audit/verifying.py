"""Verification: whether the files are what was recorded, by their chains, by each other and by the checkpoints."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import orjson

from gateway.audit import chain
from gateway.audit.chain import NOTHING, ChainFile, Head
from gateway.audit.checkpoints import Checkpoint, is_signed, load
from gateway.audit.key import AuditKey
from gateway.audit.trail import TRAIL_ID
from storage.dicom import identifiers as ids
from storage.objects.base import ObjectStore

_TRAIL = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was recorded. ``seq`` is the record, None for what is no single one."""

    where: str
    seq: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.where}: " + (f"record {self.seq}: {self.what}" if self.seq is not None else self.what)


@dataclass(slots=True)
class Verification:
    """What was looked at, what is wrong, and what looks odd and is not.

    ``torn`` are chains that a crash ended within a line, ``open`` those without an end: their processes run, or were
    killed. ``unchained`` are files of releases that had no chains. ``trails`` are named by the chains.
    """

    chains: int = 0
    records: int = 0
    checkpoints: int = 0
    faults: list[Fault] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    unchained: list[str] = field(default_factory=list)
    trails: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Somebody says that a chain had this head once."""

    head: Head
    by: str


def verify(
    directories: Sequence[Path],
    keys: Mapping[str, AuditKey],
    checkpoints: Iterable[tuple[str, Checkpoint | None]] = (),
    since: str = "",
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Verification:
    """Look at every record of every chain.

    Parameters
    ----------
    directories
        Where the files are: that of the trail, and others to which older ones were moved.
    keys
        By their ids.
    checkpoints
        As ``checkpoints.load`` gives them: in their order.
    since
        A day, YYYYMMDD: files from before it are neither looked at nor missed.
    progress
        Is told how many files are done, of how many.

    Raises
    ------
    OSError
    """
    found = Verification()
    # Checkpoints before files: a running gateway makes both, and what a checkpoint names is on file already.
    claims = list(_claims_of_checkpoints(checkpoints, keys, found))
    files, unchained = _files(directories, since)
    found.unchained += unchained
    claims += _claims_of_chains(files)
    by_chain: dict[str, list[_Claim]] = {}
    for claim in claims:
        by_chain.setdefault(claim.head.chain, []).append(claim)
    done = 0
    for name, group in groupby(sorted(files, key=lambda each: (each.chain, each.day)), lambda each: each.chain):
        found.chains += 1
        of_chain = list(group)
        _Walk(found, keys, by_chain.pop(name, []), since).chain(name, of_chain)
        done += len(of_chain)
        progress(done, len(files))
    for name, left in by_chain.items():
        if not since or _day_of(name) >= since:
            last = max(left, key=lambda each: each.head.seq)
            what = f"the whole chain is missing; {last.by} names its record {last.head.seq}"
            found.faults.append(Fault(name, None, what))
    return found


def trails(directories: Sequence[Path], known: dict[Path, str] | None = None) -> list[str]:
    """The trails that directories belong to: by their own word, and by that of the chains in them. Raises OSError.

    ``known`` keeps what files have said, which then need not be read again.
    """
    found: set[str] = set()
    said = {} if known is None else known
    for directory in directories:
        with contextlib.suppress(FileNotFoundError):
            found.add((directory / TRAIL_ID).read_text("ascii"))
        for each in chain.files(directory):
            if each.path not in said:
                trail = _first_record(each).get("trail")
                if not isinstance(trail, str):
                    continue
                said[each.path] = trail
            found.add(said[each.path])
    return sorted(each for each in found if _TRAIL.fullmatch(each))


def checkpoints_of(
    objects: ObjectStore, of_trails: Sequence[str], since: str = ""
) -> Iterator[tuple[str, Checkpoint | None]]:
    """The checkpoints of trails, from a day on, YYYYMMDD, as ``verify`` takes them. Raises StorageUnavailable."""
    for trail in of_trails:
        yield from load(objects, trail, ulid_of_day(since) if since else "")


def ulid_of_day(day: str) -> str:
    """What every ULID from a day on, YYYYMMDD, is greater than."""
    began = datetime.datetime.strptime(day, "%Y%m%d").replace(tzinfo=datetime.UTC)
    return ids.before_time(began.timestamp())


def _first_record(each: ChainFile) -> dict[str, object]:
    """Fields of a file's first record, its signature not looked at; nothing when it is none."""
    with each.path.open("rb") as file:
        line = file.readline()
    try:
        found = orjson.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _files(directories: Sequence[Path], since: str) -> tuple[list[ChainFile], list[str]]:
    files: dict[str, ChainFile] = {}
    unchained: list[str] = []
    for directory in directories:
        for path in sorted(directory.glob(f"*{chain.SUFFIX}")):
            each = chain.chain_file(path)
            if each is None:
                unchained.append(path.name)
            elif each.day >= since:
                files.setdefault(path.name, each)
    return list(files.values()), unchained


def _claims_of_checkpoints(
    checkpoints: Iterable[tuple[str, Checkpoint | None]], keys: Mapping[str, AuditKey], found: Verification
) -> Iterator[_Claim]:
    before: dict[str, Checkpoint] = {}
    for object_key, each in checkpoints:
        found.checkpoints += 1
        folder = object_key.rpartition("/")[0]
        if each is None or not is_signed(each, keys):
            unknown = each is not None and each.key_id not in keys
            why = "signed with a key that is not here" if unknown else "the checkpoint was altered"
            found.faults.append(Fault(object_key, None, why))
            continue
        last = before.get(folder)
        expected = (last.key, last.hash) if last is not None else each.before
        if each.before != expected:
            found.faults.append(Fault(object_key, None, "a checkpoint before it is missing or was altered"))
        before[folder] = each
        yield from (_Claim(head, f"checkpoint {object_key}") for head in each.heads)


def _claims_of_chains(files: Sequence[ChainFile]) -> Iterator[_Claim]:
    """What the first records say of the chains before them. Their signatures are looked at later."""
    for each in files:
        fields = _first_record(each)
        before = fields.get("before")
        if fields.get("action") != "start" or not isinstance(before, dict):
            continue
        with contextlib.suppress(ValueError, KeyError):  # told when the chain is walked
            yield _Claim(chain.head_of(before), f"chain {each.chain}")


def _day_of(name: str) -> str:
    """The day on which a chain began, at the earliest: its ULID has the time."""
    began_s = ids.version_time_s(ids.Version(name.rpartition("-")[2]))
    return datetime.datetime.fromtimestamp(began_s, datetime.UTC).strftime("%Y%m%d")


class _Walk:
    """One chain, line by line."""

    def __init__(self, found: Verification, keys: Mapping[str, AuditKey], claims: Sequence[_Claim], since: str) -> None:
        self._found = found
        self._keys = keys
        self._claims: dict[int, list[_Claim]] = {}
        for claim in claims:
            self._claims.setdefault(claim.head.seq, []).append(claim)
        self._since = since
        self._key: AuditKey | None = None
        self._keyless = False
        self._expected: int | None = 1
        self._prev: str | None = NOTHING
        self._ended = False

    def chain(self, name: str, files: Sequence[ChainFile]) -> None:
        """All files of a chain, in the order of days."""
        if self._since and _day_of(name) < self._since:
            # What came before was not asked for: it goes on from whatever stands first, and a claim is true or older.
            self._expected, self._prev = None, None
        torn = False
        for number, each in enumerate(files):
            torn = self._file(name, each, last=number == len(files) - 1)
        for seq, left in sorted(self._claims.items()):
            self._found.faults.append(Fault(name, seq, f"it is missing; {left[0].by} names it"))
        if torn:
            self._found.torn.append(name)
        elif not self._ended:
            self._found.open.append(name)

    def _file(self, name: str, each: ChainFile, *, last: bool) -> bool:
        """Walk through a file; whether it ends within a line, as a crash leaves it."""
        with each.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    self._line(name, each, number, line[:-1])
                elif last and not self._ended:
                    return True
                else:
                    self._fault(each, None, f"line {number} has no end, and is not where a crash could have cut it off")
        return False

    def _line(self, name: str, each: ChainFile, number: int, line: bytes) -> None:
        self._found.records += 1
        try:
            fields = orjson.loads(line)
            seq, prev, action = int(fields["seq"]), str(fields["prev"]), str(fields["action"])
        except (ValueError, KeyError, TypeError):
            self._altered(each, number)
            return
        if action == "start" and seq == 1:
            self._take_key(each, fields)
        if not self._keyless and not self._is_signed(name, line):
            self._altered(each, number)
            return
        if self._expected is None:
            self._claims = {claimed: claims for claimed, claims in self._claims.items() if claimed >= seq}
        else:
            self._follow(each, self._expected, seq, prev)
        digest = hashlib.sha256(line).hexdigest()
        for claim in self._claims.pop(seq, ()):
            if claim.head.hash != digest:
                self._fault(each, seq, f"it is not the one that {claim.by} names")
        self._expected, self._prev, self._ended = seq + 1, digest, action == "stop"

    def _take_key(self, each: ChainFile, fields: Mapping[str, object]) -> None:
        self._found.trails.add(str(fields.get("trail")))
        self._key = self._keys.get(str(fields.get("key")))
        if self._key is None:
            self._keyless = True
            self._fault(each, 1, f"the chain is signed with the key {fields.get('key')}, which is not here")

    def _is_signed(self, name: str, line: bytes) -> bool:
        for signing in (self._key,) if self._key is not None else self._keys.values():
            if chain.is_signed(name, line, signing):
                self._key = signing
                return True
        return False

    def _follow(self, each: ChainFile, expected: int, seq: int, prev: str) -> None:
        if seq > expected:
            missing = f"record {expected} is" if seq == expected + 1 else f"records {expected} to {seq - 1} are"
            self._fault(each, seq, f"{missing} missing before it")
        elif seq < expected:
            self._fault(each, seq, f"it stands out of its order, after record {expected - 1}")
        elif self._prev not in (None, prev):
            self._fault(each, seq, "the record before it is not the one that was")

    def _altered(self, each: ChainFile, number: int) -> None:
        """A line that nobody signed like this: the number that it should have names it, and the next may follow it."""
        self._fault(each, self._expected, f"line {number} was altered")
        if self._expected is not None:
            self._claims.pop(self._expected, None)
            self._expected += 1
        self._prev = None

    def _fault(self, each: ChainFile, seq: int | None, what: str) -> None:
        self._found.faults.append(Fault(each.path.name, seq, what))
