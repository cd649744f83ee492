"""When peers were last here, and what went wrong with them last: what the audit trail's last records say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.audit import reading
from gateway.audit.reading import Bound, Record, Wanted
from gateway.config.section import LOOPBACK

MOST_LOOKED_AT = 20_000
"""Records of the trail that are looked at."""
_FAILED = frozenset(("denied", "refused", "misplaced", "rejected"))


@dataclass(frozen=True, slots=True)
class Contact:
    """An AE title at an address: its last record in the trail, and the last one of something that failed ("": none)."""

    ae_title: str
    address: str
    time: str
    action: str
    outcome: str
    failed: str = ""
    failure: str = ""


class Contacts:
    """Gathers contacts from records, which come latest first; our own questions to ourselves are left out."""

    def __init__(self, own_title: str) -> None:
        self._own_title = own_title
        self._found: dict[tuple[str, str], Contact] = {}

    def take(self, record: Record) -> None:
        """Look at a record."""
        fields = record.fields
        title, address = str(fields.get("calling", "")), str(fields.get("address", ""))
        if not title or is_ours(title, address, self._own_title):
            return
        action, outcome = str(fields.get("action", "")), str(fields.get("outcome", ""))
        last = self._found.get((title, address)) or Contact(title, address, record.time, action, outcome)
        if not last.failed and outcome in _FAILED:
            what = f"{action} {outcome}"
            detail = str(fields.get("detail", ""))
            last = replace(last, failed=record.time, failure=f"{what}: {detail}" if detail else what)
        self._found[title, address] = last

    @property
    def found(self) -> list[Contact]:
        """All of them, the latest first."""
        return list(self._found.values())


def is_ours(calling: str, address: str, own_title: str) -> bool:
    """Whether it is this host that asks itself, as `gateway status` does."""
    return calling == own_title and address in LOOPBACK


def each_of_the_last(directories: Sequence[Path], take: Callable[[Record], None]) -> None:
    """Have the last records of the trail looked at, latest first. Raises OSError."""
    with suppress(Bound, FileNotFoundError):
        for record in reading.search(directories, Wanted(), MOST_LOOKED_AT):
            take(record)
