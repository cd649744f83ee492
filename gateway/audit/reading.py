"""Reading the trail: the records of all chains, latest first, as far as they answer a question."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.audit import chain
from gateway.audit.chain import ChainFile

Fields = Mapping[str, Any]

OF_THE_CHAIN = frozenset(("start", "stop"))


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it stands in the trail; ``fields`` are as the documentation lists them."""

    chain: str
    seq: int
    time: str
    fields: Fields

    @property
    def name(self) -> str:
        """What names it among all records."""
        return f"{self.chain}-{self.seq}"

    @property
    def place(self) -> tuple[str, str, int]:
        """Where it stands: by time, then by chain and number."""
        return self.time, self.chain, self.seq


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records; what is empty or None asks for nothing.

    Parameters
    ----------
    since, until
        Times in ISO 8601 and UTC as records have them, or beginnings of such; ``since`` is included, ``until`` not.
    before
        A ``Record.place``: only what stands before it.
    studies
        Study Instance UIDs, of which a record's subject names one.
    tenant
        None asks for all, "" for what is of no tenant.
    """

    since: str = ""
    until: str = ""
    before: tuple[str, str, int] | None = None
    principals: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    studies: frozenset[str] | None = None
    tenant: str | None = None

    def admits(self, record: Record) -> bool:
        """Whether a record is one of them."""
        fields = record.fields
        return (
            (not self.since or record.time >= self.since)
            and (not self.until or record.time < self.until)
            and (self.before is None or record.place < self.before)
            and (not self.principals or fields.get("principal") in self.principals)
            and (not self.actions or fields.get("action") in self.actions)
            and (not self.outcomes or fields.get("outcome") in self.outcomes)
            and (not self.addresses or fields.get("address") in self.addresses)
            and (self.tenant is None or fields.get("tenant", "") == self.tenant)
            and (self.studies is None or not self.studies.isdisjoint(fields.get("subject", ())))
        )


class Bound(Exception):
    """So many records were looked at that the search ends here; ``place`` is where to go on before."""

    def __init__(self, place: tuple[str, str, int]) -> None:
        super().__init__("the search of the audit trail looked at as many records as it may")
        self.place = place


def search(directories: Sequence[Path], wanted: Wanted, at_most: int | None = None) -> Iterator[Record]:
    """Records, latest first. They are read as they stand; ``verifying`` says whether they are what was recorded.

    Raises
    ------
    Bound
        After ``at_most`` records were looked at.
    OSError
    """
    looked = 0
    for day in _days(directories, wanted):
        records = heapq.merge(*(_records(each) for each in day), key=lambda record: record.place, reverse=True)
        for record in records:
            if wanted.since and record.time < wanted.since:
                break
            looked += 1
            if wanted.admits(record):
                yield record
            if looked == at_most:
                raise Bound(record.place)


def find(directories: Sequence[Path], name: str) -> Record | None:
    """The record of a name. Raises OSError."""
    chain_name, _, number = name.rpartition("-")
    if not number.isascii() or not number.isdigit():
        return None
    begin = b'{"seq":%d,' % int(number)
    for directory in directories:
        for each in chain.files(directory):
            if each.chain != chain_name:
                continue
            with each.path.open("rb") as file:
                for line in file:
                    if line.startswith(begin):
                        return _record(each, line)
    return None


def _days(directories: Sequence[Path], wanted: Wanted) -> Iterator[list[ChainFile]]:
    days: dict[str, dict[str, ChainFile]] = {}
    since, until = wanted.since[:10].replace("-", ""), wanted.until[:10].replace("-", "")
    before = wanted.before[0][:10].replace("-", "") if wanted.before is not None else ""
    for directory in directories:
        for each in chain.files(directory):
            if each.day < since or (until and each.day > until) or (before and each.day > before):
                continue
            days.setdefault(each.day, {}).setdefault(each.path.name, each)
    for day in sorted(days, reverse=True):
        yield list(days[day].values())


def _records(each: ChainFile) -> Iterator[Record]:
    for line in chain.backwards(each.path):
        found = _record(each, line)
        if found is not None:
            yield found


def _record(each: ChainFile, line: bytes) -> Record | None:
    """A line's record; None for a line that is none, of which ``verifying`` tells."""
    try:
        fields = orjson.loads(line)
        return Record(each.chain, int(fields["seq"]), str(fields["time"]), fields)
    except (ValueError, KeyError, TypeError):
        return None
