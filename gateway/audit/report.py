"""Who saw the images of studies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.audit.reading import Record

SEEING = frozenset(("read", "read_deidentified", "download", "render", "export", "share"))
"""Actions by which images are seen."""


@dataclass(slots=True)
class Seen:
    """What one principal saw of one study by one action, from the first to the last record of it.

    Counts are of accesses that have ended; ``size`` is in bytes. ``view`` is the de-identified one, "" as stored.
    """

    principal: str
    kind: str
    action: str
    study: str
    view: str
    first: str
    last: str
    addresses: list[str] = field(default_factory=list)
    requests: int = 0
    instances: int = 0
    frames: int = 0
    size: int = 0


def seen(records: Iterable[Record], studies: Mapping[str, str]) -> list[Seen]:
    """What records, latest first, say of studies; who saw one last comes first. Who was denied saw nothing.

    ``studies`` has each study by the names that it has in records: its UID, and its pseudonyms in views.
    """
    found: dict[tuple[str, str, str, str, str], Seen] = {}
    for record in records:
        fields = record.fields
        if fields["action"] not in SEEING or fields["outcome"] == "denied":
            continue
        for study in sorted({studies[name] for name in fields["subject"] if name in studies}):
            principal, kind, action, view = (
                str(fields.get(name, "")) for name in ("principal", "kind", "action", "view")
            )
            who = principal, kind, action, study, view
            each = found.setdefault(who, Seen(*who, first=record.time, last=record.time))
            each.first = min(record.time, str(fields.get("since", record.time)))
            address = str(fields.get("address", "-"))
            if address not in each.addresses:
                each.addresses.append(address)
            each.requests += int(fields.get("requests", 0))
            each.instances += int(fields.get("instances", 0))
            each.frames += int(fields.get("frames", 0))
            each.size += int(fields.get("bytes", 0))
    return list(found.values())
