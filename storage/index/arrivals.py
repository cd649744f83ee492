"""What comes into an index, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from storage.dicom.identifiers import InstanceKey, Tenant, Version
from storage.dicom.part10 import Extract


class Conflict(StrEnum):
    """What happens when an instance arrives again with other content."""

    VERSION = "version"  # the newer becomes current, the older is kept
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Conflicts:
    """The tenants' policies: ``common``, and those that have one of their own."""

    common: Conflict = Conflict.VERSION
    own: Mapping[str, Conflict] = field(default_factory=dict)

    def of(self, tenant: Tenant) -> Conflict:
        """A tenant's policy."""
        return self.own.get(tenant, self.common)


class Role(StrEnum):
    """What a version is to its instance."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    ALTERNATIVE = "alternative"  # the current data in another transfer syntax


class Outcome(StrEnum):
    """What became of an arrival."""

    STORED = "stored"
    NEW_VERSION = "new version"
    ALTERNATIVE = "alternative"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"  # no row was written
    MISPLACED = "misplaced"  # no row was written: to be quarantined


@dataclass(frozen=True, slots=True)
class Arrival:
    """A durable object that asks for its row. ``data_offset`` is where the data set begins in the object."""

    key: InstanceKey
    version: Version
    extract: Extract
    data_offset: int
    size: int
    sha256: str
    conflict: Conflict = Conflict.VERSION
    deletion_record: str = ""
    """During a reindex: the record that deleted this version."""
    source_ae_title: str = ""
    """That of the object's File Meta Information; "" when it has none."""
    beside: str = ""
    """The version that it was made of by recompression, and stands beside; "" for what somebody sent."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The outcome of an arrival; ``reason`` says why one was rejected or misplaced, without patient data."""

    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An arrival that is kept but stands in no study."""

    key: InstanceKey
    version: Version
    object_key: str
    reason: str
